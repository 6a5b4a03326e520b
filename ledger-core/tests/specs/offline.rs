//! Redemptions that are told later than they occurred, as by tills that were offline.

use ledger_core::account::command::Action;
use ledger_core::account::{EventKind, Rejection};
use ledger_core::points::Points;
use serde_json::{Value, json};

use crate::support::{Book, at, id, purchase, rules, why};

const MIDNIGHT: &str = "2026-02-01T00:00:00Z";
const BEFORE: &str = "2026-01-31T23:50:00Z";

fn rulebook(changes: Value) -> Value {
    let mut rules = rules(json!({"expiry": {"mode": "rolling", "days": 31}, "redeem": {"offline_minutes": 30}, "return": {"on_shortfall": "negative"}}));
    changes.as_object().unwrap().iter().for_each(|(key, value)| rules[key] = value.clone());
    rules
}

/// 100 points that are lost at midnight.
fn shop_at(now: &str) -> Book {
    let mut book = Book::versions(&[rulebook(json!({}))]);
    book.now = at("2026-01-01T00:00:00Z");
    book.buy("p", "100");
    book.until(now);
    book
}

fn shop() -> Book {
    shop_at("2026-02-01T00:10:00Z")
}

fn redeem(points: Points, occurred_at: &str) -> Action {
    Action::Redeem { points, occurred_at: Some(at(occurred_at)) }
}

/// What can be spent now.
fn live(book: &Book) -> Points {
    let balance = book.account.balance_at(book.now);
    balance.available - balance.lapsed
}

fn last_expired(book: &Book) -> Option<(String, Points)> {
    let expired = |event: &ledger_core::account::Event| match &event.kind {
        EventKind::PointsExpired(part) => Some((event.at.to_string(), part.points)),
        _ => None,
    };
    book.events.iter().rev().find_map(expired)
}

#[test]
fn what_occurred_before_points_expired_may_be_told_after() {
    let mut book = shop();
    let events = book.ask("r", redeem(60, BEFORE)).unwrap();
    assert_eq!(events.last().unwrap().at, at(BEFORE));
    assert_eq!((last_expired(&book), live(&book)), (None, 0));
    book.until("2026-02-01T00:29:59.999999Z");
    assert_eq!(last_expired(&book), None);
    book.until("2026-02-01T00:30:00Z");
    assert_eq!(last_expired(&book), Some((MIDNIGHT.into(), 40)), "booked later, at its true moment");
    assert_eq!(book.balance().available, 0);
}

#[test]
fn until_then_the_points_are_expired_to_everything_else() {
    let mut book = shop();
    assert_eq!((live(&book), book.balance().available), (0, 100));
    assert_eq!(book.redeem("r", 1).unwrap_err(), Rejection::InsufficientPoints { points: 1, available: 0 });
    let hold = Action::Hold { points: 1, minutes: None, occurred_at: None };
    assert_eq!(book.ask("h", hold).unwrap_err(), Rejection::InsufficientPoints { points: 1, available: 0 });
    let down = Action::Adjust { points: -1, reason: why("x") };
    assert_eq!(book.ask("a", down).unwrap_err(), Rejection::InsufficientPoints { points: 1, available: 0 });
    book.buy("q", "7");
    assert_eq!(live(&book), 7);
    assert_eq!(book.redeem("r", 8).unwrap_err(), Rejection::InsufficientPoints { points: 8, available: 7 });
    book.redeem("r", 7).unwrap();
    // None of it stands in the way of what occurred before.
    book.ask("late", redeem(100, BEFORE)).unwrap();
    assert_eq!((book.balance().available, last_expired(book.until("2026-02-02"))), (0, None));
}

#[test]
fn it_may_be_told_for_the_minutes_of_the_rules_of_then_and_no_longer() {
    let mut book = shop();
    book.until("2026-02-01T00:20:00Z");
    let too_late = Rejection::ToldTooLate { occurred_at: at("2026-01-31T23:49:59.999999Z"), minutes: 30 };
    assert_eq!(book.ask("r", redeem(1, "2026-01-31T23:49:59.999999Z")).unwrap_err(), too_late);
    book.ask("r", redeem(1, BEFORE)).unwrap();
    assert_eq!(book.ask("m", redeem(1, MIDNIGHT)).unwrap_err(), Rejection::InsufficientPoints { points: 1, available: 0 }, "gone at that moment");
    let future = Rejection::OccurredInFuture { occurred_at: at("2026-02-01T00:25:00.000001Z"), now: book.now };
    assert_eq!(book.ask("f", redeem(1, "2026-02-01T00:25:00.000001Z")).unwrap_err(), future);

    let mut never = Book::new(json!({}));
    never.buy("p", "100");
    let told = Rejection::ToldTooLate { occurred_at: at("2010-01-01T11:59:59Z"), minutes: 0 };
    assert_eq!(never.ask("r", redeem(1, "2010-01-01T11:59:59Z")).unwrap_err(), told);
    never.ask("n", redeem(1, "2010-01-01T12:00:00Z")).unwrap();

    let later = rulebook(json!({"effective_from": "2026-02-01T00:00:00Z", "redeem": {"value": {"points": 1, "amount": "9.00"}}}));
    let mut changed = Book::versions(&[rulebook(json!({})), later]);
    changed.now = at("2026-01-02");
    changed.buy("p", "100");
    changed.until("2026-02-01T00:10:00Z");
    let events = changed.ask("r", redeem(100, BEFORE)).unwrap();
    assert!(matches!(&events.last().unwrap().kind, EventKind::PointsRedeemed(spent) if spent.value.to_string() == "1"), "at the rate of then");
}

#[test]
fn no_balance_since_falls_below_zero() {
    let mut book = shop();
    book.ask("late", Action::Earn(purchase("late", at("2026-02-01T00:05:00Z"), &[("1", "A", "1", "50")]))).unwrap();
    assert_eq!(book.ask("r", redeem(101, BEFORE)).unwrap_err(), Rejection::InsufficientPoints { points: 101, available: 100 }, "not there yet");

    let mut back = shop_at("2026-01-31T23:30:00Z");
    back.redeem("r", 100).unwrap();
    back.until("2026-01-31T23:55:00Z");
    back.ask("x", Action::ReturnRedemption { redemption: id("r"), points: None }).unwrap();
    assert_eq!(back.ask("l", redeem(1, BEFORE)).unwrap_err(), Rejection::InsufficientPoints { points: 1, available: 0 }, "came back after that");
    back.ask("n", redeem(1, "2026-01-31T23:55:00Z")).unwrap();
}

#[test]
fn points_that_come_back_to_a_lost_lot_are_lost_as_they_come_and_the_rest_waits() {
    let mut book = shop_at("2026-01-31T23:30:00Z");
    book.ask("h", Action::Hold { points: 30, minutes: Some(40), occurred_at: None }).unwrap();
    book.redeem("r", 20).unwrap();
    book.until("2026-02-01T00:05:00Z");
    book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: None }).unwrap();
    let expired: Vec<_> = book.events.iter().rev().take(3).map(|event| event.at.to_string()).collect();
    assert_eq!(expired, ["2026-02-01T00:05:00Z", "2026-02-01T00:05:00Z", MIDNIGHT], "50 at midnight, then 20 came back and went");
    book.until("2026-02-01T00:10:00Z");
    assert_eq!(last_expired(&book), Some(("2026-02-01T00:10:00Z".into(), 30)), "the hold lapsed");
    assert_eq!((book.balance().available, live(&book)), (0, 0));
}

#[test]
fn a_hold_may_be_told_later_and_may_have_lapsed_by_then() {
    let mut book = shop();
    let hold = |minutes| Action::Hold { points: 40, minutes: Some(minutes), occurred_at: Some(at(BEFORE)) };
    book.ask("h", hold(60)).unwrap();
    assert_eq!((book.balance().held, book.account.hold(&id("h")).unwrap().lapses_at), (40, at("2026-02-01T00:50:00Z")));
    book.ask("g", hold(15)).unwrap();
    assert_eq!(book.balance().held, 40, "it lapsed at five past");
    assert_eq!(last_expired(&book), Some(("2026-02-01T00:05:00Z".into(), 40)));
    book.until("2026-02-01T01:00:00Z");
    assert_eq!(book.balance().held + book.balance().available, 0);
}

#[test]
fn goods_that_come_back_count_what_is_lost_as_taken() {
    let mut book = shop();
    book.buy("q", "50");
    book.give_back("x", "p", &[("1", "1")]).unwrap();
    assert_eq!((live(&book), book.balance().owed), (50, 0), "nothing is taken from the other lot");
    book.until("2026-02-01T00:30:00Z");
    assert_eq!((last_expired(&book), live(&book)), (Some((MIDNIGHT.into(), 100)), 50));
    assert_eq!(book.account.purchase(&id("p")).unwrap().expired, 0);
}

#[test]
fn debts_are_not_paid_with_what_is_lost() {
    let mut book = shop();
    book.buy("q", "50");
    book.redeem("r", 50).unwrap();
    book.give_back("x", "q", &[("1", "1")]).unwrap();
    assert_eq!((live(&book), book.balance().owed), (0, 50));
    book.buy("z", "20");
    assert_eq!((live(&book), book.balance().owed), (0, 30));
}

#[test]
fn an_account_that_closes_loses_at_once_what_was_lost() {
    let mut book = shop();
    book.ask("c", Action::Close(why("bye"))).unwrap();
    assert_eq!(last_expired(&book), Some((MIDNIGHT.into(), 100)));
    let mut refuses = Book::versions(&[rulebook(json!({"accounts": {"on_close": "refuse"}}))]);
    refuses.now = at("2026-01-01T00:00:00Z");
    refuses.buy("p", "100");
    refuses.until("2026-02-01T00:10:00Z").ask("c", Action::Close(why("bye"))).unwrap();
}

#[test]
fn activity_does_not_bring_back_what_was_lost_before_it() {
    let expiry = json!({"expiry": {"mode": "inactivity", "days": 31}});
    let book = || {
        let mut book = Book::versions(&[rulebook(expiry.clone())]);
        book.now = at("2026-01-01T00:00:00Z");
        book.buy("p", "100");
        book.until("2026-02-01T00:10:00Z");
        book
    };
    let mut live_purchase = book();
    live_purchase.buy("q", "7");
    assert_eq!((last_expired(&live_purchase), live(&live_purchase)), (None, 7));
    let mut both = book();
    both.ask("g", Action::Adjust { points: 5, reason: why("x") }).unwrap();
    both.buy("q", "7");
    assert_eq!((last_expired(&both), live(&both)), (Some((MIDNIGHT.into(), 100)), 12), "a lot that is not lost follows the purchase");
    let mut told_later = book();
    told_later.ask("r", redeem(60, BEFORE)).unwrap();
    assert_eq!(live(&told_later), 0, "what was told as expired is not there again");
    told_later.ask("s", redeem(30, BEFORE)).unwrap();
    told_later.until("2026-02-01T00:30:00Z");
    assert_eq!(last_expired(&told_later), Some((MIDNIGHT.into(), 10)));
}
