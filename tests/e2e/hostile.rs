//! Values that nobody would send, and that are valid all the same: texts, ids, numbers and moments at the edges of what is accepted, and a few beyond.

use proptest::prelude::*;
use serde_json::{Value, json};

/// Stands in a body for half of a surrogate pair, which no `Value` can hold.
pub const SURROGATE: &str = "HALF-A-PAIR";

/// Any text that JSON can say, most of it accepted.
pub fn text() -> impl Strategy<Value = String> {
    let hostile = [
        "",
        " ",
        "'; DROP SCHEMA statement CASCADE; --",
        "\\N",
        "\\",
        "\"quoted\", {braces} and %s %00 $1",
        "\u{fffe}\u{ffff}\u{10ffff}",
        "e\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}",
        "👩\u{200d}👩\u{200d}👧",
        "ﷺ",
        "العربية",
    ];
    let wrong = ["nul\0nul", "line\nfeed\ttab", "esc\u{1b}[2J", "\u{202e}turned", "\u{feff}", SURROGATE];
    let any = prop::collection::vec(any::<char>(), 1..16).prop_map(|characters| characters.into_iter().collect::<String>());
    let longest = prop_oneof![Just("x".repeat(64)), Just("é".repeat(32)), Just("\u{10ffff}".repeat(16)), Just("\"".repeat(64))];
    prop_oneof![
        20 => Just("till".to_owned()),
        20 => prop::sample::select(hostile.to_vec()).prop_map(str::to_owned),
        12 => any,
        5 => longest,
        1 => Just("y".repeat(65)),
        1 => prop::sample::select(wrong.to_vec()).prop_map(str::to_owned)
    ]
}

/// A text as long as a note may be.
pub fn note() -> impl Strategy<Value = String> {
    prop_oneof![9 => text(), 2 => Just("n".repeat(1000)), 2 => Just("\u{ffff}".repeat(333)), 1 => Just("n".repeat(1001))]
}

/// An id: one of few, so that commands meet, some of them as long as may be.
pub fn id(kind: &'static str) -> impl Strategy<Value = String> {
    let longest = move |n: usize| format!("{kind}{n}{:.>1$}", "", 64 - kind.len() - 1);
    prop_oneof![
        12 => (0..8_usize).prop_map(move |n| format!("{kind}-{n}")),
        3 => (0..2_usize).prop_map(longest),
        1 => prop::sample::select(vec![".", "..", ":", "", "a b", "ä", "null", "9223372036854775808"]).prop_map(str::to_owned)
    ]
}

/// Points: a few of them most times.
pub fn points() -> impl Strategy<Value = Value> {
    let extreme = [
        json!(0),
        json!(-1),
        json!(1_000_000_000_000_i64),
        json!(1_000_000_000_001_i64),
        json!(i64::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!("5"),
    ];
    prop_oneof![6 => (1..400_i64).prop_map(Value::from), 1 => (-300..0_i64).prop_map(Value::from), 2 => prop::sample::select(extreme.to_vec())]
}

/// Money or a quantity, most times what shops have.
pub fn amount() -> impl Strategy<Value = Value> {
    let usual = [json!(1), json!("2"), json!("19.99"), json!("150"), json!("0.5")];
    let extreme = [json!("0.000001"), json!("999999999999.999999"), json!("1000000000000"), json!(1_000_000_000_000_i64), json!("0")];
    let wrong = [
        json!("1000000000000.000001"),
        json!("0.0000000000000000000000000001"),
        json!("79228162514264337593543950335"),
        json!("-1"),
        json!("1e5"),
        json!(0.1),
        json!(""),
    ];
    prop_oneof![30 => prop::sample::select(usual.to_vec()), 4 => prop::sample::select(extreme.to_vec()), 1 => prop::sample::select(wrong.to_vec())]
}

/// A moment: one of `usual` most times.
pub fn moment(usual: &[&'static str]) -> impl Strategy<Value = Value> {
    let extreme = [
        "1900-01-01T00:00:00Z",
        "1899-12-31T23:59:59.999999Z",
        "2300-01-01T00:00:00Z",
        "2300-01-01T00:00:00.000001Z",
        "9999-12-31T23:59:59Z",
        "2010-02-30T00:00:00Z",
        "2016-12-31T23:59:60Z",
        "2010-01-01T00:00:00.9999999999+23:59",
        "2010-01-01",
        SURROGATE,
    ];
    let usual = prop::sample::select([usual, &["2009-12-31T23:59:59.999999Z", "2010-03-28T01:30:00+00:00"]].concat());
    prop_oneof![12 => usual, 1 => prop::sample::select(extreme.to_vec())].prop_map(Value::from)
}
