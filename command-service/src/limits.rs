//! How much there may be of what a command makes (docs/limits.md has all limits on one page).
//!
//! Invariant: whatever is staged fits into a message of the log, so that no append can fail by its size: a group that can't be appended would be
//! decided again and again, and nobody's command with it.

use event_log::MESSAGE_BYTES_MAX;
use ledger_core::account::command::Action;
use ledger_core::account::{Account, Command, Decision, EventKind};

use crate::request::Refusal;

/// A command as it is sent to whoever decides it.
pub(crate) const COMMAND_BYTES_MAX: usize = 4 << 20;
/// A record: a command with what it did, such as the points of each line by rule.
pub(crate) const RECORD_BYTES_MAX: usize = 7 << 20;
/// An answer that goes over the log.
pub(crate) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Lots of an account that have points, or may still get some back.
const LOTS_MAX: usize = 50_000;
/// Lines of an account's purchases that may still be returned.
const LINES_MAX: usize = 500_000;

/// What Kafka and its client put around a message: headers of the record, the batch and the request, and the account's name.
const AROUND_BYTES: usize = 4096;
const _: () = assert!(COMMAND_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(RECORD_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);
const _: () = assert!(ANSWER_BYTES_MAX + AROUND_BYTES <= MESSAGE_BYTES_MAX);

/// Below so many lines, lots or purchases nothing can be too large, and nothing is counted.
const FEW: usize = 1000;

/// Refuses what has more than `bytes_max`.
pub(crate) fn require(what: &'static str, bytes: usize, bytes_max: usize) -> Result<(), Refusal> {
    if bytes <= bytes_max { Ok(()) } else { Err(Refusal::TooLarge { what, bytes, bytes_max }) }
}

/// Refuses a command that would add to an account which has as much as it may have.
pub(crate) fn require_room(account: &Account, command: &Command) -> Result<(), Refusal> {
    let lines = match &command.action {
        Action::Earn(purchase) => purchase.lines.len(),
        Action::Adjust { points, .. } if *points > 0 => 0,
        Action::Approve { proposal } if account.proposals.iter().any(|waits| waits.proposal == *proposal && waits.points > 0) => 0,
        _ => return Ok(()),
    };
    let full = |what, count, count_max| Err(Refusal::AccountFull { what, count, count_max });
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
