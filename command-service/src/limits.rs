//! How much there may be of what a command makes (docs/limits.md has all limits on one page).
//!
//! Invariant: whatever is staged fits into a message of the log, so that no append can fail by its size: a group that can't be appended would be
//! decided again and again, and nobody's command with it.
//!
//! Invariant: no command that is decided takes longer than others may wait (20 ms in a release build; `loyalty bench --only worst` measures the
//! worst of them at these limits). What would is refused here, before it is decided: decisions of the past are made again without these limits.

use event_log::MESSAGE_BYTES_MAX;
use ledger_core::account::command::{Action, Purchase};
use ledger_core::account::{Account, Command, Decision, EventKind};
use ledger_core::planted::{Bug, is_planted};
use ledger_core::policy::Program;
use ledger_core::time::Moment;

use crate::request::Refusal;

/// Lots of an account that have points, or may still get some back.
pub const LOTS_MAX: usize = 50_000;
/// Purchases of an account that may still be returned.
pub const PURCHASES_MAX: usize = 50_000;
/// Redemptions of an account that may still be returned.
const REDEMPTIONS_MAX: usize = 50_000;
/// Redemptions of an account that hold points.
pub const HOLDS_MAX: usize = 1000;
/// Conditions of bonuses that one purchase may ask, line by line, as [`ledger_core::policy::Version::conditions_asked`] counts them. To ask a short
/// one takes about a microsecond.
pub const CONDITIONS_MAX: usize = 20_000;

/// How much there may be. The default fits the messages that every log takes; a log of smaller messages needs smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a command as it is sent to whoever decides it.
    pub command_bytes: usize,
    /// Bytes of a record: a command with what it did, such as the points of each line by rule.
    pub record_bytes: usize,
    /// Bytes of an answer that goes over the log.
    pub answer_bytes: usize,
    /// Lots of an account that have points, or may still get some back.
    pub lots: usize,
    /// Lines of an account's purchases that may still be returned.
    pub lines: usize,
}

const DEFAULT: Limits = Limits { command_bytes: 4 << 20, record_bytes: 7 << 20, answer_bytes: 4 << 20, lots: LOTS_MAX, lines: 500_000 };

/// What Kafka and its client put around a message: headers of the record, the batch and the request, and the account's name.
const AROUND_BYTES: usize = 4096;
const _: () = assert!(DEFAULT.command_bytes + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(DEFAULT.record_bytes + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(DEFAULT.answer_bytes + AROUND_BYTES <= MESSAGE_BYTES_MAX);

/// As how many short conditions the longest counts.
const LONGEST_CONDITION: usize = 10;
/// More than one part of a decision, such as the points of a line by all rules, can take.
const PART_BYTES: usize = 7 << 10;
/// A purchase of more lines has them counted: a thousand of the largest would be ten times what there may be.
const FEW_LINES: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        DEFAULT
    }
}

impl Limits {
    /// Below so many lots or purchases nothing can be too large, and nothing is counted.
    const fn few(&self) -> usize {
        self.record_bytes / PART_BYTES
    }
}

/// Refuses what has more than `bytes_max`.
pub(crate) fn require(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes <= bytes_max || is_planted(Bug::TooLargeIsSent) { Ok(()) } else { Err(Refusal::TooLarge { what, bytes, bytes_max }) }
}

/// Refuses a command that would take too long to decide at `now`, or leave the account too large.
pub(crate) fn require_bounded(account: &Account, program: &Program, command: &Command, now: Moment, limits: &Limits) -> Result<(), Refusal> {
    if let Action::Earn(purchase) = &command.action {
        require_few_conditions(purchase, program, now)?;
    }
    require_room(account, command, limits)
}

/// Refuses a purchase that would ask too many conditions of bonuses.
fn require_few_conditions(purchase: &Purchase, program: &Program, now: Moment) -> Result<(), Refusal> {
    let Some(version) = program.at(purchase.occurred_at.min(now)) else { return Ok(()) };
    let (lines, conditions) = (purchase.lines.len(), version.rulebook.earn.bonus.len());
    // Of most it is known without a look at each.
    if lines * conditions * LONGEST_CONDITION <= CONDITIONS_MAX {
        return Ok(());
    }
    let asked = version.conditions_asked(purchase);
    let version = version.number;
    if asked <= CONDITIONS_MAX { Ok(()) } else { Err(Refusal::TooManyConditions { lines, version, conditions, asked, asked_max: CONDITIONS_MAX }) }
}

/// Refuses a command that would add to an account which has as much as it may have.
fn require_room(account: &Account, command: &Command, limits: &Limits) -> Result<(), Refusal> {
    let full = |what, count, count_max| Err(Refusal::AccountFull { what, count, count_max });
    let lines = match &command.action {
        Action::Earn(_) if account.purchases.len() >= PURCHASES_MAX => return full("purchases", account.purchases.len(), PURCHASES_MAX),
        Action::Hold { .. } if account.holds.len() >= HOLDS_MAX => return full("holds", account.holds.len(), HOLDS_MAX),
        Action::Redeem { .. } | Action::Hold { .. } if account.redemptions.len() >= REDEMPTIONS_MAX => {
            return full("redemptions", account.redemptions.len(), REDEMPTIONS_MAX);
        }
        Action::Earn(purchase) => purchase.lines.len(),
        Action::Adjust { points, .. } if *points > 0 => 0,
        Action::Approve { proposal } if account.proposals.iter().any(|waits| waits.proposal == *proposal && waits.points > 0) => 0,
        _ => return Ok(()),
    };
    if account.lots.len() >= limits.lots {
        return full("lots", account.lots.len(), limits.lots);
    }
    if lines < FEW_LINES && account.purchases.len() < limits.few() {
        return Ok(());
    }
    let kept: usize = account.purchases.iter().map(|state| state.purchase.lines.len()).sum();
    if lines > 0 && kept + lines > limits.lines { full("lines of purchases", kept, limits.lines) } else { Ok(()) }
}

/// Whether what was decided may come to a record that is too large, so that it is worth a look before it is booked.
pub(crate) fn may_be_large(decision: &Decision, limits: &Limits) -> bool {
    let lists = decision.events.iter().map(|event| match &event.kind {
        EventKind::PointsEarned(earned) => earned.lines.len() + earned.failures.len() + earned.paid_by.len(),
        EventKind::PurchaseReturned(reversed) => reversed.parts.len() + reversed.paid_by.len(),
        EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => spent.parts.len(),
        EventKind::PointsHeld { parts, .. } | EventKind::HoldReleased { parts, .. } | EventKind::RedemptionReturned { parts, .. } => parts.len(),
        EventKind::PointsTaken { parts, .. } | EventKind::DebtPaid { parts, .. } | EventKind::PointsForfeited { parts } => parts.len(),
        _ => 1,
    });
    lists.sum::<usize>() >= limits.few()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ledger_core::account::command::{Line, Purchase};
    use ledger_core::account::qualifying::Qualifying;
    use ledger_core::account::state::PurchaseState;
    use ledger_core::id::Id;
    use ledger_core::points::Amount;
    use ledger_core::policy::{Facts, Kept};
    use ledger_core::time::Moment;

    use super::*;

    fn purchase(lines: usize) -> Purchase {
        let line = |n: usize| Line {
            line_id: Id::parse(&format!("l{n}")).unwrap(),
            sku: "A".into(),
            category: "food".into(),
            quantity: Amount::unit(0),
            unit_price: Amount::unit(0),
            discount: Amount::ZERO,
            tax: Amount::ZERO,
            amount: None,
        };
        Purchase {
            purchase_id: Id::parse("p").unwrap(),
            occurred_at: Moment::default(),
            currency: "EUR".into(),
            channel: "web".into(),
            store: "s1".into(),
            lines: (0..lines).map(line).collect(),
            shipping: Amount::ZERO,
            origin: None,
        }
    }

    #[test]
    fn a_few_purchases_of_many_lines_fill_an_account() {
        let large = PurchaseState {
            purchase: Arc::new(purchase(5000)),
            rule_version: 1,
            facts: Facts::default(),
            seq: 1,
            lot: None,
            kept: Kept::default(),
            points: 0,
            uncapped_points: 0,
            day: 0,
            expired: 0,
            qualifying: Qualifying::default(),
            return_until: Moment::default(),
        };
        let mut account = Account::default();
        account.purchases.resize(100, Arc::new(large));
        let earn = |lines| Command { id: Id::parse("p").unwrap(), actor: "till".into(), action: Action::Earn(Arc::new(purchase(lines))) };
        let limits = Limits::default();
        let asked = require_room(&account, &earn(5000), &limits);
        assert!(matches!(asked, Err(Refusal::AccountFull { what: "lines of purchases", count: 500_000, .. })), "{asked:?}");
        assert!(require_room(&account, &earn(5000), &Limits { lines: 505_000, ..limits }).is_ok());
    }
}
