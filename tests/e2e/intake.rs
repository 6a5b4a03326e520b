//! Purchases published to a topic: read in every form, matched, booked once; what can't be is kept and told.

use std::path::Path;
use std::time::Duration;

use ledger_schemas::v1;
use prost::Message;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};

use crate::support::{Up, postgres, purchase, rulebook};

struct Shop {
    producer: FutureProducer,
    topic: String,
}

impl Shop {
    async fn publish(&self, headers: &[(&str, &str)], body: &[u8]) {
        let all = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: Some(*value) }));
        let record = FutureRecord::to(&self.topic).key("as they like").payload(body).headers(all).partition(0);
        self.producer.send(record, Duration::from_secs(20)).await.unwrap();
    }
}

/// Headers, body, the code it is kept with, and what its reason says.
type Kept<'a> = (&'a [(&'a str, &'a str)], Vec<u8>, &'a str, &'a str);

fn amount(units: i64, scale: u32) -> Option<v1::Amount> {
    Some(v1::Amount { units, scale })
}

fn message(id: &str) -> v1::Purchase {
    let line = v1::Line {
        line_id: "1".into(),
        sku: "A".into(),
        category: String::new(),
        quantity: amount(1, 0),
        unit_price: amount(1000, 2),
        discount: amount(0, 0),
        tax: amount(0, 0),
        amount: None,
    };
    v1::Purchase {
        purchase_id: id.into(),
        occurred_at_us: 1_262_304_000_000_000,
        currency: "GBP".into(),
        channel: "store".into(),
        store: "s1".into(),
        lines: vec![line],
        shipping: amount(0, 0),
        program: "shop".into(),
        ..v1::Purchase::default()
    }
}

/// Looks until what is looked for is there: intake is on its own.
async fn until<T>(look: impl AsyncFn() -> Option<T>) -> T {
    loop {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn items(up: &Up, path: &str, count: usize) -> Vec<Value> {
    until(async || up.get(path).await.1["items"].as_array().filter(|items| items.len() >= count).cloned()).await
}

async fn earned(up: &Up, account: &str, points: i64) {
    let path = format!("/v1/programs/shop/accounts/{account}");
    until(async || (up.get(&path).await.1["balance"]["lifetime_earned"] == points).then_some(())).await;
}

async fn up(data: &Path, prefix: &str, more: &[&str]) -> Up {
    let broker = embedded_kafka::testing::broker().await;
    Up::start(data, &[&["--kafka", &broker, "--kafka-prefix", prefix][..], more].concat()).await
}

async fn start(prefix: &str, more: &[&str]) -> (tempfile::TempDir, Up, Shop) {
    let (data, broker) = (tempfile::tempdir().unwrap(), embedded_kafka::testing::broker().await);
    let up = up(data.path(), prefix, more).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let producer = ClientConfig::new().set("bootstrap.servers", &broker).create().unwrap();
    (data, up, Shop { producer, topic: format!("{prefix}.purchases") })
}

#[tokio::test]
async fn a_purchase_is_booked_once_in_whatever_form_it_is_published() {
    let (_data, up, shop) = start("forms", &[]).await;
    let plain = v1::Purchase { account_id: "m1".into(), ..message("P1") }.encode_to_vec();
    for _ in 0..3 {
        shop.publish(&[], &plain).await;
    }
    let mut data = purchase("P2", "m1", "2010-01-01T00:00:00Z", "A", "10.00");
    data["program"] = json!("shop");
    let event = json!({"specversion": "1.0", "type": "loyalty.v1.Purchase", "source": "/till/7", "id": "e1", "data": data});
    shop.publish(&[("content-type", "application/cloudevents+json")], event.to_string().as_bytes()).await;
    data["purchase_id"] = json!("P3");
    let headers = [("ce_specversion", "1.0"), ("ce_type", "loyalty.v1.Purchase"), ("ce_id", "e2"), ("ce_source", "/till/7")];
    shop.publish(&[&headers[..], &[("content-type", "application/json")]].concat(), data.to_string().as_bytes()).await;
    let plain = v1::Purchase { account_id: "m1".into(), ..message("P4") }.encode_to_vec();
    shop.publish(&[&headers[..], &[("content-type", "application/protobuf")]].concat(), &plain).await;
    let back = v1::PurchaseReturn {
        purchase_id: "P4".into(),
        return_id: "R4".into(),
        occurred_at_us: 1_262_304_000_000_000,
        lines: vec![v1::ReturnLine { line_id: "1".into(), quantity: amount(1, 0) }],
        program: "shop".into(),
        account_id: "m1".into(),
        ..v1::PurchaseReturn::default()
    };
    shop.publish(&[("message-type", "loyalty.v1.PurchaseReturn")], &back.encode_to_vec()).await;
    let statement = items(&up, "/v1/programs/shop/accounts/m1/statement?limit=500", 6).await;
    let kinds: Vec<&str> = statement.iter().map(|row| row["type"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "points_earned").count(), 4, "{kinds:?}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "purchase_returned").count(), 1, "{kinds:?}");
    assert_eq!(up.get("/v1/intake/rejected").await.1["items"], json!([]));
    up.stop().await;
}

#[tokio::test]
async fn what_nobody_has_waits_until_somebody_does() {
    let (data, up, shop) = start("waits", &[]).await;
    shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message("P1") }.encode_to_vec()).await;
    shop.publish(&[], &v1::Purchase { member: "jane@example.org".into(), ..message("P2") }.encode_to_vec()).await;
    let waiting = items(&up, "/v1/intake/unmatched", 2).await;
    assert_eq!((&waiting[0]["command_id"], &waiting[0]["reason"]), (&json!("P1"), &json!("no account has this card")));

    // An alias lets the first be booked by itself, the other one is claimed by hand.
    up.post("/v1/programs/shop/accounts", json!({"account_id": "m1"})).await;
    let alias = json!({"kind": "card", "value": "4000-1234", "command_id": "c1"});
    assert_eq!(up.post("/v1/programs/shop/accounts/m1/aliases", alias.clone()).await.0.as_u16(), 201);
    earned(&up, "m1", 10).await;
    let claim = format!("/v1/intake/unmatched/{}/claim", waiting[1]["id"].as_str().unwrap());
    up.post("/v1/programs/shop/accounts", json!({"account_id": "gone"})).await;
    let (status, closed) = up.post("/v1/programs/shop/accounts/gone/close", json!({"command_id": "c2", "reason_code": "moved"})).await;
    assert_eq!(status.as_u16(), 201, "{closed}");
    let (status, refused) = up.post(&claim, json!({"account_id": "gone"})).await;
    assert_eq!((status.as_u16(), &refused["code"]), (422, &json!("account_closed")), "and it can be claimed for somebody else");
    let (status, answer) = up.post(&claim, json!({"account_id": "m1"})).await;
    assert_eq!((status.as_u16(), &answer["points"]["earned"]), (201, &json!(10)));
    assert_eq!(up.post(&claim, json!({"account_id": "m1"})).await.0.as_u16(), 200, "claimed again, the first answer");
    let (status, other) = up.post(&claim, json!({"account_id": "m2"})).await;
    assert_eq!((status.as_u16(), &other["code"]), (409, &json!("id_reused")));
    assert_eq!(up.get("/v1/intake/unmatched").await.1["items"], json!([]));

    // By now the card is known at once; when two have it, nobody is guessed.
    shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message("P3") }.encode_to_vec()).await;
    earned(&up, "m1", 30).await;
    up.post("/v1/programs/shop/accounts", json!({"account_id": "m2"})).await;
    let (_, added) = up.post("/v1/programs/shop/accounts/m2/aliases", json!({"kind": "card", "value": "4000-1234"})).await;
    assert_eq!(up.read("/v1/programs/shop/accounts/m2/aliases", &added).await["items"].as_array().unwrap().len(), 1);
    shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message("P4") }.encode_to_vec()).await;
    assert_eq!(items(&up, "/v1/intake/unmatched", 1).await[0]["reason"], "2 accounts have this card");
    let (status, again) = up.post("/v1/programs/shop/accounts/m1/aliases", json!({"kind": "card", "value": "4000-1234"})).await;
    assert_eq!((status.as_u16(), &again["code"]), (422, &json!("alias_exists")));
    up.post("/v1/programs/shop/accounts/m2/aliases/remove", json!({"kind": "card", "value": "4000-1234"})).await;
    earned(&up, "m1", 40).await;
    let metrics = up.send(reqwest::Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("loyalty_intake_messages_total{outcome=\"unmatched\"} 3"), "{metrics}");
    up.stop().await;

    // Neither the card's number nor the member's name stands anywhere in what the ledger keeps.
    let found = std::process::Command::new("grep").args(["-rlE", "4000-1234|jane@example"]).arg(data.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// Makes the broker forget a group, as it does a week after its last member has gone.
pub async fn forget(group: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", embedded_kafka::testing::broker().await).create().unwrap();
    while admin.delete_groups(&[group], &AdminOptions::new()).await.unwrap().iter().any(Result::is_err) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn how_far_was_read_is_known_when_the_broker_has_forgotten_it() {
    let (data, first, shop) = start("forgotten-intake", &[]).await;
    for n in 0..5 {
        shop.publish(&[], &v1::Purchase { account_id: "m1".into(), ..message(&format!("P{n}")) }.encode_to_vec()).await;
    }
    earned(&first, "m1", 50).await;
    let database = postgres(data.path()).await;
    until(async || database.query_one("SELECT max(next) FROM intake.position", &[]).await.unwrap().get::<_, Option<i64>>(0).filter(|next| *next == 5)).await;
    drop(database);
    first.stop().await;
    forget("forgotten-intake.intake").await;
    let second = up(data.path(), "forgotten-intake", &[]).await;
    shop.publish(&[], &v1::Purchase { account_id: "m1".into(), ..message("P5") }.encode_to_vec()).await;
    earned(&second, "m1", 60).await;
    let metrics = second.send(reqwest::Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("loyalty_intake_messages_total{outcome=\"accepted\"} 1"), "only what is new is read: {metrics}");
    second.stop().await;
}

#[tokio::test]
async fn a_message_that_comes_again_goes_where_it_went_first() {
    let (data, first, shop) = start("again", &[]).await;
    let card = |account: &str, verb: &str| (format!("/v1/programs/shop/accounts/{account}/aliases{verb}"), json!({"kind": "card", "value": "4000-1234"}));
    for account in ["m1", "m2"] {
        first.post("/v1/programs/shop/accounts", json!({"account_id": account})).await;
    }
    let (path, alias) = card("m1", "");
    let (_, added) = first.post(&path, alias.clone()).await;
    first.read(&path, &added).await;
    for message in [
        v1::Purchase { card: "4000-1234".into(), ..message("P1") },
        v1::Purchase { card: "4000-9999".into(), ..message("P2") },
        v1::Purchase { account_id: "m1".into(), currency: "USD".into(), ..message("P3") },
    ] {
        shop.publish(&[], &message.encode_to_vec()).await;
    }
    let kept = items(&first, "/v1/intake/rejected", 1).await;
    earned(&first, "m1", 10).await;
    // The card goes to somebody else, and how far was read is forgotten.
    let (path, alias) = card("m1", "/remove");
    first.post(&path, alias.clone()).await;
    let (path, alias) = card("m2", "");
    let (_, added) = first.post(&path, alias).await;
    first.read(&path, &added).await;
    // All of it is read again.
    postgres(data.path()).await.execute("DELETE FROM intake.position", &[]).await.unwrap();
    first.stop().await;
    forget("again.intake").await;
    let second = up(data.path(), "again", &[]).await;
    // Published again at another place it is the same purchase still.
    for id in ["P1", "P4"] {
        shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message(id) }.encode_to_vec()).await;
    }
    earned(&second, "m2", 10).await;
    earned(&second, "m1", 10).await;
    assert_eq!(items(&second, "/v1/intake/unmatched", 1).await.len(), 1);
    assert_eq!(items(&second, "/v1/intake/rejected", 1).await, kept);
    second.stop().await;
}

const RETURN: [(&str, &str); 1] = [("message-type", "loyalty.v1.PurchaseReturn")];

/// A return of all of a purchase.
fn back(purchase: &str) -> v1::PurchaseReturn {
    v1::PurchaseReturn {
        purchase_id: purchase.into(),
        return_id: format!("R-{purchase}"),
        occurred_at_us: 1_262_304_000_000_000,
        lines: vec![v1::ReturnLine { line_id: "1".into(), quantity: amount(1, 0) }],
        program: "shop".into(),
        ..v1::PurchaseReturn::default()
    }
}

async fn returned(up: &Up, account: &str, reference: &str) {
    let path = format!("/v1/programs/shop/accounts/{account}/statement?limit=500");
    let is_there = |row: &Value| row["type"] == "purchase_returned" && row["reference"] == reference;
    until(async || up.get(&path).await.1["items"].as_array().is_some_and(|rows| rows.iter().any(is_there)).then_some(())).await;
}

#[tokio::test]
async fn a_return_waits_for_its_purchase_whatever_way_that_comes() {
    let (data, up, shop) = start("early", &[]).await;
    // By the account's id, before the account is there; and by a card that nobody has, before the purchase, which waits itself.
    shop.publish(&RETURN, &v1::PurchaseReturn { account_id: "m1".into(), ..back("P1") }.encode_to_vec()).await;
    shop.publish(&RETURN, &v1::PurchaseReturn { card: "4000-1234".into(), ..back("P2") }.encode_to_vec()).await;
    shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message("P2") }.encode_to_vec()).await;
    let waiting = items(&up, "/v1/intake/unmatched", 3).await;
    let told = |row: &Value| (row["command_id"].clone(), row["account_id"].clone(), row["awaits"].clone());
    assert_eq!(told(&waiting[0]), (json!("R-P1"), json!("m1"), json!("P1")), "{waiting:?}");
    assert_eq!(told(&waiting[1]), (json!("R-P2"), Value::Null, Value::Null), "{waiting:?}");
    // Who asks over REST is told, and can ask again.
    let line = json!([{"line_id": "1", "quantity": 1}]);
    let rest = json!({"return_id": "R-P3", "account_id": "m1", "purchase_id": "P3", "occurred_at": "2010-01-01T00:00:00Z", "lines": line});
    let (status, refused) = up.post("/v1/programs/shop/returns", rest).await;
    assert_eq!((status.as_u16(), &refused["code"]), (404, &json!("account_not_found")), "{refused}");

    let (status, bought) = up.post("/v1/programs/shop/purchases", purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    assert_eq!(status.as_u16(), 201, "{bought}");
    returned(&up, "m1", "R-P1").await;
    up.post("/v1/programs/shop/accounts/m1/aliases", json!({"kind": "card", "value": "4000-1234"})).await;
    returned(&up, "m1", "R-P2").await;
    let has = async || up.get("/v1/programs/shop/accounts/m1").await.1["balance"].clone();
    until(async || Some(has().await).filter(|has| (&has["pending"], &has["lifetime_earned"]) == (&json!(0), &json!(20)))).await;
    let is_empty = async || (up.get("/v1/intake/unmatched").await.1["items"] == json!([])).then_some(());
    until(is_empty).await;

    // What has waited for too long waits no more; another's purchase is not returned.
    shop.publish(&RETURN, &v1::PurchaseReturn { account_id: "m2".into(), ..back("P1") }.encode_to_vec()).await;
    shop.publish(&RETURN, &v1::PurchaseReturn { account_id: "m1".into(), ..back("P9") }.encode_to_vec()).await;
    items(&up, "/v1/intake/unmatched", 2).await;
    let database = postgres(data.path()).await;
    database.execute("UPDATE intake.unmatched SET received_at = now() - interval '91 days' WHERE claimed_at IS NULL", &[]).await.unwrap();
    let rejected = items(&up, "/v1/intake/rejected", 2).await;
    assert_eq!(rejected[0]["code"], "purchase_of_another_account", "{rejected:?}");
    assert_eq!(rejected[0]["reason"], "waited 90 days: purchase P1 belongs to account m1, not to m2");
    assert_eq!(rejected[1]["code"], "purchase_not_found", "{rejected:?}");
    assert!(rejected[1]["reason"].as_str().unwrap().starts_with("waited 90 days: the account has no purchase P9"), "{rejected:?}");
    is_empty().await.unwrap();
    up.stop().await;
}

#[tokio::test]
async fn a_return_waits_for_its_own_purchase_though_another_account_has_one_of_that_id() {
    let (_data, up, shop) = start("own-ids", &[]).await;
    up.post("/v1/programs/shop/purchases", purchase("1001", "m2", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    // Looked through after that purchase is known to whatever looks: a return of it is booked.
    shop.publish(&RETURN, &v1::PurchaseReturn { account_id: "m1".into(), ..back("1001") }.encode_to_vec()).await;
    items(&up, "/v1/intake/unmatched", 1).await;
    shop.publish(&RETURN, &v1::PurchaseReturn { account_id: "m2".into(), return_id: "R2".into(), ..back("1001") }.encode_to_vec()).await;
    returned(&up, "m2", "R2").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(up.get("/v1/intake/rejected").await.1["items"], json!([]));
    up.post("/v1/programs/shop/purchases", purchase("1001", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    returned(&up, "m1", "R-1001").await;
    until(async || (up.get("/v1/intake/unmatched").await.1["items"] == json!([])).then_some(())).await;
    assert_eq!(up.get("/v1/intake/rejected").await.1["items"], json!([]));
    up.stop().await;
}

#[tokio::test]
async fn a_purchase_published_twice_is_claimed_for_one_account() {
    let (data, up, shop) = start("twice", &[]).await;
    for _ in 0..2 {
        shop.publish(&[], &v1::Purchase { card: "4000-1234".into(), ..message("P1") }.encode_to_vec()).await;
    }
    let waiting = items(&up, "/v1/intake/unmatched", 2).await;
    let claim = |n: usize| format!("/v1/intake/unmatched/{}/claim", waiting[n]["id"].as_str().unwrap());
    for account in ["m1", "m2", "gone"] {
        up.post("/v1/programs/shop/accounts", json!({"account_id": account})).await;
    }
    up.post("/v1/programs/shop/accounts/gone/close", json!({"command_id": "c1", "reason_code": "moved"})).await;
    // What is refused leaves it for another, at both of its places.
    assert_eq!(up.post(&claim(0), json!({"account_id": "gone"})).await.1["code"], "account_closed");
    assert_eq!(up.post(&claim(0), json!({"account_id": "m1"})).await.0.as_u16(), 201);
    for account in ["m2", "gone"] {
        let (status, other) = up.post(&claim(1), json!({"account_id": account})).await;
        assert_eq!((status.as_u16(), &other["code"]), (409, &json!("id_reused")), "{other}");
    }
    let marked = postgres(data.path()).await.query_one("SELECT account FROM intake.mark", &[]).await.unwrap();
    assert_eq!(marked.get::<_, Option<&str>>(0), Some("m1"), "it goes nowhere else");
    assert_eq!(up.post(&claim(1), json!({"account_id": "m1"})).await.0.as_u16(), 200, "the first answer");
    earned(&up, "m2", 0).await;
    up.stop().await;
}

#[tokio::test]
async fn what_cannot_be_booked_is_kept_with_the_reason() {
    let (_data, up, shop) = start("kept", &[]).await;
    let whole = v1::Purchase { account_id: "m1".into(), ..message("P1") };
    let mut long = whole.clone();
    long.lines = (0..5001).map(|n| v1::Line { line_id: n.to_string(), ..whole.lines[0].clone() }).collect();
    let program = v1::Purchase { program: "nowhere".into(), ..whole.clone() };
    let nobody = v1::Purchase { account_id: String::new(), ..whole.clone() };
    let bytes = whole.encode_to_vec();
    let confluent = [&[0, 0, 0, 0, 1, 0], &*bytes].concat();
    let messages: [Kept<'_>; 8] = [
        (&[], bytes[..20].to_vec(), "malformed", "loyalty.v1.Purchase"),
        (&[], [&[3], &*bytes].concat(), "magic_byte", "not protobuf"),
        (&[], confluent, "no_registry", "--schema-registry"),
        (&[("message-type", "other.Thing")], bytes.clone(), "malformed", "loyalty.v1.PurchaseReturn"),
        (&[], b"{\"specversion\":\"0.3\"}".to_vec(), "malformed", "/specversion"),
        (&[], nobody.encode_to_vec(), "malformed", "exactly one of them"),
        (&[], program.encode_to_vec(), "program_not_found", "nowhere"),
        (&[], long.encode_to_vec(), "malformed", "malformed"),
    ];
    for (headers, body, ..) in &messages {
        shop.publish(headers, body).await;
    }
    // What comes after them is booked as if they were not there.
    shop.publish(&[], &bytes).await;
    earned(&up, "m1", 10).await;
    let kept = items(&up, "/v1/intake/rejected?limit=500", messages.len()).await;
    assert_eq!(kept.len(), messages.len());
    for (row, (_, body, code, words)) in kept.iter().zip(&messages) {
        // Of what can't be read, nobody can tell where a card's number stands.
        let is_read = row["program"].is_string() || body.starts_with(b"{");
        let hex = body.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!((&row["code"], &row["body_hex"]), (&json!(code), &json!(if is_read { hex } else { String::new() })), "{row}");
        assert!(row["reason"].as_str().unwrap().contains(words), "{row}");
    }
    let (_, page) = up.get("/v1/intake/rejected?limit=4").await;
    let next = format!("/v1/intake/rejected?limit=500&cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(up.get(&next).await.1["items"].as_array().unwrap().len(), messages.len() - 4, "page after page");
    // Whoever reads it reads no card's number, and may ask for one program's.
    let event = json!({"specversion": "1.0", "type": "loyalty.v1.Purchase", "data": {"program": "elsewhere", "card": "CARD-4711", "unknown": "XQZ"}});
    shop.publish(&[], event.to_string().as_bytes()).await;
    let masked = items(&up, "/v1/intake/rejected?program=elsewhere", 1).await;
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = masked[0]["body_hex"].as_str().unwrap();
    assert!(!body.contains(&hex("CARD-4711")) && body.contains(&hex("\"***\"")) && body.contains(&hex("XQZ")), "{masked:?}");
    assert_eq!((masked.len(), &masked[0]["program"]), (1, &json!("elsewhere")));
    up.stop().await;
}

#[tokio::test]
async fn messages_in_confluents_wire_format_are_read_by_their_registered_schema() {
    let proto = include_str!("../../schemas/proto/loyalty/v1/book.proto");
    // What Confluent's registry answers, at the path it answers it.
    let schema = axum::routing::get(async move || axum::Json(json!({"schemaType": "PROTOBUF", "schema": proto})));
    let router = axum::Router::new().route("/schemas/ids/7", schema);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (_data, up, shop) = start("registry", &["--schema-registry", &url]).await;
    let index = proto.lines().filter_map(|line| line.strip_prefix("message ")).position(|name| name.starts_with("Purchase ")).unwrap();
    let body = v1::Purchase { account_id: "m1".into(), ..message("P1") }.encode_to_vec();
    shop.publish(&[], &[&[0, 0, 0, 0, 9, 0], &*body].concat()).await;
    shop.publish(&[], &[&[0, 0, 0, 0, 7, 2, u8::try_from(index * 2).unwrap()], &*body].concat()).await;
    earned(&up, "m1", 10).await;
    let kept = items(&up, "/v1/intake/rejected", 1).await;
    assert_eq!((&kept[0]["code"], &kept[0]["reason"]), (&json!("unknown_schema"), &json!("the schema registry knows no schema 9")));
    up.stop().await;
}
