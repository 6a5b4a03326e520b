//! The book, sealed, proven, archived, tampered with, restored and decided again, by the binary as its users run it.

use std::path::Path;

use ledger_schemas::v1::{ArchivedBody, ArchivedRecord};
use prost::Message;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::objects;
use crate::support::{Up, loyalty, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a command that is to fail, and gives what it says.
pub async fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loyalty")).args(arguments).output().await.unwrap();
    assert!(!output.status.success(), "{arguments:?} does not fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub async fn said(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_loyalty")).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A shop that has sold a little, been asked too much, and is sealed.
struct Shop {
    data: tempfile::TempDir,
    files: tempfile::TempDir,
    public: String,
    answers: Vec<Value>,
}

impl Shop {
    async fn open() -> Self {
        let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = files.path().join("audit.key");
        let public = said(&["audit", "key", "test.example/book", "--file", text(&key)]).await.trim().to_owned();
        let up = Up::start(data.path(), &["--audit-key", text(&key), "--seal-seconds", "1"]).await;
        assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
        let mut answers = Vec::new();
        for (day, account, price) in [(1, "m1", "500.00"), (2, "m2", "70.50"), (3, "m1", "20.00"), (20, "m3", "80.00"), (21, "m2", "9.99")] {
            assert_eq!(up.put(&format!("{P}/clock"), json!({"now": format!("2010-03-{day:02}T12:00:00Z")})).await.0, StatusCode::OK);
            let at = format!("2010-03-{day:02}T12:00:00Z");
            let (status, answer) = up.post(&format!("{P}/purchases"), purchase(&format!("p{day}"), account, &at, "A", price)).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            answers.push(answer);
        }
        let redemption = json!({"redemption_id": "r1", "account_id": "m1", "points": 200});
        let (status, answer) = up.post(&format!("{P}/redemptions"), redemption).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answers.push(answer);
        let too_many = json!({"redemption_id": "r2", "account_id": "m2", "points": 100_000});
        assert_eq!(up.post(&format!("{P}/redemptions"), too_many).await.0, StatusCode::UNPROCESSABLE_ENTITY);
        let shop = Self { data, files, public, answers };
        shop.receipt(&up).await;
        // The last seal is made as it stops.
        up.stop().await;
        shop
    }

    /// A receipt is proven once a checkpoint covers it, and by the right key only.
    async fn receipt(&self, up: &Up) {
        let answer = &self.answers[0];
        let receipt = loop {
            let receipt = up.read(&format!("{P}/accounts/m1/receipts/p1"), answer).await;
            if !receipt["sealed"].is_null() {
                break receipt;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!(receipt["kind"], "purchase");
        let file = self.files.path().join("receipt.json");
        std::fs::write(&file, receipt.to_string()).unwrap();
        let proven = said(&["audit", "prove", text(&file), "--key", &self.public]).await;
        assert!(proven.contains("purchase p1 of shop/m1 stands in book"), "{proven}");
        let mut forged = receipt.clone();
        forged["position"] = json!(receipt["position"].as_u64().unwrap() + 1);
        std::fs::write(&file, forged.to_string()).unwrap();
        let why = refused(&["audit", "prove", text(&file), "--key", &self.public]).await;
        assert!(why.contains("the record does not stand in the book at this place"), "{why}");
        let other = up.read(&format!("{P}/accounts/m1/receipts/r1"), &self.answers[self.answers.len() - 1]).await;
        let told = [("program", json!("coffee")), ("account_id", json!("mallory")), ("kind", json!("redemption")), ("command_id", json!("p2"))];
        let more =
            [("account_seq", json!(9)), ("record", json!("")), ("record", json!("AAAA")), ("record", other["record"].clone()), ("record_hash", json!("00"))];
        for (field, value) in told.into_iter().chain(more) {
            let mut forged = receipt.clone();
            assert_ne!(forged[field], value, "{field}");
            forged[field] = value;
            std::fs::write(&file, forged.to_string()).unwrap();
            let why = refused(&["audit", "prove", text(&file), "--key", &self.public]).await;
            assert!(why.contains("the receipt ") || why.contains("record"), "{field}: {why}");
        }
        std::fs::write(&file, receipt.to_string()).unwrap();
        let other = said(&["audit", "key", "test.example/book", "--file", text(&self.files.path().join("other.key"))]).await;
        let why = refused(&["audit", "prove", text(&file), "--key", other.trim()]).await;
        assert!(why.contains("is not signed by test.example/book"), "{why}");
        assert_eq!(up.get(&format!("{P}/accounts/m1/receipts/nothing")).await.1["code"], "command_not_found");
    }

    async fn archive(&self, name: &str) -> std::path::PathBuf {
        let archive = self.files.path().join(name);
        run(&["audit", "export", text(&archive)], self.data.path()).await;
        archive
    }

    async fn wrong(&self, archive: &Path) -> String {
        refused(&["audit", "verify", text(archive), "--key", &self.public]).await
    }
}

fn unpack<M: Message + Default>(file: &Path) -> Vec<M> {
    let bytes = zstd::stream::decode_all(std::fs::File::open(file).unwrap()).unwrap();
    let mut rest = bytes.as_slice();
    std::iter::from_fn(|| (!rest.is_empty()).then(|| M::decode_length_delimited(&mut rest).unwrap())).collect()
}

fn pack<M: Message>(file: &Path, messages: &[M]) {
    let bytes: Vec<u8> = messages.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
    std::fs::write(file, zstd::bulk::compress(&bytes, 3).unwrap()).unwrap();
}

/// The file of the partition that has the most records.
fn fullest(archive: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(archive.join("records")).unwrap().map(|entry| entry.unwrap().path().join("0000000000.zst"));
    files.max_by_key(|file| unpack::<ArchivedRecord>(file).len()).unwrap()
}

#[tokio::test]
async fn an_archive_verifies_alone_and_whatever_is_changed_in_it_is_found_and_named() {
    let shop = Shop::open().await;
    let archive = shop.archive("archive").await;
    let verified = said(&["audit", "verify", text(&archive), "--key", &shop.public]).await;
    assert!(verified.contains("1 refused commands") && verified.contains("8 decisions were made again and are the same"), "{verified}");
    assert!(!verified.contains("not sealed yet") && !verified.contains("not decided again"), "{verified}");

    let file = fullest(&archive);
    let whole: Vec<ArchivedRecord> = unpack(&file);
    assert!(whole.len() > 2);
    let last = whole.len() - 1;
    let tamper = async |change: &dyn Fn(&mut Vec<ArchivedRecord>)| {
        let mut records = whole.clone();
        change(&mut records);
        pack(&file, &records);
        shop.wrong(&archive).await
    };
    let change = |records: &mut Vec<ArchivedRecord>| *records[last].body.last_mut().unwrap() ^= 1;
    let why = tamper(&change).await;
    assert!(why.contains(&format!("position {last} account {}: the record is not the one that was sealed", whole[last].account)), "{why}");
    let why = tamper(&|records| drop(records.remove(1))).await;
    assert!(why.contains("position 2") && why.contains("position 1 should stand here: a record was dropped, repeated or moved"), "{why}");
    let why = tamper(&|records| records.insert(1, whole[0].clone())).await;
    assert!(why.contains("position 0") && why.contains("position 1 should stand here"), "{why}");
    let why = tamper(&|records| records.swap(0, 1)).await;
    assert!(why.contains("position 1") && why.contains("position 0 should stand here"), "{why}");
    let why = tamper(&|records| drop(records.pop())).await;
    assert!(why.contains(&format!("has {last}, manifest.json tells of {}", last + 1)) && why.contains(&format!("{} were sealed", last + 1)), "{why}");
    pack(&file, &whole);

    let outcomes = archive.join("outcomes");
    let refusals = std::fs::read_dir(&outcomes).unwrap().map(|entry| entry.unwrap().path().join("0000000000.zst")).find(|file| file.exists()).unwrap();
    let kept: Vec<ArchivedBody> = unpack(&refusals);
    pack::<ArchivedBody>(&refusals, &[]);
    let why = shop.wrong(&archive).await;
    assert!(why.contains("has 0, manifest.json tells of 1"), "{why}");
    pack(&refusals, &kept);

    // It extends the checkpoint that somebody kept, and another book does not.
    let kept = shop.files.path().join("kept.checkpoint");
    std::fs::copy(archive.join("seal/checkpoint"), &kept).unwrap();
    let up = Up::start(shop.data.path(), &["--audit-key", text(&shop.files.path().join("audit.key")), "--seal-seconds", "3600"]).await;
    let more = json!({"redemption_id": "r9", "account_id": "m1", "points": 100});
    assert_eq!(up.post(&format!("{P}/redemptions"), more).await.0, StatusCode::CREATED);
    up.stop().await;
    let later = shop.archive("later").await;
    let since = ["audit", "verify", text(&later), "--key", &shop.public, "--since", text(&kept)];
    assert!(said(&since).await.contains("the archive extends the checkpoint of "));
    let why = refused(&["audit", "verify", text(&archive), "--key", &shop.public, "--since", text(&later.join("seal/checkpoint"))]).await;
    assert!(why.contains("it is older, or some were taken out"), "{why}");

    // An archive that somebody made to be read for ever, or to take all memory.
    let manifest = archive.join("manifest.json");
    let honest = std::fs::read_to_string(&manifest).unwrap();
    let mut told: Value = serde_json::from_str(&honest).unwrap();
    told["records"][0] = json!(1_000_000_000_000_000_000_u64);
    std::fs::write(&manifest, told.to_string()).unwrap();
    let why = shop.wrong(&archive).await;
    assert!(why.contains("manifest.json tells of 1000000000000000000 records"), "{why}");
    told = serde_json::from_str(&honest).unwrap();
    told["programs"] = json!(told["programs"].as_u64().unwrap() + 1);
    std::fs::write(&manifest, told.to_string()).unwrap();
    let why = shop.wrong(&archive).await;
    assert!(why.contains("programs/000/0000000000.zst has"), "{why}");
    std::fs::write(&manifest, &honest).unwrap();
    let packed = std::fs::read(&file).unwrap();
    let mut bomb = zstd::stream::Encoder::new(std::fs::File::create(&file).unwrap(), 3).unwrap();
    (0..100).for_each(|_| std::io::Write::write_all(&mut bomb, &[0; 1 << 20]).unwrap());
    bomb.finish().unwrap();
    let why = shop.wrong(&archive).await;
    assert!(why.contains("unpacks to more than 67108864: no export writes that"), "{why}");
    std::fs::write(&file, packed).unwrap();
    assert!(said(&["audit", "verify", text(&archive), "--key", &shop.public]).await.contains("archive verified"));
}

#[tokio::test]
async fn a_book_comes_back_from_its_archive_alone_and_an_altered_row_is_named() {
    let shop = Shop::open().await;
    let archive = shop.archive("archive").await;
    let url = embedded_postgres::testing::database("restored").await;
    let from = format!("archive:{}", text(&archive));
    let data = tempfile::tempdir().unwrap();
    drop(shop.data);
    run(&["log", "copy", "--from", &from, "--to", &url], data.path()).await;
    let up = Up::run({
        let mut command = loyalty(&["up", "--listen", "127.0.0.1:0"], data.path());
        command.env("DATABASE_URL", &url);
        command
    })
    .await;
    for (n, answer) in shop.answers.iter().take(5).enumerate() {
        let (day, account, price) = [(1, "m1", "500.00"), (2, "m2", "70.50"), (3, "m1", "20.00"), (20, "m3", "80.00"), (21, "m2", "9.99")][n];
        let (status, again) =
            up.post(&format!("{P}/purchases"), purchase(&format!("p{day}"), account, &format!("2010-03-{day:02}T12:00:00Z"), "A", price)).await;
        assert_eq!((status, &again), (StatusCode::OK, answer), "every acknowledged command gets its first answer");
    }
    let explained = up.read(&format!("{P}/accounts/m1"), &shop.answers[5]).await;
    assert_eq!(explained["balance"]["available"], shop.answers[5]["balance"]["available"]);
    up.stop().await;

    let against = ["audit", "verify", text(&archive), "--key", &shop.public, "--against", &url];
    assert!(said(&against).await.contains("archive verified"));
    let client = event_log::postgres::connect(&url, "balance").await.unwrap();
    client.execute("UPDATE balance.balance SET available = available + 1 WHERE account = 'm1'", &[]).await.unwrap();
    let why = refused(&against).await;
    assert!(why.contains("read model balance: balance: (shop,m1,"), "{why}");
    client.execute("UPDATE balance.balance SET available = available - 1 WHERE account = 'm1'", &[]).await.unwrap();
    client.execute("UPDATE refusal.refusal SET detail = 'granted'", &[]).await.unwrap();
    let why = refused(&against).await;
    assert!(why.contains("refused commands: refusal: (shop,m2,"), "{why}");
}

#[tokio::test]
async fn an_archive_in_an_s3_store_verifies_and_restores() {
    let shop = Shop::open().await;
    let buckets = tempfile::tempdir().unwrap();
    std::fs::create_dir(buckets.path().join("audit")).unwrap();
    let settings = objects::serve(buckets.path()).await;
    let with_store = async |arguments: &[&str], data: &Path| {
        let output = loyalty(arguments, data).envs(settings.clone()).output().await.unwrap();
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let place = "s3://audit/books/shop";
    let (done, words) = with_store(&["audit", "export", place], shop.data.path()).await;
    assert!(done && words.contains("records archived in s3://audit/books/shop"), "{words}");
    let (done, words) = with_store(&["audit", "export", place], shop.data.path()).await;
    assert!(!done && words.contains("is not empty; name a new prefix"), "{words}");
    let verify = async |key: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_loyalty")).args(["audit", "verify", place, "--key", key]).envs(settings.clone()).output().await.unwrap();
        (output.status.success(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
    };
    let (done, words) = verify(&shop.public).await;
    assert!(done && words.contains("archive verified"), "{words}");
    let restored = tempfile::tempdir().unwrap();
    let (done, words) = with_store(&["log", "copy", "--from", &format!("archive:{place}"), "--to", "postgres"], restored.path()).await;
    assert!(done && words.contains("book copied and verified"), "{words}");
    std::fs::remove_file(buckets.path().join("audit/books/shop/manifest.json")).unwrap();
    let (done, words) = verify(&shop.public).await;
    assert!(!done && words.contains("has no manifest.json: it is no archive, or not a whole one"), "{words}");
}

#[tokio::test]
async fn the_past_is_told_as_it_was_known_and_as_a_story() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await;
    up.post(&format!("{P}/purchases"), purchase("p1", "m1", "2010-03-01T12:00:00Z", "A", "100.00")).await;
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-10T12:00:00Z"})).await;
    // Of 2 March, told of on 10 March.
    let (_, late) = up.post(&format!("{P}/purchases"), purchase("p2", "m1", "2010-03-02T12:00:00Z", "A", "40.00")).await;
    for (query, pending) in [
        ("as_of=2010-03-05T00:00:00Z", 140),
        ("as_of=2010-03-05T00:00:00Z&known_at=2010-03-06T00:00:00Z", 100),
        ("as_of=2010-03-05T00:00:00Z&known_at=2010-03-11T00:00:00Z", 140),
        ("as_of=2010-03-01T18:00:00Z&known_at=2010-03-11T00:00:00Z", 100),
    ] {
        let told = up.read(&format!("{P}/accounts/m1/balance?{query}"), &late).await;
        assert_eq!(told["pending"], pending, "{query}");
    }
    let tier = up.read(&format!("{P}/accounts/m1/tier?as_of=2010-03-05T00:00:00Z&known_at=2010-03-06T00:00:00Z"), &late).await;
    assert_eq!((&tier["tier"], &tier["since"]), (&json!("member"), &Value::Null), "{tier}");
    // Of 3 March, told of on 10 March: enough for silver.
    let (_, reached) = up.post(&format!("{P}/purchases"), purchase("p3", "m2", "2010-03-03T12:00:00Z", "A", "1200.00")).await;
    for (query, name) in [
        ("as_of=2010-03-05T00:00:00Z", json!("silver")),
        ("as_of=2010-03-05T00:00:00Z&known_at=2010-03-10T12:00:00Z", json!("silver")),
        ("as_of=2010-03-05T00:00:00Z&known_at=2010-03-09T00:00:00Z", Value::Null),
        ("as_of=2010-03-02T00:00:00Z", Value::Null),
    ] {
        let told = up.read(&format!("{P}/accounts/m2/tier?{query}"), &reached).await;
        assert_eq!(told["tier"], name, "{query}: {told}");
    }
    for (query, owed) in [("as_of=2010-03-05&basis=effective", 1340), ("as_of=2010-03-05&basis=effective&known_on=2010-03-09", 100)] {
        let told = up.read(&format!("{P}/liability/trial-balance?{query}"), &reached).await;
        assert_eq!((&told["liability_points"], &told["sum"]), (&json!(owed), &json!(0)), "{query}: {told}");
    }
    let rolled = up.get(&format!("{P}/liability/roll-forward?from=2010-03-02&to=2010-03-05&basis=effective&known_on=2010-03-09")).await.1;
    assert_eq!((&rolled["total"]["opening"], &rolled["total"]["closing"]), (&json!(100), &json!(100)), "{rolled}");
    let statement = up.read(&format!("{P}/accounts/m1/statement?known_at=2010-03-06T00:00:00Z"), &late).await;
    assert!(statement["items"].as_array().unwrap().iter().all(|movement| movement["reference"] != "p2"), "{statement}");
    let (status, problem) = up.get(&format!("{P}/accounts/m1/balance?as_of=2010-03-05T00:00:00Z&known_at=2010-03-01T00:00:00Z")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("known_at")));
    up.stop().await;
    let story = run(&["audit", "explain", "shop/m1"], data.path()).await;
    assert!(story.contains("purchase p2 by local, booked 2010-03-10T12:00:00Z") && story.contains("then: 0 available, 140 pending"), "{story}");
    let nobody = refused(&["audit", "explain", "shop/nobody", "--data", text(data.path())]).await;
    assert!(nobody.contains("PROGRAM/ACCOUNT"), "{nobody}");
}

#[tokio::test]
async fn another_rulebook_is_tried_and_the_same_one_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    for (id, member, at, price) in [("p1", "m1", "01", "100.00"), ("p2", "m1", "02", "40.00"), ("p3", "m2", "03", "1200.00")] {
        let at = format!("2010-03-{at}T12:00:00Z");
        up.put(&format!("{P}/clock"), json!({"now": at})).await;
        assert_eq!(up.post(&format!("{P}/purchases"), purchase(id, member, &at, "A", price)).await.0, StatusCode::CREATED);
    }
    // All at one moment: too few, more than there is, then enough of them.
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-20T12:00:00Z"})).await;
    let redeem = async |id: &str, points: i64| up.post(&format!("{P}/redemptions"), json!({"redemption_id": id, "account_id": "m1", "points": points})).await.0;
    assert_eq!((redeem("r1", 50).await, redeem("r2", 200).await), (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNPROCESSABLE_ENTITY));
    let adjustment = json!({"adjustment_id": "a1", "account_id": "m1", "points": 100, "reason_code": "goodwill", "note": "late parcel"});
    assert_eq!(up.post(&format!("{P}/adjustments"), adjustment).await.0, StatusCode::CREATED);
    // Both sent again: one is still too few.
    assert_eq!((redeem("r1", 50).await, redeem("r2", 200).await), (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::CREATED));
    up.stop().await;

    let (file, csv) = (data.path().join("rules.json"), data.path().join("differences.csv"));
    let replayed = async |rules: Value| {
        std::fs::write(&file, rules.to_string()).unwrap();
        run(&["audit", "replay", "--rulebook", text(&file), "--since", "2010-03-02T00:00:00Z", "--csv", text(&csv)], data.path()).await
    };
    let same = replayed(rulebook()).await;
    assert!(same.contains("0 of 2 accounts would be different; points in all: 1240, would be 1240 (+0)"), "{same}");
    let mut generous = rulebook();
    generous["earn"]["base"]["points"] = json!("3");
    generous["redeem"] = json!({"minimum": 10, "value": {"points": 100, "amount": "2.00"}});
    generous["tiers"]["levels"][2]["at"] = json!(3000);
    let told = replayed(generous).await;
    for words in [
        "2 of 2 accounts would be different; points in all: 1240, would be 3670 (+2430)",
        "liability: 12.4 GBP, would be 73.4 GBP",
        "tiers: 1 gold instead of silver",
        "commands: 0 that were granted would be refused, 1 that were refused would be granted",
    ] {
        assert!(told.contains(words), "only the purchases since then are rated anew, and {words:?}: {told}");
    }
    let rows = || std::fs::read_to_string(&csv).unwrap().lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(rows(), ["m1,40,70,30,0.4,1.4,member,member,0,1", "m2,1200,3600,2400,12,72,silver,gold,0,0"]);
    // The larger one, granted the first time it was sent, is not granted again when it is sent again.
    let mut lavish = rulebook();
    (lavish["earn"]["base"]["points"], lavish["redeem"]["minimum"]) = (json!("5"), json!(10));
    replayed(lavish).await;
    assert_eq!(rows()[0], "m1,40,150,110,0.4,1.5,member,member,0,2");
}
