//! A node: the database, the log, the command service and the projectors, started together and stopped in turn.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use api::{AliasKey, real_now};
use command_service::{Limits, Running, Service, ServiceConfig, Share, StatePlace};
use embedded_postgres::{PostgresError, Server};
use event_log::EventLog;
use event_log::kafka::KafkaLog;
use event_log::postgres::{PostgresLog, connect};
use intake::{Intake, Registry};
use projectors::{Projector, Refusals, read_models};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use transparency::{AuditError, Sealer};

use crate::args::{DataOptions, IntakeOptions};
use crate::door::{self, Sealing};

/// The database: our own, or somebody's.
pub enum Database {
    /// Embedded, started here.
    Own(Server),
    /// Named by the user, or embedded and started by a process that still runs.
    Other(String),
}

impl Database {
    /// Starts the embedded one, or takes the one that is named.
    pub async fn open(options: &DataOptions) -> anyhow::Result<Self> {
        door::folder(options)?;
        match &options.database_url {
            Some(url) => {
                door::database(url).await?;
                Ok(Self::Other(url.clone()))
            }
            None => Ok(Self::Own(Server::start(&options.data.join("postgres")).await?)),
        }
    }

    /// As [`Database::open`], but joins the embedded one of a process that runs: for what only reads, or writes read models.
    pub async fn join(options: &DataOptions) -> anyhow::Result<Self> {
        match Self::open(options).await {
            Err(error) if matches!(error.downcast_ref(), Some(PostgresError::InUse { .. })) => {
                let url = Server::running(&options.data.join("postgres")).context("the service is still starting; try again")?;
                Ok(Self::Other(url))
            }
            opened => opened,
        }
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        match self {
            Self::Own(server) => server.url(),
            Self::Other(url) => url,
        }
    }
}

/// Opens the log: on Kafka where one is named, else in the database.
pub async fn open_log(options: &DataOptions, database: &Database) -> anyhow::Result<Arc<dyn EventLog>> {
    let log: Arc<dyn EventLog> = match &options.kafka {
        None => Arc::new(PostgresLog::open(database.url(), options.partitions, None).await?),
        Some(brokers) => {
            let opened = KafkaLog::open(options.kafka_log(brokers, &options.kafka_prefix), options.partitions, None).await;
            Arc::new(opened.with_context(|| format!("the log on Kafka at {brokers}, prefix {}, can't be opened", options.kafka_prefix))?)
        }
    };
    crate::copy::require_here(&*log).await?;
    Ok(log)
}

/// What a node does.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    /// With whom it shares the deciding; none where it only asks others.
    pub share: Option<Share>,
    /// How many commands may wait.
    pub queue_max: usize,
    /// Whether it has the read models, and brings them up to date.
    pub models: Models,
}

/// What a node has to do with read models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Models {
    /// Nothing.
    None,
    /// It reads them; others bring them up to date.
    Reads,
    /// It brings them up to date.
    Projects,
}

impl Role {
    /// Takes the whole book to itself, for a while.
    pub const ALONE: Self = Self { share: Some(Share::Alone), queue_max: 10_000, models: Models::Projects };
}

/// How often one that waits to seal looks whether it is its turn.
const SEAL_TURN: Duration = Duration::from_secs(1);

/// Who seals in `folder` once nobody else does; none if it is told to stop before.
async fn in_turn(folder: &Path, secret: &str, stop: &mut watch::Receiver<bool>) -> Option<Sealer> {
    while tokio::time::timeout(SEAL_TURN, stop.wait_for(|stop| *stop)).await.is_err() {
        match Sealer::open(folder, secret) {
            Ok(sealer) => {
                tracing::info!("nobody else seals any more; this one does");
                return Some(sealer);
            }
            Err(AuditError::Taken { .. }) => {}
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the book can't be sealed; trying again"),
        }
    }
    None
}

/// A node that runs.
pub struct Node {
    /// The log.
    pub log: Arc<dyn EventLog>,
    /// The command service.
    pub service: Service,
    running: Option<Running>,
    stop: watch::Sender<bool>,
    /// Projectors, intake.
    tasks: Vec<JoinHandle<()>>,
    // Last, so that it is dropped last.
    database: Database,
}

impl Node {
    /// Starts what its role is.
    pub async fn start(options: &DataOptions, role: Role) -> anyhow::Result<Self> {
        if options.kafka.is_none() && (role.share.is_none() || role.models == Models::None) {
            bail!("--kafka HOST:PORT is missing: on Postgres one process has the whole log (`loyalty up`); on Kafka several share it");
        }
        let database = match role.models {
            Models::None => Database::Other(String::new()),
            _ => Database::open(options).await?,
        };
        let log = open_log(options, &database).await?;
        let answer_within = Duration::from_secs(options.answer_seconds);
        let (service, running) = match role.share {
            None => (Service::elsewhere(Arc::clone(&log), answer_within).await?, None),
            Some(share) => {
                let folder = options.data.join("state");
                door::folder(options)?;
                door::private(&folder, false).with_context(|| format!("can't create {}", folder.display()))?;
                let owner = format!("loyalty pid {}", std::process::id());
                // On Postgres there is nobody to share with.
                let share = if options.kafka.is_some() { share } else { Share::Alone };
                let (accounts_in_memory, queue_max) = (options.accounts_in_memory, role.queue_max);
                let (state, limits) = (StatePlace::Folder(folder), Limits::default());
                let config = ServiceConfig { state, owner, accounts_in_memory, queue_max, share, answer_within, limits };
                let (service, running) = Service::start(Arc::clone(&log), config, Arc::new(real_now)).await?;
                (service, Some(running))
            }
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        if role.models != Models::None {
            intake::migrate(database.url()).await?;
            analytics::open(database.url()).await?;
        }
        for model in read_models().into_iter().filter(|_| role.models != Models::None) {
            let projector = Projector::open(model, Arc::clone(&log), database.url()).await?;
            if role.models == Models::Projects {
                tasks.push(tokio::spawn(projector.run(stopped.clone())));
            }
        }
        if role.models != Models::None {
            let refusals = Refusals::open(Arc::clone(&log), database.url()).await?;
            if role.models == Models::Projects {
                tasks.push(tokio::spawn(refusals.run(stopped)));
            }
        }
        Ok(Self { log, service, running, stop, tasks, database })
    }

    /// Takes purchases in from a topic, until the node stops.
    pub async fn take_in(&mut self, data: &DataOptions, from: &IntakeOptions) -> anyhow::Result<()> {
        let brokers = data.kafka.clone().context("--kafka HOST:PORT is missing: purchases are taken in from a topic on Kafka")?;
        let topic = from.intake_topic.clone().unwrap_or_else(|| format!("{}.purchases", data.kafka_prefix));
        let group = format!("{}.intake", data.kafka_prefix);
        let options = intake::IntakeOptions { brokers, topic, group, partitions: data.partitions, replication: data.kafka_replication };
        let registry = from.schema_registry.as_deref().map(Registry::new);
        options.make_topic().await?;
        let key = data.alias_key()?;
        self.require_alias_key(&key).await?;
        let intake = Intake::new(self.service.clone(), key, registry);
        self.tasks.push(tokio::spawn(intake.run(options, self.url().to_owned(), self.stop.subscribe())));
        Ok(())
    }

    /// Applies the fraud rules to what the read models say and looks at the budgets, until the node stops.
    pub fn watch(&mut self) {
        self.tasks.push(tokio::spawn(crate::budget::run(self.service.clone(), self.url().to_owned(), self.stop.subscribe())));
        self.tasks.push(tokio::spawn(crate::watch::run(self.service.clone(), self.url().to_owned(), self.stop.subscribe())));
    }

    /// Estimates lifetime value and decline every so often, until the node stops.
    pub fn estimate(&mut self, every: Duration) {
        self.tasks.push(tokio::spawn(crate::estimate::run(self.service.clone(), self.url().to_owned(), every, self.stop.subscribe())));
    }

    /// Refuses another key of aliases than the book's. A book of before, which has aliases and no named key, gets this one.
    pub async fn require_alias_key(&self, key: &AliasKey) -> anyhow::Result<()> {
        let programs = self.service.programs();
        if programs.alias_key.is_some() || self.has_aliases().await? {
            match self.service.name_alias_key(key.fingerprint(), "start".into()).await {
                // It is compared again whenever an alias is added.
                Err(refusal) if refusal.is_passing() => tracing::warn!(%refusal, "the key of aliases could not be compared with the book's"),
                named => named?,
            }
        }
        Ok(())
    }

    async fn has_aliases(&self) -> anyhow::Result<bool> {
        let client = connect(self.url(), "alias").await?;
        Ok(client.query_opt("SELECT FROM alias.alias LIMIT 1", &[]).await?.is_some())
    }

    /// Refuses to go on over a log that is not the one that was sealed, or has lost some of it.
    pub async fn require_sealed(&self, sealing: &Sealing) -> anyhow::Result<()> {
        match &sealing.sealer {
            Some(sealer) => Ok(sealer.require_same(&*self.log).await?),
            None => Ok(()),
        }
    }

    /// Seals the book again and again until the node stops, and once more then; while another process seals there, it waits for its turn.
    pub fn seal(&mut self, sealing: Sealing, every: Duration) {
        let Sealing { secret, folder, sealer: first, witnesses } = sealing;
        let (log, mut stop) = (Arc::clone(&self.log), self.stop.subscribe());
        self.tasks.push(tokio::spawn(async move {
            let sealer = match first {
                Some(sealer) => Some(sealer),
                None => in_turn(&folder, &secret, &mut stop).await,
            };
            if let Some(sealer) = sealer {
                sealer.run(witnesses, log, every, real_now, stop).await;
            }
        }));
    }

    /// Where the database is.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// Whether a part of it has ended by itself: the command service, or a task that panicked. Those with the same work to do elsewhere, or the same
    /// process started anew, go on from what is written.
    pub fn has_failed(&self) -> bool {
        self.running.as_ref().is_some_and(Running::is_finished) || self.tasks.iter().any(JoinHandle::is_finished)
    }

    /// Waits until every read model has what is on the log now.
    pub async fn caught_up(&self) -> anyhow::Result<()> {
        self.service.flush().await;
        for model in read_models() {
            loop {
                let health = projectors::lags(&*model, &*self.log, self.url()).await?;
                if health.lags.iter().all(|lag| lag.lag == 0) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// Stops in turn: no more commands, what waits is booked, the projectors end, the database last.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.service.stop().await;
        let outcome = match self.running {
            Some(running) => tokio::task::spawn_blocking(move || running.join()).await?,
            None => Ok(()),
        };
        self.stop.send_replace(true);
        let mut ended = Ok(());
        for task in self.tasks {
            ended = ended.and(task.await);
        }
        drop((self.service, self.log));
        drop(self.database);
        outcome?;
        ended.context("a part of the service failed")
    }
}
