//! What is the Kafka adapter's alone: reading far behind the tail, and topics that are not as they should be.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use event_log::kafka::{KafkaLog, KafkaOptions};
use event_log::{Batch, EventLog, LogError, NewRecord};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

async fn options(prefix: &str) -> KafkaOptions {
    KafkaOptions { brokers: embedded_kafka::testing::broker().await, prefix: prefix.into(), replication: 1, session_timeout: Duration::from_secs(6) }
}

fn config(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers);
    config
}

async fn make_topic(options: &KafkaOptions, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> = config(options).create().unwrap();
    let name = format!("{}.{name}", options.prefix);
    let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
    let topic = settings.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    admin.create_topics(&[topic], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
}

/// `count` records of partition 0 from `first` on, of different lengths.
fn batch(first: u64, count: u64) -> Arc<Batch> {
    let record = |position: u64| NewRecord {
        partition: 0,
        position,
        account: format!("p/a{}", position % 7),
        account_seq: position / 7 + 1,
        body: vec![u8::try_from(position % 251).unwrap(); usize::try_from(20 + position * 37 % 400).unwrap()],
    };
    Arc::new(Batch { records: (first..first + count).map(record).collect(), ..Batch::default() })
}

#[tokio::test]
async fn a_book_written_before_is_read_from_anywhere() {
    let options = options("before").await;
    let written = KafkaLog::open(options.clone(), 2, None).await.unwrap();
    let mut writer = written.acquire("one").await.unwrap();
    let mut end = 0;
    // Groups of all sizes, so that markers lie unevenly among the records.
    for group in 0..60_u64 {
        let count = 1 + group * group * 53 % 190;
        writer.append(batch(end, count)).await.unwrap();
        end += count;
    }
    drop((writer, written));
    let log = KafkaLog::open(options, 2, None).await.unwrap();
    assert_eq!(log.ends().await.unwrap(), [end, 0], "the ends are found at once");
    let all = batch(0, end);
    for from in [0, 1, end - 1, end / 2, 499, 500, 501, end / 3, end / 3 + 10, 2 * end / 3, 0] {
        let entries = log.read(0, from, 10).await.unwrap();
        assert_eq!(entries.len() as u64, 10.min(end - from), "from {from} of {end}");
        for (entry, expected) in entries.iter().zip(&all.records[usize::try_from(from).unwrap()..]) {
            assert_eq!(
                (entry.position, &entry.account, entry.account_seq, &entry.body),
                (expected.position, &expected.account, expected.account_seq, &expected.body)
            );
        }
    }
    let whole = log.read(0, 0, usize::MAX).await.unwrap();
    assert_eq!(whole.len() as u64, end);
    assert!(log.read(0, end, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_writer_is_fenced_whichever_of_its_ids_is_next() {
    for before in 0..3 {
        let options = options(&format!("turn-{before}")).await;
        let log = KafkaLog::open(options, 1, None).await.unwrap();
        let mut old = log.acquire("one").await.unwrap();
        for position in 0..before {
            old.append(batch(position, 1)).await.unwrap();
        }
        let mut new = log.acquire("two").await.unwrap();
        new.append(batch(before, 1)).await.unwrap();
        let refused = old.append(batch(before, 2)).await.unwrap_err();
        assert!(matches!(refused, LogError::Fenced { .. }), "after {before}: {refused}");
        new.append(batch(before + 1, 1)).await.unwrap();
        assert_eq!(log.read(0, 0, 100).await.unwrap().len() as u64, log.ends().await.unwrap()[0]);
    }
}

#[tokio::test]
async fn a_book_keeps_its_id_and_its_number_of_partitions() {
    let options = options("kept").await;
    let first = KafkaLog::open(options.clone(), 2, Some("book-1".into())).await.unwrap();
    assert_eq!(first.book_id(), "book-1");
    assert_eq!(KafkaLog::open(options.clone(), 2, None).await.unwrap().book_id(), "book-1");
    let other = KafkaLog::open(options.clone(), 2, Some("book-2".into())).await.err().unwrap();
    assert_eq!(other.to_string(), "the log holds book book-1, not book-2; copy into an empty database or under another prefix");
    let more = KafkaLog::open(options, 3, None).await.err().unwrap();
    assert_eq!(more.to_string(), "the log has 2 partitions, 3 were asked for; the number can't change, because accounts would move");
}

#[tokio::test]
async fn a_topic_that_would_forget_is_altered() {
    let options = options("forgetful").await;
    make_topic(&options, "events", 2, &[("retention.ms", "604800000"), ("compression.type", "lz4")]).await;
    make_topic(&options, "commands", 2, &[]).await;
    KafkaLog::open(options.clone(), 2, None).await.unwrap();
    let admin: AdminClient<DefaultClientContext> = config(&options).create().unwrap();
    let resources = ["forgetful.events", "forgetful.commands"].map(ResourceSpecifier::Topic);
    let described = admin.describe_configs(&resources, &AdminOptions::new()).await.unwrap();
    let [events, commands] = [0, 1].map(|n| described[n].as_ref().unwrap());
    let value = |topic: &ConfigResource, setting: &str| topic.get(setting).unwrap().value.clone().unwrap();
    assert_eq!((value(events, "retention.ms"), value(events, "max.message.bytes")), ("-1".into(), "8388608".into()));
    assert_eq!(value(events, "compression.type"), "lz4", "what the book does not care for stays as it was");
    assert_eq!(value(commands, "retention.ms"), "2592000000");
}

async fn produce(options: &KafkaOptions, headers: OwnedHeaders) {
    let producer: FutureProducer = config(options).create().unwrap();
    let topic = format!("{}.events", options.prefix);
    let record = FutureRecord::to(&topic).partition(0).key("p/a").payload("x").headers(headers);
    producer.send(record, Duration::from_secs(10)).await.unwrap();
}

async fn error_at(log: &KafkaLog, position: u64) -> LogError {
    loop {
        match log.read(0, position, 1).await {
            Err(error) => return error,
            Ok(entries) => assert!(entries.is_empty()),
        }
        let _ = log.wait_beyond(&log.ends().await.unwrap(), Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_stranger_in_the_book_is_seen_not_believed() {
    let options = options("stranger").await;
    let log = KafkaLog::open(options.clone(), 1, None).await.unwrap();
    log.acquire("one").await.unwrap().append(batch(0, 3)).await.unwrap();
    produce(&options, OwnedHeaders::new()).await;
    let error = error_at(&log, 3).await;
    assert!(matches!(error, LogError::Foreign { partition: 0, .. }), "{error}");
    assert_eq!(log.read(0, 0, 10).await.unwrap().len(), 3, "what came before is read");
}

#[tokio::test]
async fn a_record_out_of_place_is_seen_not_believed() {
    let options = options("gap").await;
    let log = KafkaLog::open(options.clone(), 1, None).await.unwrap();
    log.acquire("one").await.unwrap().append(batch(0, 3)).await.unwrap();
    let place = [5_u64.to_be_bytes(), 1_u64.to_be_bytes()].concat();
    let headers = OwnedHeaders::new().insert(Header { key: "place", value: Some(&place) });
    produce(&options, headers).await;
    let error = error_at(&log, 3).await;
    assert_eq!(error.to_string(), "partition 0 has position 5 where 3 should be: a record is missing or was written twice");
}

/// As the markers of a transaction may be written after its end was answered.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_a_partition_waits_until_what_stands_there_is_decided() {
    let options = options("late").await;
    let log = KafkaLog::open(options.clone(), 1, None).await.unwrap();
    log.acquire("one").await.unwrap().append(batch(0, 3)).await.unwrap();
    let late: FutureProducer = config(&options).set("transactional.id", "late").create().unwrap();
    late.init_transactions(Duration::from_secs(10)).unwrap();
    late.begin_transaction().unwrap();
    let place = [3_u64.to_be_bytes(), 4_u64.to_be_bytes()].concat();
    let headers = OwnedHeaders::new().insert(Header { key: "place", value: Some(&place) });
    let record = FutureRecord::to("late.events").partition(0).key("p/a").payload("x").headers(headers);
    late.send(record, Duration::from_secs(10)).await.unwrap();
    let mut taking = tokio::spawn(async move { log.acquire("two").await.map(|writer| writer.next_position(0)) });
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut taking).await.is_err(), "the end is not known yet");
    late.commit_transaction(Duration::from_secs(10)).unwrap();
    assert_eq!(taking.await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_told_soon() {
    let port = embedded_postgres::free_port().unwrap();
    let options = KafkaOptions { brokers: format!("127.0.0.1:{port}"), prefix: "none".into(), replication: 1, session_timeout: Duration::from_secs(6) };
    let error = KafkaLog::open(options, 1, None).await.err().unwrap();
    assert_eq!(error.to_string(), "the log's engine failed: reach the brokers");
}

/// Not under a living client: its library may end the process then.
#[tokio::test]
async fn a_topic_that_was_deleted_is_told_and_not_made_anew() {
    let options = options("deleted").await;
    let log = KafkaLog::open(options.clone(), 2, Some("book-9".into())).await.unwrap();
    let mut writer = log.acquire("one").await.unwrap();
    writer.append(batch(0, 10)).await.unwrap();
    drop((writer, log));
    let admin: AdminClient<DefaultClientContext> = config(&options).create().unwrap();
    admin.delete_topics(&["deleted.events"], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    // The controller has deleted it when it answers; the broker hears of that a moment later.
    let is_there = || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        metadata.topics().iter().any(|topic| topic.name() == "deleted.events")
    };
    while is_there() {
        tokio::task::yield_now().await;
    }
    let error = KafkaLog::open(options, 2, None).await.err().unwrap();
    assert!(matches!(&error, LogError::Missing { topic, book } if topic == "deleted.events" && book == "book-9"), "{error}");
}

#[tokio::test]
async fn a_broker_with_older_transactions_is_refused() {
    let folder = embedded_postgres::testing::folder().join("older");
    let broker = embedded_kafka::Broker::start_with(&folder, "transaction.version=1").await.unwrap();
    let address = broker.address();
    let options = KafkaOptions { brokers: address.clone(), prefix: "older".into(), replication: 1, session_timeout: Duration::from_secs(6) };
    let log = KafkaLog::open(options, 1, None).await.unwrap();
    let error = log.acquire("one").await.err().unwrap();
    let why = std::error::Error::source(&error).unwrap().to_string();
    let words = "has transactions of version 1, the ledger needs version 2: Kafka 4.0 or later, \
                 and `kafka-features.sh upgrade --feature transaction.version=2` where it was upgraded from an older one";
    assert_eq!(why, format!("broker {address} {words}"));
}

/// What a process appends is put into its tail; others read it from the broker, and so does it after it has given the log up.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_here_is_here_at_once_and_what_others_append_after() {
    let options = options("own").await;
    let (here, there) = (KafkaLog::open(options.clone(), 2, None).await.unwrap(), KafkaLog::open(options, 2, None).await.unwrap());
    let told = Arc::new(AtomicU64::new(0));
    let mut end = 0;
    for (one, other) in [(&here, &there), (&there, &here), (&here, &there)] {
        let mut writer = one.acquire("test").await.unwrap();
        let tell = Arc::clone(&told);
        writer.before_ends(Arc::new(move || {
            tell.fetch_add(1, Ordering::Relaxed);
        }));
        for count in [1, 40, 7] {
            let before = told.load(Ordering::Relaxed);
            writer.append(batch(end, count)).await.unwrap();
            end += count;
            assert_eq!(told.load(Ordering::Relaxed), before + 1, "the end of an append is told once, before it");
            assert_eq!(one.ends().await.unwrap(), [end, 0], "what is appended is here without being waited for");
        }
        drop(writer);
        while other.ends().await.unwrap() != [end, 0] {
            let ends = other.ends().await.unwrap();
            assert!(other.wait_beyond(&ends, Duration::from_secs(20)).await.unwrap(), "{ends:?} of {end}");
        }
        for log in [one, other] {
            let read = log.read(0, 0, usize::MAX).await.unwrap();
            let told: Vec<_> = read.iter().map(|entry| (entry.position, &entry.account, entry.account_seq, &entry.body)).collect();
            let batch = batch(0, end);
            let written: Vec<_> = batch.records.iter().map(|record| (record.position, &record.account, record.account_seq, &record.body)).collect();
            assert_eq!(told, written);
        }
    }
}
