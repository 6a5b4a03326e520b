//! The bytes of refunds whose purchase the book does not have; see `golden.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::path::PathBuf;

use ledger_core::account::command::{Action, Refund};
use ledger_core::account::state::Balance;
use ledger_core::account::{Command, Event, EventKind};
use ledger_core::edition::EDITION;
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use ledger_schemas::v1;
use ledger_schemas::{Outcome, Record, content_hash, encode_outcome, encode_record};
use prost::Message;

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(name);
    if !path.exists() && std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        std::fs::write(&path, hex + "\n").unwrap();
    }
    let hex = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; add it with GOLDEN=write", path.display()));
    hex.trim().as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn a_refund_without_a_purchase_has_its_golden_bytes() {
    let id = |text: &str| Id::parse(text).unwrap();
    let at = |text: &str| Moment::parse(text).unwrap();
    let body = Refund { occurred_at: at("2009-12-02T10:00:00Z"), amount: Amount::parse("19.99").unwrap(), reference: "C489449".into() };
    let key = AccountKey { program: id("shop"), account: id("13085") };
    let record = Record {
        key: key.clone(),
        account_seq: 42,
        command_id: id("C489449-1.1"),
        command_kind: "refund".into(),
        content_hash: [0xab; 32],
        recorded_at: at("2009-12-02T10:00:01Z"),
        effective_at: at("2009-12-02T10:00:00Z"),
        actor: "import".into(),
        rule_version: 3,
        previous_hash: [0xcd; 32],
        events: vec![Event { at: body.occurred_at, kind: EventKind::RefundBooked { refund: id("C489449-1.1"), body: Box::new(body.clone()) } }],
        balance: Balance::default(),
        edition: EDITION,
        program_entries: Some(7),
    };
    let mut bytes = Vec::new();
    encode_record(&record, &mut bytes);
    let written = golden("record-refund.hex", &bytes);
    assert_eq!(bytes, written);
    assert_eq!(Record::decode(&written).unwrap(), record);
    assert_eq!(v1::Record::decode(&*written).unwrap().encode_to_vec(), written);
    let command = Command { id: id("C489449-1.1"), actor: "import".into(), action: Action::Refund(Box::new(body)) };
    let hash = content_hash("shop/13085", &command, &mut Vec::new());
    assert_eq!(hash.to_vec(), golden("content-refund.hex", &hash));
    let outcome = Outcome { key, command, recorded_at: at("2010-01-01T00:00:00Z"), number: 59, code: "refund_unmatched".into(), detail: "no".into() };
    let bytes = encode_outcome(&outcome);
    let written = golden("outcome-refund.hex", &bytes);
    assert_eq!(bytes, written);
    assert_eq!(Outcome::decode(&written).unwrap(), outcome);
    assert_eq!(v1::Outcome::decode(&*written).unwrap().encode_to_vec(), written);
}
