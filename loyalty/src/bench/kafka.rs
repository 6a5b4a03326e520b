//! Commands through the Kafka log, in process, beside the bare client: a transactional producer with the same records in groups of the
//! same size on the same broker.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::real_now;
use command_service::{Service, ServiceConfig, Share};
use embedded_kafka::Broker;
use event_log::kafka::{KafkaLog, KafkaOptions};
use event_log::{Entry, EventLog};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::log::{ACCOUNTS, BARE_BATCH, COMMANDS, service};
use super::{Figure, rate, ratio};

const PARTITIONS: u16 = 8;
const PATIENCE: Duration = Duration::from_secs(60);
/// How many single commits are timed.
const SINGLES: usize = 200;

/// Measures on `broker`, or on one of its own where that is empty.
pub async fn run(broker: &str) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let own = if broker.is_empty() { Some(Broker::start(&folder.path().join("kafka")).await?) } else { None };
    let brokers = own.as_ref().map_or_else(|| broker.to_owned(), Broker::address);
    let prefix = format!("bench-{}", real_now().as_micros());
    let options = KafkaOptions { brokers: brokers.clone(), prefix: prefix.clone(), replication: 1, session_timeout: Duration::from_secs(6) };
    let log: Arc<dyn EventLog> = Arc::new(KafkaLog::open(options, PARTITIONS, None).await?);
    let ours = service(&log, folder.path()).await?;
    let again = take_over(&log, folder.path()).await?;
    let anew = take_over(&log, &folder.path().join("empty")).await?;
    let mut records = Vec::new();
    for partition in 0..PARTITIONS {
        records.extend(log.read(partition, 0, usize::MAX).await?.into_iter().map(|entry| (partition, entry)));
    }
    records.sort_by_key(|(partition, entry)| (entry.position, *partition));
    records.truncate(usize::try_from(COMMANDS)?);
    let topic = format!("{prefix}.bare");
    make_topic(&brokers, &topic).await?;
    let (bare, single) = tokio::task::spawn_blocking(move || bare(&brokers, &topic, &records)).await??;
    let to_bare = ratio(ours, bare);
    Ok(vec![
        Figure::new("commands through the Kafka log, 100,000 accounts, 80 % earn / 20 % redeem", format!("{ours:.0}/s"), ""),
        Figure::new("  to a bare transactional producer of the same records in groups of 4,096", format!("{to_bare:.2} of {bare:.0}/s"), "0.5"),
        Figure::new("  one record a transaction, bare: p50", format!("{single:.1?}"), ""),
        Figure::new(
            &format!("take-over of the partitions with {ACCOUNTS} accounts, from the state store and the tail"),
            format!("{:.2} s", again.as_secs_f64()),
            "2 s",
        ),
        Figure::new("  the same without a state store: the whole log", format!("{:.2} s", anew.as_secs_f64()), ""),
    ])
}

/// How long it takes until another service on the same log answers.
async fn take_over(log: &Arc<dyn EventLog>, folder: &Path) -> anyhow::Result<Duration> {
    let folder = folder.join("state");
    std::fs::create_dir_all(&folder)?;
    let begin = Instant::now();
    let config = ServiceConfig {
        folder,
        owner: "bench".into(),
        accounts_in_memory: 200_000,
        queue_max: 1000,
        share: Share::Alone,
        answer_within: Duration::from_secs(10),
    };
    let (service, running) = Service::start(Arc::clone(log), config, Arc::new(real_now)).await?;
    let pause = begin.elapsed();
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await??;
    Ok(pause)
}

async fn make_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(topic, i32::from(PARTITIONS), TopicReplication::Fixed(1));
    for outcome in admin.create_topics(&[topic], &AdminOptions::new()).await? {
        outcome.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

/// Records a second in groups, and the median of a transaction with one record.
fn bare(brokers: &str, topic: &str, records: &[(u16, Entry)]) -> anyhow::Result<(f64, Duration)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("transactional.id", topic).set("linger.ms", "1").set("batch.size", "1000000");
    let producer: BaseProducer = config.set("queue.buffering.max.messages", "200000").create()?;
    producer.init_transactions(PATIENCE)?;
    transaction(&producer, topic, &records[..1])?;
    let begin = Instant::now();
    for group in records.chunks(BARE_BATCH) {
        transaction(&producer, topic, group)?;
    }
    let rate = rate(records.len() as u64, begin.elapsed().as_secs_f64());
    let mut singles = Vec::new();
    for record in records.chunks(1).take(SINGLES) {
        let begin = Instant::now();
        transaction(&producer, topic, record)?;
        singles.push(begin.elapsed());
    }
    singles.sort();
    Ok((rate, singles[singles.len() / 2]))
}

fn rest(producer: &BaseProducer) {
    producer.poll(Duration::ZERO);
    std::thread::sleep(Duration::from_micros(200));
}

fn transaction(producer: &BaseProducer, topic: &str, records: &[(u16, Entry)]) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    for (partition, entry) in records {
        let mut record = BaseRecord::to(topic).partition(i32::from(*partition)).key(&entry.account).payload(&entry.body);
        while let Err((error, again)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            rest(producer);
            record = again;
        }
    }
    // Drained as our writer does it, without the client's spinning.
    while producer.in_flight_count() > 0 {
        rest(producer);
    }
    producer.commit_transaction(PATIENCE)
}
