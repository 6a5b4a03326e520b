//! Text that Postgres takes.

use compact_str::CompactString;
use ledger_core::account::EventKind;
use ledger_schemas::Record;

/// Postgres has no place for the character NUL in a text.
const NUL: char = '\0';
const INSTEAD: &str = "\u{fffd}";

/// Shows each NUL in the record's texts as U+FFFD. New commands have none; notes of before may have some, and so may names of tiers.
pub(super) fn make_readable(record: &mut Record) {
    mend(&mut record.actor);
    for event in &mut record.events {
        match &mut event.kind {
            EventKind::AccountFrozen(reason) | EventKind::AccountClosed(reason) => mend_string(&mut reason.note),
            EventKind::AccountUnfrozen { reason, .. } | EventKind::AdjustmentDeclined { reason, .. } => mend_string(&mut reason.note),
            EventKind::PointsAdded { reason, .. } | EventKind::PointsTaken { reason, .. } => mend_string(&mut reason.note),
            EventKind::AdjustmentProposed(proposal) => {
                mend(&mut proposal.maker);
                mend_string(&mut proposal.reason.note);
            }
            EventKind::AccountOpened { tier, .. } => mend(tier),
            EventKind::TierChanged(moved) | EventKind::TierKept(moved) => {
                mend(&mut moved.from);
                mend(&mut moved.to);
            }
            _ => {}
        }
    }
}

fn mend(text: &mut CompactString) {
    if text.contains(NUL) {
        *text = text.replace(NUL, INSTEAD).into();
    }
}

fn mend_string(text: &mut String) {
    if text.contains(NUL) {
        *text = text.replace(NUL, INSTEAD);
    }
}
