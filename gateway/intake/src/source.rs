//! Where messages come from: a topic on Kafka, or a simulated one.
//!
//! Contract: messages of a partition come in their order, from the one after the last that was committed or from before it; what was
//! not committed comes again, here or elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::error::{EngineError, IntakeError};

/// How many messages are taken at a time.
const BATCH_MAX: usize = 500;
/// How long the broker may take to tell how far the topic was read.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a batch waits for more.
const GATHER: Duration = Duration::from_millis(5);

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Where in the partition.
    pub offset: i64,
}

/// A message as it was published.
#[derive(Debug, Clone)]
pub struct Message {
    /// Where it stands.
    pub place: Place,
    /// By name.
    pub headers: Vec<(String, Vec<u8>)>,
    /// What it says; empty for a tombstone.
    pub body: Vec<u8>,
}

/// A reader of the topic.
#[async_trait]
pub trait Source: Send {
    /// Waits for messages; dropping the future before it is done loses none.
    ///
    /// # Errors
    /// What the engine says.
    async fn next(&mut self) -> Result<Vec<Message>, EngineError>;

    /// Says that these are done with, and all before them in their partitions.
    ///
    /// # Errors
    /// What the engine says; that others have a partition now is none.
    async fn commit(&mut self, messages: &[Place]) -> Result<(), EngineError>;
}

/// Where purchases come from.
#[derive(Debug, Clone)]
pub struct IntakeOptions {
    /// The brokers, as `HOST:PORT,HOST:PORT`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The consumer group; all processes of one ledger share it.
    pub group: String,
    /// With how many partitions and copies the topic is made where it is not there.
    pub partitions: u16,
    /// How many brokers keep each message.
    pub replication: u16,
}

impl IntakeOptions {
    /// Makes the topic where it is not there.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn make_topic(&self) -> Result<(), IntakeError> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &self.brokers).create()?;
        let copies = TopicReplication::Fixed(i32::from(self.replication));
        let made = NewTopic::new(&self.topic, i32::from(self.partitions), copies).set("retention.ms", "2592000000");
        for outcome in admin.create_topics(&[made], &AdminOptions::new()).await? {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, source)) => return Err(IntakeError::Topic { topic, source }),
            }
        }
        Ok(())
    }
}

/// The topic on Kafka, as a member of the group that shares its partitions.
pub(crate) struct Topic {
    consumer: StreamConsumer,
    /// What came and was not given out yet.
    gathered: Vec<Message>,
}

impl Topic {
    /// Joins the group, which goes on at `positions`, by partition, where the broker has forgotten how far it was.
    pub(crate) fn join(options: &IntakeOptions, positions: &BTreeMap<i32, i64>) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &options.brokers)
            .set("group.id", &options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let consumer: StreamConsumer = config.create()?;
        restore(&consumer, &options.topic, positions)?;
        consumer.subscribe(&[&options.topic])?;
        Ok(Self { consumer, gathered: Vec::new() })
    }
}

/// Tells the broker how far the group was, in partitions where it does not know. A topic that was made anew is read from its beginning.
fn restore(consumer: &StreamConsumer, topic: &str, positions: &BTreeMap<i32, i64>) -> Result<(), KafkaError> {
    let (mut asked, mut restored) = (TopicPartitionList::new(), TopicPartitionList::new());
    for partition in positions.keys() {
        asked.add_partition(topic, *partition);
    }
    for element in consumer.committed_offsets(asked, PATIENCE)?.elements() {
        let partition = element.partition();
        let (Offset::Invalid, Some(next)) = (element.offset(), positions.get(&partition)) else { continue };
        let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        if (low..=high).contains(next) {
            restored.add_partition_offset(topic, partition, Offset::Offset(*next))?;
        }
    }
    if restored.count() > 0 {
        tracing::warn!(topic, "the broker has forgotten how far the topic was read; reading goes on where it was");
        // Where it fails others have joined meanwhile, who did this before; and what is read twice is booked once.
        if let Err(error) = consumer.commit(&restored, CommitMode::Sync) {
            tracing::info!(%error, "the broker was not told where reading goes on");
        }
    }
    Ok(())
}

#[async_trait]
impl Source for Topic {
    async fn next(&mut self) -> Result<Vec<Message>, EngineError> {
        if self.gathered.is_empty() {
            self.gathered.push(message(&self.consumer.recv().await?));
        }
        while self.gathered.len() < BATCH_MAX {
            match tokio::time::timeout(GATHER, self.consumer.recv()).await {
                Ok(more) => self.gathered.push(message(&more?)),
                Err(_) => break,
            }
        }
        Ok(std::mem::take(&mut self.gathered))
    }

    async fn commit(&mut self, messages: &[Place]) -> Result<(), EngineError> {
        let mut list = TopicPartitionList::new();
        let mut next = BTreeMap::new();
        for place in messages {
            next.insert((place.topic.as_str(), place.partition), place.offset + 1);
        }
        for ((topic, partition), offset) in next {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
        }
        match self.consumer.commit(&list, CommitMode::Sync) {
            // Others have the partition now and read it again, which books nothing twice.
            Err(KafkaError::ConsumerCommit(code)) => {
                tracing::info!(%code, "others go on with what was read here");
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }
}

fn message(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Message {
        place: Place { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() },
        headers: headers.filter_map(|header| Some((header.key.to_owned(), header.value?.to_vec()))).collect(),
        body: message.payload().unwrap_or_default().to_vec(),
    }
}
