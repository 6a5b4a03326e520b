//! The tier that a member had at a moment, as the book knew it at another.

use axum::extract::State;
use chrono::{DateTime, Utc};
use ledger_core::id::AccountKey;
use ledger_core::time::Moment;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::{AsOfParams, PAST_ONLY, time};
use crate::names::TierCause;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{moment, wait_for};
use crate::responses::ReadProblems;
use crate::state::{ApiState, real_now};

/// A tier at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierAtView {
    /// The moment.
    #[schema(format = DateTime)]
    pub as_of: String,
    /// When the book said so, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub known_at: Option<String>,
    /// The tier; none where the account was not there.
    pub tier: Option<String>,
    /// When it was reached, if it is not the entry tier.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    /// Why: earned, returned, review; none for the entry tier.
    #[schema(value_type = Option<TierCause>)]
    pub cause: Option<String>,
    /// What counted when it was reached.
    #[schema(format = "decimal")]
    pub qualifying: Option<String>,
}

/// The tier that a member had at a moment of the past.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/tier", operation_id = "getTier", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), AsOfParams),
    responses((status = 200, description = "The tier at that moment", body = TierAtView), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<AsOfParams>,
) -> Result<axum::Json<TierAtView>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    wait_for(&state, "statement", params.min_position.as_deref()).await?;
    wait_for(&state, "tier", params.min_position.as_deref()).await?;
    let now = program.now(real_now());
    let as_of = params.as_of.as_deref().map_or(Ok(now), |text| moment("as_of", text))?;
    let known_at = params.known_at.as_deref().map(|text| moment("known_at", text)).transpose()?;
    if as_of > known_at.unwrap_or(now) {
        return Err(Problem::parameter("as_of", &as_of.to_string(), PAST_ONLY));
    }
    let database = super::accounts::require_account(&state, &key, params.min_position.as_deref()).await?;
    Ok(axum::Json(tier_then(&database, &key, as_of, known_at).await?))
}

async fn tier_then(database: &deadpool_postgres::Object, key: &AccountKey, as_of: Moment, known_at: Option<Moment>) -> Result<TierAtView, Problem> {
    let (program, account) = (key.program.as_str(), key.account.as_str());
    let (then, known) = (as_of.timestamp(), known_at.map(Moment::timestamp));
    let view =
        |tier, since, cause, qualifying| TierAtView { as_of: as_of.to_string(), known_at: known_at.map(|at| at.to_string()), tier, since, cause, qualifying };
    let sql = "SELECT to_tier, at, cause, qualifying FROM tier.move
               WHERE program = $1 AND account = $2 AND at <= $3 AND ($4::timestamptz IS NULL OR recorded_at <= $4) AND to_tier <> from_tier
               ORDER BY at DESC, account_seq DESC, event DESC LIMIT 1";
    if let Some(row) = database.query_opt(sql, &[&program, &account, &then, &known]).await? {
        let qualifying: Decimal = row.get(3);
        let since = time(row.get::<_, Option<DateTime<Utc>>>(1));
        return Ok(view(Some(row.get(0)), since, Some(row.get(2)), Some(qualifying.normalize().to_string())));
    }
    // Before its first move it was what that one moved from, from the first of its records on that was known.
    let sql = "SELECT coalesce((SELECT from_tier FROM tier.move WHERE program = $1 AND account = $2 ORDER BY account_seq, event LIMIT 1),
                               (SELECT tier FROM tier.standing WHERE program = $1 AND account = $2))
               WHERE EXISTS (SELECT FROM statement.movement WHERE program = $1 AND account = $2 AND effective_at <= $3
                             AND ($4::timestamptz IS NULL OR recorded_at <= $4))";
    let row = database.query_opt(sql, &[&program, &account, &then, &known]).await?;
    Ok(view(row.and_then(|row| row.get(0)), None, None, None))
}
