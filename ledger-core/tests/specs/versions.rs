//! What may change between two versions of a rulebook, and what each version goes on deciding.

use ledger_core::account::EventKind;
use ledger_core::account::command::{Action, Refund};
use ledger_core::account::state::Status;
use serde_json::{Value, json};

use crate::support::{Book, amount, at, earned, purchase, rules, why};

/// Rules from 2010-02-01 on, after others before.
fn from_february(before: Value, after: Value) -> Book {
    let mut later = rules(after);
    later["effective_from"] = json!("2010-02-01T00:00:00Z");
    Book::versions(&[rules(before), later])
}

fn caps(caps: Value) -> Value {
    json!({"earn": {"caps": caps}})
}

#[test]
fn a_purchase_that_a_lower_cap_gave_nothing_takes_nothing_when_it_comes_back() {
    let mut book = from_february(json!({}), caps(json!({"per_member": 5000})));
    assert_eq!(book.buy("p0", "8000"), 8000);
    book.until("2010-02-02");
    assert_eq!(book.buy("p1", "100"), 0);
    book.give_back("r1", "p1", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 8000);
    // Without the first there is room for the second, had it not come back.
    book.give_back("r0", "p0", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn returning_what_was_bought_before_a_cap_gives_room_under_it() {
    let mut book = from_february(json!({}), caps(json!({"per_member": 5000})));
    book.buy("p0", "8000");
    book.until("2010-02-02");
    book.buy("p1", "100");
    book.give_back("r0", "p0", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 100, "the goods kept earn what they would have earned alone");
    book.give_back("r1", "p1", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn a_cap_that_is_raised_or_removed_grants_no_more_to_what_it_capped() {
    for after in [json!({"per_member": 5000}), json!({})] {
        let mut book = from_february(caps(json!({"per_member": 1000})), caps(after));
        assert_eq!(book.buy("p0", "1500"), 1000);
        book.until("2010-02-02");
        assert_eq!(book.buy("p1", "700"), 700);
        book.give_back("r1", "p1", &[("1", "1")]).unwrap();
        assert_eq!(book.available(), 1000);
        book.give_back("r0", "p0", &[("1", "1")]).unwrap();
        assert_eq!(book.available(), 0);
    }
}

#[test]
fn the_caps_of_two_versions_share_a_day() {
    let mut second = rules(caps(json!({"per_day": 100})));
    second["effective_from"] = json!("2010-01-01T15:00:00Z");
    let mut book = Book::versions(&[rules(caps(json!({"per_day": 500}))), second]);
    assert_eq!(book.buy("morning", "300"), 300);
    book.until("2010-01-01T16:00:00Z");
    assert_eq!(book.buy("evening", "50"), 0, "more than 100 were granted that day already");
    book.give_back("r1", "evening", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 300);
    let late = purchase("late", at("2010-01-01T14:00:00Z"), &[("1", "sku", "1", "400")]);
    book.ask("late", Action::Earn(late)).unwrap();
    assert_eq!(book.available(), 500, "by the cap that rates it");
    book.give_back("r2", "morning", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 400, "what is kept, in the order it was booked: late 400 by 500, and nothing else");
}

#[test]
fn parts_of_returns_under_two_caps_end_as_one_return_does() {
    let make = || {
        let mut book = from_february(caps(json!({"per_member": 900})), caps(json!({"per_member": 1200, "per_day": 250})));
        book.buy("a", "800");
        book.until("2010-02-02");
        book.buy("b", "240");
        book.buy("c", "40");
        book.until("2010-02-03");
        book.buy("d", "500");
        book
    };
    let (mut whole, mut parts) = (make(), make());
    whole.give_back_amount("r", "b", "200").unwrap();
    (0..4).for_each(|n| drop(parts.give_back_amount(&format!("r{n}"), "b", "50").unwrap()));
    assert_eq!(whole.available(), parts.available());
    assert_eq!(whole.available(), 800 + 40 + 40 + 250);
}

#[test]
fn a_condition_sees_the_goods_that_are_kept() {
    let bonus = |when: &str| json!({"earn": {"bonus": [{"id": "b", "when": when, "multiply": "5"}]}});
    let lines = &[("1", "sku", "10", "10"), ("2", "other", "1", "30")];
    // The condition; what all of it earns; what 9 of the ten returned leave; what is left after 15.00 more, no line named.
    for (when, all, some, less) in [
        ("line.quantity >= 10.0", 530, 40, 25),
        ("line.amount >= 100.0", 530, 40, 25),
        ("line.amount >= 30.0", 650, 160, 25),
        ("purchase.total >= 130.0", 650, 40, 25),
        ("purchase.line_count == 2", 650, 200, 125),
        ("line.discount < 1.0 && line.tax < 1.0", 650, 200, 125),
    ] {
        let mut book = Book::new(bonus(when));
        book.ask("p", Action::Earn(purchase("p", book.now, lines))).unwrap();
        assert_eq!(book.available(), all, "{when}");
        book.give_back("r1", "p", &[("1", "9")]).unwrap();
        assert_eq!(book.available(), some, "{when}");
        book.give_back_amount("r2", "p", "15.00").unwrap();
        assert_eq!(book.available(), less, "{when}");
    }
}

#[test]
fn a_line_that_came_back_whole_is_no_line_of_the_purchase() {
    let mut book = Book::new(json!({"earn": {"bonus": [{"id": "b", "when": "purchase.line_count >= 2", "multiply": "2"}]}}));
    book.ask("p", Action::Earn(purchase("p", book.now, &[("1", "sku", "1", "10"), ("2", "sku", "1", "20")]))).unwrap();
    assert_eq!(book.available(), 60);
    book.give_back("r", "p", &[("2", "1")]).unwrap();
    assert_eq!(book.available(), 10);
}

#[test]
fn a_rulebook_to_come_puts_nobody_to_sleep() {
    let mut book = from_february(json!({}), json!({"accounts": {"inactive_after": {"days": 10}}}));
    book.buy("p", "10");
    book.until("2010-01-31");
    assert_eq!(book.account.status, Status::Active, "no rule in force says so yet");
    book.until("2010-02-01T00:00:00Z");
    assert_eq!(book.account.status, Status::Inactive);
    let lapsed = book.events.iter().find(|event| event.kind == EventKind::AccountLapsed).unwrap();
    assert_eq!(lapsed.at, at("2010-02-01T00:00:00Z"), "not before the rule was in force");
}

#[test]
fn an_account_sleeps_by_the_first_rule_in_force_that_says_so() {
    let days = |days: u32| json!({"accounts": {"inactive_after": {"days": days}}});
    let mut book = from_february(days(20), days(90));
    book.buy("p", "10");
    book.until("2010-01-20");
    assert_eq!(book.account.status, Status::Active);
    book.until("2010-01-21");
    assert_eq!(book.account.status, Status::Inactive);
    let mut later = from_february(days(40), days(90));
    later.buy("p", "10");
    later.until("2010-02-20");
    assert_eq!(later.account.status, Status::Active, "forty days were over while ninety were in force");
    later.until("2010-04-01");
    assert_eq!(later.account.status, Status::Inactive);
}

fn ladder(unit: &str, silver: u32) -> Value {
    json!({"tiers": {"qualify_by": unit, "levels": [{"name": "member", "at": 0}, {"name": "silver", "at": silver}]},
        "earn": {"base": {"points": "10", "per": "1.00"}}})
}

#[test]
fn points_never_count_as_money_nor_as_purchases() {
    for (unit, silver, stays, reaches) in [("spend", 100, "49.00", "1.00"), ("purchases", 3, "49.00", "0.10")] {
        let mut book = from_february(ladder("points", 10_000), ladder(unit, silver));
        book.buy("p", "50");
        assert_eq!(book.account.lifetime_earned, 500);
        book.until("2010-02-02");
        book.buy("q", stays);
        assert_eq!(book.account.standing.tier, "member", "{unit}: 500 points are no 500 of it");
        book.buy("r", reaches);
        assert_eq!(book.account.standing.tier, "silver", "{unit}");
        book.give_back("x", "p", &[("1", "1")]).unwrap();
        assert_eq!(book.account.standing.tier, "member", "{unit}");
    }
}

/// A till's clock may run ahead by minutes.
#[test]
fn rules_to_come_apply_to_nothing_that_a_clock_ahead_tells() {
    let later = json!({"earn": {"base": {"points": "9", "per": "1.00"}}, "redeem": {"value": {"points": 1, "amount": "1.00"}}, "return": {"unmatched": "reduce_spend"}});
    let mut book = from_february(json!({"redeem": {"value": {"points": 100, "amount": "1.00"}}}), later);
    book.until("2010-01-31T23:58:00Z");
    let ahead = at("2010-02-01T00:01:00Z");
    let bought = book.ask("p", Action::Earn(purchase("p", ahead, &[("1", "sku", "1", "100")]))).unwrap();
    assert_eq!(earned(&bought), 100);
    let spent = book.ask("r", Action::Redeem { points: 10, occurred_at: Some(ahead) }).unwrap();
    let value = spent.iter().find_map(|event| match &event.kind {
        EventKind::PointsRedeemed(spent) => Some(spent.value),
        _ => None,
    });
    assert_eq!(value, Some(amount("0.10")));
    let body = Refund { occurred_at: ahead, amount: amount("5"), reference: "".into() };
    assert_eq!(book.ask("f", Action::Refund(Box::new(body))).unwrap_err().code(), "refund_unmatched");
}

#[test]
fn before_the_first_rules_are_in_force_nothing_is_granted() {
    let mut rules = rules(json!({}));
    rules["effective_from"] = json!("2030-01-01T00:00:00Z");
    let mut book = Book::versions(&[rules]);
    book.until("2010-01-02");
    for action in [Action::Open, Action::Redeem { points: 1, occurred_at: None }] {
        assert_eq!(book.ask("a", action).unwrap_err().code(), "no_rulebook_in_force");
    }
}

/// What the goods under the cap of a day would get instead has no lot to go to.
#[test]
fn room_that_nobody_gets_is_taken_from_nobody() {
    let mut second = rules(caps(json!({"per_day": 100})));
    second["effective_from"] = json!("2010-01-01T15:00:00Z");
    let book = || {
        let mut book = Book::versions(&[rules(caps(json!({"per_day": 100, "per_member": 0}))), second.clone()]);
        book.ask("o", Action::Open).unwrap();
        book.ask("a", Action::Adjust { points: 500, reason: why("goodwill") }).unwrap();
        assert_eq!(book.buy("p1", "50"), 0);
        book.until("2010-01-01T16:00:00Z");
        book
    };
    let mut one = book();
    assert_eq!(one.buy("p2", "100"), 50);
    one.give_back("r1", "p1", &[("1", "1")]).unwrap();
    assert_eq!(one.available(), 550);
    one.give_back("r2", "p2", &[("1", "1")]).unwrap();
    assert_eq!(one.available(), 500, "it gave 50, and 50 are taken");
    let mut two = book();
    for (name, price, points) in [("p2", "30", 30), ("p3", "40", 20), ("p4", "40", 0)] {
        assert_eq!(two.buy(name, price), points, "{name}");
    }
    two.give_back("r1", "p1", &[("1", "1")]).unwrap();
    two.give_back("r4", "p4", &[("1", "1")]).unwrap();
    assert_eq!(two.available(), 550, "what granted nothing takes nothing");
}

#[test]
fn an_account_that_would_fall_asleep_as_a_rule_begins_sleeps_by_that_rule() {
    let days = |days: u32| json!({"accounts": {"inactive_after": {"days": days}}});
    let mut book = from_february(days(31), days(90));
    book.now = at("2010-01-01T00:00:00Z");
    book.buy("p", "10");
    book.until("2010-02-01T00:00:00Z");
    assert_eq!(book.account.status, Status::Active);
    book.until("2010-03-31T22:59:59.999999Z");
    assert_eq!(book.account.status, Status::Active);
    book.until("2010-03-31T23:00:00Z");
    assert_eq!(book.account.status, Status::Inactive, "90 days later on the program's clock");
}

/// What occurs while an hour is given may be told for an hour, whatever the rules say by then.
#[test]
fn expiry_is_booked_when_the_last_rules_before_it_let_nothing_more_be_told() {
    let expiry = json!({"mode": "rolling", "days": 31});
    let mut later = rules(json!({"expiry": expiry}));
    later["effective_from"] = json!("2010-01-31T23:50:00Z");
    let mut book = Book::versions(&[rules(json!({"expiry": expiry, "redeem": {"offline_minutes": 60}})), later]);
    book.now = at("2010-01-01T00:00:00Z");
    book.buy("p", "10");
    book.until("2010-02-01T00:45:00Z");
    book.ask("r", Action::Redeem { points: 3, occurred_at: Some(at("2010-01-31T23:45:00Z")) }).unwrap();
    book.until("2010-02-01T00:49:59.999999Z");
    assert_eq!(book.available(), 7);
    book.until("2010-02-01T00:50:00Z");
    assert_eq!((book.available(), book.events.last().unwrap().at), (0, at("2010-02-01T00:00:00Z")));
}

#[test]
fn a_program_knows_whether_anything_is_told_later_and_whose_clock_it_runs_on() {
    let told_later = rules(json!({"redeem": {"offline_minutes": 1}}));
    let programs = [vec![], vec![rules(json!({}))], vec![rules(json!({})), told_later]].map(|versions| crate::support::program(&versions));
    assert_eq!(programs.each_ref().map(ledger_core::policy::Program::is_told_later), [false, false, true]);
    assert_eq!(programs.each_ref().map(ledger_core::policy::Program::is_sandbox), [false, true, true]);
    assert!(!crate::support::program(&[rules(json!({"mode": "live"}))]).is_sandbox());
}
