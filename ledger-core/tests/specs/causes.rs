//! No event is dated before its cause: at no moment has an account fewer points than none.

use ledger_core::account::command::{Action, Return, Returned};
use ledger_core::account::{Event, EventKind};
use ledger_core::points::Amount;
use ledger_core::posting::{BUCKETS, Bucket, postings};
use ledger_core::time::MINUTE_US;
use serde_json::json;

use crate::support::{Book, at, id, purchase, rules, why};

/// Sums the postings in the order of their moments; of one moment, in the order they were booked.
pub fn never_negative(events: &[Event]) {
    let mut by_moment: Vec<&Event> = events.iter().collect();
    by_moment.sort_by_key(|event| event.at);
    let mut totals = [0_i64; BUCKETS];
    let mut moments = by_moment.into_iter().peekable();
    while let Some(event) = moments.next() {
        postings(event, |posting| totals[posting.bucket as usize] += posting.points);
        let at = event.at;
        if moments.peek().is_some_and(|next| next.at == at) {
            continue;
        }
        for bucket in [Bucket::Pending, Bucket::Available, Bucket::Held, Bucket::Shortfall] {
            assert!(totals[bucket as usize] >= 0, "{bucket:?} is {} at {at:?} in {events:#?}", totals[bucket as usize]);
        }
        assert!(totals[Bucket::Owed as usize] <= 0, "owed is {} at {at:?} in {events:#?}", totals[Bucket::Owed as usize]);
    }
}

#[test]
fn a_smaller_baskets_bonus_into_an_expired_lot_is_lost_as_it_comes() {
    let bonus = json!([{"id": "small", "when": "purchase.total < 8.0", "multiply": "10"}]);
    let mut book = Book::new(json!({"earn": {"bonus": bonus}, "expiry": {"mode": "rolling", "days": 5}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "sku", "2", "5")]))).unwrap();
    assert_eq!(book.available(), 10);
    book.until("2010-01-10");
    assert_eq!(book.available(), 0);
    book.give_back("r", "p", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 0);
    never_negative(&book.events);
}

#[test]
fn a_purchase_after_a_fixed_expiry_is_lost_at_its_own_moment() {
    let mut book = Book::new(json!({"expiry": {"mode": "fixed_date", "date": "2010-01-05"}}));
    book.until("2010-01-10");
    book.ask("p", Action::Earn(purchase("p", at("2010-01-08"), &[("1", "sku", "1", "10")]))).unwrap();
    assert_eq!(book.available(), 0);
    let expired = book.events.iter().find(|event| matches!(event.kind, EventKind::PointsExpired(_))).unwrap();
    assert_eq!(expired.at, at("2010-01-08"));
    never_negative(&book.events);
}

#[test]
fn a_version_whose_fixed_expiry_is_over_before_it_begins_is_refused() {
    let rulebook = serde_json::from_value(rules(json!({"expiry": {"mode": "fixed_date", "date": "2008-12-31"}}))).unwrap();
    let invalid = ledger_core::policy::read_rulebook(rulebook, &ledger_core::policy::Program::default()).unwrap_err();
    assert_eq!(invalid[0].to_string(), "/expiry/date: 2008-12-31 is wrong: a day after effective_from, 2009-01-01T00:00:00Z");
}

fn given_back_late(book: &mut Book, name: &str, purchase: &str, occurred_at: &str) {
    let body = Return { purchase_id: id(purchase), occurred_at: at(occurred_at), what: Returned::Lines(vec![(id("1"), Amount::ONE)]), shipping: None };
    book.ask(name, Action::Return(body.into())).unwrap();
}

#[test]
fn a_return_told_late_takes_no_points_before_they_came() {
    let mut book = Book::new(json!({}));
    book.buy("p", "100");
    book.redeem("all", 100).unwrap();
    book.until("2010-01-08");
    book.buy("q", "60");
    book.until("2010-01-10");
    given_back_late(&mut book, "r", "p", "2010-01-05");
    assert_eq!(book.available(), 0);
    never_negative(&book.events);
}

#[test]
fn a_return_told_late_takes_no_points_before_they_came_back() {
    let mut book = Book::new(json!({}));
    book.buy("p", "100");
    book.buy("q", "100");
    book.redeem("all", 200).unwrap();
    book.until("2010-01-09");
    book.ask("x", Action::ReturnRedemption { redemption: id("all"), points: Some(200) }).unwrap();
    book.redeem("some", 100).unwrap();
    book.until("2010-01-10");
    given_back_late(&mut book, "r", "p", "2010-01-05");
    assert_eq!(book.available(), 0);
    never_negative(&book.events);
}

#[test]
fn a_purchase_told_late_pays_no_debt_before_it_was_made() {
    let mut book = Book::new(json!({"return": {"on_shortfall": "negative"}}));
    book.buy("p", "100");
    book.redeem("all", 100).unwrap();
    book.until("2010-01-05");
    book.give_back("r", "p", &[("1", "1")]).unwrap();
    assert_eq!(book.balance().owed, 100);
    book.until("2010-01-06");
    book.ask("q", Action::Earn(purchase("q", at("2010-01-02"), &[("1", "sku", "1", "70")]))).unwrap();
    assert_eq!((book.balance().owed, book.available()), (30, 0));
    never_negative(&book.events);
}

#[test]
fn a_till_whose_clock_runs_ahead_earns_now() {
    let mut book = Book::new(json!({}));
    let ahead = book.now.plus_micros(4 * MINUTE_US);
    book.ask("p", Action::Earn(purchase("p", ahead, &[("1", "sku", "1", "70")]))).unwrap();
    book.redeem("all", 70).unwrap();
    never_negative(&book.events);
    let taken = book.ask("a", Action::Adjust { points: -1, reason: why("x") });
    assert!(taken.is_err(), "all of it was spent");
    assert_eq!(book.account.last_activity, ahead);
}
