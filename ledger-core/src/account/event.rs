//! What happened to an account. Events are never changed and never taken back; what they move is in [`crate::posting`].

use std::sync::Arc;

use compact_str::CompactString;

use super::command::{Purchase, Reason, Return};
use super::qualifying::Qualifying;
use super::state::Status;
use crate::id::{Alias, Id};
use crate::points::{Amount, Points};
use crate::policy::{Facts, LinePoints, Paid, PointValue, RateFailure};
use crate::time::Moment;

/// The number of a lot within its account: 1, 2, 3 …
pub type LotId = u32;

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it took effect, which may be long before it was recorded.
    pub at: Moment,
    /// What happened.
    pub kind: EventKind,
}

/// Points taken from or given to a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Part {
    /// The lot.
    pub lot: LotId,
    /// How many of its points.
    pub points: Points,
    /// Whether they were pending.
    pub pending: bool,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// The account was opened.
    AccountOpened {
        /// It collects but can't spend until it is activated.
        pending: bool,
        /// The entry tier.
        tier: CompactString,
    },
    /// A pending account became active.
    AccountActivated,
    /// The account was frozen.
    AccountFrozen(Reason),
    /// A freeze was undone.
    AccountUnfrozen {
        /// Why.
        reason: Reason,
        /// What the account is again.
        status: Status,
    },
    /// The account was closed.
    AccountClosed(Reason),
    /// The account can be found by another name.
    AliasAdded(Alias),
    /// It can't be found by that name any more.
    AliasRemoved(Alias),
    /// Nothing happened for the rulebook's time.
    AccountLapsed,
    /// An inactive account was used again.
    AccountWoken,
    /// A purchase gave points.
    PointsEarned(Box<Earned>),
    /// Pending points became available.
    PointsMatured {
        /// The lot.
        lot: LotId,
        /// How many.
        points: Points,
    },
    /// Points were spent at once.
    PointsRedeemed(Spent),
    /// Points were set aside.
    PointsHeld {
        /// The redemption.
        redemption: Id,
        /// From which lots.
        parts: Vec<Part>,
        /// When the hold ends by itself.
        lapses_at: Moment,
    },
    /// Held points were spent.
    HoldCaptured(Spent),
    /// Held points were given back.
    HoldReleased {
        /// The redemption.
        redemption: Id,
        /// To which lots.
        parts: Vec<Part>,
        /// By the clock, not by a command.
        lapsed: bool,
    },
    /// Spent points were given back.
    RedemptionReturned {
        /// The return.
        return_id: Id,
        /// The redemption that had spent them.
        redemption: Id,
        /// To which lots.
        parts: Vec<Part>,
        /// By how much the value of the redemption fell; older events don't tell it.
        value: Option<Amount>,
    },
    /// Goods were given back, and the points they had earned taken.
    PurchaseReturned(Box<Reversed>),
    /// Points were lost to time.
    PointsExpired(Part),
    /// An activity moved the expiry of the lots that follow it.
    ExpiryMoved {
        /// The new expiry.
        expires_at: Moment,
    },
    /// Points were added by hand.
    PointsAdded {
        /// The adjustment.
        adjustment: Id,
        /// The lot they are kept in.
        lot: Lot,
        /// The version of the rulebook that says when they expire.
        rule_version: u32,
        /// Why.
        reason: Reason,
    },
    /// Points were taken by hand.
    PointsTaken {
        /// The adjustment.
        adjustment: Id,
        /// From which lots.
        parts: Vec<Part>,
        /// Why.
        reason: Reason,
    },
    /// Somebody asked for a change of the balance by hand.
    AdjustmentProposed(Box<Proposal>),
    /// Somebody else approved it; what it asked for follows in the same record.
    AdjustmentApproved {
        /// Which.
        proposal: Id,
    },
    /// It was taken back or refused.
    AdjustmentDeclined {
        /// Which.
        proposal: Id,
        /// Why.
        reason: Reason,
    },
    /// Points paid what an earlier return could not take back.
    DebtPaid {
        /// From which lots.
        parts: Vec<Part>,
        /// Whether the account owed them; else they were a shortfall.
        owed: bool,
    },
    /// Closing took the points.
    PointsForfeited {
        /// From which lots.
        parts: Vec<Part>,
    },
    /// The tier changed.
    TierChanged(TierMove),
    /// A review let the tier stay.
    TierKept(TierMove),
}

/// A change of the balance by hand that waits for somebody else.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Proposal {
    /// Its id; the adjustment's, when it is approved.
    pub proposal: Id,
    /// Who asked for it, who can't approve it.
    pub maker: CompactString,
    /// Up or down.
    pub points: Points,
    /// Why.
    pub reason: Reason,
}

/// A new lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    /// Its number.
    pub lot: LotId,
    /// What it began with.
    pub points: Points,
    /// When its points can be spent; pending until then.
    pub available_at: Moment,
    /// When they are lost, if ever.
    pub expires_at: Option<Moment>,
    /// Whether activity moves the expiry.
    pub expiry_moves: bool,
}

/// A purchase that was rated.
#[derive(Clone, Debug, PartialEq)]
pub struct Earned {
    /// The purchase.
    pub purchase: Arc<Purchase>,
    /// The version of the rulebook that rated it.
    pub rule_version: u32,
    /// What was known of the member.
    pub facts: Facts,
    /// The lot it gave; none if it gave no points.
    pub lot: Option<Lot>,
    /// Whether the lot is pending until it matures.
    pub pending: bool,
    /// Points before the caps that purchases share (per day and per member).
    pub uncapped_points: Points,
    /// Points after the cap per day, before the one per member.
    pub day_points: Points,
    /// The program's local day, counted from 1970-01-01, for the cap per day.
    pub day: i32,
    /// What it counts towards a tier.
    pub qualifying: Amount,
    /// Points by line.
    pub lines: Vec<LinePoints>,
    /// Conditions that failed.
    pub failures: Vec<RateFailure>,
    /// Until when it can be returned.
    pub return_until: Moment,
    /// Who else than the program pays for how many of the lot's points.
    pub paid_by: Vec<Paid>,
    /// What it counts towards a tier in every unit; none in records of edition 1.
    pub counted: Option<Qualifying>,
    /// To how many decimals its lines' charges were rounded; not at all, if none.
    pub decimals: Option<u32>,
}

impl Earned {
    /// What was charged for its goods, after discounts, shipping not.
    #[must_use]
    pub fn charge(&self) -> Amount {
        self.purchase.charge(self.decimals)
    }
}

/// Points that were spent.
#[derive(Clone, Debug, PartialEq)]
pub struct Spent {
    /// The redemption.
    pub redemption: Id,
    /// From which lots.
    pub parts: Vec<Part>,
    /// By how much the value of the redemption grew, which is rounded as a whole; so the values of its parts add up to it.
    pub value: Amount,
    /// Until when it can be returned.
    pub return_until: Moment,
    /// What points were worth; where that was not told yet, `value` is of these points alone.
    pub rate: Option<PointValue>,
}

impl Spent {
    /// What its points are worth.
    pub(super) fn rate(&self) -> PointValue {
        self.rate.unwrap_or(PointValue { points: self.parts.iter().map(|part| part.points).sum(), amount: self.value })
    }
}

/// A purchase that was given back, whole or in part.
#[derive(Clone, Debug, PartialEq)]
pub struct Reversed {
    /// The return's id.
    pub return_id: Id,
    /// What was asked.
    pub body: Arc<Return>,
    /// Points that the goods given back had earned, caps applied.
    pub points: Points,
    /// What the goods kept earn before the caps that purchases share.
    pub uncapped_points: Points,
    /// By how much the day's points after the cap per day went down.
    pub day_points: Points,
    /// Of the points, those taken back, by lot.
    pub parts: Vec<Part>,
    /// Of the points, those that had expired already.
    pub expired: Points,
    /// Of the points, those that could not be taken and are booked.
    pub shortfall: Points,
    /// Of the points, those that the account owes now.
    pub owed: Points,
    /// What the goods given back had counted towards a tier.
    pub qualifying: Amount,
    /// What of the money went back; older records don't say.
    pub refunded: Option<Refunded>,
    /// How many of `points` somebody else than the program does not pay for any more: of all who paid before or pay now.
    pub paid_by: Vec<Paid>,
    /// What the goods given back had counted in every unit; none in records of edition 1.
    pub counted: Option<Qualifying>,
    /// Of `day_points`, how many by run of the member's pool, where they are not all of the purchase's own (see [`super::pool`]).
    pub day_points_by_run: Vec<RunPoints>,
}

/// Points of a run of purchases under a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunPoints {
    /// The run.
    pub first_seq: u64,
    /// How many.
    pub points: Points,
}

/// What of the money went back with a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refunded {
    /// For goods, to 6 decimals; the refunds of a purchase sum to what was charged for the goods given back.
    pub goods: Amount,
    /// For shipping.
    pub shipping: Amount,
    /// Whether money without a line took the last of the goods, so that none of them is kept.
    pub all_goods: bool,
}

/// A tier reached, lost or kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierMove {
    /// The tier before.
    pub from: CompactString,
    /// The tier now.
    pub to: CompactString,
    /// What counted towards it.
    pub qualifying: Amount,
    /// Whether the tier is held by qualifying; else it is the entry tier or one kept by grace.
    pub earned: bool,
    /// Purchases after this moment counted towards it; all if none.
    pub counted_from: Option<Moment>,
    /// When it is reviewed next, if ever.
    pub review_at: Option<Moment>,
    /// Why.
    pub cause: TierCause,
    /// What counted towards it in every unit; none in records of edition 1.
    pub counted: Option<Qualifying>,
}

/// Why a tier changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierCause {
    /// Enough was earned.
    Earned,
    /// What had counted was given back.
    Returned,
    /// The review.
    Review,
}
