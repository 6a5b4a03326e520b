//! The state of an account: a fold of its records, bounded by what decide may still need.
//!
//! Invariants: `totals` is the sum of all postings; a lot's points are remaining + held + gone; an account that was never opened
//! is `Account::default()`.

use std::collections::VecDeque;
use std::sync::Arc;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::command::Purchase;
use super::event::{LotId, Part, Proposal};
use super::pool::Pools;
use super::qualifying::Qualifying;
use crate::id::{Alias, Id};
use crate::points::{Exact, Points, TooLarge};
use crate::policy::{Facts, Kept, PointValue, Version};
use crate::posting::{BUCKETS, Bucket};
use crate::time::Moment;

/// Where an account is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not opened.
    #[default]
    Unopened,
    /// Enrolled, not yet active: it collects but can't spend.
    Pending,
    /// In use.
    Active,
    /// Not used for the rulebook's time; the next activity wakes it.
    Inactive,
    /// Stopped by somebody.
    Frozen,
    /// Ended.
    Closed,
}

impl Status {
    /// The status with this [`Status::name`].
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Unopened, Self::Pending, Self::Active, Self::Inactive, Self::Frozen, Self::Closed];
        all.into_iter().find(|status| status.name() == name)
    }

    /// The name, as in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unopened => "unopened",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// To be spent.
    pub available: Points,
    /// Earned, not yet to be spent.
    pub pending: Points,
    /// Set aside for redemptions.
    pub held: Points,
    /// What the account owes.
    pub owed: Points,
    /// All that purchases ever gave.
    pub lifetime_earned: Points,
    /// Of what is available, what has expired and is not booked so yet, as redemptions of before may still be told.
    pub lapsed: Points,
}

/// What one earning gave, as far as it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LotState {
    /// Its number.
    pub lot: LotId,
    /// What it began with.
    pub points: Points,
    /// What of it is pending or available.
    pub remaining: Points,
    /// What of it is held.
    pub held: Points,
    /// Whether the rest is pending.
    pub pending: bool,
    /// When it was earned.
    pub earned_at: Moment,
    /// When it can be spent.
    pub available_at: Moment,
    /// When it is lost.
    pub expires_at: Option<Moment>,
    /// Whether activity moves `expires_at`.
    pub expiry_moves: bool,
    /// The purchase or adjustment that gave it.
    pub source: Id,
    /// The version of the rulebook that gave it.
    pub rule_version: u32,
    /// The record that booked it.
    pub seq: u64,
    /// Until when points may come back to it.
    pub keep_until: Moment,
    /// When the last of its points came, or came to be available: nothing that takes them is dated before.
    pub points_since: Moment,
}

impl LotState {
    /// When its points are lost, if ever: those that a purchase after a fixed date earns as they are earned.
    #[must_use]
    pub fn lost_at(&self) -> Option<Moment> {
        self.expires_at.map(|at| at.max(self.earned_at))
    }

    /// Whether its points are lost at `at`, booked or not.
    #[must_use]
    pub fn is_lost_by(&self, at: Moment) -> bool {
        self.lost_at().is_some_and(|lost_at| lost_at <= at)
    }
}

/// Points set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The redemption.
    pub redemption: Id,
    /// From which lots.
    pub parts: Vec<Part>,
    /// When it ends by itself.
    pub lapses_at: Moment,
}

impl Hold {
    /// How many points it still holds.
    #[must_use]
    pub fn points(&self) -> Points {
        self.parts.iter().map(|part| part.points).sum()
    }
}

/// A redemption that can still be returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedemptionState {
    /// Its id.
    pub redemption: Id,
    /// What of it was not returned yet, in the order it was taken.
    pub parts: Vec<Part>,
    /// The same points by what they are worth, in the same order.
    pub rates: Vec<SpentAt>,
    /// Until when it can be returned.
    pub return_until: Moment,
}

/// Points spent at one rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentAt {
    /// How many.
    pub points: Points,
    /// What they are worth.
    pub rate: PointValue,
}

impl RedemptionState {
    /// What it is worth without its last `returned` points, exactly.
    ///
    /// # Errors
    /// [`TooLarge`] when the rates have more digits than can be summed exactly.
    pub fn worth(&self, returned: Points) -> Result<Exact, TooLarge> {
        let mut left = self.rates.iter().map(|rated| rated.points).sum::<Points>() - returned;
        let mut worth = Exact::ZERO;
        for rated in &self.rates {
            let points = rated.points.min(left);
            worth = worth.plus(rated.rate.exact(points)?)?;
            left -= points;
        }
        Ok(worth)
    }

    pub(super) fn spend(&mut self, points: Points, rate: PointValue) {
        match self.rates.last_mut().filter(|last| last.rate == rate) {
            Some(last) => last.points += points,
            None => self.rates.push(SpentAt { points, rate }),
        }
    }

    /// The last points come back first.
    pub(super) fn give_back(&mut self, mut points: Points) {
        while let Some(last) = self.rates.last_mut().filter(|_| points > 0) {
            let gone = last.points.min(points);
            (last.points, points) = (last.points - gone, points - gone);
            if last.points == 0 {
                self.rates.pop();
            }
        }
    }
}

/// A purchase that can still be returned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PurchaseState {
    /// The purchase.
    pub purchase: Arc<Purchase>,
    /// The version of the rulebook that rated it.
    pub rule_version: u32,
    /// What was known of the member.
    pub facts: Facts,
    /// The record that booked it.
    pub seq: u64,
    /// The lot it gave.
    pub lot: Option<LotId>,
    /// What of it is kept.
    pub kept: Kept,
    /// What it gave, less what its returns took; below zero where a cap that it shares had given that to others.
    pub points: Points,
    /// What the goods kept earn before the caps that purchases share.
    pub uncapped_points: Points,
    /// The program's local day, for the cap per day.
    pub day: i32,
    /// Points of its lot that expired and were not counted against a return yet.
    pub expired: Points,
    /// What it still counts towards a tier.
    pub qualifying: Qualifying,
    /// Until when it can be returned.
    pub return_until: Moment,
}

/// The tier an account has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The tier's name; empty before the account is opened.
    pub tier: CompactString,
    /// Since when.
    pub since: Moment,
    /// The last record with purchases that counted towards it.
    pub since_seq: u64,
    /// What of the purchases that reached it is still kept; none if it is the entry tier or held by grace.
    pub basis: Option<Qualifying>,
    /// Purchases after this moment counted towards it.
    pub counted_from: Option<Moment>,
    /// When it is reviewed next.
    pub review_at: Option<Moment>,
    /// When it was reached by earning or left by a return: reviews come whole years after that, however short a month between was.
    pub anchor: Moment,
}

/// The state of an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// The number of its last record; 0 before the first.
    pub seq: u64,
    /// The BLAKE3 hash of its last record; zeros before the first.
    pub last_hash: [u8; 32],
    /// When its last record was decided; the next is decided no earlier, whatever the clock of whoever decides shows.
    pub recorded_at: Moment,
    /// Where it is in its life.
    pub status: Status,
    /// What a frozen account was before.
    pub frozen_from: Status,
    /// When it was opened.
    pub opened_at: Moment,
    /// The last purchase or redemption.
    pub last_activity: Moment,
    /// The sum of all postings, by bucket.
    pub totals: [Points; BUCKETS],
    /// All that purchases ever gave.
    pub lifetime_earned: Points,
    /// How many purchases were booked.
    pub purchase_count: u32,
    /// How many lots there ever were.
    pub lot_count: u32,
    /// Lots with points, and those that points may come back to.
    pub lots: Vec<LotState>,
    /// Points set aside.
    pub holds: Vec<Hold>,
    /// Purchases that can still be returned, in the order they were booked. Few are ever looked at again: what is copied and moved is a pointer.
    /// They are written and read apart from the rest.
    #[serde(skip)]
    pub purchases: Vec<Arc<PurchaseState>>,
    /// Redemptions that can still be returned.
    pub redemptions: Vec<RedemptionState>,
    /// The caps that purchases share.
    pub pools: Pools,
    /// When an earlier return last could not take all: nothing that pays for it is dated before.
    pub debt_since: Moment,
    /// The tier.
    pub standing: Standing,
    /// The tiers before, oldest first, with the moment each began.
    pub tier_history: Vec<(Moment, CompactString)>,
    /// What counts towards a tier, by the purchase's time, of the last 400 days.
    pub qualifying: VecDeque<(Moment, Qualifying)>,
    /// The sum of `qualifying`.
    pub qualifying_recent: Qualifying,
    /// What counted before that.
    pub qualifying_before: Qualifying,
    /// The other names it can be found by.
    pub aliases: Vec<Alias>,
    /// Changes by hand that wait for somebody else.
    pub proposals: Vec<Proposal>,
    /// The earliest moment at which something kept can be dropped.
    pub(super) prune_at: Option<Moment>,
}

impl Account {
    /// The points in a bucket.
    #[must_use]
    pub fn total(&self, bucket: Bucket) -> Points {
        self.totals[bucket as usize]
    }

    /// What the account has.
    #[must_use]
    pub fn balance(&self) -> Balance {
        Balance {
            available: self.total(Bucket::Available),
            pending: self.total(Bucket::Pending),
            held: self.total(Bucket::Held),
            owed: -self.total(Bucket::Owed),
            lifetime_earned: self.lifetime_earned,
            lapsed: 0,
        }
    }

    /// What the account has at `now`, by when all is done that is due.
    #[must_use]
    pub fn balance_at(&self, now: Moment) -> Balance {
        let lapsed = self.lots.iter().filter(|lot| !lot.pending && lot.is_lost_by(now)).map(|lot| lot.remaining).sum();
        Balance { lapsed, ..self.balance() }
    }

    /// The lot with this number, if it is kept.
    #[must_use]
    pub fn lot(&self, lot: LotId) -> Option<&LotState> {
        self.lots.binary_search_by_key(&lot, |state| state.lot).ok().map(|i| &self.lots[i])
    }

    /// The purchase, if it can still be returned.
    #[must_use]
    pub fn purchase(&self, id: &Id) -> Option<&PurchaseState> {
        self.purchases.iter().rev().find(|state| state.purchase.purchase_id == *id).map(|state| &**state)
    }

    /// The hold of a redemption.
    #[must_use]
    pub fn hold(&self, redemption: &Id) -> Option<&Hold> {
        self.holds.iter().find(|hold| hold.redemption == *redemption)
    }

    /// The redemption, if it can still be returned.
    #[must_use]
    pub fn redemption(&self, id: &Id) -> Option<&RedemptionState> {
        self.redemptions.iter().rev().find(|state| state.redemption == *id)
    }

    /// What counts towards a tier in the window of `version` that ends at `at`.
    #[must_use]
    pub fn qualifying_at(&self, version: &Version, at: Moment) -> Qualifying {
        self.qualifying_after(version.window_start(at))
    }

    /// What counts towards a tier after `start`; all if none.
    #[must_use]
    pub fn qualifying_after(&self, start: Option<Moment>) -> Qualifying {
        match start {
            None => self.qualifying_recent.plus(self.qualifying_before),
            Some(start) => {
                let outside = self.qualifying.iter().take_while(|(occurred_at, _)| *occurred_at <= start);
                outside.fold(self.qualifying_recent, |sum, (_, amount)| sum.minus(*amount))
            }
        }
    }

    /// The tier that the account had at `at`; empty if it was not opened yet and has had none since.
    #[must_use]
    pub fn tier_at(&self, at: Moment) -> &CompactString {
        if self.standing.since <= at {
            return &self.standing.tier;
        }
        let had = self.tier_history.iter().rev().find(|(since, _)| *since <= at);
        had.or(self.tier_history.first()).map_or(&self.standing.tier, |(_, tier)| tier)
    }
}
