//! Tiers: reached, kept, lost.

use ledger_core::account::command::Action;
use serde_json::{Value, json};

use crate::support::{Book, at, earned, id, purchase};

fn ladder(changes: Value) -> Book {
    let mut tiers = json!({"window": "rolling_12_months", "levels": [
        {"name": "member", "at": 0}, {"name": "silver", "at": 1000, "multiplier": "1.25"}, {"name": "gold", "at": 5000, "multiplier": "1.5"}]});
    for (key, value) in changes.as_object().unwrap() {
        tiers[key] = value.clone();
    }
    Book::new(json!({"tiers": tiers}))
}

fn tier(book: &Book) -> &str {
    &book.account.standing.tier
}

#[test]
fn a_tier_is_reached_by_earning_and_multiplies_from_then_on() {
    let mut book = ladder(json!({}));
    assert_eq!(book.buy("a", "999"), 999);
    assert_eq!(tier(&book), "member");
    assert_eq!(book.buy("b", "1"), 1);
    assert_eq!(tier(&book), "silver");
    assert_eq!(book.buy("c", "100"), 125);
    book.buy("d", "4000");
    assert_eq!(tier(&book), "gold");
    assert_eq!(book.account.standing.review_at, Some(at("2011-01-01")));
}

#[test]
fn spending_never_costs_a_tier() {
    let mut book = ladder(json!({}));
    book.buy("a", "1000");
    book.redeem("r", 1000).unwrap();
    assert_eq!(tier(&book), "silver");
}

#[test]
fn a_return_costs_the_tier_that_its_goods_had_reached_and_no_other() {
    let mut book = ladder(json!({}));
    book.buy("a", "600");
    book.buy("b", "600");
    assert_eq!(tier(&book), "silver");
    book.give_back("r1", "b", &[("1", "1")]).unwrap();
    assert_eq!((tier(&book), book.available()), ("member", 600));

    let mut later = ladder(json!({}));
    later.buy("a", "1000");
    later.until("2010-06-01");
    assert_eq!(later.buy("b", "100"), 125);
    later.give_back("r", "b", &[("1", "1")]).unwrap();
    assert_eq!(tier(&later), "silver", "what came after it was reached had not reached it");
    later.buy("c", "900");
    later.give_back("r2", "a", &[("1", "1")]).unwrap();
    assert_eq!(tier(&later), "silver", "what was earned since reaches it again");
}

#[test]
fn purchases_of_one_moment_stop_counting_as_their_goods_come_back_whichever_is_first() {
    let mut book = ladder(json!({}));
    book.buy("a", "400");
    book.buy("b", "700");
    assert_eq!(tier(&book), "silver");
    book.give_back_amount("r1", "a", "100").unwrap();
    assert_eq!(tier(&book), "silver");
    book.give_back("r2", "b", &[("1", "1")]).unwrap();
    assert_eq!(tier(&book), "member", "300 are left");
}

#[test]
fn what_was_bought_after_a_tier_was_reached_does_not_hold_up_what_returns_leave_of_it() {
    // Given gold by a purchase of last year, and a purchase of this one, which does not reach it.
    let mut book = ladder(json!({"window": "calendar_year"}));
    book.until("2010-12-01").buy("a", "5200");
    assert_eq!(book.until("2011-01-10").buy("b", "100"), 150);
    // When so much of the first comes back that the rest makes silver,
    book.give_back_amount("r1", "a", "1000").unwrap();
    assert_eq!(tier(&book), "silver");
    book.give_back_amount("r2", "a", "3100").unwrap();
    assert_eq!(tier(&book), "silver", "1100 are left of what had reached it");
    // Then the second is not one of those that reached it.
    book.give_back("r3", "b", &[("1", "1")]).unwrap();
    assert_eq!(tier(&book), "silver");
    book.give_back_amount("r4", "a", "200").unwrap();
    assert_eq!(tier(&book), "member");
}

#[test]
fn a_review_after_12_months_keeps_or_lowers() {
    for (downgrade, after_one, after_two) in [("never", "gold", "gold"), ("one_level", "silver", "member"), ("to_level", "member", "member")] {
        let mut book = ladder(json!({"downgrade": downgrade}));
        book.buy("a", "5000");
        assert_eq!(tier(&book), "gold");
        assert_eq!(book.until("2011-01-01T11:59:59.999999Z").account.standing.tier, "gold");
        book.until("2011-01-01T12:00:00Z");
        assert_eq!(tier(&book), after_one, "{downgrade}");
        book.until("2012-01-01T12:00:00Z");
        assert_eq!(tier(&book), after_two, "{downgrade}");
    }
    let mut kept = ladder(json!({}));
    kept.buy("a", "1000");
    kept.until("2010-12-01");
    kept.buy("b", "1000");
    kept.until("2011-01-01T12:00:00Z");
    assert_eq!((tier(&kept), kept.account.standing.review_at), ("silver", Some(at("2012-01-01"))));
}

#[test]
fn a_tier_held_by_grace_is_not_lost_by_a_return() {
    let mut book = ladder(json!({}));
    book.buy("a", "5000");
    book.until("2010-12-20");
    book.buy("b", "100");
    book.until("2011-01-02");
    assert_eq!(tier(&book), "silver", "one level down, though 150 points count");
    book.give_back("r", "b", &[("1", "1")]).unwrap();
    assert_eq!(tier(&book), "silver");
}

#[test]
fn what_counts_and_over_which_time_is_the_rulebooks_choice() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 3}]);
    let mut visits = ladder(json!({"qualify_by": "purchases", "levels": levels}));
    visits.buy("a", "1");
    visits.buy("b", "1");
    assert_eq!(tier(&visits), "member");
    visits.buy("c", "1");
    assert_eq!(tier(&visits), "silver");
    visits.give_back("r", "a", &[("1", "1")]).unwrap();
    assert_eq!(tier(&visits), "member");

    let mut spend = ladder(json!({"qualify_by": "spend", "levels": [{"name": "member", "at": 0}, {"name": "silver", "at": "99.99"}]}));
    spend.buy("a", "99.98");
    assert_eq!(tier(&spend), "member");
    spend.buy("b", "0.01");
    assert_eq!(tier(&spend), "silver");

    for (window, second) in [("calendar_year", "member"), ("lifetime", "silver"), ("rolling_12_months", "silver")] {
        let mut book = ladder(json!({"window": window}));
        book.now = at("2010-12-31T12:00:00Z");
        book.buy("a", "600");
        book.until("2011-01-01T12:00:00Z");
        book.buy("b", "600");
        assert_eq!(tier(&book), second, "{window}");
    }
}

#[test]
fn twelve_months_back_to_the_moment_no_longer_count() {
    for (when, reached) in [("2011-01-01T11:59:59.999999Z", "silver"), ("2011-01-01T12:00:00Z", "member")] {
        let mut book = ladder(json!({}));
        book.buy("a", "600");
        book.until(when);
        book.buy("b", "600");
        assert_eq!(tier(&book), reached, "{when}");
    }
}

#[test]
fn a_purchase_that_arrives_late_reaches_a_tier_from_its_own_time() {
    let mut book = ladder(json!({}));
    book.buy("a", "900");
    book.now = at("2010-03-01");
    book.ask("b", Action::Earn(purchase("b", at("2010-02-01"), &[("1", "A", "1", "100")]))).unwrap();
    assert_eq!((tier(&book), book.account.standing.since), ("silver", at("2010-02-01")));
    let between = book.ask("c", Action::Earn(purchase("c", at("2010-02-15"), &[("1", "A", "1", "100")]))).unwrap();
    assert_eq!(earned(&between), 125, "silver since 1 February");
    assert!(book.account.purchase(&id("c")).is_some());
}
