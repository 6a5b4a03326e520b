//! Refused commands, followed as outcomes. They have no number within their account, so they are no read model of records: this is a
//! follower of its own, with the same promise: rows and checkpoint change in one transaction, from the position the checkpoint holds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_log::postgres::{connect, migrate};
use event_log::{EventLog, Partition, Position};
use ledger_schemas::Outcome;
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::runtime::{Follower, ProjectorError, Verified, failed, verify_beside};

mod embedded {
    refinery::embed_migrations!("../migrations/refusal");
}

const NAME: &str = "refusal";
const PAGE: usize = 2000;
/// Between two looks. The log tells of new records only, and a look is cheap on Postgres, not on Kafka.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const INSERT: &str = "
INSERT INTO refusal (program, account, kind, command_id, actor, recorded_at, code, detail, partition, position)
SELECT u.program, u.account, u.kind, u.command_id, u.actor, u.recorded_at, u.code, u.detail, $9, $10 + n - 1 FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[])
  WITH ORDINALITY AS u(program, account, kind, command_id, actor, recorded_at, code, detail, n)";

/// Writes refused commands into the schema `refusal`.
pub struct Refusals {
    log: Arc<dyn EventLog>,
    url: String,
    schema: String,
    client: Client,
}

impl Refusals {
    /// Brings the schema up to date and connects to it.
    ///
    /// # Errors
    /// What Postgres says.
    pub async fn open(log: Arc<dyn EventLog>, url: &str) -> Result<Self, ProjectorError> {
        Self::open_in(log, url, NAME).await
    }

    async fn open_in(log: Arc<dyn EventLog>, url: &str, schema: &str) -> Result<Self, ProjectorError> {
        migrate(url, schema, embedded::migrations::runner()).await.map_err(|source| ProjectorError::Migrate { name: NAME.into(), source })?;
        let client = connect(url, schema).await.map_err(failed(NAME, "connect"))?;
        let sql = "INSERT INTO checkpoint SELECT generate_series(0, $1::int), 0 ON CONFLICT DO NOTHING";
        client.execute(sql, &[&(i32::from(log.partitions()) - 1)]).await.map_err(failed(NAME, "make its checkpoints"))?;
        Ok(Self { log, url: url.to_owned(), schema: schema.to_owned(), client })
    }

    /// Writes what there is; tells how many.
    ///
    /// # Errors
    /// What the log or Postgres says; nothing was written of the page that failed.
    pub async fn catch_up(&mut self) -> Result<usize, ProjectorError> {
        let mut count = 0;
        for partition in 0..self.log.partitions() {
            loop {
                let sql = "SELECT position FROM checkpoint WHERE partition = $1";
                let row = self.client.query_one(sql, &[&sql_partition(partition)]).await.map_err(failed(NAME, "read its checkpoint"))?;
                let from = row.get::<_, i64>(0).unsigned_abs();
                let page = self.log.read_outcomes(partition, from, PAGE).await?;
                count += page.len();
                if page.is_empty() {
                    break;
                }
                self.write(partition, from, &page).await?;
            }
        }
        Ok(count)
    }

    async fn write(&mut self, partition: Partition, from: Position, page: &[Vec<u8>]) -> Result<(), ProjectorError> {
        // An outcome of a newer schema is kept as one that can't be read: refusals don't build on each other.
        let outcomes: Vec<Option<Outcome>> = page.iter().map(|bytes| Outcome::decode(bytes).ok()).collect();
        // Postgres has no place for the character NUL.
        let text =
            |of: fn(&Outcome) -> &str| outcomes.iter().map(|outcome| outcome.as_ref().map_or("?", of).replace('\0', "\u{fffd}")).collect::<Vec<String>>();
        let (programs, accounts) = (text(|o| o.key.program.as_str()), text(|o| o.key.account.as_str()));
        let (kinds, ids, actors) = (text(|o| o.command.action.kind()), text(|o| o.command.id.as_str()), text(|o| o.command.actor.as_str()));
        let times: Vec<DateTime<Utc>> = outcomes.iter().map(|outcome| outcome.as_ref().map_or(DateTime::UNIX_EPOCH, |o| o.recorded_at.timestamp())).collect();
        let (codes, details) = (text(|o| &o.code), text(|o| &o.detail));
        let number = |position: Position| i64::try_from(position).unwrap_or(i64::MAX);
        let (partition_id, first, next) = (sql_partition(partition), number(from), number(from + page.len() as u64));
        let transaction = self.client.transaction().await.map_err(failed(NAME, "begin"))?;
        let sql = "UPDATE checkpoint SET position = $3 WHERE partition = $1 AND position = $2";
        if transaction.execute(sql, &[&partition_id, &first, &next]).await.map_err(failed(NAME, "move the checkpoint"))? != 1 {
            return Err(ProjectorError::Overtaken { name: NAME.into(), partition });
        }
        transaction
            .execute(INSERT, &[&programs, &accounts, &kinds, &ids, &actors, &times, &codes, &details, &partition_id, &first])
            .await
            .map_err(failed(NAME, "write its rows"))?;
        transaction.commit().await.map_err(failed(NAME, "commit"))
    }

    /// Goes on until `stop` says so, which interrupts it. Whatever fails is tried again from the checkpoint.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let caught_up = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                caught_up = self.catch_up() => caught_up,
            };
            match caught_up {
                Ok(_) => {}
                Err(error @ ProjectorError::Overtaken { .. }) => tracing::info!(%error, "going on from its checkpoint"),
                Err(error) => tracing::error!(projector = NAME, error = &error as &dyn std::error::Error, "trying again"),
            }
            if self.client.is_closed()
                && let Ok(client) = connect(&self.url, &self.schema).await
            {
                self.client = client;
            }
            if tokio::time::timeout(LOOK_AGAIN, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }
}

#[async_trait]
impl Follower for Refusals {
    async fn catch_up(&mut self) -> Result<(), ProjectorError> {
        Self::catch_up(self).await.map(drop)
    }

    async fn reached(&mut self) -> Result<Vec<Position>, ProjectorError> {
        let rows = self.client.query("SELECT position FROM checkpoint ORDER BY partition", &[]).await.map_err(failed(NAME, "read its checkpoints"))?;
        Ok(rows.iter().map(|row| row.get::<_, i64>(0).unsigned_abs()).collect())
    }
}

/// Reads the refused commands from the log anew and compares every row.
///
/// # Errors
/// What Postgres or the log says.
pub async fn verify_refusals(log: Arc<dyn EventLog>, url: &str) -> Result<Verified, ProjectorError> {
    verify_beside(NAME, url, async |fresh| Ok(Box::new(Refusals::open_in(log, url, fresh).await?) as Box<dyn Follower>)).await
}

fn sql_partition(partition: Partition) -> i16 {
    i16::try_from(partition).unwrap_or(i16::MAX)
}
