//! Rulebooks and conditions that nobody would write: they are refused in words or they work, and nothing else.

use std::sync::Arc;

use ledger_core::account::command::Action;
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use proptest::prelude::*;
use serde_json::json;

use crate::support::{Book, purchase, rules};

/// A rulebook with everything in it.
fn full() -> String {
    rules(json!({
        "earn": {"pending_days": 3, "bonus": [{"id": "b", "when": "line.sku == 'A' && purchase.total >= 10.0", "multiply": "2"}],
                 "caps": {"per_purchase": 100, "per_day": 200, "per_member": 1000}},
        "expiry": {"mode": "calendar", "period": "quarter", "grace_days": 3},
        "tiers": {"qualify_by": "spend", "window": "calendar_year", "levels": [{"name": "a", "at": 0}, {"name": "b", "at": "10.50", "multiplier": "1.5"}]}
    }))
    .to_string()
}

/// `text` with some of its bytes changed, left out or said twice.
fn mangled(text: String) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, any::<u8>(), 1..12_usize);
    prop::collection::vec(edit, 1..4).prop_map(move |edits| {
        let mut bytes = text.clone().into_bytes();
        for (at, kind, byte, length) in edits {
            let at = at.index(bytes.len().max(1));
            let end = (at + length).min(bytes.len());
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => drop(bytes.drain(at..end)),
                2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
                _ => bytes.insert(at, b"0123456789\"{}[],:-."[usize::from(byte) % 19]),
            }
        }
        bytes
    })
}

fn condition() -> impl Strategy<Value = String> {
    let names = ["line.sku", "line.quantity", "purchase.total", "purchase.channel", "account.tier", "account.purchases", "line", "nothing", "line.nothing"];
    let values = ["1", "1.0", "-2", "'A'", "true", "null", "[1, 2]", "{'a': 1}", "b'x'", "9223372036854775807", "1e308", "''", "timestamp('x')"];
    let leaf = prop_oneof![prop::sample::select(names.to_vec()), prop::sample::select(values.to_vec())].prop_map(str::to_owned);
    leaf.prop_recursive(40, 200, 3, |inner| {
        let operators = ["==", "!=", "<", ">=", "&&", "||", "+", "-", "*", "/", "%", "in"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("size({a})")),
            inner.clone().prop_map(|a| format!("[{a}].all(x, x == 1)")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a})[{b}]")),
        ]
    })
}

/// A purchase under such a rulebook is rated, or refused in words.
fn buys(rulebook: Rulebook) {
    let Ok(version) = read_rulebook(rulebook, &Program::default()) else { return };
    let mut book = Book::new(json!({}));
    book.program = Program::default();
    book.program.publish(Arc::new(version));
    let bought = purchase("p", book.now, &[("1", "A", "2", "7.35"), ("2", "B", "0.5", "19.99")]);
    let _ = book.ask("p", Action::Earn(bought));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mangled_rulebook_is_refused_or_works(bytes in mangled(full())) {
        if let Ok(rulebook) = serde_json::from_slice::<Rulebook>(&bytes) {
            let again: Rulebook = serde_json::from_str(&serde_json::to_string(&rulebook).unwrap()).unwrap();
            prop_assert_eq!(&again, &rulebook, "what was read is written so that it is read alike");
            buys(rulebook);
        }
    }

    #[test]
    fn any_condition_is_refused_or_answers(when in prop_oneof![3 => condition(), 1 => "\\PC{0,1200}"]) {
        let bonus = json!([{"id": "b", "when": when, "multiply": "2"}]);
        buys(serde_json::from_value(rules(json!({"earn": {"bonus": bonus}}))).unwrap());
    }
}
