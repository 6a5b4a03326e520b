//! Random commands against a naive model: every point is a thing of its own, and nothing is clever.

use ledger_core::account::Rejection;
use ledger_core::account::command::{Action, Return, Returned};
use ledger_core::posting::Bucket;
use ledger_core::time::{DAY_US, MINUTE_US, Moment};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Book, amount, at, id, purchase, why};

#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Pending,
    Available,
    Held(usize),
    Redeemed(usize),
    Expired { counted: bool },
    Gone,
}

#[derive(Clone, Debug)]
struct Point {
    lot: usize,
    purchase: Option<usize>,
    earned: Moment,
    matures: Moment,
    expires: Option<Moment>,
    at: At,
    taken: usize,
}

struct Hold {
    redemption: usize,
    lapses: Moment,
}

/// The account as a heap of points.
#[derive(Default)]
struct Model {
    points: Vec<Point>,
    holds: Vec<Hold>,
    lots: usize,
    takes: usize,
    owed: i64,
    shortfall: i64,
    negative: bool,
}

impl Model {
    fn count(&self, is: impl Fn(&Point) -> bool) -> i64 {
        self.points.iter().filter(|point| is(point)).count() as i64
    }

    fn available(&self) -> i64 {
        self.count(|point| point.at == At::Available)
    }

    /// The indices of the points that `is` holds for, in the order in which they are spent.
    fn in_order(&self, is: impl Fn(&Point) -> bool) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.points.len()).filter(|i| is(&self.points[*i])).collect();
        all.sort_by_key(|i| (self.points[*i].expires.is_none(), self.points[*i].expires, self.points[*i].earned, self.points[*i].lot));
        all
    }

    fn give(&mut self, n: i64, purchase: Option<usize>, earned: Moment, pending_days: i64, expires: Option<Moment>) {
        let matures = earned.plus_micros(pending_days * DAY_US);
        let state = if pending_days > 0 && purchase.is_some() { At::Pending } else { At::Available };
        self.lots += usize::from(n > 0);
        for _ in 0..n {
            self.points.push(Point { lot: self.lots, purchase, earned, matures, expires, at: state, taken: 0 });
        }
        self.pay(n, true);
    }

    fn kept(point: &Point) -> bool {
        matches!(point.at, At::Pending | At::Available)
    }

    fn pay(&mut self, restored: i64, owed_only: bool) {
        for i in self.in_order(Self::kept).into_iter().take(self.owed as usize) {
            self.points[i].at = At::Gone;
            self.owed -= 1;
        }
        let due = if owed_only { 0 } else { self.shortfall.min(restored) };
        for i in self.in_order(Self::kept).into_iter().take(due as usize) {
            self.points[i].at = At::Gone;
            self.shortfall -= 1;
        }
    }

    fn take(&mut self, n: i64, to: At) {
        for i in self.in_order(|point| point.at == At::Available).into_iter().take(n as usize) {
            self.takes += 1;
            (self.points[i].at, self.points[i].taken) = (to, self.takes);
        }
    }

    fn tick(&mut self, now: Moment) {
        let mut times: Vec<Moment> = self.points.iter().flat_map(|point| [Some(point.matures), point.expires]).flatten().collect();
        times.extend(self.holds.iter().map(|hold| hold.lapses));
        times.push(now);
        times.retain(|time| *time <= now);
        times.sort();
        for time in times {
            for point in self.points.iter_mut().filter(|point| point.at == At::Pending && point.matures <= time) {
                point.at = At::Available;
            }
            while let Some(i) = self.holds.iter().position(|hold| hold.lapses <= time) {
                self.release(i);
            }
            for point in self.points.iter_mut().filter(|point| Self::kept(point) && point.expires.is_some_and(|at| at <= time)) {
                point.at = At::Expired { counted: false };
            }
        }
    }

    fn release(&mut self, hold: usize) {
        let redemption = self.holds.remove(hold).redemption;
        let held = self.count(|point| point.at == At::Held(redemption));
        for point in self.points.iter_mut().filter(|point| point.at == At::Held(redemption)) {
            point.at = At::Available;
        }
        self.pay(held, false);
    }

    fn claw_back(&mut self, purchase: usize, n: i64) {
        let mut left = n as usize;
        let own = self.in_order(|point| Self::kept(point) && point.purchase == Some(purchase));
        let expired = self.in_order(|point| point.purchase == Some(purchase) && point.at == At::Expired { counted: false });
        for i in own.into_iter().take(left) {
            self.points[i].at = At::Gone;
            left -= 1;
        }
        for i in expired.into_iter().take(left) {
            self.points[i].at = At::Expired { counted: true };
            left -= 1;
        }
        for i in self.in_order(Self::kept).into_iter().take(left) {
            self.points[i].at = At::Gone;
            left -= 1;
        }
        *(if self.negative { &mut self.owed } else { &mut self.shortfall }) += left as i64;
    }

    fn restore(&mut self, redemption: usize, n: i64) {
        let mut spent: Vec<usize> = (0..self.points.len()).filter(|i| self.points[*i].at == At::Redeemed(redemption)).collect();
        spent.sort_by_key(|i| std::cmp::Reverse(self.points[*i].taken));
        for i in spent.into_iter().take(n as usize) {
            self.points[i].at = At::Available;
        }
        self.pay(n, false);
    }

    fn capture(&mut self, redemption: usize, n: i64) {
        let mut held: Vec<usize> = (0..self.points.len()).filter(|i| self.points[*i].at == At::Held(redemption)).collect();
        held.sort_by_key(|i| self.points[*i].taken);
        for i in held.into_iter().take(n as usize) {
            self.takes += 1;
            (self.points[i].at, self.points[i].taken) = (At::Redeemed(redemption), self.takes);
        }
        if self.count(|point| point.at == At::Held(redemption)) == 0 {
            self.holds.retain(|hold| hold.redemption != redemption);
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Buy { late_days: i64, quantity: i64, pence: i64 },
    Redeem(i64),
    Hold { points: i64, minutes: u32 },
    Capture { which: usize, points: i64 },
    Release(usize),
    GiveBack { which: usize, quantity: i64 },
    Undo { which: usize, points: i64 },
    Adjust(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_i64..60_000).prop_map(Step::Wait),
        4 => (0_i64..20, 1_i64..4, 1_i64..900).prop_map(|(late_days, quantity, pence)| Step::Buy { late_days, quantity, pence }),
        3 => (1_i64..20).prop_map(Step::Redeem),
        2 => (1_i64..20, 1_u32..60_000).prop_map(|(points, minutes)| Step::Hold { points, minutes }),
        2 => (0_usize..8, 1_i64..15).prop_map(|(which, points)| Step::Capture { which, points }),
        1 => (0_usize..8).prop_map(Step::Release),
        3 => (0_usize..8, 1_i64..3).prop_map(|(which, quantity)| Step::GiveBack { which, quantity }),
        2 => (0_usize..8, 1_i64..15).prop_map(|(which, points)| Step::Undo { which, points }),
        1 => prop_oneof![-15_i64..0, 1_i64..15].prop_map(Step::Adjust),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The two side by side.
struct Pair {
    book: Book,
    model: Model,
    pending_days: i64,
    expiry_days: Option<i64>,
    /// Quantity kept and unit price in pence, by purchase.
    purchases: Vec<(i64, i64)>,
    redemptions: usize,
    asked: usize,
}

impl Pair {
    fn expires(&self, from: Moment) -> Option<Moment> {
        self.expiry_days.map(|days| from.plus_micros(days * DAY_US))
    }

    fn name(&mut self) -> String {
        self.asked += 1;
        format!("x{}", self.asked)
    }

    fn step(&mut self, step: &Step) {
        self.model.tick(self.book.now);
        match *step {
            Step::Wait(minutes) => {
                self.book.now = self.book.now.plus_micros(minutes * MINUTE_US);
                self.book.due();
            }
            Step::Buy { late_days, quantity, pence } => {
                let occurred_at = self.book.now.plus_micros(-late_days * DAY_US);
                let n = self.purchases.len();
                let price = format!("{}.{:02}", pence / 100, pence % 100);
                let body = purchase(&format!("p{n}"), occurred_at, &[("1", "A", &quantity.to_string(), &price)]);
                self.book.ask(&format!("p{n}"), Action::Earn(body)).unwrap();
                self.purchases.push((quantity, pence));
                self.model.give(quantity * pence / 100, Some(n), occurred_at, self.pending_days, self.expires(occurred_at));
            }
            Step::Redeem(points) => {
                let n = self.redemptions;
                let agreed = self.spend(points, Action::Redeem { points, occurred_at: None });
                if agreed {
                    self.model.take(points, At::Redeemed(n));
                }
            }
            Step::Hold { points, minutes } => {
                let n = self.redemptions;
                if self.spend(points, Action::Hold { points, minutes: Some(minutes), occurred_at: None }) {
                    self.model.take(points, At::Held(n));
                    let lapses = self.book.now.plus_micros(i64::from(minutes) * MINUTE_US);
                    self.model.holds.push(Hold { redemption: n, lapses });
                }
            }
            Step::Capture { which, points } => {
                let held = self.model.count(|point| point.at == At::Held(which));
                let outcome = self.ask(Action::Capture { redemption: id(&format!("r{which}")), points: Some(points) });
                assert_eq!(outcome.is_ok(), held >= points && held > 0, "{outcome:?}");
                if outcome.is_ok() {
                    self.model.capture(which, points);
                }
            }
            Step::Release(which) => {
                let hold = self.model.holds.iter().position(|hold| hold.redemption == which);
                let outcome = self.ask(Action::Release { redemption: id(&format!("r{which}")) });
                assert_eq!(outcome.is_ok(), hold.is_some());
                if let Some(hold) = hold {
                    self.model.release(hold);
                }
            }
            Step::GiveBack { which, quantity } => self.give_back(which, quantity),
            Step::Undo { which, points } => {
                let spent = self.model.count(|point| point.at == At::Redeemed(which));
                let outcome = self.ask(Action::ReturnRedemption { redemption: id(&format!("r{which}")), points: Some(points) });
                assert_eq!(outcome.is_ok(), spent >= points && spent > 0, "{outcome:?}");
                if outcome.is_ok() {
                    self.model.restore(which, points);
                }
            }
            Step::Adjust(points) => self.adjust(points),
        }
        self.model.tick(self.book.now);
        self.compare();
    }

    fn adjust(&mut self, points: i64) {
        let exists = self.book.account.seq > 0;
        let agreed = exists && (points > 0 || self.model.available() >= -points);
        let outcome = self.ask(Action::Adjust { points, reason: why("test") });
        assert_eq!(outcome.is_ok(), agreed, "{outcome:?}");
        if agreed && points > 0 {
            let now = self.book.now;
            self.model.give(points, None, now, self.pending_days, self.expires(now));
        } else if agreed {
            self.model.take(-points, At::Gone);
        }
    }

    fn ask(&mut self, action: Action) -> Result<(), Rejection> {
        let name = self.name();
        self.book.ask(&name, action).map(drop)
    }

    fn spend(&mut self, points: i64, action: Action) -> bool {
        let name = format!("r{}", self.redemptions);
        let outcome = self.book.ask(&name, action);
        let agreed = self.book.account.seq > 0 && self.model.available() >= points;
        assert_eq!(outcome.is_ok(), agreed, "{outcome:?}");
        self.redemptions += usize::from(agreed);
        agreed
    }

    fn give_back(&mut self, which: usize, quantity: i64) {
        let lines = vec![(id("1"), amount(&quantity.to_string()))];
        let body = Return { purchase_id: id(&format!("p{which}")), occurred_at: self.book.now, what: Returned::Lines(lines), shipping: None };
        let outcome = self.ask(Action::Return(body.into()));
        let kept = self.purchases.get(which).copied();
        assert_eq!(outcome.is_ok(), kept.is_some_and(|(kept, _)| kept >= quantity), "{outcome:?}");
        if let (Ok(()), Some((kept, pence))) = (outcome, kept) {
            self.purchases[which].0 -= quantity;
            self.model.claw_back(which, kept * pence / 100 - (kept - quantity) * pence / 100);
        }
    }

    fn compare(&self) {
        let (balance, model) = (self.book.balance(), &self.model);
        let held = model.count(|point| matches!(point.at, At::Held(_)));
        let pending = model.count(|point| point.at == At::Pending);
        let expired = model.count(|point| matches!(point.at, At::Expired { .. }));
        let redeemed = model.count(|point| matches!(point.at, At::Redeemed(_)));
        let account = &self.book.account;
        assert_eq!((balance.available, balance.pending, balance.held), (model.available(), pending, held), "available, pending, held");
        assert_eq!((account.total(Bucket::Expired), account.total(Bucket::Redeemed)), (expired, redeemed), "expired, redeemed");
        assert_eq!((balance.owed, account.total(Bucket::Shortfall)), (model.owed, model.shortfall), "owed, shortfall");
        for lot in &account.lots {
            let of_lot = model.count(|point| point.lot == lot.lot as usize && Model::kept(point));
            assert_eq!(lot.remaining, of_lot, "what remains of lot {}", lot.lot);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn the_naive_model_agrees(steps in steps(), pending_days in prop_oneof![Just(0_i64), Just(3)], expiry_days in proptest::option::of(5_i64..40), negative: bool) {
        let expiry = expiry_days.map_or(json!({"mode": "never"}), |days| json!({"mode": "rolling", "days": days}));
        let on_shortfall = if negative { "negative" } else { "clamp" };
        let rules = json!({"time_zone": "UTC", "earn": {"pending_days": pending_days}, "expiry": expiry,
                           "return": {"window_days": 30_000, "on_shortfall": on_shortfall}});
        let mut book = Book::new(rules);
        book.now = at("2010-06-01");
        let model = Model { negative, ..Model::default() };
        let mut pair = Pair { book, model, pending_days, expiry_days, purchases: Vec::new(), redemptions: 0, asked: 0 };
        for step in &steps {
            pair.step(step);
        }
        prop_assert!(pair.book.account.qualifying_recent.points >= 0);
        crate::causes::never_negative(&pair.book.events);
    }
}
