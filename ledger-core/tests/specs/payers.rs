//! Who pays: a bonus may name somebody else than the program for the points that it adds.

use std::collections::BTreeMap;

use ledger_core::account::command::Action;
use ledger_core::account::{Event, EventKind};
use serde_json::{Value, json};

use crate::support::{Book, purchase};

/// What payers pay for after `events`, by payer.
pub fn paid(events: &[Event]) -> BTreeMap<String, i64> {
    let mut paid = BTreeMap::new();
    for event in events {
        let (sign, all) = match &event.kind {
            EventKind::PointsEarned(earned) => (1, &earned.paid_by),
            EventKind::PurchaseReturned(reversed) => (-1, &reversed.paid_by),
            _ => continue,
        };
        for each in all {
            *paid.entry(each.payer.to_string()).or_default() += sign * each.points;
        }
    }
    paid.retain(|_, points| *points != 0);
    paid
}

fn bonus(id: &str, sku: &str, multiply: &str, payer: Option<&str>) -> Value {
    let mut bonus = json!({"id": id, "when": format!("line.sku == '{sku}'"), "multiply": multiply});
    if let Some(payer) = payer {
        bonus["paid_by"] = json!(payer);
    }
    bonus
}

fn book(bonuses: &[Value], caps: Value) -> Book {
    Book::new(json!({"earn": {"bonus": bonuses, "caps": caps}}))
}

fn buy(book: &mut Book, lines: &[(&str, &str, &str, &str)]) {
    let body = purchase("p", book.now, lines);
    book.ask("p", Action::Earn(body)).unwrap();
}

fn pays(all: &[(&str, i64)]) -> BTreeMap<String, i64> {
    all.iter().map(|(payer, points)| ((*payer).to_owned(), *points)).collect()
}

#[test]
fn a_payer_pays_what_its_bonus_adds_and_the_program_the_rest() {
    // Given double points on A that acme pays for, and on B that nobody else pays for.
    let mut book = book(&[bonus("a", "A", "2", Some("acme")), bonus("b", "B", "2", None)], json!({}));
    // When a line of each is bought.
    buy(&mut book, &[("1", "A", "1", "30"), ("2", "B", "1", "10"), ("3", "C", "1", "5")]);
    // Then acme pays for the 30 more on A.
    assert_eq!((book.available(), paid(&book.events)), (85, pays(&[("acme", 30)])));
    let EventKind::PointsEarned(earned) = &book.events.last().unwrap().kind else { unreachable!("points") };
    assert_eq!(earned.paid_by[0].lot, 1);
}

#[test]
fn bonuses_that_hold_together_share_what_they_add_by_what_each_would_add_alone_rounded_down() {
    // Given 6 times the points, twice by acme and three times by zeta.
    let mut book = book(&[bonus("a", "A", "2", Some("acme")), bonus("z", "A", "3", Some("zeta"))], json!({}));
    buy(&mut book, &[("1", "A", "1", "10")]);
    // Then of the 50 more acme pays a third and zeta two.
    assert_eq!((book.available(), paid(&book.events)), (60, pays(&[("acme", 16), ("zeta", 33)])));
    // Given that one of them makes the points fewer again.
    let mut book = self::book(&[bonus("a", "A", "2", Some("acme")), bonus("less", "A", "0.5", None)], json!({}));
    buy(&mut book, &[("1", "A", "1", "10")]);
    // Then acme pays for half of what there is.
    assert_eq!((book.available(), paid(&book.events)), (10, pays(&[("acme", 5)])));
}

#[test]
fn fractions_are_rounded_once_a_purchase_not_once_a_line() {
    let mut book = book(&[bonus("a", "A", "1.5", Some("acme"))], json!({}));
    buy(&mut book, &[("1", "A", "1", "10"), ("2", "A", "1", "10"), ("3", "A", "1", "10")]);
    assert_eq!((book.available(), paid(&book.events)), (45, pays(&[("acme", 15)])));
}

#[test]
fn nobody_pays_for_points_that_a_cap_cut() {
    // Given a cap that leaves the first line and a third of the second, which acme pays for.
    let mut book = book(&[bonus("a", "A", "2", Some("acme"))], json!({"per_member": 50}));
    buy(&mut book, &[("1", "B", "1", "40"), ("2", "A", "1", "15")]);
    assert_eq!((book.available(), paid(&book.events)), (50, pays(&[("acme", 5)])));
}

#[test]
fn a_payer_does_not_pay_for_goods_that_were_given_back() {
    let mut book = book(&[bonus("a", "A", "2", Some("acme"))], json!({}));
    buy(&mut book, &[("1", "A", "2", "15"), ("2", "B", "1", "10")]);
    book.redeem("r", 70).unwrap();
    book.give_back("t1", "p", &[("1", "1")]).unwrap();
    assert_eq!(paid(&book.events), pays(&[("acme", 15)]), "though the points had been spent");
    let events = book.give_back("t2", "p", &[("2", "1")]).unwrap();
    let EventKind::PurchaseReturned(reversed) = &events[0].kind else { unreachable!("a return") };
    let less: Vec<_> = reversed.paid_by.iter().map(|paid| (paid.lot, paid.payer.as_str(), paid.points)).collect();
    assert_eq!(less, [(1, "acme", 0)], "a payer is named though it pays as before");
    book.give_back("t3", "p", &[("1", "1")]).unwrap();
    assert_eq!(paid(&book.events), pays(&[]));
}

#[test]
fn a_bonus_that_holds_only_for_the_goods_kept_is_paid_for_from_then_on() {
    let small = json!({"id": "small", "when": "purchase.total < 50.0", "multiply": "2", "paid_by": "acme"});
    let mut book = book(&[small], json!({}));
    buy(&mut book, &[("1", "A", "1", "30"), ("2", "B", "1", "60")]);
    assert_eq!((book.available(), paid(&book.events)), (90, pays(&[])));
    book.give_back("t", "p", &[("2", "1")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (60, pays(&[("acme", 30)])));
}

#[test]
fn what_a_shared_cap_gave_to_others_is_not_paid_for_below_zero() {
    // Given a day's cap that the second purchase reaches.
    let mut book = book(&[bonus("a", "sku", "2", Some("acme"))], json!({"per_day": 100}));
    book.buy("a", "40");
    book.buy("b", "25");
    assert_eq!((book.available(), paid(&book.events)), (100, pays(&[("acme", 50)])));
    // When both are given back, the one whose points had room for the other's first.
    book.give_back("t1", "a", &[("1", "1")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (50, pays(&[("acme", 10)])));
    book.give_back("t2", "b", &[("1", "1")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (0, pays(&[])));
}

#[test]
fn what_is_not_paid_for_any_more_is_not_given_back_again() {
    // Given a day's cap that left 20 of the second purchase's 50, of which acme pays 10, and the first given back.
    let mut book = book(&[bonus("a", "sku", "2", Some("acme"))], json!({"per_day": 100}));
    book.buy("a", "40");
    let b = purchase("b", book.now, &[("1", "sku", "5", "5")]);
    book.ask("b", Action::Earn(b)).unwrap();
    book.give_back("t1", "a", &[("1", "1")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (50, pays(&[("acme", 10)])));
    // When the second comes back in two parts, acme is through with it after the first of them.
    book.give_back("t2", "b", &[("1", "2")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (30, pays(&[])));
    book.give_back("t3", "b", &[("1", "3")]).unwrap();
    assert_eq!((book.available(), paid(&book.events)), (0, pays(&[])));
}
