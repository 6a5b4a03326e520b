//! Open, activate, freeze, unfreeze, close, adjust.

use ledger_core::account::command::Action;
use ledger_core::account::state::Status;
use ledger_core::account::{EventKind, Rejection};
use serde_json::json;

use crate::support::{Book, why};

#[test]
fn a_pending_account_collects_but_cannot_spend() {
    let mut book = Book::new(json!({"accounts": {"activation_required": true}}));
    book.ask("a", Action::Open).unwrap();
    assert_eq!(book.account.status, Status::Pending);
    book.buy("p", "100");
    assert_eq!(book.redeem("r", 10).unwrap_err(), Rejection::AccountPending);
    book.ask("act", Action::Activate).unwrap();
    book.redeem("r", 10).unwrap();
    assert_eq!(book.ask("act2", Action::Activate).unwrap_err(), Rejection::AccountNotPending);
    assert_eq!(book.ask("a", Action::Open).unwrap_err(), Rejection::AccountExists);
}

#[test]
fn a_frozen_account_neither_earns_nor_spends_and_is_again_what_it_was() {
    let mut book = Book::new(json!({"accounts": {"activation_required": true}}));
    book.ask("a", Action::Open).unwrap();
    book.ask("f", Action::Freeze(why("fraud"))).unwrap();
    let earn = Action::Earn(crate::support::purchase("p", book.now, &[("1", "A", "1", "10")]));
    assert_eq!(book.ask("p", earn).unwrap_err(), Rejection::AccountFrozen);
    assert_eq!(book.ask("f2", Action::Freeze(why("fraud"))).unwrap_err(), Rejection::AccountFrozen);
    book.ask("u", Action::Unfreeze(why("cleared"))).unwrap();
    assert_eq!(book.account.status, Status::Pending);
    assert_eq!(book.ask("u2", Action::Unfreeze(why("cleared"))).unwrap_err(), Rejection::AccountNotFrozen);
}

#[test]
fn closing_does_with_the_points_what_the_rulebook_says() {
    for (choice, left) in [("forfeit", 0), ("keep", 100)] {
        let mut book = Book::new(json!({"accounts": {"on_close": choice}, "expiry": {"mode": "rolling", "months": 12}}));
        book.buy("p", "100");
        book.ask("h", Action::Hold { points: 40, minutes: None, occurred_at: None }).unwrap();
        book.ask("c", Action::Close(why("asked"))).unwrap();
        assert_eq!((book.account.status, book.balance().held, book.available()), (Status::Closed, 0, left), "{choice}");
        assert_eq!(book.redeem("r", 10).unwrap_err(), Rejection::AccountClosed);
        assert_eq!(book.give_back("x", "p", &[("1", "1")]).unwrap_err(), Rejection::AccountClosed);
        assert_eq!(book.until("2011-01-01").available(), 0, "kept points expire like others");
    }
    let mut book = Book::new(json!({"accounts": {"on_close": "refuse"}}));
    book.buy("p", "100");
    assert_eq!(book.ask("c", Action::Close(why("asked"))).unwrap_err(), Rejection::BalanceNotZero { points: 100 });
}

#[test]
fn adjustments_go_up_and_down_but_not_below_zero() {
    let mut book = Book::new(json!({}));
    let adjust = |points: i64| Action::Adjust { points, reason: why("goodwill") };
    assert_eq!(book.ask("a0", adjust(50)).unwrap_err(), Rejection::AccountNotFound);
    book.buy("p", "100");
    book.ask("a1", adjust(50)).unwrap();
    book.ask("a2", adjust(-120)).unwrap();
    assert_eq!(book.available(), 30);
    assert_eq!(book.ask("a3", adjust(-31)).unwrap_err(), Rejection::InsufficientPoints { points: 31, available: 30 });
    let EventKind::PointsTaken { parts, reason, .. } = &book.events.last().unwrap().kind else { unreachable!("points were taken") };
    assert_eq!((parts.len(), reason.code.as_str()), (2, "goodwill"));
}

#[test]
fn a_frozen_account_is_not_activated() {
    let mut book = Book::new(json!({"accounts": {"activation_required": true}}));
    book.ask("o", Action::Open).unwrap();
    book.ask("f", Action::Freeze(why("fraud"))).unwrap();
    assert_eq!(book.ask("a", Action::Activate).unwrap_err(), Rejection::AccountFrozen);
}

#[test]
fn an_account_is_not_closed_over_pending_or_held_points_either() {
    let mut book = Book::new(json!({"accounts": {"on_close": "refuse"}, "earn": {"pending_days": 5}}));
    book.buy("p", "25");
    book.until("2010-01-10");
    book.ask("h", Action::Hold { points: 20, minutes: None, occurred_at: None }).unwrap();
    book.buy("q", "10");
    let balance = book.balance();
    assert_eq!((balance.available, balance.pending, balance.held), (5, 10, 20));
    assert_eq!(book.ask("c", Action::Close(why("asked"))).unwrap_err(), Rejection::BalanceNotZero { points: 35 });
}
