//! Answer times, open loop: a command's time counts from when it should have been sent.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use api::real_now;
use command_service::{Service, ServiceConfig, Share};
use event_log::EventLog;
use event_log::kafka::KafkaLog;
use ledger_schemas::{Ask, Record, What};
use tokio::process::{Child, Command};

use super::bare::{self, make_topic};
use super::topics::{self, Till};
use crate::bench::workload::{RULEBOOK, earn, key};
use crate::bench::{Figure, listening, ratio, service_config};

const LONG: Duration = Duration::from_secs(15);
/// The first seconds are not counted: connections and caches are made then, and the broker compiles what it finds hot.
const WARM: Duration = Duration::from_secs(30);
const REST_RATE: u32 = 200;

/// Measures over REST, with the account here and elsewhere, beside the bare commit.
pub async fn over_rest(brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let (topic, to) = (format!("{prefix}.single"), brokers.to_owned());
    make_topic(brokers, &topic).await?;
    let single = tokio::task::spawn_blocking(move || bare::single(&to, &topic)).await??;
    let postgres = embedded_postgres::Server::start(&folder.join("postgres")).await?;
    let site = Site { brokers, prefix: format!("{prefix}.rest"), database: postgres.url(), folder };
    let whole = site.serve(&["up", "--without-projectors"], "whole").await?;
    let here = rest(&whole.1).await?;
    drop(whole);
    let (_decides, api) = (site.serve(&["serve", "command-service"], "decides").await?, site.serve(&["serve", "api"], "api").await?);
    let elsewhere = rest(&api.1).await?;
    let to_single = ratio(here.0.as_secs_f64(), single.as_secs_f64());
    Ok(vec![
        Figure::new("one record a transaction, bare: p50", format!("{single:.1?}"), ""),
        Figure::new(&format!("REST, {REST_RATE} commands/s, `loyalty up`: p50"), format!("{:.1?}, {to_single:.1} × the bare commit", here.0), "4 ×"),
        Figure::new("  p99", format!("{:.1?}", here.1), "100 ms"),
        Figure::new("  the same through `serve api`, decided in another process: p50, p99", format!("{:.1?}, {:.1?}", elsewhere.0, elsewhere.1), ""),
    ])
}

/// Measures over the topics.
pub async fn over_topics(brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let (p50, p99) = through_topics(brokers, &format!("{prefix}.topics"), folder).await?;
    Ok(vec![
        Figure::new(&format!("over the topics, {} commands/s, command to committed event: p50", topics::RATE), format!("{p50:.1?}"), "half of Kafka Streams'"),
        Figure::new("  p99", format!("{p99:.1?}"), "half of Kafka Streams'"),
    ])
}

/// Where processes of the binary run.
pub struct Site<'a> {
    /// The broker.
    pub brokers: &'a str,
    /// Of the topics.
    pub prefix: String,
    /// The Postgres.
    pub database: &'a str,
    /// For their data.
    pub folder: &'a Path,
}

impl Site<'_> {
    /// Starts a part and waits until it listens; tells where.
    pub async fn serve(&self, part: &[&str], name: &str) -> anyhow::Result<(Child, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(part).args(["--listen", "127.0.0.1:0", "--kafka", self.brokers, "--kafka-prefix", &self.prefix, "--kafka-session-seconds", "6"]);
        command.args(["--database-url", self.database, "--data"]).arg(self.folder.join(name));
        listening(command).await
    }
}

/// The median and the 99th percentile.
pub fn percentiles(mut times: Vec<Duration>) -> anyhow::Result<(Duration, Duration)> {
    times.sort();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied().context("nothing was answered");
    Ok((at(50)?, at(99)?))
}

/// Calls `send` at `rate` a second for as long as it is measured, with the time from which each counts; none for those not counted.
pub async fn open_loop<F: Future<Output = ()> + Send + 'static>(rate: u32, send: impl Fn(u64, Option<Instant>) -> F) -> anyhow::Result<()> {
    let begin = Instant::now() + Duration::from_millis(100);
    let mut sent = tokio::task::JoinSet::new();
    for n in 0..u64::from(rate) * (WARM + LONG).as_secs() {
        let due = begin + Duration::from_micros(n * 1_000_000 / u64::from(rate));
        tokio::time::sleep_until(due.into()).await;
        sent.spawn(send(n, Some(due).filter(|due| *due >= begin + WARM)));
        while sent.try_join_next().is_some() {}
    }
    while let Some(outcome) = sent.join_next().await {
        outcome?;
    }
    Ok(())
}

async fn rest(address: &str) -> anyhow::Result<(Duration, Duration)> {
    let client = reqwest::Client::new();
    client.put(format!("{address}/v1/programs/bench/rulebook")).body(RULEBOOK).send().await?.error_for_status()?;
    let url: Arc<str> = format!("{address}/v1/programs/bench/purchases").into();
    let times = Arc::new(Mutex::new(Vec::new()));
    let unique = real_now().as_micros();
    let send = |n: u64, counts: Option<Instant>| {
        let (client, url, times) = (client.clone(), Arc::clone(&url), Arc::clone(&times));
        async move {
            let body = serde_json::json!({"purchase_id": format!("{unique}-{n}"), "account_id": key(n, topics::ACCOUNTS).account, "occurred_at": real_now().to_string(),
                "currency": "GBP", "channel": "store", "store": "s17",
                "lines": [{"line_id": "1", "sku": "85123A", "category": "decoration", "quantity": 1, "unit_price": "12.50"}]});
            let answered = client.post(&*url).json(&body).send().await.and_then(reqwest::Response::error_for_status);
            match (answered, counts) {
                (Err(error), _) => eprintln!("not answered: {error}"),
                (Ok(_), Some(due)) => times.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed()),
                (Ok(_), None) => {}
            }
        }
    };
    open_loop(REST_RATE, send).await?;
    percentiles(std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner)))
}

async fn through_topics(brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<(Duration, Duration)> {
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::open(super::options(brokers, prefix), super::PARTITIONS, None).await?);
    let state = folder.join("topics");
    std::fs::create_dir_all(&state)?;
    let config = ServiceConfig { share: Share::Follows, answer_within: Duration::from_secs(30), ..service_config(state) };
    let (service, running) = Service::start(Arc::clone(&log), config, Arc::new(real_now)).await?;
    service.publish(key(0, 1).program, RULEBOOK.into(), "bench".into()).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let make = |n| {
        let (key, command) = (key(n, topics::ACCOUNTS), earn(n, real_now()));
        let (account, id) = (key.to_string(), command.id.to_string());
        (account, id, Ask { program_entries: 0, what: What::Command(key, command) }.encode())
    };
    let times = topics::answer_times(Till::open(brokers, prefix)?, make, |event| Ok(Record::decode(event)?.command_id.to_string())).await?;
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await??;
    Ok(times)
}
