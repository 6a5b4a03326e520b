//! Verify: a read model equals a fresh fold of the log, row by row.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_log::postgres::connect;
use event_log::{EventLog, Position};
use tokio_postgres::Client;

use super::error::{ProjectorError, failed};
use super::project::Projector;
use super::read_model::ReadModel;
use super::tables::positions;

/// How long a read model may stand still behind the log.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a verification found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verified {
    /// The read model.
    pub projector: String,
    /// How many rows were compared.
    pub rows: u64,
    /// Rows that differ, `table: row`; the first twenty.
    pub differences: Vec<String>,
}

/// Folds the log anew beside the read model and compares every row of every table.
///
/// # Errors
/// What Postgres or the log says.
pub async fn verify(model: Arc<dyn ReadModel>, log: Arc<dyn EventLog>, url: &str) -> Result<Verified, ProjectorError> {
    verify_beside(model.name(), url, async |fresh| Ok(Box::new(Projector::open_in(model, log, url, fresh).await?) as Box<dyn Follower>)).await
}

/// What goes from its checkpoints in tables of its own to the end of the log.
#[async_trait]
pub(crate) trait Follower: Send {
    /// Applies all that is on the log now.
    async fn catch_up(&mut self) -> Result<(), ProjectorError>;

    /// Its checkpoints, by partition.
    async fn reached(&mut self) -> Result<Vec<Position>, ProjectorError>;
}

#[async_trait]
impl Follower for Projector {
    async fn catch_up(&mut self) -> Result<(), ProjectorError> {
        Self::catch_up(self).await
    }

    async fn reached(&mut self) -> Result<Vec<Position>, ProjectorError> {
        Ok(self.positions().to_vec())
    }
}

/// Compares the tables of schema `name` with those that what `open` opens makes anew in the schema that it is told.
pub(crate) async fn verify_beside(
    name: &'static str,
    url: &str,
    open: impl AsyncFnOnce(&str) -> Result<Box<dyn Follower>, ProjectorError>,
) -> Result<Verified, ProjectorError> {
    let fresh = format!("{name}_verify");
    let mut client = connect(url, name).await.map_err(failed(name, "connect"))?;
    let drop_fresh = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {fresh} CASCADE");
    client.batch_execute(&drop_fresh).await.map_err(failed(name, "drop an unfinished verification"))?;
    let mut follower = open(&fresh).await?;
    let (mut last, mut deadline) = (Vec::new(), Instant::now() + PATIENCE);
    let verified = loop {
        follower.catch_up().await?;
        let reached = follower.reached().await?;
        let transaction = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).start();
        let transaction = transaction.await.map_err(failed(name, "begin"))?;
        // While the book is being written, the two are compared at a moment when they have come equally far.
        let live = positions(transaction.client()).await.map_err(failed(name, "read its checkpoints"))?;
        if live == reached {
            break compare(transaction.client(), name, &fresh).await.map_err(failed(name, "compare"))?;
        }
        drop(transaction);
        if live != last {
            (last, deadline) = (live, Instant::now() + PATIENCE);
        } else if Instant::now() > deadline {
            return Err(ProjectorError::Behind { name: name.to_owned(), seconds: PATIENCE.as_secs() });
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    client.batch_execute(&drop_fresh).await.map_err(failed(name, "drop the fresh fold"))?;
    Ok(verified)
}

async fn compare(client: &Client, name: &str, fresh: &str) -> Result<Verified, tokio_postgres::Error> {
    let mut verified = Verified { projector: name.to_owned(), rows: 0, differences: Vec::new() };
    let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = $1 AND tablename <> 'refinery_schema_history' ORDER BY 1";
    for row in client.query(tables, &[&name]).await? {
        let table: String = row.get(0);
        let count = client.query_one(&format!("SELECT count(*) FROM {name}.{table}"), &[]).await?;
        verified.rows += count.get::<_, i64>(0).unsigned_abs();
        for (one, other, side) in [(name, fresh, "is in the read model, not in the fold"), (fresh, name, "is in the fold, not in the read model")] {
            let sql = format!("SELECT t::text FROM (TABLE {one}.{table} EXCEPT ALL TABLE {other}.{table}) t ORDER BY 1 LIMIT 20");
            let rows = client.query(&sql, &[]).await?;
            verified.differences.extend(rows.iter().map(|row| format!("{table}: {} {side}", row.get::<_, String>(0))));
        }
    }
    verified.differences.truncate(20);
    Ok(verified)
}
