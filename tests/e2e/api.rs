//! The API as its callers use it.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Up, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";

async fn shop(data: &std::path::Path) -> Up {
    let up = Up::start(data, &[]).await;
    let (status, body) = up.put(&format!("{P}/rulebook"), rulebook()).await;
    assert_eq!((status, &body["version"]), (StatusCode::CREATED, &json!(1)), "{body}");
    clock(&up, "2010-03-01T12:00:00Z").await;
    up
}

async fn clock(up: &Up, now: &str) {
    let (status, body) = up.put(&format!("{P}/clock"), json!({ "now": now })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_members_year() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let bought = purchase("P1", "m1", "2010-03-01T12:00:00Z", "21212", "1000.00");
    let simulated = up.post(&format!("{P}/simulate/purchases"), bought.clone()).await;
    let (status, first) = up.post(&format!("{P}/purchases"), bought.clone()).await;
    assert_eq!((status, &first["points"], &first["outcome"]), (StatusCode::CREATED, &json!({"earned": 2000}), &json!("accepted")));
    for field in ["points", "events", "balance", "rule_version"] {
        assert_eq!(simulated.1[field], first[field], "what was simulated then happened: {field}");
    }
    let again = up.send(Method::POST, &format!("{P}/purchases"), Some(&bought)).await.unwrap();
    assert_eq!((again.status(), again.headers()["idempotent-replayed"].to_str().unwrap()), (StatusCode::OK, "true"));
    assert_eq!(again.json::<Value>().await.unwrap(), first, "the same body again");
    let other = up.post(&format!("{P}/purchases"), purchase("P1", "m1", "2010-03-01T12:00:00Z", "21212", "999.00")).await;
    assert_eq!(code(&other), (409, "id_reused"));

    let account = up.read(&format!("{P}/accounts/m1"), &first).await;
    assert_eq!(account["balance"], json!({"available": 0, "pending": 2000, "held": 0, "owed": 0, "lifetime_earned": 2000}));
    assert_eq!(account["tier"]["name"], "silver");
    assert_eq!((&account["tier"]["next"], &account["tier"]["points_to_next"]), (&json!("gold"), &json!(3000)));
    assert_eq!(account["tier"]["unit"], "points");
    assert_eq!(account["tier"]["review_at"], "2011-03-01T12:00:00Z");
    assert_eq!(account["expiring"], json!([{"points": 2000, "at": "2011-03-01T12:00:00Z"}]));

    let spend = |id: &str, points: i64| json!({"redemption_id": id, "account_id": "m1", "points": points});
    assert_eq!(code(&up.post(&format!("{P}/redemptions"), spend("R0", 100)).await), (422, "insufficient_points"));
    clock(&up, "2010-03-15T12:00:00Z").await;
    assert_eq!(code(&up.post(&format!("{P}/redemptions"), spend("R0", 99)).await), (422, "below_minimum"));
    let (_, redeemed) = up.post(&format!("{P}/redemptions"), spend("R1", 500)).await;
    assert_eq!((&redeemed["points"]["redeemed"], &redeemed["balance"]["available"]), (&json!(500), &json!(1500)));

    let hold = json!({"redemption_id": "H1", "account_id": "m1", "points": 300, "hold": true, "hold_minutes": 60});
    let (_, held) = up.post(&format!("{P}/redemptions"), hold).await;
    assert_eq!((&held["balance"]["held"], &held["balance"]["available"]), (&json!(300), &json!(1200)));
    let (_, captured) = up.post(&format!("{P}/redemptions/H1/capture"), json!({"account_id": "m1", "points": 200})).await;
    assert_eq!((&captured["points"]["redeemed"], &captured["balance"]["held"]), (&json!(200), &json!(100)));
    let (_, released) = up.post(&format!("{P}/redemptions/H1/release"), json!({"account_id": "m1"})).await;
    assert_eq!((&released["balance"]["held"], &released["balance"]["available"]), (&json!(0), &json!(1300)));
    let (_, restored) = up.post(&format!("{P}/redemptions/R1/return"), json!({"return_id": "X1", "account_id": "m1", "points": 500})).await;
    assert_eq!((&restored["points"]["restored"], &restored["balance"]["available"]), (&json!(500), &json!(1800)));

    let back = json!({"return_id": "RET1", "account_id": "m1", "purchase_id": "P1", "occurred_at": "2010-03-15T12:00:00Z", "lines": [{"line_id": "1", "quantity": 1}]});
    let (_, warned) = up.post(&format!("{P}/simulate/returns"), back.clone()).await;
    assert_eq!(warned["warnings"], json!(["you will fall to member", "200 points can't be taken back and are booked as a shortfall"]), "{warned}");
    let (_, returned) = up.post(&format!("{P}/returns"), back).await;
    assert_eq!(returned["points"], json!({"clawed_back": 1800, "shortfall": 200}));
    let account = up.read(&format!("{P}/accounts/m1"), &returned).await;
    assert_eq!((&account["tier"]["name"], &account["balance"]["available"]), (&json!("member"), &json!(0)));

    let past = up.read(&format!("{P}/accounts/m1/balance?as_of=2010-03-10T00:00:00Z"), &returned).await;
    assert_eq!((&past["pending"], &past["available"]), (&json!(2000), &json!(0)));
    pages_of_the_statement(&up, &returned).await;
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified: 8 records"));
}

async fn pages_of_the_statement(up: &Up, seen: &Value) {
    let whole = up.read(&format!("{P}/accounts/m1/statement?limit=500"), seen).await;
    let items = whole["items"].as_array().unwrap();
    let mut available = 0;
    for item in items.iter().rev() {
        for lot in item["lots"].as_array().unwrap() {
            let points = lot["points"].as_i64().unwrap();
            available += if lot["to"] == "available" { points } else { 0 } - if lot["from"] == "available" { points } else { 0 };
        }
        assert_eq!(item["balance_after"]["available"], json!(available), "{item}");
    }
    let (mut cursor, mut paged) = (String::new(), Vec::new());
    loop {
        let (_, page) = up.get(&format!("{P}/accounts/m1/statement?limit=3{cursor}")).await;
        paged.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(&paged, items, "pages make the whole");
}

/// Ids are unique within their kind only.
#[tokio::test]
async fn a_purchase_and_an_adjustment_of_one_id_are_told_apart() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    up.post(&format!("{P}/purchases"), purchase("1001", "m1", "2010-03-01T12:00:00Z", "A", "100.00")).await;
    let (_, added) = up.post(&format!("{P}/adjustments"), json!({"adjustment_id": "1001", "account_id": "m1", "points": 7, "reason_code": "goodwill"})).await;
    let explained = up.read(&format!("{P}/accounts/m1/explain"), &added).await;
    let lots: Vec<(&Value, &Value)> = explained["lots"].as_array().unwrap().iter().map(|lot| (&lot["remaining"], &lot["because"])).collect();
    let (bought, given) = (json!("purchase 1001 rated by rulebook version 1 as member"), json!("adjustment 1001: goodwill"));
    assert_eq!((explained["points"].clone(), lots), (json!(107), vec![(&json!(100), &bought), (&json!(7), &given)]));

    let receipts = format!("{P}/accounts/m1/receipts/1001");
    let either = up.get(&receipts).await;
    assert_eq!(code(&either), (400, "malformed"), "nobody guesses which is meant: {}", either.1);
    assert_eq!(either.1["errors"][0]["expected"], "one of purchase, adjustment: the account used the id 1001 for each");
    for (kind, seq) in [("purchase", 1), ("adjustment", 2)] {
        assert_eq!(up.get(&format!("{receipts}?kind={kind}")).await.1["account_seq"], seq);
    }
    up.stop().await;
}

#[tokio::test]
async fn the_clock_alone() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let (_, one) = up.post(&format!("{P}/purchases"), purchase("P1", "m1", "2010-03-01T12:00:00Z", "A", "100.00")).await;
    for (as_of, available, pending) in [("2010-03-10T00:00:00Z", 0, 100), ("2010-03-15T12:00:00Z", 100, 0), ("2011-03-01T12:00:00Z", 0, 0)] {
        let ahead = up.read(&format!("{P}/accounts/m1/balance?as_of={as_of}"), &one).await;
        assert_eq!((&ahead["available"], &ahead["pending"]), (&json!(available), &json!(pending)), "{as_of}");
    }
    let explained = up.read(&format!("{P}/accounts/m1/explain"), &one).await;
    let words = "100 points pending until 2010-03-15T12:00:00Z, expiring at 2011-03-01T12:00:00Z: 100 of 100 given for purchase P1 rated by rulebook version 1 as member";
    assert_eq!((&explained["points"], &explained["words"]), (&json!(100), &json!([words])));
    clock(&up, "2011-03-01T12:00:00Z").await;
    let (_, lots) = up.get(&format!("{P}/accounts/m1/lots")).await;
    assert_eq!(lots["items"], json!([]), "what the clock did is to be seen at once");
    let (_, next) = up.post(&format!("{P}/purchases"), purchase("P2", "m1", "2011-03-01T12:00:00Z", "A", "1.00")).await;
    assert_eq!(next["balance"]["available"], 0, "the year is over");
    let back = up.put(&format!("{P}/clock"), json!({"now": "2011-02-01T12:00:00Z"})).await;
    assert_eq!(code(&back), (409, "clock"));
    up.stop().await;
}

#[tokio::test]
async fn bad_input_is_told_what_would_be_right() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let at = "2010-03-01T12:00:00Z";
    let mut wrong = purchase("P1", "m1", at, "A", "1.00");
    wrong["lines"][0]["quantity"] = json!("many");
    let answer = up.post(&format!("{P}/purchases"), wrong).await;
    assert_eq!(code(&answer), (400, "malformed"));
    assert_eq!(answer.1["errors"][0]["pointer"], "/lines/0/quantity");
    let answer = up.post(&format!("{P}/accounts"), json!({"account_id": "jane@example.org"})).await;
    assert_eq!((code(&answer), &answer.1["errors"][0]["pointer"]), ((400, "malformed"), &json!("/account_id")));
    for (path, pointer) in [("liability/roll-forward?to=2010-03-01", "from"), ("audit/commands?limit=few", "limit"), ("accounts/%ff/clv", "path")] {
        let answer = up.get(&format!("{P}/{path}")).await;
        assert_eq!((code(&answer), &answer.1["errors"][0]["pointer"]), ((400, "malformed"), &json!(pointer)));
    }
    assert_eq!(code(&up.post(&format!("{P}/liability/lots"), json!({})).await), (405, "method_not_allowed"));
    let mut float = purchase("P1", "m1", at, "A", "1.00");
    float["lines"][0]["unit_price"] = json!(1.1);
    assert_eq!(up.post(&format!("{P}/purchases"), float).await.1["errors"][0]["pointer"], "/lines/0/unit_price");
    let euro = {
        let mut body = purchase("P1", "m1", at, "A", "1.00");
        body["currency"] = json!("EUR");
        body
    };
    assert_eq!(code(&up.post(&format!("{P}/purchases"), euro).await), (422, "currency_mismatch"));
    assert_eq!(code(&up.post("/v1/programs/none/purchases", purchase("P1", "m1", at, "A", "1.00")).await), (404, "program_not_found"));
    assert_eq!(code(&up.get(&format!("{P}/accounts/nobody")).await), (404, "account_not_found"));
    assert_eq!(code(&up.get("/v1/nowhere").await), (404, "not_found"));
    let (_, opened) = up.post(&format!("{P}/accounts"), json!({"account_id": "m1"})).await;
    up.read(&format!("{P}/accounts/m1"), &opened).await;
    let far = up.get(&format!("{P}/accounts/m1?min_position=0:999999")).await;
    assert_eq!(code(&far), (503, "not_yet_visible"));
    let ret = json!({"return_id": "X", "account_id": "m1", "purchase_id": "P9", "occurred_at": at, "lines": [{"line_id": "1", "quantity": 1}]});
    assert_eq!(code(&up.post(&format!("{P}/returns"), ret).await), (404, "purchase_not_found"));
    let (_, frozen) = up.post(&format!("{P}/accounts/m1/freeze"), json!({"reason_code": "fraud", "note": ""})).await;
    assert_eq!(frozen["outcome"], "accepted");
    assert_eq!(code(&up.post(&format!("{P}/purchases"), purchase("P1", "m1", at, "A", "1.00")).await), (422, "account_frozen"));
    let mut rules = rulebook();
    rules["earn"]["bonus"][0]["when"] = json!("line.colour == 'red'");
    let refused = up.put(&format!("{P}/rulebook"), rules).await;
    assert_eq!((code(&refused), &refused.1["errors"][0]["pointer"]), ((400, "malformed"), &json!("/earn/bonus/0/when")));
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::OK, "the same rules are the same version");
    every_code_has_a_page(&up).await;
    up.stop().await;
}

async fn every_code_has_a_page(up: &Up) {
    for code in api::CODES {
        let (status, page) = up.get(&format!("/problems/{}", code.code)).await;
        assert_eq!((status, &page["status"]), (StatusCode::OK, &json!(code.status)));
    }
    let (_, document) = up.get("/openapi.json").await;
    assert_eq!((&document["openapi"], document["paths"].as_object().unwrap().len()), (&json!("3.1.0"), 66));
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(up.send(reqwest::Method::GET, path, None).await.unwrap().status(), 204, "{path}");
    }
    let (_, health) = up.get("/health").await;
    assert_eq!((&health["status"], health["projectors"].as_array().unwrap().len()), (&json!("ok"), 8));
    let metrics = up.send(Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    assert!(metrics.contains(r#"loyalty_commands_total{kind="purchase",outcome="currency_mismatch"} 1"#), "{metrics}");
}

#[tokio::test]
async fn keys_have_scopes_and_another_address_needs_them() {
    let data = tempfile::tempdir().unwrap();
    let refused = crate::support::loyalty(&["up", "--listen", "0.0.0.0:0"], data.path()).output().await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("give --api-keys FILE"));
    let keys = data.path().join("keys.json");
    let key = |name: &str, scope: &str| json!({"name": name, "hash": api::hash_key(name), "scopes": [scope]});
    std::fs::write(&keys, json!([key("reader", "read"), key("till", "write"), key("admin", "admin")]).to_string()).unwrap();
    let mut up = Up::start(data.path(), &["--api-keys", keys.to_str().unwrap()]).await;
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::UNAUTHORIZED);
    up.key = Some("till".into());
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::FORBIDDEN);
    up.key = Some("admin".into());
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    up.key = Some("till".into());
    let (status, answer) = up.post(&format!("{P}/purchases"), purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "1.00")).await;
    assert_eq!(status, StatusCode::CREATED);
    up.key = Some("reader".into());
    assert_eq!(up.post(&format!("{P}/purchases"), purchase("P2", "m1", "2010-01-01T00:00:00Z", "A", "1.00")).await.0, StatusCode::FORBIDDEN);
    let statement = up.read(&format!("{P}/accounts/m1/statement"), &answer).await;
    assert_eq!(statement["items"][0]["actor"], "till", "commands are booked under the key's name");
    up.stop().await;
}
