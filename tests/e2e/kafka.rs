//! The same book on a real Kafka: served, killed, and moved from Postgres and back.

use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use serde_json::json;

use crate::support::{Up, ask_again, insist, loyalty, purchase, rulebook, run};

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

/// Projectors of their own, two of one read model, one of them killed: what they wrote is what the log says.
#[tokio::test]
async fn projectors_in_processes_of_their_own_are_killed_and_come_back() {
    let (data, flags) = (tempfile::tempdir().unwrap(), kafka("apart").await);
    let up = Up::start(data.path(), &with(&["--without-projectors"], &flags)).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let project = |name: &'static str| loyalty(&with(&["serve", "projector", name], &flags), data.path()).spawn().unwrap();
    let mut projectors = ["balance", "balance", "statement", "all"].map(project);
    let send = async |from: u32, to: u32| {
        let mut last = json!(null);
        for n in from..to {
            last = up.post("/v1/programs/shop/purchases", purchase(&format!("P{n}"), &format!("m{}", n % 5), "2010-01-01T00:00:00Z", "A", "10.00")).await.1;
        }
        last
    };
    send(0, 40).await;
    for killed in &mut projectors[1..3] {
        killed.kill().await.unwrap();
    }
    send(40, 80).await;
    projectors[2] = project("statement");
    let last = send(80, 100).await;
    let account = format!("/v1/programs/shop/accounts/{}", last["account_id"].as_str().unwrap());
    while up.get(&format!("{account}/statement?min_position={}", last["position"].as_str().unwrap())).await.0 == 503 {}
    assert_eq!(up.read(&account, &last).await["balance"], last["balance"]);
    drop(projectors);
    up.stop().await;
    assert!(verified(data.path(), &flags).await.contains("book verified: 100 records"));
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
    let refused = loyalty(&["up", "--listen", "127.0.0.1:0"], data.path()).output().await.unwrap();
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

/// Somebody deletes the book's topic under a running service.
#[tokio::test]
async fn a_topic_that_is_deleted_under_the_service_is_told_and_nothing_more_is_acknowledged() {
    let (data, flags) = (tempfile::tempdir().unwrap(), kafka("topic-gone").await);
    let up = Up::start(data.path(), &with(&[], &flags)).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    insist(&up.address, &purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &flags[1]).create().unwrap();
    admin.delete_topics(&["topic-gone.events"], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    // It is told before anybody asks for something.
    let not_ready = loop {
        let answer = up.send(reqwest::Method::GET, "/health/ready", None).await.unwrap();
        if answer.status() != reqwest::StatusCode::NO_CONTENT {
            break answer.text().await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let purchase = up.post("/v1/programs/shop/purchases", purchase("P2", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    assert!(not_ready.contains("topic topic-gone.events is gone") && not_ready.contains("restore it"), "{not_ready}");
    assert_eq!((purchase.0.as_u16(), &purchase.1["code"]), (503, &json!("outcome_unknown")), "nothing is acknowledged");
    assert_eq!(up.send(reqwest::Method::GET, "/health/live", None).await.unwrap().status().as_u16(), 204);
    up.kill().await;
    let refused = loyalty(&with(&["up", "--listen", "127.0.0.1:0"], &flags), data.path()).output().await.unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("topic topic-gone.events is missing"), "{said}");
}
