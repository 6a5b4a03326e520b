//! The book as Parquet, read back by DuckDB.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Up, purchase, rulebook, run};

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

#[tokio::test]
async fn duckdb_reads_what_was_exported_and_an_export_goes_on_where_it_was() {
    let (data, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let up = Up::start(data.path(), &[]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await;
    up.post(&format!("{P}/purchases"), purchase("p1", "m1", "2010-03-01T12:00:00Z", "A", "100.25")).await;
    let out = folder.path().to_str().unwrap();
    assert!(run(&["export", out], data.path()).await.contains("1 records exported"));
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
