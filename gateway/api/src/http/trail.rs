//! Who did what: accepted and refused commands, searched by time, account, actor and kind. Nothing here can be written.

use axum::extract::State;
use chrono::{DateTime, Utc};
use ledger_core::time::{Moment, timestamp_text};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::names::CommandKind;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, cursor, limit, moment, wait_for};
use crate::responses::ReadProblems;
use crate::state::{ApiState, path_id};

/// Which commands.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrailParams {
    /// Who asked: the name of an API key, import or clock.
    pub actor: Option<String>,
    /// On which account.
    pub account_id: Option<String>,
    /// purchase, redemption, return, adjustment, freeze, …
    #[param(value_type = Option<CommandKind>)]
    pub kind: Option<String>,
    /// Booked at this moment or later (RFC 3339).
    #[param(format = DateTime)]
    pub from: Option<String>,
    /// Booked before this moment.
    #[param(format = DateTime)]
    pub to: Option<String>,
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// An accepted command.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrailView {
    /// When it was booked.
    #[schema(format = DateTime)]
    pub recorded_at: String,
    /// When what it tells of happened.
    #[schema(format = DateTime)]
    pub effective_at: String,
    /// Who asked.
    pub actor: String,
    /// On which account.
    pub account_id: String,
    /// What was asked.
    #[schema(value_type = CommandKind)]
    pub kind: String,
    /// Its id.
    pub command_id: String,
    /// The reason's code and note, where it has one.
    pub reason: String,
    /// What the member had more, or less, for it.
    pub points: i64,
    /// Of a purchase.
    pub channel: String,
    /// Of a purchase.
    pub store: String,
    /// The version of the rulebook that decided it.
    pub rule_version: i32,
    /// Its record within the account.
    pub account_seq: i64,
    /// Where the record stands: partition:position.
    pub position: String,
}

/// A refused command.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusalView {
    /// When it was refused.
    #[schema(format = DateTime)]
    pub recorded_at: String,
    /// Who asked.
    pub actor: String,
    /// On which account.
    pub account_id: String,
    /// What was asked.
    #[schema(value_type = CommandKind)]
    pub kind: String,
    /// Its id.
    pub command_id: String,
    /// The rejection's code.
    pub code: String,
    /// The rejection in words.
    pub detail: String,
}

/// The time from and to, and the moment and rest of the cursor.
struct Range {
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    after: Option<(DateTime<Utc>, String, i64)>,
    limit: i64,
}

fn range(params: &TrailParams) -> Result<Range, Problem> {
    let time = |name: &str, text: &Option<String>| text.as_deref().map(|text| moment(name, text).map(Moment::timestamp)).transpose();
    let place = |text: &str| {
        let (at, rest) = text.split_once('~')?;
        let (place, number) = rest.rsplit_once('~')?;
        Some((Moment::parse(at).ok()?.timestamp(), place.to_owned(), number.parse::<i64>().ok()?))
    };
    Ok(Range { from: time("from", &params.from)?, to: time("to", &params.to)?, after: cursor(params.cursor.as_deref(), place)?, limit: limit(params.limit)? })
}

/// Every accepted command, the newest first: by actor and time it is somebody's day.
#[utoipa::path(get, path = "/programs/{program}/audit/commands", operation_id = "listCommands", tag = "Audit",
    params(("program" = String, Path), TrailParams),
    responses((status = 200, description = "A page of accepted commands", body = Page<TrailView>), ReadProblems))]
pub(super) async fn commands(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<TrailParams>,
) -> Result<axum::Json<Page<TrailView>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let Range { from, to, after, limit } = range(&params)?;
    wait_for(&state, "audit", params.min_position.as_deref()).await?;
    let (at, account, seq) = after.map_or((None, None, None), |(at, account, seq)| (Some(at), Some(account), Some(seq)));
    let sql =
        "SELECT recorded_at, effective_at, actor, account, kind, command_id, reason, points, channel, store, rule_version, account_seq, partition, position
               FROM audit.command WHERE program = $1 AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR account = $3)
                 AND ($4::text IS NULL OR kind = $4) AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6)
                 AND ($7::timestamptz IS NULL OR (recorded_at, account, account_seq) < ($7, $8, $9))
               ORDER BY recorded_at DESC, account DESC, account_seq DESC LIMIT $10";
    let database = state.database().await?;
    let rows = database.query(sql, &[&program.as_str(), &params.actor, &params.account_id, &params.kind, &from, &to, &at, &account, &seq, &limit]).await?;
    let view = |row: &tokio_postgres::Row| TrailView {
        recorded_at: timestamp_text(row.get(0)),
        effective_at: timestamp_text(row.get(1)),
        actor: row.get(2),
        account_id: row.get(3),
        kind: row.get(4),
        command_id: row.get(5),
        reason: row.get(6),
        points: row.get(7),
        channel: row.get(8),
        store: row.get(9),
        rule_version: row.get(10),
        account_seq: row.get(11),
        position: crate::answer::position(row.get::<_, i16>(12).unsigned_abs(), row.get::<_, i64>(13).unsigned_abs()),
    };
    let last = |row: &tokio_postgres::Row| format!("{}~{}~{}", timestamp_text(row.get(0)), row.get::<_, &str>(3), row.get::<_, i64>(11));
    Ok(axum::Json(Page::of(rows, limit, last).map(view)))
}

/// Every refused command, the newest first.
#[utoipa::path(get, path = "/programs/{program}/audit/refusals", operation_id = "listRefusals", tag = "Audit",
    params(("program" = String, Path), TrailParams),
    responses((status = 200, description = "A page of refused commands", body = Page<RefusalView>), ReadProblems))]
pub(super) async fn refusals(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<TrailParams>,
) -> Result<axum::Json<Page<RefusalView>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let Range { from, to, after, limit } = range(&params)?;
    let place = after.map(|(at, partition, position)| Some((at, partition.parse::<i16>().ok()?, position)));
    let wrong = || Problem::parameter("cursor", params.cursor.as_deref().unwrap_or_default(), "the next_cursor of a page before");
    let (at, partition, position) = match place {
        None => (None, None, None),
        Some(Some((at, partition, position))) => (Some(at), Some(partition), Some(position)),
        Some(None) => return Err(wrong()),
    };
    let sql = "SELECT recorded_at, actor, account, kind, command_id, code, detail, partition, position
               FROM refusal.refusal WHERE program = $1 AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR account = $3)
                 AND ($4::text IS NULL OR kind = $4) AND ($5::timestamptz IS NULL OR recorded_at >= $5) AND ($6::timestamptz IS NULL OR recorded_at < $6)
                 AND ($7::timestamptz IS NULL OR (recorded_at, partition, position) < ($7, $8, $9))
               ORDER BY recorded_at DESC, partition DESC, position DESC LIMIT $10";
    let database = state.database().await?;
    let rows =
        database.query(sql, &[&program.as_str(), &params.actor, &params.account_id, &params.kind, &from, &to, &at, &partition, &position, &limit]).await?;
    let view = |row: &tokio_postgres::Row| RefusalView {
        recorded_at: timestamp_text(row.get(0)),
        actor: row.get(1),
        account_id: row.get(2),
        kind: row.get(3),
        command_id: row.get(4),
        code: row.get(5),
        detail: row.get(6),
    };
    let last = |row: &tokio_postgres::Row| format!("{}~{}~{}", timestamp_text(row.get(0)), row.get::<_, i16>(7), row.get::<_, i64>(8));
    Ok(axum::Json(Page::of(rows, limit, last).map(view)))
}
