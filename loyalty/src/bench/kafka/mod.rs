//! Commands through the Kafka log: in process beside the bare client, over REST, and over the topics.

mod bare;
pub mod latency;
mod memory;
mod streams;
mod takeover;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::real_now;
use bare::make_topic;
use command_service::Service;
use embedded_kafka::Broker;
use event_log::EventLog;
use event_log::kafka::{KafkaLog, KafkaOptions};

use super::log::{ACCOUNTS, BARE_BATCH, COMMANDS, service};
use super::{Figure, ratio, service_config};

const PARTITIONS: u16 = 8;
/// The broker compiles what it finds hot: so many commands are not counted.
const WARM: u64 = 300_000;

/// Measures on `broker`, or on one of its own where that is empty, the parts that are `wanted`.
pub async fn run(broker: &str, streams: Option<&Path>, wanted: impl Fn(&str) -> bool) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let own = if broker.is_empty() { Some(Broker::start(&folder.path().join("kafka")).await?) } else { None };
    let brokers = own.as_ref().map_or_else(|| broker.to_owned(), Broker::address);
    let prefix = format!("bench-{}", real_now().as_micros());
    let mut figures = Vec::new();
    if wanted("kafka-log") || wanted("kafka-takeover") {
        figures.extend(throughput(&brokers, &prefix, folder.path(), wanted("kafka-takeover")).await?);
    }
    if wanted("kafka-rest") {
        figures.extend(latency::over_rest(&brokers, &prefix, folder.path()).await?);
    }
    if wanted("kafka-memory") {
        figures.extend(memory::run(&brokers, &prefix, folder.path()).await?);
    }
    // Last, so that the broker has compiled what it needs when it is compared.
    if wanted("kafka-topics") {
        figures.extend(latency::over_topics(&brokers, &prefix, folder.path()).await?);
    }
    if let Some(program) = streams.filter(|_| wanted("kafka-streams")) {
        figures.extend(beside_streams(&brokers, &prefix, program, folder.path()).await?);
    }
    Ok(figures)
}

/// Kafka Streams with the same commands on the same broker.
async fn beside_streams(brokers: &str, prefix: &str, program: &Path, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let topics = format!("{prefix}-streams");
    let streams = streams::throughput(brokers, &topics, program, folder);
    let Between { before, other, after, ratio } = between(brokers, &format!("{prefix}.streams"), folder, streams).await?;
    let (p50, p99) = streams::latency(brokers, &format!("{prefix}-streams-soon"), program, folder).await?;
    Ok(vec![
        Figure::new("commands through the Kafka log, before and after Kafka Streams", format!("{before:.0}/s, {after:.0}/s"), ""),
        Figure::new("Kafka Streams, exactly_once_v2, RocksDB, as many commands, warm", format!("{other:.0}/s, {ratio:.1} × of it reached on average"), "2 ×"),
        Figure::new("  over the topics, 2,000 commands/s, commits of 10 ms: p50, p99", format!("{p50:.1?}, {p99:.1?}"), ""),
    ])
}

/// Rates a second: of another, of ours before and after it, as the machine's own speed drifts, and their mean as a ratio to it.
struct Between {
    before: f64,
    other: f64,
    after: f64,
    ratio: f64,
}

/// Runs `other` between two of ours.
#[allow(clippy::float_arithmetic, reason = "a mean of rates")]
async fn between(brokers: &str, prefix: &str, folder: &Path, other: impl Future<Output = anyhow::Result<f64>>) -> anyhow::Result<Between> {
    let before = warm(brokers, &format!("{prefix}.before"), folder).await?;
    let other = other.await?;
    let after = warm(brokers, &format!("{prefix}.after"), folder).await?;
    Ok(Between { before, other, after, ratio: ratio((before + after) / 2.0, other) })
}

/// Commands through a log of its own, on a broker that has compiled what it needs, as it has for what is measured after.
async fn warm(brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<f64> {
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::open(options(brokers, prefix), PARTITIONS, None).await?);
    service(&log, &folder.join(prefix), WARM).await
}

fn options(brokers: &str, prefix: &str) -> KafkaOptions {
    KafkaOptions { brokers: brokers.into(), prefix: prefix.into(), replication: 1, session_timeout: Duration::from_secs(6) }
}

async fn throughput(brokers: &str, prefix: &str, folder: &Path, is_taken_over: bool) -> anyhow::Result<Vec<Figure>> {
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::open(options(brokers, prefix), PARTITIONS, None).await?);
    let ours = service(&log, folder, WARM).await?;
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        records.extend(log.read(partition, 0, usize::MAX).await?.into_iter().map(|entry| (partition, entry)));
    }
    records.sort_by_key(|(partition, entry)| (entry.position, *partition));
    records.truncate(usize::try_from(COMMANDS)?);
    let (topic, to) = (format!("{prefix}.bare"), brokers.to_owned());
    make_topic(brokers, &topic).await?;
    let bare = async { tokio::task::spawn_blocking(move || bare::groups(&to, &topic, &records)).await? };
    let Between { before, other, after, ratio } = between(brokers, &format!("{prefix}.bare"), folder, bare).await?;
    // Not before that: while it lasts the memory that the first run had goes back to the kernel, and the next would wait for it to be cleared.
    let taken = if is_taken_over { takeovers(&log, brokers, prefix, folder).await? } else { Vec::new() };
    let mut figures = vec![
        Figure::new("commands through the Kafka log, 100,000 accounts, 80 % earn / 20 % redeem", format!("{ours:.0}/s, again {before:.0}/s, {after:.0}/s"), ""),
        Figure::new(&format!("  to a bare transactional producer of the same records in groups of {BARE_BATCH}"), format!("{ratio:.2} of {other:.0}/s"), "0.5"),
    ];
    figures.extend(taken);
    Ok(figures)
}

/// Takes the book over again and again.
async fn takeovers(log: &Arc<dyn EventLog>, brokers: &str, prefix: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let again = take_all(log, folder).await?;
    let anew = take_all(log, &folder.join("empty")).await?;
    let pause = takeover::run(log, brokers, prefix, folder, ACCOUNTS).await?;
    Ok(vec![
        Figure::new(
            &format!("one of two command services is killed, {ACCOUNTS} accounts: longest pause beyond the session's 6 s"),
            format!("{:.2} s", pause.as_secs_f64()),
            "2 s",
        ),
        Figure::new("a process starts and takes the whole book, from the state store and the tail", format!("{:.2} s", again.as_secs_f64()), ""),
        Figure::new("  the same without a state store: the whole log", format!("{:.2} s", anew.as_secs_f64()), ""),
    ])
}

/// How long it takes until another service on the same log answers.
async fn take_all(log: &Arc<dyn EventLog>, folder: &Path) -> anyhow::Result<Duration> {
    let folder = folder.join("state");
    std::fs::create_dir_all(&folder)?;
    let begin = Instant::now();
    let config = service_config(folder);
    let (service, running) = Service::start(Arc::clone(log), config, Arc::new(real_now)).await?;
    let pause = begin.elapsed();
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await??;
    Ok(pause)
}
