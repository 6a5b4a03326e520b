//! The same book on a real Kafka: served, killed, and moved from Postgres and back.

use std::path::Path;

use serde_json::json;

use crate::support::{Up, ask_again, insist, purchase, rulebook, run};

/// The flags for a log of its own on the test's broker.
async fn kafka(prefix: &str) -> Vec<String> {
    let broker = embedded_kafka::testing::broker().await;
    ["--kafka", &broker, "--kafka-prefix", prefix].map(str::to_owned).to_vec()
}

fn with<'a>(command: &[&'a str], flags: &'a [String]) -> Vec<&'a str> {
    command.iter().copied().chain(flags.iter().map(String::as_str)).collect()
}

async fn verified(data: &Path, flags: &[String]) -> String {
    run(&with(&["verify"], flags), data).await
}

#[tokio::test]
async fn a_service_on_kafka_that_is_killed_under_load_keeps_what_it_acknowledged() {
    let (data, flags) = (tempfile::tempdir().unwrap(), kafka("killed").await);
    let mut up = Up::start(data.path(), &with(&[], &flags)).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let (address, listen) = (up.address.clone(), up.address.trim_start_matches("http://").to_owned());
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut tills = tokio::task::JoinSet::new();
    for till in 0..4 {
        let (address, told) = (address.clone(), told.clone());
        tills.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..40 {
                let body = purchase(&format!("P{till}-{n}"), &format!("m{}", n % 7), "2010-01-01T00:00:00Z", "A", "10.00");
                answers.push((body.clone(), insist(&address, &body).await));
                told.send(()).unwrap();
            }
            answers
        });
    }
    for more in [30, 60] {
        for _ in 0..more {
            heard.recv().await.unwrap();
        }
        up.kill().await;
        up = Up::start(data.path(), &with(&["--listen", &listen], &flags)).await;
    }
    assert_eq!(ask_again(&address, tills).await, 160, "the first answers again");
    up.stop().await;
    assert!(verified(data.path(), &flags).await.contains("book verified: 160 records"), "each once");
}

#[tokio::test]
async fn a_book_moves_to_kafka_and_back_and_goes_on_where_it_stood() {
    let (data, flags) = (tempfile::tempdir().unwrap(), kafka("moved").await);
    let there = format!("kafka://{}/moved", flags[1]);
    let up = Up::start(data.path(), &[]).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    for n in 0..30 {
        up.post("/v1/programs/shop/purchases", purchase(&format!("P{n}"), &format!("m{}", n % 4), "2010-01-01T00:00:00Z", "A", "10.00")).await;
    }
    let redeem = |id: &str| json!({"redemption_id": id, "account_id": "m1", "points": 100_000});
    let (status, refused) = up.post("/v1/programs/shop/redemptions", redeem("R1")).await;
    assert_eq!((status.as_u16(), &refused["code"]), (422, &json!("insufficient_points")));
    let (_, before) = up.post("/v1/programs/shop/purchases", purchase("P30", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    up.stop().await;

    assert!(run(&["log", "copy", "--from", "postgres", "--to", &there], data.path()).await.contains("book copied and verified: 31 records"));
    assert!(verified(data.path(), &flags).await.contains("accounts: 4, refused commands: 1"));
    let refused = crate::support::loyalty(&["up", "--listen", "127.0.0.1:0"], data.path()).output().await.unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("was moved from here"), "no two books go on");

    let up = Up::start(data.path(), &with(&[], &flags)).await;
    let again = up.post("/v1/programs/shop/purchases", purchase("P30", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    assert_eq!((again.0.as_u16(), &again.1), (200, &before), "the first answer again, position and all");
    let (_, next) = up.post("/v1/programs/shop/purchases", purchase("P31", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    let statement = up.read("/v1/programs/shop/accounts/m1/statement?limit=500", &next).await;
    up.stop().await;
    assert!(verified(data.path(), &flags).await.contains("book verified: 32 records"));

    assert!(run(&["log", "copy", "--from", &there, "--to", "postgres"], data.path()).await.contains("book copied and verified: 32 records"));
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.get("/v1/programs/shop/accounts/m1/statement?limit=500").await.1, statement);
    up.stop().await;
    assert!(verified(data.path(), &[]).await.contains("book verified: 32 records"));
}
