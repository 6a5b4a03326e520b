//! The committer: appends staged groups in their order and answers when they are on the log.

use std::sync::Arc;
use std::time::Instant;

use event_log::{EventLog, LogError, Writer};
use ledger_schemas::Record;
use tokio::sync::mpsc;

use crate::book::{Group, Staged};
use crate::request::{Answer, Refusal};

/// Appends what comes until an append fails; then answers all that wait that their outcome is unknown, and ends.
pub(crate) async fn run(mut groups: mpsc::Receiver<Group>, mut writer: Box<dyn Writer>, log: Arc<dyn EventLog>) -> Result<(), LogError> {
    while let Some(group) = groups.recv().await {
        let begin = Instant::now();
        let records = u32::try_from(group.batch.records.len()).unwrap_or(u32::MAX);
        let appended = if group.batch.is_empty() { Ok(()) } else { writer.append(Arc::new(group.batch)).await };
        match appended {
            Ok(()) => {
                metrics::histogram!("loyalty_commit_seconds").record(begin.elapsed());
                metrics::histogram!("loyalty_commit_batch_records").record(records);
                answer(group.staged, &*log).await;
            }
            Err(error) => {
                groups.close();
                give_up(group.staged);
                while let Some(group) = groups.recv().await {
                    give_up(group.staged);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn answer(staged: Vec<Staged>, log: &dyn EventLog) {
    for waiting in staged {
        match waiting {
            Staged::Answer(reply, outcome) => reply.send(outcome),
            Staged::Run(run) => run(true),
            Staged::Replay(reply, partition, position) => {
                let entry = log.read(partition, position, 1).await.ok().and_then(|entries| entries.into_iter().next());
                let record = entry.and_then(|entry| Record::decode(&entry.body).ok());
                reply.send(match record {
                    Some(record) => Ok(Answer { record: Arc::new(record), partition, position, replayed: true }),
                    // It is on the log, but can't be read now.
                    None => Err(Refusal::OutcomeUnknown),
                });
            }
        }
    }
}

fn give_up(staged: Vec<Staged>) {
    for waiting in staged {
        match waiting {
            Staged::Answer(reply, _) | Staged::Replay(reply, ..) => reply.send(Err(Refusal::OutcomeUnknown)),
            Staged::Run(run) => run(false),
        }
    }
}
