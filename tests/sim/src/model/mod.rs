//! The reference: one account as a heap of single points, and nothing clever. It shares no code with the core. Where the core keeps sums,
//! this counts; where the core re-rates a purchase, this rates the goods that are left from the beginning.

mod by_hand;
mod goods;
mod spend;

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde_json::Value;

use crate::plan::{BackSpec, LineSpec, MINUTE_US};
use crate::rules::{Ratio, booked_us, effective_us, expiry, in_force, plus_days};

/// What an account has, as the book's records say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Has {
    pub available: i64,
    pub pending: i64,
    pub held: i64,
    pub owed: i64,
    pub earned: i64,
    pub lapsed: i64,
}

/// A command with all that it refers to by name.
#[derive(Clone, Debug)]
pub enum Deed {
    Open,
    Activate,
    Freeze,
    Unfreeze,
    Close,
    Earn { id: String, occurred_us: i64, lines: Vec<LineSpec>, currency: &'static str, shipping: i64 },
    Redeem { id: String, points: i64, occurred_us: Option<i64> },
    Hold { id: String, points: i64, minutes: u32, occurred_us: Option<i64> },
    Capture { redemption: String, points: Option<i64> },
    Release { redemption: String },
    Undo { redemption: String, points: Option<i64> },
    Return { purchase: String, occurred_us: i64, back: BackSpec },
    Refund { occurred_us: i64, thousandths: i64 },
    Adjust { points: i64 },
    Propose { id: String, maker: &'static str, points: i64 },
    Approve { proposal: String, checker: &'static str },
    Decline { proposal: String },
    AddAlias(u8),
    RemoveAlias(u8),
}

#[derive(Clone, Debug, PartialEq)]
enum At {
    Pending,
    Available,
    Held(String),
    Redeemed(String),
    /// Lost, and not booked so yet.
    Lapsed,
    Expired,
    Gone,
}

#[derive(Clone, Debug)]
struct Point {
    lot: usize,
    purchase: Option<String>,
    earned_us: i64,
    /// When it came to be there: as it was earned, but no later than it was booked.
    came_us: i64,
    matures_us: i64,
    expires_us: Option<i64>,
    at: At,
    taken: usize,
    /// The version of the rulebook that spent it.
    version: usize,
}

#[derive(Clone)]
pub struct Bought {
    occurred_us: i64,
    pub lines: Vec<LineSpec>,
    /// What of each line is kept, in thousandths.
    pub kept: Vec<i64>,
    pub money_back: i64,
    shipping: i64,
    shipping_back: i64,
    version: usize,
    pub multiplier: Ratio,
    pub tier: usize,
    day: Date,
    /// How many purchases were booked before it.
    order: usize,
    /// What it counts towards a tier: points, millionths of spend, purchases.
    counts: [i64; 3],
    /// What it may earn at most, where it gave nothing and has no lot for more.
    most: Option<i64>,
    /// What it keeps of them under the caps though its goods are back, as what others would get instead has no lot to go to.
    stays: Option<i64>,
    lot: Option<usize>,
    /// How many of its points that are lost were counted as taken.
    counted: i64,
    until_us: i64,
}

impl Point {
    fn lost_us(&self) -> Option<i64> {
        self.expires_us.map(|us| us.max(self.earned_us))
    }
}

/// What a lot was made with; its expiry moves with activity, if it does.
#[derive(Clone)]
struct Lot {
    purchase: Option<String>,
    earned_us: i64,
    matures_us: i64,
    expires_us: Option<i64>,
    is_pending: bool,
    moves: bool,
}

#[derive(Clone)]
struct Hold {
    redemption: String,
    lapses_us: i64,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
enum Status {
    #[default]
    Unopened,
    Pending,
    Active,
    Closed,
}

#[derive(Clone, Default)]
pub struct Model {
    points: Vec<Point>,
    purchases: BTreeMap<String, Bought>,
    redemptions: BTreeMap<String, i64>,
    /// Until when what was spent can come back.
    spent_until: BTreeMap<String, i64>,
    holds: Vec<Hold>,
    lots: Vec<Lot>,
    /// Whether it was not used for so long that it sleeps.
    pub asleep: bool,
    /// When points last came back, by lot.
    back_us: BTreeMap<usize, i64>,
    takes: usize,
    owed: i64,
    shortfall: i64,
    earned: i64,
    status: Status,
    frozen: bool,
    last_activity_us: i64,
    aliases: Vec<u8>,
    proposals: Vec<(String, &'static str, i64)>,
    tier: usize,
    tier_since_us: i64,
    tiers_before: Vec<(i64, usize)>,
    /// The purchases that reached the tier; none if it is the entry tier or held by grace.
    tier_by: Option<Vec<String>>,
    review_us: Option<i64>,
    /// When the tier was reached or left by a return, and how many reviews have come since.
    reached_us: i64,
    reviews: i64,
}

impl Model {
    fn count(&self, is: impl Fn(&Point) -> bool) -> i64 {
        self.points.iter().filter(|point| is(point)).count() as i64
    }

    pub fn has(&self) -> Has {
        Has {
            available: self.count(|point| matches!(point.at, At::Available | At::Lapsed)),
            lapsed: self.count(|point| point.at == At::Lapsed),
            pending: self.count(|point| point.at == At::Pending),
            held: self.count(|point| matches!(point.at, At::Held(_))),
            owed: self.owed,
            earned: self.earned,
        }
    }

    fn in_order(&self, is: impl Fn(&Point) -> bool) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.points.len()).filter(|i| is(&self.points[*i])).collect();
        all.sort_by_key(|i| {
            let point = &self.points[*i];
            (point.expires_us.is_none(), point.expires_us, point.earned_us, point.lot)
        });
        all
    }

    fn kept(point: &Point) -> bool {
        matches!(point.at, At::Pending | At::Available)
    }

    /// Kept at `us`, which may be before it was lost.
    fn alive(point: &Point, us: i64) -> bool {
        Self::kept(point) || point.at == At::Lapsed && point.lost_us().is_some_and(|lost_us| lost_us > us)
    }

    fn pay(&mut self, us: i64, restored: Option<i64>) {
        for i in self.in_order(|point| Self::alive(point, us)).into_iter().take(usize::try_from(self.owed).unwrap_or(0)) {
            self.points[i].at = At::Gone;
            self.owed -= 1;
        }
        let due = restored.map_or(0, |restored| self.shortfall.min(restored));
        for i in self.in_order(|point| Self::alive(point, us)).into_iter().take(usize::try_from(due).unwrap_or(0)) {
            self.points[i].at = At::Gone;
            self.shortfall -= 1;
        }
    }

    /// Lets `points` come back at `us`: they pay what is owed, and those of lots that are lost by `lost_by_us` are lost as they come.
    fn come_back(&mut self, points: &[usize], us: i64, lost_by_us: i64) {
        let lots: Vec<usize> = points.iter().map(|i| self.points[*i].lot).collect();
        let is_lost = |point: &Point| lots.contains(&point.lot) && point.lost_us().is_some_and(|lost_us| lost_us <= lost_by_us);
        self.points.iter_mut().filter(|point| point.at == At::Lapsed && is_lost(point)).for_each(|point| point.at = At::Expired);
        points.iter().for_each(|i| self.points[*i].at = At::Available);
        self.back_us.extend(lots.iter().map(|lot| (*lot, us)));
        self.pay(lost_by_us, Some(points.len() as i64));
        self.points.iter_mut().filter(|point| point.at == At::Available && is_lost(point)).for_each(|point| point.at = At::Expired);
    }

    fn take(&mut self, n: i64, to: &At, version: usize) {
        let all = self.in_order(|point| point.at == At::Available);
        self.take_of(all, n, to, version);
    }

    fn take_of(&mut self, all: Vec<usize>, n: i64, to: &At, version: usize) {
        for i in all.into_iter().take(usize::try_from(n).unwrap_or(0)) {
            self.takes += 1;
            (self.points[i].at, self.points[i].taken, self.points[i].version) = (to.clone(), self.takes, version);
        }
    }

    /// Lets the clock go to `now`, moment by moment.
    pub fn tick(&mut self, now_us: i64, rules: &[Value]) {
        while let Some(at_us) = self.review_us.filter(|at_us| *at_us <= now_us && self.status != Status::Closed) {
            self.moments(at_us, rules);
            self.review(at_us, rules);
        }
        self.moments(now_us, rules);
        self.asleep |= self.status == Status::Active && !self.frozen && self.sleeps_by(now_us, rules);
    }

    /// Whether the time without activity of some version was over by `now` while that version was in force.
    fn sleeps_by(&self, now_us: i64, rules: &[Value]) -> bool {
        rules.iter().enumerate().any(|(version, rulebook)| {
            let Some(days) = rulebook["accounts"]["inactive_after"]["days"].as_i64() else { return false };
            let us = plus_days(self.last_activity_us, days, rulebook).max(effective_us(rulebook));
            us <= now_us && in_force(rules, us) == Some(version)
        })
    }

    fn moments(&mut self, now_us: i64, rules: &[Value]) {
        let mut booked: BTreeMap<i64, i64> = BTreeMap::new();
        for lost_us in self.points.iter().filter_map(Point::lost_us) {
            booked.entry(lost_us).or_insert_with(|| booked_us(lost_us, rules));
        }
        let mut times: Vec<i64> = self.points.iter().map(|point| point.matures_us).collect();
        times.extend(booked.iter().flat_map(|(lost_us, booked_us)| [*lost_us, *booked_us]));
        times.extend(self.holds.iter().map(|hold| hold.lapses_us));
        times.push(now_us);
        times.retain(|time| *time <= now_us);
        times.sort_unstable();
        times.dedup();
        for time in times {
            for point in self.points.iter_mut().filter(|point| point.at == At::Pending && point.matures_us <= time) {
                point.at = At::Available;
            }
            // Of holds that lapse at one moment the one with the lesser id comes first.
            let mut lapsed: Vec<String> = self.holds.iter().filter(|hold| hold.lapses_us <= time).map(|hold| hold.redemption.clone()).collect();
            lapsed.sort();
            for redemption in lapsed {
                self.holds.retain(|hold| hold.redemption != redemption);
                self.release(&redemption, time, time - 1);
            }
            let is_closed = self.status == Status::Closed;
            for point in self.points.iter_mut().filter(|point| point.lost_us().is_some_and(|lost_us| lost_us <= time)) {
                let is_booked = is_closed || point.lost_us().is_some_and(|lost_us| booked[&lost_us] <= time);
                match point.at {
                    At::Pending => point.at = At::Expired,
                    At::Available | At::Lapsed => point.at = if is_booked { At::Expired } else { At::Lapsed },
                    _ => {}
                }
            }
        }
    }

    fn release(&mut self, redemption: &str, us: i64, lost_by_us: i64) {
        let held: Vec<usize> = (0..self.points.len()).filter(|i| self.points[*i].at == At::Held(redemption.to_owned())).collect();
        self.come_back(&held, us, lost_by_us);
    }

    /// Does `deed` at `now`, when `rules` have been published; an error is the refusal's code.
    pub fn act(&mut self, deed: &Deed, now_us: i64, rules: &[Value]) -> Result<(), &'static str> {
        self.tick(now_us, rules);
        let last_us = self.last_activity_us;
        let outcome = self.do_it(deed, now_us, rules);
        if outcome.is_ok() && (is_activity(deed) || self.last_activity_us > last_us) {
            self.asleep &= self.sleeps_by(now_us, rules);
        }
        self.tick(now_us, rules);
        outcome
    }

    fn open_or(&self) -> Result<(), &'static str> {
        match self.status {
            Status::Unopened => Err("account_not_found"),
            Status::Closed => Err("account_closed"),
            _ => Ok(()),
        }
    }

    fn spending_or(&self) -> Result<(), &'static str> {
        self.open_or()?;
        match (self.frozen, self.status) {
            (true, _) => Err("account_frozen"),
            (_, Status::Pending) => Err("account_pending"),
            _ => Ok(()),
        }
    }

    fn do_it(&mut self, deed: &Deed, now_us: i64, rules: &[Value]) -> Result<(), &'static str> {
        let version = in_force(rules, now_us).unwrap_or(0);
        let current = &rules[version];
        match deed {
            Deed::Open if self.status != Status::Unopened => return Err("account_exists"),
            Deed::Open => self.open(now_us, current),
            Deed::Activate => {
                self.open_or()?;
                match (self.frozen, self.status) {
                    (true, _) => return Err("account_frozen"),
                    (_, Status::Pending) => self.status = Status::Active,
                    _ => return Err("account_not_pending"),
                }
            }
            Deed::Freeze => {
                self.open_or()?;
                if std::mem::replace(&mut self.frozen, true) {
                    return Err("account_frozen");
                }
            }
            Deed::Unfreeze => {
                self.open_or()?;
                if !std::mem::replace(&mut self.frozen, false) {
                    return Err("account_not_frozen");
                }
            }
            Deed::Close => self.close(now_us, current)?,
            Deed::Earn { id, occurred_us, lines, currency, shipping } => {
                self.earn(id, *occurred_us, lines, currency, now_us, rules)?;
                self.purchases.get_mut(id).expect("just bought").shipping = *shipping;
            }
            Deed::Redeem { id, points, occurred_us } => {
                let (us, version, all) = self.spending(*points, *occurred_us, now_us, rules)?;
                self.active(us, current);
                self.take_of(all, *points, &At::Redeemed(id.clone()), version);
                self.spent(id, us, &rules[version]);
            }
            Deed::Hold { id, points, minutes, occurred_us } => {
                let (us, version, all) = self.spending(*points, *occurred_us, now_us, rules)?;
                self.active(us, current);
                self.take_of(all, *points, &At::Held(id.clone()), version);
                self.holds.push(Hold { redemption: id.clone(), lapses_us: us + i64::from(*minutes) * MINUTE_US });
                self.redemptions.insert(id.clone(), 0);
            }
            Deed::Capture { redemption, points } => self.capture(redemption, *points, now_us, version, current)?,
            Deed::Release { redemption } => {
                self.open_or()?;
                let hold = self.holds.iter().position(|hold| hold.redemption == *redemption).ok_or_else(|| self.no_hold(redemption))?;
                self.holds.remove(hold);
                self.release(redemption, now_us, now_us);
            }
            Deed::Undo { redemption, points } => self.undo(redemption, *points, now_us)?,
            Deed::Return { purchase, occurred_us, back } => self.give_back(purchase, *occurred_us, back, now_us, rules)?,
            Deed::Refund { occurred_us, thousandths } => self.refund(*occurred_us, *thousandths, now_us, rules)?,
            Deed::Adjust { points } => self.adjust(*points, now_us, current)?,
            Deed::Propose { .. } | Deed::Approve { .. } | Deed::Decline { .. } => self.by_two(deed, now_us, current)?,
            Deed::AddAlias(alias) => {
                self.open_or()?;
                if self.aliases.contains(alias) {
                    return Err("alias_exists");
                }
                self.aliases.push(*alias);
            }
            Deed::RemoveAlias(alias) => {
                self.open_or()?;
                let i = self.aliases.iter().position(|other| other == alias).ok_or("alias_not_found")?;
                self.aliases.remove(i);
            }
        }
        Ok(())
    }

    fn open(&mut self, at_us: i64, rules: &Value) {
        self.status = if rules["accounts"]["activation_required"] == true { Status::Pending } else { Status::Active };
        self.last_activity_us = at_us;
        self.tier_since_us = at_us;
    }

    fn close(&mut self, now_us: i64, rules: &Value) -> Result<(), &'static str> {
        self.open_or()?;
        let has = self.has();
        let on_close = rules["accounts"]["on_close"].as_str().unwrap_or("forfeit");
        if on_close == "refuse" && has.available - has.lapsed + has.pending + has.held > 0 {
            return Err("balance_not_zero");
        }
        for hold in std::mem::take(&mut self.holds) {
            self.release(&hold.redemption, now_us, now_us);
        }
        self.points.iter_mut().filter(|point| point.at == At::Lapsed).for_each(|point| point.at = At::Expired);
        if on_close == "forfeit" {
            self.points.iter_mut().filter(|point| Self::kept(point)).for_each(|point| point.at = At::Gone);
        }
        self.status = Status::Closed;
        Ok(())
    }

    /// A purchase or redemption puts off what expires for want of activity.
    fn active(&mut self, at_us: i64, rules: &Value) {
        let follows = |point: &Point| self.lots[point.lot].moves;
        let has_points = self.count(|point| follows(point) && (Self::alive(point, at_us) || matches!(point.at, At::Held(_)))) > 0;
        // What is told of later brings nothing back that was lost meanwhile.
        let comes_back = self.count(|point| follows(point) && point.at == At::Lapsed && Self::alive(point, at_us)) > 0;
        if !comes_back && at_us > self.last_activity_us && has_points && rules["expiry"]["mode"] == "inactivity" {
            let (expires, lots) = (expiry(rules, at_us, at_us), &mut self.lots);
            // Those that were lost before it stay lost, and are booked so.
            let is_lost = |point: &Point| point.lost_us().is_some_and(|lost_us| lost_us <= at_us);
            self.points.iter_mut().filter(|point| lots[point.lot].moves && point.at == At::Lapsed && is_lost(point)).for_each(|point| point.at = At::Expired);
            lots.iter_mut().filter(|lot| lot.moves).for_each(|lot| lot.expires_us = lot.expires_us.max(expires));
            let open = |point: &&mut Point| matches!(point.at, At::Pending | At::Available | At::Held(_) | At::Redeemed(_));
            let moving = self.points.iter_mut().filter(|point| lots[point.lot].moves).filter(open);
            moving.for_each(|point| point.expires_us = point.expires_us.max(expires));
        }
        self.last_activity_us = self.last_activity_us.max(at_us);
    }

    /// Gives `n` points in a lot of their own; tells which, if there are any.
    fn give(&mut self, n: i64, now_us: i64, lot: Lot) -> Option<usize> {
        let at = if lot.is_pending { At::Pending } else { At::Available };
        self.lots.push(lot);
        self.put(n, self.lots.len() - 1, now_us, &at);
        (n > 0).then_some(self.lots.len() - 1)
    }

    /// Puts `n` points into `lot`.
    fn put(&mut self, n: i64, lot: usize, now_us: i64, at: &At) {
        let Lot { purchase, earned_us, matures_us, expires_us, .. } = self.lots[lot].clone();
        let point = Point { lot, purchase, earned_us, came_us: earned_us.min(now_us), matures_us, expires_us, at: at.clone(), taken: 0, version: 0 };
        self.points.extend(std::iter::repeat_n(point, usize::try_from(n).unwrap_or(0)));
    }
}

fn is_activity(deed: &Deed) -> bool {
    matches!(deed, Deed::Redeem { .. } | Deed::Hold { .. } | Deed::Capture { .. } | Deed::Earn { .. })
}
