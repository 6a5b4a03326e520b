//! Commands through the Postgres log, in process, beside bare batched inserts of the same rows and the usual way: one SQL function with
//! a row lock, one transaction a command.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::real_now;
use command_service::{Service, ServiceConfig};
use event_log::EventLog;
use event_log::postgres::{PostgresLog, SCHEMA, connect};

use super::workload::{RULEBOOK, earn, key, mixed};
use super::{Figure, rate, ratio, service_config};

pub const ACCOUNTS: u64 = 100_000;
pub const COMMANDS: u64 = 500_000;
/// As many records as the service has in a group under load.
pub const BARE_BATCH: usize = 8192;
const USUAL_CLIENTS: u64 = 8;
const USUAL_TIME: Duration = Duration::from_secs(5);

/// Measures in the database at `url`; leaves the log there for the projector's measurement.
pub async fn run(url: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let log: Arc<dyn EventLog> = Arc::new(PostgresLog::open(url, 8, None).await?);
    let ours = service(&log, folder, 0).await?;
    let bare = bare_inserts(url).await?;
    let usual = usual_way(url).await?;
    let (to_bare, to_usual) = (ratio(ours, bare), ratio(ours, usual));
    Ok(vec![
        Figure::new("commands through the Postgres log, 100,000 accounts, 80 % earn / 20 % redeem", format!("{ours:.0}/s"), ""),
        Figure::new("  to bare batched inserts of the same rows", format!("{to_bare:.2} of {bare:.0}/s"), "0.5"),
        Figure::new("  to one SQL function, a row lock, a transaction a command, 8 clients", format!("{to_usual:.1} × {usual:.0}/s"), "4 ×"),
    ])
}

/// Commands through `log`, in process, after `warm` that are not counted; the state store goes into `folder`.
pub async fn service(log: &Arc<dyn EventLog>, folder: &Path, warm: u64) -> anyhow::Result<f64> {
    let config = ServiceConfig { queue_max: 20_000, ..service_config(folder.join("state")) };
    let (service, running) = Service::start(Arc::clone(log), config, Arc::new(real_now)).await?;
    service.publish(key(0, 1).program, RULEBOOK.into(), "bench".into()).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let (source, outcomes) = service.source();
    let counter = tokio::spawn(count(outcomes));
    let at = real_now();
    // Every account has something to redeem before the clock runs.
    for n in 0..ACCOUNTS {
        let mut key = key(0, 1);
        key.account = ledger_core::id::Id::parse(&format!("m{n}"))?;
        source.send(n + 1, key, earn(10_000_000 + n, at)).await;
    }
    for n in 0..warm {
        source.send(ACCOUNTS + n + 1, key(n, ACCOUNTS), mixed(n, at)).await;
    }
    service.flush().await;
    let commands: Vec<_> = (warm..warm + COMMANDS).map(|n| (key(n, ACCOUNTS), mixed(n, at))).collect();
    let begin = Instant::now();
    for (n, (key, command)) in (ACCOUNTS + warm..).zip(commands) {
        source.send(n + 1, key, command).await;
    }
    service.flush().await;
    let seconds = begin.elapsed().as_secs_f64();
    drop(source);
    let accepted = counter.await?;
    let sent = ACCOUNTS + warm + COMMANDS;
    anyhow::ensure!(accepted == sent, "{accepted} of {sent} commands were accepted");
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await??;
    Ok(rate(COMMANDS, seconds))
}

async fn count(mut outcomes: command_service::Outcomes) -> u64 {
    let mut accepted = 0;
    while let Some((_, outcome)) = outcomes.recv().await {
        accepted += u64::from(outcome.is_ok());
    }
    accepted
}

async fn bare_inserts(url: &str) -> anyhow::Result<f64> {
    let client = connect(url, SCHEMA).await?;
    let rows =
        client.query("SELECT partition, account, account_seq, body FROM record ORDER BY account_seq, partition LIMIT $1", &[&i64::try_from(COMMANDS)?]).await?;
    let rows: Vec<(i16, String, i64, Vec<u8>)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    client.batch_execute("CREATE TABLE bare (LIKE record INCLUDING ALL); ALTER TABLE bare ALTER COLUMN body SET STORAGE EXTERNAL").await?;
    let sql = "INSERT INTO bare (partition, position, account, account_seq, body) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[])";
    let statement = client.prepare(sql).await?;
    let begin = Instant::now();
    let mut position = 0_i64;
    for batch in rows.chunks(BARE_BATCH) {
        let partitions: Vec<i16> = batch.iter().map(|row| row.0).collect();
        let positions: Vec<i64> = (position..).take(batch.len()).collect();
        position += i64::try_from(batch.len())?;
        let accounts: Vec<&str> = batch.iter().map(|row| row.1.as_str()).collect();
        let seqs: Vec<i64> = batch.iter().map(|row| row.2).collect();
        let bodies: Vec<&[u8]> = batch.iter().map(|row| row.3.as_slice()).collect();
        client.execute(&statement, &[&partitions, &positions, &accounts, &seqs, &bodies]).await?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    client.batch_execute("DROP TABLE bare").await?;
    Ok(rate(rows.len() as u64, seconds))
}

const USUAL: &str = "
CREATE SCHEMA usual;
CREATE TABLE usual.account (account text PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE usual.entry (id bigserial PRIMARY KEY, command text NOT NULL UNIQUE, account text NOT NULL, points bigint NOT NULL, at timestamptz NOT NULL DEFAULT now());
INSERT INTO usual.account SELECT 'm' || n, 100 FROM generate_series(0, 99999) n;
CREATE FUNCTION usual.move(in_command text, in_account text, in_points bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE now_has bigint;
BEGIN
    SELECT balance INTO now_has FROM usual.account WHERE account = in_account FOR UPDATE;
    IF now_has + in_points < 0 THEN RAISE EXCEPTION 'insufficient'; END IF;
    INSERT INTO usual.entry (command, account, points) VALUES (in_command, in_account, in_points);
    UPDATE usual.account SET balance = balance + in_points WHERE account = in_account;
    RETURN now_has + in_points;
END $$;";

async fn usual_way(url: &str) -> anyhow::Result<f64> {
    connect(url, "public").await?.batch_execute(USUAL).await?;
    let begin = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client_number in 0..USUAL_CLIENTS {
        let url = url.to_owned();
        clients.spawn(async move {
            let client = connect(&url, "usual").await?;
            let statement = client.prepare("SELECT usual.move($1, $2, $3)").await?;
            let mut done = 0_u64;
            while begin.elapsed() < USUAL_TIME {
                let n = done * USUAL_CLIENTS + client_number;
                let points = if n % 5 == 4 { -1_i64 } else { 50 };
                let account = key(n, ACCOUNTS).account.to_string();
                client.query_one(&statement, &[&format!("c{n}"), &account, &points]).await?;
                done += 1;
            }
            Ok::<u64, tokio_postgres::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = clients.join_next().await {
        done += client??;
    }
    Ok(rate(done, begin.elapsed().as_secs_f64()))
}
