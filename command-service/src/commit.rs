//! The committer: appends staged groups in their order and answers when they are on the log; takes and releases partitions between them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use event_log::{EventLog, LogError, Partition, Position, Taken, Writer, beyond_one};
use ledger_core::planted::{Bug, is_planted};
use ledger_schemas::Record;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::group::{Group, Staged};
use crate::request::{Answer, Refusal, Reply};

/// How long what is on the log may take to be seen here.
pub(crate) const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// What the committer is to do, in its order.
pub(crate) enum Work {
    /// With what is held until it is on the log.
    Append(Box<Group>, Option<TaskTrackerToken>),
    Take(Vec<Partition>, oneshot::Sender<Taken>),
    Release(Vec<Partition>, oneshot::Sender<()>),
}

/// Does what comes until it fails; then answers all that wait that their outcome is unknown, and ends. Groups that are done go to `emptied`.
pub(crate) async fn run(
    mut works: mpsc::Receiver<Work>,
    emptied: mpsc::Sender<Group>,
    mut writer: Box<dyn Writer>,
    log: Arc<dyn EventLog>,
) -> Result<(), LogError> {
    let held: Arc<Mutex<Option<TaskTrackerToken>>> = Arc::default();
    let let_go = {
        let held = Arc::clone(&held);
        move || drop(held.lock().unwrap_or_else(PoisonError::into_inner).take())
    };
    writer.before_ends(Arc::new(let_go.clone()));
    while let Some(work) = works.recv().await {
        let mut group = Box::default();
        let outcome = match work {
            Work::Append(staged, in_hand) => {
                group = staged;
                *held.lock().unwrap_or_else(PoisonError::into_inner) = in_hand;
                let appended = append(&mut group, &mut *writer, &log).await;
                let_go();
                appended
            }
            Work::Take(partitions, done) => writer.take(&partitions).await.map(|taken| told(done, taken)),
            Work::Release(partitions, done) => writer.release(&partitions).await.map(|()| told(done, ())),
        };
        if let Err(error) = outcome {
            // First of all nothing more comes in: whoever hears that an outcome is unknown may ask again at once.
            works.close();
            give_up(group.staged);
            while let Some(work) = works.recv().await {
                if let Work::Append(group, _) = work {
                    give_up(group.staged);
                }
            }
            return Err(error);
        }
        answer(&mut group.staged, &log).await;
        group.batch.clear();
        // Where the loop has ended, or has enough of them, it is dropped.
        let _ = emptied.try_send(*group);
    }
    Ok(())
}

/// Whoever waited may have gone.
fn told<T>(done: oneshot::Sender<T>, what: T) {
    let _ = done.send(what);
}

/// Appends the group, whose batch it leaves empty where the writer still has it.
async fn append(group: &mut Group, writer: &mut dyn Writer, log: &Arc<dyn EventLog>) -> Result<(), LogError> {
    let begin = Instant::now();
    if is_planted(Bug::AnswerBeforeCommit) {
        answer(&mut group.staged, log).await;
    }
    if group.batch.is_empty() {
        return Ok(());
    }
    let records = u32::try_from(group.batch.records.len()).unwrap_or(u32::MAX);
    let batch = Arc::new(std::mem::take(&mut group.batch));
    match writer.append(Arc::clone(&batch)).await {
        Err(_) if is_planted(Bug::StateKeptAfterFailure) => return Ok(()),
        outcome => outcome?,
    }
    group.batch = Arc::try_unwrap(batch).unwrap_or_default();
    for (trace, part, begin) in group.traces.drain(..) {
        trace.span(part, "decide and book".to_owned(), begin, None);
    }
    metrics::histogram!("loyalty_commit_seconds").record(begin.elapsed());
    metrics::histogram!("loyalty_commit_batch_records").record(records);
    Ok(())
}

async fn answer(staged: &mut Vec<Staged>, log: &Arc<dyn EventLog>) {
    for waiting in staged.drain(..) {
        match waiting {
            Staged::Answer(reply, outcome) => reply.send(outcome),
            Staged::Run(run) => run(true),
            Staged::Before(sender, tag) => drop(sender.send((tag, Ok(None)))),
            // Read back beside the commits: who sends old commands again holds up nobody's new ones.
            Staged::Replay(reply @ Reply::One(_), partition, position) => {
                let log = Arc::clone(log);
                tokio::spawn(async move { reply.send(answer_at(&*log, partition, position, true).await) });
            }
            // Of many, the answers come in the order that they were asked for.
            Staged::Replay(reply, partition, position) => reply.send(answer_at(&**log, partition, position, true).await),
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
            Staged::Before(sender, tag) => drop(sender.send((tag, Err(Refusal::OutcomeUnknown)))),
            Staged::Run(run) => run(false),
        }
    }
}
