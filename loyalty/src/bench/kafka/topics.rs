//! A till that knows the topics only: it publishes commands and sees committed events. The same for the ledger and for what it is compared with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use event_log::partition_of;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::PARTITIONS;
use super::latency::percentiles;

const PATIENCE: Duration = Duration::from_secs(60);
/// Not counted: for most of it the broker compiles what this load makes hot, on up to a third of both cores, and whoever waits for a core is late.
const WARM: Duration = Duration::from_secs(60);
/// Counted.
const LONG: Duration = Duration::from_secs(30);
/// Commands a second where answer times are measured.
pub const RATE: u32 = 2000;
/// Of how many accounts.
pub const ACCOUNTS: u64 = 10_000;

/// Who publishes and watches.
pub struct Till {
    producer: ThreadedProducer<DefaultProducerContext>,
    commands: String,
    consumer: BaseConsumer,
}

/// A command: its account, its id, its bytes.
pub type Command = (String, String, Vec<u8>);

impl Till {
    /// At the topics under `prefix`, which exist; it sees what comes from now on.
    pub fn open(brokers: &str, prefix: &str) -> anyhow::Result<Self> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers);
        // A purchase is published when it is made. Waiting for more gains little here, as the client sends each partition a request of its own, and
        // counts as time of whoever is measured. It must not be published twice, as Java's producer sees to by itself; so five requests may be
        // under way at most, and what comes meanwhile goes together: without a limit they queue at the broker for up to 200 ms once it is slow.
        let mut publishes = config.clone();
        let producer = publishes.set("linger.ms", "0").set("enable.idempotence", "true").set("queue.buffering.max.messages", "200000").create()?;
        config.set("group.id", prefix).set("isolation.level", "read_committed").set("enable.auto.commit", "false").set("fetch.wait.max.ms", "20");
        let consumer: BaseConsumer = config.create()?;
        let (events, mut all) = (format!("{prefix}.events"), TopicPartitionList::new());
        for partition in 0..PARTITIONS {
            let (_, end) = end_of(&consumer, &events, i32::from(partition))?;
            all.add_partition_offset(&events, i32::from(partition), Offset::Offset(end))?;
        }
        consumer.assign(&all)?;
        Ok(Self { producer, commands: format!("{prefix}.commands"), consumer })
    }

    /// Publishes a command.
    pub fn send(&self, account: &str, body: &[u8]) -> anyhow::Result<()> {
        let partition = i32::from(partition_of(account, PARTITIONS));
        let mut record = BaseRecord::to(&self.commands).partition(partition).key(account).payload(body);
        while let Err((error, again)) = self.producer.send(record) {
            anyhow::ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), error);
            std::thread::sleep(Duration::from_millis(1));
            record = again;
        }
        Ok(())
    }

    /// Waits until all is published.
    pub fn flush(&self) -> anyhow::Result<()> {
        Ok(self.producer.flush(PATIENCE)?)
    }

    /// What `read` makes of the next committed event.
    pub fn next<T>(&self, read: impl FnOnce(&[u8]) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let message = self.consumer.poll(PATIENCE).context("no committed event comes")??;
        read(message.payload().context("an event says something")?)
    }
}

/// The ends of a partition that was made just now, and may have no leader yet.
fn end_of(consumer: &BaseConsumer, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Err(KafkaError::MetadataFetch(_)) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            found => return Ok(found?),
        }
    }
}

/// From a command to its committed event, open loop, a command's time counting from when it should have been sent: the median and the 99th
/// percentile. `make` makes command `n`; `id_of` tells whose an event is.
pub async fn answer_times(
    till: Till,
    make: impl Fn(u64) -> Command + Send + 'static,
    id_of: fn(&[u8]) -> anyhow::Result<String>,
) -> anyhow::Result<(Duration, Duration)> {
    let till = Arc::new(till);
    // The first is awaited: only then all of it runs.
    let (account, _, body) = make(0);
    till.send(&account, &body)?;
    let watcher = Arc::clone(&till);
    tokio::task::spawn_blocking(move || watcher.next(id_of)).await??;
    let started: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
    let (counted, watcher, count) = (Arc::clone(&started), Arc::clone(&till), u64::from(RATE) * (WARM + LONG).as_secs());
    let watching = tokio::task::spawn_blocking(move || {
        let mut times = Vec::new();
        for _ in 0..count {
            let id = watcher.next(id_of)?;
            let due = counted.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            times.extend(due.map(|due| due.elapsed()));
        }
        anyhow::Ok(times)
    });
    // On a thread of its own: the runtime's clock goes by milliseconds, which would count as the answer's.
    let sending = tokio::task::spawn_blocking(move || {
        let begin = Instant::now() + Duration::from_millis(100);
        for n in 1..=count {
            let (account, id, body) = make(n);
            let due = begin + Duration::from_micros(n * 1_000_000 / u64::from(RATE));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if due >= begin + WARM {
                started.lock().unwrap_or_else(PoisonError::into_inner).insert(id, due);
            }
            till.send(&account, &body)?;
        }
        anyhow::Ok(())
    });
    let (sent, times) = tokio::join!(sending, watching);
    sent??;
    percentiles(times??)
}
