//! The log: what the book is written on.
//!
//! Invariants, which the conformance suite holds for every adapter: a batch is appended whole or not at all; a partition's positions
//! are 0, 1, 2 … in the order of appending; one writer at a time, and one whose epoch is over appends nothing; what was appended is
//! never changed; a reader sees a prefix of what was appended.

pub mod conformance;
pub mod kafka;
pub mod memory;
pub mod postgres;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

/// The largest message that every log takes: of Kafka's topics it is set as `max.message.bytes`.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// The number of a partition.
pub type Partition = u16;
/// A place in a partition, from 0.
pub type Position = u64;

/// Why the log can't do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Another writer has taken over; this one must stop.
    #[error("another writer has taken over from epoch {epoch}")]
    Fenced {
        /// The epoch that is over.
        epoch: u64,
    },
    /// The engine did not answer. After an append its outcome is unknown: acquire anew and read what is there.
    #[error("the log's engine failed: {action}")]
    Unavailable {
        /// What was being done.
        action: &'static str,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Others share the log.
    #[error("{members} command services share this log; stop them first")]
    Shared {
        /// How many.
        members: usize,
    },
    /// The log was made with another number of partitions, and accounts can't move.
    #[error("the log has {found} partitions, {asked} were asked for; the number can't change, because accounts would move")]
    Partitions {
        /// The log's.
        found: u16,
        /// Asked.
        asked: u16,
    },
    /// A topic is not as the book needs it.
    #[error("topic {topic} has {setting} = {found:?}, the book needs {expected:?}, and the broker does not alter it; set it so, or name another prefix")]
    Topic {
        /// Which.
        topic: String,
        /// Its setting.
        setting: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// A part of the book is gone.
    #[error("topic {topic} is missing, but book {book} is here: it was deleted; restore it, or begin a new book under another prefix")]
    Missing {
        /// Which.
        topic: String,
        /// The book's id.
        book: String,
    },
    /// A part of the book was taken away while it was in use.
    #[error("topic {topic} is gone: it was deleted under this process; stop every process and restore it, or begin a new book under another prefix")]
    Gone {
        /// Which.
        topic: String,
    },
    /// The broker refuses a topic.
    #[error("the broker refuses topic {topic}")]
    Refused {
        /// Which.
        topic: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A record is missing or stands twice.
    #[error("partition {partition} has position {found} where {expected} should be: a record is missing or was written twice")]
    Gap {
        /// Its partition.
        partition: Partition,
        /// What should follow.
        expected: Position,
        /// What does.
        found: Position,
    },
    /// The last records of a partition are gone.
    #[error(
        "partition {partition} has records up to position {found}, but they were written up to {expected}: the last ones are missing; restore a backup that has them"
    )]
    Lost {
        /// Its partition.
        partition: Partition,
        /// The position after the last record that is there.
        found: Position,
        /// The position after the last record that was written.
        expected: Position,
    },
    /// Somebody else writes to the book's topics.
    #[error("the message at offset {offset} of {topic}, partition {partition}, was not written by a ledger")]
    Foreign {
        /// The topic.
        topic: String,
        /// Its partition.
        partition: i32,
        /// Where.
        offset: i64,
    },
    /// There is another book already.
    #[error("the log holds book {found}, not {asked}; copy into an empty database or under another prefix")]
    OtherBook {
        /// The log's.
        found: String,
        /// Asked.
        asked: String,
    },
    /// A crash that a test asked for.
    #[error("crashed as asked, {0:?}")]
    Crashed(Crash),
}

/// Where a test lets an append crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nothing was written.
    BeforeCommit,
    /// All was written, but the writer never hears of it.
    AfterCommit,
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The account's partition.
    pub partition: Partition,
    /// The partition's next position, counted on within the batch.
    pub position: Position,
    /// The account's key.
    pub account: String,
    /// The record's number within the account.
    pub account_seq: u64,
    /// The record's bytes.
    pub body: Vec<u8>,
}

/// A refused command to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOutcome {
    /// The account's partition.
    pub partition: Partition,
    /// The outcome's bytes.
    pub body: Vec<u8>,
}

/// A group of commands' results: appended whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Accepted commands.
    pub records: Vec<NewRecord>,
    /// Refused commands.
    pub outcomes: Vec<NewOutcome>,
    /// Entries of the program stream: rulebooks and clocks.
    pub programs: Vec<Vec<u8>>,
    /// How far the sources of the commands were read.
    pub offsets: Vec<(String, u64)>,
    /// On a shared log: up to where each partition's commands were read, the next one's offset.
    pub consumed: Vec<(Partition, u64)>,
    /// On a shared log: answers to those who asked over it.
    pub replies: Vec<NewReply>,
}

/// Tells an answer from others.
pub type Correlation = [u8; 16];

/// Whom to answer: a partition that the asker reads, and what tells the answer from others there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// Which partition of the replies.
    pub partition: Partition,
    /// The asker's own mark.
    pub correlation: Correlation,
}

/// An answer to append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReply {
    /// To whom.
    pub to: ReplyTo,
    /// What.
    pub body: Vec<u8>,
}

impl Batch {
    /// Whether there is nothing to append.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nothing_booked = self.records.is_empty() && self.outcomes.is_empty() && self.programs.is_empty();
        nothing_booked && self.offsets.is_empty() && self.consumed.is_empty() && self.replies.is_empty()
    }

    /// Empties it and keeps its room: what is new memory to every batch costs more than filling it.
    pub fn clear(&mut self) {
        let Self { records, outcomes, programs, offsets, consumed, replies } = self;
        records.clear();
        outcomes.clear();
        programs.clear();
        offsets.clear();
        consumed.clear();
        replies.clear();
    }

    /// The next positions after it, where partitions go on at `next`; none if its records don't go on there.
    fn next_after(&self, next: &[Position]) -> Option<Vec<Position>> {
        let mut next = next.to_vec();
        for record in &self.records {
            let expected = &mut next[usize::from(record.partition)];
            if record.position != *expected {
                return None;
            }
            *expected += 1;
        }
        Some(next)
    }
}

/// A record as it was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub position: Position,
    /// The account's key.
    pub account: String,
    /// Its number within the account.
    pub account_seq: u64,
    /// Its bytes.
    pub body: Vec<u8>,
}

/// Something that was asked over a shared log.
#[derive(Debug)]
pub struct Asked {
    /// The partition of the account it is about.
    pub partition: Partition,
    /// Its place among what is asked there.
    pub offset: u64,
    /// Whom to answer; nobody where nobody waits.
    pub reply_to: Option<ReplyTo>,
    /// What.
    pub body: Vec<u8>,
    /// Counts against what may wait, as long as it lives.
    pub slot: Slot,
}

/// A place among those who wait.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// One of those counted by `waiting`.
    #[must_use]
    pub fn take(waiting: &Arc<AtomicUsize>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one of those who share a log is told, in this order.
#[derive(Debug)]
pub enum News {
    /// Somebody asks.
    Asked(Asked),
    /// These partitions are to be taken.
    Assigned(Vec<Partition>),
    /// These are to be released; others get them when the sender is used or dropped.
    Revoked(Vec<Partition>, oneshot::Sender<()>),
    /// All are others' already.
    Lost,
}

/// Where partitions stand that were taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The position after the last record of each.
    pub ends: Vec<(Partition, Position)>,
    /// How many entries the program stream has at least.
    pub program_entries: Position,
    /// On a shared log: the first question of each that is not decided yet. Those before it may come again, and are to be passed over.
    pub undecided: Vec<(Partition, u64)>,
}

/// Who asks over a log that several share.
#[async_trait]
pub trait Asker: Send + Sync {
    /// Asks `body` about an account of `partition`; none where no answer came within `patience`, so that nobody knows what became of it.
    ///
    /// # Errors
    /// Where it could not be sent, so that nothing will come of it.
    async fn ask(&self, partition: Partition, key: &str, body: &[u8], patience: Duration) -> Result<Option<Vec<u8>>, LogError>;
}

/// A log with its partitions.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// The book's own id, made with it: what is kept beside the log names the book that it belongs to.
    fn book_id(&self) -> &str;

    /// How many partitions there are.
    fn partitions(&self) -> u16;

    /// Takes all partitions over; whoever wrote before is fenced. Where several share it, they must have ended before.
    async fn acquire(&self, owner: &str) -> Result<Box<dyn Writer>, LogError>;

    /// Takes a share of the partitions, as the news tell; on a log that can't be shared, all.
    async fn join(&self, owner: &str) -> Result<(Box<dyn Writer>, mpsc::UnboundedReceiver<News>), LogError> {
        let writer = self.acquire(owner).await?;
        Ok((writer, all_assigned(self.partitions())))
    }

    /// Somebody who asks over the log; none where it can't be shared.
    async fn asker(&self) -> Result<Option<Arc<dyn Asker>>, LogError> {
        Ok(None)
    }

    /// Up to `max` records from `from` on.
    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError>;

    /// Up to `max` outcomes' bytes from `from` on.
    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError>;

    /// The program stream's entries from `from` on.
    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError>;

    /// The position after the last record of each partition that readers see.
    async fn ends(&self) -> Result<Vec<Position>, LogError>;

    /// How far each source was read.
    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError>;

    /// Waits until some partition reaches beyond its position in `ends`, at most `patience`; tells whether one does.
    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError>;
}

/// The one who appends.
#[async_trait]
pub trait Writer: Send {
    /// The partition's next position.
    fn next_position(&self, partition: Partition) -> Position;

    /// Appends `batch`, whole or not at all. After an error but [`LogError::Fenced`] the outcome is unknown.
    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError>;

    /// Has `tell` called in each append from here on when that will be over in a moment, so that the next batch can be made meanwhile.
    fn before_ends(&mut self, _tell: Arc<dyn Fn() + Send + Sync>) {}

    /// Takes partitions that were assigned: whoever had them appends nothing there any more. The ends that it tells come after all that was ever
    /// acknowledged there, though readers may see less as yet: where the engine does not know them, it waits, or fails.
    async fn take(&mut self, partitions: &[Partition]) -> Result<Taken, LogError> {
        let ends = partitions.iter().map(|partition| (*partition, self.next_position(*partition))).collect();
        Ok(Taken { ends, ..Taken::default() })
    }

    /// Gives partitions up, after all that was appended.
    async fn release(&mut self, _partitions: &[Partition]) -> Result<(), LogError> {
        Ok(())
    }

    /// Lets the next append crash, for tests and simulation.
    fn crash_next(&mut self, crash: Crash);
}

/// The news of somebody who has the whole log.
fn all_assigned(partitions: Partition) -> mpsc::UnboundedReceiver<News> {
    let (news, heard) = mpsc::unbounded_channel();
    // The receiver is here, so this can't fail.
    let _ = news.send(News::Assigned((0..partitions).collect()));
    heard
}

/// What [`EventLog::wait_beyond`] is given where only one partition, reaching beyond `position`, matters.
#[must_use]
pub fn beyond_one(partitions: u16, partition: Partition, position: Position) -> Vec<Position> {
    let mut ends = vec![Position::MAX; usize::from(partitions)];
    ends[usize::from(partition)] = position;
    ends
}

/// Whether some partition of `ends` is beyond where it was.
fn is_beyond(ends: &[Position], before: &[Position]) -> bool {
    ends.iter().zip(before).any(|(end, before)| end > before)
}

/// The partition that an account lives in: BLAKE3 of its key, modulo their number. It never changes.
#[must_use]
pub fn partition_of(key: &str, partitions: u16) -> Partition {
    let hash = blake3::hash(key.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    let partition = u32::from_le_bytes([a, b, c, d]) % u32::from(partitions.max(1));
    Partition::try_from(partition).expect("the remainder is below a u16")
}
