//! The writer as its owner sees it; what it does is done on a thread of its own, as the client's transaction calls block.

use std::sync::{Arc, mpsc};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::client::{PATIENCE, failed};
use super::options::KafkaOptions;
use super::standing::Standing;
use super::tail::Tail;
use super::transactions::{Append, Transactions};
use crate::{Batch, Crash, Entry, LogError, NewRecord, Partition, Position, Taken, Writer};

/// See [`Writer::before_ends`].
pub(super) type Tell = Arc<dyn Fn() + Send + Sync>;

enum Job {
    Append(Arc<Batch>, Option<Crash>, Tell, oneshot::Sender<Result<Vec<(Partition, i64)>, LogError>>),
    Take(Vec<Partition>, oneshot::Sender<Result<Taken, LogError>>),
    Release(Vec<Partition>, oneshot::Sender<Result<(), LogError>>),
}

pub(super) struct KafkaWriter {
    /// What it has committed is put there.
    tail: Arc<Tail>,
    jobs: mpsc::Sender<Job>,
    next: Vec<Position>,
    crash: Option<Crash>,
    is_fenced: bool,
    /// Told before an append ends.
    before_end: Tell,
}

impl KafkaWriter {
    /// A writer that has nothing yet, with the transactional id `id`.
    pub(super) fn start(options: &KafkaOptions, partitions: u16, standing: Arc<Standing>, id: String, tail: Arc<Tail>) -> Result<Self, LogError> {
        let mut transactions = Transactions::start(options, partitions, standing, id)?;
        let (jobs, waiting) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("kafka-writer".into());
        let run = move || {
            for job in waiting {
                // Nobody waits any more where the one who asked was stopped. A producer that failed once is not used again: what comes
                // of its transaction is known to the next one only.
                let goes_on = match job {
                    Job::Append(batch, crash, before_end, done) => {
                        let outcome = transactions.append(&Append { batch: &batch, crash, before_end: &*before_end });
                        // Its room is used again by whoever is told, if nobody else has it.
                        drop(batch);
                        tell(done, outcome)
                    }
                    Job::Take(partitions, done) => tell(done, transactions.take(&partitions)),
                    Job::Release(partitions, done) => tell(done, transactions.release(&partitions)),
                };
                if !goes_on {
                    return;
                }
            }
        };
        thread.spawn(run).map_err(failed("start a thread"))?;
        Ok(Self { tail, jobs, next: vec![0; usize::from(partitions)], crash: None, is_fenced: false, before_end: Arc::new(|| {}) })
    }

    /// Puts what was committed into the tail.
    fn put(&self, batch: &Batch, written: &[(Partition, i64)]) {
        for (partition, offset) in written {
            let records = batch.records.iter().filter(|record| record.partition == *partition);
            let entry = |record: &NewRecord| {
                let NewRecord { position, account, account_seq, body, .. } = record.clone();
                Entry { position, account, account_seq, body }
            };
            self.tail.put(*partition, records.map(entry), *offset);
        }
        self.tail.tell();
    }

    async fn job<T>(&mut self, job: impl FnOnce(oneshot::Sender<Result<T, LogError>>) -> Job) -> Result<T, LogError> {
        let (done, outcome) = oneshot::channel();
        let gone = || failed("append")(std::io::Error::other("the writer has ended"));
        self.jobs.send(job(done)).map_err(|_| gone())?;
        let outcome = outcome.await.map_err(|_| gone())?;
        self.is_fenced |= matches!(outcome, Err(LogError::Fenced { .. }));
        outcome
    }
}

/// What it had is read again by the tail: what became of its last append is seen there only.
impl Drop for KafkaWriter {
    fn drop(&mut self) {
        let all: Vec<Partition> = (0..).take(self.next.len()).collect();
        if let Err(error) = self.tail.disown(&all) {
            tracing::error!(%error, "what was written here is not read again");
        }
    }
}

fn tell<T>(done: oneshot::Sender<Result<T, LogError>>, outcome: Result<T, LogError>) -> bool {
    let goes_on = outcome.is_ok();
    let _ = done.send(outcome);
    goes_on
}

#[async_trait]
impl Writer for KafkaWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.next[usize::from(partition)]
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        let next = batch.next_after(&self.next).filter(|_| !self.is_fenced).ok_or(LogError::Fenced { epoch: 0 })?;
        let (crash, before_end) = (self.crash, Arc::clone(&self.before_end));
        let of_job = Arc::clone(&batch);
        let written = self.job(|done| Job::Append(of_job, crash, before_end, done)).await?;
        self.next = next;
        self.put(&batch, &written);
        Ok(())
    }

    fn before_ends(&mut self, tell: Tell) {
        self.before_end = tell;
    }

    async fn take(&mut self, partitions: &[Partition]) -> Result<Taken, LogError> {
        self.tail.disown(partitions)?;
        let taken = self.job(|done| Job::Take(partitions.to_vec(), done)).await?;
        for (partition, end) in &taken.ends {
            self.next[usize::from(*partition)] = *end;
        }
        // What others have written comes from the broker; from here on nobody else writes there.
        let mut ends = vec![0; self.next.len()];
        taken.ends.iter().for_each(|(partition, end)| ends[usize::from(*partition)] = *end);
        self.tail.reaches(&ends, PATIENCE).await?;
        self.tail.own(partitions)?;
        Ok(taken)
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.job(|done| Job::Release(partitions.to_vec(), done)).await?;
        self.tail.disown(partitions)
    }

    fn crash_next(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }
}
