//! The book as Parquet, read back by DuckDB.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Up, postgres, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";

/// Python with DuckDB, in a folder of its own under target/.
fn duckdb() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("duckdb");
    let python = folder.join("bin/python");
    if !folder.join("ready").exists() {
        let made = |command: &mut Command, install: &str| {
            let outcome = command.output();
            assert!(outcome.as_ref().is_ok_and(|output| output.status.success()), "{outcome:?}: {install}");
        };
        made(Command::new("python3").args(["-m", "venv"]).arg(&folder), "the test needs Python 3: apt-get install python3-venv");
        made(Command::new(&python).args(["-m", "pip", "install", "--quiet", "duckdb==1.4.1"]), "the test fetches DuckDB by pip");
        std::fs::write(folder.join("ready"), "").unwrap();
    }
    python
}

fn ask(sql: &str) -> String {
    let script = "import duckdb, sys; print(duckdb.sql(sys.argv[1]).fetchall())";
    let output = Command::new(duckdb()).args(["-c", script, sql]).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until the read model that knows what was paid has `records`.
async fn caught_up(data: &Path, records: i64) {
    let client = postgres(data).await;
    while client.query_one("SELECT coalesce(sum(position), 0)::bigint FROM clv.checkpoint", &[]).await.unwrap().get::<_, i64>(0) < records {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn duckdb_reads_what_was_exported_and_an_export_goes_on_where_it_was() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = Up::start(data.path(), &[]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await;
    up.post(&format!("{P}/purchases"), purchase("p1", "m1", "2010-03-01T12:00:00Z", "A", "100.25")).await;
    caught_up(data.path(), 1).await;
    let out = folder.path().to_str().unwrap();
    assert!(run(&["export", out], data.path()).await.contains("1 records exported and 0 refused commands"));
    // Files of a run that broke off are not counted twice.
    let stale = folder.path().join("movement/day=2010-02-01");
    std::fs::create_dir_all(&stale).unwrap();
    std::fs::copy(folder.path().join("movement/day=2010-03-01/run-000001.parquet"), stale.join("run-000002.parquet")).unwrap();
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-20T12:00:00Z"})).await;
    up.post(&format!("{P}/purchases"), purchase("p2", "m2", "2010-03-20T12:00:00Z", "B", "39.996")).await;
    up.stop().await;
    let again = run(&["export", out], data.path()).await;
    assert!(again.contains("2 records exported"), "the purchase, and what matured by the clock: {again}");
    assert!(run(&["export", out], data.path()).await.contains("0 records exported"));

    let movement = format!("'{out}/movement/*/*.parquet'");
    assert_eq!(ask(&format!("SELECT sum(points)::BIGINT, count(DISTINCT command_id) FROM {movement}")), "[(0, 3)]", "postings sum to zero");
    let balances = format!(
        "SELECT account_id, bucket, sum(points)::BIGINT FROM {movement} WHERE bucket IN ('available', 'pending') GROUP BY ALL HAVING sum(points) > 0 ORDER BY 1"
    );
    assert_eq!(ask(&balances), "[('m1', 'available', 100), ('m2', 'pending', 40)]");
    let days = format!("SELECT DISTINCT day::VARCHAR, recorded_at AT TIME ZONE 'UTC' = TIMESTAMP '2010-03-01 12:00:00' FROM {movement} ORDER BY 1");
    assert_eq!(ask(&days), "[('2010-03-01', True), ('2010-03-20', False)]");
    let lines = format!("SELECT sku, quantity::VARCHAR, unit_price::VARCHAR, amount::VARCHAR, points FROM '{out}/purchase_line/*/*.parquet' ORDER BY 1");
    assert_eq!(ask(&lines), "[('A', '1.000000', '100.250000', '100.250000', 100), ('B', '1.000000', '39.996000', '40.000000', 40)]");
}

/// Purchases and returns of weighed goods, in parts, by lines and by money.
async fn buy_and_give_back(up: &Up) {
    let line = |id: &str, quantity: &str, price: &str, discount: &str| json!({"line_id": id, "sku": id, "category": "c", "quantity": quantity, "unit_price": price, "discount": discount});
    let buy = async |id: &str, account: &str, lines: Value| {
        let body = json!({"purchase_id": id, "account_id": account, "occurred_at": "2010-03-01T12:00:00Z", "currency": "GBP", "channel": "web", "store": "", "lines": lines});
        let (status, answer) = up.post(&format!("{P}/purchases"), body).await;
        assert!(status.is_success(), "{answer}");
    };
    buy("p1", "m1", json!([line("1", "0.333", "9.990000", "0"), line("2", "7", "10.00", "1.00")])).await;
    buy("p2", "m1", json!([line("1", "1", "80.00", "0")])).await;
    buy("p3", "m2", json!([line("1", "3", "1.00", "1.00")])).await;
    let give = async |id: &str, account: &str, purchase: &str, what: Value| {
        let mut body = json!({"return_id": id, "account_id": account, "purchase_id": purchase, "occurred_at": "2010-03-02T12:00:00Z"});
        body.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        let (status, answer) = up.post(&format!("{P}/returns"), body).await;
        assert!(status.is_success(), "{answer}");
    };
    for (id, quantity) in [("r1", "1"), ("r2", "2")] {
        give(id, "m1", "p1", json!({"lines": [{"line_id": "2", "quantity": quantity}]})).await;
    }
    give("r3", "m1", "p2", json!({"amount": "30.00"})).await;
    give("r4", "m2", "p3", json!({"lines": [{"line_id": "1", "quantity": "1"}]})).await;
    // Money given back for purchases that the book does not have, also to one who has bought nothing on it.
    for (id, account, amount) in [("f1", "m1", "2.50"), ("f2", "m3", "1.00")] {
        let body = json!({"refund_id": id, "account_id": account, "occurred_at": "2010-03-02T12:00:00Z", "amount": amount, "reference": format!("old {id}")});
        let (status, answer) = up.post(&format!("{P}/refunds"), body).await;
        assert!(status.is_success(), "{answer}");
    }
    let (status, _) = up.post(&format!("{P}/redemptions"), json!({"redemption_id": "no", "account_id": "m2", "points": 90_000})).await;
    assert_eq!(status, reqwest::StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn net_spend_refusals_scores_and_standings_can_be_had_from_the_files() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = Up::start(data.path(), &[]).await;
    let mut rules = rulebook();
    rules["return"] = json!({"unmatched": "reduce_spend"});
    up.put(&format!("{P}/rulebook"), rules).await;
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-02T12:00:00Z"})).await;
    buy_and_give_back(&up).await;
    let client = postgres(data.path()).await;
    caught_up(data.path(), client.query_one("SELECT count(*) FROM log.record", &[]).await.unwrap().get(0)).await;
    let score = "INSERT INTO analysis.score VALUES ('shop', 'm1', '2010-03-02', 3, 'regular', 5, 4, 3, 0.5, 1.5, 20.25, 30.5)";
    let standing = "INSERT INTO analysis.standing (program, account, as_of, state, falls, leaves, value_at_stake, recency_days, orders, reasons)
                    VALUES ('shop', 'm1', '2010-03-02', 'fallen', 0.75, 0.25, 40, 1, 2, '{a,b}')";
    client.batch_execute(&format!("{score};{standing}")).await.unwrap();
    let out = folder.path().to_str().unwrap();
    let said = run(&["export", out], data.path()).await;
    assert!(said.contains("and 1 refused commands"), "{said}");

    // As docs/insight.md says: what was paid, less what was given back, by returns and by refunds.
    let net = format!(
        "SELECT account_id, sum(amount)::DECIMAL(18,6)::VARCHAR FROM (
             SELECT account_id, spend AS amount FROM '{out}/purchase_line/*/*.parquet'
             UNION ALL SELECT account_id, -amount FROM '{out}/return/*/*.parquet'
             UNION ALL SELECT account_id, -amount FROM '{out}/refund/*/*.parquet') GROUP BY 1 ORDER BY 1"
    );
    let sql = "SELECT account, spend::numeric(18,6)::text FROM clv.member ORDER BY 1";
    let wanted: Vec<String> =
        client.query(sql, &[]).await.unwrap().iter().map(|row| format!("('{}', '{}')", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect();
    assert!(wanted.len() == 3 && wanted[2] == "('m3', '-1.000000')", "{wanted:?}");
    assert_eq!(ask(&net), format!("[{}]", wanted.join(", ")));
    let refunds = format!("SELECT refund_id, account_id, reference, day::VARCHAR, amount::DECIMAL(18,2)::VARCHAR FROM '{out}/refund/*/*.parquet' ORDER BY 1");
    assert_eq!(ask(&refunds), "[('f1', 'm1', 'old f1', '2010-03-02', '2.50'), ('f2', 'm3', 'old f2', '2010-03-02', '1.00')]");
    let lines = format!("SELECT return_id, quantity::VARCHAR FROM '{out}/return_line/*/*.parquet' ORDER BY 1");
    assert_eq!(ask(&lines), "[('r1', '1.000000'), ('r2', '2.000000'), ('r4', '1.000000')]");
    assert_eq!(ask(&format!("SELECT account_id, command_id, code FROM '{out}/refusal/*/*.parquet'")), "[('m2', 'no', 'insufficient_points')]");
    let scores = format!("SELECT day::VARCHAR, account_id, rung, fit_version, recency_score, alive, lifetime_value FROM '{out}/score/*/*.parquet'");
    assert_eq!(ask(&scores), "[('2010-03-02', 'm1', 'regular', 3, 5, 0.5, 30.5)]");
    let standings = format!("SELECT day::VARCHAR, account_id, state, reasons, falls, value_at_stake FROM '{out}/standing/*/*.parquet'");
    assert_eq!(ask(&standings), "[('2010-03-02', 'm1', 'fallen', 'a; b', 0.75, 40.0)]");
    up.stop().await;
}
