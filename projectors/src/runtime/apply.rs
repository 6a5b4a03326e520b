//! One batch: rows and checkpoint in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use event_log::{Entry, Partition, Position};
use ledger_schemas::Record;
use tokio_postgres::{Client, Transaction};
use traces::{Part, Trace};

use super::{Placed, ProjectorError, ReadModel, postgres};

/// The records of one account within a batch: from which number to which.
struct Run {
    first: i64,
    last: i64,
}

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
        self.records.push(Placed { partition, position: entry.position, record });
    }
}

/// Applies `batch`, whole or not at all; tells where its partitions go on.
pub(super) async fn apply(model: &dyn ReadModel, client: &mut Client, mut batch: Batch) -> Result<Vec<(usize, Position)>, ProjectorError> {
    let name = model.name();
    let begin = traces::is_on().then(SystemTime::now);
    let transaction = client.transaction().await.map_err(postgres(name, "begin"))?;
    for moved in &batch.moves {
        move_checkpoint(&transaction, name, moved).await?;
    }
    let refused = move_cursors(&transaction, &batch.runs).await.map_err(postgres(name, "move the cursors"))?;
    for (account, why) in refused {
        // An account that is stopped already keeps its first reason.
        batch.poison.entry(account).or_insert(why);
    }
    if !batch.poison.is_empty() {
        let stopped = stop(&transaction, &batch.poison).await.map_err(postgres(name, "stop accounts"))?;
        for account in stopped {
            tracing::error!(projector = name, account, reason = batch.poison[&account], "an account is stopped: its record can't be applied");
        }
        let refused: BTreeSet<&String> = batch.poison.keys().collect();
        batch.records.retain(|placed| !refused.contains(&placed.record.key.to_string()));
    }
    model.apply(&transaction, &batch.records).await.map_err(postgres(name, "write its rows"))?;
    transaction.commit().await.map_err(postgres(name, "commit"))?;
    if let Some(begin) = begin {
        for Record { key, command_kind, command_id, .. } in batch.records.iter().map(|placed| &placed.record) {
            Trace::of(key, command_kind, command_id).span(Part::Project, format!("project {name}"), begin, None);
        }
    }
    Ok(batch.moves.iter().map(|moved| (usize::from(moved.partition), moved.next)).collect())
}

async fn move_checkpoint(transaction: &Transaction<'_>, name: &str, moved: &Move) -> Result<(), ProjectorError> {
    let number = |position: Position| i64::try_from(position).unwrap_or(i64::MAX);
    let (partition, from, to) = (i16::try_from(moved.partition).unwrap_or(i16::MAX), number(moved.from), number(moved.next));
    let sql = "UPDATE checkpoint SET position = $3 WHERE partition = $1 AND position = $2";
    match transaction.execute(sql, &[&partition, &from, &to]).await.map_err(postgres(name, "move the checkpoint"))? {
        1 => Ok(()),
        _ => Err(ProjectorError::Overtaken { name: name.to_owned(), partition: moved.partition }),
    }
}

/// Moves each account's cursor where the batch follows it; tells the accounts where it does not, and why.
async fn move_cursors(transaction: &Transaction<'_>, runs: &BTreeMap<String, Run>) -> Result<Vec<(String, String)>, tokio_postgres::Error> {
    let accounts: Vec<&str> = runs.keys().map(String::as_str).collect();
    let firsts: Vec<i64> = runs.values().map(|run| run.first).collect();
    let lasts: Vec<i64> = runs.values().map(|run| run.last).collect();
    // The checkpoint's row lock keeps other projectors out, so nobody can come between the join and the insert.
    let sql = "MERGE INTO cursor AS c USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS u(account, first, last) ON c.account = u.account
               WHEN MATCHED AND c.seq = u.first - 1 AND c.poison IS NULL THEN UPDATE SET seq = u.last
               WHEN NOT MATCHED AND u.first = 1 THEN INSERT (account, seq) VALUES (u.account, u.last)";
    let statement = transaction.prepare(sql).await?;
    let moved = transaction.execute(&statement, &[&accounts, &firsts, &lasts]).await?;
    if moved == accounts.len() as u64 {
        return Ok(Vec::new());
    }
    let sql = "SELECT u.account, u.first, coalesce(c.seq, 0) FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS u(account, first, last)
               LEFT JOIN cursor c USING (account) WHERE c.seq IS DISTINCT FROM u.last OR c.poison IS NOT NULL";
    let rows = transaction.query(sql, &[&accounts, &firsts, &lasts]).await?;
    let why = |row: &tokio_postgres::Row| format!("record {} follows record {}", row.get::<_, i64>(1), row.get::<_, i64>(2));
    Ok(rows.iter().map(|row| (row.get(0), why(row))).collect())
}

/// Stops accounts; tells those that were not stopped before.
async fn stop(transaction: &Transaction<'_>, poison: &BTreeMap<String, String>) -> Result<Vec<String>, tokio_postgres::Error> {
    let accounts: Vec<&str> = poison.keys().map(String::as_str).collect();
    let reasons: Vec<&str> = poison.values().map(String::as_str).collect();
    let sql = "INSERT INTO cursor AS c (account, seq, poison) SELECT account, 0, reason FROM unnest($1::text[], $2::text[]) AS u(account, reason)
               ON CONFLICT (account) DO UPDATE SET poison = excluded.poison WHERE c.poison IS NULL RETURNING account";
    let rows = transaction.query(sql, &[&accounts, &reasons]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
