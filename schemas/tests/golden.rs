//! What was ever written can be read, and is still written so.
//!
//! `GOLDEN=write cargo test -p ledger-schemas` adds files for what is new; a file that is there is never changed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

use ledger_core::account::command::{Action, Line, Origin, Purchase, Reason, Return, Returned};
use ledger_core::account::event::{Earned, Lot, Part, Proposal, Refunded, Reversed, RunPoints, Spent, TierCause, TierMove};
use ledger_core::account::qualifying::Qualifying;
use ledger_core::account::state::{Balance, Status};
use ledger_core::account::{Command, Event, EventKind};
use ledger_core::edition::{EDITION, FIRST_EDITION};
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_core::points::Amount;
use ledger_core::policy::{Facts, LinePoints, Paid, PointValue, RateFailure};
use ledger_core::time::Moment;
use ledger_schemas::v1;
use ledger_schemas::{
    Ask, DecodeError, EditionEntered, Outcome, ProgramChange, ProgramEntry, Published, Record, What, content_hash, encode_outcome, encode_program_entry,
    encode_record,
};
use prost::Message;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn at(text: &str) -> Moment {
    Moment::parse(text).unwrap()
}

fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

fn parts() -> Vec<Part> {
    vec![Part { lot: 1, points: 250, pending: false }, Part { lot: 7, points: 3, pending: true }]
}

fn reason() -> Reason {
    Reason { code: "goodwill".into(), note: "late delivery".into() }
}

fn spent() -> Spent {
    Spent { redemption: id("R-1"), parts: parts(), value: amount("2.53"), return_until: at("2011-12-09T10:00:00Z"), rate: None }
}

fn spent_by_rate() -> Spent {
    Spent { rate: Some(PointValue { points: 3, amount: amount("1") }), ..spent() }
}

fn lot() -> Lot {
    Lot { lot: 7, points: 126, available_at: at("2009-12-15T07:45:00Z"), expires_at: Some(at("2010-12-01T07:45:00Z")), expiry_moves: true }
}

fn purchase() -> Arc<Purchase> {
    let line = Line {
        line_id: id("1"),
        sku: "85123A".into(),
        category: "decoration".into(),
        quantity: amount("12"),
        unit_price: amount("2.955"),
        discount: amount("0.5"),
        tax: amount("5.91"),
        amount: None,
    };
    Arc::new(Purchase {
        purchase_id: id("489434"),
        occurred_at: at("2009-12-01T07:45:00Z"),
        currency: "GBP".into(),
        channel: "web".into(),
        store: "london".into(),
        lines: vec![line],
        shipping: amount("3.5"),
        origin: None,
    })
}

fn purchase_with_origin() -> Arc<Purchase> {
    let origin = Origin { cashier: "c-7".into(), till: "t-2".into(), device: String::new().into(), card_token: "tok-1".into() };
    Arc::new(Purchase { origin: Some(Box::new(origin)), ..(*purchase()).clone() })
}

fn purchase_with_amount() -> Arc<Purchase> {
    let mut purchase = (*purchase()).clone();
    purchase.lines[0].amount = Some(amount("34.96"));
    Arc::new(purchase)
}

fn returned(what: Returned) -> Arc<Return> {
    Arc::new(Return { purchase_id: id("489434"), occurred_at: at("2009-12-05T09:00:00Z"), what, shipping: None })
}

fn returned_with_shipping(what: Returned) -> Arc<Return> {
    Arc::new(Return { shipping: Some(amount("3.5")), ..(*returned(what)).clone() })
}

fn tier_move() -> TierMove {
    TierMove {
        from: "member".into(),
        to: "silver".into(),
        qualifying: amount("1000.25"),
        earned: true,
        counted_from: Some(at("2008-12-01T00:00:00Z")),
        review_at: Some(at("2010-12-01T00:00:00Z")),
        cause: TierCause::Earned,
        counted: None,
    }
}

fn earned() -> Earned {
    Earned {
        purchase: purchase(),
        rule_version: 3,
        facts: Facts { tier: "silver".into(), lifetime_earned: 4711, purchases: 12, age_days: 90 },
        lot: Some(lot()),
        pending: true,
        uncapped_points: 130,
        day_points: 128,
        day: 14579,
        qualifying: amount("126"),
        lines: vec![LinePoints { line: 0, points: 126, bonus: vec![id("mugs-x2")] }],
        failures: vec![RateFailure { line: 0, bonus: id("odd"), error: "division by zero".into() }],
        return_until: at("2010-12-01T07:45:00Z"),
        paid_by: Vec::new(),
        counted: None,
        decimals: None,
    }
}

fn counted() -> Option<Qualifying> {
    Some(Qualifying { points: 126, spend: amount("126.5"), purchases: 1 })
}

fn refunded() -> Refunded {
    Refunded { goods: amount("16.49"), shipping: amount("3.5"), all_goods: true }
}

fn paid_by() -> Vec<Paid> {
    vec![Paid { lot: 7, payer: id("acme"), points: 63 }, Paid { lot: 7, payer: id("zeta"), points: -2 }]
}

fn reversed(what: Returned) -> Reversed {
    Reversed {
        return_id: id("C489449-1.1"),
        body: returned(what),
        points: 126,
        uncapped_points: 4,
        day_points: 126,
        parts: parts(),
        expired: 5,
        shortfall: 6,
        owed: 7,
        qualifying: amount("126"),
        paid_by: Vec::new(),
        counted: None,
        day_points_by_run: Vec::new(),
        refunded: None,
    }
}

/// Every kind of event; a new one does not compile into `name` without a place here.
fn events() -> Vec<EventKind> {
    vec![
        EventKind::AccountOpened { pending: true, tier: "member".into() },
        EventKind::AccountActivated,
        EventKind::AccountFrozen(reason()),
        EventKind::AccountUnfrozen { reason: reason(), status: Status::Inactive },
        EventKind::AccountClosed(reason()),
        EventKind::AccountLapsed,
        EventKind::AccountWoken,
        EventKind::PointsEarned(Box::new(earned())),
        EventKind::PointsMatured { lot: 7, points: 126 },
        EventKind::PointsRedeemed(spent()),
        EventKind::PointsHeld { redemption: id("R-1"), parts: parts(), lapses_at: at("2010-01-01T00:30:00Z") },
        EventKind::HoldCaptured(spent()),
        EventKind::HoldReleased { redemption: id("R-1"), parts: parts(), lapsed: true },
        EventKind::RedemptionReturned { return_id: id("X-1"), redemption: id("R-1"), parts: parts(), value: None },
        EventKind::PurchaseReturned(Box::new(reversed(Returned::Lines(vec![(id("1"), amount("2.5"))])))),
        EventKind::PurchaseReturned(Box::new(reversed(Returned::Amount(amount("19.99"))))),
        EventKind::PointsExpired(parts()[1]),
        EventKind::ExpiryMoved { expires_at: at("2011-06-01T00:00:00Z") },
        EventKind::PointsAdded { adjustment: id("A-1"), lot: lot(), rule_version: 3, reason: reason() },
        EventKind::PointsTaken { adjustment: id("A-2"), parts: parts(), reason: reason() },
        EventKind::DebtPaid { parts: parts(), owed: true },
        EventKind::PointsForfeited { parts: parts() },
        EventKind::TierChanged(tier_move()),
        EventKind::TierKept(TierMove { cause: TierCause::Review, counted_from: None, ..tier_move() }),
        EventKind::AliasAdded(Alias([0x5a; 32])),
        EventKind::AliasRemoved(Alias([0x5a; 32])),
        EventKind::PointsEarned(Box::new(Earned { purchase: purchase_with_origin(), ..earned() })),
        EventKind::AdjustmentProposed(Box::new(Proposal { proposal: id("A-2"), maker: "csr-anna".into(), points: -70, reason: reason() })),
        EventKind::AdjustmentApproved { proposal: id("A-2") },
        EventKind::AdjustmentDeclined { proposal: id("A-2"), reason: reason() },
        EventKind::PointsEarned(Box::new(Earned { paid_by: paid_by(), ..earned() })),
        EventKind::PurchaseReturned(Box::new(Reversed { paid_by: paid_by(), ..reversed(Returned::Amount(amount("19.99"))) })),
        EventKind::PointsEarned(Box::new(Earned { counted: counted(), ..earned() })),
        EventKind::PurchaseReturned(Box::new(Reversed {
            counted: counted(),
            day_points_by_run: vec![RunPoints { first_seq: 3, points: 130 }, RunPoints { first_seq: 300, points: -4 }],
            ..reversed(Returned::Amount(amount("19.99")))
        })),
        EventKind::TierChanged(TierMove { counted: counted(), ..tier_move() }),
        EventKind::PointsRedeemed(spent_by_rate()),
        EventKind::HoldCaptured(spent_by_rate()),
        EventKind::RedemptionReturned { return_id: id("X-1"), redemption: id("R-1"), parts: parts(), value: Some(amount("0.33")) },
    ]
}

fn record(kind: EventKind) -> Record {
    Record {
        key: AccountKey { program: id("shop"), account: id("13085") },
        account_seq: 42,
        command_id: id("489434"),
        command_kind: "purchase".into(),
        content_hash: [0xab; 32],
        recorded_at: at("2009-12-01T07:45:01.5Z"),
        effective_at: at("2009-12-01T07:45:00Z"),
        actor: "till-7".into(),
        rule_version: 3,
        previous_hash: [0xcd; 32],
        events: vec![Event { at: at("2009-12-01T07:45:00Z"), kind }],
        balance: Balance { available: 1, pending: 2, held: 3, owed: 4, lifetime_earned: 5, lapsed: 0 },
        edition: FIRST_EDITION,
        program_entries: None,
    }
}

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1").join(name);
    if !path.exists() && std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        std::fs::write(&path, hex + "\n").unwrap();
    }
    let hex = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; add it with GOLDEN=write", path.display()));
    let hex = hex.trim().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn every_kind_of_event_has_its_golden_bytes() {
    let mut kinds = BTreeSet::new();
    for (n, kind) in events().into_iter().enumerate() {
        let name: String = format!("{kind:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
        let record = record(kind);
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let golden = golden(&format!("record-{n:02}-{name}.hex"), &bytes);
        assert_eq!(bytes, golden, "{name} is written otherwise than it was");
        assert_eq!(Record::decode(&golden).unwrap(), record, "{name} is read otherwise than it was");
        assert_eq!(v1::Record::decode(&*golden).unwrap().encode_to_vec(), golden, "{name} is written otherwise than the generated types write it");
        kinds.insert(name);
    }
    assert_eq!(kinds.len(), 28, "every kind of event is here");
}

/// What a receipt says was charged, how it was rounded, and how a refund divides.
#[test]
fn receipts_and_refunds_have_their_golden_bytes() {
    let refund = returned_with_shipping(Returned::Amount(amount("19.99")));
    let events = [
        ("earned", EventKind::PointsEarned(Box::new(Earned { purchase: purchase_with_amount(), decimals: Some(0), ..earned() }))),
        ("refunded", EventKind::PurchaseReturned(Box::new(Reversed { refunded: Some(refunded()), ..reversed(Returned::Amount(amount("19.99"))) }))),
        ("shipping", EventKind::PurchaseReturned(Box::new(Reversed { body: Arc::clone(&refund), ..reversed(refund.what.clone()) }))),
    ];
    for (name, kind) in events {
        let record = record(kind);
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let golden = golden(&format!("record-receipt-{name}.hex"), &bytes);
        assert_eq!(bytes, golden, "{name}");
        assert_eq!(Record::decode(&golden).unwrap(), record, "{name}");
        assert_eq!(v1::Record::decode(&*golden).unwrap().encode_to_vec(), golden, "{name}");
    }
    for (name, action) in [("earn", Action::Earn(purchase_with_amount())), ("return", Action::Return(refund))] {
        let command = Command { id: id("R-1"), actor: "till-7".into(), action };
        let hash = content_hash("shop/13085", &command, &mut Vec::new());
        assert_eq!(hash.to_vec(), golden(&format!("content-receipt-{name}.hex"), &hash), "{name}");
    }
}

#[test]
fn a_record_of_this_edition_has_its_golden_bytes() {
    for (name, program_entries) in [("record-edition-2.hex", Some(7)), ("record-edition-2-zero.hex", Some(0))] {
        let record = Record { edition: 2, program_entries, ..record(EventKind::AccountActivated) };
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        let golden = golden(name, &bytes);
        assert_eq!(bytes, golden);
        assert_eq!(golden[..2], [0x08, 0x02], "older releases must refuse it");
        assert_eq!(Record::decode(&golden).unwrap(), record);
        assert_eq!(v1::Record::decode(&*golden).unwrap().encode_to_vec(), golden);
    }
}

#[test]
fn a_records_edition_and_schema_agree() {
    let mut bytes = Vec::new();
    encode_record(&Record { edition: EDITION, ..record(EventKind::AccountActivated) }, &mut bytes);
    bytes[1] = 1;
    assert!(matches!(Record::decode(&bytes), Err(DecodeError::Field { field: "edition" })), "a record of schema 1 is of edition 1");
    bytes.clear();
    encode_record(&record(EventKind::AccountActivated), &mut bytes);
    bytes[1] = 2;
    assert!(matches!(Record::decode(&bytes), Err(DecodeError::Field { field: "edition" })), "a record of schema 2 names its edition");
}

#[test]
fn a_balance_with_lapsed_points_has_its_golden_bytes() {
    let before = record(EventKind::AccountActivated);
    let record = Record { balance: Balance { lapsed: 6, ..before.balance }, ..before };
    let mut bytes = Vec::new();
    encode_record(&record, &mut bytes);
    let golden = golden("record-lapsed.hex", &bytes);
    assert_eq!(bytes, golden);
    assert_eq!(Record::decode(&golden).unwrap(), record);
    assert_eq!(v1::Record::decode(&*golden).unwrap().encode_to_vec(), golden);
}

#[test]
fn outcomes_and_program_entries_have_their_golden_bytes() {
    let actions = [
        Action::Open,
        Action::Activate,
        Action::Freeze(reason()),
        Action::Unfreeze(reason()),
        Action::Close(reason()),
        Action::Earn(purchase()),
        Action::Redeem { points: 500, occurred_at: None },
        Action::Hold { points: 500, minutes: Some(30), occurred_at: None },
        Action::Capture { redemption: id("R-1"), points: Some(300) },
        Action::Release { redemption: id("R-1") },
        Action::ReturnRedemption { redemption: id("R-1"), points: Some(100) },
        Action::Return(returned(Returned::Amount(amount("1.5")))),
        Action::Adjust { points: -5, reason: reason() },
        Action::Expire,
        Action::AddAlias(Alias([0x5a; 32])),
        Action::RemoveAlias(Alias([0x5a; 32])),
        Action::Earn(purchase_with_origin()),
        Action::Propose { points: -70, reason: reason() },
        Action::Approve { proposal: id("A-2") },
        Action::Decline { proposal: id("A-2"), reason: reason() },
        Action::Capture { redemption: id("R-1"), points: None },
        Action::ReturnRedemption { redemption: id("R-1"), points: None },
        Action::Redeem { points: 500, occurred_at: Some(at("2009-12-31T23:50:00Z")) },
        Action::Hold { points: 500, minutes: None, occurred_at: Some(at("2009-12-31T23:50:00Z")) },
    ];
    for (n, action) in actions.into_iter().enumerate() {
        let command = Command { id: id("R-1"), actor: "till-7".into(), action };
        let mut scratch = Vec::new();
        let hash = content_hash("shop/13085", &command, &mut scratch);
        assert_eq!(hash.to_vec(), golden(&format!("content-{n:02}.hex"), &hash), "the content of a command hashes otherwise than it did");
        let key = AccountKey { program: id("shop"), account: id("13085") };
        let outcome =
            Outcome { key, command, recorded_at: at("2010-01-01T00:00:00Z"), number: 52, code: "insufficient_points".into(), detail: "too few".into() };
        let bytes = encode_outcome(&outcome);
        let golden = golden(&format!("outcome-{n:02}.hex"), &bytes);
        assert_eq!(bytes, golden);
        assert_eq!(Outcome::decode(&golden).unwrap(), outcome);
        assert_eq!(v1::Outcome::decode(&*golden).unwrap().encode_to_vec(), golden);
    }
    let entered = EditionEntered { edition: 2, time_zones: "2026e".into(), cel: "0.15.0".into(), first_positions: vec![0, 300, 7] };
    let changes = [
        ProgramChange::RulebookPublished { program: id("shop"), version: 2, rulebook: b"{}".to_vec() },
        ProgramChange::ClockSet { program: id("shop"), now: at("2010-01-01T00:00:00Z") },
        ProgramChange::EditionEntered(entered),
        ProgramChange::AliasKeyNamed(*b"sixteen bytes it"),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let entry = ProgramEntry { recorded_at: at("2010-01-01T00:00:00Z"), actor: "admin".into(), change };
        let bytes = encode_program_entry(&entry);
        let golden = golden(&format!("program-{n:02}.hex"), &bytes);
        assert_eq!(bytes, golden);
        assert_eq!(ProgramEntry::decode(&golden).unwrap(), entry);
        assert_eq!(v1::ProgramEntry::decode(&*golden).unwrap().encode_to_vec(), golden);
    }
}

/// Long texts need lengths of two and three bytes; zeros, empties and what is not set are left out, but a message that is empty is not.
#[test]
fn long_and_empty_fields_are_written_as_the_generated_types_write_them() {
    for length in [0, 1, 100, 127, 128, 129, 16_383, 16_384, 70_000] {
        let mut earned = earned();
        earned.failures[0].error = "x".repeat(length);
        earned.lot = None;
        earned.pending = false;
        (earned.uncapped_points, earned.day_points, earned.day, earned.qualifying) = (-(length as i64), 0, -1, Amount::ZERO);
        earned.facts = Facts::default();
        let purchase = Purchase { store: "y".repeat(length).into(), shipping: Amount::ZERO, ..(*purchase()).clone() };
        earned.purchase = Arc::new(purchase);
        let record = Record { balance: Balance::default(), rule_version: 0, ..record(EventKind::PointsEarned(Box::new(earned))) };
        let mut bytes = Vec::new();
        encode_record(&record, &mut bytes);
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        assert!(v1::Record::decode(&*bytes).unwrap().encode_to_vec() == bytes, "a text of {length} bytes");
    }
}

#[test]
fn what_is_asked_over_the_log_is_read_as_it_was_asked() {
    let key = AccountKey { program: id("shop"), account: id("13085") };
    let command = Command { id: id("489434"), actor: "till-7".into(), action: Action::Earn(purchase()) };
    let asked = [
        What::Command(key.clone(), command),
        What::Publish { program: id("shop"), rulebook: b"{}".to_vec(), actor: "ops".into() },
        What::SetClock { program: id("shop"), now: at("2010-01-01T00:00:00Z"), actor: "ops".into() },
        What::Settle(id("shop")),
        What::NameAliasKey { fingerprint: *b"sixteen bytes it", actor: "ops".into() },
        What::Snapshot(key.clone(), None),
        What::Snapshot(key, Some(id("P1"))),
    ];
    for what in asked {
        let ask = Ask { program_entries: 7, what };
        let bytes = ask.encode();
        assert_eq!(v1::Ask::decode(&*bytes).unwrap().encode_to_vec(), bytes, "{ask:?} is written otherwise than the generated types write it");
        assert_eq!(Ask::decode(&bytes).unwrap(), ask);
        let mut newer = bytes;
        newer[1] = 3;
        assert!(matches!(Ask::decode(&newer), Err(DecodeError::NewerSchema { found: 3 })));
    }
}

#[test]
fn what_shops_publish_may_say_what_was_charged_and_what_of_a_refund_is_shipping() {
    let money = |units: i64| Some(v1::Amount { units, scale: 2 });
    let line = v1::Line {
        line_id: "1".into(),
        quantity: money(50),
        unit_price: money(199),
        discount: money(0),
        tax: money(0),
        amount: money(99),
        ..v1::Line::default()
    };
    let (program, account_id): (String, String) = ("shop".into(), "m1".into());
    let bought = v1::Purchase {
        program: program.clone(),
        account_id: account_id.clone(),
        purchase_id: "p".into(),
        lines: vec![line],
        shipping: money(0),
        ..v1::Purchase::default()
    };
    let read = Published::decode("loyalty.v1.Purchase", &bought.encode_to_vec()).unwrap().action;
    assert!(matches!(read, Action::Earn(purchase) if purchase.lines[0].amount == Some(amount("0.99"))));
    let back = v1::PurchaseReturn {
        program,
        account_id,
        purchase_id: "p".into(),
        return_id: "r".into(),
        amount: money(4500),
        shipping: money(500),
        ..v1::PurchaseReturn::default()
    };
    let read = Published::decode("loyalty.v1.PurchaseReturn", &back.encode_to_vec()).unwrap().action;
    assert!(matches!(read, Action::Return(body) if body.shipping == Some(amount("5.00"))));
}

#[test]
fn a_newer_schema_and_damaged_bytes_are_refused() {
    let mut bytes = Vec::new();
    encode_record(&record(EventKind::AccountActivated), &mut bytes);
    let mut newer = bytes.clone();
    assert_eq!(&newer[..2], [0x08, 0x01], "the schema version comes first");
    newer[1] = 3;
    let error = Record::decode(&newer).unwrap_err();
    assert!(matches!(error, DecodeError::NewerSchema { found: 3 }), "{error}");
    for cut in 1..bytes.len() {
        assert!(Record::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}
