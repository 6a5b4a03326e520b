//! Who pays: what others than the program came to pay for in a period, and what of it is still owed to members.

use chrono::NaiveDate;
use ledger_core::time::LAST_DATE;
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::trial::{Basis, roll_forward, trial_balance};
use crate::AnalysisError;

/// What one payer pays for, in points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Payer {
    /// Who, by the rulebook's `earn.bonus[].paid_by`; none for the program itself.
    pub payer: Option<String>,
    /// Given in the period.
    pub issued: i64,
    /// Negative: of goods that were returned in the period.
    pub clawed_back: i64,
    /// Given at any time and owed to members now: pending, available or held.
    pub liability: i64,
}

/// Who pays for what was booked from the first to the last of the days of `period`, and of all that is owed now. The program comes last: it
/// pays the rest of the roll-forward's figures, so also for what returns could not take back.
///
/// # Errors
/// What the database says.
pub async fn payers(client: &Client, program: &str, period: (NaiveDate, NaiveDate)) -> Result<Vec<Payer>, AnalysisError> {
    let sql = "SELECT payer, coalesce(issued, 0)::bigint, coalesce(clawed_back, 0)::bigint, coalesce(liability, 0)::bigint
               FROM (SELECT payer, sum(points) FILTER (WHERE kind = 'issued') AS issued, sum(points) FILTER (WHERE kind = 'clawed_back') AS clawed_back
                     FROM liability.payment WHERE program = $1 AND booked_on BETWEEN $2 AND $3 GROUP BY payer) came
               FULL JOIN (SELECT payer, liability FROM liability.payer WHERE program = $1) still USING (payer) ORDER BY payer";
    let row = |row: &tokio_postgres::Row| Payer { payer: row.get(0), issued: row.get(1), clawed_back: row.get(2), liability: row.get(3) };
    let mut payers: Vec<Payer> = client.query(sql, &[&program, &period.0, &period.1]).await?.iter().map(row).collect();
    let rolled = roll_forward(client, program, period, None, Basis::Booked, None).await?.total;
    // Of all that was ever booked.
    let liability = trial_balance(client, program, LAST_DATE, None, Basis::Booked).await?.liability_points;
    let rest = |all: i64, of: fn(&Payer) -> i64| all - payers.iter().map(of).sum::<i64>();
    let program = Payer {
        payer: None,
        issued: rest(rolled.issued, |p| p.issued),
        clawed_back: rest(rolled.clawed_back, |p| p.clawed_back),
        liability: rest(liability, |p| p.liability),
    };
    payers.push(program);
    Ok(payers)
}
