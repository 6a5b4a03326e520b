//! For those who run the service.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use command_service::Service;
use event_log::EventLog;
use metrics_exporter_prometheus::PrometheusHandle;
use projectors::{Health, Lag, lags, read_models};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Actor;
use crate::names::HealthStatus;
use crate::parameters::Path;
use crate::problem::{CODES, Code, Problem};
use crate::responses::{OpenProblems, ReadProblems, UnknownProblem};
use crate::state::ApiState;

const TEXT: &str = "text/plain; version=0.0.4";

/// How the service is.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`, or `degraded` where accounts are stopped.
    #[schema(value_type = HealthStatus)]
    pub status: &'static str,
    /// Every read model.
    pub projectors: Vec<ProjectorView>,
}

/// How a read model is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectorView {
    /// By partition.
    pub lags: Vec<LagView>,
    /// Accounts that are stopped; the first hundred.
    pub poison: Vec<StoppedView>,
}

/// How far a read model is behind the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct LagView {
    /// The read model.
    pub projector: String,
    /// The partition.
    pub partition: u16,
    /// The position that is applied next.
    pub position: u64,
    /// Records on the log that are not applied yet.
    pub lag: u64,
}

/// An account that a read model stopped at a record.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoppedView {
    /// The program and the account.
    pub account: String,
    /// Why.
    pub reason: String,
}

impl From<Health> for ProjectorView {
    fn from(health: Health) -> Self {
        let lag = |lag: Lag| LagView { projector: lag.projector, partition: lag.partition, position: lag.position, lag: lag.lag };
        let stopped = |(account, reason)| StoppedView { account, reason };
        Self { lags: health.lags.into_iter().map(lag).collect(), poison: health.poison.into_iter().map(stopped).collect() }
    }
}

async fn look(state: &ApiState) -> Result<Vec<Health>, Problem> {
    let mut all = Vec::new();
    for model in read_models() {
        let health = lags(&*model, &*state.log, &state.url).await.map_err(|error| Problem::unavailable(&error))?;
        let stopped = u32::try_from(health.poison.len()).unwrap_or(u32::MAX);
        metrics::gauge!("loyalty_poison_accounts", "projector" => model.name()).set(f64::from(stopped));
        for lag in &health.lags {
            let behind = u32::try_from(lag.lag).unwrap_or(u32::MAX);
            metrics::gauge!("loyalty_projector_lag_records", "projector" => model.name(), "partition" => lag.partition.to_string()).set(f64::from(behind));
        }
        all.push(health);
    }
    Ok(all)
}

/// How the service is: 200 when it serves; `degraded` names accounts that are stopped, to those with a key.
#[utoipa::path(get, path = "/health", operation_id = "getHealth", tag = "Operations",
    security((), ("bearer" = [])),
    responses((status = 200, description = "The service serves", body = HealthView), OpenProblems))]
pub(super) async fn health(State(state): State<ApiState>, actor: Option<Extension<Actor>>) -> Result<axum::Json<HealthView>, Problem> {
    let mut projectors = look(&state).await?;
    let stopped = projectors.iter().any(|health| !health.poison.is_empty());
    if actor.is_none() {
        projectors.iter_mut().for_each(|health| health.poison.clear());
    }
    let projectors = projectors.into_iter().map(ProjectorView::from).collect();
    Ok(axum::Json(HealthView { status: if stopped { "degraded" } else { "ok" }, projectors }))
}

/// Whether the process is alive: where this does not answer 204, start it anew.
#[utoipa::path(get, path = "/health/live", operation_id = "checkAlive", tag = "Operations",
    security(()),
    responses((status = 204, description = "The process is alive")))]
pub(super) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Whether a request sent now can be answered: the command service takes commands, the log and the read models can be read.
#[utoipa::path(get, path = "/health/ready", operation_id = "checkReady", tag = "Operations",
    security(()),
    responses((status = 204, description = "A request sent now can be answered"), OpenProblems))]
pub(super) async fn ready(State(state): State<ApiState>) -> Result<StatusCode, Problem> {
    if !state.service.is_running() {
        return Err(Problem::retry("unavailable", "the command service has stopped"));
    }
    state.log.ends().await.map_err(|error| Problem::retry("unavailable", &error.to_string()))?;
    state.database().await?.simple_query("SELECT 1").await.map_err(|error| Problem::unavailable(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Health and metrics of a process that has no API.
pub fn ops_router(service: Service, log: Arc<dyn EventLog>, metrics: PrometheusHandle) -> Router {
    let ready = async move || match (service.is_running(), log.ends().await) {
        (false, _) => Problem::retry("unavailable", "the command service has stopped").into_response(),
        (true, Err(error)) => Problem::retry("unavailable", &error.to_string()).into_response(),
        (true, Ok(_)) => StatusCode::NO_CONTENT.into_response(),
    };
    let metrics = async move || ([(header::CONTENT_TYPE, TEXT)], metrics.render());
    Router::new().route("/health/live", routing::get(live)).route("/health/ready", routing::get(ready)).route("/metrics", routing::get(metrics))
}

/// Metrics, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "Operations",
    responses((status = 200, description = "Metrics", body = String, content_type = "text/plain"), ReadProblems))]
pub(super) async fn metrics(State(state): State<ApiState>) -> Result<Response, Problem> {
    look(&state).await?;
    Ok(([(header::CONTENT_TYPE, TEXT)], state.metrics.render()).into_response())
}

/// What an error code means.
#[utoipa::path(get, path = "/problems/{code}", operation_id = "getProblem", tag = "Operations",
    params(("code" = String, Path)),
    security(()),
    responses((status = 200, description = "What the code means", body = Code), OpenProblems, UnknownProblem))]
pub(super) async fn problem(Path(code): Path<String>) -> Response {
    match CODES.iter().find(|entry| entry.code == code) {
        Some(entry) => axum::Json(entry).into_response(),
        None => (StatusCode::NOT_FOUND, Problem::new("not_found", format!("there is no code {code}"))).into_response(),
    }
}
