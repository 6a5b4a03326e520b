//! Closing months, end to end: by two people, for ever.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::liability::{clock, points_worth_one, seen};
use super::support::{Up, purchase, run};

#[tokio::test]
async fn a_month_that_two_people_closed_never_changes() {
    let data = TempDir::new().unwrap();
    let key = |name: &str| json!({"name": name, "hash": api::hash_key(name), "scopes": ["admin"]});
    let keys = data.path().join("keys.json");
    std::fs::write(&keys, json!([key("anna"), key("ben")]).to_string()).unwrap();
    let mut up = Up::start(data.path(), &["--api-keys", keys.to_str().unwrap()]).await;
    up.key = Some("anna".into());
    let mut rules = points_worth_one("0.95", "2020-01-01T00:00:00Z");
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules.clone()).await.0, StatusCode::CREATED);
    let sell = async |up: &Up, id: &str, at: &str| {
        clock(up, at).await;
        let mut sale = purchase(id, "a", at, "x", "10000");
        sale["shipping"] = json!("0");
        let (status, answer) = up.post("/v1/programs/shop/purchases", sale).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer
    };
    // Given January and February with a sale each, and a March that is not over.
    sell(&up, "p1", "2020-01-10T00:00:00Z").await;
    let answer = sell(&up, "p2", "2020-02-10T00:00:00Z").await;
    clock(&up, "2020-03-10T00:00:00Z").await;
    seen(&up, &answer).await;
    let (base, periods) = ("/v1/programs/shop/liability", "/v1/programs/shop/liability/periods");
    let journal = async |up: &Up, month: &str| up.get(&format!("{base}/journal?period={month}")).await.1;
    let january = journal(&up, "2020-01").await;
    assert_eq!((&january["status"], &january["contract_liability"]), (&json!("open"), &json!("867.58")), "{january}");
    assert_eq!(journal(&up, "2020-03").await["status"], "not_over");
    // When Anna proposes to close January, she can't approve it herself.
    let (status, proposed) = up.post(&format!("{periods}/2020-01/close"), json!(null)).await;
    assert_eq!((status, &proposed["status"], &proposed["contract_liability"]), (StatusCode::CREATED, &json!("proposed"), &json!("867.58")), "{proposed}");
    assert_eq!(up.post(&format!("{periods}/2020-01/close"), json!(null)).await, (StatusCode::OK, proposed.clone()), "the first answer again");
    let (status, problem) = up.post(&format!("{periods}/2020-01/approve"), json!(null)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("approval_by_maker")), "{problem}");
    let (status, problem) = up.post(&format!("{periods}/2020-03/close"), json!(null)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("period_not_over")), "{problem}");
    up.key = Some("ben".into());
    let (status, closed) = up.post(&format!("{periods}/2020-01/approve"), json!(null)).await;
    assert_eq!((status, &closed["closed_by"], &closed["proposed_by"]), (StatusCode::CREATED, &json!("ben"), &json!("anna")), "{closed}");
    assert_eq!(closed["digest"], proposed["digest"]);
    assert_eq!(up.post(&format!("{periods}/2020-01/approve"), json!(null)).await, (StatusCode::OK, closed.clone()), "the first answer again");
    // Then rules that are published now and dated back to January change nothing of it: the difference is February's.
    let in_january = |journal: &Value| journal["entries"].clone();
    (rules["insight"], rules["effective_from"]) = (json!({"expected_redemption": "0.5"}), json!("2020-01-05T00:00:00Z"));
    let (status, answer) = up.put("/v1/programs/shop/rulebook", rules).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let after = journal(&up, "2020-01").await;
    assert_eq!((&after["status"], in_january(&after), &after["contract_liability"]), (&json!("closed"), in_january(&january), &json!("867.58")), "{after}");
    let february = journal(&up, "2020-02").await;
    // 500 of 10,500 parts of 10,000.00 and, a tier up, 625 of 10,625; of that January has 867.58.
    assert_eq!(february["contract_liability"], "1064.43", "{february}");
    let back = february["entries"].as_array().unwrap().iter().find(|entry| entry["cohort"] == "2020-01-01" && entry["account"] == "revenue_goods");
    assert_eq!(back.map(|entry| entry["credit"].clone()), Some(json!("391.39")), "{february}");
    // Months before the first that was closed are not open: nobody closes them any more.
    assert_eq!(journal(&up, "2019-12").await["status"], "before_first_closing");
    let (status, problem) = up.post(&format!("{periods}/2019-12/close"), json!(null)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("period_before_first")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("period 2020-01 was closed first"), "{problem}");
    // And a closed month stays closed, also after a restart.
    let (status, problem) = up.post(&format!("{periods}/2020-01/close"), json!(null)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("period_closed")), "{problem}");
    up.stop().await;
    let mut up = Up::start(data.path(), &["--api-keys", keys.to_str().unwrap()]).await;
    up.key = Some("ben".into());
    let (_, listed) = up.get(periods).await;
    assert_eq!(listed["items"], json!([closed]), "{listed}");
    assert_eq!(in_january(&journal(&up, "2020-01").await), in_january(&january));
    let mut asked = tokio::process::Command::new(env!("CARGO_BIN_EXE_loyalty"));
    asked.args(["period", "close", "2020-02", "--program", "shop", "--server", up.address.as_str(), "--api-key", "ben"]);
    let output = asked.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("loyalty period approve 2020-02 --program shop") && said.contains("1064.43"), "{output:?}");
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
    // The figures are made again from the book, by the rulebook of before.
    let said = run(&["period", "verify", "--program", "shop"], data.path()).await;
    assert!(said.contains("period 2020-01: the book gives the same figures"), "{said}");
}
