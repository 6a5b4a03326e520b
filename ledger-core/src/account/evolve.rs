//! The fold: what each event does to the state. Total and without judgement; what is allowed was settled by decide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::event::{Earned, Event, EventKind, Lot, LotId, Part, Reversed, Spent, TierCause, TierMove};
use super::qualifying::Qualifying;
use super::state::{Account, Hold, LotState, PurchaseState, RedemptionState, SpentAt, Standing, Status};
use crate::id::Id;
use crate::planted::{Bug, is_planted};
use crate::points::{Amount, Exact, Points};
use crate::policy::{Kept, QualifyBy, gross};
use crate::posting::postings;
use crate::time::{DAY_US, Moment};

/// How long qualifying entries are kept one by one, longer than any window, and caps by day, for purchases that are told of late.
const QUALIFYING_DAYS: i64 = 400;
/// How long after its window a purchase or redemption is kept, for returns that arrive late.
const GRACE_DAYS: i64 = 30;
const TIER_HISTORY_MAX: usize = 16;

impl Account {
    /// Applies one event.
    pub fn evolve(&mut self, event: &Event) {
        postings(event, |posting| self.totals[posting.bucket as usize] += posting.points);
        let at = event.at;
        match &event.kind {
            EventKind::AccountOpened { pending, tier } => {
                self.status = if *pending { Status::Pending } else { Status::Active };
                (self.opened_at, self.last_activity) = (at, at);
                self.standing = Standing { tier: tier.clone(), since: at, ..Standing::default() };
            }
            EventKind::AccountActivated | EventKind::AccountWoken => self.status = Status::Active,
            EventKind::AliasAdded(alias) => self.aliases.push(*alias),
            EventKind::AliasRemoved(alias) => self.aliases.retain(|kept| kept != alias),
            EventKind::AdjustmentProposed(proposal) => self.proposals.push((**proposal).clone()),
            EventKind::AdjustmentApproved { proposal } | EventKind::AdjustmentDeclined { proposal, .. } => {
                self.proposals.retain(|kept| kept.proposal != *proposal);
            }
            // It refers to nothing that is kept.
            EventKind::RefundBooked { .. } => {}
            EventKind::AccountLapsed => self.status = Status::Inactive,
            EventKind::AccountFrozen(_) => {
                self.frozen_from = self.status;
                self.status = Status::Frozen;
            }
            EventKind::AccountUnfrozen { status, .. } => self.status = *status,
            EventKind::AccountClosed(_) => self.status = Status::Closed,
            EventKind::PointsEarned(earned) => self.earn(at, earned),
            EventKind::PointsMatured { lot, .. } => {
                if let Some(lot) = self.lot_mut(*lot) {
                    lot.pending = false;
                    lot.points_since = lot.points_since.max(at);
                }
            }
            EventKind::PointsExpired(part) => self.expire(*part),
            EventKind::ExpiryMoved { expires_at } => {
                let follows = |lot: &&mut LotState| lot.expiry_moves;
                // Activity that is told of late puts nothing forward.
                self.lots.iter_mut().filter(follows).for_each(|lot| lot.expires_at = lot.expires_at.max(Some(*expires_at)));
            }
            EventKind::PointsAdded { adjustment, lot, rule_version, .. } => self.push_lot(lot, adjustment, (at, at), false, *rule_version, at),
            EventKind::PointsRedeemed(spent) => {
                self.last_activity = self.last_activity.max(at);
                self.take(&spent.parts);
                self.spend(spent);
            }
            EventKind::PointsHeld { redemption, parts, lapses_at } => {
                self.last_activity = self.last_activity.max(at);
                self.take(parts);
                self.each_lot(parts, |lot, points| lot.held += points);
                self.holds.push(Hold { redemption: redemption.clone(), parts: parts.clone(), lapses_at: *lapses_at });
            }
            EventKind::HoldCaptured(spent) => {
                self.last_activity = self.last_activity.max(at);
                if !is_planted(Bug::HoldCapturedTwice) {
                    self.unhold(&spent.redemption, &spent.parts);
                }
                self.spend(spent);
            }
            EventKind::HoldReleased { redemption, parts, .. } => {
                self.unhold(redemption, parts);
                self.put_back(at, parts);
            }
            EventKind::RedemptionReturned { redemption, parts, .. } => self.restore(at, redemption, parts),
            EventKind::PurchaseReturned(reversed) => self.reverse(at, reversed),
            EventKind::PointsTaken { parts, .. } | EventKind::DebtPaid { parts, .. } | EventKind::PointsForfeited { parts } => self.take(parts),
            EventKind::TierChanged(moved) | EventKind::TierKept(moved) => self.stand(at, moved),
        }
    }

    /// Ends a record: counts it, keeps its hash, and drops what no later command can need at `recorded_at`.
    pub fn seal(&mut self, recorded_at: Moment, hash: [u8; 32]) {
        self.seq += 1;
        self.last_hash = hash;
        self.recorded_at = self.recorded_at.max(recorded_at);
        if self.prune_at.is_some_and(|at| at < recorded_at) {
            self.prune(recorded_at);
        }
    }

    fn prune(&mut self, now: Moment) {
        while let Some((_, amount)) = self.qualifying.front().filter(|(at, _)| qualifies_until(*at) < now) {
            self.qualifying_before = self.qualifying_before.plus(*amount);
            self.qualifying_recent = self.qualifying_recent.minus(*amount);
            self.qualifying.pop_front();
        }
        self.purchases.retain(|state| kept_until(state.return_until) >= now);
        // While more of a hold may be captured, its value is rounded together with what was captured before.
        let holds = &self.holds;
        let is_held = |state: &RedemptionState| holds.iter().any(|hold| hold.redemption == state.redemption);
        self.redemptions.retain(|state| kept_until(state.return_until) >= now && !state.parts.is_empty() || is_held(state));
        self.lots.retain(|lot| !is_empty(lot) || lot.keep_until >= now);
        let first_day = now.as_micros() / DAY_US - QUALIFYING_DAYS;
        if self.pools.days.iter().any(|run| i64::from(run.day) < first_day) {
            let kept: BTreeSet<i32> = self.purchases.iter().map(|state| state.day).collect();
            self.pools.days.retain(|run| i64::from(run.day) >= first_day || kept.contains(&run.day));
        }
        let purchases = self.purchases.iter().map(|state| kept_until(state.return_until));
        let redemptions = self.redemptions.iter().map(|state| kept_until(state.return_until));
        let lots = self.lots.iter().filter(|lot| is_empty(lot)).map(|lot| lot.keep_until);
        let qualifying = self.qualifying.front().map(|(at, _)| qualifies_until(*at));
        self.prune_at = purchases.chain(redemptions).chain(lots).chain(qualifying).min();
    }

    fn prune_no_later_than(&mut self, at: Moment) {
        self.prune_at = Some(self.prune_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn lot_mut(&mut self, lot: LotId) -> Option<&mut LotState> {
        self.lots.binary_search_by_key(&lot, |state| state.lot).ok().map(|i| &mut self.lots[i])
    }

    fn each_lot(&mut self, parts: &[Part], change: impl Fn(&mut LotState, Points)) {
        for part in parts {
            if let Some(lot) = self.lot_mut(part.lot) {
                change(lot, part.points);
            }
        }
    }

    fn take(&mut self, parts: &[Part]) {
        let mut emptied = None;
        for part in parts {
            if let Some(lot) = self.lot_mut(part.lot) {
                lot.remaining -= part.points;
                if lot.remaining == 0 {
                    emptied = Some(lot.keep_until);
                }
            }
        }
        if let Some(at) = emptied {
            self.prune_no_later_than(at);
        }
    }

    /// Gives points back to the lots that they came from.
    fn put_back(&mut self, at: Moment, parts: &[Part]) {
        self.each_lot(parts, |lot, points| {
            lot.remaining += points;
            lot.points_since = lot.points_since.max(at);
        });
    }

    fn push_lot(&mut self, lot: &Lot, source: &Id, (earned_at, at): (Moment, Moment), pending: bool, rule_version: u32, keep_until: Moment) {
        self.lot_count = lot.lot;
        make_room(&mut self.lots);
        self.lots.push(LotState {
            lot: lot.lot,
            points: lot.points,
            remaining: lot.points,
            held: 0,
            pending,
            earned_at,
            available_at: lot.available_at,
            expires_at: lot.expires_at,
            expiry_moves: lot.expiry_moves,
            source: source.clone(),
            rule_version,
            seq: self.seq + 1,
            keep_until,
            points_since: at,
        });
    }

    fn earn(&mut self, at: Moment, earned: &Earned) {
        let occurred_at = earned.purchase.occurred_at;
        let points = earned.lot.as_ref().map_or(0, |lot| lot.points);
        if let Some(lot) = &earned.lot {
            let keep_until = kept_until(earned.return_until);
            self.push_lot(lot, &earned.purchase.purchase_id, (occurred_at, at), earned.pending, earned.rule_version, keep_until);
        }
        self.lifetime_earned += points;
        self.purchase_count += 1;
        self.last_activity = self.last_activity.max(occurred_at);
        self.pools.book((self.seq + 1, earned.day), earned.rule_version, earned.uncapped_points, earned.day_points);
        let counted = earned.counted.unwrap_or_else(|| Qualifying::of_first_edition(earned.qualifying, points, &earned.purchase));
        self.qualify(occurred_at, counted);
        self.prune_no_later_than(kept_until(earned.return_until));
        self.purchases.push(Arc::new(PurchaseState {
            purchase: earned.purchase.clone(),
            rule_version: earned.rule_version,
            facts: earned.facts.clone(),
            seq: self.seq + 1,
            lot: earned.lot.as_ref().map(|lot| lot.lot),
            kept: crate::policy::Kept { decimals: earned.decimals, ..crate::policy::Kept::default() },
            points,
            uncapped_points: earned.uncapped_points,
            day: earned.day,
            expired: 0,
            qualifying: counted,
            return_until: earned.return_until,
        }));
    }

    fn qualify(&mut self, at: Moment, amount: Qualifying) {
        if amount == Qualifying::default() {
            return;
        }
        self.qualifying_recent = self.qualifying_recent.plus(amount);
        self.prune_no_later_than(qualifies_until(at));
        let i = self.qualifying.iter().rposition(|(other, _)| *other <= at).map_or(0, |i| i + 1);
        self.qualifying.insert(i, (at, amount));
    }

    fn unqualify(&mut self, at: Moment, amount: Qualifying) {
        self.qualifying_recent = self.qualifying_recent.minus(amount);
        let mut left = amount;
        // Which of those of one moment it was makes no difference: they leave every window together.
        for (_, counted) in self.qualifying.iter_mut().rev().filter(|(other, _)| *other == at) {
            let gone = left.min(*counted);
            (*counted, left) = (counted.minus(gone), left.minus(gone));
        }
        // What is not kept one by one any more is counted with all before.
        self.qualifying_recent = self.qualifying_recent.plus(left);
        self.qualifying_before = self.qualifying_before.minus(left);
    }

    fn expire(&mut self, part: Part) {
        self.take(&[part]);
        let Some(seq) = self.lot(part.lot).map(|lot| lot.seq) else { return };
        let purchase = self.purchases.binary_search_by_key(&seq, |state| state.seq).ok().map(|i| &mut self.purchases[i]);
        if let Some(state) = purchase.filter(|state| state.lot == Some(part.lot)) {
            Arc::make_mut(state).expired += part.points;
        }
    }

    fn spend(&mut self, spent: &Spent) {
        let keep_until = kept_until(spent.return_until);
        for part in &spent.parts {
            if let Some(lot) = self.lot_mut(part.lot) {
                lot.keep_until = lot.keep_until.max(keep_until);
            }
        }
        self.prune_no_later_than(keep_until);
        let rate = spent.rate();
        let points = spent.parts.iter().map(|part| part.points).sum();
        match self.redemptions.iter_mut().rev().find(|state| state.redemption == spent.redemption) {
            Some(state) => {
                state.parts.extend(&spent.parts);
                state.spend(points, rate);
                state.return_until = spent.return_until;
            }
            None => {
                make_room(&mut self.redemptions);
                let (redemption, parts, rates) = (spent.redemption.clone(), spent.parts.clone(), vec![SpentAt { points, rate }]);
                self.redemptions.push(RedemptionState { redemption, parts, rates, return_until: spent.return_until });
            }
        }
    }

    fn unhold(&mut self, redemption: &Id, parts: &[Part]) {
        self.each_lot(parts, |lot, points| lot.held -= points);
        if let Some(hold) = self.holds.iter_mut().find(|hold| hold.redemption == *redemption) {
            subtract(&mut hold.parts, parts);
        }
        self.holds.retain(|hold| !hold.parts.is_empty());
    }

    fn restore(&mut self, at: Moment, redemption: &Id, parts: &[Part]) {
        self.put_back(at, parts);
        if let Some(state) = self.redemptions.iter_mut().rev().find(|state| state.redemption == *redemption) {
            subtract(&mut state.parts, parts);
            state.give_back(parts.iter().map(|part| part.points).sum());
        }
    }

    fn reverse(&mut self, at: Moment, reversed: &Reversed) {
        self.take(&reversed.parts);
        // What a smaller basket earns more comes to the lot.
        self.each_lot(&reversed.parts, |lot, points| lot.points_since = if points < 0 { lot.points_since.max(at) } else { lot.points_since });
        // A shortfall is paid by what comes back now; what is owed, also by purchases told late.
        if reversed.owed > 0 {
            self.debt_since = self.debt_since.max(at);
        }
        let Some(i) = self.purchases.iter().rposition(|state| state.purchase.purchase_id == reversed.body.purchase_id) else { return };
        let state = Arc::make_mut(&mut self.purchases[i]);
        let uncapped = state.uncapped_points - reversed.uncapped_points;
        state.kept.give_back(&state.purchase, &reversed.body.what, reversed.refunded.as_ref());
        let uncounted = reversed.counted.unwrap_or_else(|| uncounted_by_first_edition(state, reversed));
        state.points -= reversed.points;
        state.uncapped_points = reversed.uncapped_points;
        state.expired -= reversed.expired;
        state.qualifying = state.qualifying.minus(uncounted);
        let (day, seq, occurred_at) = (state.day, state.seq, state.purchase.occurred_at);
        self.pools.lower((seq, day), uncapped, reversed.day_points, &reversed.day_points_by_run);
        self.unqualify(occurred_at, uncounted);
        let standing = &mut self.standing;
        let counted = seq <= standing.since_seq && standing.counted_from.is_none_or(|from| occurred_at > from);
        if let Some(basis) = standing.basis.as_mut().filter(|_| counted) {
            *basis = basis.minus(uncounted);
        }
    }

    fn stand(&mut self, at: Moment, moved: &TierMove) {
        if moved.from != moved.to {
            self.tier_history.push((self.standing.since, moved.from.clone()));
            if self.tier_history.len() > TIER_HISTORY_MAX {
                self.tier_history.remove(0);
            }
            self.standing.since = at;
        }
        if moved.cause != TierCause::Review {
            self.standing.anchor = at;
        }
        self.standing.tier = moved.to.clone();
        // Where a return leaves enough of the purchases that had counted for a lower tier, it is they who hold it, not those booked since.
        let counted = moved.counted.unwrap_or_else(|| Qualifying::of_first_edition_tier(moved.qualifying));
        // A record of edition 1 states what is left of the basis in one unit, and not in which.
        let is_left = |basis: Qualifying| match moved.counted {
            Some(counted) => basis == counted,
            None => [QualifyBy::Points, QualifyBy::Spend, QualifyBy::Purchases].into_iter().any(|unit| basis.by(unit) == moved.qualifying),
        };
        let is_rest = moved.cause == TierCause::Returned && self.standing.basis.is_some_and(is_left);
        if !is_rest {
            self.standing.since_seq = self.seq + 1;
        }
        self.standing.basis = moved.earned.then_some(counted);
        self.standing.counted_from = moved.counted_from;
        self.standing.review_at = moved.review_at;
    }
}

/// What a return of edition 1, which states one amount and not in which unit, took from what the purchase had counted; `state` knows the goods
/// kept after it.
fn uncounted_by_first_edition(state: &PurchaseState, reversed: &Reversed) -> Qualifying {
    let is_all_back = |kept: &Kept| gross(&state.purchase, kept).and_then(Exact::to_amount).is_ok_and(|paid| paid <= Amount::ZERO);
    let purchases = i64::from(is_all_back(&state.kept));
    Qualifying { points: reversed.points, spend: reversed.qualifying, purchases }.min(state.qualifying)
}

/// Until when a purchase or redemption is kept.
pub(super) fn kept_until(return_until: Moment) -> Moment {
    return_until.plus_micros(GRACE_DAYS * DAY_US)
}

/// Makes room for one more by a quarter, not by doubling: there are many accounts, each with a few, and what is only reserved is memory all the same.
fn make_room<T>(all: &mut Vec<T>) {
    if all.len() == all.capacity() {
        all.reserve_exact((all.len() / 4).max(2));
    }
}

fn is_empty(lot: &LotState) -> bool {
    lot.remaining == 0 && lot.held == 0
}

fn qualifies_until(at: Moment) -> Moment {
    at.plus_micros(QUALIFYING_DAYS * DAY_US)
}

fn subtract(parts: &mut Vec<Part>, gone: &[Part]) {
    let mut left: BTreeMap<LotId, Points> = BTreeMap::new();
    for part in gone {
        *left.entry(part.lot).or_default() += part.points;
    }
    // The last that fits: parts are given back from the end, so a lot that stands twice loses its later points first.
    for kept in parts.iter_mut().rev() {
        if let Some(left) = left.get_mut(&kept.lot) {
            let points = (*left).min(kept.points);
            kept.points -= points;
            *left -= points;
        }
    }
    parts.retain(|part| part.points > 0);
}
