//! The fold: postings, summed over a batch as far as they can be without reading a row; lots and tiers that are new.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use ledger_core::account::EventKind;
use ledger_core::account::event::{Earned, LotId};
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::Paid;
use ledger_core::posting::postings;
use ledger_core::time::utc_date;
use rust_decimal::Decimal;

use crate::runtime::Placed;

/// Where points were posted; its tier is that of the account before the batch, if none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) lot: Option<LotId>,
    pub(super) tier: Option<&'a str>,
    pub(super) booked_on: NaiveDate,
    pub(super) effective_on: NaiveDate,
    pub(super) kind: &'static str,
    pub(super) bucket: &'static str,
}

/// A lot that is new.
#[derive(Debug)]
pub(super) struct NewLot<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) lot: LotId,
    pub(super) issued_on: NaiveDate,
    pub(super) source: &'a str,
    pub(super) rule: String,
    pub(super) points: i64,
}

/// Goods that earned points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sold<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) lot: LotId,
    pub(super) tier: Option<&'a str>,
    pub(super) booked_on: NaiveDate,
}

/// A lot that somebody else than the program pays for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Funded<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) lot: LotId,
    pub(super) payer: &'a str,
}

/// What a payer came to pay for, on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Payment<'a> {
    pub(super) program: &'a str,
    pub(super) booked_on: NaiveDate,
    pub(super) payer: &'a str,
    pub(super) kind: &'static str,
}

/// What `records` change.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) lots: Vec<NewLot<'a>>,
    pub(super) postings: BTreeMap<Place<'a>, i64>,
    pub(super) sales: BTreeMap<Sold<'a>, Decimal>,
    /// The tier after the batch, where it changed.
    pub(super) tiers: BTreeMap<&'a AccountKey, &'a str>,
    pub(super) funding: BTreeMap<Funded<'a>, i64>,
    pub(super) payments: BTreeMap<Payment<'a>, i64>,
    /// By how many points returns made less what purchases earn.
    pub(super) returned: BTreeMap<(&'a AccountKey, &'a str), i64>,
}

impl<'a> Changes<'a> {
    /// Books who pays for more (a `sign` of 1) or fewer (-1) points.
    fn pay(&mut self, key: &'a AccountKey, booked_on: NaiveDate, kind: &'static str, sign: i64, paid_by: &'a [Paid]) {
        for paid in paid_by {
            let payer = paid.payer.as_str();
            *self.funding.entry(Funded { key, lot: paid.lot, payer }).or_default() += sign * paid.points;
            if paid.points != 0 {
                *self.payments.entry(Payment { program: key.program.as_str(), booked_on, payer, kind }).or_default() += sign * paid.points;
            }
        }
    }
}

/// What a movement is called in the roll-forward; none for what moves no points.
fn movement(kind: &EventKind) -> Option<&'static str> {
    Some(match kind {
        EventKind::PointsEarned(_) => "issued",
        EventKind::PointsMatured { .. } => "matured",
        EventKind::PointsRedeemed(_) | EventKind::HoldCaptured(_) => "redeemed",
        EventKind::RedemptionReturned { .. } => "redemption_returned",
        EventKind::PointsExpired(_) => "expired",
        EventKind::PurchaseReturned(_) | EventKind::DebtPaid { .. } => "clawed_back",
        EventKind::PointsAdded { .. } | EventKind::PointsTaken { .. } => "adjusted",
        EventKind::PointsForfeited { .. } => "forfeited",
        EventKind::PointsHeld { .. } => "held",
        EventKind::HoldReleased { .. } => "released",
        EventKind::AccountOpened { .. }
        | EventKind::AccountActivated
        | EventKind::AccountFrozen(_)
        | EventKind::AccountUnfrozen { .. }
        | EventKind::AccountClosed(_)
        | EventKind::AliasAdded(_)
        | EventKind::AliasRemoved(_)
        | EventKind::AdjustmentProposed(_)
        | EventKind::AdjustmentApproved { .. }
        | EventKind::AdjustmentDeclined { .. }
        | EventKind::AccountLapsed
        | EventKind::AccountWoken
        | EventKind::ExpiryMoved { .. }
        | EventKind::RefundBooked { .. }
        | EventKind::TierChanged(_)
        | EventKind::TierKept(_) => return None,
    })
}

const BASE: &str = "base";
pub(super) const ADJUSTMENT: &str = "adjustment";

/// What gave the points of a purchase: the bonuses that held for any of its lines.
fn rule(earned: &Earned) -> String {
    let bonuses: BTreeSet<&str> = earned.lines.iter().flat_map(|line| &line.bonus).map(Id::as_str).collect();
    if bonuses.is_empty() { BASE.into() } else { bonuses.into_iter().collect::<Vec<_>>().join("+") }
}

pub(super) fn fold(records: &[Placed]) -> Changes<'_> {
    let mut changes = Changes::default();
    for placed in records {
        let (key, booked_on) = (&placed.record.key, utc_date(placed.record.recorded_at));
        for event in &placed.record.events {
            let effective_on = utc_date(event.at);
            let mut new_lot = |lot: LotId, source, rule, points| changes.lots.push(NewLot { key, lot, issued_on: effective_on, source, rule, points });
            match &event.kind {
                EventKind::AccountOpened { tier, .. } => drop(changes.tiers.insert(key, tier)),
                EventKind::TierChanged(moved) => drop(changes.tiers.insert(key, &moved.to)),
                EventKind::PointsEarned(earned) => {
                    if let Some(lot) = &earned.lot {
                        new_lot(lot.lot, earned.purchase.purchase_id.as_str(), rule(earned), lot.points);
                        let tier = changes.tiers.get(key).copied();
                        changes.sales.insert(Sold { key, lot: lot.lot, tier, booked_on }, earned.charge().0);
                        changes.pay(key, booked_on, "issued", 1, &earned.paid_by);
                    }
                }
                EventKind::PurchaseReturned(reversed) => {
                    changes.pay(key, booked_on, "clawed_back", -1, &reversed.paid_by);
                    // Also where nobody pays for it yet: a bonus may come to hold for what is kept, and its payer pays for a share of that.
                    if reversed.points != 0 {
                        *changes.returned.entry((key, reversed.body.purchase_id.as_str())).or_default() += reversed.points;
                    }
                }
                EventKind::PointsAdded { adjustment, lot, .. } => new_lot(lot.lot, adjustment.as_str(), ADJUSTMENT.into(), lot.points),
                _ => {}
            }
            let Some(kind) = movement(&event.kind) else { continue };
            let tier = changes.tiers.get(key).copied();
            postings(event, |posting| {
                let place = Place { key, lot: posting.lot, tier, booked_on, effective_on, kind, bucket: posting.bucket.name() };
                *changes.postings.entry(place).or_default() += posting.points;
            });
        }
    }
    changes
}
