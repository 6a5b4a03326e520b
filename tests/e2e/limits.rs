//! What is too large is refused by name, and stops nobody else (docs/limits.md).

use serde_json::{Map, Value, json};

use crate::share::{Site, shared};
use crate::support::{Up, purchase, rulebook};

const P: &str = "/v1/programs/shop";

/// A purchase with as many lines as one may have, each with the longest names.
pub fn large(id: &str, account: &str) -> Value {
    let mut large = purchase(id, account, "2010-01-01T00:00:00Z", "A", "1.00");
    let line = large["lines"][0].as_object().unwrap().clone();
    let named = |n: usize| {
        let names = json!({"line_id": format!("{n:a>64}"), "sku": format!("{n:b>64}"), "category": format!("{n:c>64}")});
        line.clone().into_iter().chain(names.as_object().unwrap().clone()).collect::<Map<_, _>>()
    };
    large["lines"] = (0..5000).map(|n| Value::Object(named(n))).collect();
    large
}

async fn buy(up: &Up, id: &str, account: &str) -> u16 {
    up.post(&format!("{P}/purchases"), purchase(id, account, "2010-01-01T00:00:00Z", "A", "1.00")).await.0.as_u16()
}

#[tokio::test]
async fn an_account_larger_than_a_message_is_answered_for_and_stops_nobody() {
    let site = Site::new("large").await;
    let (one, api) = (site.serve(&["up"], 0).await, site.serve(&["serve", "api"], 1).await);
    shared(&[&one]).await;
    assert_eq!(one.put(&format!("{P}/rulebook"), rulebook()).await.0, 201);
    // Ten of them are more than a message may have.
    let mut earned = 0;
    for n in 0..10 {
        let (status, answer) = one.post(&format!("{P}/purchases"), large(&format!("L{n}"), "big")).await;
        assert_eq!(status, 201, "{answer}");
        earned += answer["points"]["earned"].as_i64().unwrap();
    }
    let (status, waiting) = api.get(&format!("{P}/accounts/big/proposals")).await;
    assert_eq!((status.as_u16(), &waiting), (200, &json!({"items": [], "next_cursor": null})));
    let (status, ahead) = api.get(&format!("{P}/accounts/big/balance?as_of=2010-02-01T00:00:00Z")).await;
    assert_eq!((status.as_u16(), &ahead["available"]), (200, &json!(earned)), "{ahead}");
    let back = json!({"return_id": "R", "account_id": "big", "purchase_id": "L3", "occurred_at": "2010-01-01T00:00:00Z", "amount": "10.00"});
    let (status, would) = api.post(&format!("{P}/simulate/returns"), back).await;
    assert_eq!((status.as_u16(), &would["points"]["clawed_back"]), (200, &json!(15)), "{would}");
    for n in 0..8 {
        assert_eq!(buy(&api, &format!("P{n}"), &format!("m{n}")).await, 201);
    }
    one.stop().await;
    drop(api);
    assert!(site.verified().await.contains("book verified: 18 records"));
}

#[tokio::test]
async fn a_record_that_no_message_could_hold_is_refused_and_nothing_of_it_is_booked() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = rulebook();
    // It fails for each line, in many words that are kept with the record.
    let when = "line.sku == 'sku' ? true : line.sku+line.sku+line.sku+line.sku+line.sku+line.sku+line.sku";
    let bonus = |n: usize| json!({"id": format!("{n:d>64}"), "when": when, "multiply": "1"});
    rules["earn"]["bonus"] = (0..4).map(bonus).collect();
    let (status, answer) = up.put(&format!("{P}/rulebook"), rules).await;
    assert_eq!(status, 201, "{answer}");
    let (status, problem) = up.post(&format!("{P}/purchases"), large("L", "big")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (413, &json!("too_large")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the record would have "), "{problem}");
    assert_eq!(buy(&up, "P", "big").await, 201, "the account goes on");
    up.stop().await;
    assert!(crate::support::run(&["verify"], data.path()).await.contains("book verified: 1 records"));
}

#[tokio::test]
async fn a_purchase_that_asks_too_many_conditions_is_refused_by_name_wherever_it_comes_from() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = rulebook();
    let bonus = |n: usize| json!({"id": format!("b{n}"), "when": "line.quantity >= 1.0", "multiply": "1"});
    rules["earn"]["bonus"] = (0..5).map(bonus).collect();
    let (status, answer) = up.put(&format!("{P}/rulebook"), rules).await;
    assert_eq!(status, 201, "{answer}");
    for path in ["purchases", "simulate/purchases"] {
        let (status, problem) = up.post(&format!("{P}/{path}"), large("L", "big")).await;
        assert_eq!((status.as_u16(), &problem["code"]), (422, &json!("too_many_conditions")), "{problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("5000 lines") && detail.contains("5 bonuses") && detail.contains("25000 conditions, more than the 20000"), "{detail}");
    }
    assert_eq!(buy(&up, "P", "big").await, 201, "the account goes on");
    up.stop().await;
    let file = data.path().join("large.jsonl");
    std::fs::write(&file, format!("{}\n", large("L", "big"))).unwrap();
    let arguments = ["import", file.to_str().unwrap(), "--program", "shop", "--format", "purchases-jsonl"];
    let imported = crate::support::loyalty(&arguments, data.path()).output().await.unwrap();
    assert_eq!(imported.status.code(), Some(2), "some of it was rejected: {}", String::from_utf8_lossy(&imported.stderr));
    let rejected = std::fs::read_to_string(data.path().join("large.jsonl.rejected.csv")).unwrap();
    assert!(rejected.contains("1,lines,") && rejected.contains("more than the 20000 that one purchase may"), "{rejected}");
    assert!(crate::support::run(&["verify"], data.path()).await.contains("book verified: 1 records"));
}
