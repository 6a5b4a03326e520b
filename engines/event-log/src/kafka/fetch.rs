//! Reading from a position: where it is, is found by looking, as offsets have gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{LOOK_AGAIN, PATIENCE, Reader, failed, is_passing, timed_out};
use super::message::Message;
use super::options::KafkaOptions;
use crate::{Entry, LogError, Partition, Position};

/// So many records are rather read and passed over than looked past: they come in one fetch.
const NEAR: u64 = 500;
/// How far from its end a partition is first looked at for its last record.
const BACK: i64 = 64;

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) offset: i64,
}

/// What a poll brought.
pub(super) enum Polled {
    Message(Message),
    /// A partition has nothing more now.
    End(i32),
}

/// Sets the consumer on these offsets of these partitions, and on nothing else.
pub(super) fn assign(consumer: &Reader, topic: &str, offsets: impl IntoIterator<Item = (i32, i64)>) -> Result<(), LogError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(failed("name an offset"))?;
    }
    consumer.assign(&list).map_err(failed("assign partitions"))
}

/// The next message or the end; what the client mends by itself is waited for until `deadline`.
pub(super) fn poll(consumer: &Reader, deadline: Instant) -> Result<Polled, LogError> {
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) => return Message::read(&message).map(Polled::Message),
            Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Polled::End(partition)),
            Some(Err(error)) if is_passing(&error) => tracing::debug!(%error, "the client goes on by itself"),
            Some(Err(error)) => return Err(failed("read")(error)),
        }
    }
    Err(timed_out("read"))
}

pub(super) fn watermarks(consumer: &Reader, topic: &str, partition: Partition) -> Result<(i64, i64), LogError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.fetch_watermarks(topic, i32::from(partition), PATIENCE) {
            Ok(found) => return Ok(found),
            Err(error) if is_passing(&error) && Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
            Err(error) => return Err(failed("ask for the ends of a partition")(error)),
        }
    }
}

/// The last record of a partition, if it has one, and where the partition begins.
struct Last {
    low: i64,
    message: Option<Message>,
}

/// The last record, committed where the consumer reads such only, of each of `partitions`.
fn lasts(consumer: &Reader, topic: &str, partitions: &[Partition]) -> Result<BTreeMap<i32, Last>, LogError> {
    let mut lasts = BTreeMap::new();
    let mut open = BTreeMap::new();
    for partition in partitions {
        open.insert(i32::from(*partition), watermarks(consumer, topic, *partition)?);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut back = BACK;
    // Transaction markers may stand after the last record: where none is found, the look goes further back.
    while !open.is_empty() {
        assign(consumer, topic, open.iter().map(|(partition, (low, high))| (*partition, (high - back).max(*low))))?;
        let mut waiting: BTreeSet<i32> = open.keys().copied().collect();
        while !waiting.is_empty() {
            match poll(consumer, deadline)? {
                Polled::Message(message) => {
                    let low = open.get(&message.partition).map_or(0, |(low, _)| *low);
                    lasts.insert(message.partition, Last { low, message: Some(message) });
                }
                Polled::End(partition) => drop(waiting.remove(&partition)),
            }
        }
        for (partition, (low, _)) in open.iter().filter(|(_, (low, high))| high - back <= *low) {
            lasts.entry(*partition).or_insert(Last { low: *low, message: None });
        }
        open.retain(|partition, _| !lasts.contains_key(partition));
        back *= 8;
    }
    Ok(lasts)
}

/// The last record of each of `partitions` that has one.
pub(super) fn last_messages(consumer: &Reader, topic: &str, partitions: &[Partition]) -> Result<Vec<Message>, LogError> {
    Ok(lasts(consumer, topic, partitions)?.into_values().filter_map(|last| last.message).collect())
}

/// The place after the last committed record of each of `partitions`, in their order.
pub(super) fn ends(consumer: &Reader, topic: &str, partitions: &[Partition]) -> Result<Vec<Place>, LogError> {
    let lasts = lasts(consumer, topic, partitions)?;
    let end = |last: &Last| match &last.message {
        Some(message) => Place { position: message.position + 1, offset: message.offset + 1 },
        None => Place { position: 0, offset: last.low },
    };
    Ok(partitions.iter().filter_map(|partition| lasts.get(&i32::from(*partition)).map(end)).collect())
}

/// The place after the last committed record of one partition.
pub(super) fn end(consumer: &Reader, topic: &str, partition: Partition) -> Result<Place, LogError> {
    ends(consumer, topic, &[partition])?.pop().ok_or_else(|| timed_out("find the end of a partition"))
}

/// All messages of a topic with one partition.
pub(super) fn scan(consumer: &Reader, topic: &str) -> Result<Vec<Message>, LogError> {
    let (low, _) = watermarks(consumer, topic, 0)?;
    assign(consumer, topic, [(0, low)])?;
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while let Polled::Message(message) = poll(consumer, deadline)? {
        all.push(message);
    }
    Ok(all)
}

/// A reader of one partition that remembers where it is.
pub(super) struct Fetcher {
    consumer: Reader,
    topic: String,
    partition: Partition,
    /// What it reads next without looking; none where it is nowhere.
    next: Option<Position>,
}

impl Fetcher {
    pub(super) fn open(options: &KafkaOptions, topic: String, partition: Partition) -> Result<Self, LogError> {
        Ok(Self { consumer: options.consumer()?, topic, partition, next: None })
    }

    pub(super) fn is_of(&self, topic: &str, partition: Partition) -> bool {
        self.topic == topic && self.partition == partition
    }

    /// Whether it would go on at `from` without looking for it.
    pub(super) fn continues(&self, topic: &str, partition: Partition, from: Position) -> bool {
        self.is_of(topic, partition) && self.next == Some(from)
    }

    /// Up to `max` entries from `from` on, of those before `end`, which are there.
    pub(super) fn read(&mut self, from: Position, max: usize, end: Position) -> Result<Vec<Entry>, LogError> {
        let count = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX).min(max);
        if self.next != Some(from) {
            let offset = self.locate(from)?;
            assign(&self.consumer, &self.topic, [(i32::from(self.partition), offset)])?;
        }
        // Wherever this ends early, the next read looks again.
        self.next = None;
        let mut entries = Vec::with_capacity(count);
        let deadline = Instant::now() + PATIENCE;
        while entries.len() < count {
            let Polled::Message(message) = poll(&self.consumer, deadline)? else { continue };
            let expected = from + entries.len() as Position;
            if message.position < expected && entries.is_empty() {
                continue;
            }
            if message.position != expected {
                return Err(LogError::Gap { partition: self.partition, expected, found: message.position });
            }
            entries.push(message.into_entry());
        }
        self.next = Some(from + count as Position);
        Ok(entries)
    }

    /// An offset at or shortly before that of `position`: offsets grow about evenly, so a few looks find it.
    fn locate(&self, position: Position) -> Result<i64, LogError> {
        let (low, _) = watermarks(&self.consumer, &self.topic, self.partition)?;
        let mut before = Place { position: 0, offset: low };
        let mut after = end(&self.consumer, &self.topic, self.partition)?;
        while position - before.position > NEAR && after.position - before.position > NEAR {
            let (span, wanted) = (i128::from(after.position - before.position), i128::from(position - before.position - NEAR / 2));
            let step = i128::from(after.offset - before.offset) * wanted / span;
            let guess = before.offset + i64::try_from(step).unwrap_or(0).max(1);
            let found = self.look(guess)?;
            match found {
                Some(place) if place.position <= position => before = place,
                // Also where nothing follows: the end is the next record's place.
                _ if guess < after.offset => after = Place { offset: guess, position: found.map_or(after.position, |place| place.position) },
                _ => break,
            }
        }
        Ok(before.offset)
    }

    /// The first record at or after `offset`.
    fn look(&self, offset: i64) -> Result<Option<Place>, LogError> {
        assign(&self.consumer, &self.topic, [(i32::from(self.partition), offset)])?;
        match poll(&self.consumer, Instant::now() + PATIENCE)? {
            Polled::Message(message) => Ok(Some(Place { position: message.position, offset: message.offset })),
            Polled::End(_) => Ok(None),
        }
    }
}
