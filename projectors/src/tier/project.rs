//! The fold: tier moves, and what counts at which time.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use ledger_core::account::EventKind;
use ledger_core::account::event::{Earned, Reversed, TierCause};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::id::AccountKey;
use ledger_core::points::Amount;
use rust_decimal::Decimal;

use crate::runtime::Placed;

/// Where a row stands: account, record, event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Place<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) seq: i64,
    pub(super) event: i16,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Standing {
    pub(super) tier: String,
    pub(super) since: DateTime<Utc>,
    pub(super) review_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Move<'a> {
    pub(super) place: Place<'a>,
    pub(super) at: DateTime<Utc>,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) cause: &'static str,
    pub(super) qualifying: Decimal,
}

/// What counts at `at`, or, for a return, at the time of `purchase`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Counted<'a> {
    pub(super) place: Place<'a>,
    pub(super) at: Option<DateTime<Utc>>,
    pub(super) purchase: &'a str,
    /// In the unit of the rulebook that decided.
    pub(super) amount: Decimal,
    pub(super) counted: Qualifying,
}

#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) standings: BTreeMap<&'a AccountKey, Standing>,
    pub(super) moves: Vec<Move<'a>>,
    pub(super) purchases: Vec<Counted<'a>>,
    pub(super) returns: Vec<Counted<'a>>,
    /// Reviews that let a tier stay: only the next review changes.
    pub(super) kept: BTreeMap<&'a AccountKey, Option<DateTime<Utc>>>,
}

pub(super) fn fold(records: &[Placed]) -> Changes<'_> {
    let mut changes = Changes::default();
    for placed in records {
        let record = &placed.record;
        let seq = i64::try_from(record.account_seq).unwrap_or(i64::MAX);
        let recorded_at = record.recorded_at.timestamp();
        for (event, happened) in (0_i16..).zip(&record.events) {
            let at = happened.at.timestamp();
            let place = Place { key: &record.key, seq, event };
            match &happened.kind {
                EventKind::AccountOpened { tier, .. } => {
                    changes.standings.insert(&record.key, Standing { tier: tier.to_string(), since: at, review_at: None });
                }
                EventKind::TierChanged(moved) => {
                    let review_at = moved.review_at.map(ledger_core::time::Moment::timestamp);
                    changes.kept.remove(&record.key);
                    changes.standings.insert(&record.key, Standing { tier: moved.to.to_string(), since: at, review_at });
                    let (from, to) = (moved.from.to_string(), moved.to.to_string());
                    changes.moves.push(Move { place, at, recorded_at, from, to, cause: cause(moved.cause), qualifying: moved.qualifying.0 });
                }
                EventKind::TierKept(moved) => {
                    let review_at = moved.review_at.map(ledger_core::time::Moment::timestamp);
                    match changes.standings.get_mut(&record.key) {
                        Some(standing) => standing.review_at = review_at,
                        None => drop(changes.kept.insert(&record.key, review_at)),
                    }
                    let (from, to) = (moved.from.to_string(), moved.to.to_string());
                    changes.moves.push(Move { place, at, recorded_at, from, to, cause: "review", qualifying: moved.qualifying.0 });
                }
                EventKind::PointsEarned(earned) => {
                    let at = Some(earned.purchase.occurred_at.timestamp());
                    changes.purchases.push(Counted {
                        place,
                        at,
                        purchase: earned.purchase.purchase_id.as_str(),
                        amount: earned.qualifying.0,
                        counted: counted(earned),
                    });
                }
                EventKind::PurchaseReturned(reversed) => {
                    let (purchase, counted) = (reversed.body.purchase_id.as_str(), Qualifying::default().minus(uncounted(reversed)));
                    changes.returns.push(Counted { place, at: None, purchase, amount: -reversed.qualifying.0, counted });
                }
                _ => {}
            }
        }
    }
    changes
}

fn counted(earned: &Earned) -> Qualifying {
    let points = earned.lot.as_ref().map_or(0, |lot| lot.points);
    earned.counted.unwrap_or_else(|| Qualifying::of_first_edition(earned.qualifying, points, &earned.purchase))
}

/// Returns of edition 1 state one amount: a whole purchase where it is 1, else points or spend.
fn uncounted(reversed: &Reversed) -> Qualifying {
    let purchases = i64::from(reversed.qualifying == Amount::ONE);
    reversed.counted.unwrap_or_else(|| Qualifying { purchases, ..Qualifying::of_first_edition_tier(reversed.qualifying) })
}

fn cause(cause: TierCause) -> &'static str {
    match cause {
        TierCause::Earned => "earned",
        TierCause::Returned => "returned",
        TierCause::Review => "review",
    }
}
