//! The fold: from records to changes of rows. A change is a difference, so nothing has to be read to write it.

use std::collections::BTreeMap;

use ledger_core::account::event::{EventKind, Lot, LotId, Part};
use ledger_core::account::state::Status;
use ledger_core::posting::{BUCKETS, Bucket, postings};
use ledger_core::time::Moment;

use crate::runtime::Placed;

/// What changed of a lot; the first lines describe one that is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LotChange {
    /// What it began with, where it is new.
    pub points: i64,
    /// When it was earned.
    pub earned_at: Option<Moment>,
    /// When it can be spent.
    pub available_at: Option<Moment>,
    /// When it is lost.
    pub expires_at: Option<Moment>,
    /// Whether activity moves that.
    pub expiry_moves: bool,
    /// What gave it.
    pub source: String,
    /// By which rules.
    pub rule_version: u32,
    /// How its rest changed.
    pub remaining: i64,
    /// How what is held of it changed.
    pub held: i64,
    /// Whether it is pending after the change; none if that did not change.
    pub pending: Option<bool>,
}

/// What changed of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BalanceChange {
    /// How its totals changed.
    pub totals: [i64; BUCKETS],
    /// How what it ever earned changed.
    pub earned: i64,
    /// When it was opened, if it was.
    pub opened_at: Option<Moment>,
    /// The status after the change; none if it did not change.
    pub status: Option<Status>,
    /// Its lots that changed.
    pub lots: BTreeMap<LotId, LotChange>,
    /// The expiry that every lot that follows activity has now, those of rows already written included.
    pub expiry_moved: Option<Moment>,
    /// Its partition.
    pub partition: u16,
    /// The last record that changed it.
    pub position: u64,
}

/// By program and account.
pub type BalanceChanges<'a> = BTreeMap<(&'a str, &'a str), BalanceChange>;

/// What `records` change.
#[must_use]
pub fn fold(records: &[Placed]) -> BalanceChanges<'_> {
    let mut changes = BalanceChanges::new();
    for placed in records {
        let key = &placed.record.key;
        let change = changes.entry((key.program.as_str(), key.account.as_str())).or_default();
        (change.partition, change.position) = (placed.partition, placed.position);
        for event in &placed.record.events {
            postings(event, |posting| change.totals[posting.bucket as usize] += posting.points);
            change.event(event.at, &event.kind);
        }
    }
    changes
}

impl BalanceChange {
    fn event(&mut self, at: Moment, kind: &EventKind) {
        match kind {
            EventKind::AccountOpened { pending, .. } => {
                self.opened_at = Some(at);
                self.status = Some(if *pending { Status::Pending } else { Status::Active });
            }
            EventKind::AccountActivated | EventKind::AccountWoken => self.status = Some(Status::Active),
            EventKind::AccountLapsed => self.status = Some(Status::Inactive),
            EventKind::AccountFrozen(_) => self.status = Some(Status::Frozen),
            EventKind::AccountUnfrozen { status, .. } => self.status = Some(*status),
            EventKind::AccountClosed(_) => self.status = Some(Status::Closed),
            EventKind::PointsEarned(earned) => {
                if let Some(lot) = &earned.lot {
                    self.earned += lot.points;
                    self.new_lot(lot, at, earned.pending, earned.purchase.purchase_id.as_str(), earned.rule_version);
                }
            }
            EventKind::PointsAdded { adjustment, lot, rule_version, .. } => self.new_lot(lot, at, false, adjustment.as_str(), *rule_version),
            EventKind::PointsMatured { lot, .. } => self.lots.entry(*lot).or_default().pending = Some(false),
            EventKind::ExpiryMoved { expires_at } => {
                self.expiry_moved = self.expiry_moved.max(Some(*expires_at));
                self.lots.values_mut().filter(|lot| lot.expiry_moves).for_each(|lot| lot.expires_at = lot.expires_at.max(Some(*expires_at)));
            }
            EventKind::PointsExpired(part) => self.remaining(std::slice::from_ref(part), -1),
            EventKind::PointsRedeemed(spent) => self.remaining(&spent.parts, -1),
            EventKind::PointsHeld { parts, .. } => {
                self.remaining(parts, -1);
                self.held(parts, 1);
            }
            EventKind::HoldCaptured(spent) => self.held(&spent.parts, -1),
            EventKind::HoldReleased { parts, .. } => {
                self.held(parts, -1);
                self.remaining(parts, 1);
            }
            EventKind::RedemptionReturned { parts, .. } => self.remaining(parts, 1),
            EventKind::PurchaseReturned(reversed) => self.remaining(&reversed.parts, -1),
            EventKind::PointsTaken { parts, .. } | EventKind::DebtPaid { parts, .. } | EventKind::PointsForfeited { parts } => self.remaining(parts, -1),
            EventKind::RefundBooked { .. } => {}
            EventKind::AdjustmentProposed(_) | EventKind::AdjustmentApproved { .. } | EventKind::AdjustmentDeclined { .. } => {}
            EventKind::AliasAdded(_) | EventKind::AliasRemoved(_) | EventKind::TierChanged(_) | EventKind::TierKept(_) => {}
        }
    }

    fn new_lot(&mut self, lot: &Lot, earned_at: Moment, pending: bool, source: &str, rule_version: u32) {
        let row = LotChange {
            points: lot.points,
            earned_at: Some(earned_at),
            available_at: Some(lot.available_at),
            expires_at: lot.expires_at,
            expiry_moves: lot.expiry_moves,
            source: source.to_owned(),
            rule_version,
            remaining: lot.points,
            held: 0,
            pending: Some(pending),
        };
        self.lots.insert(lot.lot, row);
    }

    fn remaining(&mut self, parts: &[Part], sign: i64) {
        for part in parts {
            self.lots.entry(part.lot).or_default().remaining += sign * part.points;
        }
    }

    fn held(&mut self, parts: &[Part], sign: i64) {
        for part in parts {
            self.lots.entry(part.lot).or_default().held += sign * part.points;
        }
    }

    pub(super) fn total(&self, bucket: Bucket) -> i64 {
        self.totals[bucket as usize]
    }
}
