//! Where a read model's rows, cursors and checkpoints are: in Postgres, or in the simulator's memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use event_log::postgres::connect;
use event_log::{Partition, Position};
use tokio_postgres::Client;

use super::error::EngineError;
use super::read_model::{Placed, ReadModel};
use super::rows::{Rows, Statements};

/// The records of one account within a batch: from which number to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first record's number.
    pub first: i64,
    /// The last one's.
    pub last: i64,
}

/// The tables of one read model.
#[async_trait]
pub trait Tables: Send {
    /// Begins a change.
    async fn begin(&mut self) -> Result<Box<dyn TablesChange + '_>, EngineError>;

    /// The checkpoints, by partition.
    async fn positions(&mut self) -> Result<Vec<Position>, EngineError>;

    /// Makes it usable again, if it is not.
    async fn mend(&mut self) -> Result<(), EngineError>;
}

/// One change of a read model, made whole or not at all.
#[async_trait]
pub trait TablesChange: Send {
    /// Moves a partition's checkpoint; false where it is not at `from`.
    async fn move_checkpoint(&mut self, partition: Partition, from: Position, to: Position) -> Result<bool, EngineError>;

    /// Moves each account's cursor where the records follow it; tells the accounts where they don't, and why.
    async fn move_cursors(&mut self, runs: &BTreeMap<String, Run>) -> Result<Vec<(String, String)>, EngineError>;

    /// Stops accounts; tells those that were not stopped before.
    async fn stop(&mut self, poison: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError>;

    /// Folds records into the rows.
    async fn write(&mut self, records: &[Placed]) -> Result<(), EngineError>;

    /// Makes it true.
    async fn commit(self: Box<Self>) -> Result<(), EngineError>;
}

/// In a schema of Postgres.
pub(super) struct PostgresTables {
    model: Arc<dyn ReadModel>,
    url: String,
    schema: String,
    client: Client,
    statements: Statements,
}

impl PostgresTables {
    pub(super) async fn open(model: Arc<dyn ReadModel>, url: &str, schema: &str) -> Result<Self, tokio_postgres::Error> {
        let (url, schema) = (url.to_owned(), schema.to_owned());
        Ok(Self { model, client: connect_to_write(&url, &schema).await?, url, schema, statements: Statements::default() })
    }

    pub(super) async fn make_checkpoints(&self, partitions: u16) -> Result<u64, tokio_postgres::Error> {
        let last = i32::from(partitions) - 1;
        self.client.execute("INSERT INTO checkpoint SELECT generate_series(0, $1::int), 0 ON CONFLICT DO NOTHING", &[&last]).await
    }
}

/// A batch touches a few thousand rows of a table of any size: each is looked up, the table is never read whole.
async fn connect_to_write(url: &str, schema: &str) -> Result<Client, tokio_postgres::Error> {
    let client = connect(url, schema).await?;
    client.batch_execute("SET enable_hashjoin = off; SET enable_mergejoin = off").await?;
    Ok(client)
}

pub(super) async fn positions(client: &Client) -> Result<Vec<Position>, tokio_postgres::Error> {
    let rows = client.query("SELECT position FROM checkpoint ORDER BY partition", &[]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).collect())
}

#[async_trait]
impl Tables for PostgresTables {
    async fn begin(&mut self) -> Result<Box<dyn TablesChange + '_>, EngineError> {
        let rows = Rows { transaction: self.client.transaction().await?, statements: &self.statements };
        Ok(Box::new(PostgresChange { model: &*self.model, rows }))
    }

    async fn positions(&mut self) -> Result<Vec<Position>, EngineError> {
        Ok(positions(&self.client).await?)
    }

    async fn mend(&mut self) -> Result<(), EngineError> {
        if self.client.is_closed() {
            self.client = connect_to_write(&self.url, &self.schema).await?;
        }
        // They may be what does not work, as where the tables were made anew.
        self.statements = Statements::default();
        Ok(())
    }
}

struct PostgresChange<'a> {
    model: &'a dyn ReadModel,
    rows: Rows<'a>,
}

#[async_trait]
impl TablesChange for PostgresChange<'_> {
    async fn move_checkpoint(&mut self, partition: Partition, from: Position, to: Position) -> Result<bool, EngineError> {
        let number = |position: Position| i64::try_from(position).unwrap_or(i64::MAX);
        let (partition, from, to) = (i16::try_from(partition).unwrap_or(i16::MAX), number(from), number(to));
        let sql = "UPDATE checkpoint SET position = $3 WHERE partition = $1 AND position = $2";
        let statement = self.rows.prepare(sql).await?;
        Ok(self.rows.execute(&statement, &[&partition, &from, &to]).await? == 1)
    }

    async fn move_cursors(&mut self, runs: &BTreeMap<String, Run>) -> Result<Vec<(String, String)>, EngineError> {
        let accounts: Vec<&str> = runs.keys().map(String::as_str).collect();
        let firsts: Vec<i64> = runs.values().map(|run| run.first).collect();
        let lasts: Vec<i64> = runs.values().map(|run| run.last).collect();
        // The checkpoint's row lock keeps other projectors out, so nobody can come between the join and the insert.
        let sql = "MERGE INTO cursor AS c USING unnest($1::text[], $2::bigint[], $3::bigint[]) AS u(account, first, last) ON c.account = u.account
                   WHEN MATCHED AND c.seq = u.first - 1 AND c.poison IS NULL THEN UPDATE SET seq = u.last
                   WHEN NOT MATCHED AND u.first = 1 THEN INSERT (account, seq) VALUES (u.account, u.last)";
        let statement = self.rows.prepare(sql).await?;
        let moved = self.rows.execute(&statement, &[&accounts, &firsts, &lasts]).await?;
        if moved == accounts.len() as u64 {
            return Ok(Vec::new());
        }
        let sql = "SELECT u.account, u.first, coalesce(c.seq, 0) FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS u(account, first, last)
                   LEFT JOIN cursor c USING (account) WHERE c.seq IS DISTINCT FROM u.last OR c.poison IS NOT NULL";
        let rows = self.rows.query(sql, &[&accounts, &firsts, &lasts]).await?;
        let why = |row: &tokio_postgres::Row| format!("record {} follows record {}", row.get::<_, i64>(1), row.get::<_, i64>(2));
        Ok(rows.iter().map(|row| (row.get(0), why(row))).collect())
    }

    async fn stop(&mut self, poison: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError> {
        let accounts: Vec<&str> = poison.keys().map(String::as_str).collect();
        let reasons: Vec<&str> = poison.values().map(String::as_str).collect();
        let sql = "INSERT INTO cursor AS c (account, seq, poison) SELECT account, 0, reason FROM unnest($1::text[], $2::text[]) AS u(account, reason)
                   ON CONFLICT (account) DO UPDATE SET poison = excluded.poison WHERE c.poison IS NULL RETURNING account";
        let rows = self.rows.query(sql, &[&accounts, &reasons]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn write(&mut self, records: &[Placed]) -> Result<(), EngineError> {
        Ok(self.model.apply(&self.rows, records).await?)
    }

    async fn commit(self: Box<Self>) -> Result<(), EngineError> {
        Ok(self.rows.transaction.commit().await?)
    }
}
