//! The log in memory, for simulation and tests; nothing outlives the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Batch, Crash, Entry, EventLog, LogError, Partition, Position, Writer};

#[derive(Default)]
struct Book {
    epoch: u64,
    partitions: Vec<Vec<Entry>>,
    outcomes: Vec<Vec<Vec<u8>>>,
    programs: Vec<Vec<u8>>,
    offsets: BTreeMap<String, u64>,
}

/// A log in memory; clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    book: Arc<Mutex<Book>>,
    appended: watch::Sender<u64>,
    partitions: u16,
}

struct MemoryWriter {
    log: MemoryLog,
    epoch: u64,
    next: Vec<Position>,
    crash: Option<Crash>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(partitions: u16) -> Self {
        let n = usize::from(partitions);
        let book = Book { partitions: vec![Vec::new(); n], outcomes: vec![Vec::new(); n], ..Book::default() };
        Self { book: Arc::new(Mutex::new(book)), appended: watch::Sender::new(0), partitions }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // A holder that panicked left the book whole: every change is made after all that can fail.
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn from<T: Clone>(items: &[T], from: Position, max: usize) -> Vec<T> {
    let start = usize::try_from(from).unwrap_or(usize::MAX).min(items.len());
    items[start..].iter().take(max).cloned().collect()
}

#[async_trait]
impl EventLog for MemoryLog {
    fn book_id(&self) -> &str {
        "memory"
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn acquire(&self, _owner: &str) -> Result<Box<dyn Writer>, LogError> {
        let mut book = self.book();
        book.epoch += 1;
        let next = book.partitions.iter().map(|entries| entries.len() as Position).collect();
        Ok(Box::new(MemoryWriter { log: self.clone(), epoch: book.epoch, next, crash: None }))
    }

    async fn read(&self, partition: Partition, position: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        Ok(from(&self.book().partitions[usize::from(partition)], position, max))
    }

    async fn read_outcomes(&self, partition: Partition, position: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        Ok(from(&self.book().outcomes[usize::from(partition)], position, max))
    }

    async fn read_programs(&self, position: Position) -> Result<Vec<Vec<u8>>, LogError> {
        Ok(from(&self.book().programs, position, usize::MAX))
    }

    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        Ok(self.book().partitions.iter().map(|entries| entries.len() as Position).collect())
    }

    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        Ok(self.book().offsets.clone())
    }

    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        let mut appended = self.appended.subscribe();
        let beyond = async {
            while !crate::is_beyond(&self.ends().await?, ends) {
                if appended.changed().await.is_err() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        tokio::time::timeout(patience, beyond).await.unwrap_or(Ok(false))
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.next[usize::from(partition)]
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        if self.crash == Some(Crash::BeforeCommit) {
            return Err(LogError::Crashed(Crash::BeforeCommit));
        }
        {
            let mut book = self.log.book();
            let next: Vec<Position> = book.partitions.iter().map(|entries| entries.len() as Position).collect();
            let next = batch.next_after(&next).filter(|_| book.epoch == self.epoch).ok_or(LogError::Fenced { epoch: self.epoch })?;
            for record in &batch.records {
                book.partitions[usize::from(record.partition)].push(Entry {
                    position: record.position,
                    account: record.account.clone(),
                    account_seq: record.account_seq,
                    body: record.body.clone(),
                });
            }
            for outcome in &batch.outcomes {
                book.outcomes[usize::from(outcome.partition)].push(outcome.body.clone());
            }
            book.programs.extend(batch.programs.iter().cloned());
            for (source, position) in &batch.offsets {
                let offset = book.offsets.entry(source.clone()).or_default();
                *offset = (*offset).max(*position);
            }
            self.next = next;
        }
        self.log.appended.send_modify(|n| *n += 1);
        match self.crash {
            Some(crash) => Err(LogError::Crashed(crash)),
            None => Ok(()),
        }
    }

    fn crash_next(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }
}
