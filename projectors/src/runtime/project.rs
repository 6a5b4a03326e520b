//! The projector: goes from its checkpoints to the end of the log, and waits there.

use std::sync::Arc;
use std::time::Duration;

use event_log::postgres::{connect, migrate};
use event_log::{EventLog, Partition, Position};
use tokio::sync::watch;
use tokio_postgres::Client;

use super::apply::{Batch, apply};
use super::{ProjectorError, ReadModel, postgres};

pub(crate) const BATCH_MAX: usize = 4000;
/// How many partitions are written at once; no account is in two of them.
const LANES: usize = 2;
/// How long one look for news takes at most; the stop signal is seen that soon.
const WAIT: Duration = Duration::from_millis(250);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// One read model on its way through the log.
pub struct Projector {
    pub(super) model: Arc<dyn ReadModel>,
    pub(super) log: Arc<dyn EventLog>,
    url: String,
    schema: String,
    /// One a lane; a partition is always of the same lane.
    lanes: Vec<Client>,
    positions: Vec<Position>,
}

impl Projector {
    /// Opens the read model's own schema in the database at `url`.
    ///
    /// # Errors
    /// What Postgres says.
    pub async fn open(model: Arc<dyn ReadModel>, log: Arc<dyn EventLog>, url: &str) -> Result<Self, ProjectorError> {
        let schema = model.name().to_owned();
        Self::open_in(model, log, url, &schema).await
    }

    /// Opens it in `schema`, beside the one in use.
    pub(super) async fn open_in(model: Arc<dyn ReadModel>, log: Arc<dyn EventLog>, url: &str, schema: &str) -> Result<Self, ProjectorError> {
        let name = model.name();
        migrate(url, schema, model.migrations()).await.map_err(|source| ProjectorError::Migrate { name: name.into(), source })?;
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            lanes.push(connect_to_write(url, schema).await.map_err(postgres(name, "connect"))?);
        }
        let last = i32::from(log.partitions()) - 1;
        let made = "INSERT INTO checkpoint SELECT generate_series(0, $1::int), 0 ON CONFLICT DO NOTHING";
        lanes[0].execute(made, &[&last]).await.map_err(postgres(name, "make its checkpoints"))?;
        let mut projector = Self { model, log, url: url.into(), schema: schema.into(), lanes, positions: Vec::new() };
        projector.load_positions().await?;
        Ok(projector)
    }

    async fn load_positions(&mut self) -> Result<(), ProjectorError> {
        self.positions = positions(&self.lanes[0]).await.map_err(postgres(self.model.name(), "read its checkpoints"))?;
        Ok(())
    }

    /// Its checkpoints, by partition.
    #[must_use]
    pub fn positions(&self) -> &[Position] {
        &self.positions
    }

    /// Applies what there is, up to `BATCH_MAX` records of each partition; tells how many.
    ///
    /// # Errors
    /// [`ProjectorError`]; nothing was applied of the partition that failed.
    pub async fn step(&mut self) -> Result<usize, ProjectorError> {
        let ends = self.log.ends().await?;
        let (model, log, positions) = (&*self.model, &*self.log, &*self.positions);
        let news: Vec<usize> = (0..positions.len()).filter(|partition| ends.get(*partition) > positions.get(*partition)).collect();
        let lanes = (0..LANES).zip(&mut self.lanes).map(|(lane, client)| {
            let mine = news.iter().filter(|partition| *partition % LANES == lane);
            run_lane(model, log, client, mine.map(|partition| (*partition, positions[*partition])).collect())
        });
        let moved = futures_util::future::join_all(lanes).await;
        let mut count = 0;
        let mut failed = None;
        // What a lane did before it failed is known to its checkpoints, which are read again then.
        for lane in moved {
            match lane {
                Ok(done) => {
                    for (partition, next) in done {
                        count += usize::try_from(next - self.positions[partition]).unwrap_or(usize::MAX);
                        self.positions[partition] = next;
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        metrics::counter!("loyalty_projected_records_total", "projector" => self.model.name()).increment(count as u64);
        failed.map_or(Ok(count), Err)
    }

    /// Applies all that is on the log now.
    ///
    /// # Errors
    /// As [`Projector::step`].
    pub async fn catch_up(&mut self) -> Result<(), ProjectorError> {
        while self.step().await? > 0 {}
        Ok(())
    }

    /// Goes on until `stop` says so. Whatever fails is tried again from the checkpoint.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow_and_update() {
            match self.step().await {
                Ok(0) => {
                    tokio::select! {
                        _ = self.log.wait_beyond(&self.positions, WAIT) => {}
                        _ = stop.changed() => {}
                    }
                }
                Ok(_) => {}
                Err(error) => self.recover(error).await,
            }
        }
    }

    async fn recover(&mut self, error: ProjectorError) {
        if let ProjectorError::Overtaken { .. } = &error {
            tracing::info!(%error, "going on from its checkpoint");
        } else {
            tracing::error!(projector = self.model.name(), error = &error as &dyn std::error::Error, "trying again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
        for client in self.lanes.iter_mut().filter(|client| client.is_closed()) {
            match connect_to_write(&self.url, &self.schema).await {
                Ok(new) => *client = new,
                Err(_) => return,
            }
        }
        // If this fails too, the next step does, and comes back here.
        let _ = self.load_positions().await;
    }
}

/// Applies what there is of the partitions that are given with where they stand; tells where they go on.
async fn run_lane(
    model: &dyn ReadModel,
    log: &dyn EventLog,
    client: &mut Client,
    partitions: Vec<(usize, Position)>,
) -> Result<Vec<(usize, Position)>, ProjectorError> {
    let mut done = Vec::new();
    let mut partitions = partitions.into_iter();
    // Little news of several partitions is one transaction.
    let mut fetch = async || {
        let mut batch = Batch::default();
        while batch.len() < BATCH_MAX {
            let Some((partition, from)) = partitions.next() else { break };
            let id = Partition::try_from(partition).unwrap_or(Partition::MAX);
            batch.read(id, from, log.read(id, from, BATCH_MAX).await?);
        }
        Ok::<_, ProjectorError>(batch)
    };
    let mut batch = fetch().await?;
    while !batch.is_empty() {
        // While Postgres writes these rows, the next records are read.
        let (applied, fetched) = tokio::join!(biased; apply(model, client, batch), fetch());
        done.extend(applied?);
        batch = fetched?;
    }
    Ok(done)
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

/// How far a read model is behind in one partition.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Lag {
    /// The read model.
    pub projector: String,
    /// The partition.
    pub partition: Partition,
    /// Its checkpoint: the position that is applied next.
    pub position: Position,
    /// Records on the log that are not applied yet.
    pub lag: u64,
}

/// How a read model is.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Health {
    /// By partition.
    pub lags: Vec<Lag>,
    /// Accounts that are stopped, with the reason; the first hundred.
    pub poison: Vec<(String, String)>,
}

/// How the read model `model` is; its schema is taken as it is found.
///
/// # Errors
/// What Postgres or the log says.
pub async fn lags(model: &dyn ReadModel, log: &dyn EventLog, url: &str) -> Result<Health, ProjectorError> {
    let name = model.name();
    let client = connect(url, name).await.map_err(postgres(name, "connect"))?;
    let mut health = Health { lags: Vec::new(), poison: Vec::new() };
    let positions = positions(&client).await.map_err(postgres(name, "read its checkpoints"))?;
    for ((partition, position), end) in (0..).zip(positions).zip(log.ends().await?) {
        health.lags.push(Lag { projector: name.into(), partition, position, lag: end.saturating_sub(position) });
    }
    let sql = "SELECT account, poison FROM cursor WHERE poison IS NOT NULL ORDER BY account LIMIT 100";
    let rows = client.query(sql, &[]).await.map_err(postgres(name, "read its poison"))?;
    health.poison = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(health)
}
