//! Double entry. Invariant: the postings of every event sum to zero, so over any set of events
//! issued = pending + available + held + redeemed + expired + clawed back + forfeited + adjusted + owed (owed is negative while an
//! account owes); and shortfall = uncollected.

use crate::account::event::{Event, EventKind, LotId, Part};
use crate::points::Points;

/// Where points are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Bucket {
    /// Given out; what it holds is minus all points ever given.
    Issued,
    /// Earned, not yet to be spent.
    Pending,
    /// To be spent.
    Available,
    /// Set aside for a redemption.
    Held,
    /// Spent.
    Redeemed,
    /// Lost to time.
    Expired,
    /// Taken back with returned goods.
    ClawedBack,
    /// Lost by closing the account.
    Forfeited,
    /// Taken by hand.
    Adjusted,
    /// Minus what the account owes.
    Owed,
    /// What returns could not take back, where accounts don't owe.
    Shortfall,
    /// The other side of shortfall.
    Uncollected,
}

impl Bucket {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; BUCKETS] = [
        Self::Issued,
        Self::Pending,
        Self::Available,
        Self::Held,
        Self::Redeemed,
        Self::Expired,
        Self::ClawedBack,
        Self::Forfeited,
        Self::Adjusted,
        Self::Owed,
        Self::Shortfall,
        Self::Uncollected,
    ];

    /// As it is written in read models.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Pending => "pending",
            Self::Available => "available",
            Self::Held => "held",
            Self::Redeemed => "redeemed",
            Self::Expired => "expired",
            Self::ClawedBack => "clawed_back",
            Self::Forfeited => "forfeited",
            Self::Adjusted => "adjusted",
            Self::Owed => "owed",
            Self::Shortfall => "shortfall",
            Self::Uncollected => "uncollected",
        }
    }
}

/// How many buckets there are.
pub const BUCKETS: usize = 12;

/// Points moved into (or, negative, out of) a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// The bucket.
    pub bucket: Bucket,
    /// The lot, where the bucket has lots.
    pub lot: Option<LotId>,
    /// How many.
    pub points: Points,
}

/// Calls `post` with each posting of `event`.
pub fn postings(event: &Event, mut post: impl FnMut(Posting)) {
    let mut transfer = |from: Bucket, to: Bucket, lot: Option<LotId>, points: Points| {
        if points != 0 {
            post(Posting { bucket: from, lot, points: -points });
            post(Posting { bucket: to, lot, points });
        }
    };
    let kept_in = |pending: bool| if pending { Bucket::Pending } else { Bucket::Available };
    match &event.kind {
        EventKind::PointsEarned(earned) => {
            if let Some(lot) = &earned.lot {
                transfer(Bucket::Issued, kept_in(earned.pending), Some(lot.lot), lot.points);
            }
        }
        EventKind::PointsMatured { lot, points } => transfer(Bucket::Pending, Bucket::Available, Some(*lot), *points),
        EventKind::PointsExpired(part) => transfer(kept_in(part.pending), Bucket::Expired, Some(part.lot), part.points),
        EventKind::PointsAdded { lot, .. } => transfer(Bucket::Issued, Bucket::Available, Some(lot.lot), lot.points),
        EventKind::PointsRedeemed(spent) => {
            moved(&spent.parts, |part| transfer(Bucket::Available, Bucket::Redeemed, Some(part.lot), part.points));
        }
        EventKind::PointsHeld { parts, .. } => {
            moved(parts, |part| transfer(Bucket::Available, Bucket::Held, Some(part.lot), part.points));
        }
        EventKind::HoldCaptured(spent) => {
            moved(&spent.parts, |part| transfer(Bucket::Held, Bucket::Redeemed, Some(part.lot), part.points));
        }
        EventKind::HoldReleased { parts, .. } => {
            moved(parts, |part| transfer(Bucket::Held, Bucket::Available, Some(part.lot), part.points));
        }
        EventKind::RedemptionReturned { parts, .. } => {
            moved(parts, |part| transfer(Bucket::Redeemed, Bucket::Available, Some(part.lot), part.points));
        }
        EventKind::PurchaseReturned(reversed) => {
            moved(&reversed.parts, |part| transfer(kept_in(part.pending), Bucket::ClawedBack, Some(part.lot), part.points));
            transfer(Bucket::Owed, Bucket::ClawedBack, None, reversed.owed);
            transfer(Bucket::Uncollected, Bucket::Shortfall, None, reversed.shortfall);
        }
        EventKind::PointsTaken { parts, .. } => {
            moved(parts, |part| transfer(kept_in(part.pending), Bucket::Adjusted, Some(part.lot), part.points));
        }
        EventKind::DebtPaid { parts, owed: true } => {
            moved(parts, |part| transfer(kept_in(part.pending), Bucket::Owed, Some(part.lot), part.points));
        }
        EventKind::DebtPaid { parts, owed: false } => moved(parts, |part| {
            transfer(kept_in(part.pending), Bucket::ClawedBack, Some(part.lot), part.points);
            transfer(Bucket::Shortfall, Bucket::Uncollected, None, part.points);
        }),
        EventKind::PointsForfeited { parts } => {
            moved(parts, |part| transfer(kept_in(part.pending), Bucket::Forfeited, Some(part.lot), part.points));
        }
        EventKind::AccountOpened { .. }
        | EventKind::AccountActivated
        | EventKind::AliasAdded(_)
        | EventKind::AliasRemoved(_)
        | EventKind::AdjustmentProposed(_)
        | EventKind::AdjustmentApproved { .. }
        | EventKind::AdjustmentDeclined { .. }
        | EventKind::AccountFrozen(_)
        | EventKind::AccountUnfrozen { .. }
        | EventKind::AccountClosed(_)
        | EventKind::AccountLapsed
        | EventKind::AccountWoken
        | EventKind::ExpiryMoved { .. }
        | EventKind::RefundBooked { .. }
        | EventKind::TierChanged(_)
        | EventKind::TierKept(_) => {}
    }
}

fn moved(parts: &[Part], mut each: impl FnMut(&Part)) {
    for part in parts {
        each(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_written_as_read_models_have_them() {
        let all = [
            (Bucket::Issued, "issued"),
            (Bucket::Pending, "pending"),
            (Bucket::Available, "available"),
            (Bucket::Held, "held"),
            (Bucket::Redeemed, "redeemed"),
            (Bucket::Expired, "expired"),
            (Bucket::ClawedBack, "clawed_back"),
            (Bucket::Forfeited, "forfeited"),
            (Bucket::Adjusted, "adjusted"),
            (Bucket::Owed, "owed"),
            (Bucket::Shortfall, "shortfall"),
            (Bucket::Uncollected, "uncollected"),
        ];
        for (place, (bucket, name)) in all.into_iter().enumerate() {
            assert_eq!((bucket as usize, bucket.name()), (place, name));
        }
        assert_eq!(all.len(), BUCKETS);
    }
}
