//! kill -9 in the middle: nothing is lost and nothing doubled.

use std::path::Path;

use crate::support::{Up, ask_again, insist, loyalty, postgres, purchase, rulebook, run};

const RETAIL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/online-retail/sample.csv.gz");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/demo-program.json");

/// How many records the book in `data` has, asked of its running Postgres.
async fn records(data: &Path) -> Option<i64> {
    let url = std::fs::read_to_string(data.join("postgres/postgres.url")).ok()?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.ok()?;
    let connection = tokio::spawn(connection);
    let count = client.query_one("SELECT count(*) FROM log.record", &[]).await.ok().map(|row| row.get(0));
    drop(client);
    let _ = connection.await;
    count
}

/// Every account's row of the read model, as text.
async fn balances(data: &Path) -> Vec<String> {
    let up = Up::start(data, &[]).await;
    let client = postgres(data).await;
    let sql = "SELECT (program, account, status, issued, pending, available, held, redeemed, expired, clawed_back, owed, shortfall, lifetime_earned)::text
               FROM balance.balance ORDER BY account";
    let rows = client.query(sql, &[]).await.unwrap();
    up.stop().await;
    rows.iter().map(|row| row.get(0)).collect()
}

fn import(rejected: &str) -> Vec<&str> {
    vec!["import", RETAIL, "--program", "shop", "--format", "online-retail", "--drive-clock", "--rejected", rejected]
}

#[tokio::test]
async fn an_import_that_is_killed_again_and_again_ends_as_one_that_was_not() {
    let (calm, stormy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rejected = |data: &Path| data.join("rejected.csv").to_str().unwrap().to_owned();
    for data in [calm.path(), stormy.path()] {
        run(&["program", "publish", RULES], data).await;
    }
    let ended = async |data: &Path| {
        let output = loyalty(&import(&rejected(data)), data).output().await.unwrap();
        assert_eq!(output.status.code(), Some(2), "some rows are not for the ledger: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ended(calm.path()).await;
    let mut killed = 0;
    for enough in [50, 400, 900, 1500] {
        let mut child = loyalty(&import(&rejected(stormy.path())), stormy.path()).spawn().unwrap();
        while child.try_wait().unwrap().is_none() && records(stormy.path()).await.unwrap_or(0) < enough {
            tokio::task::yield_now().await;
        }
        killed += i32::from(child.try_wait().unwrap().is_none());
        let _ = child.kill().await;
    }
    assert!(killed > 0, "at least one import was killed before its end");
    ended(stormy.path()).await;
    let again = ended(stormy.path()).await;
    assert!(again.contains(" 0 booked, ") && again.contains("; 0 commands booked"), "running it twice changes nothing: {again}");
    for data in [calm.path(), stormy.path()] {
        assert!(run(&["verify"], data).await.contains("book verified"));
    }
    let reasons = |data: &Path| std::fs::read_to_string(rejected(data)).unwrap().lines().count();
    assert_eq!(reasons(stormy.path()), reasons(calm.path()), "every rejected row is told once");
    assert_eq!(balances(stormy.path()).await, balances(calm.path()).await);
}

#[tokio::test]
async fn a_service_that_is_killed_under_load_keeps_what_it_acknowledged() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let (address, listen) = (up.address.clone(), up.address.trim_start_matches("http://").to_owned());
    let mut tills = tokio::task::JoinSet::new();
    for till in 0..8 {
        let address = address.clone();
        tills.spawn(async move {
            let mut answers = Vec::new();
            for n in 0..60 {
                let body = purchase(&format!("P{till}-{n}"), &format!("m{}", n % 7), "2010-01-01T00:00:00Z", "A", "10.00");
                answers.push((body.clone(), insist(&address, &body).await));
            }
            answers
        });
    }
    let mut up = up;
    for enough in [60, 200, 350] {
        while records(data.path()).await.unwrap_or(0) < enough {
            tokio::task::yield_now().await;
        }
        up.kill().await;
        up = Up::start(data.path(), &["--listen", &listen]).await;
    }
    assert_eq!(ask_again(&address, tills).await, 480, "the first answers again");
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified: 480 records"), "each once");
}

#[tokio::test]
async fn two_at_once_on_one_folder_do_not_collide() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let second = loyalty(&["up", "--listen", "127.0.0.1:0"], data.path()).output().await.unwrap();
    assert!(!second.status.success() && String::from_utf8_lossy(&second.stderr).contains("is in use by another process"));
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    for n in 0..20 {
        up.post("/v1/programs/shop/purchases", purchase(&format!("P{n}"), "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    }
    assert!(run(&["rebuild", "statement"], data.path()).await.contains("statement rebuilt from 20 records"), "beside the running service");
    let (_, answer) = up.post("/v1/programs/shop/purchases", purchase("P20", "m1", "2010-01-01T00:00:00Z", "A", "10.00")).await;
    let statement = up.read("/v1/programs/shop/accounts/m1/statement?limit=500", &answer).await;
    assert_eq!(statement["items"].as_array().unwrap().len(), 22, "opened, and 21 purchases");
    assert!(run(&["projectors"], data.path()).await.contains("statement"));
    up.stop().await;
}

/// Runs one of Postgres' own programs, which come with its client.
async fn postgres_program(name: &str, arguments: &[&str]) {
    let program = embedded_postgres::find_or_fetch().await.unwrap().join(name);
    assert!(program.exists(), "{name} is not beside the server: apt-get install postgresql");
    let output = tokio::process::Command::new(program).args(arguments).output().await.unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The backup has less than the state store beside the service, which outlived the database.
#[tokio::test]
async fn a_backup_of_postgres_restores_what_it_has_and_the_rest_is_booked_when_it_is_sent_again() {
    let data = tempfile::tempdir().unwrap();
    let url = embedded_postgres::testing::database("backed_up").await;
    let backup = data.path().join("backup");
    let bodies: Vec<_> = (0..12).map(|n| purchase(&format!("P{n}"), &format!("m{}", n % 3), "2010-01-01T00:00:00Z", "A", "10.00")).collect();
    let key = data.path().join("audit.key");
    crate::audit::said(&["audit", "key", "test.example/book", "--file", key.to_str().unwrap()]).await;
    let sealed = ["--audit-key", key.to_str().unwrap()];
    let up = Up::start(data.path(), &["--database-url", &url, sealed[0], sealed[1]]).await;
    up.put("/v1/programs/shop/rulebook", rulebook()).await;
    let mut first = Vec::new();
    for (n, body) in bodies.iter().enumerate() {
        if n == 7 {
            postgres_program("pg_dump", &["--format=custom", "--file", backup.to_str().unwrap(), &url]).await;
        }
        first.push(insist(&up.address, body).await);
    }
    up.stop().await;

    let restored = embedded_postgres::testing::database("from_backup").await;
    postgres_program("pg_restore", &["--dbname", &restored, "--no-owner", backup.to_str().unwrap()]).await;
    // What was signed about the lost records can't be taken back: nothing more is signed beside it.
    let again = ["up", "--listen", "127.0.0.1:0", "--database-url", &restored, sealed[0], sealed[1]];
    let refused = loyalty(&again, data.path()).output().await.unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("the log is not the one that was sealed in") && why.contains("--seal NEW"), "{why}");
    let anew = data.path().join("seal-anew");
    let up = Up::start(data.path(), &["--database-url", &restored, sealed[0], sealed[1], "--seal", anew.to_str().unwrap()]).await;
    for (n, (body, first)) in bodies.iter().zip(&first).enumerate() {
        let (status, again) = up.post("/v1/programs/shop/purchases", body.clone()).await;
        assert_eq!(status.as_u16(), if n < 7 { 200 } else { 201 }, "{again}");
        assert_eq!((&again["points"], &again["account_seq"]), (&first["points"], &first["account_seq"]), "{n}");
        let account = up.read(&format!("/v1/programs/shop/accounts/m{}", n % 3), &again).await;
        assert_eq!(account["balance"]["pending"], if n < 7 { [30, 20, 20][n % 3] } else { 10 * (n / 3 + 1) }, "{n}: {account}");
    }
    up.stop().await;
    assert!(run(&["verify", "--database-url", &restored], data.path()).await.contains("book verified: 12 records"));
}
