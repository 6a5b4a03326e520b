//! The end of the log in memory: one consumer reads it for all of this process, so that a record crosses the wire once; what this process
//! writes itself is put here when it is committed, and does not come back over the wire.
//!
//! Invariant: a partition's records are here in the order of their positions, none missing and none twice, whoever they come from.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::watch;

use super::client::{Reader, failed, is_gone, is_passing, timed_out};
use super::fetch;
use super::message::Message;
use super::options::KafkaOptions;
use crate::{Entry, LogError, Partition, Position};

/// How many bytes of each partition are kept.
const KEPT_BYTES: usize = 8 << 20;
/// How soon the thread sees that it is to end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Held {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The position after the last, and the offset.
    end: Position,
    offset: i64,
    /// It is written by this process, who puts it here.
    is_own: bool,
    /// What went wrong; nothing is read beyond it.
    broken: Option<Broken>,
}

#[derive(Clone)]
enum Broken {
    Gap { expected: Position, found: Position },
    Foreign { offset: i64 },
}

/// What the tail knows of what was asked.
pub(super) enum Read {
    /// All there is, up to the limit.
    Here(Vec<Entry>),
    /// It is too long ago; the partition goes up to `end`.
    Before { end: Position },
}

struct Shared {
    consumer: Reader,
    topic: String,
    held: Vec<Mutex<Held>>,
    news: watch::Sender<u64>,
    stop: AtomicBool,
    /// The broker does not know the topic; it may come back.
    is_gone: AtomicBool,
}

pub(super) struct Tail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// When it is gone, so is its client.
impl Drop for Tail {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // A thread that panicked has said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Tail {
    /// Finds the ends and reads on from there.
    pub(super) fn start(options: &KafkaOptions, topic: &str, partitions: u16) -> Result<Self, LogError> {
        let (consumer, topic) = (options.consumer()?, options.topic(topic));
        let ends = fetch::ends(&consumer, &topic, &(0..partitions).collect::<Vec<_>>())?;
        fetch::assign(&consumer, &topic, (0..).zip(ends.iter().map(|end| end.offset)))?;
        let held = ends.iter().map(|end| Mutex::new(Held { end: end.position, offset: end.offset, ..Held::default() })).collect();
        let shared = Arc::new(Shared { consumer, topic, held, news: watch::Sender::new(0), stop: AtomicBool::new(false), is_gone: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kafka-tail".into());
        let thread = thread.spawn(move || of_thread.run()).map_err(failed("start a thread"))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From here on `partitions`, which are here up to their ends, are put here by whoever writes them and read no more.
    pub(super) fn own(&self, partitions: &[Partition]) -> Result<(), LogError> {
        partitions.iter().for_each(|partition| self.shared.held(usize::from(*partition)).is_own = true);
        self.shared.consumer.pause(&self.shared.list(partitions)).map_err(failed("stop reading what is written here"))
    }

    /// They are read again, from where they are.
    pub(super) fn disown(&self, partitions: &[Partition]) -> Result<(), LogError> {
        let Shared { consumer, topic, .. } = &*self.shared;
        let own = |partition: &Partition| std::mem::take(&mut self.shared.held(usize::from(*partition)).is_own);
        let partitions: Vec<Partition> = partitions.iter().copied().filter(own).collect();
        consumer.resume(&self.shared.list(&partitions)).map_err(failed("read on"))?;
        for partition in partitions {
            let offset = self.shared.held(usize::from(partition)).offset;
            // Where this does not come about, what is here already is read again and passed over.
            let _ = consumer.seek(topic, i32::from(partition), Offset::Offset(offset), Duration::ZERO);
        }
        Ok(())
    }

    /// Puts here what was committed in a partition; `offset` is the one after it.
    pub(super) fn put(&self, partition: Partition, entries: impl Iterator<Item = Entry>, offset: i64) {
        let mut held = self.shared.held(usize::from(partition));
        let mut follows = true;
        for entry in entries {
            // Where it is read as well, it may be here already.
            follows &= entry.position <= held.end;
            if entry.position == held.end {
                held.push(entry);
            }
        }
        // Where something before it is not here, it is to be read.
        if follows {
            held.offset = held.offset.max(offset);
        }
    }

    /// Tells those who wait that there is more.
    pub(super) fn tell(&self) {
        self.shared.news.send_modify(|n| *n += 1);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.news.subscribe()
    }

    /// Refuses where the topic is not there any more.
    pub(super) fn require_topic(&self) -> Result<(), LogError> {
        let is_gone = self.shared.is_gone.load(Ordering::Relaxed);
        if is_gone { Err(LogError::Gone { topic: self.shared.topic.clone() }) } else { Ok(()) }
    }

    pub(super) fn ends(&self) -> Vec<Position> {
        (0..self.shared.held.len()).map(|partition| self.shared.held(partition).end).collect()
    }

    pub(super) fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Read, LogError> {
        let held = self.shared.held(usize::from(partition));
        if from >= held.end {
            return match held.broken.clone() {
                None => Ok(Read::Here(Vec::new())),
                Some(Broken::Gap { expected, found }) => Err(LogError::Gap { partition, expected, found }),
                Some(Broken::Foreign { offset }) => Err(LogError::Foreign { topic: self.shared.topic.clone(), partition: i32::from(partition), offset }),
            };
        }
        let first = held.end - held.entries.len() as Position;
        let Some(skip) = from.checked_sub(first) else { return Ok(Read::Before { end: held.end }) };
        Ok(Read::Here(held.entries.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(max).cloned().collect()))
    }

    /// Waits until every partition is here up to `ends`.
    pub(super) async fn reaches(&self, ends: &[Position], patience: Duration) -> Result<(), LogError> {
        let mut news = self.subscribe();
        let reached = async {
            while self.ends().iter().zip(ends).any(|(here, end)| here < end) {
                news.changed().await.map_err(failed("wait for the tail"))?;
            }
            Ok(())
        };
        tokio::time::timeout(patience, reached).await.map_err(|_| timed_out("read up to the end of the log"))?
    }
}

impl Held {
    fn push(&mut self, entry: Entry) {
        self.end += 1;
        self.bytes += entry.body.len();
        self.entries.push_back(entry);
        while self.bytes > KEPT_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.body.len();
        }
    }
}

impl Shared {
    fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, i32::from(*partition));
        }
        list
    }

    fn held(&self, partition: usize) -> MutexGuard<'_, Held> {
        self.held[partition].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut wait = LOOK;
            // All that came at once is told at once.
            while let Some(polled) = self.consumer.poll(wait) {
                wait = Duration::ZERO;
                match polled {
                    Ok(message) => self.take(usize::try_from(message.partition()).unwrap_or(0), message.offset(), Message::read(&message)),
                    Err(KafkaError::PartitionEOF(_)) => self.is_gone.store(false, Ordering::Relaxed),
                    Err(error) if is_passing(&error) => tracing::debug!(%error, "the client goes on by itself"),
                    Err(error) if is_gone(&error) => {
                        if !self.is_gone.swap(true, Ordering::Relaxed) {
                            tracing::error!(topic = self.topic, "the topic is gone: it was deleted; restore it, or begin a new book under another prefix");
                        }
                    }
                    Err(error) => tracing::error!(%error, "the tail of the log can't be read; trying again"),
                }
            }
            if wait.is_zero() {
                self.news.send_modify(|n| *n += 1);
            }
        }
    }

    fn take(&self, partition: usize, offset: i64, message: Result<Message, LogError>) {
        let mut held = self.held(partition);
        if held.broken.is_some() || held.is_own || offset < held.offset {
            return;
        }
        let message = match message {
            Ok(message) if message.position == held.end => message,
            Ok(message) => {
                let (expected, found) = (held.end, message.position);
                tracing::error!(partition, offset, expected, found, "a record is out of place: nothing of this partition is read any more");
                held.broken = Some(Broken::Gap { expected, found });
                return;
            }
            Err(error) => {
                tracing::error!(partition, offset, %error, "a message is no record: nothing of this partition is read any more");
                held.broken = Some(Broken::Foreign { offset });
                return;
            }
        };
        held.offset = offset + 1;
        held.push(message.into_entry());
    }
}
