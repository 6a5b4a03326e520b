//! A transaction a batch, and who may make one.
//!
//! Invariants: whoever has a partition is named by its lease, the metadata of the group's offset for it, which is written in a transaction
//! itself; who takes a partition first ends the producer that the lease names, so that nothing of it can follow; offsets and leases are written
//! with the member's standing in the group (KIP-447), so that the broker refuses them when the group has gone on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::message::headers;
use super::standing::Standing;
use super::{KafkaOptions, PATIENCE, Quiet, Reader, failed, fetch, timed_out, topics};
use crate::{Batch, Crash, LogError, Partition, Position, Taken};

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

/// What the writer's thread owns.
pub(super) struct Transactions {
    options: KafkaOptions,
    /// The transactional id, by which a lease names it.
    id: String,
    producer: BaseProducer<Deliveries>,
    deliveries: Arc<Mutex<Option<KafkaError>>>,
    standing: Arc<Standing>,
    /// Reads up to what is decided; and what is there as yet, decided or not, for the leases.
    reader: Reader,
    early: Reader,
    next_outcome: Vec<Position>,
    next_program: Position,
    /// Of the partitions it has: the offset of the next command.
    consumed: BTreeMap<Partition, i64>,
}

struct Lease {
    partition: Partition,
    offset: i64,
    holder: String,
}

/// Why a transaction did not come about.
enum Failure {
    /// The group has gone on; the transaction is aborted and may be made again with a newer standing.
    Standing(KafkaError),
    Log(LogError),
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// A producer and its first delivery that failed.
type Produces = (BaseProducer<Deliveries>, Arc<Mutex<Option<KafkaError>>>);

fn producer(options: &KafkaOptions, id: &str) -> Result<Produces, LogError> {
    let context = Deliveries::default();
    let deliveries = Arc::clone(&context.0);
    let mut config = options.client();
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000")
        .set("message.timeout.ms", "30000")
        .set("message.max.bytes", topics::MESSAGE_BYTES_MAX)
        .set("linger.ms", "0.3")
        // A transaction that begins while the last one's markers are written is told to try again.
        .set("retry.backoff.ms", "2")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "1048576");
    let producer: BaseProducer<Deliveries> = config.create_with_context(context).map_err(failed("connect a producer"))?;
    producer.init_transactions(PATIENCE).map_err(failed("take the log over"))?;
    Ok((producer, deliveries))
}

impl Transactions {
    pub(super) fn start(options: &KafkaOptions, partitions: u16, standing: Arc<Standing>, id: String) -> Result<Self, LogError> {
        let (producer, deliveries) = producer(options, &id)?;
        let group = options.topic(topics::COMMANDS);
        let (reader, early) = (options.consumer_of(&group, "read_committed")?, options.consumer_of(&group, "read_uncommitted")?);
        let (next_outcome, consumed) = (vec![0; usize::from(partitions)], BTreeMap::new());
        Ok(Self { options: options.clone(), id, producer, deliveries, standing, reader, early, next_outcome, next_program: 0, consumed })
    }

    pub(super) fn append(&mut self, batch: &Batch, crash: Option<Crash>) -> Result<(), LogError> {
        for (partition, offset) in &batch.consumed {
            self.consumed.insert(*partition, i64::try_from(*offset).unwrap_or(i64::MAX));
        }
        // What was not asked over the log moves no offset; the lease alone protects it.
        let leases = batch.consumed.iter().map(|(partition, _)| self.lease(*partition, &self.id)).collect();
        self.transaction(Some(batch), leases, crash)?;
        for outcome in &batch.outcomes {
            self.next_outcome[usize::from(outcome.partition)] += 1;
        }
        self.next_program += batch.programs.len() as Position;
        Ok(())
    }

    fn lease(&self, partition: Partition, holder: &str) -> Lease {
        Lease { partition, offset: self.consumed.get(&partition).copied().unwrap_or(0), holder: holder.to_owned() }
    }

    /// Ends whoever had the partitions, writes its own leases, and finds where they end.
    pub(super) fn take(&mut self, partitions: &[Partition]) -> Result<Taken, LogError> {
        let mut ended = BTreeSet::from([self.id.clone(), String::new()]);
        let leases = loop {
            // What is not decided yet may name one who is gone, whose transaction would hold up all readers until it times out.
            self.end_holders(&self.leases(&self.early, partitions)?, &mut ended)?;
            let leases = self.leases(&self.reader, partitions)?;
            if !self.end_holders(&leases, &mut ended)? {
                break leases;
            }
        };
        for lease in leases {
            self.consumed.insert(lease.partition, lease.offset);
        }
        let own = partitions.iter().map(|partition| self.lease(*partition, &self.id)).collect();
        self.transaction(None, own, None)?;
        let ends = |name: &str| fetch::ends(&self.reader, &self.options.topic(name), partitions);
        let (events, outcomes) = (ends(topics::EVENTS)?, ends(topics::OUTCOMES)?);
        for (partition, place) in partitions.iter().zip(outcomes) {
            self.next_outcome[usize::from(*partition)] = place.position;
        }
        self.next_program = fetch::end(&self.reader, &self.options.topic(topics::PROGRAMS), 0)?.position;
        let ends = partitions.iter().copied().zip(events.iter().map(|place| place.position)).collect();
        Ok(Taken { ends, program_entries: self.next_program })
    }

    pub(super) fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let leases = partitions.iter().map(|partition| self.lease(*partition, "")).collect();
        self.transaction(None, leases, None)?;
        self.consumed.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    /// Ends the holders that are not ended yet; tells whether there were any.
    fn end_holders(&self, leases: &[Lease], ended: &mut BTreeSet<String>) -> Result<bool, LogError> {
        let mut any = false;
        for lease in leases {
            if ended.insert(lease.holder.clone()) {
                // Taking its id aborts what it had begun, and whatever it tries later is refused.
                producer(&self.options, &lease.holder)?;
                any = true;
            }
        }
        Ok(any)
    }

    fn leases(&self, reader: &Reader, partitions: &[Partition]) -> Result<Vec<Lease>, LogError> {
        let topic = self.options.topic(topics::COMMANDS);
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&topic, i32::from(*partition));
        }
        let deadline = Instant::now() + PATIENCE;
        let found = loop {
            match reader.committed_offsets(list.clone(), PATIENCE) {
                Ok(found) => break found,
                Err(error) if topics::is_passing(&error) && Instant::now() < deadline => std::thread::sleep(topics::LOOK_AGAIN),
                Err(error) => return Err(failed("read the leases")(error)),
            }
        };
        let lease = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let partition = Partition::try_from(element.partition()).unwrap_or_default();
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => fetch::watermarks(reader, &topic, partition)?.0,
            };
            Ok(Lease { partition, offset, holder: element.metadata().to_owned() })
        };
        found.elements().iter().map(lease).collect()
    }

    /// Makes one, again and again where the group has gone on in the middle.
    fn transaction(&mut self, batch: Option<&Batch>, leases: Vec<Lease>, crash: Option<Crash>) -> Result<(), LogError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (version, metadata) = self.standing.get().ok_or(LogError::Fenced { epoch: 0 })?;
            let attempt = || -> Result<(), Failure> {
                self.producer.begin_transaction().map_err(refused("begin"))?;
                if let Some(batch) = batch {
                    self.send(batch)?;
                }
                // All is delivered before the offsets are tried: a transaction that is refused with messages under way is slow to abort, and the
                // one after it may wait until they time out.
                self.drain()?;
                if !leases.is_empty() {
                    let list = self.list(&leases)?;
                    self.producer.send_offsets_to_transaction(&list, &metadata, PATIENCE).map_err(standing_or_refused)?;
                }
                if crash == Some(Crash::BeforeCommit) {
                    return Err(LogError::Crashed(Crash::BeforeCommit).into());
                }
                self.producer.commit_transaction(PATIENCE).map_err(standing_or_refused)
            };
            match attempt() {
                Ok(()) => return crash.map_or(Ok(()), |crash| Err(LogError::Crashed(crash))),
                Err(Failure::Log(error)) => return Err(error),
                Err(Failure::Standing(error)) => {
                    tracing::info!(%error, "the group goes on; the transaction is made again");
                    self.producer.abort_transaction(PATIENCE).map_err(refused("abort"))?;
                    if !self.standing.renewed(version, deadline.saturating_duration_since(Instant::now())) {
                        return Err(failed("stay in the group")(error));
                    }
                }
            }
        }
    }

    fn list(&self, leases: &[Lease]) -> Result<TopicPartitionList, LogError> {
        let topic = self.options.topic(topics::COMMANDS);
        let mut list = TopicPartitionList::new();
        for lease in leases {
            let mut element = list.add_partition(&topic, i32::from(lease.partition));
            element.set_offset(Offset::Offset(lease.offset)).map_err(failed("name an offset"))?;
            element.set_metadata(&lease.holder);
        }
        Ok(list)
    }

    fn send(&self, batch: &Batch) -> Result<(), LogError> {
        let topic = |name: &str| self.options.topic(name);
        let events = topic(topics::EVENTS);
        for record in &batch.records {
            let place = (record.position, record.account_seq);
            self.send_one(&events, record.partition, record.account.as_bytes(), &record.body, place)?;
        }
        let (outcomes, mut next) = (topic(topics::OUTCOMES), BTreeMap::new());
        for outcome in &batch.outcomes {
            let position = next.entry(outcome.partition).or_insert(self.next_outcome[usize::from(outcome.partition)]);
            self.send_one(&outcomes, outcome.partition, b"", &outcome.body, (*position, 0))?;
            *position += 1;
        }
        for (position, entry) in (self.next_program..).zip(&batch.programs) {
            self.send_one(&topic(topics::PROGRAMS), 0, b"", entry, (position, 0))?;
        }
        for (source, offset) in &batch.offsets {
            self.send_one(&topic(topics::OFFSETS), 0, source.as_bytes(), &offset.to_be_bytes(), (0, 0))?;
        }
        for reply in &batch.replies {
            self.send_one(&topic(topics::REPLIES), reply.to.partition, &reply.to.correlation, &reply.body, (0, 0))?;
        }
        Ok(())
    }

    fn send_one(&self, topic: &str, partition: Partition, key: &[u8], body: &[u8], place: (Position, u64)) -> Result<(), LogError> {
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

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(inner) => Some(inner.code()),
        other => other.rdkafka_error_code(),
    }
}

/// What the broker said no to: being fenced is told apart, as nothing can be tried again then.
fn refused(action: &'static str) -> impl Fn(KafkaError) -> LogError {
    move |error| match code(&error) {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch) => LogError::Fenced { epoch: 0 },
        _ => failed(action)(error),
    }
}

fn standing_or_refused(error: KafkaError) -> Failure {
    use RDKafkaErrorCode::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
    match code(&error) {
        Some(IllegalGeneration | RebalanceInProgress | UnknownMemberId) => Failure::Standing(error),
        _ => Failure::Log(refused("commit")(error)),
    }
}
