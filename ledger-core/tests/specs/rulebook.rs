//! A rulebook that is wrong is refused with the path, the value and what would be right.

use std::sync::Arc;

use ledger_core::account::command::Action;
use ledger_core::policy::{Program, Rulebook, compile_rulebook, json_schema, read_rulebook};
use serde_json::{Value, json};

use crate::support::{Book, amount, earned, program, purchase, rules};

fn refused(changes: Value) -> Vec<String> {
    let rulebook: Rulebook = serde_json::from_value(rules(changes)).unwrap();
    read_rulebook(rulebook, &Program::default()).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn each_thing_wrong_is_named() {
    let table = [
        (json!({"time_zone": "Europe/Atlantis"}), "/time_zone: Europe/Atlantis is wrong: an IANA time zone, such as Europe/London"),
        (json!({"currency": "pounds"}), "/currency: pounds is wrong: an ISO 4217 code of three capital letters, such as GBP"),
        (json!({"currency": "GB"}), "/currency: GB is wrong: an ISO 4217 code of three capital letters, such as GBP"),
        (json!({"currency": "gbp"}), "/currency: gbp is wrong: an ISO 4217 code of three capital letters, such as GBP"),
        (json!({"currency": "ZZZ"}), "/currency: ZZZ is wrong: a currency of ISO 4217, such as GBP"),
        (
            json!({"redeem": {"value": {"points": 1, "amount": "0.005"}}}),
            "/redeem/value/amount: 0.005 is wrong: an amount that can be paid in GBP, at most 2 decimals: say what more points are worth",
        ),
        (json!({"earn": {"base": {"per": "0"}}}), "/earn/base/per: 0 is wrong: a decimal above 0, at most 1000000"),
        (json!({"expiry": {"mode": "rolling"}}), "/expiry: {} is wrong: either months (1 to 1200) or days (1 to 36500)"),
        (json!({"redeem": {"minimum": 0}}), "/redeem/minimum: 0 is wrong: 1 or more points"),
        (json!({"tiers": {"levels": []}}), "/tiers/levels/0/at: none is wrong: an entry tier at 0"),
        (json!({"tiers": {"levels": [{"name": "a", "at": 0}, {"name": "b", "at": 0}]}}), "/tiers/levels/1/at: 0 is wrong: more than the tier before it, 0"),
        (
            json!({"tiers": {"levels": [{"name": "a", "at": 0, "base": {"points": "1", "per": "0"}}]}}),
            "/tiers/levels/0/base/per: 0 is wrong: a decimal above 0, at most 1000000",
        ),
        (
            json!({"earn": {"bonus": [{"id": "b", "when": "true", "multiply": "1", "paid_by": "acme"}]}}),
            "/earn/bonus/0/paid_by: acme is wrong: nobody, as a factor of 1 or less adds no points to pay for",
        ),
        (
            json!({"earn": {"bonus": [{"id": "b", "when": "line.size > 1", "multiply": "2"}]}}),
            "/earn/bonus/0/when: line.size > 1 is wrong: the condition names \"line.size\"; there are line.{sku, category, quantity, unit_price, discount, tax, amount}",
        ),
    ];
    for (changes, message) in table {
        assert_eq!(refused(changes), [message]);
    }
    assert_eq!(refused(json!({"time_zone": "x", "currency": "y"})).len(), 2, "all of it is named, not the first alone");
}

#[test]
fn what_a_purchase_takes_time_by_is_limited_in_number() {
    let bonus = |n: usize| json!({"id": format!("b{n}"), "when": "line.quantity >= 1.0", "multiply": "1"});
    let level = |n: usize| json!({"name": format!("l{n}"), "at": n});
    let of = |count: usize, one: &dyn Fn(usize) -> Value| (0..count).map(one).collect::<Value>();
    let skus = |count: usize| of(count, &|n| n.to_string().into());
    let rules =
        |more: usize| json!({"earn": {"bonus": of(500 + more, &bonus), "exclude": {"skus": skus(50_000 + more)}}, "tiers": {"levels": of(100 + more, &level)}});
    let told = ["/earn/bonus: 501 is wrong: at most 500", "/earn/exclude/skus: 50001 is wrong: at most 50000", "/tiers/levels: 101 is wrong: at most 100"];
    assert_eq!(refused(rules(1)), told);
    assert_eq!(program(&[crate::support::rules(rules(0))]).latest().map(|version| version.number), Some(1));
}

#[test]
fn conditions_of_fraud_rules_and_actions_have_no_loops_and_no_depths() {
    let rule = |when: &str| json!({"id": "f", "version": 1, "severity": "low", "on": ["earn"], "by": "till", "when": when, "explanation": "x"});
    let action = |when: &str| json!({"id": "a", "what": "x", "cost": "1", "uplift": "0.1", "when": when});
    let told = |when: &str, other: &str| {
        refused(json!({"fraud": {"rules": [rule(&format!("signal.points > 0 && {when}"))]}, "insight": {"actions": [action(other)]}}))
    };
    // Ten levels of ten would take years.
    let nested = (0..10).fold("true".to_owned(), |inner, level| format!("[1, 1, 1, 1, 1, 1, 1, 1, 1, 1].all(x{level}, {inner})"));
    for looping in ["size([1].map(x, x)) > 0", "{'a': [1].filter(x, x > 0)}['a'] == [1]", "[1].exists(x, x > 1)", &nested] {
        let told = told(looping, looping);
        assert!(told.len() == 2 && told.iter().all(|told| told.ends_with("a CEL expression without loops (all, exists, map, filter)")), "{told:?}");
    }
    let chain = vec!["1"; 400].join("+") + " > 0";
    for deep in ["(".repeat(33) + "true" + &")".repeat(33), chain, "!".repeat(500) + "true"] {
        let told = told(&deep, &deep);
        assert!(told.len() == 2 && told.iter().all(|told| told.ends_with("a CEL expression nested at most 32 levels deep")), "{told:?}");
    }
    assert_eq!(
        program(&[rules(json!({"insight": {"actions": [action("member.orders in [1, 2] && {'a': 1}['a'] == 1")]}}))]).latest().map(|version| version.number),
        Some(1)
    );
}

#[test]
fn unknown_fields_and_floats_are_refused() {
    let unknown = serde_json::from_value::<Rulebook>(rules(json!({"earn": {"capps": {}}}))).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `capps`"), "{unknown}");
    let float = serde_json::from_value::<Rulebook>(rules(json!({"earn": {"base": {"points": 1.5}}}))).unwrap_err();
    assert!(float.to_string().contains("a decimal in a string"), "{float}");
}

#[test]
fn mode_and_currency_cannot_change() {
    let before = program(&[rules(json!({}))]);
    let next: Rulebook = serde_json::from_value(rules(json!({"mode": "live", "currency": "EUR"}))).unwrap();
    let invalid = read_rulebook(next, &before).unwrap_err();
    assert_eq!(invalid.iter().map(|problem| problem.pointer.as_str()).collect::<Vec<_>>(), ["/mode", "/currency"]);
}

/// A program of before currencies were looked up goes on: its rulebooks compile, new versions may keep the currency, its money is not rounded.
#[test]
fn a_program_in_a_currency_of_its_own_goes_on() {
    let rulebook = |points: i64| -> Rulebook {
        serde_json::from_value(rules(json!({"currency": "ZZZ", "redeem": {"value": {"points": points, "amount": "0.005"}}}))).unwrap()
    };
    let mut book = Book::new(json!({}));
    book.program = Program::default();
    book.program.publish(Arc::new(compile_rulebook(rulebook(1), &Program::default()).unwrap()));
    assert_eq!(read_rulebook(rulebook(2), &book.program).unwrap().number, 2);
    let mut body = (*purchase("p", book.now, &[("1", "A", "0.001", "999"), ("2", "A", "0.001", "1")])).clone();
    (body.currency, body.shipping) = ("ZZZ".into(), amount("0.0005"));
    assert_eq!(earned(&book.ask("p", Action::Earn(body.into())).unwrap()), 1);
    book.refund("r", "p", "1.0005", None).unwrap();
    assert_eq!(book.available(), 0);
}

#[test]
fn the_published_json_schema_is_the_one_of_the_code() {
    let published: Value = serde_json::from_str(include_str!("../../../schemas/rulebook.schema.json")).unwrap();
    assert_eq!(published, json_schema().to_value(), "make it anew with `just generate`");
}
