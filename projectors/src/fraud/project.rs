//! The fold: from events to signals.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use ledger_core::account::EventKind;
use ledger_core::account::command::Origin;
use ledger_core::posting::{Bucket, postings};

use crate::runtime::Placed;

/// A signal.
pub(super) struct Signal<'a> {
    pub(super) placed: &'a Placed,
    pub(super) event: i16,
    pub(super) kind: &'static str,
    pub(super) at: DateTime<Utc>,
    pub(super) points: i64,
    pub(super) channel: &'a str,
    pub(super) store: &'a str,
    pub(super) origin: Option<&'a Origin>,
    pub(super) reference: String,
    /// Of an adjustment.
    pub(super) reason: &'a str,
}

/// What a signal is called, and what it refers to.
fn kind(kind: &EventKind) -> Option<(&'static str, String)> {
    Some(match kind {
        EventKind::AccountOpened { .. } => ("open", String::new()),
        EventKind::AccountWoken => ("woken", String::new()),
        EventKind::AliasAdded(alias) => {
            let hex = alias.0.iter().fold(String::new(), |mut hex, byte| {
                // Writing into a string can't fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            ("alias", hex)
        }
        EventKind::PointsEarned(earned) => ("earn", earned.purchase.purchase_id.to_string()),
        EventKind::PointsRedeemed(spent) => ("redeem", spent.redemption.to_string()),
        EventKind::PointsHeld { redemption, .. } => ("redeem", redemption.to_string()),
        EventKind::PurchaseReturned(reversed) => ("return", reversed.return_id.to_string()),
        EventKind::PointsAdded { adjustment, .. } | EventKind::PointsTaken { adjustment, .. } => ("adjust", adjustment.to_string()),
        _ => return None,
    })
}

pub(super) fn fold(records: &[Placed]) -> Vec<Signal<'_>> {
    let mut signals = Vec::new();
    for placed in records {
        // What opens an account with its first purchase came from where the purchase came from.
        let bought = placed.record.events.iter().find_map(|event| match &event.kind {
            EventKind::PointsEarned(earned) => Some(&*earned.purchase),
            _ => None,
        });
        for (event, each) in (0_i16..).zip(&placed.record.events) {
            let Some((kind, reference)) = kind(&each.kind) else { continue };
            let mut points = 0;
            postings(each, |posting| {
                if matches!(posting.bucket, Bucket::Pending | Bucket::Available | Bucket::Owed) {
                    points += posting.points;
                }
            });
            signals.push(Signal {
                placed,
                event,
                kind,
                at: each.at.timestamp(),
                points,
                channel: bought.map_or("", |purchase| purchase.channel.as_str()),
                store: bought.map_or("", |purchase| purchase.store.as_str()),
                origin: bought.and_then(|purchase| purchase.origin.as_deref()),
                reference,
                reason: match &each.kind {
                    EventKind::PointsAdded { reason, .. } | EventKind::PointsTaken { reason, .. } => reason.code.as_str(),
                    _ => "",
                },
            });
        }
    }
    signals
}
