//! The fits that were made, and which of them is in force.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, GenericClient, Row};

use super::fit::Fit;
use super::history::AsOf;
use crate::AnalysisError;

/// The version in force: the one put in force last; of fits from before that was written down, the newest that was good enough.
const CURRENT: &str = "coalesce((SELECT version FROM analysis.fit_use WHERE program = $1 ORDER BY number DESC LIMIT 1),
                                (SELECT max(version) FROM analysis.fit WHERE program = $1 AND in_force))";

fn read(row: &Row) -> Result<Fit, AnalysisError> {
    let mut fit: Fit = serde_json::from_value(row.get(0))?;
    fit.in_force = row.get(1);
    Ok(fit)
}

/// Keeps `fit` under the next version.
pub(super) async fn keep(client: &mut Client, program: &str, fit: &mut Fit, fitted_at: DateTime<Utc>) -> Result<(), AnalysisError> {
    let transaction = client.transaction().await?;
    // One fit of a program at a time takes a number.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.fit'))", &[]).await?;
    let sql = "SELECT coalesce(max(version), 0) + 1 FROM analysis.fit WHERE program = $1";
    fit.version = transaction.query_one(sql, &[&program]).await?.get(0);
    let sql = "INSERT INTO analysis.fit (program, version, fitted_at, since, until, holdout_days, members, in_force, why, report)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let (report, members) = (serde_json::to_value(&*fit)?, i64::try_from(fit.members).unwrap_or(i64::MAX));
    transaction
        .execute(sql, &[&program, &fit.version, &fitted_at, &fit.since, &fit.until, &fit.holdout_days, &members, &fit.in_force, &fit.why, &report])
        .await?;
    if fit.in_force {
        put(&transaction, program, fit.version, fitted_at, false).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn put(client: &impl GenericClient, program: &str, version: i32, at: DateTime<Utc>, by_hand: bool) -> Result<(), AnalysisError> {
    let sql = "INSERT INTO analysis.fit_use SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4 FROM analysis.fit_use WHERE program = $1";
    client.execute(sql, &[&program, &version, &at, &by_hand]).await?;
    Ok(())
}

/// Puts an earlier fit in force again.
///
/// # Errors
/// [`AnalysisError::NotThere`] where there is no such fit, or it has no model.
pub async fn put_in_force(client: &mut Client, program: &str, version: i32, at: DateTime<Utc>) -> Result<Fit, AnalysisError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.fit'))", &[]).await?;
    let Some(mut fit) = version_of(&transaction, program, version).await? else {
        return Err(AnalysisError::NotThere(format!("there is no fit {version} of program {program}; `loyalty clv fits --program {program}` lists them")));
    };
    if !fit.is_usable() {
        return Err(AnalysisError::NotThere(format!("fit {version} of program {program} came to no model: {}", fit.why)));
    }
    put(&transaction, program, version, at, true).await?;
    transaction.commit().await?;
    fit.in_force = true;
    Ok(fit)
}

/// The program's fits, the newest first.
///
/// # Errors
/// [`AnalysisError`]
pub async fn list(client: &Client, program: &str, before: i32, limit: i64) -> Result<Vec<Fit>, AnalysisError> {
    let sql =
        format!("SELECT report, version IS NOT DISTINCT FROM {CURRENT} FROM analysis.fit WHERE program = $1 AND version < $2 ORDER BY version DESC LIMIT $3");
    client.query(&sql, &[&program, &before, &limit]).await?.iter().map(read).collect()
}

/// One fit.
///
/// # Errors
/// [`AnalysisError`]
pub async fn version_of(client: &impl GenericClient, program: &str, version: i32) -> Result<Option<Fit>, AnalysisError> {
    let sql = format!("SELECT report, version IS NOT DISTINCT FROM {CURRENT} FROM analysis.fit WHERE program = $1 AND version = $2");
    client.query_opt(&sql, &[&program, &version]).await?.as_ref().map(read).transpose()
}

/// The fit in force.
///
/// # Errors
/// [`AnalysisError`]
pub async fn in_force(client: &impl GenericClient, program: &str) -> Result<Option<Fit>, AnalysisError> {
    let sql = format!("SELECT report, true FROM analysis.fit WHERE program = $1 AND version = {CURRENT}");
    client.query_opt(&sql, &[&program]).await?.as_ref().map(read).transpose()
}

/// Whether somebody chose the fit in force.
pub(super) async fn is_chosen(client: &Client, program: &str) -> Result<bool, AnalysisError> {
    let sql = "SELECT by_hand FROM analysis.fit_use WHERE program = $1 ORDER BY number DESC LIMIT 1";
    Ok(client.query_opt(sql, &[&program]).await?.is_some_and(|row| row.get(0)))
}

/// The fit to look back with: the one in force, unless its data end after the day looked at, or after that of what was known; then the latest whose data do
/// not, of equal ones one that also knew only what was booked by then. None where there is none: a fit of later data would tell the past by its future.
///
/// # Errors
/// [`AnalysisError`]
pub async fn fit_for(client: &Client, program: &str, as_of: AsOf) -> Result<Option<Fit>, AnalysisError> {
    let AsOf { day, known_at } = as_of;
    let last = known_at.map_or(day, |known_at| known_at.min(day));
    let current = in_force(client, program).await?;
    if current.as_ref().is_none_or(|fit| fit.until <= last) {
        return Ok(current);
    }
    let sql = "SELECT report, false FROM analysis.fit WHERE program = $1 AND until <= $2 AND report->>'buying' IS NOT NULL AND report->>'spend' IS NOT NULL
               ORDER BY until DESC, coalesce((report->>'known_at')::date <= $3::date, false) DESC, version DESC LIMIT 1";
    client.query_opt(sql, &[&program, &last, &known_at]).await?.as_ref().map(read).transpose()
}
