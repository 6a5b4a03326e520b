//! The projector: goes from its checkpoints to the end of the log, and waits there.

use std::sync::Arc;
use std::time::Duration;

use event_log::postgres::{connect, migrate};
use event_log::{EventLog, Partition, Position};
use tokio::sync::watch;

use super::apply::{Batch, apply};
use super::error::{ProjectorError, failed};
use super::read_model::ReadModel;
use super::tables::{PostgresTables, Tables, positions};

const BATCH_MAX: usize = 4000;
/// How many partitions are written at once; no account is in two of them.
const LANES: usize = 2;
/// How long one look for news takes at most; the stop signal is seen that soon.
const WAIT: Duration = Duration::from_millis(250);
/// How long the log may take to show what was folded.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// One read model on its way through the log.
pub struct Projector {
    name: &'static str,
    log: Arc<dyn EventLog>,
    /// One a lane; a partition is always of the same lane.
    lanes: Vec<Box<dyn Tables>>,
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
        let mut lanes: Vec<Box<dyn Tables>> = Vec::new();
        for lane in 0..LANES {
            let tables = PostgresTables::open(Arc::clone(&model), url, schema).await.map_err(failed(name, "connect"))?;
            if lane == 0 {
                tables.make_checkpoints(log.partitions()).await.map_err(failed(name, "make its checkpoints"))?;
            }
            lanes.push(Box::new(tables));
        }
        Self::over(name, log, lanes).await
    }

    /// The read model `name` in tables of its own, one handle on them a lane.
    ///
    /// # Errors
    /// What the tables' engine says.
    pub async fn over(name: &'static str, log: Arc<dyn EventLog>, lanes: Vec<Box<dyn Tables>>) -> Result<Self, ProjectorError> {
        let mut projector = Self { name, log, lanes, positions: Vec::new() };
        projector.load_positions().await?;
        projector.require_on_the_log().await?;
        Ok(projector)
    }

    async fn load_positions(&mut self) -> Result<(), ProjectorError> {
        self.positions = self.lanes[0].positions().await.map_err(failed(self.name, "read its checkpoints"))?;
        Ok(())
    }

    /// Refuses a log that has lost what was folded: the records that take the places of those would never be seen.
    async fn require_on_the_log(&self) -> Result<(), ProjectorError> {
        // What was folded is on the log, but may take its time to be seen.
        let deadline = tokio::time::Instant::now() + SEEN_WITHIN;
        loop {
            let ends = self.log.ends().await?;
            let lost = (0..).zip(self.positions.iter().zip(ends)).find(|(_, (position, end))| **position > *end);
            let Some((partition, (position, end))) = lost else { return Ok(()) };
            if tokio::time::Instant::now() > deadline {
                return Err(ProjectorError::Ahead { name: self.name.to_owned(), partition, position: *position, end });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
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
        let (name, log, positions, count) = (self.name, &*self.log, &*self.positions, self.lanes.len());
        let news: Vec<usize> = (0..positions.len()).filter(|partition| ends.get(*partition) > positions.get(*partition)).collect();
        let lanes = (0..count).zip(&mut self.lanes).map(|(lane, tables)| {
            let mine = news.iter().filter(|partition| *partition % count == lane);
            run_lane(name, log, &mut **tables, mine.map(|partition| (*partition, positions[*partition])).collect())
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
        metrics::counter!("loyalty_projected_records_total", "projector" => self.name).increment(count as u64);
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
                        biased;
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
            tracing::error!(projector = self.name, error = &error as &dyn std::error::Error, "trying again");
            tokio::time::sleep(RETRY_AFTER).await;
        }
        for tables in &mut self.lanes {
            if tables.mend().await.is_err() {
                return;
            }
        }
        // If this fails too, the next step does, and comes back here.
        let _ = self.load_positions().await;
    }
}

/// Applies what there is of the partitions that are given with where they stand; tells where they go on.
async fn run_lane(
    name: &'static str,
    log: &dyn EventLog,
    tables: &mut dyn Tables,
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
        let (applied, fetched) = tokio::join!(biased; apply(name, tables, batch), fetch());
        done.extend(applied?);
        batch = fetched?;
    }
    Ok(done)
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
    let client = connect(url, name).await.map_err(failed(name, "connect"))?;
    let mut health = Health { lags: Vec::new(), poison: Vec::new() };
    let positions = positions(&client).await.map_err(failed(name, "read its checkpoints"))?;
    for ((partition, position), end) in (0..).zip(positions).zip(log.ends().await?) {
        health.lags.push(Lag { projector: name.into(), partition, position, lag: end.saturating_sub(position) });
    }
    let sql = "SELECT account, poison FROM cursor WHERE poison IS NOT NULL ORDER BY account LIMIT 100";
    let rows = client.query(sql, &[]).await.map_err(failed(name, "read its poison"))?;
    health.poison = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(health)
}
