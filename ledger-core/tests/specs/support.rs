//! Given / when / then: a program, what an account was asked before, what it is asked now, and what comes of it.

use std::sync::Arc;

use ledger_core::account::command::{Action, Line, Purchase, Reason, Return, Returned};
use ledger_core::account::decide::{Decision, due_at};
use ledger_core::account::event::LotId;
use ledger_core::account::state::{Balance, LotState};
use ledger_core::account::{Account, Command, Context, Event, EventKind, Rejection, decide};
use ledger_core::id::Id;
use ledger_core::points::{Amount, Points};
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use ledger_core::posting::{Bucket, postings};
use ledger_core::time::Moment;
use serde_json::{Value, json};

pub fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

pub fn at(text: &str) -> Moment {
    let full = if text.len() == 10 { format!("{text}T12:00:00Z") } else { text.to_owned() };
    Moment::parse(&full).unwrap()
}

pub fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

/// The rules of most specs: a point a pound, nothing pending, nothing expires, no tiers; `changes` are merged over them.
pub fn rules(changes: Value) -> Value {
    let mut rules = json!({
        "program": "shop", "mode": "sandbox", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2009-01-01T00:00:00Z",
        "earn": {"base": {"points": "1", "per": "1.00"}},
        "redeem": {"minimum": 1, "value": {"points": 100, "amount": "1.00"}}
    });
    merge(&mut rules, changes);
    rules
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value)),
        (into, from) => *into = from,
    }
}

pub fn program(versions: &[Value]) -> Program {
    let mut program = Program::default();
    for rules in versions {
        let rulebook: Rulebook = serde_json::from_value(rules.clone()).unwrap();
        program.publish(Arc::new(read_rulebook(rulebook, &program).unwrap()));
    }
    program
}

/// One account under one program, and the book of its events.
pub struct Book {
    pub program: Program,
    pub account: Account,
    pub now: Moment,
    pub events: Vec<Event>,
}

impl Book {
    pub fn new(changes: Value) -> Self {
        Self::versions(&[rules(changes)])
    }

    pub fn versions(versions: &[Value]) -> Self {
        Self { program: program(versions), account: Account::default(), now: at("2010-01-01"), events: Vec::new() }
    }

    fn apply(&mut self, events: Vec<Event>) {
        for event in events {
            let mut sum = 0;
            postings(&event, |posting| sum += posting.points);
            assert_eq!(sum, 0, "the postings of {event:?} sum to zero");
            self.account.evolve(&event);
            self.events.push(event);
        }
        self.account.seal(self.now, [0; 32]);
        self.check();
    }

    /// What must hold of every account at every time.
    fn check(&self) {
        let account = &self.account;
        assert_eq!(account.totals.iter().sum::<i64>(), 0, "the book is balanced");
        for bucket in [Bucket::Pending, Bucket::Available, Bucket::Held, Bucket::Shortfall] {
            assert!(account.total(bucket) >= 0, "{bucket:?} is {}", account.total(bucket));
        }
        assert!(account.total(Bucket::Owed) <= 0);
        let lots = |pending: bool| account.lots.iter().filter(|lot| lot.pending == pending).map(|lot| lot.remaining).sum::<i64>();
        assert_eq!(lots(true), account.total(Bucket::Pending), "pending is in the pending lots");
        assert_eq!(lots(false), account.total(Bucket::Available), "available is in the other lots");
        assert_eq!(account.lots.iter().map(|lot| lot.held).sum::<i64>(), account.total(Bucket::Held), "held is held of lots");
        assert_eq!(account.holds.iter().map(ledger_core::account::state::Hold::points).sum::<i64>(), account.total(Bucket::Held), "and by holds");
        let is_given = |lot: &LotState| lot.remaining + lot.held <= lot.points || lot.remaining + lot.held <= lot.points + self.grown(lot.lot);
        let within = |lot: &LotState| lot.remaining >= 0 && lot.held >= 0 && is_given(lot);
        assert!(account.lots.iter().all(within), "{:?}", account.lots);
        assert!(due_at(account, &self.program).is_none_or(|due| due > self.now), "all that is due is done");
    }

    /// What returns put into a lot, because the goods kept earn more than all together did.
    fn grown(&self, lot: LotId) -> Points {
        let parts = self.events.iter().flat_map(|event| match &event.kind {
            EventKind::PurchaseReturned(reversed) => reversed.parts.as_slice(),
            _ => &[],
        });
        parts.filter(|part| part.lot == lot).map(|part| (-part.points).max(0)).sum()
    }

    fn context(&self) -> Context<'_> {
        Context { program: &self.program, now: self.now, target_known: false }
    }

    /// Lets the clock go to `to`, doing what falls due.
    pub fn until(&mut self, to: &str) -> &mut Self {
        self.now = at(to);
        self.due()
    }

    pub fn due(&mut self) -> &mut Self {
        if due_at(&self.account, &self.program).is_some_and(|due| due <= self.now) {
            let command = Command { id: id("due"), actor: "clock".into(), action: Action::Expire };
            let decision = decide(&self.account, &command, &self.context()).unwrap();
            assert!(!decision.events.is_empty(), "something is due, so something is done");
            self.apply(decision.events);
        }
        self
    }

    /// Asks; what is due comes first. A refusal changes nothing.
    pub fn ask(&mut self, name: &str, action: Action) -> Result<Vec<Event>, Rejection> {
        self.ask_by("spec", name, action)
    }

    /// As above, by somebody.
    pub fn ask_by(&mut self, actor: &str, name: &str, action: Action) -> Result<Vec<Event>, Rejection> {
        Ok(self.decision(actor, name, action)?.events)
    }

    /// The number of the rulebook's version that decides it.
    pub fn version_for(&mut self, name: &str, action: Action) -> u32 {
        self.decision("spec", name, action).unwrap().rule_version
    }

    fn decision(&mut self, actor: &str, name: &str, action: Action) -> Result<Decision, Rejection> {
        self.due();
        let command = Command { id: id(name), actor: actor.into(), action };
        command.check().unwrap();
        let decision = decide(&self.account, &command, &self.context())?;
        self.apply(decision.events.clone());
        Ok(decision)
    }

    /// Why it is refused where the purchase or redemption that it refers to was booked once and is kept no more.
    pub fn refused_of_known(&self, action: Action) -> Rejection {
        let command = Command { id: id("known"), actor: "spec".into(), action };
        decide(&self.account, &command, &Context { target_known: true, ..self.context() }).unwrap_err()
    }

    pub fn buy(&mut self, name: &str, price: &str) -> i64 {
        let purchase = purchase(name, self.now, &[("1", "sku", "1", price)]);
        earned(&self.ask(name, Action::Earn(purchase)).unwrap())
    }

    pub fn redeem(&mut self, name: &str, points: i64) -> Result<Vec<Event>, Rejection> {
        self.ask(name, Action::Redeem { points, occurred_at: None })
    }

    pub fn give_back(&mut self, name: &str, purchase: &str, lines: &[(&str, &str)]) -> Result<Vec<Event>, Rejection> {
        let lines = lines.iter().map(|(line, quantity)| (id(line), amount(quantity))).collect();
        let body = Return { purchase_id: id(purchase), occurred_at: self.now, what: Returned::Lines(lines), shipping: None };
        self.ask(name, Action::Return(Arc::new(body)))
    }

    pub fn give_back_amount(&mut self, name: &str, purchase: &str, money: &str) -> Result<Vec<Event>, Rejection> {
        let body = Return { purchase_id: id(purchase), occurred_at: self.now, what: Returned::Amount(amount(money)), shipping: None };
        self.ask(name, Action::Return(Arc::new(body)))
    }

    /// A refund of `money` in all, `shipping` of it for shipping.
    pub fn refund(&mut self, name: &str, purchase: &str, money: &str, shipping: Option<&str>) -> Result<Vec<Event>, Rejection> {
        let (purchase_id, what) = (id(purchase), Returned::Amount(amount(money)));
        self.ask(name, Action::Return(Arc::new(Return { purchase_id, occurred_at: self.now, what, shipping: shipping.map(amount) })))
    }

    pub fn balance(&self) -> Balance {
        self.account.balance()
    }

    pub fn available(&self) -> i64 {
        self.balance().available
    }
}

pub fn why(code: &str) -> Reason {
    Reason { code: code.into(), note: String::new() }
}

/// Lines: id, sku, quantity, unit price.
pub fn purchase(name: &str, occurred_at: Moment, lines: &[(&str, &str, &str, &str)]) -> Arc<Purchase> {
    let line = |(line, sku, quantity, price): &(&str, &str, &str, &str)| Line {
        line_id: id(line),
        sku: (*sku).into(),
        category: "goods".into(),
        quantity: amount(quantity),
        unit_price: amount(price),
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    };
    Arc::new(Purchase {
        purchase_id: id(name),
        occurred_at,
        currency: "GBP".into(),
        channel: "web".into(),
        store: "s1".into(),
        lines: lines.iter().map(line).collect(),
        shipping: Amount::ZERO,
        origin: None,
    })
}

pub fn earned(events: &[Event]) -> i64 {
    let points = |event: &Event| match &event.kind {
        EventKind::PointsEarned(earned) => earned.lot.as_ref().map_or(0, |lot| lot.points),
        _ => 0,
    };
    events.iter().map(points).sum()
}
