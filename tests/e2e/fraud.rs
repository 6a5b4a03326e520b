//! Fraud, end to end: a seeded stream of honest members with planted rings; every ring is found, nobody else is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Up, postgres, purchase, rulebook};

const DAY: &str = "2010-03-10";

fn taken(id: &str, account: &str, time: &str, origin: [&str; 4], store: &str) -> Value {
    let mut body = purchase(id, account, &format!("{DAY}T{time}Z"), "x", "20.00");
    let [cashier, till, device, card] = origin;
    (body["cashier"], body["till"], body["device"], body["card_token"]) = (json!(cashier), json!(till), json!(device), json!(card));
    (body["channel"], body["store"]) = (json!("store"), json!(store));
    body
}

async fn buy(up: &Up, body: Value) -> Value {
    let (status, answer) = up.post("/v1/programs/shop/purchases", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer
}

/// 60 members, each with a device and a card of their own, two purchases hours apart, at one of three stores with tills and cashiers.
async fn honest(up: &Up) {
    for member in 0_u32..60 {
        for visit in 0..2 {
            let (store, till) = (format!("s{}", member % 3), format!("t{}", member % 9));
            let time = format!("{:02}:{:02}:{:02}", 8 + visit * 6 + member % 5, member * 7 % 60, member * 13 % 60);
            let own = [&*format!("c{}", member % 12), &*till, &*format!("d{member}"), &*format!("k{member}")];
            buy(up, taken(&format!("h{member}-{visit}"), &format!("honest{member}"), &time, own, &store)).await;
        }
    }
}

/// The rings, by rule; each with the subject that its case must name.
async fn rings(up: &Up) -> BTreeMap<&'static str, BTreeSet<String>> {
    for i in 0..4 {
        buy(up, taken(&format!("ring{i}"), &format!("ring{i}"), &format!("1{i}:30:00"), ["c90", "t90", "ring-device", &format!("rk{i}")], "s9")).await;
    }
    for account in ["twin1", "twin2"] {
        buy(up, taken("receipt-1", account, "12:00:00", ["c91", "t91", "", ""], "s9")).await;
    }
    for i in 0..3 {
        buy(up, taken(&format!("stolen{i}"), &format!("thief{i}"), &format!("0{}:10:00", 6 + i), ["c92", "t92", "", "stolen-card"], "s9")).await;
    }
    buy(up, taken("own", "cashier-account", "15:00:00", ["c93", "t93", "", ""], "s9")).await;
    buy(up, taken("spree", "spree", "09:00:00", ["c94", "t94", "", ""], "s9")).await;
    let (status, answer) =
        up.post("/v1/programs/shop/adjustments", json!({"adjustment_id": "gift", "account_id": "spree", "points": 500, "reason_code": "x"})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (status, answer) = up.post("/v1/programs/shop/redemptions", json!({"redemption_id": "spree-r", "account_id": "spree", "points": 100})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let back = json!({"return_id": "spree-back", "account_id": "spree", "purchase_id": "spree", "occurred_at": format!("{DAY}T22:00:00Z"), "amount": "20.00"});
    let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    // The later receipt is told of first.
    buy(up, taken("receipt-2", "late2", "13:00:00", ["c98", "t98", "", ""], "s9")).await;
    until("the later receipt is looked at", async || {
        let (_, trail) = up.get("/v1/programs/shop/audit/commands?account_id=late2").await;
        (trail["items"] != json!([])).then_some(())
    })
    .await;
    buy(up, taken("receipt-2", "late1", "12:50:00", ["c99", "t99", "", ""], "s9")).await;
    buy(up, taken("far1", "traveller", "11:00:00", ["c95", "t95", "", ""], "north")).await;
    buy(up, taken("far2", "traveller", "11:10:00", ["c96", "t96", "", ""], "south")).await;
    for i in 0..8 {
        let (status, _) =
            up.post("/v1/programs/shop/redemptions", json!({"redemption_id": format!("guess{i}"), "account_id": "honest1", "points": 90_000 + i})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    for (i, points) in [950, 960].iter().enumerate() {
        let body = json!({"adjustment_id": format!("under{i}"), "account_id": "friend", "points": points, "reason_code": "x"});
        if i == 0 {
            buy(up, taken("friend", "friend", "10:00:00", ["c97", "t97", "", ""], "s9")).await;
        }
        let (status, answer) = up.post("/v1/programs/shop/adjustments", body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    let all = [
        ("device_feeds_many", "ring-device"),
        ("enrolments_by_device", "ring-device"),
        ("same_receipt", "receipt-1"),
        ("earn_velocity_card", "stolen-card"),
        ("own_card", "c93"),
        ("earn_redeem_return", "spree"),
        ("impossible_travel", "traveller"),
        ("guessing", "honest1"),
        ("adjust_under_limit", "local"),
    ];
    let mut rings: BTreeMap<&str, BTreeSet<String>> = all.into_iter().map(|(rule, subject)| (rule, BTreeSet::from([subject.to_owned()]))).collect();
    rings.entry("same_receipt").or_default().insert("receipt-2".into());
    rings
}

async fn found(up: &Up) -> BTreeMap<String, BTreeSet<String>> {
    let (status, page) = up.get("/v1/programs/shop/fraud/cases?limit=500").await;
    assert_eq!(status, StatusCode::OK, "{page}");
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for case in page["items"].as_array().unwrap() {
        found.entry(case["rule"].as_str().unwrap().to_owned()).or_default().insert(case["subject"].as_str().unwrap().to_owned());
    }
    found
}

async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looking).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

async fn start(data: &TempDir, fraud: Value) -> Up {
    let up = Up::start(data.path(), &[]).await;
    let mut rules = rulebook();
    rules["fraud"] = fraud;
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    assert_eq!(up.put("/v1/programs/shop/clock", json!({"now": format!("{DAY}T22:00:00Z")})).await.0, StatusCode::OK);
    up
}

#[tokio::test]
async fn every_planted_ring_is_found_and_nobody_else() {
    let data = TempDir::new().unwrap();
    let up = start(&data, json!({"staff": {"c93": "cashier-account"}, "approval_limit": 1000})).await;
    honest(&up).await;
    let planted = rings(&up).await;
    let count = planted.len();
    until("a case of each ring", async || {
        let found = found(&up).await;
        eprintln!("{} of {count} rules have found something", found.len());
        (found.len() >= count).then_some(())
    })
    .await;
    // The last signal was looked at when a signal sent after it was.
    buy(&up, taken("end1", "end", "21:00:00", ["", "", "", ""], "north")).await;
    buy(&up, taken("end2", "end", "21:01:00", ["", "", "", ""], "south")).await;
    let ended = async || found(&up).await.get("impossible_travel").is_some_and(|all| all.contains("end")).then_some(());
    until("the end is seen", ended).await;
    let mut found = found(&up).await;
    found.get_mut("impossible_travel").unwrap().remove("end");
    let mut table = String::from("rule | found | planted | precision | recall\n");
    for (rule, subjects) in &found {
        let right = planted.get(rule.as_str()).map_or(0, |planted| planted.intersection(subjects).count());
        let wanted = planted.get(rule.as_str()).map_or(0, BTreeSet::len);
        table.push_str(&format!("{rule} | {} | {wanted} | {right}/{} | {right}/{wanted}\n", subjects.len(), subjects.len()));
    }
    println!("{table}");
    let found: BTreeMap<&str, BTreeSet<String>> = found.iter().map(|(rule, subjects)| (rule.as_str(), subjects.clone())).collect();
    assert_eq!(found, planted, "{table}");
    up.stop().await;
}

fn two_on_a_device(block: bool) -> Value {
    json!({"rules": [{"id": "many", "version": 3, "severity": "high", "on": ["earn"], "by": "device",
        "windows": {"purchases": {"kinds": ["earn"], "by": "device", "minutes": 60, "measure": "count"}}, "when": "window.purchases >= 2",
        "explanation": "two purchases on one device", "block": block}]})
}

#[tokio::test]
async fn a_rule_that_blocks_freezes_the_account_through_the_ledger() {
    let data = TempDir::new().unwrap();
    let up = start(&data, two_on_a_device(true)).await;
    for i in 0..2 {
        buy(&up, taken(&format!("q{i}"), "b", &format!("10:1{i}:00"), ["", "", "other", ""], "s1")).await;
    }
    let frozen = async || (up.get("/v1/programs/shop/accounts/b").await.1["status"] == "frozen").then_some(());
    until("the freeze", frozen).await;
    let (_, trail) = up.get("/v1/programs/shop/audit/commands?actor=fraud-rules").await;
    assert_eq!((&trail["items"][0]["kind"], &trail["items"][0]["account_id"]), (&json!("freeze"), &json!("b")));
    up.stop().await;
}

#[tokio::test]
async fn a_freeze_that_was_not_booked_is_asked_for_again() {
    let data = TempDir::new().unwrap();
    let up = start(&data, two_on_a_device(false)).await;
    buy(&up, taken("p", "b", "10:00:00", ["", "", "", ""], "s1")).await;
    // As a process leaves it that dies after it opened the case.
    let client = postgres(data.path()).await;
    let case =
        "INSERT INTO analysis.fraud_case (program, case_id, rule, rule_version, severity, severity_rank, subject_kind, subject, account, day, state, opened_at,
                    signals, measure, anomaly_score, explanation)
                VALUES ('shop', 'c1', 'many', 1, 'high', 2, 'device', 'd', 'b', '2010-03-10', 'open', now(), 1, 1, 0, 'x')";
    client.execute(case, &[]).await.unwrap();
    client.execute("INSERT INTO analysis.fraud_freeze VALUES ('shop', 'c1', 'b', 'many', now())", &[]).await.unwrap();
    let frozen = async || (up.get("/v1/programs/shop/accounts/b").await.1["status"] == "frozen").then_some(());
    until("the freeze", frozen).await;
    let settled = async || {
        let (_, whole) = up.get("/v1/programs/shop/fraud/cases/c1").await;
        (whole["events"][0]["note"] == "account b frozen").then_some(())
    };
    until("the case says so", settled).await;
    up.stop().await;
}

#[tokio::test]
async fn a_stop_interrupts_a_look() {
    let data = TempDir::new().unwrap();
    let up = start(&data, two_on_a_device(false)).await;
    let client = postgres(data.path()).await;
    client.batch_execute("BEGIN; LOCK TABLE analysis.watched IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // The next look waits for the lock, for ever.
    let waits = async || {
        let sql = "SELECT count(*) FROM pg_locks WHERE relation = 'analysis.watched'::regclass AND NOT granted";
        (client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0).then_some(())
    };
    until("the look waits", waits).await;
    tokio::time::timeout(Duration::from_secs(20), up.stop()).await.expect("it stops all the same");
}

/// One of the cases of `rule`, about `subject`.
async fn case_of(up: &Up, rule: &str, subject: &str) -> Value {
    until(&format!("a case of {rule} about {subject}"), async || {
        let (_, page) = up.get(&format!("/v1/programs/shop/fraud/cases?rule={rule}")).await;
        page["items"].as_array().unwrap().iter().find(|case| case["subject"] == subject).cloned()
    })
    .await
}

#[tokio::test]
async fn what_is_known_to_be_fraud_counts_and_so_does_what_is_unlike_the_member() {
    let data = TempDir::new().unwrap();
    let window = |by: &str, measure: &str| json!({"it": {"kinds": ["earn"], "by": by, "minutes": 1440, "measure": measure}});
    let rule = |id: &str, by: &str, windows: Value, when: &str| json!({"id": id, "version": 1, "severity": "low", "on": ["earn"], "by": by, "windows": windows, "when": when, "explanation": id});
    let rules = [
        rule("till", "reference", window("till", "confirmed"), "window.it >= 2"),
        rule("unlike", "reference", window("account", "own_percent"), "window.it >= 300"),
        rule("large", "account", json!({}), "signal.points > 1000"),
    ];
    let up = start(&data, json!({"rules": rules})).await;
    let on_till = |id: &str, account: &str, time: &str| taken(id, account, time, ["", "t1", "", ""], "s1");
    let with_price = |mut body: Value, price: &str| {
        body["lines"][0]["unit_price"] = json!(price);
        body
    };
    // Usual for the member are 20 points: 60 are unlike it; for a new one nobody can tell.
    for i in 0..5 {
        buy(&up, on_till(&format!("usual{i}"), "member", &format!("08:0{i}:00"))).await;
    }
    buy(&up, with_price(taken("newcomer", "new", "08:00:00", ["", "t2", "", ""], "s1"), "400.00")).await;
    buy(&up, with_price(on_till("below", "member", "09:00:00"), "59.99")).await;
    buy(&up, with_price(on_till("unlike", "member", "09:01:00"), "60.05")).await;
    assert_eq!(case_of(&up, "unlike", "unlike").await["measure"], 300);

    // One is reported, twice; one is a case that somebody confirms: the next on that till is looked at.
    let reports = "/v1/programs/shop/fraud/reports";
    let (status, first) = up.post(reports, json!({"reference": "usual1", "note": "the card's bank"})).await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(up.post(reports, json!({"reference": "usual1"})).await.1, first);
    let (status, problem) = up.post(reports, json!({"reference": "nothing"})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("reference_not_found")));
    let (_, whole) = up.get(&format!("/v1/programs/shop/fraud/cases/{}", first["case_id"].as_str().unwrap())).await;
    assert_eq!((&whole["rule"], &whole["state"], &whole["events"].as_array().unwrap().len()), (&json!("reported"), &json!("confirmed"), &2));
    // Of an id that two accounts have, the report must say whose is meant.
    for account in ["twin1", "twin2"] {
        buy(&up, taken("twins", account, "08:30:00", ["", "t9", "", ""], "s1")).await;
    }
    let ambiguous = until("both are seen", async || {
        let (status, problem) = up.post(reports, json!({"reference": "twins", "kind": "purchase"})).await;
        (status == StatusCode::CONFLICT).then_some(problem)
    });
    assert_eq!(ambiguous.await["detail"], "twins is the id of several: purchase of account twin1, purchase of account twin2");
    assert_eq!(up.post(reports, json!({"reference": "usual2", "account_id": "new"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(up.post(reports, json!({"reference": "usual2", "kind": "gift"})).await.0, StatusCode::BAD_REQUEST);
    buy(&up, with_price(on_till("much", "rich", "10:00:00"), "2000.00")).await;
    let path = format!("/v1/programs/shop/fraud/cases/{}", case_of(&up, "large", "rich").await["case_id"].as_str().unwrap());
    let step =
        async |step: &str| assert_eq!(up.send(reqwest::Method::POST, &path, Some(&json!({"step": step}))).await.unwrap().status(), StatusCode::NO_CONTENT);
    step("confirm").await;
    buy(&up, on_till("next", "other", "10:01:00")).await;
    assert_eq!(case_of(&up, "till", "next").await["measure"], 2);
    // What turns out to be none counts no more.
    step("dismiss").await;
    buy(&up, on_till("later", "other", "10:02:00")).await;
    buy(&up, with_price(on_till("last", "member", "10:03:00"), "99.00")).await;
    case_of(&up, "unlike", "last").await;
    let found = found(&up).await;
    let only = |subjects: &[&str]| subjects.iter().map(|subject| (*subject).to_owned()).collect::<BTreeSet<String>>();
    assert_eq!((&found["till"], &found["unlike"]), (&only(&["next"]), &only(&["last", "unlike"])));
    up.stop().await;
}

#[tokio::test]
async fn points_by_hand_to_a_colleague_and_for_missing_purchases_are_looked_at_when_they_repeat() {
    let data = TempDir::new().unwrap();
    let up = start(&data, json!({"staff": {"kim": "account-of-kim"}})).await;
    let give = async |id: &str, account: &str, reason: &str| {
        let body = json!({"adjustment_id": id, "account_id": account, "points": 10, "reason_code": reason});
        let (status, answer) = up.post("/v1/programs/shop/adjustments", body).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    };
    for account in ["account-of-kim", "honest", "claims"] {
        buy(&up, taken(&format!("first-{account}"), account, "08:00:00", ["", "", "", ""], "s1")).await;
    }
    for i in 0..3 {
        give(&format!("honest{i}"), "honest", "goodwill").await;
    }
    for i in 0..2 {
        give(&format!("kim{i}"), "account-of-kim", "goodwill").await;
    }
    for i in 0..3 {
        give(&format!("claim{i}"), "claims", "missing_purchase").await;
    }
    assert_eq!(case_of(&up, "claims_of_missing", "claims").await["measure"], 3);
    assert_eq!(case_of(&up, "adjust_colleague", "local").await["measure"], 2);
    assert_eq!(found(&up).await.len(), 2);
    up.stop().await;
}

#[tokio::test]
async fn a_case_is_worked_on_and_what_was_dismissed_stays_away_until_it_doubles() {
    let data = TempDir::new().unwrap();
    let up = start(&data, two_on_a_device(false)).await;
    let device = ["", "", "dev", ""];
    for i in 0..2 {
        buy(&up, taken(&format!("p{i}"), "a", &format!("10:0{i}:00"), device, "s1")).await;
    }
    let cases = "/v1/programs/shop/fraud/cases";
    let first = async || up.get(&format!("{cases}?state=open")).await.1["items"].as_array().unwrap().first().cloned();
    let case = until("the case", first).await;
    assert_eq!((&case["rule"], &case["rule_version"], &case["subject"], &case["measure"]), (&json!("many"), &json!(3), &json!("dev"), &json!(2)));
    assert_eq!(case["explanation"], "two purchases on one device (purchases 2)");
    let path = format!("{cases}/{}", case["case_id"].as_str().unwrap());
    for body in [json!({"step": "assign", "assignee": "kim"}), json!({"step": "note", "note": "called"}), json!({"step": "dismiss", "note": "a family"})] {
        let response = up.send(reqwest::Method::POST, &path, Some(&body)).await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }
    let (_, whole) = up.get(&path).await;
    assert_eq!((&whole["state"], &whole["assignee"]), (&json!("dismissed"), &json!("kim")));
    let kinds: Vec<&str> = whole["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["opened", "assigned", "noted", "dismissed"]);
    assert_eq!(whole["events"][0]["evidence"][0]["reference"], "p1");
    // A third purchase is left alone, and the record says so; the fourth is twice as many as were dismissed.
    buy(&up, taken("p2", "a", "10:02:00", device, "s1")).await;
    let (_, rules) = up.get("/v1/programs/shop/fraud/rules").await;
    assert_eq!(rules["records"], json!([{"rule": "many", "open": 0, "confirmed": 0, "dismissed": 1, "held_back": [{"subject": "dev", "at_least": 4}]}]));
    buy(&up, taken("p3", "a", "10:03:00", device, "s1")).await;
    let again = async || {
        let (_, whole) = up.get(&path).await;
        (whole["events"].as_array().unwrap().len() > 4).then_some(whole)
    };
    let whole = until("the fourth purchase", again).await;
    assert_eq!((&whole["signals"], &whole["events"][4]["kind"], &whole["measure"]), (&json!(2), &json!("seen_again"), &json!(4)));
    assert_eq!(whole["events"][4]["evidence"][0]["reference"], "p3");

    let (status, problem) = up.get(&format!("{cases}?state=closed")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("state")));
    let (status, problem) = up.get(&format!("{cases}/none")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("case_not_found")));
    let (status, problem) = up.post(&path, json!({"step": "forget"})).await;
    assert_eq!((status, &problem["errors"][0]["expected"]), (StatusCode::BAD_REQUEST, &json!("assign, note, confirm or dismiss")));
    let (mut wrong, mut rules) = (two_on_a_device(false), rulebook());
    wrong["rules"][0]["when"] = json!("window.shoes > 1");
    rules["fraud"] = wrong;
    let (status, problem) = up.put("/v1/programs/shop/rulebook", rules).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("/fraud/rules/0/when")));
    up.stop().await;
}
