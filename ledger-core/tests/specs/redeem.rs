//! Redeem: at once, hold, capture, release, and their return.

use ledger_core::account::command::Action;
use ledger_core::account::event::{Part, Spent};
use ledger_core::account::{Event, EventKind, Rejection};
use serde_json::json;

use crate::support::{Book, at, id, rules, why};

fn rich() -> Book {
    let mut book = Book::new(json!({"expiry": {"mode": "rolling", "months": 12}, "redeem": {"minimum": 50, "multiple_of": 10, "hold_minutes": 60}}));
    for (name, day) in [("b", "2010-02-01"), ("a", "2010-01-01"), ("c", "2010-03-01")] {
        book.now = at("2010-04-01");
        let body = crate::support::purchase(name, at(day), &[("1", "A", "1", "100")]);
        book.ask(name, Action::Earn(body)).unwrap();
    }
    book
}

fn lots(events: &[Event]) -> Vec<(u32, i64)> {
    let parts = match &events.last().unwrap().kind {
        EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => &spent.parts,
        EventKind::PointsHeld { parts, .. } | EventKind::HoldReleased { parts, .. } | EventKind::RedemptionReturned { parts, .. } => parts,
        other => unreachable!("no parts in {other:?}"),
    };
    parts.iter().map(|part| (part.lot, part.points)).collect()
}

#[test]
fn what_expires_first_is_spent_first() {
    let mut book = rich();
    assert_eq!(lots(&book.redeem("r", 150).unwrap()), [(2, 100), (1, 50)]);
    assert_eq!(book.available(), 150);
}

#[test]
fn refusals_in_order_of_precedence() {
    let mut book = rich();
    assert_eq!(book.redeem("r", 45).unwrap_err(), Rejection::BelowMinimum { points: 45, minimum: 50 });
    assert_eq!(book.redeem("r", 1005).unwrap_err(), Rejection::NotAMultiple { points: 1005, multiple_of: 10 });
    assert_eq!(book.redeem("r", 310).unwrap_err(), Rejection::InsufficientPoints { points: 310, available: 300 });
    book.ask("f", Action::Freeze(crate::support::why("fraud"))).unwrap();
    assert_eq!(book.redeem("r", 45).unwrap_err(), Rejection::AccountFrozen);
    let mut nobody = Book::new(json!({}));
    assert_eq!(nobody.redeem("r", 10).unwrap_err(), Rejection::AccountNotFound);
}

#[test]
fn a_hold_is_captured_in_part_and_the_rest_released() {
    let mut book = rich();
    book.ask("h", Action::Hold { points: 200, minutes: None, occurred_at: None }).unwrap();
    assert_eq!((book.balance().held, book.available()), (200, 100));
    assert_eq!(lots(&book.ask("h", Action::Capture { redemption: id("h"), points: Some(120) }).unwrap()), [(2, 100), (1, 20)]);
    assert_eq!((book.balance().held, book.available()), (80, 100));
    let more = Action::Capture { redemption: id("h"), points: Some(81) };
    assert_eq!(book.ask("h2", more).unwrap_err(), Rejection::CaptureExceedsHold { points: 81, held: 80 });
    book.ask("h", Action::Release { redemption: id("h") }).unwrap();
    assert_eq!((book.balance().held, book.available()), (0, 180));
    let again = book.ask("h3", Action::Release { redemption: id("h") }).unwrap_err();
    assert_eq!(again, Rejection::HoldNotFound { redemption_id: id("h") });
}

#[test]
fn a_hold_lapses_at_its_time_and_not_before() {
    let mut book = rich();
    book.ask("h", Action::Hold { points: 100, minutes: Some(30), occurred_at: None }).unwrap();
    assert_eq!(book.until("2010-04-01T12:29:59.999999Z").balance().held, 100);
    assert_eq!(book.until("2010-04-01T12:30:00Z").balance().held, 0);
    let late = book.ask("h", Action::Capture { redemption: id("h"), points: Some(100) }).unwrap_err();
    assert_eq!(late, Rejection::RedemptionNotFound { redemption_id: id("h") });
}

#[test]
fn points_held_over_their_expiry_can_be_captured_and_are_lost_when_released() {
    let mut book = rich();
    book.until("2010-12-31");
    book.ask("h", Action::Hold { points: 100, minutes: Some(60 * 24 * 10), occurred_at: None }).unwrap();
    book.until("2011-01-05");
    assert_eq!((book.balance().held, book.available()), (100, 200), "a hold protects its points");
    let mut captured = Book { account: book.account.clone(), events: Vec::new(), program: book.program.clone(), now: book.now };
    captured.ask("h", Action::Capture { redemption: id("h"), points: Some(100) }).unwrap();
    book.ask("h", Action::Release { redemption: id("h") }).unwrap();
    assert_eq!((book.balance().held, book.available()), (0, 200), "what expired meanwhile is lost as it comes back");
    assert_eq!(book.events.last().unwrap().at, at("2011-01-05"), "then, not before");
}

#[test]
fn a_returned_redemption_goes_back_to_its_lots_with_their_first_expiry() {
    let mut book = rich();
    book.redeem("r", 250).unwrap();
    let back = |name: &str, points: i64| (name.to_owned(), Action::ReturnRedemption { redemption: id("r"), points: Some(points) });
    let (name, action) = back("x1", 120);
    assert_eq!(lots(&book.ask(&name, action).unwrap()), [(3, 50), (1, 70)], "the last taken comes back first");
    let (name, action) = back("x2", 131);
    assert_eq!(book.ask(&name, action).unwrap_err(), Rejection::ReturnExceedsRedemption { points: 131, left: 130 });
    book.until("2011-01-15");
    let (name, action) = back("x3", 130);
    let events = book.ask(&name, action).unwrap();
    assert!(matches!(&events.last().unwrap().kind, EventKind::PointsExpired(part) if part.lot == 2 && part.points == 100));
    assert_eq!(book.available(), 200, "lot 2 expired on 1 January; its points are lost as they come");
}

#[test]
fn a_redemption_outside_its_window_cannot_be_returned() {
    let mut book = Book::new(json!({"return": {"window_days": 10}}));
    book.buy("a", "100");
    book.redeem("r", 100).unwrap();
    book.until("2010-01-11T12:00:00.000001Z");
    let action = Action::ReturnRedemption { redemption: id("r"), points: Some(10) };
    assert_eq!(book.ask("x", action).unwrap_err(), Rejection::OutsideReturnWindow { until: at("2010-01-11") });
}

#[test]
fn without_points_the_rest_is_captured_and_given_back() {
    let mut book = rich();
    let (capture, back) = (|points| Action::Capture { redemption: id("h"), points }, |points| Action::ReturnRedemption { redemption: id("h"), points });
    book.ask("h", Action::Hold { points: 200, minutes: None, occurred_at: None }).unwrap();
    assert_eq!(book.ask("x0", back(None)).unwrap_err(), Rejection::NothingToReturn { redemption_id: id("h") }, "nothing was spent yet");
    book.ask("c1", capture(Some(50))).unwrap();
    assert_eq!(lots(&book.ask("c2", capture(None)).unwrap()), [(2, 50), (1, 100)]);
    assert_eq!((book.balance().held, book.available()), (0, 100));
    book.ask("x1", back(Some(30))).unwrap();
    assert_eq!(lots(&book.ask("x2", back(None)).unwrap()), [(1, 70), (2, 50), (2, 50)]);
    assert_eq!(book.available(), 300);
    assert_eq!(book.ask("x3", back(None)).unwrap_err(), Rejection::NothingToReturn { redemption_id: id("h") });
}

fn values(events: &[Event]) -> Vec<String> {
    let value = |event: &Event| match &event.kind {
        EventKind::PointsRedeemed(spent) | EventKind::HoldCaptured(spent) => Some(spent.value.to_string()),
        EventKind::RedemptionReturned { value, .. } => value.map(|value| value.to_string()),
        _ => None,
    };
    events.iter().filter_map(value).collect()
}

fn give(book: &mut Book, points: i64) {
    book.ask("o", Action::Open).unwrap();
    book.ask("g", Action::Adjust { points, reason: why("gift") }).unwrap();
}

fn thirds(currency: &str) -> serde_json::Value {
    rules(json!({"currency": currency, "redeem": {"value": {"points": 3, "amount": "1.00"}}}))
}

#[test]
fn the_values_of_parts_add_up_to_that_of_the_whole_in_money_that_can_be_paid() {
    let mut book = Book::versions(&[thirds("GBP")]);
    give(&mut book, 10);
    book.ask("h", Action::Hold { points: 3, minutes: None, occurred_at: None }).unwrap();
    for name in ["c1", "c2", "c3"] {
        book.ask(name, Action::Capture { redemption: id("h"), points: Some(1) }).unwrap();
    }
    assert_eq!(values(&book.events), ["0.33", "0.34", "0.33"]);
    for name in ["x1", "x2", "x3"] {
        book.ask(name, Action::ReturnRedemption { redemption: id("h"), points: Some(1) }).unwrap();
    }
    assert_eq!(values(&book.events)[3..], ["0.33", "0.34", "0.33"], "what comes back is worth what was given for it");
    book.redeem("r", 7).unwrap();
    assert_eq!(values(&book.events)[6..], ["2.33"]);
}

#[test]
fn each_part_has_the_rate_of_its_own_capture() {
    let mut dearer = thirds("GBP");
    (dearer["effective_from"], dearer["redeem"]["value"]) = (json!("2010-02-01T00:00:00Z"), json!({"points": 7, "amount": "5.00"}));
    let mut book = Book::versions(&[thirds("GBP"), dearer]);
    give(&mut book, 10);
    book.ask("h", Action::Hold { points: 4, minutes: Some(60 * 24 * 60), occurred_at: None }).unwrap();
    let capture = |points| Action::Capture { redemption: id("h"), points: Some(points) };
    book.ask("c1", capture(2)).unwrap();
    book.until("2010-02-02");
    book.ask("c2", capture(1)).unwrap();
    book.ask("c3", capture(1)).unwrap();
    // 2/3, + 5/7 = 1.380952…, + 5/7 = 2.095238…
    assert_eq!(values(&book.events), ["0.67", "0.71", "0.72"]);
    book.ask("x1", Action::ReturnRedemption { redemption: id("h"), points: Some(3) }).unwrap();
    book.ask("x2", Action::ReturnRedemption { redemption: id("h"), points: None }).unwrap();
    // 1/3 is left of it.
    assert_eq!(values(&book.events)[3..], ["1.77", "0.33"]);
}

#[test]
fn values_have_the_minor_unit_of_the_currency() {
    for (currency, value) in [("JPY", "2"), ("GBP", "2.33"), ("KWD", "2.333"), ("CLF", "2.3333")] {
        let mut book = Book::versions(&[thirds(currency)]);
        give(&mut book, 10);
        book.redeem("r", 7).unwrap();
        assert_eq!(values(&book.events), [value], "{currency}");
    }
}

#[test]
fn what_was_captured_before_rates_were_told_is_worth_what_it_said() {
    let mut book = Book::versions(&[thirds("GBP")]);
    give(&mut book, 10);
    book.ask("h", Action::Hold { points: 3, minutes: None, occurred_at: None }).unwrap();
    let parts = vec![Part { lot: 1, points: 1, pending: false }];
    let spent = Spent { redemption: id("h"), parts, value: crate::support::amount("0.333333"), return_until: at("2010-12-01"), rate: None };
    book.account.evolve(&Event { at: book.now, kind: EventKind::HoldCaptured(spent) });
    book.ask("c2", Action::Capture { redemption: id("h"), points: None }).unwrap();
    assert_eq!(values(&book.events), ["0.67"], "1.00 together, of which 0.33 was paid");
}

#[test]
fn what_was_known_once_is_not_unknown() {
    let mut book = rich();
    let redemption = || id("gone");
    let back = || Action::ReturnRedemption { redemption: redemption(), points: None };
    assert_eq!(book.ask("x", back()).unwrap_err(), Rejection::RedemptionNotFound { redemption_id: redemption() });
    assert_eq!(book.refused_of_known(back()), Rejection::ReturnWindowForgotten);
    assert_eq!(book.refused_of_known(Action::Release { redemption: redemption() }), Rejection::HoldNotFound { redemption_id: redemption() });
}

#[test]
fn a_redemption_can_be_returned_to_the_last_moment() {
    let mut book = Book::new(json!({"return": {"window_days": 10}}));
    book.buy("a", "100");
    book.redeem("r", 100).unwrap();
    book.until("2010-01-11");
    book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: Some(100) }).unwrap();
    assert_eq!(book.available(), 100);
}

#[test]
fn a_capture_names_no_lot_that_it_takes_nothing_from() {
    let mut book = rich();
    book.ask("h", Action::Hold { points: 200, minutes: None, occurred_at: None }).unwrap();
    assert_eq!(lots(&book.ask("c", Action::Capture { redemption: id("h"), points: Some(60) }).unwrap()), [(2, 60)]);
    assert_eq!(lots(&book.ask("x", Action::ReturnRedemption { redemption: id("h"), points: Some(10) }).unwrap()), [(2, 10)]);
}

#[test]
fn the_rules_of_its_time_decide_what_is_told_later() {
    let told_later = json!({"redeem": {"offline_minutes": 60}});
    let mut later = rules(told_later.clone());
    later["effective_from"] = json!("2010-02-01T00:00:00Z");
    let mut book = Book::versions(&[rules(told_later), later]);
    book.buy("a", "100");
    book.until("2010-02-01T00:10:00Z");
    let redeem = |occurred_at| Action::Redeem { points: 10, occurred_at };
    assert_eq!(book.version_for("then", redeem(Some(at("2010-01-31T23:50:00Z")))), 1);
    assert_eq!(book.version_for("now", redeem(None)), 2);
    assert_eq!(book.version_for("h", Action::Hold { points: 10, minutes: None, occurred_at: Some(at("2010-01-31T23:55:00Z")) }), 1);
}
