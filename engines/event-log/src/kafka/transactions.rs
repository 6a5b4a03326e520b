//! A transaction a batch, and who may make one.
//!
//! Invariants: whoever has a partition is named by its lease, the metadata of the group's offset for it, which is written in a transaction
//! itself; who takes a partition first ends the producer that the lease names, so that nothing of it can follow; offsets and leases are written
//! with the member's standing in the group (KIP-447), so that the broker refuses them when the group has gone on without it; where they end is asked once all that stands there
//! is decided; in the same transaction each is written to the topic of progress, which holds where the group's offsets were forgotten, as those of a group without members are after a week.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{LOOK_AGAIN, PATIENCE, Reader, failed, is_passing, timed_out};
use super::options::KafkaOptions;
use super::producer::{Messages, Offsets, Producer, ProducerError, Written};
use super::progress::{self, Lease};
use super::standing::{Membership, Standing};
use super::{fetch, topics};
use crate::{Batch, Crash, LogError, Partition, Position, Taken};

/// What the writer's thread owns.
pub(super) struct Transactions {
    options: KafkaOptions,
    /// The transactional id, by which a lease names it.
    id: String,
    producer: Producer,
    standing: Arc<Standing>,
    /// Reads up to what is decided; and what is there as yet, decided or not, for the leases.
    reader: Reader,
    early: Reader,
    next_outcome: Vec<Position>,
    next_program: Position,
    /// Of the partitions it has: the offset of the next command.
    consumed: BTreeMap<Partition, i64>,
}

/// What a transaction appends.
pub(super) struct Append<'a> {
    pub(super) batch: &'a Batch,
    pub(super) crash: Option<Crash>,
    /// Called when nothing is left but the end.
    pub(super) before_end: &'a dyn Fn(),
}

/// Why a transaction did not come about.
enum Failure {
    /// Nothing of it will be seen: it may be made again.
    Before(ProducerError),
    Log(LogError),
}

/// The topics that are written.
const WRITTEN: [&str; 6] = [topics::EVENTS, topics::OUTCOMES, topics::PROGRAMS, topics::OFFSETS, topics::REPLIES, topics::PROGRESS];

fn producer(options: &KafkaOptions, id: &str) -> Result<Producer, LogError> {
    let written = WRITTEN.iter().map(|name| options.topic(name)).collect();
    Producer::start(options, id, &options.topic(topics::COMMANDS), written).map_err(refused("take the log over"))
}

impl Transactions {
    pub(super) fn start(options: &KafkaOptions, partitions: u16, standing: Arc<Standing>, id: String) -> Result<Self, LogError> {
        let producer = producer(options, &id)?;
        let group = options.topic(topics::COMMANDS);
        let (reader, early) = (options.consumer_of(&group, "read_committed")?, options.consumer_of(&group, "read_uncommitted")?);
        let (next_outcome, consumed) = (vec![0; usize::from(partitions)], BTreeMap::new());
        Ok(Self { options: options.clone(), id, producer, standing, reader, early, next_outcome, next_program: 0, consumed })
    }

    /// Appends; tells the offset after the records of each partition.
    pub(super) fn append(&mut self, append: &Append<'_>) -> Result<Vec<(Partition, i64)>, LogError> {
        let batch = append.batch;
        for (partition, offset) in &batch.consumed {
            self.consumed.insert(*partition, i64::try_from(*offset).unwrap_or(i64::MAX));
        }
        // What was not asked over the log moves no offset; the lease alone protects it.
        let leases: Vec<_> = batch.consumed.iter().map(|(partition, _)| self.lease(*partition, &self.id)).collect();
        let written = self.transaction(Some(append), &leases)?;
        for outcome in &batch.outcomes {
            self.next_outcome[usize::from(outcome.partition)] += 1;
        }
        self.next_program += batch.programs.len() as Position;
        let events = self.options.topic(topics::EVENTS);
        Ok(written.into_iter().filter(|((topic, _), _)| *topic == events).map(|((_, partition), offset)| (partition, offset)).collect())
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
        // Where the group's offsets were set back, what was decided stays so.
        for lease in leases.into_iter().chain(progress::read(&self.reader, &self.options, partitions)?) {
            let consumed = self.consumed.entry(lease.partition).or_insert(lease.offset);
            *consumed = lease.offset.max(*consumed);
        }
        let own: Vec<_> = partitions.iter().map(|partition| self.lease(*partition, &self.id)).collect();
        self.transaction(None, &own)?;
        self.require_decided(topics::EVENTS, partitions)?;
        self.require_decided(topics::OUTCOMES, partitions)?;
        if partitions.contains(&0) {
            self.require_decided(topics::PROGRAMS, &[0])?;
        }
        let ends = |name: &str| fetch::ends(&self.reader, &self.options.topic(name), partitions);
        let (events, outcomes) = (ends(topics::EVENTS)?, ends(topics::OUTCOMES)?);
        for (partition, place) in partitions.iter().zip(outcomes) {
            self.next_outcome[usize::from(*partition)] = place.position;
        }
        self.next_program = fetch::end(&self.reader, &self.options.topic(topics::PROGRAMS), 0)?.position;
        let ends = partitions.iter().copied().zip(events.iter().map(|place| place.position)).collect();
        let undecided = own.iter().map(|lease| (lease.partition, u64::try_from(lease.offset).unwrap_or(0))).collect();
        Ok(Taken { ends, program_entries: self.next_program, undecided })
    }

    /// Waits until all that stands in these partitions is decided. The end of a transaction is answered before its markers are written, and a lease
    /// that was released names nobody who could be ended: the end that readers see may be too short by then.
    fn require_decided(&self, name: &str, partitions: &[Partition]) -> Result<(), LogError> {
        let topic = self.options.topic(name);
        let deadline = Instant::now() + PATIENCE;
        for partition in partitions {
            while fetch::watermarks(&self.reader, &topic, *partition)?.1 < fetch::watermarks(&self.early, &topic, *partition)?.1 {
                if Instant::now() > deadline {
                    return Err(timed_out("wait until what stands in a partition is decided"));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }

    pub(super) fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        let leases: Vec<_> = partitions.iter().map(|partition| self.lease(*partition, "")).collect();
        self.transaction(None, &leases)?;
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
                Err(error) if is_passing(&error) && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
                Err(error) => return Err(failed("read the leases")(error)),
            }
        };
        let (mut leases, mut forgotten) = (Vec::new(), Vec::new());
        for element in found.elements() {
            let partition = Partition::try_from(element.partition()).unwrap_or_default();
            match element.offset() {
                Offset::Offset(offset) => leases.push(Lease { partition, offset, holder: element.metadata().to_owned() }),
                _ => forgotten.push(partition),
            }
        }
        leases.extend(progress::read(reader, &self.options, &forgotten)?);
        // Those that nobody ever had.
        for partition in partitions {
            if !leases.iter().any(|lease| lease.partition == *partition) {
                leases.push(Lease { partition: *partition, offset: fetch::watermarks(reader, &topic, *partition)?.0, holder: String::new() });
            }
        }
        Ok(leases)
    }

    /// Makes one, again and again where the group has gone on in the middle or a broker is away, as long as the end was not asked for.
    fn transaction(&mut self, append: Option<&Append<'_>>, leases: &[Lease]) -> Result<Written, LogError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (version, membership) = self.standing.get().ok_or(LogError::Fenced { epoch: 0 })?;
            let error = match self.attempt(append, leases, &membership) {
                Ok(written) => return append.and_then(|append| append.crash).map_or(Ok(written), |crash| Err(LogError::Crashed(crash))),
                Err(Failure::Log(error)) => return Err(error),
                Err(Failure::Before(error)) => error,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let goes_on = !left.is_zero() && (error.is_of_the_group() || error.is_passing());
            if !goes_on {
                return Err(refused("append")(error));
            }
            tracing::info!(%error, "the transaction is made again");
            self.producer.renew().map_err(refused("append"))?;
            if error.is_of_the_group() && !self.standing.renewed(version, left) {
                return Err(failed("stay in the group")(error));
            }
        }
    }

    fn attempt(&mut self, append: Option<&Append<'_>>, leases: &[Lease], membership: &Membership) -> Result<Written, Failure> {
        let written = self.send(append.map(|append| append.batch), leases, membership).map_err(Failure::Before)?;
        if let Some(append) = append {
            if append.crash == Some(Crash::BeforeCommit) {
                return Err(Failure::Log(LogError::Crashed(Crash::BeforeCommit)));
            }
            (append.before_end)();
        }
        self.producer.commit().map_err(|error| Failure::Log(refused("commit")(error)))?;
        Ok(written)
    }

    fn send(&mut self, batch: Option<&Batch>, leases: &[Lease], membership: &Membership) -> Result<Written, ProducerError> {
        let topic = |name: &str| self.options.topic(name);
        let [names @ .., progress] = WRITTEN.map(topic);
        let mut messages = self.producer.messages();
        if let Some(batch) = batch {
            self.write(batch, &names, &mut messages);
        }
        for lease in leases {
            messages.push(&progress, lease.partition, lease.key().as_bytes(), &lease.value(), (0, 0));
        }
        let offsets = leases.iter().map(|lease| (lease.partition, lease.offset, lease.holder.as_str())).collect();
        let commands = topic(topics::COMMANDS);
        let offsets = Offsets { topic: &commands, offsets, standing: membership };
        self.producer.send(messages, Some(&offsets).filter(|offsets| !offsets.offsets.is_empty()))
    }

    fn write<'a>(&self, batch: &Batch, [events, outcomes, programs, offsets, replies]: &'a [String; 5], to: &mut Messages<'a>) {
        for record in &batch.records {
            to.push(events, record.partition, record.account.as_bytes(), &record.body, (record.position, record.account_seq));
        }
        let mut next = BTreeMap::new();
        for outcome in &batch.outcomes {
            let position = next.entry(outcome.partition).or_insert(self.next_outcome[usize::from(outcome.partition)]);
            to.push(outcomes, outcome.partition, b"", &outcome.body, (*position, 0));
            *position += 1;
        }
        for (position, entry) in (self.next_program..).zip(&batch.programs) {
            to.push(programs, 0, b"", entry, (position, 0));
        }
        for (source, offset) in &batch.offsets {
            to.push(offsets, 0, source.as_bytes(), &offset.to_be_bytes(), (0, 0));
        }
        for reply in &batch.replies {
            to.push(replies, reply.to.partition, &reply.to.correlation, &reply.body, (0, 0));
        }
    }
}

/// What the broker said no to: being fenced is told apart, as nothing can be tried again then.
fn refused(action: &'static str) -> impl Fn(ProducerError) -> LogError {
    move |error| if error.is_fenced() { LogError::Fenced { epoch: 0 } } else { failed(action)(error) }
}
