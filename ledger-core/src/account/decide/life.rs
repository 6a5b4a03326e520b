//! The account's life: open, activate, freeze, unfreeze, close.

use compact_str::CompactString;

use super::{Context, Decision, Draft, require_open, taking};
use crate::account::command::Reason;
use crate::account::event::EventKind;
use crate::account::rejection::Rejection;
use crate::account::state::{Account, Status};
use crate::policy::OnClose;

pub(super) fn one_event(account: &Account, kind: EventKind, context: &Context<'_>) -> Result<Decision, Rejection> {
    let mut draft = Draft::new(account, context)?;
    draft.emit(context.now, kind);
    Ok(draft.finish())
}

pub(super) fn open(account: &Account, context: &Context<'_>) -> Result<Decision, Rejection> {
    if account.status != Status::Unopened {
        return Err(Rejection::AccountExists);
    }
    let version = super::rules(context)?;
    let pending = version.rulebook.accounts.activation_required;
    let tier = CompactString::from(version.levels()[0].name.as_str());
    one_event(account, EventKind::AccountOpened { pending, tier }, context)
}

pub(super) fn activate(account: &Account, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    match account.status {
        Status::Frozen => Err(Rejection::AccountFrozen),
        Status::Pending => one_event(account, EventKind::AccountActivated, context),
        _ => Err(Rejection::AccountNotPending),
    }
}

pub(super) fn freeze(account: &Account, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    if account.status == Status::Frozen {
        return Err(Rejection::AccountFrozen);
    }
    one_event(account, EventKind::AccountFrozen(reason.clone()), context)
}

pub(super) fn unfreeze(account: &Account, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    if account.status != Status::Frozen {
        return Err(Rejection::AccountNotFrozen);
    }
    one_event(account, EventKind::AccountUnfrozen { reason: reason.clone(), status: account.frozen_from }, context)
}

pub(super) fn close(account: &Account, reason: &Reason, context: &Context<'_>) -> Result<Decision, Rejection> {
    require_open(account)?;
    let mut draft = Draft::new(account, context)?;
    let balance = account.balance_at(context.now);
    let points = balance.available - balance.lapsed + balance.pending + balance.held;
    let on_close = draft.version.rulebook.accounts.on_close;
    if on_close == OnClose::Refuse && points > 0 {
        return Err(Rejection::BalanceNotZero { points });
    }
    for hold in account.holds.clone() {
        let kind = EventKind::HoldReleased { redemption: hold.redemption, parts: hold.parts.clone(), lapsed: false };
        taking::give_back(&mut draft, context.now, context.now, &hold.parts, kind);
    }
    taking::lose(&mut draft, None, context.now);
    let parts = taking::everything(&draft.account);
    if on_close == OnClose::Forfeit && !parts.is_empty() {
        draft.emit(context.now, EventKind::PointsForfeited { parts });
    }
    draft.emit(context.now, EventKind::AccountClosed(reason.clone()));
    Ok(draft.finish())
}
