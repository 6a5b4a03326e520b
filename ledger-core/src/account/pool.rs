//! Caps that purchases share, per local day and per member.
//!
//! What a cap grants is a function of the purchases under it, in the order in which they were booked: each is granted what the cap of the
//! rulebook that rated it leaves room for above what those before it were granted. So a return takes what the function gives less without
//! the goods given back, whatever versions of the rulebook had which caps, and returns end alike in any order.

use serde::{Deserialize, Serialize};

use super::event::RunPoints;
use crate::points::Points;

/// Purchases that were booked in a row by one version of the rulebook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The program's local day, counted from 1970-01-01, where the cap is per day; else 0.
    pub day: i32,
    /// The version that rated them.
    pub rule_version: u32,
    /// The number of the record that booked the first of the account's purchases in a row by this version; it names the run.
    pub first_seq: u64,
    /// What their goods would earn without the cap.
    pub points: Points,
}

/// The runs of all caps that purchases of an account share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pools {
    /// Under the cap per day; a run of the member's pool has a run in each day in which it has purchases.
    pub(super) days: Vec<Run>,
    /// Under the cap per member, after the cap per day.
    pub(super) member: Vec<Run>,
}

/// What a cap grants of `points`, above `granted`.
fn room(points: Points, granted: Points, cap: Option<Points>) -> Points {
    cap.map_or(points, |cap| points.min(cap - granted)).max(0)
}

/// What each of `runs`, in turn, is granted by the cap of its version.
fn granted<'a>(runs: impl Iterator<Item = &'a Run>, cap: impl Fn(u32) -> Option<Points>) -> Vec<Points> {
    let mut sum = 0;
    let grant = |run: &Run| {
        let points = room(run.points, sum, cap(run.rule_version));
        sum += points;
        points
    };
    runs.map(grant).collect()
}

/// By how much a return lowers what the caps grant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lowered {
    /// After the cap per day.
    pub day_points: Points,
    /// After both.
    pub points: Points,
    /// `day_points` by run of the member's pool, where they are not all of the purchase's own run.
    pub by_run: Vec<RunPoints>,
}

impl Pools {
    /// What the cap per day grants of another `points` on `day`, where `cap` is the purchase's and `cap_of` that of a version.
    pub(super) fn day_room(&self, day: i32, points: Points, cap: Option<Points>, cap_of: impl Fn(u32) -> Option<Points>) -> Points {
        if cap.is_none() {
            return points;
        }
        room(points, granted(self.days.iter().filter(|run| run.day == day), cap_of).iter().sum(), cap)
    }

    /// What the cap per member grants of another `points`.
    pub(super) fn member_room(&self, points: Points, cap: Option<Points>, cap_of: impl Fn(u32) -> Option<Points>) -> Points {
        if cap.is_none() {
            return points;
        }
        room(points, granted(self.member.iter(), cap_of).iter().sum(), cap)
    }

    /// The run of the purchase that record `seq` booked.
    fn run_of(&self, seq: u64) -> u64 {
        self.member.iter().rev().find(|run| run.first_seq <= seq).map_or(0, |run| run.first_seq)
    }

    /// What becomes less if the purchase that record `seq` booked on `day` earns `fewer` points before the caps.
    pub(super) fn lowered(
        &self,
        (seq, day): (u64, i32),
        fewer: Points,
        day_cap: impl Fn(u32) -> Option<Points>,
        member_cap: impl Fn(u32) -> Option<Points>,
    ) -> Lowered {
        let own = self.run_of(seq);
        let of_day: Vec<Run> = self.days.iter().filter(|run| run.day == day).copied().collect();
        let before = granted(of_day.iter(), &day_cap);
        let mut less = of_day.clone();
        less.iter_mut().filter(|run| run.first_seq == own).for_each(|run| run.points -= fewer);
        let after = granted(less.iter(), &day_cap);
        let mut by_run: Vec<RunPoints> = Vec::new();
        for (run, (before, after)) in of_day.iter().zip(before.iter().zip(&after)) {
            by_run.push(RunPoints { first_seq: run.first_seq, points: before - after });
        }
        by_run.retain(|run| run.points != 0);
        let day_points = by_run.iter().map(|run| run.points).sum();
        let before: Points = granted(self.member.iter(), &member_cap).iter().sum();
        let mut member = self.member.clone();
        lower(&mut member, &by_run);
        let after: Points = granted(member.iter(), &member_cap).iter().sum();
        if by_run.iter().all(|run| run.first_seq == own) {
            by_run.clear();
        }
        Lowered { day_points, points: before - after, by_run }
    }

    /// Books a purchase: `uncapped` points before the caps, `day_points` after the one per day.
    pub(super) fn book(&mut self, (seq, day): (u64, i32), rule_version: u32, uncapped: Points, day_points: Points) {
        if self.member.last().is_none_or(|run| run.rule_version != rule_version) {
            self.member.push(Run { day: 0, rule_version, first_seq: seq, points: 0 });
        }
        let Some(run) = self.member.last_mut() else { return };
        run.points += day_points;
        let first_seq = run.first_seq;
        match self.days.iter_mut().rev().find(|run| run.day == day && run.first_seq == first_seq) {
            Some(run) => run.points += uncapped,
            None => self.days.push(Run { day, rule_version, first_seq, points: uncapped }),
        }
    }

    /// Books a return: `fewer` points before the caps, `day_points` fewer after the one per day, by run where `by_run` says so.
    pub(super) fn lower(&mut self, (seq, day): (u64, i32), fewer: Points, day_points: Points, by_run: &[RunPoints]) {
        let own = self.run_of(seq);
        self.days.iter_mut().filter(|run| run.day == day && run.first_seq == own).for_each(|run| run.points -= fewer);
        let all_own = [RunPoints { first_seq: own, points: day_points }];
        lower(&mut self.member, if by_run.is_empty() { &all_own } else { by_run });
        // Edition 1 took more from a run than it had, where a cap was lowered within a day.
        self.member.iter_mut().for_each(|run| run.points = run.points.max(0));
    }
}

fn lower(member: &mut [Run], by_run: &[RunPoints]) {
    for less in by_run {
        member.iter_mut().filter(|run| run.first_seq == less.first_seq).for_each(|run| run.points -= less.points);
    }
}
