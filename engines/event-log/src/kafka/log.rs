//! The log: its tail, the readers behind it, its writers and members put together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use tokio::sync::{mpsc, watch};

use super::asker::KafkaAsker;
use super::client::{PATIENCE, Reader, blocking, failed};
use super::fetch::{self, Fetcher};
use super::options::KafkaOptions;
use super::standing::{Membership, Standing};
use super::tail::{self, Tail};
use super::writer::KafkaWriter;
use super::{member, topics};
use crate::{Asker, Entry, EventLog, LogError, News, Partition, Position, Writer, is_beyond};

/// How many readers that are behind the tail keep their connection.
const FETCHERS_MAX: usize = 8;

/// The log on Kafka.
pub struct KafkaLog {
    options: KafkaOptions,
    partitions: u16,
    book_id: String,
    tail: Arc<Tail>,
    programs: Tail,
    /// Readers behind the tail, the last used last.
    fetchers: Arc<Mutex<Vec<Fetcher>>>,
    /// Looks where outcomes end, now in one partition, now in another.
    looker: Arc<Mutex<Option<Reader>>>,
    /// The threads of those who joined, which leave the group when their news are not heard any more.
    members: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for KafkaLog {
    /// Waits until the group is left, so that its partitions go to others at once.
    fn drop(&mut self) {
        for member in std::mem::take(self.members.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            let _ = member.join();
        }
    }
}

impl KafkaLog {
    /// Opens the log, making its topics with `partitions` partitions if they are not there; `book_id` is that of a book that moves here.
    ///
    /// # Errors
    /// [`LogError::Partitions`] or [`LogError::OtherBook`] where it was made with another number or for another book, [`LogError::Topic`]
    /// where a topic's settings contradict the book's needs and the broker does not alter them; what the broker says.
    pub async fn open(options: KafkaOptions, partitions: u16, book_id: Option<String>) -> Result<Self, LogError> {
        topics::ensure(&options, partitions).await?;
        let config = options.clone();
        let asked = book_id.clone();
        let found = blocking(move || topics::book_id(&config, asked)).await?;
        if let Some(asked) = book_id.filter(|asked| *asked != found) {
            return Err(LogError::OtherBook { found, asked });
        }
        let config = options.clone();
        let tails = move || Ok((Tail::start(&config, topics::EVENTS, partitions)?, Tail::start(&config, topics::PROGRAMS, 1)?));
        let (tail, programs) = blocking(tails).await?;
        Ok(Self {
            options,
            partitions,
            book_id: found,
            tail: Arc::new(tail),
            programs,
            fetchers: Arc::default(),
            looker: Arc::default(),
            members: Mutex::default(),
        })
    }

    /// Reads what the tail no longer holds.
    async fn fetch(&self, topic: String, partition: Partition, from: Position, max: usize, end: Position) -> Result<Vec<Entry>, LogError> {
        let (options, fetchers) = (self.options.clone(), Arc::clone(&self.fetchers));
        blocking(move || {
            let idle = {
                let mut idle = fetchers.lock().unwrap_or_else(PoisonError::into_inner);
                let at = idle.iter().position(|fetcher| fetcher.continues(&topic, partition, from));
                let at = at.or_else(|| idle.iter().position(|fetcher| fetcher.is_of(&topic, partition)));
                at.map(|at| idle.remove(at))
            };
            let mut fetcher = match idle {
                Some(fetcher) => fetcher,
                None => Fetcher::open(&options, topic, partition)?,
            };
            let entries = fetcher.read(from, max, end)?;
            let mut idle = fetchers.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(fetcher);
            let surplus = idle.len().saturating_sub(FETCHERS_MAX);
            idle.drain(..surplus);
            Ok(entries)
        })
        .await
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn book_id(&self) -> &str {
        &self.book_id
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn acquire(&self, _owner: &str) -> Result<Box<dyn Writer>, LogError> {
        let (options, partitions, tail) = (self.options.clone(), self.partitions, Arc::clone(&self.tail));
        let start = move || {
            // Before, so that nobody is disturbed; and after, as somebody may come in between.
            member::require_nobody(&options)?;
            let nobody = Standing::new(Some(Membership::nobody()));
            // All who want to be alone have the same id, so that the last one ends the others.
            KafkaWriter::start(&options, partitions, Arc::new(nobody), options.topic("writer"), tail)
        };
        let mut writer = blocking(start).await?;
        let all: Vec<Partition> = (0..partitions).collect();
        let taken = writer.take(&all).await?;
        let options = self.options.clone();
        blocking(move || member::require_nobody(&options)).await?;
        // Who takes over reads up to here first; the records' tail has it already.
        self.programs.reaches(&[taken.program_entries], PATIENCE).await?;
        Ok(Box::new(writer))
    }

    async fn join(&self, _owner: &str) -> Result<(Box<dyn Writer>, mpsc::UnboundedReceiver<News>), LogError> {
        let (options, partitions, tail) = (self.options.clone(), self.partitions, Arc::clone(&self.tail));
        let start = move || {
            let standing = Arc::new(Standing::new(None));
            let id = format!("{}.{}", options.topic("writer"), uuid::Uuid::new_v4());
            let writer = KafkaWriter::start(&options, partitions, Arc::clone(&standing), id, tail)?;
            Ok((writer, member::join(&options, standing)?))
        };
        let (writer, (news, thread)) = blocking(start).await?;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|member| !member.is_finished());
        members.push(thread);
        Ok((Box::new(writer), news))
    }

    async fn asker(&self) -> Result<Option<Arc<dyn Asker>>, LogError> {
        let (options, partitions) = (self.options.clone(), self.partitions);
        let asker = blocking(move || KafkaAsker::start(&options, partitions)).await?;
        Ok(Some(Arc::new(asker)))
    }

    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        match self.tail.read(partition, from, max)? {
            tail::Read::Here(entries) => Ok(entries),
            tail::Read::Before { end } => self.fetch(self.options.topic(topics::EVENTS), partition, from, max, end).await,
        }
    }

    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let (options, topic, looker) = (self.options.clone(), self.options.topic(topics::OUTCOMES), Arc::clone(&self.looker));
        let (of, asked) = (topic.clone(), partition);
        let look = move || {
            // Where the look fails it is not put back.
            let mut looker = looker.lock().unwrap_or_else(PoisonError::into_inner);
            let consumer = looker.take().map_or_else(|| options.consumer(), Ok)?;
            let end = fetch::end(&consumer, &of, asked)?;
            consumer.unassign().map_err(failed("rest"))?;
            *looker = Some(consumer);
            Ok(end.position)
        };
        let end = blocking(look).await?;
        if from >= end {
            return Ok(Vec::new());
        }
        let entries = self.fetch(topic, partition, from, max, end).await?;
        Ok(entries.into_iter().map(|entry| entry.body).collect())
    }

    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        let entries = match self.programs.read(0, from, usize::MAX)? {
            tail::Read::Here(entries) => entries,
            tail::Read::Before { end } => self.fetch(self.options.topic(topics::PROGRAMS), 0, from, usize::MAX, end).await?,
        };
        Ok(entries.into_iter().map(|entry| entry.body).collect())
    }

    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        self.tail.require_topic()?;
        Ok(self.tail.ends())
    }

    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        let (options, topic) = (self.options.clone(), self.options.topic(topics::OFFSETS));
        blocking(move || {
            let mut offsets = BTreeMap::new();
            for message in fetch::scan(&options.consumer()?, &topic)? {
                let read = message.body.try_into().map(u64::from_be_bytes).unwrap_or(0);
                let offset: &mut u64 = offsets.entry(message.key).or_default();
                *offset = read.max(*offset);
            }
            Ok(offsets)
        })
        .await
    }

    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        let mut news: watch::Receiver<u64> = self.tail.subscribe();
        let beyond = async {
            while !is_beyond(&self.tail.ends(), ends) {
                if news.changed().await.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(patience, beyond).await.unwrap_or(Ok(false))
    }
}
