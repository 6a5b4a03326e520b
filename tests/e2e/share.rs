//! Several processes on one Kafka and one Postgres: they share the partitions, any of them answers for all.

use std::path::Path;
use std::time::Duration;

use event_log::kafka::{KafkaLog, KafkaOptions};
use event_log::{EventLog, partition_of};
use ledger_core::account::command::{Action, Command, Line, Purchase};
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use ledger_schemas::{Ask, What, v1};
use prost::Message as _;
use serde_json::json;
use tempfile::TempDir;

use crate::audit::said;
use crate::intake::forget;
use crate::support::{Up, ask_again, insist, loyalty, purchase, rulebook, run};

/// One Kafka and one Postgres, and a folder for each process.
pub struct Site {
    flags: Vec<String>,
    folders: Vec<TempDir>,
}

impl Site {
    pub async fn new(prefix: &str) -> Self {
        let (broker, database) = (embedded_kafka::testing::broker().await, embedded_postgres::testing::database("share").await);
        let flags = ["--kafka", &broker, "--kafka-prefix", prefix, "--kafka-session-seconds", "6", "--database-url", &database];
        Self { flags: flags.map(str::to_owned).to_vec(), folders: (0..4).map(|_| tempfile::tempdir().unwrap()).collect() }
    }

    fn flags(&self) -> Vec<&str> {
        self.flags.iter().map(String::as_str).collect()
    }

    fn folder(&self, n: usize) -> &Path {
        self.folders[n].path()
    }

    pub async fn serve(&self, part: &[&str], n: usize) -> Up {
        Up::serve(part, self.folder(n), &self.flags()).await
    }

    pub async fn verified(&self) -> String {
        run(&[&["verify"][..], &self.flags()].concat(), self.folder(0)).await
    }
}

/// How many partitions the process decides.
async fn owned(up: &Up) -> u32 {
    let text = up.send(reqwest::Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("loyalty_partitions_owned "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// Waits until `services` share all 8 partitions between them.
pub async fn shared(services: &[&Up]) {
    loop {
        let mut all = Vec::new();
        for up in services {
            all.push(owned(up).await);
        }
        if all.iter().sum::<u32>() == 8 && all.iter().all(|count| *count > 0) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn any_process_answers_for_every_account() {
    let site = Site::new("any").await;
    let (one, two) = (site.serve(&["serve", "command-service"], 0).await, site.serve(&["up"], 1).await);
    let api = site.serve(&["serve", "api"], 2).await;
    shared(&[&one, &two]).await;
    let (status, published) = api.put("/v1/programs/shop/rulebook", rulebook()).await;
    assert_eq!((status.as_u16(), &published["version"]), (201, &json!(1)));
    let mut last = Vec::new();
    for n in 0..24 {
        let door = if n % 2 == 0 { &api } else { &two };
        let (status, answer) =
            door.post("/v1/programs/shop/purchases", purchase(&format!("P{n}"), &format!("m{n}"), "2010-01-01T00:00:00Z", "A", "150.00")).await;
        assert_eq!(status.as_u16(), 201, "{answer}");
        last.push(answer);
    }
    for (n, first) in last.iter().enumerate() {
        let door = if n % 2 == 0 { &two } else { &api };
        let body = purchase(&format!("P{n}"), &format!("m{n}"), "2010-01-01T00:00:00Z", "A", "150.00");
        assert_eq!(door.post("/v1/programs/shop/purchases", body).await, (reqwest::StatusCode::OK, first.clone()), "the first answer, from either");
        assert_eq!(api.read(&format!("/v1/programs/shop/accounts/m{n}"), first).await["balance"], first["balance"]);
    }
    // The largest purchase goes over the log like any other.
    let mut large = purchase("P-large", "large", "2010-01-01T00:00:00Z", "A", "1.00");
    let line = large["lines"][0].clone();
    let long = |n: usize| json!({"line_id": format!("{n:a>64}"), "sku": format!("{n:b>64}"), "category": format!("{n:c>64}")});
    let with = |n: usize| [line.as_object().unwrap().clone(), long(n).as_object().unwrap().clone()].into_iter().flatten().collect::<serde_json::Map<_, _>>();
    large["lines"] = (0..5000).map(|n| serde_json::Value::Object(with(n))).collect();
    let (status, answer) = api.post("/v1/programs/shop/purchases", large).await;
    assert_eq!((status.as_u16(), &answer["points"]["earned"]), (201, &json!(5000)), "{answer}");
    // A clock that one process is told moves the accounts of all: the points mature.
    let (status, _) = api.put("/v1/programs/shop/clock", json!({"now": "2010-02-01T00:00:00Z"})).await;
    assert_eq!(status.as_u16(), 200);
    for n in 0..24 {
        let (_, account) = two.get(&format!("/v1/programs/shop/accounts/m{n}")).await;
        assert_eq!(account["balance"]["available"], 150, "{account}");
        let redeem = json!({"redemption_id": "R", "account_id": format!("m{n}"), "points": if n == 7 { 200 } else { 100 }});
        let (_, would) = api.post("/v1/programs/shop/simulate/redemptions", redeem.clone()).await;
        let (status, answer) = api.post("/v1/programs/shop/redemptions", redeem).await;
        if n == 7 {
            assert_eq!((status.as_u16(), &answer["code"], &answer["number"]), (422, &would["code"], &would["number"]), "{answer}");
        } else {
            assert_eq!((status.as_u16(), &answer["balance"]), (201, &would["balance"]), "{answer}");
        }
    }
    let (status, problem) = api.put("/v1/programs/shop/clock", json!({"now": "2010-01-02T00:00:00Z"})).await;
    assert_eq!((status.as_u16(), &problem["code"]), (409, &json!("clock")));
    let (status, problem) = api.post("/v1/programs/other/purchases", purchase("P", "m", "2010-01-01T00:00:00Z", "A", "1.00")).await;
    assert_eq!((status.as_u16(), &problem["code"]), (404, &json!("program_not_found")));
    one.stop().await;
    api.stop().await;
    two.stop().await;
    assert!(site.verified().await.contains("refused commands: 1"));
}

/// A purchase as it goes over the log.
fn command(id: &str) -> Command {
    let id = Id::parse(id).unwrap();
    let line = Line {
        line_id: Id::parse("1").unwrap(),
        sku: "A".into(),
        category: "".into(),
        quantity: Amount::ONE,
        unit_price: Amount::from(10),
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    };
    let purchase = Purchase {
        purchase_id: id.clone(),
        occurred_at: Moment::from_micros(1_262_304_000_000_000).unwrap(),
        currency: "GBP".into(),
        channel: "store".into(),
        store: "s1".into(),
        lines: vec![line],
        shipping: Amount::ZERO,
        origin: None,
    };
    Command { id, actor: "till".into(), action: Action::Earn(purchase.into()) }
}

/// Somebody publishes to the commands by hand, and gets partitions and bytes wrong.
#[tokio::test]
async fn what_is_asked_in_the_wrong_partition_or_form_is_refused_and_booked_at_most_once() {
    let site = Site::new("wrong-partition").await;
    let (one, two) = (site.serve(&["up"], 0).await, site.serve(&["serve", "command-service"], 1).await);
    shared(&[&one, &two]).await;
    one.put("/v1/programs/shop/rulebook", rulebook()).await;
    let options = KafkaOptions { brokers: site.flags[1].clone(), prefix: site.flags[3].clone(), replication: 1, session_timeout: Duration::from_secs(6) };
    let log = KafkaLog::open(options, 8, None).await.unwrap();
    let asker = log.asker().await.unwrap().unwrap();
    let account = AccountKey { program: Id::parse("shop").unwrap(), account: Id::parse("m1").unwrap() };
    let name = account.to_string();
    let home = partition_of(&name, 8);
    let kinds = async |what: What, partition| {
        let body = Ask { program_entries: 1, what }.encode();
        let reply = asker.ask(partition, &name, &body, Duration::from_secs(20)).await.unwrap().expect("each is answered");
        v1::Reply::decode(&*reply).unwrap().kind.unwrap()
    };
    let (mut accepted, mut not_here) = (0, 0);
    for partition in 0..8 {
        match kinds(What::Command(account.clone(), command("P1")), partition).await {
            v1::reply::Kind::Accepted(_) => accepted += 1,
            v1::reply::Kind::Refused(refused) if refused.code == "outcome_unknown" => not_here += 1,
            other => panic!("{other:?}"),
        }
        // Whoever does not have the account does not answer with an empty one.
        match kinds(What::Snapshot(account.clone(), None), partition).await {
            v1::reply::Kind::Snapshot(snapshot) => assert!(!snapshot.account.is_empty()),
            v1::reply::Kind::Refused(refused) => assert_eq!((refused.code.as_str(), partition == home), ("outcome_unknown", false)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted + not_here, 8);
    assert!(accepted >= 1 && not_here >= 1, "each of both has some: {accepted}, {not_here}");
    let unreadable = asker.ask(home, &name, b"\xff\xff", Duration::from_secs(20)).await.unwrap().unwrap();
    let Some(v1::reply::Kind::Refused(refused)) = v1::Reply::decode(&*unreadable).unwrap().kind else { panic!("it is refused") };
    assert_eq!(refused.code, "malformed", "{refused:?}");
    drop(asker);
    drop(log);
    two.stop().await;
    one.stop().await;
    assert!(site.verified().await.contains("book verified: 1 records"), "booked once, whoever was asked");
}

#[tokio::test]
async fn services_come_and_go_under_load() {
    let site = Site::new("come-and-go").await;
    let api = site.serve(&["serve", "api"], 2).await;
    let mut one = site.serve(&["serve", "command-service"], 0).await;
    let project = |name: &'static str| loyalty(&[&["serve", "projector", name][..], &site.flags()].concat(), site.folder(3)).spawn().unwrap();
    let projectors = ["balance", "statement", "all"].map(project);
    api.put("/v1/programs/shop/rulebook", rulebook()).await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut tills = tokio::task::JoinSet::new();
    for till in 0..4 {
        let (address, told) = (api.address.clone(), told.clone());
        tills.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..100 {
                let body = purchase(&format!("P{till}-{n}"), &format!("m{till}-{}", n % 7), "2010-01-01T00:00:00Z", "A", "10.00");
                answers.push((body.clone(), insist(&address, &body).await));
                told.send(()).unwrap();
            }
            answers
        });
    }
    let mut some = async |count: u32| {
        for _ in 0..count {
            heard.recv().await.unwrap();
        }
    };
    some(40).await;
    // One joins, one leaves as told, one is killed, one is killed while alone.
    let two = site.serve(&["serve", "command-service"], 1).await;
    shared(&[&one, &two]).await;
    some(60).await;
    one.stop().await;
    some(60).await;
    one = site.serve(&["serve", "command-service"], 0).await;
    shared(&[&one, &two]).await;
    two.kill().await;
    some(60).await;
    one.kill().await;
    let one = site.serve(&["serve", "command-service"], 0).await;
    some(100).await;
    assert_eq!(ask_again(&api.address, tills).await, 400, "the first answers again");
    drop(projectors);
    one.stop().await;
    api.stop().await;
    assert!(site.verified().await.contains("book verified: 400 records"), "each once");
}

#[tokio::test]
async fn of_several_that_seal_one_does_and_when_it_dies_the_next_goes_on() {
    let site = Site::new("seal").await;
    let (key, seal) = (site.folder(0).join("audit.key"), site.folder(0).join("seal"));
    let (key, seal) = (key.to_str().unwrap(), seal.to_str().unwrap());
    let public = said(&["audit", "key", "test.example/book", "--file", key]).await;
    let sealing = ["serve", "seal", "--audit-key", key, "--seal-seconds", "1", "--seal", seal];
    let (_decides, api) = (site.serve(&["serve", "command-service"], 0).await, site.serve(&["up", "--seal", seal], 1).await);
    let (one, _two) = (site.serve(&sealing, 2).await, site.serve(&sealing, 3).await);
    assert_eq!(api.put("/v1/programs/shop/rulebook", rulebook()).await.0.as_u16(), 201);
    let sealed = async |id: &str| {
        let (status, answer) = api.post("/v1/programs/shop/purchases", purchase(id, "m1", "2010-01-01T00:00:00Z", "A", "150.00")).await;
        assert_eq!(status.as_u16(), 201, "{answer}");
        loop {
            let receipt = api.read(&format!("/v1/programs/shop/accounts/m1/receipts/{id}"), &answer).await;
            if !receipt["sealed"].is_null() {
                return receipt;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    sealed("P1").await;
    one.kill().await;
    let (receipt, file) = (sealed("P2").await, site.folder(0).join("receipt.json"));
    std::fs::write(&file, receipt.to_string()).unwrap();
    let proven = said(&["audit", "prove", file.to_str().unwrap(), "--key", public.trim()]).await;
    assert!(proven.contains("sealed"), "{proven}");
}

#[tokio::test]
async fn what_was_refused_stays_refused_when_the_broker_has_forgotten_the_group() {
    let site = Site::new("forgot").await;
    let (service, api) = (site.serve(&["serve", "command-service"], 0).await, site.serve(&["serve", "api"], 1).await);
    api.put("/v1/programs/shop/rulebook", rulebook()).await;
    let bought = |id: &str, price: &str| purchase(id, "m1", "2010-01-01T00:00:00Z", "A", price);
    api.post("/v1/programs/shop/purchases", bought("P1", "50.00")).await;
    let (status, refused) = api.post("/v1/programs/shop/redemptions", json!({"redemption_id": "R", "account_id": "m1", "points": 100})).await;
    assert_eq!((status.as_u16(), &refused["code"]), (422, &json!("insufficient_points")), "{refused}");
    let (status, answer) = api.post("/v1/programs/shop/purchases", bought("P2", "150.00")).await;
    assert_eq!(status.as_u16(), 201, "{answer}");
    api.put("/v1/programs/shop/clock", json!({"now": "2010-02-01T00:00:00Z"})).await;
    api.stop().await;
    service.stop().await;
    forget("forgot.commands").await;
    let (service, api) = (site.serve(&["serve", "command-service"], 2).await, site.serve(&["serve", "api"], 3).await);
    // What is asked now comes after all that was asked before; decided again, the redemption would be granted.
    let adjust = json!({"adjustment_id": "A", "account_id": "m1", "points": 1, "reason_code": "goodwill"});
    let (status, answer) = api.post("/v1/programs/shop/adjustments", adjust).await;
    assert_eq!((status.as_u16(), &answer["balance"]["available"]), (201, &json!(201)), "{answer}");
    api.stop().await;
    service.stop().await;
}
