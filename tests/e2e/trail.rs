//! Who did what, searched as an auditor does.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Up, purchase, rulebook};

#[tokio::test]
async fn commands_and_refusals_are_found_by_actor_time_account_and_kind() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.put("/v1/programs/shop/rulebook", rulebook()).await.0, StatusCode::CREATED);
    up.put("/v1/programs/shop/clock", json!({"now": "2010-03-01T00:00:00Z"})).await;
    for (id, account) in [("p1", "a"), ("p2", "b"), ("p3", "a")] {
        up.post("/v1/programs/shop/purchases", purchase(id, account, "2010-02-01T10:00:00Z", "mug", "10.00")).await;
    }
    up.put("/v1/programs/shop/clock", json!({"now": "2010-03-02T00:00:00Z"})).await;
    let body = json!({"adjustment_id": "j1", "account_id": "b", "points": 25, "reason_code": "goodwill", "note": "late parcel"});
    let (status, answer) = up.post("/v1/programs/shop/adjustments", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let (status, _) = up.post("/v1/programs/shop/redemptions", json!({"redemption_id": "r1", "account_id": "a", "points": 5000})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let trail = "/v1/programs/shop/audit/commands";
    let found = up.read(&format!("{trail}?kind=adjustment"), &answer).await;
    let row = &found["items"][0];
    assert_eq!((&row["account_id"], &row["reason"], &row["points"]), (&json!("b"), &json!("goodwill: late parcel"), &json!(25)), "{row}");
    assert_eq!((&row["recorded_at"], &row["position"]), (&json!("2010-03-02T00:00:00Z"), &answer["position"]));
    let ids = |page: &Value| page["items"].as_array().unwrap().iter().map(|row| row["command_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let (_, day) = up.get(&format!("{trail}?from=2010-03-01T00:00:00Z&to=2010-03-02T00:00:00Z&kind=purchase")).await;
    assert_eq!((ids(&day).len(), &day["items"][0]["store"]), (3, &json!("s1")));
    let (_, page) = up.get(&format!("{trail}?account_id=a&kind=purchase&limit=1")).await;
    let (_, rest) = up.get(&format!("{trail}?account_id=a&kind=purchase&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((ids(&page), ids(&rest)), (vec!["p3".to_owned()], vec!["p1".to_owned()]));
    let (_, nobody) = up.get(&format!("{trail}?actor=nobody")).await;
    assert_eq!(nobody["items"], json!([]));

    let refusals = "/v1/programs/shop/audit/refusals?account_id=a";
    let written = async {
        loop {
            let (_, refused) = up.get(refusals).await;
            if refused["items"] != json!([]) {
                break refused;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::time::timeout(std::time::Duration::from_secs(30), written).await.expect("the refusal is told of");
    let row = &refused["items"][0];
    assert_eq!((&row["kind"], &row["command_id"], &row["code"]), (&json!("redemption"), &json!("r1"), &json!("insufficient_points")), "{row}");
    for (path, field) in [("commands?cursor=x", "cursor"), ("refusals?cursor=2010-03-02T00:00:00Z~x~1", "cursor"), ("commands?from=then", "from")] {
        let (status, problem) = up.get(&format!("/v1/programs/shop/audit/{path}")).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    up.stop().await;
}
