//! The committer: appends staged groups in their order and answers when they are on the log; takes and releases partitions between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::{EventLog, LogError, Partition, Position, Taken, Writer, beyond_one};
use ledger_schemas::Record;
use tokio::sync::{mpsc, oneshot};

use crate::book::{Group, Staged};
use crate::request::{Answer, Refusal};

/// How long what is on the log may take to be seen here.
pub(crate) const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What the committer is to do, in its order.
pub(crate) enum Work {
    Append(Box<Group>),
    Take(Vec<Partition>, oneshot::Sender<Taken>),
    Release(Vec<Partition>, oneshot::Sender<()>),
}

/// Does what comes until it fails; then answers all that wait that their outcome is unknown, and ends.
pub(crate) async fn run(mut works: mpsc::Receiver<Work>, mut writer: Box<dyn Writer>, log: Arc<dyn EventLog>) -> Result<(), LogError> {
    while let Some(work) = works.recv().await {
        let outcome = match work {
            Work::Append(group) => append(group, &mut *writer, &*log).await.map(|()| true),
            Work::Take(partitions, done) => writer.take(&partitions).await.map(|taken| done.send(taken).is_ok()),
            Work::Release(partitions, done) => writer.release(&partitions).await.map(|()| done.send(()).is_ok()),
        };
        if let Err(error) = outcome {
            works.close();
            while let Some(work) = works.recv().await {
                if let Work::Append(group) = work {
                    give_up(group.staged);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

async fn append(group: Box<Group>, writer: &mut dyn Writer, log: &dyn EventLog) -> Result<(), LogError> {
    let begin = Instant::now();
    let records = u32::try_from(group.batch.records.len()).unwrap_or(u32::MAX);
    if !group.batch.is_empty() {
        if let Err(error) = writer.append(Arc::new(group.batch)).await {
            give_up(group.staged);
            return Err(error);
        }
        for (trace, part, begin) in group.traces {
            trace.span(part, "decide and book".to_owned(), begin, None);
        }
        metrics::histogram!("loyalty_commit_seconds").record(begin.elapsed());
        metrics::histogram!("loyalty_commit_batch_records").record(records);
    }
    answer(group.staged, log).await;
    Ok(())
}

async fn answer(staged: Vec<Staged>, log: &dyn EventLog) {
    for waiting in staged {
        match waiting {
            Staged::Answer(reply, outcome) => reply.send(outcome),
            Staged::Run(run) => run(true),
            Staged::Replay(reply, partition, position) => {
                reply.send(answer_at(log, partition, position, true).await);
            }
        }
    }
}

/// The answer that is made of the record at `position`, which is on the log, but may take its time to be seen.
pub(crate) async fn answer_at(log: &dyn EventLog, partition: Partition, position: Position, replayed: bool) -> Result<Answer, Refusal> {
    let read = async || log.read(partition, position, 1).await.ok().and_then(|entries| entries.into_iter().next());
    let mut entry = read().await;
    if entry.is_none() {
        let _ = log.wait_beyond(&beyond_one(log.partitions(), partition, position), SEEN_WITHIN).await;
        entry = read().await;
    }
    // It is booked, but can't be read now.
    let record = entry.and_then(|entry| Record::decode(&entry.body).ok()).ok_or(Refusal::OutcomeUnknown)?;
    Ok(Answer { record: Arc::new(record), partition, position, replayed })
}

fn give_up(staged: Vec<Staged>) {
    for waiting in staged {
        match waiting {
            Staged::Answer(reply, _) | Staged::Replay(reply, ..) => reply.send(Err(Refusal::OutcomeUnknown)),
            Staged::Run(run) => run(false),
        }
    }
}
