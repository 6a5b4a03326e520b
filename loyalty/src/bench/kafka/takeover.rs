//! A command service dies: how long until the other one answers for its accounts, beyond the time after which the group calls it dead.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use event_log::{Asker, EventLog, Partition, partition_of};
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::Id;
use ledger_schemas::{Ask, What};

use super::PARTITIONS;
use super::latency::Site;
use crate::bench::workload::key;

/// As the services are told.
const SESSION: Duration = Duration::from_secs(6);
/// How long it is watched after the kill.
const WATCHED: Duration = Duration::from_secs(14);
const EVERY: Duration = Duration::from_millis(5);

type Last = Arc<Mutex<BTreeMap<Partition, (Instant, Duration)>>>;

/// The longest pause of any partition of the book at `prefix`, which has `accounts`, beyond the session's timeout.
pub async fn run(log: &Arc<dyn EventLog>, brokers: &str, prefix: &str, folder: &Path, accounts: u64) -> anyhow::Result<Duration> {
    let site = Site { brokers, prefix: prefix.to_owned(), database: "", folder };
    let (mut dies, address) = site.serve(&["serve", "command-service"], "dies").await?;
    let (_lives, other) = site.serve(&["serve", "command-service"], "lives").await?;
    for address in [&address, &other] {
        while owned(address).await? == 0 {
            tokio::time::sleep(EVERY).await;
        }
    }
    let asker = log.asker().await?.context("a log on Kafka can be asked over")?;
    let last = Last::default();
    let (mut asked, begin) = (tokio::task::JoinSet::new(), Instant::now());
    let mut killed = None;
    for n in 0.. {
        if killed.is_none() && begin.elapsed() > Duration::from_secs(3) {
            // What the services were slow in at their start does not count.
            last.lock().unwrap_or_else(PoisonError::into_inner).values_mut().for_each(|(_, longest)| *longest = Duration::ZERO);
            dies.kill().await?;
            killed = Some(Instant::now());
        }
        if killed.is_some_and(|at| at.elapsed() > WATCHED) {
            break;
        }
        asked.spawn(ask(Arc::clone(&asker), Arc::clone(&last), n, accounts));
        tokio::time::sleep(EVERY).await;
        while asked.try_join_next().is_some() {}
    }
    let longest = last.lock().unwrap_or_else(PoisonError::into_inner).values().map(|(_, longest)| *longest).max();
    Ok(longest.context("something was answered")?.saturating_sub(SESSION))
}

async fn owned(address: &str) -> anyhow::Result<u32> {
    let text = reqwest::get(format!("{address}/metrics")).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix("loyalty_partitions_owned "));
    Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
}

async fn ask(asker: Arc<dyn Asker>, last: Last, n: u64, accounts: u64) -> anyhow::Result<()> {
    let key = key(n, accounts);
    let (name, command) =
        (key.to_string(), Command { id: Id::parse(&format!("t{n}"))?, actor: "till".into(), action: Action::Redeem { points: 1, occurred_at: None } });
    let partition = partition_of(&name, PARTITIONS);
    let body = Ask { program_entries: 0, what: What::Command(key, command) }.encode();
    asker.ask(partition, &name, &body, Duration::from_secs(30)).await?;
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let (answered, longest) = last.entry(partition).or_insert((Instant::now(), Duration::ZERO));
    *longest = answered.elapsed().max(*longest);
    *answered = Instant::now();
    Ok(())
}
