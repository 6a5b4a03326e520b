//! What a rulebook may just say, and what it may not say any more.

use ledger_core::policy::{FraudRules, Program, Rulebook, compile_rulebook, read_rulebook};
use serde_json::{Value, json};

use crate::support::rules;

/// A rulebook with something of everything.
fn full() -> Value {
    let action = |id: &str| json!({"id": id, "what": "a letter", "cost": "1", "uplift": "0.1", "when": "member.orders > 1", "budget": "10", "holdout": "0.1"});
    let period = |from: &str, until: &str| json!({"from": from, "until": until, "planned": "100", "alert_at": "0.5"});
    let window = json!({"kinds": ["earn"], "by": "store", "minutes": 60, "measure": "count"});
    let rule = |id: &str| json!({"id": id, "version": 1, "severity": "low", "on": ["earn"], "by": "account", "windows": {"w": window}, "when": "window.w > 1", "explanation": "many"});
    rules(json!({
        "accounts": {"inactive_after": {"months": 3}},
        "adjust": {"approval_from_points": 100},
        "earn": {
            "pending_days": 3,
            "bonus": [{"id": "one", "when": "true", "multiply": "2", "paid_by": "acme"}, {"id": "two", "when": "true", "multiply": "2"}],
            "caps": {"per_purchase": 1, "per_day": 1, "per_member": 1}
        },
        "expiry": {"mode": "calendar", "period": "quarter", "grace_days": 3},
        "return": {"window_days": 10},
        "tiers": {"levels": [{"name": "a", "at": 0, "base": {"points": "1", "per": "1"}}, {"name": "b", "at": "10.50"}, {"name": "c", "at": 20}]},
        "insight": {
            "ladder": [{"name": "prospect"}, {"name": "customer", "orders": 1, "within_days": 30}],
            "actions": [action("letter"), action("call")],
            "budget": [period("2010-01-01", "2010-06-30"), period("2010-07-01", "2010-12-31")]
        },
        "fraud": {"rules": [rule("many"), rule("more")]}
    }))
}

/// The pointers of what is wrong with it.
fn wrong(rulebook: Value) -> Vec<String> {
    let rulebook: Rulebook = serde_json::from_value(rulebook).unwrap();
    read_rulebook(rulebook, &Program::default()).map_or_else(|invalid| invalid.into_iter().map(|problem| problem.pointer).collect(), |_| Vec::new())
}

fn with(pointer: &str, value: &Value) -> Value {
    let mut rulebook = full();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match rulebook.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = value.clone(),
        parent => parent[field] = value.clone(),
    }
    rulebook
}

/// Each of `right` may stand at `pointer`; each of `bad` is refused, and there alone.
fn edges(pointer: &str, right: &[Value], bad: &[Value]) {
    edges_at(pointer, pointer, right, bad);
}

fn edges_at(pointer: &str, refused_at: &str, right: &[Value], bad: &[Value]) {
    for value in right {
        assert_eq!(wrong(with(pointer, value)), Vec::<String>::new(), "{pointer}: {value}");
    }
    for value in bad {
        assert_eq!(wrong(with(pointer, value)), [refused_at], "{pointer}: {value}");
    }
}

fn decimals(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| json!(text)).collect()
}

fn numbers(numbers: &[i64]) -> Vec<Value> {
    numbers.iter().map(|number| json!(number)).collect()
}

/// A name of 64 characters may be; none, one of 65 and that of another may not.
fn names(pointer: &str, other: &str) {
    edges(pointer, &[json!("x".repeat(64))], &[json!(""), json!("x".repeat(65)), json!(other)]);
}

#[test]
fn earning() {
    for pointer in ["/earn/base/points", "/earn/base/per", "/tiers/levels/0/base/points", "/tiers/levels/0/base/per"] {
        edges(pointer, &decimals(&["0.000001", "1000000"]), &decimals(&["0", "-1", "1000000.000001"]));
    }
    edges("/earn/pending_days", &numbers(&[0, 3650]), &numbers(&[3651]));
    edges("/earn/bonus/1/multiply", &decimals(&["0", "1", "1000"]), &decimals(&["-0.000001", "1000.000001"]));
    edges_at("/earn/bonus/0/multiply", "/earn/bonus/0/paid_by", &decimals(&["1.000001"]), &decimals(&["1", "0"]));
    edges("/earn/bonus/1/id", &[json!("other")], &[json!("one")]);
    for cap in ["per_purchase", "per_day", "per_member"] {
        edges(&format!("/earn/caps/{cap}"), &[json!(null), json!(0), json!(1_000_000_000_000_i64)], &numbers(&[-1, 1_000_000_000_001]));
    }
    edges("/adjust/approval_from_points", &numbers(&[1, 2]), &numbers(&[0, -1]));
}

#[test]
fn conditions() {
    let when = "/earn/bonus/1/when";
    let filled = |length: usize| json!(format!("{:length$}", "true"));
    let nested = |levels: usize| json!(format!("{}true{}", "(".repeat(levels), ")".repeat(levels)));
    edges(when, &[filled(1000), nested(32)], &[filled(1001), nested(33)]);
    // A sum is as deep as it is long.
    let sum = |terms: usize| json!(format!("{} > 1", vec!["account.purchases"; terms].join(" + ")));
    edges(when, &[sum(32)], &[sum(33)]);
}

#[test]
fn redeeming_returning_and_expiring() {
    for pointer in ["/redeem/minimum", "/redeem/multiple_of", "/redeem/value/points"] {
        edges(pointer, &numbers(&[1, 1_000_000_000_000]), &numbers(&[0, -1, 1_000_000_000_001]));
    }
    edges("/redeem/value/amount", &decimals(&["0", "0.01"]), &decimals(&["-0.01"]));
    edges("/redeem/hold_minutes", &numbers(&[1, 527_040]), &numbers(&[0, 527_041]));
    edges("/redeem/offline_minutes", &numbers(&[0, 10_080]), &numbers(&[10_081]));
    edges("/return/window_days", &numbers(&[0, 36_500]), &numbers(&[36_501]));
    edges("/expiry/grace_days", &numbers(&[0, 3650]), &numbers(&[3651]));
    let spans = |pointer: &str, span: &dyn Fn(Value) -> Value| {
        let right = [json!({"months": 1}), json!({"months": 1200}), json!({"days": 1}), json!({"days": 36_500})];
        let bad = [json!({"months": 0}), json!({"months": 1201}), json!({"days": 0}), json!({"days": 36_501}), json!({"months": 1, "days": 1}), json!({})];
        edges(pointer, &right.map(span), &bad.map(span));
    };
    spans("/accounts/inactive_after", &|span| span);
    for mode in ["rolling", "inactivity"] {
        spans("/expiry", &|mut span| {
            span["mode"] = json!(mode);
            span
        });
    }
    // The rules are in force from 2009 on.
    let fixed = |date: &str| json!({"mode": "fixed_date", "date": date});
    edges_at("/expiry", "/expiry/date", &[fixed("2009-01-01"), fixed("2009-01-02")], &[fixed("2008-12-31")]);
}

#[test]
fn tiers() {
    edges("/tiers/levels/0/at", &numbers(&[0]), &numbers(&[-1]));
    edges("/tiers/levels/1/at", &decimals(&["0.01", "19.99"]), &decimals(&["0", "-1"]));
    edges_at("/tiers/levels/1/at", "/tiers/levels/2/at", &decimals(&["19.99"]), &decimals(&["20", "20.01"]));
    names("/tiers/levels/1/name", "a");
    edges("/tiers/levels/1/multiplier", &decimals(&["0", "1000"]), &decimals(&["-0.000001", "1000.000001"]));
}

#[test]
fn insight() {
    for share in ["margin", "monthly_discount", "expected_redemption"] {
        edges(&format!("/insight/{share}"), &decimals(&["0", "1"]), &decimals(&["-0.000001", "1.000001"]));
    }
    edges("/insight/horizon_months", &numbers(&[1, 120]), &numbers(&[0, 121]));
    edges_at("/insight/ladder/0/orders", "/insight/ladder/0", &numbers(&[0]), &numbers(&[1]));
    edges_at("/insight/ladder/0/spend", "/insight/ladder/0", &decimals(&["0"]), &decimals(&["0.01"]));
    edges_at("/insight/ladder", "/insight/ladder/0", &[json!([{"name": "all"}])], &[json!([])]);
    names("/insight/ladder/1/name", "prospect");
    edges("/insight/ladder/1/within_days", &[json!(null), json!(1), json!(36_500)], &numbers(&[0, 36_501]));
    names("/insight/actions/1/id", "letter");
    for share in ["uplift", "holdout"] {
        edges(&format!("/insight/actions/1/{share}"), &decimals(&["0", "1"]), &decimals(&["-0.000001", "1.000001"]));
    }
    for money in ["cost", "budget"] {
        edges(&format!("/insight/actions/1/{money}"), &decimals(&["0", "0.01"]), &decimals(&["-0.01"]));
    }
    let filled = |length: usize| json!(format!("{:length$}", "true"));
    edges("/insight/actions/1/when", &[json!("member.state == 'lost'"), filled(1000)], &[json!("member.shoes > 1"), json!("1"), filled(1001)]);
    edges("/insight/budget/1/from", &[json!("2010-07-01"), json!("2010-12-31")], &[json!("2010-06-30"), json!("2010-06-29")]);
    edges("/insight/budget/1/until", &[json!("2010-07-01"), json!("2030-01-01")], &[json!("2010-06-30")]);
    edges("/insight/budget/1/planned", &decimals(&["0.01"]), &decimals(&["0", "-1"]));
    edges("/insight/budget/1/alert_at", &decimals(&["0.000001", "1"]), &decimals(&["0", "-1", "1.000001"]));
}

#[test]
fn fraud() {
    edges("/fraud/approval_limit", &numbers(&[0, 1_000_000_000_000]), &numbers(&[-1, 1_000_000_000_001]));
    names("/fraud/rules/1/id", "many");
    let window = |kinds: Value, by: &str, measure: &str| json!({"kinds": kinds, "by": by, "minutes": 60, "measure": measure});
    let at = |field: &str, right: &[Value], bad: &[Value]| edges_at("/fraud/rules/1/windows/w", &format!("/fraud/rules/1/windows/w/{field}"), right, bad);
    let alone = [window(json!(["refused"]), "account", "count"), window(json!(["earn", "redeem"]), "account", "count")];
    at("kinds", &alone, &[window(json!([]), "account", "count"), window(json!(["refused", "earn"]), "account", "count")]);
    let told = [window(json!(["refused"]), "actor", "count"), window(json!(["earn"]), "till", "count")];
    at("by", &told, &[window(json!(["refused"]), "till", "count")]);
    let measured = ["own_percent", "confirmed"].map(|measure| window(json!(["earn"]), "account", measure));
    at("measure", &measured, &["own_percent", "confirmed"].map(|measure| window(json!(["refused"]), "account", measure)));
    edges("/fraud/rules/1/windows/w/minutes", &numbers(&[1, 576_000]), &numbers(&[0, 576_001]));
    edges("/fraud/rules/1/when", &[json!("10 / window.w > 1 && 10 / signal.points > 1 && limit == 1")], &[json!("window.shoes > 1"), json!("signal.kind")]);
}

#[test]
fn staff_is_known_by_its_accounts() {
    let rules: FraudRules = serde_json::from_value(json!({"staff": {"till-7": "m-7", "till-8": "m-8"}})).unwrap();
    assert!(rules.is_own("till-7", "m-7") && !rules.is_own("till-7", "m-8") && !rules.is_own("till-9", "m-7"));
    assert!(rules.is_of_staff("m-8") && !rules.is_of_staff("m-9"));
}

#[test]
fn texts_show_all_they_have() {
    for pointer in ["/tiers/levels/1/name", "/insight/actions/1/what"] {
        let invalid = wrong(with(pointer, &json!("two\u{200b}parts")));
        assert!(invalid.iter().all(|found| found == pointer) && !invalid.is_empty(), "{pointer}: {invalid:?}");
    }
}

#[test]
fn what_is_found_twice_is_told_once() {
    let mut rulebook = with("/earn/bonus/1/when", &json!("line.sku =="));
    (rulebook["currency"], rulebook["time_zone"]) = (json!("pounds"), json!("Europe/Atlantis"));
    assert_eq!(wrong(rulebook), ["/currency", "/earn/bonus/1/when", "/time_zone"]);
}

#[test]
fn not_even_a_published_rulebook_is_without_a_tier() {
    let compiled = |rulebook: Value| compile_rulebook(serde_json::from_value(rulebook).unwrap(), &Program::default());
    assert_eq!(compiled(with("/tiers/levels", &json!([]))).unwrap_err()[0].pointer, "/tiers/levels/0/at");
    assert_eq!(compiled(full()).unwrap().number, 1);
}

#[test]
fn what_is_left_out_is_what_it_says() {
    let rulebook: Rulebook = serde_json::from_value(rules(json!({"redeem": {"minimum": 5}}))).unwrap();
    let written = serde_json::to_value(&rulebook).unwrap();
    assert_eq!((&written["redeem"]["minimum"], &written["redeem"]["multiple_of"], &written["redeem"]["hold_minutes"]), (&json!(5), &json!(1), &json!(30)));
    assert_eq!(written["redeem"].get("offline_minutes"), None);
    let mut told = full();
    told["redeem"]["offline_minutes"] = json!(5);
    told["insight"]["budget"][0].as_object_mut().unwrap().remove("alert_at");
    let written = serde_json::to_value(serde_json::from_value::<Rulebook>(told).unwrap()).unwrap();
    assert_eq!(written["redeem"]["offline_minutes"], json!(5));
    assert_eq!(written["insight"]["budget"][0]["alert_at"], json!("0.8"));
    let levels: Vec<_> = written["tiers"]["levels"].as_array().unwrap().iter().map(|level| (&level["at"], &level["multiplier"])).collect();
    assert_eq!(levels, [(&json!(0), &json!("1")), (&json!("10.50"), &json!("1")), (&json!(20), &json!("1"))], "whole numbers, or decimals in strings");
}

#[test]
fn points_are_worth_money_to_six_decimals() {
    let rulebook: Rulebook = serde_json::from_value(rules(json!({"redeem": {"value": {"points": 3, "amount": "1.00"}}}))).unwrap();
    let worth = |points| rulebook.redeem.value.money(points).map(|money| money.to_string());
    assert_eq!((worth(1), worth(6), worth(0)), (Some("0.333333".into()), Some("2".into()), Some("0".into())));
}
