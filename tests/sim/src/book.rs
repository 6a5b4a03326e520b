//! What a run leaves on the log, to be read by others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_log::{Entry, EventLog, LogError, Partition, Position, Writer};
use rand::Rng;
use rand::rngs::SmallRng;

const SLICE_MAX: usize = 40;

/// All that stands on a log.
#[derive(Clone, Debug, Default)]
pub struct Book {
    pub records: Vec<Vec<Entry>>,
    pub outcomes: Vec<Vec<Vec<u8>>>,
    pub programs: Vec<Vec<u8>>,
}

/// A book as a log that is only read.
pub struct ReadLog {
    pub book: Arc<Book>,
    /// How much is read at a time, by chance; as much as is asked for, if none.
    pub slices: Option<Mutex<SmallRng>>,
}

impl ReadLog {
    fn some<T: Clone>(&self, all: &[T], from: Position, max: usize) -> Vec<T> {
        let slice = self.slices.as_ref().map(|rng| rng.lock().unwrap_or_else(PoisonError::into_inner).random_range(1..=SLICE_MAX));
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        all.iter().skip(from).take(slice.unwrap_or(max).min(max)).cloned().collect()
    }
}

#[async_trait::async_trait]
impl EventLog for ReadLog {
    fn book_id(&self) -> &str {
        "sim"
    }
    fn partitions(&self) -> u16 {
        u16::try_from(self.book.records.len()).expect("a run has a few partitions")
    }
    async fn acquire(&self, _owner: &str) -> Result<Box<dyn Writer>, LogError> {
        Err(LogError::Unavailable { action: "write", source: "it is only read".into() })
    }
    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        Ok(self.some(&self.book.records[usize::from(partition)], from, max))
    }
    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        Ok(self.some(&self.book.outcomes[usize::from(partition)], from, max))
    }
    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        Ok(self.book.programs.iter().skip(usize::try_from(from).unwrap_or(usize::MAX)).cloned().collect())
    }
    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        Ok(self.book.records.iter().map(|records| records.len() as u64).collect())
    }
    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        Ok(BTreeMap::new())
    }
    async fn wait_beyond(&self, _ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        tokio::time::sleep(patience).await;
        Ok(false)
    }
}
