//! What points are worth: by the rules of the period that is told, whatever later rules say; and whose they are as returns change them.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::liability::{clock, points_worth_one};
use super::support::{Up, loyalty, purchase, run};

const LIABILITY: &str = "/v1/programs/shop/liability";

async fn shop(rules: &[Value]) -> (TempDir, Up) {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    for rules in rules {
        let (status, answer) = up.put("/v1/programs/shop/rulebook", rules.clone()).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    (data, up)
}

/// Points for a purchase of ten times as much, in the read model by the end.
async fn give(up: &Up, id: &str, at: &str, points: u32) {
    clock(up, at).await;
    let mut body = purchase(id, "a", at, "x", &format!("{}.00", points * 10));
    body["shipping"] = json!("0");
    let (_, answer) = up.post("/v1/programs/shop/purchases", body).await;
    up.read(&format!("{LIABILITY}/trial-balance"), &answer).await;
}

#[tokio::test]
async fn what_later_rules_say_a_point_is_worth_changes_nothing_about_a_period_that_is_over() {
    let mut rules = points_worth_one("1", "2010-01-01T00:00:00Z");
    rules["insight"]["budget"] =
        json!([{"from": "2010-01-01", "until": "2010-01-31", "planned": "100"}, {"from": "2010-02-01", "until": "2010-02-28", "planned": "1000"}]);
    let mut dearer = rules.clone();
    (dearer["effective_from"], dearer["redeem"]["value"]["amount"]) = (json!("2010-02-01T00:00:00Z"), json!("2.00"));
    dearer["insight"]["budget"][0]["planned"] = json!("10");
    let (data, up) = shop(&[rules, dearer]).await;
    give(&up, "p1", "2010-01-10T12:00:00Z", 50).await;
    give(&up, "p2", "2010-02-05T12:00:00Z", 50).await;

    let (_, then) = up.get(&format!("{LIABILITY}/budget?as_of=2010-01-31")).await;
    let january = &then["periods"][0];
    assert_eq!((&january["planned"], &january["actual"], &january["is_alert"]), (&json!("100"), &json!("50"), &json!(false)), "the plan of then: {then}");
    let (_, now) = up.get(&format!("{LIABILITY}/budget")).await;
    assert_eq!((&now["periods"][0]["actual"], &now["periods"][1]["actual"]), (&json!("50"), &json!("100")), "{now}");
    let (_, rolled) = up.get(&format!("{LIABILITY}/roll-forward?from=2010-01-01&to=2010-01-31")).await;
    assert_eq!(rolled["money"]["total"]["closing"], json!("50"), "{rolled}");
    // What is owed now is worth what points are worth now, whichever period is asked for.
    let (_, payers) = up.get(&format!("{LIABILITY}/payers?from=2010-01-01&to=2010-01-31")).await;
    let program = &payers["money"]["payers"][0];
    assert_eq!((&program["issued"], &program["liability"]), (&json!("50"), &json!("200")), "{payers}");
    up.stop().await;
    let page = data.path().join("page.html");
    let report = run(&["report", "liability", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    let of = |month: &str| report.lines().find(|line| line.trim().starts_with(month)).unwrap().split_whitespace().last().unwrap().to_owned();
    assert_eq!((of("2010-01"), of("2010-02")), ("50.00".into(), "200.00".into()), "{report}");
}

#[tokio::test]
async fn the_pace_of_a_budget_counts_days_without_sales() {
    let mut rules = points_worth_one("1", "2010-01-01T00:00:00Z");
    rules["insight"]["budget"] = json!([{"from": "2010-03-01", "until": "2010-03-31", "planned": "5000"}]);
    let (_data, up) = shop(&[rules]).await;
    give(&up, "p1", "2010-01-05T12:00:00Z", 70).await;
    give(&up, "p2", "2010-03-05T12:00:00Z", 280).await;
    let (_, view) = up.get(&format!("{LIABILITY}/budget")).await;
    // 280 in the last 28 days are 10 a day, for 26 days more.
    assert_eq!((&view["periods"][0]["forecast"], &view["periods"][0]["spent_on"]), (&json!("540"), &json!(null)), "{view}");
    up.stop().await;
}

#[tokio::test]
async fn who_pays_for_a_bonus_that_began_to_hold_after_a_return_owes_its_share() {
    let mut rules = points_worth_one("1", "2010-01-01T00:00:00Z");
    rules["earn"] =
        json!({"base": {"points": "1", "per": "1"}, "bonus": [{"id": "small", "when": "purchase.total < 50.0", "multiply": "2", "paid_by": "acme"}]});
    let (_data, up) = shop(&[rules]).await;
    clock(&up, "2010-01-10T12:00:00Z").await;
    let mut body = purchase("p1", "a", "2010-01-10T12:00:00Z", "x", "20.00");
    (body["lines"][0]["quantity"], body["shipping"]) = (json!(5), json!("0"));
    up.post("/v1/programs/shop/purchases", body).await;
    for (id, quantity) in [("t1", 2), ("t2", 1)] {
        let lines = json!([{"line_id": "1", "quantity": quantity}]);
        let back = json!({"return_id": id, "account_id": "a", "purchase_id": "p1", "occurred_at": "2010-01-10T12:00:00Z", "lines": lines});
        let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        up.read(&format!("{LIABILITY}/trial-balance"), &answer).await;
    }
    // Of the 80 points that 40.00 earn, the bonus gave half.
    let (_, payers) = up.get(&format!("{LIABILITY}/payers?from=2010-01-01&to=2010-01-31")).await;
    let of = |n: usize| (payers["payers"][n]["payer"].clone(), payers["payers"][n]["liability"].clone());
    assert_eq!((of(0), of(1)), ((json!("acme"), json!(40)), (Value::Null, json!(40))), "{payers}");
    up.stop().await;
}

#[tokio::test]
async fn amounts_that_no_journal_can_hold_are_an_error_that_says_so() {
    let mut rules = points_worth_one("1", "2020-01-01T00:00:00Z");
    rules["earn"] = json!({"base": {"points": "100", "per": "1"}});
    rules["redeem"]["value"] = json!({"points": 1, "amount": "999999999999"});
    let (data, up) = shop(&[rules]).await;
    clock(&up, "2020-01-10T12:00:00Z").await;
    let (_, answer) = up.post("/v1/programs/shop/purchases", purchase("p1", "a", "2020-01-10T12:00:00Z", "x", "9999999999")).await;
    up.read(&format!("{LIABILITY}/trial-balance"), &answer).await;
    let (status, problem) = up.get(&format!("{LIABILITY}/journal?period=2020-01")).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("amount_too_large")), "{problem}");
    up.stop().await;
    let output = loyalty(&["report", "fraud", "--program", "nosuch"], data.path()).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("there is no program nosuch"), "{said}");
}
