//! Purchases and their returns, caps and tiers.

use std::collections::BTreeMap;

use jiff::civil::Date;
use num_traits::{ToPrimitive, Zero};
use serde_json::Value;

use super::{At, Bought, Lot, Model, Point, Status};
use crate::plan::{BackSpec, DAY_US, LineSpec, MINUTE_US};
use crate::rules::{Ratio, expiry, in_force, level, number, paid, plus_days, plus_months, rate, ratio, unit, whole_number, zoned};

impl Model {
    pub(super) fn earn(&mut self, id: &str, occurred_us: i64, lines: &[LineSpec], currency: &str, now_us: i64, rules: &[Value]) -> Result<(), &'static str> {
        let current = &rules[in_force(rules, now_us).unwrap_or(0)];
        if self.status == Status::Unopened && current["accounts"]["open_on_earn"] == false {
            return Err("account_not_found");
        }
        let version = in_force(rules, occurred_us.min(now_us)).ok_or("no_rulebook_in_force")?;
        if self.status == Status::Closed {
            return Err("account_closed");
        }
        if self.frozen {
            return Err("account_frozen");
        }
        if occurred_us > now_us + 5 * MINUTE_US {
            return Err("occurred_in_future");
        }
        if currency != "EUR" {
            return Err("currency_mismatch");
        }
        let rated = &rules[version];
        let tier = self.tier_at(occurred_us);
        if self.status == Status::Unopened {
            self.open(occurred_us.min(now_us), current);
        }
        self.active(occurred_us.min(now_us), current);
        self.last_activity_us = self.last_activity_us.max(occurred_us);
        let multiplier = rated["tiers"]["levels"][tier].get("multiplier").map_or_else(|| whole_number(1), ratio);
        let bought = Bought {
            occurred_us,
            lines: lines.to_vec(),
            kept: lines.iter().map(|line| line.quantity).collect(),
            money_back: 0,
            shipping: 0,
            shipping_back: 0,
            version,
            multiplier,
            tier,
            day: zoned(occurred_us.min(now_us), rated).date(),
            order: self.purchases.len(),
            counts: [0; 3],
            most: None,
            stays: None,
            lot: None,
            counted: 0,
            until_us: plus_days(occurred_us, number(&rated["return"]["window_days"]), rated),
        };
        let before = self.granted(rules);
        let (uncapped, spend) = rate(&bought, rated);
        self.purchases.insert(id.to_owned(), bought);
        let points = self.granted(rules) - before;
        self.earned += points;
        let pending_days = number(&rated["earn"]["pending_days"]);
        let matures_us = if pending_days == 0 { occurred_us } else { plus_days(occurred_us, pending_days, rated) };
        let expires_us = expiry(rated, occurred_us, self.last_activity_us.max(occurred_us));
        let (is_pending, moves) = (pending_days > 0, rated["expiry"]["mode"] == "inactivity");
        let lot = self.give(points, now_us, Lot { purchase: Some(id.to_owned()), earned_us: occurred_us, matures_us, expires_us, is_pending, moves });
        let bought = self.purchases.get_mut(id).expect("just bought");
        (bought.lot, bought.counts) = (lot, [points, spend, 1]);
        bought.most = lot.is_none().then_some(uncapped);
        self.pay(occurred_us, None);
        let counts = self.counting(now_us, current);
        let reached = level(current, self.counted(&counts));
        if reached > self.tier {
            self.reach(occurred_us.min(now_us).max(self.tier_since_us));
            self.move_tier(reached, self.reached_us, Some(counts), current);
        }
        Ok(())
    }

    /// The tier's name, and when it is reviewed.
    pub fn tier(&self) -> (&'static str, Option<i64>) {
        (["member", "silver", "gold"][self.tier], self.review_us)
    }

    /// The purchases in the window that ends at `us`.
    fn counting(&self, us: i64, rules: &Value) -> Vec<String> {
        let counts = |occurred_us: i64| match rules["tiers"]["window"].as_str() {
            Some("calendar_year") => zoned(occurred_us, rules).year() >= zoned(us, rules).year(),
            Some("rolling_12_months") => occurred_us > plus_months(us, -12, rules),
            _ => true,
        };
        self.purchases.iter().filter(|(_, bought)| counts(bought.occurred_us)).map(|(id, _)| id.clone()).collect()
    }

    fn counted(&self, purchases: &[String]) -> [i64; 3] {
        let all = purchases.iter().map(|id| self.purchases[id].counts);
        all.fold([0; 3], |sum, more| [0, 1, 2].map(|i| sum[i] + more[i]))
    }

    /// From here on the years to reviews are counted.
    fn reach(&mut self, us: i64) {
        (self.reached_us, self.reviews) = (us, 0);
    }

    /// To a tier that `by` has reached, or to one by grace.
    fn move_tier(&mut self, to: usize, at_us: i64, by: Option<Vec<String>>, rules: &Value) {
        if to != self.tier {
            self.tiers_before.push((self.tier_since_us, self.tier));
            (self.tier, self.tier_since_us) = (to, at_us);
        }
        self.tier_by = by.filter(|_| to > 0);
        self.review_us = (to > 0 && rules["tiers"]["downgrade"] != "never").then(|| plus_months(self.reached_us, 12 * (self.reviews + 1), rules));
    }

    pub(super) fn review(&mut self, at_us: i64, rules: &[Value]) {
        let rules = &rules[in_force(rules, at_us).unwrap_or(0)];
        // What reached the tier on 29 February does not count again on 28 February a year later.
        let is_anniversary = plus_months(self.reached_us, 12 * (self.reviews + 1), rules) == at_us;
        let mut counts = self.counting(at_us, rules);
        if is_anniversary && rules["tiers"]["window"] == "rolling_12_months" {
            let last_us = plus_months(self.reached_us, 12 * self.reviews, rules);
            counts.retain(|id| self.purchases[id].occurred_us > last_us);
        }
        let reached = level(rules, self.counted(&counts));
        let to = match rules["tiers"]["downgrade"].as_str() {
            _ if reached >= self.tier => self.tier,
            Some("one_level") => self.tier - 1,
            _ => reached,
        };
        self.reviews += 1;
        self.move_tier(to, at_us, (reached >= to).then_some(counts), rules);
    }

    fn tier_at(&self, us: i64) -> usize {
        if self.status == Status::Unopened {
            return 0;
        }
        if self.tier_since_us <= us {
            return self.tier;
        }
        let had = self.tiers_before.iter().rev().find(|(since, _)| *since <= us);
        had.or(self.tiers_before.first()).map_or(self.tier, |(_, tier)| *tier)
    }

    /// What all goods kept have earned together, one purchase after the other, each as far as the caps of its rulebook leave room.
    fn granted(&self, rules: &[Value]) -> i64 {
        let mut all: Vec<&Bought> = self.purchases.values().collect();
        all.sort_by_key(|bought| bought.order);
        let (mut days, mut sum): (BTreeMap<Date, i64>, i64) = (BTreeMap::new(), 0);
        for bought in all {
            let rulebook = &rules[bought.version];
            let within = |points: i64, granted: i64, cap: &str| {
                let cap = rulebook["earn"]["caps"].get(cap).map(number);
                cap.map_or(points, |cap| points.min(cap - granted)).max(0)
            };
            let points = rate(bought, rulebook).0;
            let of_day = days.entry(bought.day).or_default();
            let points = bought.stays.unwrap_or_else(|| bought.most.map_or(points, |most| points.min(most)));
            let on_day = within(points, *of_day, "per_day");
            *of_day += on_day;
            sum += within(on_day, sum, "per_member");
        }
        sum
    }

    pub(super) fn give_back(&mut self, purchase: &str, occurred_us: i64, back: &BackSpec, now_us: i64, rules: &[Value]) -> Result<(), &'static str> {
        self.open_or()?;
        if occurred_us > now_us + 5 * MINUTE_US {
            return Err("occurred_in_future");
        }
        let Some(bought) = self.purchases.get(purchase) else { return Err("purchase_not_found") };
        // What is out of the window by 30 days is not kept any more.
        if occurred_us > bought.until_us || now_us > bought.until_us + 30 * DAY_US {
            return Err("outside_return_window");
        }
        if occurred_us < bought.occurred_us {
            return Err("return_before_purchase");
        }
        let after = bought.after(back).ok_or("return_exceeds_purchase")?;
        let before = self.granted(rules);
        // What it has under the caps so far.
        let had = bought.stays.unwrap_or_else(|| {
            let points = rate(bought, &rules[bought.version]).0;
            bought.most.map_or(points, |most| points.min(most))
        });
        let is_all = after.goods_left() <= Ratio::zero();
        let mut after = after;
        let (uncapped, spend) = rate(&after, &rules[after.version]);
        after.most = after.most.map(|most| most.min(uncapped));
        after.stays = None;
        let negative = rules[after.version]["return"]["on_shortfall"] == "negative";
        self.purchases.insert(purchase.to_owned(), after);
        let mut points = before - self.granted(rules);
        let bought = self.purchases.get_mut(purchase).expect("it was bought");
        if bought.lot.is_none() && points < 0 {
            // There is no lot that they could come to, so nobody is to lose them later.
            (bought.stays, points) = (Some(had), 0);
        }
        let us = occurred_us.min(now_us);
        // What is lost by then counts as taken, and can't be spent by what is told later.
        let is_lost = |point: &Point| point.purchase.as_deref() == Some(purchase) && point.lost_us().is_some_and(|lost_us| lost_us <= us);
        self.points.iter_mut().filter(|point| point.at == At::Lapsed && is_lost(point)).for_each(|point| point.at = At::Expired);
        if points >= 0 {
            self.claw_back(purchase, points, us, negative);
        } else {
            self.give_more(purchase, -points, us, now_us);
        }
        let counts = &mut self.purchases.get_mut(purchase).expect("it was bought").counts;
        let gone = [points, (counts[1] - spend).max(0), i64::from(is_all)];
        [0, 1, 2].into_iter().for_each(|i| counts[i] -= gone[i].min(counts[i]));
        self.lose_tier(occurred_us, now_us, &rules[in_force(rules, now_us).unwrap_or(0)]);
        Ok(())
    }

    /// What is left of the purchases that reached the tier may not reach it any more, nor those of the window.
    fn lose_tier(&mut self, occurred_us: i64, now_us: i64, rules: &Value) {
        let Some(by) = self.tier_by.clone() else { return };
        let counts = self.counting(now_us, rules);
        let by = if self.counted(&counts)[unit(rules)] > self.counted(&by)[unit(rules)] { counts } else { by };
        let supported = level(rules, self.counted(&by));
        if supported < self.tier {
            self.reach(occurred_us.max(self.tier_since_us));
            self.move_tier(supported, self.reached_us, Some(by), rules);
        }
    }

    /// What a smaller basket earns more comes to the purchase's lot, or is lost with it, and pays what is owed.
    fn give_more(&mut self, purchase: &str, n: i64, us: i64, now_us: i64) {
        let lot = self.purchases[purchase].lot.expect("without a lot it may not earn more");
        let is_own = |point: &Point| point.lot == lot;
        let is_lot_lost = self.lots[lot].expires_us.is_some_and(|expires_us| expires_us.max(self.lots[lot].earned_us) <= us);
        let lost = self.count(|point| is_own(point) && matches!(point.at, At::Expired | At::Lapsed) && !Self::alive(point, us));
        let left = self.count(|point| is_own(point) && Self::alive(point, us));
        if is_lot_lost || (left == 0 && lost > self.purchases[purchase].counted) {
            self.put(n, lot, now_us, &At::Expired);
        } else {
            let is_pending = self.lots[lot].is_pending && self.lots[lot].matures_us > now_us;
            self.put(n, lot, now_us, if is_pending { &At::Pending } else { &At::Available });
            self.back_us.insert(lot, us.min(now_us));
        }
        self.pay(us.min(now_us), None);
    }

    fn claw_back(&mut self, purchase: &str, n: i64, us: i64, negative: bool) {
        let mut left = usize::try_from(n).expect("points to take");
        let is_own = |point: &Point| point.purchase.as_deref() == Some(purchase);
        for i in self.in_order(|point| Self::alive(point, us) && is_own(point)) {
            if left > 0 {
                self.points[i].at = At::Gone;
                left -= 1;
            }
        }
        // Those that are lost count as taken, once.
        let lost = self.count(|point| is_own(point) && matches!(point.at, At::Expired | At::Lapsed) && !Self::alive(point, us));
        let bought = self.purchases.get_mut(purchase).expect("it was bought");
        let counted = (lost - bought.counted).clamp(0, left as i64);
        bought.counted += counted;
        left -= usize::try_from(counted).unwrap_or(0);
        for i in self.in_order(|point| Self::alive(point, us)).into_iter().take(left) {
            self.points[i].at = At::Gone;
            left -= 1;
        }
        *(if negative { &mut self.owed } else { &mut self.shortfall }) += left as i64;
    }
}

impl Bought {
    /// In cents, what the goods kept cost and was not given back.
    fn goods_left(&self) -> Ratio {
        paid(self) * whole_number(100) - whole_number(self.money_back)
    }

    fn all_goods_back(&mut self) {
        self.kept.fill(0);
        self.money_back = 0;
    }

    /// What is left after a refund; none where it is more than a customer can get. Receipts are rounded line by line, so the customer may get a cent
    /// more than is left, or half a cent for each line.
    fn after(&self, back: &BackSpec) -> Option<Self> {
        let lines = self.kept.iter().filter(|kept| **kept > 0).count();
        let most_more = whole_number(lines.max(2) as i64) / whole_number(2);
        let half_a_cent = whole_number(1) / whole_number(2);
        let (left, shipping_left) = (self.goods_left(), self.shipping - self.shipping_back);
        let mut after = self.clone();
        match back {
            BackSpec::Lines(lines, shipping) => {
                for (i, quantity) in lines {
                    after.kept[*i] -= quantity;
                }
                after.shipping_back += shipping.unwrap_or(0);
                let more = Ratio::zero() - after.goods_left();
                if after.kept.iter().any(|kept| *kept < 0) || more > most_more {
                    return None;
                }
                if after.money_back > 0 && -more < half_a_cent {
                    after.all_goods_back();
                }
            }
            BackSpec::Money(money, named) => {
                let most = if named.is_some() { left.clone() } else { &left + whole_number(shipping_left) };
                let goods_and_more = whole_number(*money - named.unwrap_or(0));
                if &goods_and_more - &most > if most > Ratio::zero() { most_more } else { Ratio::zero() } {
                    return None;
                }
                // Of money that is not told apart the whole cents beyond the goods are the shipping's.
                let beyond = (&goods_and_more - &left).floor().to_integer().to_i64()?.clamp(0, shipping_left);
                let shipping = named.unwrap_or(beyond);
                after.shipping_back += shipping;
                let goods = *money - shipping;
                if goods > 0 && &left - whole_number(goods) < half_a_cent {
                    after.all_goods_back();
                } else {
                    after.money_back += goods;
                }
            }
        }
        (after.shipping_back <= after.shipping).then_some(after)
    }
}
