//! Refunds whose purchase the book does not have.

use ledger_core::account::command::{Action, Refund};
use ledger_core::account::{EventKind, Rejection};
use ledger_core::policy::QualifyBy;
use serde_json::json;

use crate::support::{Book, amount, at};

fn book(unmatched: &str) -> Book {
    Book::new(json!({"return": {"unmatched": unmatched}}))
}

fn refund(book: &Book, money: &str) -> Action {
    Action::Refund(Box::new(Refund { occurred_at: book.now, amount: amount(money), reference: "C489449-1".into() }))
}

#[test]
fn without_a_word_of_the_rulebook_they_are_refused() {
    for mut book in [Book::new(json!({})), book("reject")] {
        book.buy("p", "100");
        let asked = refund(&book, "30");
        assert_eq!(book.ask("r", asked).unwrap_err(), Rejection::RefundUnmatched);
    }
}

#[test]
fn they_are_booked_and_take_no_points_and_no_tier() {
    for qualify_by in [QualifyBy::Points, QualifyBy::Spend, QualifyBy::Purchases] {
        let mut book = Book::new(
            json!({"return": {"unmatched": "reduce_spend"}, "tiers": {"qualify_by": qualify_by, "levels": [{"name": "member", "at": 0}, {"name": "gold", "at": 1000}]}}),
        );
        book.buy("p", "100");
        let before = (book.balance(), book.account.standing.clone(), book.account.qualifying.clone());
        let asked = refund(&book, "250.50");
        let events = book.ask("r", asked).unwrap();
        assert_eq!(events.len(), 1);
        assert!(matches!(&events[0].kind, EventKind::RefundBooked { body, .. } if body.amount == amount("250.50")), "more than was spent is booked, too");
        assert_eq!((book.balance(), book.account.standing.clone(), book.account.qualifying.clone()), before);
    }
}

#[test]
fn the_first_opens_the_account() {
    let mut book = book("reduce_spend");
    let asked = refund(&book, "5");
    let events = book.ask("r", asked).unwrap();
    assert!(matches!(&events[0].kind, EventKind::AccountOpened { .. }) && matches!(&events[1].kind, EventKind::RefundBooked { .. }));
}

#[test]
fn the_first_that_is_told_late_opens_an_account_that_sleeps() {
    let mut book = Book::new(json!({"return": {"unmatched": "reduce_spend"}, "accounts": {"inactive_after": {"days": 30}}}));
    let asked = refund(&book, "5");
    book.until("2010-03-01");
    let events = book.ask("r", asked).unwrap();
    assert!(matches!(events.last().unwrap().kind, EventKind::AccountLapsed), "{events:?}");
}

#[test]
fn what_can_not_be_paid_and_what_is_still_to_come_are_refused() {
    let mut book = book("reduce_spend");
    let asked = refund(&book, "0.005");
    assert_eq!(book.ask("r", asked).unwrap_err(), Rejection::AmountTooFine { amount: amount("0.005"), currency: "GBP".into(), decimals: 2 });
    let later = Action::Refund(Box::new(Refund { occurred_at: at("2010-01-02"), amount: amount("1"), reference: "".into() }));
    assert!(matches!(book.ask("r", later).unwrap_err(), Rejection::OccurredInFuture { .. }));
}

#[test]
fn they_open_no_account_where_purchases_open_none() {
    let mut book = Book::new(json!({"return": {"unmatched": "reduce_spend"}, "accounts": {"open_on_earn": false}}));
    let asked = refund(&book, "5");
    assert_eq!(book.ask("r", asked.clone()).unwrap_err(), Rejection::AccountNotFound);
    book.ask("o", Action::Open).unwrap();
    assert_eq!(book.ask("r", asked).unwrap().len(), 1);
}
