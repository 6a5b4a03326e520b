//! What a command service needs in memory with many accounts known and some of them in use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use api::real_now;
use command_service::{Service, ServiceConfig};
use event_log::kafka::KafkaLog;
use event_log::{EventLog, partition_of};
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Id};
use ledger_schemas::{Ask, What};

use super::latency::Site;
use crate::bench::workload::{RULEBOOK, earn};
use crate::bench::{Figure, service_config};

const KNOWN: u64 = 1_000_000;
const IN_USE: u64 = 50_000;
/// How many questions are under way at once.
const AT_ONCE: u64 = 1000;

fn account(n: u64) -> anyhow::Result<AccountKey> {
    Ok(AccountKey { program: Id::parse("bench")?, account: Id::parse(&format!("m{n}"))? })
}

/// Measures the most that a process of its own had.
pub async fn run(brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let prefix = format!("{prefix}.memory");
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::open(super::options(brokers, &prefix), super::PARTITIONS, None).await?);
    let data = folder.join("memory");
    let state = data.join("state");
    std::fs::create_dir_all(&state)?;
    let config = ServiceConfig { accounts_in_memory: 100_000, queue_max: 20_000, ..service_config(state) };
    let (service, running) = Service::start(Arc::clone(&log), config, Arc::new(real_now)).await?;
    service.publish(Id::parse("bench")?, RULEBOOK.into(), "bench".into()).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let (source, mut outcomes) = service.source("bench");
    let counting = tokio::spawn(async move { while outcomes.recv().await.is_some() {} });
    for n in 0..KNOWN {
        source.send(n + 1, account(n)?, earn(n, real_now())).await;
    }
    service.flush().await;
    service.stop().await;
    drop(source);
    counting.await?;
    tokio::task::spawn_blocking(move || running.join()).await??;

    let site = Site { brokers, prefix, database: "", folder };
    let (child, _address) = site.serve(&["serve", "command-service"], "memory").await?;
    let asker = log.asker().await?.context("a log on Kafka can be asked over")?;
    for begin in (0..IN_USE).step_by(usize::try_from(AT_ONCE)?) {
        let mut asked = tokio::task::JoinSet::new();
        for n in begin..begin + AT_ONCE {
            let key = account(n * (KNOWN / IN_USE))?;
            let command = Command { id: Id::parse(&format!("r{n}"))?, actor: "till".into(), action: Action::Redeem { points: 1, occurred_at: None } };
            let (asker, name) = (Arc::clone(&asker), key.to_string());
            let ask = Ask { program_entries: 0, what: What::Command(key, command) }.encode();
            asked.spawn(async move { asker.ask(partition_of(&name, super::PARTITIONS), &name, &ask, Duration::from_secs(60)).await });
        }
        while let Some(answer) = asked.join_next().await {
            answer??.context("no answer came")?;
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().context("it runs")?))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map(str::trim).context("the peak of its memory")?;
    let name = format!("memory of `serve command-service`, {KNOWN} accounts known, {IN_USE} in use: most");
    Ok(vec![Figure::new(&name, peak.to_owned(), "1 GB")])
}
