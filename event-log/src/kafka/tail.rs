//! The end of the log in memory: one consumer reads it for all of this process, so that a record crosses the wire once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tokio::sync::watch;

use super::message::Message;
use super::{KafkaOptions, Reader, failed, fetch, timed_out, topics};
use crate::{Entry, LogError, Partition, Position};

/// How many bytes of each partition are kept.
const KEPT_BYTES: usize = 8 << 20;
/// How soon the thread sees that it is to end.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Held {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The position after the last.
    end: Position,
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
        let held = ends.iter().map(|end| Mutex::new(Held { end: end.position, ..Held::default() })).collect();
        let shared = Arc::new(Shared { topic, held, news: watch::Sender::new(0), stop: AtomicBool::new(false), is_gone: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kafka-tail".into());
        let thread = thread.spawn(move || of_thread.run(&consumer)).map_err(failed("start a thread"))?;
        Ok(Self { shared, thread: Some(thread) })
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

impl Shared {
    fn held(&self, partition: usize) -> MutexGuard<'_, Held> {
        self.held[partition].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, consumer: &Reader) {
        while !self.stop.load(Ordering::Relaxed) {
            let mut wait = LOOK;
            // All that came at once is told at once.
            while let Some(polled) = consumer.poll(wait) {
                wait = Duration::ZERO;
                match polled {
                    Ok(message) => self.take(usize::try_from(message.partition()).unwrap_or(0), message.offset(), Message::read(&message)),
                    Err(KafkaError::PartitionEOF(_)) => self.is_gone.store(false, Ordering::Relaxed),
                    Err(error) if topics::is_passing(&error) => tracing::debug!(%error, "the client goes on by itself"),
                    Err(error) if topics::is_gone(&error) => {
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
        if held.broken.is_some() {
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
        held.end += 1;
        held.bytes += message.body.len();
        held.entries.push_back(message.into_entry());
        while held.bytes > KEPT_BYTES {
            let Some(oldest) = held.entries.pop_front() else { break };
            held.bytes -= oldest.body.len();
        }
    }
}
