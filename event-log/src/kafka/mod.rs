//! The log on Kafka: records on `<prefix>.events`, outcomes, rulebooks and offsets each on a topic of their own, a batch in one transaction.
//!
//! Invariants: a record's position is not its offset (transaction markers leave gaps in those) but stands in its header and goes 0, 1, 2 …
//! within its partition, as on every other log, so a book keeps its positions when it moves; every reader reads `read_committed` and checks
//! that no position is missing; a partition has one writer, named by its lease (`transactions`), whoever took it last.
//!
//! What is asked over the log stands on `<prefix>.commands`, whose consumer group shares the partitions out; answers on `<prefix>.replies`.
//! How far it was read, and who has each partition, stands on `<prefix>.progress`: a group's own offsets are forgotten a week after its last member.

mod alter;
mod asker;
mod fetch;
mod member;
mod message;
mod producer;
mod progress;
mod record_batch;
mod standing;
mod tail;
mod topics;
mod transactions;
mod wire;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::{mpsc, watch};

use crate::{Asker, Entry, EventLog, LogError, News, Partition, Position, Writer, is_beyond};
use asker::KafkaAsker;
use fetch::Fetcher;
use standing::{Membership, Standing};
use tail::Tail;
use writer::KafkaWriter;

/// How long a call to the broker may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many readers that are behind the tail keep their connection.
const FETCHERS_MAX: usize = 8;

/// Where the log is.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The brokers, as `HOST:PORT,HOST:PORT`.
    pub brokers: String,
    /// What the topics' names begin with.
    pub prefix: String,
    /// How many brokers keep each partition of a new topic.
    pub replication: u16,
    /// How long a member may be silent before its partitions go to others.
    pub session_timeout: Duration,
}

impl KafkaOptions {
    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn client_id(&self) -> String {
        format!("{}-ledger", self.prefix)
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", self.client_id());
        config
    }

    /// A consumer that is told what to read and commits nothing.
    fn consumer(&self) -> Result<Reader, LogError> {
        // The client asks for a group even where none is joined.
        self.consumer_of(&self.topic("readers"), "read_committed")
    }

    /// As above, where `group` matters: for its offsets.
    fn consumer_of(&self, group: &str, isolation: &str) -> Result<Reader, LogError> {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "16384")
            // Where nothing is fetched, because it is written here, this alone tells that a topic is gone.
            .set("topic.metadata.refresh.interval.ms", "2000")
            .set("fetch.wait.max.ms", "20");
        config.create_with_context(Quiet).map_err(failed("connect a consumer"))
    }
}

/// What the client says by itself is for those who look for it: what matters comes back from a call.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the kafka client says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the kafka client goes on by itself");
    }
}

impl ConsumerContext for Quiet {}

type Reader = BaseConsumer<Quiet>;

fn failed<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> LogError {
    move |source| LogError::Unavailable { action, source: Box::new(source) }
}

fn timed_out(action: &'static str) -> LogError {
    failed(action)(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// Runs what blocks on a thread where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(failed("wait for the client"))?
}

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
