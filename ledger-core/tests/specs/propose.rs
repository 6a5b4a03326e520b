//! Adjustments that take two people: who proposed never approves, and what waits moves nothing.

use ledger_core::account::command::Action;
use ledger_core::account::{EventKind, Rejection};
use ledger_core::id::Id;
use serde_json::json;

use crate::support::{Book, why};

fn proposal(id: &str) -> Id {
    Id::parse(id).unwrap()
}

fn opened(rules: serde_json::Value) -> Book {
    let mut book = Book::new(rules);
    book.ask("open", Action::Open).unwrap();
    book
}

#[test]
fn points_move_when_somebody_else_approves() {
    let mut book = opened(json!({}));
    book.ask_by("anna", "c1", Action::Propose { points: 70, reason: why("goodwill") }).unwrap();
    assert_eq!(book.account.balance().available, 0);
    let by_maker = book.ask_by("anna", "a1", Action::Approve { proposal: proposal("c1") });
    assert_eq!(by_maker.unwrap_err(), Rejection::ApprovalByMaker { actor: "anna".into() });
    let approved = book.ask_by("ben", "a2", Action::Approve { proposal: proposal("c1") }).unwrap();
    assert!(matches!(&approved[0].kind, EventKind::AdjustmentApproved { proposal } if proposal.as_str() == "c1"));
    assert!(matches!(&approved[1].kind, EventKind::PointsAdded { adjustment, reason, .. } if adjustment.as_str() == "c1" && *reason == why("goodwill")));
    assert_eq!((book.account.balance().available, book.account.proposals.len()), (70, 0));
    let again = book.ask_by("cleo", "a3", Action::Approve { proposal: proposal("c1") });
    assert_eq!(again.unwrap_err(), Rejection::ProposalNotFound { proposal_id: proposal("c1") });
}

#[test]
fn a_proposal_that_can_not_be_met_goes_on_waiting() {
    let mut book = opened(json!({}));
    book.ask_by("anna", "c1", Action::Propose { points: -5, reason: why("error") }).unwrap();
    let refused = book.ask_by("ben", "a1", Action::Approve { proposal: proposal("c1") });
    assert_eq!(refused.unwrap_err(), Rejection::InsufficientPoints { points: 5, available: 0 });
    book.ask_by("ben", "more", Action::Adjust { points: 8, reason: why("goodwill") }).unwrap();
    book.ask_by("ben", "a1", Action::Approve { proposal: proposal("c1") }).unwrap();
    assert_eq!(book.account.balance().available, 3);
}

#[test]
fn a_declined_proposal_is_gone() {
    let mut book = opened(json!({}));
    book.ask_by("anna", "c1", Action::Propose { points: 70, reason: why("goodwill") }).unwrap();
    book.ask_by("anna", "d1", Action::Decline { proposal: proposal("c1"), reason: why("mistaken") }).unwrap();
    let approved = book.ask_by("ben", "a1", Action::Approve { proposal: proposal("c1") });
    assert_eq!(approved.unwrap_err(), Rejection::ProposalNotFound { proposal_id: proposal("c1") });
}

#[test]
fn the_rulebook_says_from_where_on_two_are_needed() {
    let mut book = opened(json!({"adjust": {"approval_from_points": 100}}));
    book.ask("small", Action::Adjust { points: 99, reason: why("goodwill") }).unwrap();
    for points in [100, -100] {
        let alone = book.ask("large", Action::Adjust { points, reason: why("goodwill") });
        assert_eq!(alone.unwrap_err(), Rejection::ApprovalRequired { from: 100 });
    }
    book.ask_by("anna", "c1", Action::Propose { points: 100, reason: why("goodwill") }).unwrap();
    book.ask_by("ben", "a1", Action::Approve { proposal: proposal("c1") }).unwrap();
    assert_eq!(book.account.balance().available, 199);
}

#[test]
fn at_most_32_wait() {
    let mut book = opened(json!({}));
    for n in 0..32 {
        book.ask(&format!("c{n}"), Action::Propose { points: 1, reason: why("goodwill") }).unwrap();
    }
    let more = book.ask("c32", Action::Propose { points: 1, reason: why("goodwill") });
    assert_eq!(more.unwrap_err(), Rejection::TooManyProposals { most: 32 });
}
