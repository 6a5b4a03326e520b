//! Aliases: added once, removed once, only on accounts that are open.

use ledger_core::account::command::Action;
use ledger_core::account::{EventKind, Rejection};
use ledger_core::id::Alias;
use serde_json::json;

use crate::support::{Book, why};

#[test]
fn an_alias_is_added_and_removed_once() {
    let (card, other) = (Alias([1; 32]), Alias([2; 32]));
    let mut book = Book::new(json!({}));
    assert_eq!(book.ask("a1", Action::AddAlias(card)).unwrap_err(), Rejection::AccountNotFound);
    book.ask("open", Action::Open).unwrap();
    let added = book.ask("a2", Action::AddAlias(card)).unwrap();
    assert_eq!(added[0].kind, EventKind::AliasAdded(card));
    assert_eq!(book.ask("a3", Action::AddAlias(card)).unwrap_err(), Rejection::AliasExists);
    assert_eq!(book.ask("r1", Action::RemoveAlias(other)).unwrap_err(), Rejection::AliasNotFound);
    book.ask("r2", Action::RemoveAlias(card)).unwrap();
    assert!(book.account.aliases.is_empty());
    assert_eq!(book.ask("r3", Action::RemoveAlias(card)).unwrap_err(), Rejection::AliasNotFound);
}

#[test]
fn an_account_has_at_most_32_aliases_and_a_closed_one_gets_none() {
    let mut book = Book::new(json!({}));
    book.ask("open", Action::Open).unwrap();
    for n in 0..32 {
        book.ask(&format!("a{n}"), Action::AddAlias(Alias([n; 32]))).unwrap();
    }
    assert_eq!(book.ask("more", Action::AddAlias(Alias([99; 32]))).unwrap_err(), Rejection::TooManyAliases { most: 32 });
    book.ask("close", Action::Close(why("moved"))).unwrap();
    assert_eq!(book.ask("r", Action::RemoveAlias(Alias([1; 32]))).unwrap_err(), Rejection::AccountClosed);
}
