//! From a purchase to the case that it opens, at a steady rate over REST: receipts that come twice, on two accounts.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use api::real_now;
use event_log::postgres::connect;
use tokio::process::{Child, Command};

use super::kafka::latency::{open_loop, percentiles};
use super::workload::{RULEBOOK, key};
use super::{Figure, listening};

const RATE: u32 = 500;
const ACCOUNTS: u64 = 10_000;
/// One in so many purchases has the receipt of the one before it.
const TWIN: u64 = 25;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the last ones are waited for.
const PATIENCE: Duration = Duration::from_secs(20);

type Started = Arc<Mutex<HashMap<String, Instant>>>;

/// A `loyalty up` that runs until this is dropped.
pub struct Site {
    // Ends before its database.
    _up: Child,
    postgres: embedded_postgres::Server,
    /// Where it listens.
    pub address: String,
}

impl Site {
    /// Its database.
    pub fn database(&self) -> &str {
        self.postgres.url()
    }
}

/// Starts `loyalty up` on a Postgres of its own in `folder`.
pub async fn start(folder: &Path) -> anyhow::Result<Site> {
    let postgres = embedded_postgres::Server::start(&folder.join("postgres")).await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["up", "--listen", "127.0.0.1:0", "--database-url", postgres.url(), "--data"]).arg(folder.join("up"));
    let (up, address) = listening(command).await?;
    Ok(Site { postgres, _up: up, address })
}

/// Measures in `folder`.
pub async fn run(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let site = start(folder).await?;
    let address = &site.address;
    let client = reqwest::Client::new();
    client.put(format!("{address}/v1/programs/bench/rulebook")).body(RULEBOOK).send().await?.error_for_status()?;
    let started = Started::default();
    let watching = tokio::spawn(watch(site.database().to_owned(), Arc::clone(&started)));
    let (url, counted): (Arc<str>, _) = (format!("{address}/v1/programs/bench/purchases").into(), Arc::clone(&started));
    let send = move |n: u64, counts: Option<Instant>| {
        let (client, url, counted) = (client.clone(), Arc::clone(&url), Arc::clone(&counted));
        async move {
            let is_twin = n % TWIN == TWIN - 1;
            let receipt = format!("p{}", if is_twin { n - 1 } else { n });
            if let Some(due) = counts.filter(|_| is_twin) {
                counted.lock().unwrap_or_else(PoisonError::into_inner).insert(receipt.clone(), due);
            }
            let body = serde_json::json!({"purchase_id": receipt, "account_id": key(n, ACCOUNTS).account, "occurred_at": real_now().to_string(),
                "currency": "GBP", "channel": "web", "store": "s17",
                "lines": [{"line_id": "1", "sku": "85123A", "category": "decoration", "quantity": 1, "unit_price": "12.50"}]});
            if let Err(error) = client.post(&*url).json(&body).send().await.and_then(reqwest::Response::error_for_status) {
                eprintln!("not answered: {error}");
            }
        }
    };
    open_loop(RATE, send).await?;
    let (cases, signals) = tokio::time::timeout(PATIENCE, watching).await.context("some cases were never opened")???;
    let ((p50, p99), (signal_p50, signal_p99)) = (percentiles(cases)?, percentiles(signals)?);
    Ok(vec![
        Figure::new(&format!("from a purchase to the case that it opens, {RATE} purchases/s over REST: p50"), format!("{p50:.1?}"), ""),
        Figure::new("  p99", format!("{p99:.1?}"), "1 s"),
        Figure::new("  of that, until the read model has it: p50, p99", format!("{signal_p50:.1?}, {signal_p99:.1?}"), ""),
    ])
}

/// How long each took.
type Times = Vec<Duration>;

/// Sees cases come until all that are waited for have, once there were any; and when their signals came.
async fn watch(url: String, started: Started) -> anyhow::Result<(Times, Times)> {
    let client = connect(&url, "analysis").await?;
    let (mut times, mut last_news) = (Vec::new(), Instant::now());
    let (mut signals, mut has_signal) = (Vec::new(), HashSet::new());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let sql = "SELECT subject FROM fraud_case WHERE rule = 'same_receipt' AND opened_at > now() - interval '1 minute'";
        let seen = client.query(sql, &[]).await?;
        let twins = "SELECT reference FROM fraud.signal WHERE program = 'bench' AND reference = ANY($1) GROUP BY 1 HAVING count(*) = 2";
        let wanted: Vec<String> = {
            let waiting = started.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.keys().filter(|receipt| !has_signal.contains(*receipt)).cloned().collect()
        };
        let twins = client.query(twins, &[&wanted]).await?;
        let mut waiting = started.lock().unwrap_or_else(PoisonError::into_inner);
        for receipt in twins.iter().map(|row| row.get::<_, String>(0)) {
            signals.extend(waiting.get(&receipt).map(Instant::elapsed));
            has_signal.insert(receipt);
        }
        let before = times.len();
        times.extend(seen.iter().filter_map(|row| waiting.remove(row.get::<_, &str>(0))).map(|due| due.elapsed()));
        if times.len() > before {
            last_news = Instant::now();
        }
        if waiting.is_empty() && !times.is_empty() && last_news.elapsed() > Duration::from_secs(2) {
            return Ok((times, signals));
        }
    }
}
