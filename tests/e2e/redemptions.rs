//! Redemptions as tills make them: in parts, and told later than they occurred.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Up, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";

/// 100 points that are lost at midnight.
async fn shop(data: &std::path::Path) -> Up {
    let up = Up::start(data, &[]).await;
    let mut rules = rulebook();
    rules["time_zone"] = json!("UTC");
    rules["earn"]["pending_days"] = json!(0);
    rules["expiry"] = json!({"mode": "rolling", "days": 31});
    rules["redeem"] = json!({"value": {"points": 3, "amount": "1.00"}, "offline_minutes": 30});
    rules["tiers"]["qualify_by"] = json!("spend");
    assert_eq!(up.put(&format!("{P}/rulebook"), rules).await.0, StatusCode::CREATED);
    clock(&up, "2026-01-01T00:00:00Z").await;
    post(&up, "purchases", purchase("P1", "m1", "2026-01-01T00:00:00Z", "a", "100.00")).await;
    up
}

async fn clock(up: &Up, now: &str) {
    let (status, body) = up.put(&format!("{P}/clock"), json!({ "now": now })).await;
    assert_eq!(status, StatusCode::OK, "{body}");
}

async fn post(up: &Up, path: &str, body: Value) -> Value {
    let (status, answer) = up.post(&format!("{P}/{path}"), body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer
}

async fn available(up: &Up, question: &str) -> Value {
    let (status, body) = up.get(&format!("{P}/accounts/m1{question}")).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body.get("balance").unwrap_or(&body)["available"].clone()
}

#[tokio::test]
async fn what_is_told_later_is_granted_while_the_points_are_expired_to_all_else() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    clock(&up, "2026-02-01T00:10:00Z").await;
    up.settle().await;
    let (_, account) = up.get(&format!("{P}/accounts/m1")).await;
    assert_eq!((&account["balance"]["available"], &account["expiring"]), (&json!(0), &json!([])));
    assert_eq!(up.get(&format!("{P}/accounts/m1/lots")).await.1["items"], json!([]));
    assert_eq!(up.get(&format!("{P}/accounts/m1/explain")).await.1["points"], 0);
    for (as_of, points) in [("2026-01-31T23:59:59Z", 100), ("2026-02-01T00:00:00Z", 0), ("2026-02-01T00:20:00Z", 0)] {
        assert_eq!(available(&up, &format!("/balance?as_of={as_of}")).await, points, "{as_of}");
    }
    let redemption = |id: &str, occurred_at: Option<&str>| json!({"redemption_id": id, "account_id": "m1", "points": 40, "occurred_at": occurred_at});
    let (status, live) = up.post(&format!("{P}/redemptions"), redemption("R0", None)).await;
    assert_eq!((status.as_u16(), &live["code"]), (422, &json!("insufficient_points")));
    let (status, late) = up.post(&format!("{P}/redemptions"), redemption("R1", Some("2026-01-31T23:39:59Z"))).await;
    assert_eq!((status.as_u16(), &late["code"]), (422, &json!("told_too_late")));

    let told = redemption("R2", Some("2026-01-31T23:50:00Z"));
    let (_, simulated) = up.post(&format!("{P}/simulate/redemptions"), told.clone()).await;
    let answer = post(&up, "redemptions", told.clone()).await;
    assert_eq!((&simulated["events"], &simulated["balance"]), (&answer["events"], &answer["balance"]));
    let event = &answer["events"][0];
    assert_eq!((&event["at"], &event["value"], &event["currency"]), (&json!("2026-01-31T23:50:00Z"), &json!("13.33"), &json!("GBP")));
    assert_eq!((&answer["points"]["redeemed"], &answer["balance"]["available"]), (&json!(40), &json!(0)));
    assert_eq!(up.post(&format!("{P}/redemptions"), told).await, (StatusCode::OK, answer.clone()), "the same body again");
    assert_eq!(up.read(&format!("{P}/accounts/m1"), &answer).await["balance"]["available"], 0);

    let bought = post(&up, "purchases", purchase("P2", "m1", "2026-02-01T00:10:00Z", "a", "7.00")).await;
    assert_eq!(bought["balance"]["available"], 7, "as all else sees it");
    let account = up.read(&format!("{P}/accounts/m1"), &bought).await;
    assert_eq!((&account["balance"]["available"], &account["tier"]["unit"]), (&json!(7), &json!("GBP")));

    clock(&up, "2026-02-01T00:30:00Z").await;
    up.settle().await;
    let (_, statement) = up.get(&format!("{P}/accounts/m1/statement?limit=1")).await;
    let last = &statement["items"][0];
    assert_eq!((&last["type"], &last["points"]), (&json!("points_expired"), &json!(-60)));
    assert_eq!((&last["effective_at"], &last["recorded_at"]), (&json!("2026-02-01T00:00:00Z"), &json!("2026-02-01T00:30:00Z")));
    for (question, points) in [
        ("", 7),
        ("/balance", 7),
        ("/balance?as_of=2026-01-31T23:55:00Z", 60),
        ("/balance?as_of=2026-02-01T00:05:00Z", 0),
        ("/balance?as_of=2026-02-01T00:05:00Z&known_at=2026-02-01T00:09:00Z", 0),
        ("/balance?as_of=2026-01-31T23:55:00Z&known_at=2026-02-01T00:09:00Z", 100),
    ] {
        assert_eq!(available(&up, question).await, points, "{question}");
    }
    up.stop().await;
    run(&["verify"], data.path()).await;
}

#[tokio::test]
async fn parts_and_the_rest() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    post(&up, "redemptions", json!({"redemption_id": "H", "account_id": "m1", "points": 3, "hold": true})).await;
    let mut values = Vec::new();
    for (path, id, points) in
        [("capture", "capture_id", Some(1)), ("capture", "capture_id", None), ("return", "return_id", Some(2)), ("return", "return_id", None)]
    {
        let mut body = json!({"account_id": "m1"});
        body[id] = json!(format!("X{}", values.len()));
        if let Some(points) = points {
            body["points"] = json!(points);
        }
        let answer = post(&up, &format!("redemptions/H/{path}"), body.clone()).await;
        assert_eq!(up.post(&format!("{P}/redemptions/H/{path}"), body).await, (StatusCode::OK, answer.clone()));
        values.push(answer["events"][0]["value"].clone());
    }
    assert_eq!(values, ["0.33", "0.67", "0.67", "0.33"]);
    let (status, nothing) = up.post(&format!("{P}/redemptions/H/return"), json!({"return_id": "X9", "account_id": "m1"})).await;
    assert_eq!((status.as_u16(), &nothing["code"]), (422, &json!("return_exceeds_redemption")));
    up.settle().await;
    assert_eq!(available(&up, "").await, 100);
    up.stop().await;
    run(&["verify"], data.path()).await;
}
