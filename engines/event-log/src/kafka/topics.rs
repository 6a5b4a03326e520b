//! The topics: made with the settings that a book needs, or found to have them.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::client::{LOOK_AGAIN, PATIENCE, Quiet, Reader, blocking, failed, timed_out};
use super::message::headers;
use super::options::KafkaOptions;
use super::{alter, fetch};
use crate::{LogError, MESSAGE_BYTES_MAX};

pub(super) const EVENTS: &str = "events";
pub(super) const OUTCOMES: &str = "outcomes";
pub(super) const PROGRAMS: &str = "programs";
pub(super) const OFFSETS: &str = "offsets";
pub(super) const COMMANDS: &str = "commands";
pub(super) const REPLIES: &str = "replies";
pub(super) const PROGRESS: &str = "progress";
const BOOK: &str = "book";

/// As Kafka is told it.
pub(super) const MESSAGE_BYTES_TEXT: &str = "8388608";
const _: () = assert!(number(MESSAGE_BYTES_TEXT.as_bytes()) == MESSAGE_BYTES_MAX);
const LARGEST: (&str, &str) = ("max.message.bytes", MESSAGE_BYTES_TEXT);

const fn number(digits: &[u8]) -> usize {
    let (mut value, mut i) = (0, 0);
    while i < digits.len() {
        value = value * 10 + (digits[i] - b'0') as usize;
        i += 1;
    }
    value
}

/// The book is kept for ever, and whole; of offsets the last ones count.
const KEPT: &[(&str, &str)] =
    &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1"), ("message.timestamp.type", "CreateTime"), LARGEST];
const COMPACTED: &[(&str, &str)] = &[("cleanup.policy", "compact")];
/// What is asked may wait 30 days for a command service; who asks waits seconds for the answer.
const ASKED: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "2592000000"), ("retention.bytes", "-1"), LARGEST];
const ANSWERED: &[(&str, &str)] = &[("cleanup.policy", "delete"), ("retention.ms", "3600000"), LARGEST];
/// The last lease of a partition counts, and is kept for ever. Segments are small, as compaction leaves the last one alone.
const LEASED: &[(&str, &str)] = &[("cleanup.policy", "compact"), ("segment.bytes", "16777216")];

/// How long the first call waits: whoever mistyped an address hears of it soon.
const REACH: Duration = Duration::from_secs(10);

/// A topic as the book needs it.
struct Wanted {
    name: String,
    partitions: u16,
    settings: &'static [(&'static str, &'static str)],
}

fn wanted(options: &KafkaOptions, partitions: u16) -> [Wanted; 8] {
    let topic = |name: &str, partitions, settings| Wanted { name: options.topic(name), partitions, settings };
    [
        topic(EVENTS, partitions, KEPT),
        topic(OUTCOMES, partitions, KEPT),
        topic(PROGRAMS, 1, KEPT),
        topic(BOOK, 1, KEPT),
        topic(OFFSETS, 1, COMPACTED),
        topic(COMMANDS, partitions, ASKED),
        topic(REPLIES, partitions, ANSWERED),
        topic(PROGRESS, partitions, LEASED),
    ]
}

/// Makes the topics that are not there, and gives those that are the settings that the book needs.
pub(super) async fn ensure(options: &KafkaOptions, partitions: u16) -> Result<(), LogError> {
    let config = options.clone();
    blocking(move || refuse_half_a_book(&config)).await?;
    let admin: AdminClient<Quiet> = options.client().create_with_context(Quiet).map_err(failed("connect an administrator"))?;
    let wanted = wanted(options, partitions);
    let replication = i32::from(options.replication);
    // With three copies two must have a record before it counts, and so on: one broker may always be away.
    let in_sync = options.replication.saturating_sub(1).max(1).to_string();
    let made: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|wanted| {
            let topic = NewTopic::new(&wanted.name, i32::from(wanted.partitions), TopicReplication::Fixed(replication)).set("min.insync.replicas", &in_sync);
            wanted.settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value))
        })
        .collect();
    let patient = AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE));
    for outcome in admin.create_topics(&made, &patient).await.map_err(failed("make the topics"))? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(LogError::Refused { topic, source: Box::new(code) }),
        }
    }
    for wanted in &wanted {
        mend(options, &admin, wanted, &patient).await?;
    }
    let config = options.clone();
    blocking(move || {
        let consumer = config.consumer()?;
        for Wanted { name, partitions: asked, .. } in wanted {
            match partitions_of(&consumer, &name)? {
                found if found == asked => {}
                found => return Err(LogError::Partitions { found, asked }),
            }
        }
        Ok(())
    })
    .await
}

/// Topics of a book that is here are not made anew where they are missing: that would be a book without its records.
fn refuse_half_a_book(options: &KafkaOptions) -> Result<(), LogError> {
    let consumer = options.consumer()?;
    let metadata = consumer.fetch_metadata(None, REACH).map_err(failed("reach the brokers"))?;
    let exists = |name: &String| metadata.topics().iter().any(|topic| topic.name() == name);
    if !exists(&options.topic(BOOK)) {
        return Ok(());
    }
    let Some(id) = fetch::scan(&consumer, &options.topic(BOOK))?.into_iter().next() else { return Ok(()) };
    let missing = [EVENTS, OUTCOMES, PROGRAMS, OFFSETS].map(|name| options.topic(name)).into_iter().find(|name| !exists(name));
    match missing {
        Some(topic) => Err(LogError::Missing { topic, book: String::from_utf8_lossy(&id.body).into_owned() }),
        None => Ok(()),
    }
}

/// A setting that is not as the book needs it.
type Wrong = (&'static str, String, &'static str);

/// Alters what is not as it should be, and waits until it is.
async fn mend(options: &KafkaOptions, admin: &AdminClient<Quiet>, wanted: &Wanted, patient: &AdminOptions) -> Result<(), LogError> {
    let wrong = async || -> Result<Vec<Wrong>, LogError> {
        let described = describe(admin, &wanted.name, patient).await?;
        let found = |setting: &str| described.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
        let settings = wanted.settings.iter().map(|(setting, expected)| (*setting, found(setting), *expected));
        Ok(settings.filter(|(_, found, expected)| found != expected).collect())
    };
    let before = wrong().await?;
    if before.is_empty() {
        return Ok(());
    }
    let (config, topic) = (options.clone(), wanted.name.clone());
    let changes: Vec<(&str, &str)> = before.iter().map(|(setting, _, expected)| (*setting, *expected)).collect();
    let altered = blocking(move || alter::alter(&config, &topic, &changes)).await;
    if let Err(error) = &altered {
        tracing::warn!(topic = wanted.name, error = error as &dyn std::error::Error, "the broker does not alter the topic");
    }
    let deadline = Instant::now() + if altered.is_ok() { PATIENCE } else { Duration::ZERO };
    while let Some((setting, found, expected)) = wrong().await?.into_iter().next() {
        if Instant::now() >= deadline {
            return Err(LogError::Topic { topic: wanted.name.clone(), setting: setting.into(), found, expected: expected.into() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    for (setting, found, expected) in before {
        tracing::warn!(topic = wanted.name, setting, was = found, is = expected, "a topic's setting was not as the book needs it, and was altered");
    }
    Ok(())
}

/// A topic that was made just now has no settings yet, for a moment.
async fn describe(admin: &AdminClient<Quiet>, name: &str, patient: &AdminOptions) -> Result<ConfigResource, LogError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(name)], patient).await.map_err(failed("read the topics' settings"))?;
        match described.into_iter().next() {
            Some(Ok(described)) if !described.entries.is_empty() => return Ok(described),
            Some(Err(code)) if code != RDKafkaErrorCode::UnknownTopicOrPartition => {
                return Err(LogError::Refused { topic: name.to_owned(), source: Box::new(code) });
            }
            _ if Instant::now() > deadline => return Err(timed_out("read the topics' settings")),
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// As above, it has no leaders yet.
fn partitions_of(consumer: &Reader, name: &str) -> Result<u16, LogError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let metadata = consumer.fetch_metadata(Some(name), PATIENCE).map_err(failed("read the topics' partitions"))?;
        let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
        if !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0) {
            return Ok(u16::try_from(partitions.len()).unwrap_or(u16::MAX));
        }
        if Instant::now() > deadline {
            return Err(timed_out("read the topics' partitions"));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The book's id: the first that was written down, which is `given` or a new one where none was.
pub(super) fn book_id(options: &KafkaOptions, given: Option<String>) -> Result<String, LogError> {
    let topic = options.topic(BOOK);
    let first = || Ok::<_, LogError>(fetch::scan(&options.consumer()?, &topic)?.into_iter().next());
    if first()?.is_none() {
        let id = given.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let producer: ThreadedProducer<_> = options.client().set("acks", "all").create().map_err(failed("connect a producer"))?;
        let record = BaseRecord::to(&topic).partition(0).key("book").payload(&id).headers(headers(0, 0));
        producer.send(record).map_err(|(error, _)| failed("write the book's id")(error))?;
        producer.flush(PATIENCE).map_err(failed("write the book's id"))?;
    }
    let message = first()?.ok_or_else(|| timed_out("read the book's id"))?;
    String::from_utf8(message.body).map_err(failed("read the book's id"))
}
