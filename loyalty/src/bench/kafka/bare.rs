//! The bare client: a transactional producer with the same records in groups of the same size on the same broker.

use std::time::{Duration, Instant};

use event_log::Entry;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::PARTITIONS;
use crate::bench::log::BARE_BATCH;
use crate::bench::rate;

const PATIENCE: Duration = Duration::from_secs(60);
/// How many single commits are timed.
const SINGLES: usize = 200;
/// How many are made before, as a broker that just started is slow.
const WARM: usize = 1000;

pub async fn make_topic(brokers: &str, topic: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(topic, i32::from(PARTITIONS), TopicReplication::Fixed(1));
    for outcome in admin.create_topics(&[topic], &AdminOptions::new()).await? {
        outcome.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    Ok(())
}

fn producer(brokers: &str, id: &str) -> anyhow::Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("transactional.id", id).set("linger.ms", "1").set("batch.size", "1000000");
    let producer: BaseProducer = config.set("queue.buffering.max.messages", "200000").create()?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

/// Records a second in groups.
pub fn groups(brokers: &str, topic: &str, records: &[(u16, Entry)]) -> anyhow::Result<f64> {
    let producer = producer(brokers, topic)?;
    transaction(&producer, topic, &records[..1])?;
    let begin = Instant::now();
    for group in records.chunks(BARE_BATCH) {
        transaction(&producer, topic, group)?;
    }
    Ok(rate(records.len() as u64, begin.elapsed().as_secs_f64()))
}

/// The median of a transaction with one record.
pub fn single(brokers: &str, topic: &str) -> anyhow::Result<Duration> {
    let producer = producer(brokers, topic)?;
    let entry = Entry { position: 0, account: "bench/m1".into(), account_seq: 1, body: vec![7; 400] };
    let mut times = Vec::new();
    for n in 0..WARM + SINGLES {
        let begin = Instant::now();
        transaction(&producer, topic, &[(u16::try_from(n)? % PARTITIONS, entry.clone())])?;
        times.push(begin.elapsed());
    }
    times.drain(..WARM);
    times.sort();
    Ok(times[times.len() / 2])
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
