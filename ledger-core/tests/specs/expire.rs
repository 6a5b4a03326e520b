//! Expire, by the clock: maturing, expiring, at the very moment.

use ledger_core::account::EventKind;
use ledger_core::account::command::Action;
use ledger_core::account::state::Status;
use serde_json::{Value, json};

use crate::support::{Book, at, id, purchase, why};

#[test]
fn a_lot_that_expires_at_a_moment_is_gone_at_that_moment() {
    let table: &[(Value, &str, &str)] = &[
        (json!({"mode": "rolling", "months": 1}), "2010-01-31T10:00:00Z", "2010-02-28T10:00:00Z"),
        (json!({"mode": "rolling", "months": 6}), "2010-01-15T10:00:00Z", "2010-07-15T09:00:00Z"),
        (json!({"mode": "rolling", "days": 30}), "2010-03-15T10:00:00Z", "2010-04-14T09:00:00Z"),
        (json!({"mode": "fixed_date", "date": "2010-07-01"}), "2010-01-15T10:00:00Z", "2010-06-30T23:00:00Z"),
        (json!({"mode": "calendar", "period": "year"}), "2010-06-15T10:00:00Z", "2011-01-01T00:00:00Z"),
        (json!({"mode": "calendar", "period": "quarter", "grace_days": 30}), "2010-02-15T10:00:00Z", "2010-04-30T23:00:00Z"),
        (json!({"mode": "calendar", "period": "month"}), "2010-06-30T22:59:59Z", "2010-06-30T23:00:00Z"),
        (json!({"mode": "inactivity", "months": 2}), "2010-01-15T10:00:00Z", "2010-03-15T10:00:00Z"),
    ];
    for (expiry, bought, gone) in table {
        let mut book = Book::new(json!({"expiry": expiry}));
        book.now = at(bought);
        book.buy("p", "10");
        book.now = at(gone).plus_micros(-1);
        assert_eq!(book.due().available(), 10, "{expiry} just before {gone}");
        book.now = at(gone);
        assert_eq!(book.due().available(), 0, "{expiry} at {gone}");
        assert_eq!(book.events.last().unwrap().at, at(gone));
    }
}

#[test]
fn pending_points_mature_before_they_expire() {
    let mut book = Book::new(json!({"earn": {"pending_days": 14}, "expiry": {"mode": "rolling", "days": 30}}));
    book.buy("p", "10");
    assert_eq!((book.balance().pending, book.available()), (10, 0));
    book.until("2010-01-15T11:59:59.999999Z");
    assert_eq!(book.available(), 0);
    book.until("2010-01-15T12:00:00Z");
    assert_eq!((book.balance().pending, book.available()), (0, 10));
    book.until("2010-02-28");
    let kinds: Vec<_> = book.events.iter().map(|event| std::mem::discriminant(&event.kind)).collect();
    assert_eq!(kinds.len(), 4, "opened, earned, matured, expired");
    assert_eq!(book.available(), 0);
}

#[test]
fn a_purchase_that_arrives_after_its_points_expired_shows_all_of_it() {
    let mut book = Book::new(json!({"earn": {"pending_days": 14}, "expiry": {"mode": "rolling", "months": 1}}));
    book.now = at("2010-12-01");
    let events = book.ask("p", Action::Earn(purchase("p", at("2010-01-31"), &[("1", "A", "1", "10")]))).unwrap();
    let whens: Vec<_> = events.iter().map(|event| event.at).collect();
    assert_eq!(whens, [at("2010-01-31"), at("2010-01-31"), at("2010-02-14"), at("2010-02-28")]);
    assert_eq!(book.balance().available + book.balance().pending, 0);
}

#[test]
fn activity_moves_the_expiry_of_every_lot() {
    let mut book = Book::new(json!({"expiry": {"mode": "inactivity", "months": 2}}));
    book.buy("a", "10");
    book.until("2010-02-15");
    book.buy("b", "10");
    book.until("2010-03-15");
    assert_eq!(book.available(), 20, "the first lot would have expired on 1 March");
    book.redeem("r", 5).unwrap();
    assert_eq!(book.until("2010-05-15T10:59:59.999999Z").available(), 15);
    assert_eq!(book.until("2010-05-15T11:00:00Z").available(), 0);
}

#[test]
fn an_unused_account_falls_asleep_and_the_next_activity_wakes_it() {
    let mut book = Book::new(json!({"accounts": {"inactive_after": {"months": 3}}}));
    book.buy("a", "10");
    book.until("2010-04-01T11:00:00Z");
    assert_eq!(book.account.status, Status::Inactive, "12:00 in summer time is 11:00");
    book.redeem("r", 5).unwrap();
    assert_eq!(book.account.status, Status::Active);
    book.until("2010-12-01");
    let late = book.ask("late", Action::Earn(purchase("late", at("2010-02-01"), &[("1", "A", "1", "10")]))).unwrap();
    assert!(!late.iter().any(|event| matches!(event.kind, EventKind::AccountWoken)), "what is long past wakes nobody");
    assert_eq!(book.account.status, Status::Inactive);
}

#[test]
fn what_falls_due_together_is_done_in_the_order_of_its_moments() {
    let mut book = Book::new(json!({"earn": {"pending_days": 5}, "expiry": {"mode": "rolling", "days": 20}}));
    book.buy("a", "10");
    book.until("2010-01-10");
    book.buy("b", "20");
    book.ask("h", Action::Hold { points: 10, minutes: Some(60 * 24), occurred_at: None }).unwrap();
    book.until("2010-06-01");
    let tail: Vec<_> = book.events.iter().rev().take(4).rev().map(|event| event.at).collect();
    assert_eq!(tail, [at("2010-01-11"), at("2010-01-15"), at("2010-01-21"), at("2010-01-30")], "lapse, mature, expire, expire");
    assert_eq!(book.account.hold(&id("h")), None);
}

#[test]
fn activity_that_is_told_of_late_puts_no_expiry_forward() {
    let mut book = Book::new(json!({"expiry": {"mode": "inactivity", "days": 19}}));
    book.now = at("2010-06-01");
    book.buy("p1", "1");
    book.until("2010-07-03");
    book.ask("add", Action::Adjust { points: 40, reason: why("gift") }).unwrap();
    // A purchase of before the gift, which then would have expired already.
    let late = purchase("late", at("2010-06-05"), &[("1", "A", "1", "0.10")]);
    book.ask("late", Action::Earn(late)).unwrap();
    assert_eq!(book.available(), 40);
    assert_eq!(book.until("2010-07-22T11:59:59Z").available(), 40);
    assert_eq!(book.until("2010-07-22T12:00:00Z").available(), 0);
}

#[test]
fn a_purchase_wakes_an_account_as_a_redemption_does() {
    let mut book = Book::new(json!({"accounts": {"inactive_after": {"months": 3}}}));
    book.buy("a", "10");
    book.until("2010-05-01");
    assert_eq!(book.account.status, Status::Inactive);
    let events = book.ask("b", Action::Earn(purchase("b", book.now, &[("1", "A", "1", "10")]))).unwrap();
    assert_eq!((&events[0].kind, events[0].at, book.account.status), (&EventKind::AccountWoken, at("2010-05-01"), Status::Active));
}

/// Redemptions may be told an hour later, but none could spend these.
#[test]
fn pending_points_and_those_of_a_closed_account_expire_at_once() {
    let rules =
        json!({"earn": {"pending_days": 40}, "redeem": {"offline_minutes": 60}, "expiry": {"mode": "rolling", "days": 10}, "accounts": {"on_close": "keep"}});
    let mut book = Book::new(rules);
    book.buy("a", "10");
    book.ask("g", Action::Adjust { points: 7, reason: why("gift") }).unwrap();
    book.until("2010-01-11");
    assert_eq!((book.balance().pending, book.available()), (0, 7), "what could be spent waits");
    book.until("2010-01-11T12:59:59Z");
    assert_eq!(book.available(), 7);
    book.until("2010-01-11T13:00:00Z");
    assert_eq!(book.available(), 0);
    book.ask("g2", Action::Adjust { points: 7, reason: why("gift") }).unwrap();
    book.until("2010-01-12");
    book.ask("c", Action::Close(why("bye"))).unwrap();
    book.until("2010-01-21T12:59:59.999999Z");
    assert_eq!(book.available(), 7);
    book.until("2010-01-21T13:00:00Z");
    assert_eq!(book.available(), 0);
}

/// Points mature, holds lapse, points expire, the tier is reviewed, the account falls asleep; lots in their order.
#[test]
fn what_falls_due_at_one_moment_is_done_in_a_fixed_order() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 10}]);
    let year = json!({"days": 365});
    let mut book = Book::new(json!({
        "earn": {"pending_days": 365}, "expiry": {"mode": "rolling", "days": 365},
        "tiers": {"window": "lifetime", "levels": levels}, "accounts": {"inactive_after": year}
    }));
    book.ask("o", Action::Open).unwrap();
    book.ask("g", Action::Adjust { points: 7, reason: why("gift") }).unwrap();
    book.ask("h2", Action::Hold { points: 1, minutes: Some(365 * 24 * 60), occurred_at: None }).unwrap();
    book.ask("h1", Action::Hold { points: 1, minutes: Some(365 * 24 * 60), occurred_at: None }).unwrap();
    book.buy("a", "10");
    book.buy("b", "10");
    let before = book.events.len();
    book.until("2011-01-01");
    let done: Vec<_> = book.events[before..].iter().map(|event| (event.at, kind(&event.kind))).collect();
    let expected = ["mature 2", "mature 3", "lapse h1", "lapse h2", "expire 1 of 7", "expire 2 of 10", "expire 3 of 10", "review", "sleep"];
    assert_eq!(done, expected.map(|kind| (at("2011-01-01"), kind.to_owned())));
}

fn kind(kind: &EventKind) -> String {
    match kind {
        EventKind::PointsMatured { lot, .. } => format!("mature {lot}"),
        EventKind::HoldReleased { redemption, lapsed: true, .. } => format!("lapse {redemption}"),
        EventKind::PointsExpired(part) => format!("expire {} of {}", part.lot, part.points),
        EventKind::TierKept(_) => "review".into(),
        EventKind::AccountLapsed => "sleep".into(),
        other => unreachable!("{other:?} does not fall due"),
    }
}

fn moved(events: &[ledger_core::account::Event]) -> usize {
    events.iter().filter(|event| matches!(event.kind, EventKind::ExpiryMoved { .. })).count()
}

fn earn(book: &mut Book, name: &str, when: &str) -> usize {
    moved(&book.ask(name, Action::Earn(purchase(name, at(when), &[("1", "A", "1", "10")]))).unwrap())
}

#[test]
fn expiry_is_moved_only_by_later_activity_and_only_where_points_follow_it() {
    let inactivity = json!({"expiry": {"mode": "inactivity", "days": 20}});
    let mut book = Book::new(inactivity.clone());
    assert_eq!(earn(&mut book, "first", "2010-01-01"), 0, "there is nothing to move yet");
    assert_eq!(earn(&mut book, "same", "2010-01-01"), 0, "nor by an activity of the same moment");
    book.until("2010-01-10");
    assert_eq!(earn(&mut book, "later", "2010-01-10"), 1);
    assert_eq!(earn(&mut book, "late", "2010-01-05"), 0, "nor by one of before");
    book.redeem("all", 40).unwrap();
    book.until("2010-01-12");
    assert_eq!(earn(&mut book, "again", "2010-01-12"), 0, "nor where all was spent");

    let rules_from_february = |before: serde_json::Value, after: serde_json::Value| {
        let mut later = crate::support::rules(after);
        later["effective_from"] = json!("2010-01-05T00:00:00Z");
        Book::versions(&[crate::support::rules(before), later])
    };
    let mut fixed = rules_from_february(json!({}), inactivity.clone());
    earn(&mut fixed, "first", "2010-01-01");
    fixed.until("2010-01-06");
    assert_eq!(earn(&mut fixed, "second", "2010-01-06"), 0, "points of before follow no activity");
    fixed.until("2010-01-07");
    assert_eq!((earn(&mut fixed, "third", "2010-01-07"), fixed.account.lot(1).unwrap().expires_at), (1, None));

    let mut rolling = rules_from_february(inactivity, json!({"expiry": {"mode": "rolling", "days": 90}}));
    earn(&mut rolling, "first", "2010-01-01");
    rolling.until("2010-01-06");
    assert_eq!(earn(&mut rolling, "second", "2010-01-06"), 0, "the rules say so no more");
    assert_eq!(rolling.account.lot(1).unwrap().expires_at, Some(at("2010-01-21")));
}

#[test]
fn a_hold_of_all_points_does_not_stand_in_the_way_of_a_late_activity() {
    let mut book = Book::new(json!({"expiry": {"mode": "inactivity", "days": 10}}));
    book.buy("a", "10");
    book.ask("h", Action::Hold { points: 10, minutes: Some(20 * 24 * 60), occurred_at: None }).unwrap();
    book.until("2010-01-12");
    assert_eq!(earn(&mut book, "late", "2010-01-10"), 1);
    book.ask("h", Action::Release { redemption: id("h") }).unwrap();
    assert_eq!(book.available(), 20);
}

#[test]
fn of_a_lot_that_is_held_whole_nothing_expires() {
    let mut book = Book::new(json!({"expiry": {"mode": "inactivity", "days": 10}}));
    book.buy("a", "10");
    book.ask("h", Action::Hold { points: 10, minutes: Some(20 * 24 * 60), occurred_at: None }).unwrap();
    book.until("2010-01-12");
    let events = book.ask("b", Action::Earn(purchase("b", book.now, &[("1", "A", "1", "10")]))).unwrap();
    assert_eq!((events.len(), moved(&events)), (2, 1), "{events:?}");
}

/// Points that follow activity and are lost, but not booked so yet, are booked as others live on; those of fixed rules wait.
#[test]
fn an_activity_books_as_lost_what_follows_it_alone() {
    let inactivity = |days: u32| json!({"expiry": {"mode": "inactivity", "days": days}, "redeem": {"offline_minutes": 60 * 24}});
    let mut later = crate::support::rules(inactivity(10));
    later["effective_from"] = json!("2010-01-02T00:00:00Z");
    let rolling = crate::support::rules(json!({"expiry": {"mode": "rolling", "days": 12}, "redeem": {"offline_minutes": 60 * 24}}));
    let mut book = Book::versions(&[rolling, later]);
    book.buy("fixed", "5");
    book.until("2010-01-03T11:00:00Z").buy("follows", "7");
    book.ask("h", Action::Hold { points: 3, minutes: Some(30 * 24 * 60), occurred_at: None }).unwrap();
    book.until("2010-01-13T18:00:00Z");
    let held = book.account.hold(&id("h")).unwrap().parts.clone();
    assert_eq!((held[0].lot, book.available()), (2, 9));
    let events = book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "A", "1", "1")]))).unwrap();
    let lost: Vec<_> =
        events.iter().filter_map(|event| if let EventKind::PointsExpired(part) = &event.kind { Some((part.lot, part.points)) } else { None }).collect();
    assert_eq!((lost, moved(&events), book.available()), (vec![(2, 4)], 1, 6));
}
