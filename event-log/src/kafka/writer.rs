//! The writer: a transaction a batch, on a thread of its own, as the client's transaction calls block.

use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use tokio::sync::oneshot;

use super::message::headers;
use super::{KafkaOptions, PATIENCE, Quiet, failed, fetch, timed_out, topics};
use crate::{Batch, Crash, LogError, Partition, Position, Writer};

/// With a message outstanding a commit waits on a poll of 100 ms inside the client, so deliveries are drained before it. The client turns its
/// last millisecond of a poll into spinning, which the broker's core could use: it is polled without waiting, with a rest between.
const REST: Duration = Duration::from_micros(200);

/// Keeps the first delivery that failed.
#[derive(Default)]
struct Deliveries(Arc<Mutex<Option<KafkaError>>>);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

type Job = (Arc<Batch>, Option<Crash>, oneshot::Sender<Result<(), LogError>>);

pub(super) struct KafkaWriter {
    jobs: mpsc::Sender<Job>,
    next: Vec<Position>,
    crash: Option<Crash>,
    is_fenced: bool,
}

/// What the thread owns.
struct Transactions {
    producer: BaseProducer<Deliveries>,
    deliveries: Arc<Mutex<Option<KafkaError>>>,
    events: String,
    outcomes: String,
    programs: String,
    offsets: String,
    next_outcome: Vec<Position>,
    next_program: Position,
}

impl KafkaWriter {
    /// Takes the transactional id, which ends whatever the last one had begun, and finds where the log ends then.
    pub(super) fn start(options: &KafkaOptions, partitions: u16) -> Result<Self, LogError> {
        let context = Deliveries::default();
        let deliveries = Arc::clone(&context.0);
        let mut config = options.client();
        config
            .set("transactional.id", options.topic("writer"))
            .set("transaction.timeout.ms", "60000")
            .set("message.timeout.ms", "30000")
            .set("linger.ms", "1")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "1048576");
        let producer: BaseProducer<Deliveries> = config.create_with_context(context).map_err(failed("connect a producer"))?;
        producer.init_transactions(PATIENCE).map_err(failed("take the log over"))?;
        let (events, outcomes) = (options.topic(topics::EVENTS), options.topic(topics::OUTCOMES));
        let (programs, offsets) = (options.topic(topics::PROGRAMS), options.topic(topics::OFFSETS));
        let consumer = options.consumer()?;
        let ends = |topic: &str| fetch::ends(&consumer, topic, 0..partitions).map(|ends| ends.iter().map(|end| end.position).collect::<Vec<_>>());
        let (next, next_outcome, next_program) = (ends(&events)?, ends(&outcomes)?, fetch::end(&consumer, &programs, 0)?.position);
        let mut transactions = Transactions { producer, deliveries, events, outcomes, programs, offsets, next_outcome, next_program };
        let (jobs, waiting) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("kafka-writer".into());
        let run = move || {
            for (batch, crash, done) in waiting {
                let outcome = transactions.run(&batch, crash);
                let failed = outcome.is_err();
                // Nobody waits any more where the one who asked was stopped.
                let _ = done.send(outcome);
                if failed {
                    // A producer that failed once is not used again: what comes of its transaction is known to the next one only.
                    return;
                }
            }
        };
        thread.spawn(run).map_err(failed("start a thread"))?;
        Ok(Self { jobs, next, crash: None, is_fenced: false })
    }

    /// Where the partitions ended when it took over, and end with what it has appended since.
    pub(super) fn ends(&self) -> &[Position] {
        &self.next
    }
}

#[async_trait]
impl Writer for KafkaWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.next[usize::from(partition)]
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        let next = batch.next_after(&self.next).filter(|_| !self.is_fenced).ok_or(LogError::Fenced { epoch: 0 })?;
        let (done, outcome) = oneshot::channel();
        let gone = || failed("append")(std::io::Error::other("the writer has ended"));
        self.jobs.send((batch, self.crash, done)).map_err(|_| gone())?;
        let outcome = outcome.await.map_err(|_| gone())?;
        self.is_fenced = matches!(outcome, Err(LogError::Fenced { .. }));
        outcome?;
        self.next = next;
        Ok(())
    }

    fn crash_next(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }
}

impl Transactions {
    fn run(&mut self, batch: &Batch, crash: Option<Crash>) -> Result<(), LogError> {
        self.producer.begin_transaction().map_err(refused("begin"))?;
        self.send(batch)?;
        self.drain()?;
        if crash == Some(Crash::BeforeCommit) {
            return Err(LogError::Crashed(Crash::BeforeCommit));
        }
        self.producer.commit_transaction(PATIENCE).map_err(refused("commit"))?;
        self.next_program += batch.programs.len() as Position;
        crash.map_or(Ok(()), |crash| Err(LogError::Crashed(crash)))
    }

    fn send(&mut self, batch: &Batch) -> Result<(), LogError> {
        for record in &batch.records {
            self.send_one(&self.events, record.partition, &record.account, &record.body, (record.position, record.account_seq))?;
        }
        for outcome in &batch.outcomes {
            let position = self.next_outcome[usize::from(outcome.partition)];
            self.next_outcome[usize::from(outcome.partition)] += 1;
            self.send_one(&self.outcomes, outcome.partition, "", &outcome.body, (position, 0))?;
        }
        for (position, entry) in (self.next_program..).zip(&batch.programs) {
            self.send_one(&self.programs, 0, "", entry, (position, 0))?;
        }
        for (source, offset) in &batch.offsets {
            self.send_one(&self.offsets, 0, source, &offset.to_be_bytes(), (0, 0))?;
        }
        Ok(())
    }

    fn send_one(&self, topic: &str, partition: Partition, key: &str, body: &[u8], place: (Position, u64)) -> Result<(), LogError> {
        let mut record = BaseRecord::to(topic).partition(i32::from(partition)).key(key).payload(body).headers(headers(place.0, place.1));
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    self.producer.poll(Duration::ZERO);
                    std::thread::sleep(REST);
                    record = again;
                }
                Err((error, _)) => return Err(refused("send")(error)),
            }
        }
    }

    fn drain(&self) -> Result<(), LogError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(timed_out("deliver"));
            }
            std::thread::sleep(REST);
        }
        let first = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(error) = first else { return Ok(()) };
        // A delivery is told that its queue was purged; why it was is the client's own error.
        let error = self.producer.client().fatal_error().map_or(error, |(code, _)| KafkaError::MessageProduction(code));
        Err(refused("deliver")(error))
    }
}

/// What the broker said no to: being fenced is told apart, as nothing can be tried again then.
fn refused(action: &'static str) -> impl Fn(KafkaError) -> LogError {
    move |error| {
        let code = match &error {
            KafkaError::Transaction(inner) => Some(inner.code()),
            other => other.rdkafka_error_code(),
        };
        match code {
            Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) => LogError::Fenced { epoch: 0 },
            _ => failed(action)(error),
        }
    }
}
