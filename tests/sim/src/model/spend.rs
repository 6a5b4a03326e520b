//! Redemptions: what they may take, captures, returns and what they are worth.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{At, Model, Status};
use crate::plan::MINUTE_US;
use crate::rules::{Ratio, in_force, number, plus_days, ratio, rounded, whole_number};

impl Model {
    /// What all redemptions are worth, in hundredths: of each the points that are spent, at the rates of then, rounded together.
    pub fn worth(&self, rules: &[Value]) -> i64 {
        let mut by_redemption: BTreeMap<&str, Ratio> = BTreeMap::new();
        for point in &self.points {
            if let At::Redeemed(redemption) = &point.at {
                let value = &rules[point.version]["redeem"]["value"];
                *by_redemption.entry(redemption).or_insert_with(|| whole_number(0)) += ratio(&value["amount"]) * whole_number(100) / ratio(&value["points"]);
            }
        }
        by_redemption.values().map(|cents| rounded(cents, "half_even")).sum()
    }

    /// When and by which version a redemption takes effect, and the points that it may take.
    pub(super) fn spending(&self, points: i64, occurred_us: Option<i64>, now_us: i64, rules: &[Value]) -> Result<(i64, usize, Vec<usize>), &'static str> {
        let Some(us) = occurred_us else {
            let version = in_force(rules, now_us).unwrap_or(0);
            self.spending_or()?;
            let all = self.in_order(|point| point.at == At::Available);
            return check_points(points, all.len(), &rules[version]).map(|()| (now_us, version, all));
        };
        if self.status == Status::Unopened {
            return Err("account_not_found");
        }
        let version = in_force(rules, us.min(now_us)).ok_or("no_rulebook_in_force")?;
        self.spending_or()?;
        if us > now_us + 5 * MINUTE_US {
            return Err("occurred_in_future");
        }
        if now_us > us + number(&rules[version]["redeem"]["offline_minutes"]) * MINUTE_US {
            return Err("told_too_late");
        }
        let all = self.in_order(|point| {
            let was_there = point.came_us.max(point.matures_us) <= us && self.back_us.get(&point.lot).is_none_or(|back_us| *back_us <= us);
            matches!(point.at, At::Available | At::Lapsed) && was_there && point.lost_us().is_none_or(|lost_us| lost_us > us)
        });
        check_points(points, all.len(), &rules[version]).map(|()| (us.min(now_us), version, all))
    }

    pub(super) fn spent(&mut self, redemption: &str, now_us: i64, rules: &Value) {
        let until = plus_days(now_us, number(&rules["return"]["window_days"]), rules);
        self.redemptions.entry(redemption.to_owned()).or_default();
        self.spent_until.insert(redemption.to_owned(), until);
    }

    pub(super) fn no_hold(&self, redemption: &str) -> &'static str {
        if self.redemptions.contains_key(redemption) { "hold_not_found" } else { "redemption_not_found" }
    }

    pub(super) fn capture(&mut self, redemption: &str, points: Option<i64>, now_us: i64, version: usize, rules: &Value) -> Result<(), &'static str> {
        self.spending_or()?;
        if !self.holds.iter().any(|hold| hold.redemption == redemption) {
            return Err(self.no_hold(redemption));
        }
        let mut held: Vec<usize> = (0..self.points.len()).filter(|i| self.points[*i].at == At::Held(redemption.to_owned())).collect();
        let points = points.unwrap_or(held.len() as i64);
        if points > held.len() as i64 {
            return Err("capture_exceeds_hold");
        }
        self.active(now_us, rules);
        held.sort_by_key(|i| self.points[*i].taken);
        for i in held.into_iter().take(usize::try_from(points).unwrap_or(0)) {
            self.takes += 1;
            (self.points[i].at, self.points[i].taken, self.points[i].version) = (At::Redeemed(redemption.to_owned()), self.takes, version);
        }
        if self.count(|point| point.at == At::Held(redemption.to_owned())) == 0 {
            self.holds.retain(|hold| hold.redemption != redemption);
        }
        self.spent(redemption, now_us, rules);
        Ok(())
    }

    pub(super) fn undo(&mut self, redemption: &str, points: Option<i64>, now_us: i64) -> Result<(), &'static str> {
        self.open_or()?;
        let Some(until) = self.spent_until.get(redemption) else {
            return Err(match self.redemptions.get(redemption) {
                Some(_) if self.holds.iter().any(|hold| hold.redemption == redemption) => "return_exceeds_redemption",
                Some(_) => "outside_return_window",
                None => "redemption_not_found",
            });
        };
        if now_us > *until {
            return Err("outside_return_window");
        }
        let mut spent: Vec<usize> = (0..self.points.len()).filter(|i| self.points[*i].at == At::Redeemed(redemption.to_owned())).collect();
        let points = points.unwrap_or(spent.len() as i64);
        if points > spent.len() as i64 || points == 0 {
            return Err("return_exceeds_redemption");
        }
        spent.sort_by_key(|i| std::cmp::Reverse(self.points[*i].taken));
        spent.truncate(usize::try_from(points).unwrap_or(0));
        self.come_back(&spent, now_us, now_us);
        Ok(())
    }
}

fn check_points(points: i64, available: usize, rules: &Value) -> Result<(), &'static str> {
    if points < number(&rules["redeem"]["minimum"]) {
        return Err("below_minimum");
    }
    if points % number(&rules["redeem"]["multiple_of"]) != 0 {
        return Err("not_a_multiple");
    }
    if points > available as i64 { Err("insufficient_points") } else { Ok(()) }
}
