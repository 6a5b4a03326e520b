//! One batch: rows and checkpoint in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use event_log::{Entry, Partition, Position};
use ledger_core::planted::{Bug, is_planted};
use ledger_schemas::Record;
use telemetry::{Part, Trace};

use super::error::{EngineError, ProjectorError, failed};
use super::read_model::Placed;
use super::readable::make_readable;
use super::tables::{Run, Tables};

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
            Ok(mut record) if record.account_seq == entry.account_seq && record.key.to_string() == entry.account => {
                make_readable(&mut record);
                record
            }
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

/// Applies `batch`, whole or not at all; tells where its partitions go on. Accounts whose rows the engine refuses are stopped.
pub(super) async fn apply(name: &'static str, tables: &mut dyn Tables, mut batch: Batch) -> Result<Vec<(usize, Position)>, ProjectorError> {
    let begin = telemetry::is_on().then(SystemTime::now);
    match write(name, tables, &mut batch).await {
        Err(ProjectorError::Tables { source, .. }) if is_of_the_rows(&source) => {
            for (account, why) in refused(name, tables, &mut batch.records).await? {
                batch.runs.remove(&account);
                batch.poison.insert(account, why);
            }
            write(name, tables, &mut batch).await?;
        }
        written => written?,
    }
    if let Some(begin) = begin {
        for Record { key, command_kind, command_id, .. } in batch.records.iter().map(|placed| &placed.record) {
            Trace::of(key, command_kind, command_id).span(Part::Project, format!("project {name}"), begin, None);
        }
    }
    Ok(batch.moves.iter().map(|moved| (usize::from(moved.partition), moved.next)).collect())
}

async fn write(name: &'static str, tables: &mut dyn Tables, batch: &mut Batch) -> Result<(), ProjectorError> {
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
    let mut stopped = Vec::new();
    if !batch.poison.is_empty() {
        stopped = change.stop(&batch.poison).await.map_err(failed(name, "stop accounts"))?;
        let refused: BTreeSet<&String> = batch.poison.keys().collect();
        batch.records.retain(|placed| !refused.contains(&placed.record.key.to_string()));
    }
    change.write(&batch.records).await.map_err(failed(name, "write its rows"))?;
    change.commit().await.map_err(failed(name, "commit"))?;
    for account in stopped {
        tracing::error!(projector = name, account, reason = batch.poison[&account], "an account is stopped: its record can't be applied");
    }
    Ok(())
}

/// The accounts whose records the engine refuses by themselves, with what it says; found by halves.
async fn refused(name: &'static str, tables: &mut dyn Tables, records: &mut [Placed]) -> Result<Vec<(String, String)>, ProjectorError> {
    // Each account's in their order, and all of it in one half.
    records.sort_by(|one, other| one.record.key.cmp(&other.record.key));
    let mut found = Vec::new();
    let mut parts: Vec<&[Placed]> = vec![records];
    while let Some(part) = parts.pop() {
        let (Some(first), Some(middle)) = (part.first(), part.get(part.len() / 2)) else { continue };
        let mut change = tables.begin().await.map_err(failed(name, "begin"))?;
        let written = change.write(part).await;
        drop(change);
        let error = match written {
            Ok(()) => continue,
            Err(error) if is_of_the_rows(&error) => error,
            Err(error) => return Err(failed(name, "write its rows")(error)),
        };
        let of_middle = |placed: &Placed| placed.record.key < middle.record.key;
        let is_one = part.last().is_some_and(|last| last.record.key == first.record.key);
        if is_one {
            found.push((first.record.key.to_string(), format!("position {}: {}", first.position, in_words(&error))));
        } else {
            // The middle's account begins the second half, unless it is the first account of all.
            let split = match part.partition_point(of_middle) {
                0 => part.partition_point(|placed| placed.record.key <= middle.record.key),
                split => split,
            };
            parts.extend([&part[..split], &part[split..]]);
        }
    }
    Ok(found)
}

/// Whether the engine refused what the rows hold: it would at each further try. All else (connection, locks, space, tables) may go better the next time.
fn is_of_the_rows(error: &EngineError) -> bool {
    // A value out of range or not of the column's type, a broken constraint, more than the engine can keep: PostgreSQL, appendix A, classes 22, 23 and 54.
    const CLASSES: [&str; 3] = ["22", "23", "54"];
    let Some(error) = error.downcast_ref::<tokio_postgres::Error>() else { return false };
    match error.code() {
        Some(code) => CLASSES.iter().any(|class| code.code().starts_with(class)),
        // What the client could not even write down.
        None => error.to_string().starts_with("error serializing parameter"),
    }
}

fn in_words(error: &EngineError) -> String {
    std::iter::successors(error.source(), |cause| cause.source()).fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
