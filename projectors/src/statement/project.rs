//! The fold: from a record's events to movements. The balance after each is the record's, less what came later in the record.

use chrono::{DateTime, Utc};
use ledger_core::account::{Event, EventKind};
use ledger_core::posting::{Bucket, Posting, postings};
use ledger_schemas::Record;
use serde_json::json;

use super::words::{kind, reason, reference};
use crate::runtime::Placed;

/// What an event did to the balance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) available: i64,
    pub(super) pending: i64,
    pub(super) held: i64,
    pub(super) owed: i64,
    pub(super) earned: i64,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Movement<'a> {
    pub(super) record: &'a Record,
    pub(super) event: i16,
    pub(super) effective_at: DateTime<Utc>,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) kind: &'static str,
    pub(super) reference: String,
    pub(super) reason: String,
    /// What the member has more or less for it.
    pub(super) points: i64,
    pub(super) delta: Delta,
    /// After it.
    pub(super) balance: Delta,
    pub(super) lots: serde_json::Value,
}

pub(super) fn fold(records: &[Placed]) -> Vec<Movement<'_>> {
    records.iter().flat_map(|placed| movements(&placed.record)).collect()
}

fn delta(event: &Event) -> (Delta, Vec<Posting>) {
    let (mut delta, mut all) = (Delta::default(), Vec::new());
    postings(event, |posting| {
        match posting.bucket {
            Bucket::Available => delta.available += posting.points,
            Bucket::Pending => delta.pending += posting.points,
            Bucket::Held => delta.held += posting.points,
            Bucket::Owed => delta.owed -= posting.points,
            _ => {}
        }
        all.push(posting);
    });
    if let EventKind::PointsEarned(earned) = &event.kind {
        delta.earned = earned.lot.as_ref().map_or(0, |lot| lot.points);
    }
    (delta, all)
}

fn is_movement(event: &Event) -> bool {
    !matches!(event.kind, EventKind::TierChanged(_) | EventKind::TierKept(_) | EventKind::ExpiryMoved { .. })
}

fn movements(record: &Record) -> Vec<Movement<'_>> {
    let after = &record.balance;
    let mut balance = Delta { available: after.available, pending: after.pending, held: after.held, owed: after.owed, earned: after.lifetime_earned };
    let mut rows = Vec::with_capacity(record.events.len());
    for (i, event) in (0_i16..).zip(&record.events).collect::<Vec<_>>().into_iter().rev() {
        let (delta, postings) = delta(event);
        if is_movement(event) {
            rows.push(Movement {
                record,
                event: i,
                effective_at: event.at.timestamp(),
                recorded_at: record.recorded_at.timestamp(),
                kind: kind(&event.kind),
                reference: reference(&event.kind).to_owned(),
                reason: reason(&event.kind),
                points: delta.available + delta.pending + delta.held - delta.owed,
                delta,
                balance,
                lots: lots(&postings),
            });
        }
        balance.available -= delta.available;
        balance.pending -= delta.pending;
        balance.held -= delta.held;
        balance.owed -= delta.owed;
        balance.earned -= delta.earned;
    }
    rows.reverse();
    rows
}

/// The lots whose points moved, and between which buckets.
fn lots(postings: &[Posting]) -> serde_json::Value {
    let pairs = postings.chunks_exact(2).filter(|pair| pair[0].lot.is_some());
    pairs.map(|pair| json!({"lot_id": pair[0].lot, "points": pair[1].points, "from": pair[0].bucket.name(), "to": pair[1].bucket.name()})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_name_where_points_came_from_and_went() {
        let postings = [
            Posting { bucket: Bucket::Available, lot: Some(3), points: -5 },
            Posting { bucket: Bucket::ClawedBack, lot: Some(3), points: 5 },
            Posting { bucket: Bucket::Uncollected, lot: None, points: -2 },
            Posting { bucket: Bucket::Shortfall, lot: None, points: 2 },
        ];
        assert_eq!(lots(&postings), json!([{"lot_id": 3, "points": 5, "from": "available", "to": "clawed_back"}]));
    }
}
