//! Where members stand by the assessment in force, and how that changed.

use chrono::NaiveDate;
use serde::Serialize;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;
use utoipa::openapi::Ref;

use super::WINDOW_DAYS;
use super::signals::Signals;
use crate::AnalysisError;

fn states() -> Ref {
    Ref::from_schema_name("DeclineState")
}

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Standing {
    /// The account.
    pub account_id: String,
    /// As of the end of which day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub as_of: NaiveDate,
    /// growing, steady, slipping, fallen, `at_risk` or lost.
    #[schema(schema_with = states)]
    pub state: String,
    /// Probability that the next 90 days bring less than half of the better of the last two windows of 90 days.
    pub falls: f64,
    /// Probability that they bring nothing.
    pub leaves: f64,
    /// Margin of the better window times the probability to lose it, in the program's currency.
    pub value_at_stake: f64,
    /// Days since the last purchase.
    pub recency_days: i32,
    /// Days with a purchase so far.
    pub orders: i64,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// The signs that were looked at.
    pub signals: Signals,
}

pub(super) const COLUMNS: &str = "account, as_of, state, falls, leaves, value_at_stake, recency_days, orders, reasons, signals";

fn read(row: &Row) -> Standing {
    Standing {
        account_id: row.get(0),
        as_of: row.get(1),
        state: row.get(2),
        falls: row.get(3),
        leaves: row.get(4),
        value_at_stake: row.get(5),
        recency_days: row.get(6),
        orders: row.get(7),
        reasons: row.get(8),
        // Of an assessment by a version that kept none.
        signals: row.try_get::<_, Json<Signals>>(9).map(|json| json.0).unwrap_or_default(),
    }
}

/// Members in one of `states` or any, the most at stake first, after the value and account of a page's last.
///
/// # Errors
/// What the database says.
pub async fn list(client: &Client, program: &str, states: &[&str], after: Option<(f64, &str)>, limit: i64) -> Result<Vec<Standing>, AnalysisError> {
    let (value, account) = after.unwrap_or((f64::INFINITY, ""));
    let sql = format!(
        "SELECT {COLUMNS} FROM analysis.standing WHERE program = $1 AND (cardinality($2::text[]) = 0 OR state = ANY($2))
           AND (-value_at_stake, account) > (-$3::float8, $4) ORDER BY value_at_stake DESC, account LIMIT $5"
    );
    Ok(client.query(&sql, &[&program, &states, &value, &account, &limit]).await?.iter().map(read).collect())
}

/// Whether the last 90 days brought more than the 90 before. Standings by a version that kept no signals do not say so.
const ROSE: &str = "EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(signals->'spend') WHEN 'array' THEN signals->'spend' ELSE '[]'::jsonb END) s
    WHERE (s->>'days')::int = $3 AND (s->>'last')::float8 > (s->>'before')::float8)";

/// Members in one of `states`, the most at stake first: those of whom the last 90 days brought more than the 90 before, or the others.
///
/// # Errors
/// What the database says.
pub async fn by_trend(client: &Client, program: &str, states: &[&str], rose: bool, limit: i64) -> Result<Vec<Standing>, AnalysisError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM analysis.standing WHERE program = $1 AND state = ANY($2) AND {ROSE} = $4 ORDER BY value_at_stake DESC, account LIMIT $5"
    );
    Ok(client.query(&sql, &[&program, &states, &WINDOW_DAYS, &rose, &limit]).await?.iter().map(read).collect())
}

/// Where one member stands; none who was not assessed.
///
/// # Errors
/// What the database says.
pub async fn one(client: &Client, program: &str, account: &str) -> Result<Option<Standing>, AnalysisError> {
    let sql = format!("SELECT {COLUMNS} FROM analysis.standing WHERE program = $1 AND account = $2");
    Ok(client.query_opt(&sql, &[&program, &account]).await?.as_ref().map(read))
}

/// A change of standing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Transition {
    /// 1, 2, 3 … within the program.
    pub number: i64,
    /// The account.
    pub account_id: String,
    /// As of the end of which day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub day: NaiveDate,
    /// Before; empty for the first.
    pub from: String,
    /// After.
    #[schema(schema_with = states)]
    pub to: String,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// Transitions after number `after`, in order, of one account or all.
///
/// # Errors
/// What the database says.
pub async fn transitions(client: &Client, program: &str, account: Option<&str>, after: i64, limit: i64) -> Result<Vec<Transition>, AnalysisError> {
    let sql = "SELECT number, account, day, from_state, to_state, reasons FROM analysis.transition
               WHERE program = $1 AND number > $2 AND ($3::text IS NULL OR account = $3) ORDER BY number LIMIT $4";
    let read = |row: &Row| Transition { number: row.get(0), account_id: row.get(1), day: row.get(2), from: row.get(3), to: row.get(4), reasons: row.get(5) };
    Ok(client.query(sql, &[&program, &after, &account, &limit]).await?.iter().map(read).collect())
}
