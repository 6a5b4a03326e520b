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
use ledger_core::policy::Program;
use ledger_core::time::Moment;

use crate::request::Refusal;

/// A command as it is sent to whoever decides it.
pub(crate) const COMMAND_BYTES_MAX: usize = 4 << 20;
/// A record: a command with what it did, such as the points of each line by rule.
pub(crate) const RECORD_BYTES_MAX: usize = 7 << 20;
/// An answer that goes over the log.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Lots of an account that have points, or may still get some back.
pub const LOTS_MAX: usize = 50_000;
/// Purchases of an account that may still be returned.
pub const PURCHASES_MAX: usize = 50_000;
/// Lines of an account's purchases that may still be returned.
const LINES_MAX: usize = 500_000;
/// Redemptions of an account that may still be returned.
const REDEMPTIONS_MAX: usize = 50_000;
/// Redemptions of an account that hold points.
pub const HOLDS_MAX: usize = 1000;
/// Conditions of bonuses that one purchase may ask, line by line, as [`ledger_core::policy::Version::conditions_asked`] counts them. To ask a short
/// one takes about a microsecond.
pub const CONDITIONS_MAX: usize = 20_000;

/// What Kafka and its client put around a message: headers of the record, the batch and the request, and the account's name.
const AROUND_BYTES: usize = 4096;
const _: () = assert!(COMMAND_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);

/// As how many short conditions the longest counts.
const LONGEST_CONDITION: usize = 10;
/// Below so many lines, lots or purchases nothing can be too large, and nothing is counted.
const FEW: usize = 1000;

/// Refuses what has more than `bytes_max`.
pub(crate) fn require(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes <= bytes_max { Ok(()) } else { Err(Refusal::TooLarge { what, bytes, bytes_max }) }
}

/// Refuses a command that would take too long to decide at `now`, or leave the account too large.
pub(crate) fn require_bounded(account: &Account, program: &Program, command: &Command, now: Moment) -> Result<(), Refusal> {
    if let Action::Earn(purchase) = &command.action {
        require_few_conditions(purchase, program, now)?;
    }
    require_room(account, command)
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
fn require_room(account: &Account, command: &Command) -> Result<(), Refusal> {
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
    if account.lots.len() >= LOTS_MAX {
        return full("lots", account.lots.len(), LOTS_MAX);
    }
    if lines + account.purchases.len() < FEW {
        return Ok(());
    }
    let kept: usize = account.purchases.iter().map(|state| state.purchase.lines.len()).sum();
    if lines > 0 && kept + lines > LINES_MAX { full("lines of purchases", kept, LINES_MAX) } else { Ok(()) }
}

/// Whether what was decided may come to a record that is too large, so that it is worth a look before it is booked.
pub(crate) fn may_be_large(decision: &Decision) -> bool {
    let lists = decision.events.iter().map(|event| match &event.kind {
        EventKind::PointsEarned(earned) => earned.lines.len() + earned.failures.len() + earned.paid_by.len(),
        EventKind::PurchaseReturned(reversed) => reversed.parts.len() + reversed.paid_by.len(),
        EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => spent.parts.len(),
        EventKind::PointsHeld { parts, .. } | EventKind::HoldReleased { parts, .. } | EventKind::RedemptionReturned { parts, .. } => parts.len(),
        EventKind::PointsTaken { parts, .. } | EventKind::DebtPaid { parts, .. } | EventKind::PointsForfeited { parts } => parts.len(),
        _ => 1,
    });
    lists.sum::<usize>() >= FEW
}
