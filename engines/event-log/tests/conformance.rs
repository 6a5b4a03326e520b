//! The conformance suite over every adapter.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

use std::time::Duration;

use event_log::EventLog;
use event_log::conformance;
use event_log::kafka::{KafkaLog, KafkaOptions};
use event_log::memory::MemoryLog;
use event_log::postgres::PostgresLog;

macro_rules! suite {
    ($open:ident: $($check:ident),+ $(,)?) => {
        mod $open {
            $(#[tokio::test]
            async fn $check() {
                let log = super::$open(stringify!($check)).await;
                super::conformance::$check(&*log).await;
            })+
        }
    };
}

async fn memory(_name: &str) -> Box<dyn EventLog> {
    Box::new(MemoryLog::new(4))
}

async fn postgres(name: &str) -> Box<dyn EventLog> {
    let url = embedded_postgres::testing::database(name).await;
    Box::new(PostgresLog::open(&url, 4, None).await.expect("a fresh database takes a log"))
}

async fn kafka(name: &str) -> Box<dyn EventLog> {
    let options =
        KafkaOptions { brokers: embedded_kafka::testing::broker().await, prefix: name.into(), replication: 1, session_timeout: Duration::from_secs(6) };
    Box::new(KafkaLog::open(options, 4, None).await.expect("a fresh prefix takes a log"))
}

macro_rules! every_adapter {
    ($($open:ident),+) => {
        $(suite!($open: append_and_replay, all_parts_of_a_batch, second_writer_fences_the_first, wrong_position_is_refused_whole,
                 crash_at_each_step, tailing);)+
    };
}

every_adapter!(memory, postgres, kafka);

#[tokio::test]
async fn the_number_of_partitions_cannot_change() {
    let url = embedded_postgres::testing::database("partitions").await;
    PostgresLog::open(&url, 4, None).await.unwrap();
    let error = PostgresLog::open(&url, 8, None).await.err().unwrap();
    assert_eq!(error.to_string(), "the log has 4 partitions, 8 were asked for; the number can't change, because accounts would move");
}
