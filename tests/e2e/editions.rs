//! A book that an older release wrote: verified, refused, upgraded, served, and what its members are due.

use std::path::{Path, PathBuf};

use reqwest::StatusCode;
use serde_json::json;

use crate::audit::said;
use crate::support::{Up, loyalty, run};

fn book() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/books/edition-1")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A line of the CSV of a replay, by column.
fn row(csv: &str, account: &str) -> Option<(i64, i64)> {
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let columns = rows.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap_or_else(|| panic!("no column {name} in {columns:?}"));
    let (is, would_be) = (column("points"), column("points_would_be"));
    let found = rows.records().map(Result::unwrap).find(|row| &row[column("account_id")] == account);
    found.map(|row| (row[is].parse().unwrap(), row[would_be].parse().unwrap()))
}

#[tokio::test]
async fn an_older_releases_book_verifies_but_for_its_decisions() {
    let key = book().with_extension("pub");
    let told = said(&["audit", "verify", text(&book()), "--key", text(&key)]).await;
    assert!(told.contains("archive verified: 30 records of 10 accounts, 3 refused commands"), "{told}");
    assert!(told.contains("0 decisions were made again and are the same"), "{told}");
    assert!(told.contains("not decided again: 30 records of edition 1; release 0.1 can do that"), "{told}");
}

#[tokio::test]
async fn an_older_releases_book_is_refused_until_it_is_upgraded_then_goes_on() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = format!("archive:{}", text(&book()));
    run(&["log", "copy", "--from", &from, "--to", "postgres"], data.path()).await;
    let refused = loyalty(&["up", "--listen", "127.0.0.1:0"], data.path()).output().await.unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("decided by edition 1 (release 0.1)") && why.contains("`loyalty upgrade`"), "{why}");

    let upgraded = run(&["upgrade"], data.path()).await;
    assert!(upgraded.contains("was decided by edition 1; from here on it is decided by edition 2"), "{upgraded}");
    assert!(run(&["upgrade"], data.path()).await.contains("nothing to do"));

    let key = files.path().join("audit.key");
    let public = said(&["audit", "key", "test.example/book", "--file", text(&key)]).await.trim().to_owned();
    let up = Up::start(data.path(), &["--audit-key", text(&key), "--seal-seconds", "1"]).await;
    // What was bought by edition 1 comes back by edition 2: what a lower cap had given nothing for takes nothing more.
    let back = json!({"return_id": "r0", "account_id": "same", "purchase_id": "p1", "occurred_at": "2026-02-01T00:00:00Z", "lines": [{"line_id": "1", "quantity": "1"}]});
    let (status, answer) = up.post("/v1/programs/caps/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(up.read("/v1/programs/caps/accounts/same", &answer).await["balance"]["available"], 4000);
    // A hold of before is captured.
    let (status, answer) = up.post("/v1/programs/open/redemptions/h/capture", json!({"account_id": "busy"})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(answer["events"][0]["value"], "0.40", "{answer}");
    up.stop().await;

    assert!(run(&["verify"], data.path()).await.contains("verified"));
    let archive = files.path().join("archive");
    run(&["audit", "export", text(&archive)], data.path()).await;
    let told = said(&["audit", "verify", text(&archive), "--key", &public]).await;
    assert!(told.contains("not decided again: 30 records of edition 1"), "{told}");
    assert!(!told.contains(" 0 decisions were made again"), "{told}");
}

#[tokio::test]
async fn a_replay_proposes_what_members_are_due_from_an_older_edition() {
    let files = tempfile::tempdir().unwrap();
    let due = async |program: &str| {
        let csv = files.path().join(format!("{program}.csv"));
        said(&["audit", "replay", "--edition-of", program, "--archive", text(&book()), "--csv", text(&csv)]).await;
        std::fs::read_to_string(csv).unwrap()
    };
    let caps = due("caps").await;
    assert_eq!(row(&caps, "lowered"), Some((5000, 8000)), "{caps}");
    assert_eq!(row(&caps, "same"), None, "{caps}");
    let goods = due("goods").await;
    for (account, is, would_be) in [("quantity", 50, 10), ("rounding", 746, 0), ("shipping", 40, 0), ("weighed", 0, 1)] {
        assert_eq!(row(&goods, account), Some((is, would_be)), "{account}: {goods}");
    }
}
