//! One batch: rows and checkpoint in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use event_log::{Entry, Partition, Position};
use ledger_core::planted::{Bug, is_planted};
use ledger_schemas::Record;
use traces::{Part, Trace};

use super::tables::{Run, Tables};
use super::{Placed, ProjectorError, failed};

/// What was read, and what of it can't be applied.
#[derive(Default)]
pub(super) struct Batch {
    moves: Vec<Move>,
    records: Vec<Placed>,
    runs: BTreeMap<String, Run>,
    poison: BTreeMap<String, String>,
}

/// How far the batch goes in one partition.
struct Move {
    partition: Partition,
    from: Position,
    next: Position,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// How many positions it covers.
    pub(super) fn len(&self) -> usize {
        self.moves.iter().map(|moved| usize::try_from(moved.next - moved.from).unwrap_or(usize::MAX)).sum()
    }

    /// Takes in `entries`, which begin at `from`.
    pub(super) fn read(&mut self, partition: Partition, from: Position, entries: Vec<Entry>) {
        let Some(last) = entries.last() else { return };
        self.moves.push(Move { partition, from, next: last.position + 1 });
        for entry in entries {
            if !self.poison.contains_key(&entry.account) {
                self.read_entry(partition, entry);
            }
        }
    }

    fn read_entry(&mut self, partition: Partition, entry: Entry) {
        let seq = i64::try_from(entry.account_seq).unwrap_or(i64::MAX);
        let record = match Record::decode(&entry.body) {
            Ok(record) if record.account_seq == entry.account_seq && record.key.to_string() == entry.account => record,
            Ok(record) => {
                let why = format!("position {}: it says that it is record {} of {}", entry.position, record.account_seq, record.key);
                self.poison.insert(entry.account, why);
                return;
            }
            Err(_) if is_planted(Bug::PoisonSkipped) => {
                let next = |run: &mut Run| run.last = seq;
                self.runs.entry(entry.account).and_modify(next).or_insert(Run { first: seq, last: seq });
                return;
            }
            Err(error) => {
                self.poison.insert(entry.account, format!("position {}: {error}", entry.position));
                return;
            }
        };
        match self.runs.get_mut(&entry.account) {
            None => drop(self.runs.insert(entry.account, Run { first: seq, last: seq })),
            Some(run) if run.last + 1 == seq => run.last = seq,
            Some(run) => {
                let why = format!("position {}: record {seq} follows record {}", entry.position, run.last);
                self.poison.insert(entry.account, why);
                return;
            }
        }
        self.records.push(Placed { partition, position: entry.position, body: entry.body, record });
    }
}

/// Applies `batch`, whole or not at all; tells where its partitions go on.
pub(super) async fn apply(name: &'static str, tables: &mut dyn Tables, mut batch: Batch) -> Result<Vec<(usize, Position)>, ProjectorError> {
    let begin = traces::is_on().then(SystemTime::now);
    let mut change = tables.begin().await.map_err(failed(name, "begin"))?;
    for Move { partition, from, next } in &batch.moves {
        if !change.move_checkpoint(*partition, *from, *next).await.map_err(failed(name, "move the checkpoint"))? {
            return Err(ProjectorError::Overtaken { name: name.to_owned(), partition: *partition });
        }
    }
    if is_planted(Bug::CheckpointOutsideTransaction) {
        change.commit().await.map_err(failed(name, "commit"))?;
        change = tables.begin().await.map_err(failed(name, "begin"))?;
    }
    let refused = change.move_cursors(&batch.runs).await.map_err(failed(name, "move the cursors"))?;
    for (account, why) in refused {
        // An account that is stopped already keeps its first reason.
        batch.poison.entry(account).or_insert(why);
    }
    if !batch.poison.is_empty() {
        let stopped = change.stop(&batch.poison).await.map_err(failed(name, "stop accounts"))?;
        for account in stopped {
            tracing::error!(projector = name, account, reason = batch.poison[&account], "an account is stopped: its record can't be applied");
        }
        let refused: BTreeSet<&String> = batch.poison.keys().collect();
        batch.records.retain(|placed| !refused.contains(&placed.record.key.to_string()));
    }
    change.write(&batch.records).await.map_err(failed(name, "write its rows"))?;
    change.commit().await.map_err(failed(name, "commit"))?;
    if let Some(begin) = begin {
        for Record { key, command_kind, command_id, .. } in batch.records.iter().map(|placed| &placed.record) {
            Trace::of(key, command_kind, command_id).span(Part::Project, format!("project {name}"), begin, None);
        }
    }
    Ok(batch.moves.iter().map(|moved| (usize::from(moved.partition), moved.next)).collect())
}
