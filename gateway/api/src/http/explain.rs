//! Explain: every point of the balance.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::accounts::{LotView, lot_view, require_account};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{ReadParams, wait_for};
use crate::responses::ReadProblems;
use crate::state::{ApiState, real_now};

/// Why the account has what it has.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainView {
    /// The account.
    pub account_id: String,
    /// Points pending, available and held together.
    pub points: i64,
    /// Every lot they are in.
    pub lots: Vec<ExplainedLot>,
    /// In words, a line a lot.
    pub words: Vec<String>,
}

/// A lot with its story.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedLot {
    /// The lot.
    #[serde(flatten)]
    pub lot: LotView,
    /// Which purchase or adjustment gave it, by which rule, version and tier.
    pub because: String,
}

fn words(lot: &ExplainedLot) -> String {
    let (mut parts, row) = (Vec::new(), &lot.lot);
    if row.remaining > 0 && row.pending {
        parts.push(format!("{} points pending until {}", row.remaining, row.available_at.as_deref().unwrap_or("?")));
    } else if row.remaining > 0 {
        parts.push(format!("{} points available", row.remaining));
    }
    if row.held > 0 {
        parts.push(format!("{} points held", row.held));
    }
    let expiry = row.expires_at.as_ref().map_or_else(|| "never expiring".to_owned(), |at| format!("expiring at {at}"));
    let left = row.remaining + row.held;
    // A return can leave more than was given first: what is kept may earn a bonus that all together had missed.
    format!("{}, {expiry}: {left} of {} given for {}", parts.join(" and "), row.points.max(left), lot.because)
}

/// Every point of the balance: which purchase gave it, which rule and version, when it matures, when it expires.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/explain", operation_id = "explainBalance", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), ReadParams),
    responses((status = 200, description = "Every lot with points, and where it came from", body = ExplainView), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<ReadParams>,
) -> Result<axum::Json<ExplainView>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    wait_for(&state, "statement", params.min_position.as_deref()).await?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    // By the lot: a purchase and an adjustment may have the same id. The first lot of a movement that gives points is the lot that it made.
    let sql = "SELECT l.lot_id, l.points, CASE WHEN l.expires_at <= $3 THEN 0 ELSE l.remaining END, l.held, l.pending, l.available_at, l.expires_at, l.source, l.rule_version,
                 coalesce(m.reason, '')
               FROM balance.lot l LEFT JOIN statement.movement m
                 ON m.program = l.program AND m.account = l.account AND (m.lots->0->>'lot_id')::int = l.lot_id AND m.kind IN ('points_earned', 'points_added')
               WHERE l.program = $1 AND l.account = $2 AND (l.remaining > 0 AND (l.expires_at IS NULL OR l.expires_at > $3) OR l.held > 0) ORDER BY l.lot_id";
    let now = program.now(real_now()).timestamp();
    let rows = database.query(sql, &[&key.program.as_str(), &key.account.as_str(), &now]).await?;
    let lots: Vec<ExplainedLot> = rows.iter().map(|row| ExplainedLot { lot: lot_view(row), because: row.get(9) }).collect();
    let points = lots.iter().map(|lot| lot.lot.remaining + lot.lot.held).sum();
    Ok(axum::Json(ExplainView { account_id: key.account.to_string(), points, words: lots.iter().map(words).collect(), lots }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_never_told_as_more_than_was_given() {
        let told = |remaining, held| {
            let (available_at, expires_at, source) = (None, None, "p1".into());
            let lot = LotView { lot_id: 1, points: 50, remaining, held, pending: false, available_at, expires_at, source, rule_version: 1 };
            words(&ExplainedLot { lot, because: "purchase p1".into() })
        };
        assert_eq!(told(30, 0), "30 points available, never expiring: 30 of 50 given for purchase p1");
        assert_eq!(told(100, 20), "100 points available and 20 points held, never expiring: 120 of 120 given for purchase p1");
    }
}
