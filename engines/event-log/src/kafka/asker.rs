//! Asking over the log: a question goes to its account's partition, the answer comes back on a partition of the replies, read by the asker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::client::{Quiet, Reader, failed, is_passing};
use super::message::question_headers;
use super::options::KafkaOptions;
use super::{fetch, topics};
use crate::{Asker, Correlation, LogError, Partition, ReplyTo};

/// How soon the thread sees that it is to end.
const LOOK: Duration = Duration::from_millis(100);

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(%error, "a question was not delivered; whoever asked hears that its outcome is unknown");
        }
    }
}

struct Shared {
    waiting: Mutex<HashMap<Correlation, oneshot::Sender<Vec<u8>>>>,
    stop: AtomicBool,
}

impl Shared {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<Correlation, oneshot::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asks over the log.
pub(super) struct KafkaAsker {
    producer: ThreadedProducer<Quiet>,
    topic: String,
    /// Where the answers come.
    partition: Partition,
    shared: Arc<Shared>,
}

impl KafkaAsker {
    pub(super) fn start(options: &KafkaOptions, partitions: u16) -> Result<Self, LogError> {
        let mut config = options.client();
        config.set("enable.idempotence", "true").set("message.max.bytes", topics::MESSAGE_BYTES_TEXT).set("linger.ms", "2").set("message.timeout.ms", "10000");
        let producer = config.create_with_context(Quiet).map_err(failed("connect a producer"))?;
        let consumer = options.consumer()?;
        let (replies, name) = (options.topic(topics::REPLIES), uuid::Uuid::new_v4());
        let partition = Partition::try_from(name.as_u128() % u128::from(partitions)).unwrap_or_default();
        let (_, end) = fetch::watermarks(&consumer, &replies, partition)?;
        fetch::assign(&consumer, &replies, [(i32::from(partition), end)])?;
        let shared = Arc::new(Shared { waiting: Mutex::default(), stop: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kafka-replies".into());
        thread.spawn(move || of_thread.run(&consumer)).map_err(failed("start a thread"))?;
        Ok(Self { producer, topic: options.topic(topics::COMMANDS), partition, shared })
    }
}

#[async_trait]
impl Asker for KafkaAsker {
    async fn ask(&self, partition: Partition, key: &str, body: &[u8], patience: Duration) -> Result<Option<Vec<u8>>, LogError> {
        let correlation = *uuid::Uuid::new_v4().as_bytes();
        let headers = question_headers(ReplyTo { partition: self.partition, correlation });
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(correlation, answer);
        let question = BaseRecord::to(&self.topic).partition(i32::from(partition)).key(key).payload(body).headers(headers);
        let sent = self.producer.send(question);
        let answer = match &sent {
            Ok(()) => tokio::time::timeout(patience, answered).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        self.shared.waiting().remove(&correlation);
        sent.map_err(|(error, _)| failed("ask")(error))?;
        Ok(answer)
    }
}

impl Drop for KafkaAsker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // What was not sent by now has been given up by whoever asked.
        let _ = self.producer.flush(LOOK);
    }
}

impl Shared {
    fn run(&self, consumer: &Reader) {
        while !self.stop.load(Ordering::Relaxed) {
            match consumer.poll(LOOK) {
                Some(Ok(message)) => {
                    let correlation = message.key().and_then(|key| Correlation::try_from(key).ok());
                    let waiting = correlation.and_then(|correlation| self.waiting().remove(&correlation));
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(message.payload().unwrap_or_default().to_vec());
                    }
                }
                None | Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if is_passing(&error) => tracing::debug!(%error, "the client goes on by itself"),
                Some(Err(error)) => tracing::error!(%error, "answers can't be read; trying again"),
            }
        }
    }
}
