//! The statement: every movement, the newest first.

use axum::extract::State;
use ledger_core::time::{Moment, timestamp_text};
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;
use utoipa::{IntoParams, ToSchema};

use super::accounts::require_account;
use crate::names::{BucketName, EventType};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, cursor, limit, moment, wait_for};
use crate::responses::ReadProblems;
use crate::state::ApiState;

/// Pages of a statement.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatementParams {
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
    /// Only what had taken effect by then.
    #[param(format = DateTime)]
    pub as_of: Option<String>,
    /// Only what had been booked by then.
    #[param(format = DateTime)]
    pub known_at: Option<String>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// A movement.
#[derive(Debug, Serialize, ToSchema)]
pub struct MovementView {
    /// The record within the account.
    pub account_seq: i64,
    /// When it took effect.
    #[schema(format = DateTime)]
    pub effective_at: String,
    /// When it was booked.
    #[schema(format = DateTime)]
    pub recorded_at: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    pub kind: String,
    /// The id of the purchase, redemption, return or adjustment.
    pub reference: String,
    /// Why, in words.
    pub reason: String,
    /// Who asked.
    pub actor: String,
    /// The version of the rulebook that decided.
    pub rule_version: i32,
    /// What the account has more, or less, for it.
    pub points: i64,
    /// The lots whose points moved, and between which buckets.
    pub lots: Vec<LotMoveView>,
    /// What the account had after it.
    pub balance_after: AfterView,
}

/// Points of a lot that moved between two buckets.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LotMoveView {
    /// The lot.
    pub lot_id: i32,
    /// How many.
    pub points: i64,
    /// Out of which bucket.
    #[schema(value_type = BucketName)]
    pub from: String,
    /// Into which.
    #[schema(value_type = BucketName)]
    pub to: String,
}

/// What the account had after a movement.
#[derive(Debug, Serialize, ToSchema)]
pub struct AfterView {
    /// To be spent.
    pub available: i64,
    /// Earned, not yet to be spent.
    pub pending: i64,
    /// Set aside.
    pub held: i64,
    /// Owed.
    pub owed: i64,
}

fn parse_cursor(text: &str) -> Option<(i64, i16)> {
    let (seq, event) = text.split_once(':')?;
    Some((seq.parse().ok()?, event.parse().ok()?))
}

/// Every movement, the newest booking first.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/statement", operation_id = "getStatement", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), StatementParams),
    responses((status = 200, description = "A page of movements", body = Page<MovementView>), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<StatementParams>,
) -> Result<axum::Json<Page<MovementView>>, Problem> {
    let (key, _) = state.key(&program, &account)?;
    let (limit, (seq, event)) = (limit(params.limit)?, cursor(params.cursor.as_deref(), parse_cursor)?.unwrap_or((i64::MAX, i16::MAX)));
    let time = |name: &str, text: &Option<String>| text.as_deref().map(|text| moment(name, text).map(Moment::timestamp)).transpose();
    let (as_of, known_at) = (time("as_of", &params.as_of)?, time("known_at", &params.known_at)?);
    wait_for(&state, "statement", params.min_position.as_deref()).await?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    let sql = "SELECT account_seq, event, effective_at, recorded_at, kind, reference, reason, actor, rule_version, points, lots, available, pending, held, owed
               FROM statement.movement WHERE program = $1 AND account = $2 AND (account_seq, event) < ($3, $4)
                 AND ($6::timestamptz IS NULL OR effective_at <= $6) AND ($7::timestamptz IS NULL OR recorded_at <= $7)
               ORDER BY account_seq DESC, event DESC LIMIT $5";
    let rows = database.query(sql, &[&key.program.as_str(), &key.account.as_str(), &seq, &event, &limit, &as_of, &known_at]).await?;
    let last = |row: &tokio_postgres::Row| format!("{}:{}", row.get::<_, i64>(0), row.get::<_, i16>(1));
    Ok(axum::Json(Page::of(rows, limit, last).map(view)))
}

fn view(row: &tokio_postgres::Row) -> MovementView {
    MovementView {
        account_seq: row.get(0),
        effective_at: timestamp_text(row.get(2)),
        recorded_at: timestamp_text(row.get(3)),
        kind: row.get(4),
        reference: row.get(5),
        reason: row.get(6),
        actor: row.get(7),
        rule_version: row.get(8),
        points: row.get(9),
        lots: row.get::<_, Json<Vec<LotMoveView>>>(10).0,
        balance_after: AfterView { available: row.get(11), pending: row.get(12), held: row.get(13), owed: row.get(14) },
    }
}
