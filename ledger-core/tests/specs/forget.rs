//! What an account forgets once no later command can need it, and what it keeps till then.

use ledger_core::account::command::Action;
use serde_json::{Value, json};

use crate::support::{Book, at, id, why};

/// Seals a record at `now` that needs nothing of the past.
fn touch(book: &mut Book, now: &str) {
    book.until(now);
    let name = format!("touch-{now}");
    book.ask(&name, Action::Freeze(why("look"))).unwrap();
    book.ask(&format!("{name}-back"), Action::Unfreeze(why("look"))).unwrap();
}

fn days(book: &Book) -> Vec<i64> {
    let pools = serde_json::to_value(&book.account.pools).unwrap();
    pools["days"].as_array().unwrap().iter().map(|run| run["day"].as_i64().unwrap()).collect()
}

fn window(days: u32, changes: Value) -> Value {
    let mut rules = json!({"return": {"window_days": days}});
    for (key, value) in changes.as_object().unwrap() {
        rules[key] = value.clone();
    }
    rules
}

/// Returns within 10 days; told of at most 30 days later.
#[test]
fn a_purchase_and_its_empty_lot_are_kept_until_no_return_can_come() {
    let mut book = Book::new(window(10, json!({})));
    book.buy("a", "100");
    book.buy("b", "50");
    book.redeem("r", 100).unwrap();
    touch(&mut book, "2010-02-10");
    assert!(book.account.purchase(&id("a")).is_some() && book.account.lot(1).is_some(), "to the last moment");
    touch(&mut book, "2010-02-10T12:00:00.000001Z");
    assert!(book.account.purchase(&id("a")).is_none() && book.account.purchase(&id("b")).is_none());
    assert!(book.account.lot(1).is_none() && book.account.lot(2).is_some(), "an empty lot goes, one with points stays");
    assert_eq!(book.available(), 50);
}

#[test]
fn a_redemption_is_kept_until_no_return_can_come_or_nothing_is_left_of_it() {
    let mut book = Book::new(window(10, json!({})));
    book.buy("a", "300");
    book.redeem("whole", 100).unwrap();
    book.redeem("back", 50).unwrap();
    book.ask("x", Action::ReturnRedemption { redemption: id("back"), points: None }).unwrap();
    assert!(book.account.redemption(&id("back")).is_some());
    // Something to look through the account for, before the window of the others is over.
    book.ask("up", Action::Adjust { points: 1, reason: why("look") }).unwrap();
    book.until("2010-01-20");
    book.buy("late", "1");
    touch(&mut book, "2010-02-10T12:00:00.000001Z");
    assert!(book.account.redemption(&id("back")).is_none() && book.account.redemption(&id("whole")).is_none());
    let mut kept = Book::new(window(10, json!({})));
    kept.buy("a", "300");
    kept.redeem("whole", 100).unwrap();
    touch(&mut kept, "2010-02-10");
    assert!(kept.account.redemption(&id("whole")).is_some(), "to the last moment");
}

/// More of it may be captured, which is rounded together with what was captured before.
#[test]
fn a_redemption_is_kept_while_more_of_its_hold_may_be_captured() {
    let mut book = Book::new(window(10, json!({})));
    book.buy("a", "300");
    for name in ["held", "over"] {
        book.ask(name, Action::Hold { points: 20, minutes: Some(500_000), occurred_at: None }).unwrap();
        book.ask(&format!("{name}-1"), Action::Capture { redemption: id(name), points: Some(5) }).unwrap();
    }
    book.ask("release", Action::Release { redemption: id("over") }).unwrap();
    book.redeem("all", 260).unwrap();
    book.redeem("rest", book.available()).unwrap();
    assert_eq!((book.balance().available, book.balance().held), (0, 15));
    touch(&mut book, "2010-03-01");
    assert!(book.account.redemption(&id("held")).is_some() && book.account.redemption(&id("over")).is_none());
    assert!(book.account.lot(1).is_some(), "a lot of which something is held stays");
}

#[test]
fn a_lot_that_was_emptied_by_hand_is_dropped_by_itself() {
    let mut book = Book::new(json!({}));
    book.ask("o", Action::Open).unwrap();
    book.ask("up", Action::Adjust { points: 10, reason: why("goodwill") }).unwrap();
    book.ask("down", Action::Adjust { points: -10, reason: why("mistake") }).unwrap();
    touch(&mut book, "2010-01-02");
    assert!(book.account.lot(1).is_none());
}

/// What was looked through once is looked through again when the next thing can go.
#[test]
fn what_goes_later_is_not_forgotten_to_go() {
    let mut book = Book::new(window(10, json!({})));
    book.ask("o", Action::Open).unwrap();
    book.ask("up", Action::Adjust { points: 10, reason: why("goodwill") }).unwrap();
    book.buy("a", "1");
    book.until("2010-01-20");
    book.redeem("r", 11).unwrap();
    touch(&mut book, "2010-02-15");
    assert!(book.account.purchase(&id("a")).is_none() && book.account.lot(1).is_some(), "the redemption may still come back");
    touch(&mut book, "2010-03-02");
    assert!(book.account.lot(1).is_none() && book.account.lot(2).is_none());
    assert_eq!(book.account.lots.len(), 0);
}

#[test]
fn what_counts_towards_a_tier_is_kept_one_by_one_for_400_days() {
    let mut book = Book::new(window(10, json!({})));
    book.buy("a", "100");
    book.until("2010-06-01");
    book.buy("b", "10");
    assert_eq!(book.account.qualifying.len(), 2, "of which none is out of any window");
    // Something is due to go just before, so that the account is looked through at that very moment.
    book.until("2010-12-20");
    book.buy("c", "1");
    touch(&mut book, "2011-02-05");
    assert_eq!(book.account.qualifying.len(), 3, "to the last moment");
    touch(&mut book, "2011-02-05T12:00:00.000001Z");
    assert_eq!((book.account.qualifying.len(), book.account.qualifying_before.points), (2, 100));
    assert_eq!(book.account.qualifying_after(None).points, 111, "for a lifetime it counts on");
}

#[test]
fn caps_by_day_are_kept_for_400_days_and_while_a_purchase_of_the_day_may_be_returned() {
    let mut book = Book::new(window(10, json!({})));
    book.buy("a", "1");
    let first = days(&book)[0];
    touch(&mut book, "2010-12-01");
    assert_eq!(days(&book), [first]);
    book.buy("b", "1");
    touch(&mut book, "2011-02-05");
    assert_eq!(days(&book).len(), 2, "told of late, a purchase of that day still finds its cap");
    touch(&mut book, "2011-02-06T12:00:01Z");
    assert_eq!(days(&book), [first + 334]);
    touch(&mut book, "2012-01-06T12:00:01Z");
    assert!(days(&book).is_empty(), "the last one goes as well");
    let mut long = Book::new(window(500, json!({})));
    long.buy("a", "1");
    long.until("2010-12-01");
    long.buy("b", "1");
    touch(&mut long, "2011-03-01");
    assert_eq!(days(&long), [first, first + 334], "its purchase may come back");
}

#[test]
fn sixteen_tiers_before_are_remembered() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 10}]);
    let mut book = Book::new(json!({"tiers": {"window": "lifetime", "levels": levels}}));
    for n in 0..10 {
        book.buy(&format!("p{n}"), "10");
        book.give_back(&format!("r{n}"), &format!("p{n}"), &[("1", "1")]).unwrap();
        assert_eq!(book.account.tier_history.len(), (2 * (n + 1)).min(16));
    }
}

#[test]
fn an_account_has_its_entry_tier_since_it_was_opened() {
    let mut book = Book::new(json!({}));
    book.until("2010-03-01");
    book.ask("o", Action::Open).unwrap();
    assert_eq!((book.account.standing.since, book.account.opened_at, book.account.last_activity), (at("2010-03-01"), at("2010-03-01"), at("2010-03-01")));
}

#[test]
fn of_what_is_looked_through_early_only_what_is_given_back_goes() {
    let mut book = Book::new(window(10, json!({})));
    book.ask("o", Action::Open).unwrap();
    // Something that goes at once, so that the account is looked through long before the windows are over.
    book.ask("up", Action::Adjust { points: 10, reason: why("goodwill") }).unwrap();
    book.ask("down", Action::Adjust { points: -10, reason: why("mistake") }).unwrap();
    book.buy("a", "300");
    book.redeem("whole", 100).unwrap();
    book.redeem("back", 50).unwrap();
    book.ask("x", Action::ReturnRedemption { redemption: id("back"), points: None }).unwrap();
    touch(&mut book, "2010-01-02");
    assert!(book.account.redemption(&id("whole")).is_some() && book.account.redemption(&id("back")).is_none());
}

#[test]
fn the_cap_of_a_day_is_kept_for_the_only_purchase_that_may_be_returned() {
    let mut book = Book::new(window(500, json!({})));
    book.buy("a", "1");
    let first = days(&book)[0];
    touch(&mut book, "2011-03-01");
    assert_eq!(days(&book), [first]);
}

/// A lot of a redemption that was given back, and then taken by hand: nothing but the lot itself tells when it goes.
#[test]
fn an_empty_lot_goes_when_its_time_is_over_though_nothing_else_goes_then() {
    let mut book = Book::new(window(10, json!({})));
    let change = |book: &mut Book, name: &str, points: i64| book.ask(name, Action::Adjust { points, reason: why("look") }).unwrap();
    book.ask("o", Action::Open).unwrap();
    change(&mut book, "up", 10);
    book.redeem("r", 10).unwrap();
    book.ask("x", Action::ReturnRedemption { redemption: id("r"), points: None }).unwrap();
    change(&mut book, "down", -10);
    change(&mut book, "up-2", 5);
    change(&mut book, "down-2", -5);
    touch(&mut book, "2010-01-02");
    assert!(book.account.redemption(&id("r")).is_none() && book.account.lot(1).is_some() && book.account.lot(2).is_none());
    touch(&mut book, "2010-02-10T12:00:00.000001Z");
    assert_eq!(book.account.lots.len(), 0);
}
