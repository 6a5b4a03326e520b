//! What the fold keeps of the past for later decisions, told by what those decide.

use ledger_core::account::command::Action;
use ledger_core::account::{Account, Event, EventKind};
use ledger_core::policy::QualifyBy;
use serde_json::json;

use crate::support::{Book, at, purchase};

fn dates_of_payment(events: &[Event]) -> Vec<ledger_core::time::Moment> {
    events.iter().filter(|event| matches!(event.kind, EventKind::DebtPaid { .. })).map(|event| event.at).collect()
}

/// 0.5 × 1.99 is 0.995, charged as 1.00.
#[test]
fn goods_kept_are_rounded_as_they_were_when_they_were_bought() {
    let mut book = Book::new(json!({}));
    let body = purchase("p", book.now, &[("1", "A", "0.5", "1.99"), ("2", "B", "1", "5")]);
    book.ask("p", Action::Earn(body)).unwrap();
    assert_eq!(book.available(), 6);
    book.give_back("r", "p", &[("2", "1")]).unwrap();
    assert_eq!(book.available(), 1);
}

#[test]
fn a_return_takes_points_without_making_the_rest_younger() {
    let mut book = Book::new(json!({"redeem": {"offline_minutes": 60}}));
    let body = purchase("p", at("2010-01-01T10:00:00Z"), &[("1", "A", "1", "60"), ("2", "B", "1", "20")]);
    book.ask("p", Action::Earn(body)).unwrap();
    book.until("2010-01-01T12:20:00Z");
    book.give_back("r", "p", &[("2", "1")]).unwrap();
    book.until("2010-01-01T12:30:00Z");
    let earlier = Some(at("2010-01-01T12:10:00Z"));
    assert!(book.ask("s", Action::Redeem { points: 60, occurred_at: earlier }).is_ok(), "they were there at ten past");
}

#[test]
fn what_a_smaller_basket_earns_more_is_as_young_as_the_return() {
    let small = json!([{"id": "small", "when": "purchase.total < 50.0", "multiply": "10"}]);
    let mut book = Book::new(json!({"earn": {"bonus": small}, "redeem": {"offline_minutes": 60}}));
    let body = purchase("p", at("2010-01-01T10:00:00Z"), &[("1", "A", "1", "40"), ("2", "B", "1", "20")]);
    book.ask("p", Action::Earn(body)).unwrap();
    book.until("2010-01-01T12:20:00Z");
    book.give_back("r", "p", &[("2", "1")]).unwrap();
    assert_eq!(book.available(), 400);
    book.until("2010-01-01T12:30:00Z");
    let earlier = Some(at("2010-01-01T12:10:00Z"));
    let refused = book.ask("s", Action::Redeem { points: 400, occurred_at: earlier }).unwrap_err();
    assert_eq!(refused.code(), "insufficient_points", "at ten past there were 60");
}

/// A purchase told late pays from its own moment on, but not before the debt was there.
#[test]
fn a_debt_is_paid_no_earlier_than_it_was_made_and_no_later_than_it_can_be() {
    let mut book = Book::new(json!({"return": {"on_shortfall": "negative"}}));
    book.buy("free", "0");
    book.buy("p1", "100");
    book.redeem("r", 100).unwrap();
    book.until("2010-01-02");
    book.give_back("b1", "p1", &[("1", "1")]).unwrap();
    assert_eq!(book.balance().owed, 100);
    book.until("2010-01-04");
    book.give_back("b0", "free", &[("1", "1")]).unwrap();
    book.until("2010-01-05");
    let told = |name: &str, day: &str| Action::Earn(purchase(name, at(day), &[("1", "A", "1", "10")]));
    let before = book.ask("late1", told("late1", "2010-01-01T18:00:00Z")).unwrap();
    let after = book.ask("late2", told("late2", "2010-01-03")).unwrap();
    assert_eq!((dates_of_payment(&before), dates_of_payment(&after)), (vec![at("2010-01-02")], vec![at("2010-01-03")]));
}

/// As records of edition 1 tell them: one amount, and not in which unit.
fn of_first_edition(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for event in &mut events {
        match &mut event.kind {
            EventKind::PointsEarned(earned) => earned.counted = None,
            EventKind::PurchaseReturned(reversed) => reversed.counted = None,
            EventKind::TierChanged(moved) | EventKind::TierKept(moved) => moved.counted = None,
            _ => {}
        }
    }
    events
}

#[test]
fn records_of_the_first_edition_count_as_they_did() {
    for (unit, by, at_level) in [("points", QualifyBy::Points, 100), ("spend", QualifyBy::Spend, 100), ("purchases", QualifyBy::Purchases, 2)] {
        let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": at_level}]);
        let mut book = Book::new(json!({"tiers": {"qualify_by": unit, "window": "lifetime", "levels": levels}}));
        for name in ["a", "b", "c"] {
            let body = purchase(name, book.now, &[("1", "A", "1", "40"), ("2", "B", "1", "20")]);
            book.ask(name, Action::Earn(body)).unwrap();
        }
        assert_eq!(book.account.standing.tier, "silver", "{unit}");
        book.give_back("r1", "a", &[("1", "1")]).unwrap();
        let told = |account: &Account| {
            let standing = &account.standing;
            (standing.tier.clone(), standing.since_seq, standing.basis.map(|basis| basis.by(by)), account.qualifying_recent.by(by))
        };
        let fold = |events: &[Event]| {
            let mut account = Account::default();
            for event in events {
                account.evolve(event);
            }
            account
        };
        let part = told(&fold(&book.events));
        assert_eq!(told(&fold(&of_first_edition(&book.events))), part, "{unit}");
        book.give_back("r2", "a", &[("2", "1")]).unwrap();
        let whole = told(&fold(&book.events));
        assert_eq!(told(&fold(&of_first_edition(&book.events))), whole, "{unit}");
        assert!(whole.3 < part.3, "{unit}");
    }
}

/// What a return leaves of a tier is held by the purchases of before it, or by those of the window.
#[test]
fn records_of_the_first_edition_tell_which_purchases_hold_what_a_return_leaves() {
    let levels = json!([{"name": "member", "at": 0}, {"name": "silver", "at": 1000}, {"name": "gold", "at": 5000}]);
    for (back, held_by_window) in [("1000", false), ("5200", true)] {
        let mut book = Book::new(json!({"tiers": {"window": "calendar_year", "levels": levels}}));
        book.until("2010-12-01").buy("a", "5200");
        let reached = book.account.seq;
        book.until("2011-01-10").buy("b", "1100");
        book.give_back_amount("r", "a", back).unwrap();
        let mut told = Account::default();
        for (event, seq) in of_first_edition(&book.events).iter().zip([0, 0, 0, 1, 2, 2]) {
            told.seq = seq;
            told.evolve(event);
        }
        for account in [&book.account, &told] {
            let standing = &account.standing;
            assert_eq!((standing.tier.as_str(), standing.since_seq), ("silver", if held_by_window { 3 } else { reached }), "{back}");
        }
    }
}
