//! The largest accounts and purchases are decided for as all others are. With the square of their size each command would take minutes; how long it does
//! take, the benchmark tells (`loyalty bench --only worst`).

use std::sync::Arc;

use ledger_core::account::EventKind;
use ledger_core::account::command::{Action, Line, Purchase, Return, Returned};
use ledger_core::id::Id;
use ledger_core::points::{Amount, Points};
use ledger_core::policy::{Program, Rulebook, Version, read_rulebook};
use ledger_core::time::{MINUTE_US, Moment};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Book, id, purchase, rules, why};

/// As many as an account may have (docs/limits.md).
const LOTS: usize = 50_000;

/// An account with as many lots as it may have, each from a purchase of its own; the book does not look at all of it after each.
fn large() -> Book {
    let mut book = Book::new(json!({"expiry": {"mode": "rolling", "months": 12}, "earn": {"pending_days": 1}}));
    let one = book.ask("p0", Action::Earn(purchase("p0", book.now, &[("1", "sku", "1", "10")]))).unwrap();
    for n in 1..LOTS {
        for event in &one {
            let mut event = event.clone();
            if let EventKind::PointsEarned(earned) = &mut event.kind {
                let bought = Purchase { purchase_id: id(&format!("p{n}")), ..Purchase::clone(&earned.purchase) };
                earned.purchase = Arc::new(bought);
                earned.lot.as_mut().unwrap().lot = u32::try_from(n).unwrap() + 1;
                book.account.evolve(&event);
            }
        }
        book.account.seal(book.now, [0; 32]);
    }
    book
}

#[test]
fn an_account_with_the_most_lots_is_decided_for() {
    let mut book = large();
    let points = 10 * Points::try_from(LOTS).unwrap();
    // All of it becomes available, is held, released, spent, given back, and expires.
    book.until("2010-01-03");
    assert_eq!(book.available(), points);
    book.ask("h", Action::Hold { points, minutes: None, occurred_at: None }).unwrap();
    book.ask("h", Action::Release { redemption: id("h") }).unwrap();
    book.ask("s", Action::Redeem { points, occurred_at: None }).unwrap();
    book.ask("b", Action::ReturnRedemption { redemption: id("s"), points: None }).unwrap();
    assert_eq!(book.available(), points);
    for n in 0..100 {
        book.ask(&format!("h{n}"), Action::Hold { points: 10, minutes: None, occurred_at: None }).unwrap();
    }
    book.until("2011-01-02");
    assert_eq!((book.available(), book.account.purchases.iter().map(|state| state.expired).sum::<Points>()), (0, points));
    book.ask("c", Action::Close(why("moved"))).unwrap();
}

#[test]
fn every_line_of_the_largest_purchase_comes_back_in_any_order() {
    let mut book = Book::new(json!({"earn": {"exclude": {"skus": (0..50_000).map(|n| format!("not-{n}")).collect::<Vec<_>>()}}}));
    let bought = purchase("p", book.now, &[("1", "sku", "2", "1")]);
    let line = |n: usize| Line { line_id: id(&n.to_string()), ..bought.lines[0].clone() };
    let bought = Purchase { lines: (0..5000).map(line).collect(), ..Purchase::clone(&bought) };
    book.ask("p", Action::Earn(Arc::new(bought))).unwrap();
    // Each line twice in one return, the last first; and all that is left in the next.
    for (name, times) in [("r1", 2), ("r2", 1)] {
        let quantity = if times == 2 { Amount::parse("0.5").unwrap() } else { Amount::ONE };
        let lines = (0..times).flat_map(|_| (0..5000 / times).rev()).map(|n| (id(&n.to_string()), quantity)).collect();
        let body = Return { purchase_id: id("p"), occurred_at: book.now, what: Returned::Lines(lines), shipping: None };
        book.ask(name, Action::Return(Arc::new(body))).unwrap();
    }
    assert_eq!(book.available(), 10_000 - 2500 - 5000);
}

/// Offers for one article are looked up by it; what holds is told in the order of the rulebook all the same.
#[test]
fn bonuses_hold_in_the_order_of_the_rulebook() {
    let bonus = |(n, when): (usize, &str)| json!({"id": format!("b{n}"), "when": when, "multiply": "2"});
    let whens = [
        "line.sku == 'A' && line.quantity >= 1.0",
        "line.quantity >= 1.0",
        "'A' == line.sku",
        "line.sku == 'B'",
        "line.sku == 'A' && line.sku == 'B'",
        "line.sku != 'B'",
    ];
    let mut book = Book::new(json!({"earn": {"bonus": whens.into_iter().enumerate().map(bonus).collect::<Vec<_>>()}}));
    let bought = purchase("p", book.now, &[("1", "A", "1", "1"), ("2", "B", "1", "1"), ("3", "C", "1", "1")]);
    let events = book.ask("p", Action::Earn(bought)).unwrap();
    let earned = events.iter().find_map(|event| if let EventKind::PointsEarned(earned) = &event.kind { Some(earned) } else { None }).unwrap();
    let held: Vec<Vec<&str>> = earned.lines.iter().map(|line| line.bonus.iter().map(Id::as_str).collect()).collect();
    assert_eq!(held, [vec!["b0", "b1", "b2", "b5"], vec!["b1", "b3"], vec!["b1", "b5"]]);
    assert_eq!(book.available(), 16 + 4 + 4);
}

/// A condition counts for a line where no comparison at its top answers for it, a long one once for each 100 characters that it begins.
#[test]
fn the_conditions_that_a_purchase_asks_are_counted() {
    let asked = |whens: &[&str]| {
        let bonus = |(n, when): (usize, &&str)| json!({"id": format!("b{n}"), "when": when, "multiply": "2"});
        let book = Book::new(json!({"earn": {"bonus": whens.iter().enumerate().map(bonus).collect::<Vec<_>>()}}));
        let bought = purchase("p", book.now, &[("1", "A", "1", "1"), ("2", "B", "1", "1"), ("3", "A", "1", "1")]);
        book.program.at(book.now).unwrap().conditions_asked(&bought)
    };
    assert_eq!(asked(&[]), 0);
    assert_eq!(asked(&["line.quantity >= 1.0"]), 3);
    assert_eq!(asked(&["line.sku == 'A' && line.quantity >= 1.0"]), 2);
    assert_eq!(asked(&["line.sku == 'C' && line.quantity >= 1.0", "line.category == 'toys' && line.quantity >= 1.0"]), 0);
    assert_eq!(asked(&["line.quantity >= 1.0", "line.sku == 'B' && line.quantity >= 1.0"]), 4);
    let long = format!("line.quantity >= 1.0 || line.sku == '{}'", "x".repeat(70));
    assert!((101..=200).contains(&long.len()), "{}", long.len());
    assert_eq!(asked(&[&long]), 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is looked up in the table of versions is what their dates say.
    #[test]
    fn the_version_in_force_is_the_latest_that_has_begun(begins in prop::collection::vec((0..6_i64, prop::sample::select(vec![0_u32, 30, 10_080])), 1..9)) {
        let start = Moment::parse("2010-01-01T00:00:00Z").unwrap();
        let day = |n: i64| start.plus_micros(n * 5 * 24 * 60 * MINUTE_US);
        let (mut program, mut all) = (Program::default(), Vec::<Arc<Version>>::new());
        for (n, minutes) in begins {
            let changes = json!({"effective_from": day(n).to_string(), "redeem": {"offline_minutes": minutes}});
            let rulebook: Rulebook = serde_json::from_value(rules(changes)).unwrap();
            let version = Arc::new(read_rulebook(rulebook, &program).unwrap());
            program.publish(Arc::clone(&version));
            all.push(version);
        }
        let at = |at: Moment| all.iter().filter(|version| version.rulebook.effective_from <= at).max_by_key(|version| (version.rulebook.effective_from, version.number));
        let minutes_before = |end: Moment| at(end.plus_micros(-1)).or(all.first()).map_or(0, |version| version.rulebook.redeem.offline_minutes);
        for n in -1..8 {
            for moment in [day(n).plus_micros(-1), day(n), day(n).plus_micros(1)] {
                prop_assert_eq!(program.at(moment).map(|version| version.number), at(moment).map(|version| version.number));
                let ends = all.iter().map(|version| version.rulebook.effective_from).filter(|begin| *begin < moment).chain([moment]);
                let booked = ends.map(|end| end.plus_micros(i64::from(minutes_before(end)) * MINUTE_US)).fold(moment, Moment::max);
                prop_assert_eq!(program.booked_at(moment), booked);
            }
        }
        for version in &all {
            prop_assert_eq!(program.version(version.number).map(|found| found.number), Some(version.number));
        }
    }
}
