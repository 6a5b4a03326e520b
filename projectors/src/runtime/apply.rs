//! One batch: rows and checkpoint in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use event_log::{Entry, Partition, Position};
use ledger_schemas::Record;
use tokio_postgres::{Client, Transaction};

use super::{Placed, ProjectorError, ReadModel, postgres};

/// The records of one account within a batch: from which number to which.
struct Run {
    first: i64,
    last: i64,
}

/// What was read of one partition, and what of it can't be applied.
#[derive(Default)]
pub(super) struct Batch {
    from: Position,
    next: Position,
    partition: Partition,
    records: Vec<Placed>,
    runs: BTreeMap<String, Run>,
    poison: BTreeMap<String, String>,
}

/// Reads `entries`, which begin at `from`.
pub(super) fn read(partition: Partition, from: Position, entries: Vec<Entry>) -> Batch {
    let next = entries.last().map_or(from, |entry| entry.position + 1);
    let mut batch = Batch { from, next, partition, ..Batch::default() };
    for entry in entries {
        if batch.poison.contains_key(&entry.account) {
            continue;
        }
        let seq = i64::try_from(entry.account_seq).unwrap_or(i64::MAX);
        let record = match Record::decode(&entry.body) {
            Ok(record) if record.account_seq == entry.account_seq && record.key.to_string() == entry.account => record,
            Ok(record) => {
                let why = format!("position {}: it says that it is record {} of {}", entry.position, record.account_seq, record.key);
                batch.poison.insert(entry.account, why);
                continue;
            }
            Err(error) => {
                batch.poison.insert(entry.account, format!("position {}: {error}", entry.position));
                continue;
            }
        };
        match batch.runs.get_mut(&entry.account) {
            None => drop(batch.runs.insert(entry.account, Run { first: seq, last: seq })),
            Some(run) if run.last + 1 == seq => run.last = seq,
            Some(run) => {
                let why = format!("position {}: record {seq} follows record {}", entry.position, run.last);
                batch.poison.insert(entry.account, why);
                continue;
            }
        }
        batch.records.push(Placed { partition, position: entry.position, record });
    }
    batch
}

/// Applies `batch`; tells where the next one begins.
pub(super) async fn apply(model: &dyn ReadModel, client: &mut Client, mut batch: Batch) -> Result<Position, ProjectorError> {
    let (name, partition, from, next) = (model.name(), batch.partition, batch.from, batch.next);
    if from == next {
        return Ok(next);
    }
    let transaction = client.transaction().await.map_err(postgres(name, "begin"))?;
    move_checkpoint(&transaction, name, partition, from, next).await?;
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
    Ok(next)
}

async fn move_checkpoint(transaction: &Transaction<'_>, name: &str, partition: Partition, from: Position, to: Position) -> Result<(), ProjectorError> {
    let (id, from, to) = (i16::try_from(partition).unwrap_or(i16::MAX), i64::try_from(from).unwrap_or(i64::MAX), i64::try_from(to).unwrap_or(i64::MAX));
    let sql = "UPDATE checkpoint SET position = $3 WHERE partition = $1 AND position = $2";
    match transaction.execute(sql, &[&id, &from, &to]).await.map_err(postgres(name, "move the checkpoint"))? {
        1 => Ok(()),
        _ => Err(ProjectorError::Overtaken { name: name.to_owned(), partition }),
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
