//! Tiers: reached, kept, lost.

use ledger_core::account::EventKind;
use ledger_core::account::command::Action;
use serde_json::{Value, json};

use crate::support::{Book, at, earned, id, purchase, rules};

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

#[test]
fn a_tier_may_have_a_rate_that_no_factor_on_everybodys_gives() {
    let tiers = json!({"qualify_by": "spend", "levels": [
        {"name": "none", "at": 0, "multiplier": "0"}, {"name": "G1", "at": "100000"}, {"name": "G2", "at": "300000", "base": {"points": "1", "per": "900"}}]});
    let mut book = Book::new(json!({"earn": {"base": {"points": "1", "per": "1000"}}, "tiers": tiers}));
    assert_eq!(["120000", "196000", "900000"].map(|price| book.buy(price, price)), [0, 196, 1000]);
    book.give_back("r", "900000", &[("1", "1")]).unwrap();
    assert_eq!(book.available(), 196, "what comes back is rated by the rate of its purchase");
}

#[test]
fn a_tiers_own_rate_is_multiplied_and_may_count_whole_steps() {
    for (steps, points) in [(true, 40), (false, 44)] {
        let base = json!({"points": "5", "per": "7", "whole_steps": steps});
        let mut book = Book::new(json!({"tiers": {"levels": [{"name": "member", "at": 0, "base": base, "multiplier": "2"}]}}));
        assert_eq!(book.buy("a", "31"), points, "whole steps: {steps}");
    }
}

fn visited(versions: &[Value]) -> Book {
    let mut book = Book::versions(versions);
    book.now = at("2024-02-29");
    book.buy("p", "1");
    book
}

fn reviews(book: &mut Book, years: impl Iterator<Item = i32>) -> Vec<String> {
    let mut reviews = Vec::new();
    for year in years {
        book.until(&format!("{year}-01-15"));
        book.buy(&format!("p{year}"), "1");
        book.until(&format!("{year}-03-01"));
        let kept = book.events.iter().rev().find(|event| matches!(event.kind, EventKind::TierKept(_) | EventKind::TierChanged(_)));
        reviews.push(kept.unwrap().at.to_string());
    }
    reviews
}

fn by_visits(changes: Value) -> Value {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 1}]);
    let mut rules = rules(json!({"tiers": {"qualify_by": "purchases", "window": "rolling_12_months", "levels": levels}}));
    changes.as_object().unwrap().iter().for_each(|(key, value)| rules[key] = value.clone());
    rules
}

#[test]
fn reviews_keep_the_day_on_which_the_tier_was_reached() {
    let mut book = visited(&[by_visits(json!({}))]);
    let days = reviews(&mut book, 2025..=2029);
    assert_eq!(days, ["2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"].map(|day| format!("{day}T12:00:00Z")));
    assert_eq!(book.account.standing.review_at, Some(at("2030-02-28")));
}

#[test]
fn reviews_keep_their_day_in_another_zone_and_from_a_day_that_was_lost() {
    // The clock of the second version shows a time of day six hours earlier.
    let west = by_visits(json!({"time_zone": "America/Chicago", "effective_from": "2025-06-01T00:00:00Z"}));
    let mut book = visited(&[by_visits(json!({})), west]);
    assert_eq!(reviews(&mut book, 2025..=2028)[3], "2028-02-29T12:00:00Z");

    // As books were written before: each review twelve months after the one before.
    let mut book = visited(&[by_visits(json!({}))]);
    reviews(&mut book, 2025..=2027);
    book.account.standing.review_at = Some(at("2028-02-28"));
    assert_eq!(reviews(&mut book, 2028..=2028), ["2028-02-28T12:00:00Z"]);
    assert_eq!(book.account.standing.review_at, Some(at("2029-02-28")), "in a year, not on the day after");
}

#[test]
fn a_tier_lost_by_review_is_reviewed_on_its_first_day_again() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "bronze", "at": 1}, {"name": "silver", "at": 2}, {"name": "gold", "at": 3},
        {"name": "platinum", "at": 5}]);
    let mut book = Book::new(json!({"tiers": {"window": "rolling_12_months", "levels": levels}}));
    book.now = at("2024-02-29");
    book.buy("a", "5");
    book.until("2026-03-01");
    assert_eq!((tier(&book), book.account.standing.review_at), ("silver", Some(at("2027-02-28"))));
    book.until("2027-03-01");
    assert_eq!((tier(&book), book.account.standing.review_at), ("bronze", Some(at("2028-02-29"))));
}

#[test]
fn a_tier_of_29_february_lasts_as_long_as_any_other() {
    for day in ["2012-02-28T12:00:00Z", "2012-02-29T12:00:00Z", "2012-03-31T12:00:00Z"] {
        let tiers = json!({"qualify_by": "purchases", "window": "rolling_12_months", "levels": [{"name": "member", "at": 0}, {"name": "silver", "at": 1}]});
        let mut book = Book::new(json!({"tiers": tiers}));
        book.until(day);
        book.buy("p", "1");
        assert_eq!(tier(&book), "silver");
        book.until("2013-04-15");
        assert_eq!(tier(&book), "member", "{day}: what reached it does not count again");
    }
}

#[test]
fn reviews_end_where_time_ends() {
    let mut book = ladder(json!({"window": "lifetime"}));
    book.buy("a", "1000");
    book.until("2300-01-01T00:00:00Z");
    assert_eq!((tier(&book), book.account.standing.review_at), ("silver", None));
}

#[test]
fn a_purchase_at_the_start_of_the_window_had_not_reached_the_tier() {
    let mut book = ladder(json!({}));
    book.buy("a", "600");
    book.until("2011-01-01T12:00:00Z");
    book.buy("b", "1000");
    assert_eq!(tier(&book), "silver");
    book.give_back("r", "a", &[("1", "1")]).unwrap();
    assert_eq!((tier(&book), book.account.standing.basis.unwrap().points), ("silver", 1000));
}

#[test]
fn a_tier_kept_by_as_much_as_had_reached_it_is_kept_by_other_purchases() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 1000}]);
    let mut book = ladder(json!({"levels": levels}));
    book.buy("a", "1000");
    book.until("2010-12-01").buy("b", "1000");
    book.until("2011-01-10");
    assert_eq!((tier(&book), book.account.standing.review_at), ("silver", Some(at("2012-01-01"))));
    book.give_back("r", "b", &[("1", "1")]).unwrap();
    assert_eq!(tier(&book), "member");
}

#[test]
fn an_entry_tier_is_held_by_no_purchases() {
    let mut returned = ladder(json!({}));
    returned.buy("a", "1000");
    assert!(returned.account.standing.basis.is_some());
    returned.give_back("r", "a", &[("1", "1")]).unwrap();
    assert_eq!((tier(&returned), returned.account.standing.basis, returned.account.standing.review_at), ("member", None, None));
    let mut reviewed = ladder(json!({}));
    reviewed.buy("a", "1000");
    reviewed.until("2010-12-01").buy("b", "500");
    reviewed.until("2011-01-02");
    assert_eq!((tier(&reviewed), reviewed.account.standing.basis, reviewed.account.standing.review_at), ("member", None, None));
    let mut never = ladder(json!({"downgrade": "never"}));
    never.buy("a", "1000");
    assert_eq!((tier(&never), never.account.standing.review_at), ("silver", None), "nor is a tier reviewed that is never lost");
}

#[test]
fn what_is_left_of_the_purchases_that_reached_a_tier_is_counted_from_then() {
    let mut book = ladder(json!({}));
    book.buy("a", "5200");
    book.until("2010-06-01");
    book.give_back_amount("r", "a", "1000").unwrap();
    assert_eq!((tier(&book), book.account.standing.counted_from), ("silver", Some(at("2009-01-01"))));
}

#[test]
fn a_late_purchase_at_the_start_of_the_window_does_not_count() {
    for (when, reached) in [("2010-01-01T12:00:00Z", "member"), ("2010-01-01T12:00:00.000001Z", "silver")] {
        let mut book = ladder(json!({}));
        book.until("2010-06-01").buy("a", "400");
        book.until("2011-01-01");
        book.ask("b", Action::Earn(purchase("b", at(when), &[("1", "A", "1", "600")]))).unwrap();
        assert_eq!(tier(&book), reached, "{when}");
    }
}

#[test]
fn the_first_moment_of_a_year_belongs_to_it() {
    for (when, reached) in [("2010-12-31T23:59:59.999999Z", "member"), ("2011-01-01T00:00:00Z", "silver")] {
        let mut book = ladder(json!({"window": "calendar_year"}));
        book.until(when).buy("a", "600");
        book.until("2011-02-01").buy("b", "600");
        assert_eq!(tier(&book), reached, "{when}");
    }
}

/// The day on which the tier was reached had summer time in the second version's zone, and a year later it has not.
#[test]
fn a_review_that_another_zone_moved_off_its_anniversary_looks_back_twelve_months_of_its_own() {
    let west = by_visits(json!({"time_zone": "America/Chicago", "effective_from": "2010-12-01T00:00:00Z"}));
    let mut book = Book::versions(&[by_visits(json!({})), west]);
    book.until("2010-11-06T12:00:00Z").buy("p", "1");
    book.until("2011-11-06T12:00:00Z");
    let EventKind::TierKept(kept) = &book.events.last().unwrap().kind else { unreachable!("it is reviewed at 12:00, which was 07:00 and is 06:00") };
    assert_eq!(kept.counted_from, Some(at("2010-11-06T11:00:00Z")));
}
