//! Closing months: the bytes on the program stream never change, and what is asked over the log is read as it was asked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::path::PathBuf;

use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use ledger_schemas::{Ask, Closing, IssueMonth, Month, ProgramChange, ProgramEntry, What, encode_program_entry, v1};
use prost::Message;

fn shop() -> Id {
    Id::parse("shop").unwrap()
}

fn month(text: &str) -> Month {
    Month::parse(text).unwrap()
}

fn closing() -> Closing {
    let amount = |text: &str| Amount::parse(text).unwrap();
    let issued =
        |text: &str, deferred: &str, recognised: &str| IssueMonth { issued_in: month(text), deferred: amount(deferred), recognised: amount(recognised) };
    Closing {
        period: month("2010-01"),
        log_ends: vec![0, 12, 300],
        program_entries: 3,
        currency: "GBP".into(),
        opening: vec![issued("2009-12", "867.58", "0")],
        figures: vec![issued("2009-12", "867.58", "31.42"), issued("2010-01", "9.9", "0")],
    }
}

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(name);
    let hex = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex.trim().as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn entries_have_their_golden_bytes() {
    let changes = [
        ProgramChange::ClosingProposed { program: shop(), closing: Box::new(closing()) },
        ProgramChange::PeriodClosed { program: shop(), period: month("2010-01"), proposed_in: 3 },
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let entry = ProgramEntry { recorded_at: Moment::parse("2010-01-01T00:00:00Z").unwrap(), actor: "admin".into(), change };
        let golden = golden(&format!("closing-{n:02}.hex"));
        assert_eq!(encode_program_entry(&entry), golden);
        assert_eq!(ProgramEntry::decode(&golden).unwrap(), entry);
        assert_eq!(v1::ProgramEntry::decode(&*golden).unwrap().encode_to_vec(), golden);
    }
}

#[test]
fn what_is_asked_over_the_log_is_read_as_it_was_asked() {
    let asked = [
        What::ProposeClosing { program: shop(), closing: Box::new(closing()), actor: "ada".into() },
        What::ApproveClosing { program: shop(), period: month("2010-01"), proposed_in: 3, actor: "ben".into() },
    ];
    for what in asked {
        let ask = Ask { program_entries: 7, what };
        let bytes = ask.encode();
        assert_eq!(v1::Ask::decode(&*bytes).unwrap().encode_to_vec(), bytes);
        assert_eq!(Ask::decode(&bytes).unwrap(), ask);
    }
}
