//! Refund without a purchase: money given back for goods whose purchase the book does not have, such as one from before the book began. No points
//! are taken and no tier changes, as none can be shown to have been given for it; it lowers what the member is said to have spent.

use super::{Context, Decision, Draft, happened_at, require_past, rules, rules_at};
use crate::account::command::Refund;
use crate::account::event::EventKind;
use crate::account::rejection::Rejection;
use crate::account::state::{Account, Status};
use crate::currency::minor_digits;
use crate::id::Id;
use crate::policy::UnmatchedRefunds;

pub(super) fn decide(account: &Account, id: &Id, body: &Refund, context: &Context<'_>) -> Result<Decision, Rejection> {
    let occurred_at = body.occurred_at;
    let accounts = &rules(context)?.rulebook.accounts;
    if account.status == Status::Unopened && !accounts.open_on_earn {
        return Err(Rejection::AccountNotFound);
    }
    let version = rules_at(context, occurred_at)?;
    if account.status == Status::Closed {
        return Err(Rejection::AccountClosed);
    }
    require_past(occurred_at, context.now)?;
    let currency = &version.rulebook.currency;
    let decimals = minor_digits(currency).unwrap_or(6);
    if body.amount.is_finer_than(decimals) {
        return Err(Rejection::AmountTooFine { amount: body.amount, currency: currency.clone(), decimals });
    }
    if version.rulebook.returns.unmatched == UnmatchedRefunds::Reject {
        return Err(Rejection::RefundUnmatched);
    }
    let at = happened_at(occurred_at, context.now);
    let mut draft = Draft::new(account, context)?;
    if account.status == Status::Unopened {
        let (pending, tier) = (accounts.activation_required, version.levels()[0].name.as_str().into());
        draft.emit(at, EventKind::AccountOpened { pending, tier });
    }
    draft.emit(at, EventKind::RefundBooked { refund: id.clone(), body: Box::new(body.clone()) });
    // Told late, it may open an account that has not been used for so long that it sleeps.
    Ok(Decision { rule_version: version.number, ..draft.finish() })
}
