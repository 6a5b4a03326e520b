//! Programs: rulebooks and sandbox clocks.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger_core::time::Moment;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Actor;
use crate::body::Body;
use crate::names::{ModeSchema, RulebookSchema};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, wait_for_all};
use crate::responses::{BodyProblems, ReadProblems};
use crate::state::{ApiState, path_id, real_now};

/// A program.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProgramView {
    /// Its id.
    pub program: String,
    /// `live` or `sandbox`.
    #[schema(value_type = ModeSchema)]
    pub mode: ledger_core::policy::Mode,
    /// How many versions its rulebook has.
    pub versions: usize,
    /// Its time.
    #[schema(format = DateTime)]
    pub now: String,
}

/// A published rulebook.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedView {
    /// The program.
    pub program: String,
    /// 1, 2, 3 …
    pub version: u32,
    /// The rulebook as published.
    #[schema(value_type = Option<RulebookSchema>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rulebook: Option<serde_json::Value>,
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct VersionParams {
    /// The version; the latest if none.
    pub version: Option<u32>,
}

/// A clock.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"now": "2026-03-01T12:00:00Z"})))]
pub struct ClockBody {
    /// What it is to show.
    #[schema(value_type = String, format = DateTime)]
    pub now: Moment,
}

/// All programs.
#[utoipa::path(get, path = "/programs", operation_id = "listPrograms", tag = "Programs",
    responses((status = 200, description = "Every program", body = Page<ProgramView>), ReadProblems))]
pub(super) async fn list(State(state): State<ApiState>) -> axum::Json<Page<ProgramView>> {
    let programs = state.service.programs();
    let view = |(id, program): (&ledger_core::id::Id, &command_service::ProgramState)| ProgramView {
        program: id.to_string(),
        mode: program.program.latest().map_or_else(Default::default, |version| version.rulebook.mode),
        versions: program.rulebooks.len(),
        now: program.now(real_now()).to_string(),
    };
    axum::Json(Page { items: programs.by_id.iter().map(view).collect(), next_cursor: None })
}

/// Publish a rulebook. A version never changes; the same content again is the same version.
#[utoipa::path(put, path = "/programs/{program}/rulebook", operation_id = "publishRulebook", tag = "Programs",
    params(("program" = String, Path)), request_body(content = RulebookSchema, description = "The rulebook"),
    responses(
        (status = 201, description = "A new version", body = PublishedView),
        (status = 200, description = "It is the latest version already", body = PublishedView),
        BodyProblems))]
pub(super) async fn put_rulebook(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let id = path_id("program", &program)?;
    let (version, new) = state.service.publish(id, bytes.to_vec(), actor.0).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(PublishedView { program, version, rulebook: None })).into_response())
}

/// Read a rulebook.
#[utoipa::path(get, path = "/programs/{program}/rulebook", operation_id = "getRulebook", tag = "Programs",
    params(("program" = String, Path), VersionParams),
    responses((status = 200, description = "The rulebook as it was published", body = PublishedView), ReadProblems))]
pub(super) async fn get_rulebook(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<VersionParams>,
) -> Result<axum::Json<PublishedView>, Problem> {
    let found = state.program(&path_id("program", &program)?)?;
    let latest = found.program.latest().map_or(0, |version| version.number);
    let version = params.version.unwrap_or(latest);
    let index = usize::try_from(version).ok().and_then(|version| version.checked_sub(1));
    let Some(bytes) = index.and_then(|index| found.rulebooks.get(index)) else {
        return Err(Problem::new("not_found", format!("program {program} has no version {version}; its latest is {latest}")));
    };
    Ok(axum::Json(PublishedView { program, version, rulebook: serde_json::from_slice(bytes).ok() }))
}

/// Set a sandbox's clock, only forwards. All that falls due by then is done, and to be seen, before this answers.
#[utoipa::path(put, path = "/programs/{program}/clock", operation_id = "setClock", tag = "Programs",
    request_body = ClockBody, params(("program" = String, Path)),
    responses((status = 200, description = "The clock shows this, and all that falls due by then is done", body = ClockBody), BodyProblems))]
pub(super) async fn put_clock(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ClockBody>,
) -> Result<axum::Json<ClockBody>, Problem> {
    state.service.set_clock(path_id("program", &program)?, body.now, actor.0).await?;
    // Whoever set the clock looks at what it did.
    wait_for_all(&state).await?;
    Ok(axum::Json(body))
}
