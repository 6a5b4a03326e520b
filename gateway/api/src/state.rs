//! What the handlers share.

use std::path::PathBuf;
use std::sync::Arc;

use command_service::{ProgramState, Service};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use event_log::EventLog;
use ledger_core::id::{AccountKey, Id};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_postgres::NoTls;

use crate::alias::AliasKey;
use crate::keys::Keys;
use crate::problem::Problem;

/// Why the API can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The URL.
    #[error("the database's URL can't be read")]
    Url(#[from] tokio_postgres::Error),
    /// The pool.
    #[error("the pool of connections can't be made")]
    Pool(#[from] deadpool_postgres::BuildError),
}

/// What the handlers share.
#[derive(Clone)]
pub struct ApiState {
    pub(crate) service: Service,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) url: Arc<str>,
    pub(crate) keys: Option<Arc<Keys>>,
    pub(crate) aliases: AliasKey,
    pub(crate) metrics: PrometheusHandle,
    /// Where the book's seal is, if it is sealed.
    pub(crate) seal: PathBuf,
    pool: Pool,
}

impl ApiState {
    /// Over `service` and `log`, reading the read models in the database at `url`. Without `keys` anybody may do anything.
    /// Proofs are read from `seal`.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn new(
        service: Service,
        log: Arc<dyn EventLog>,
        url: &str,
        keys: Option<Keys>,
        aliases: AliasKey,
        metrics: PrometheusHandle,
        seal: PathBuf,
    ) -> Result<Self, StateError> {
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(url.parse()?, NoTls, config);
        let pool = Pool::builder(manager).max_size(16).build()?;
        Ok(Self { service, log, url: url.into(), keys: keys.map(Arc::new), aliases, metrics, seal, pool })
    }

    pub(crate) async fn database(&self) -> Result<Object, Problem> {
        self.pool.get().await.map_err(|error| Problem::unavailable(&error))
    }

    /// The program, or 404.
    pub(crate) fn program(&self, id: &Id) -> Result<ProgramState, Problem> {
        self.service.programs().by_id.get(id).cloned().ok_or_else(|| Problem::program_not_found(id))
    }

    /// The account's key, of a program that is there.
    pub(crate) fn key(&self, program: &str, account: &str) -> Result<(AccountKey, ProgramState), Problem> {
        let program = path_id("program", program)?;
        let account = path_id("account_id", account)?;
        let state = self.program(&program)?;
        Ok((AccountKey { program, account }, state))
    }
}

/// An id in the path.
pub(crate) fn path_id(name: &'static str, text: &str) -> Result<Id, Problem> {
    Id::parse(text).map_err(|error| Problem::parameter(name, text, &error.to_string()))
}

/// The real clock.
#[must_use]
pub fn real_now() -> ledger_core::time::Moment {
    ledger_core::time::Moment::from_micros(chrono::Utc::now().timestamp_micros()).unwrap_or_default()
}
