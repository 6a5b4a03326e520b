//! Assessments that were made: which one is in force, and the way back to an earlier one.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, GenericClient, Row, Transaction};

use super::assess::{Assessed, Move};
use super::model::InForce;
use super::standing::{COLUMNS, Standing};
use crate::AnalysisError;
use crate::clv::AsOf;

/// Of so many of the newest assessments, and of the one in force, where members stand is kept.
const KEPT: i32 = 10;

/// An assessment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessment {
    /// 1, 2, 3 … within the program.
    pub version: i32,
    /// When it was made.
    #[serde(serialize_with = "ledger_core::time::serialize_timestamp")]
    pub made_at: DateTime<Utc>,
    /// As of the end of which day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub as_of: NaiveDate,
    /// Only what was booked by the end of this day was known to it; all if none.
    #[serde(serialize_with = "ledger_core::time::date::optional::serialize")]
    pub known_at: Option<NaiveDate>,
    /// Whether standings are by it now.
    pub in_force: bool,
    /// Whether somebody put it in force by hand.
    pub is_chosen: bool,
    /// Why it was put in force, or not.
    pub why: String,
    /// Whether it can be put in force again: where its members stand is kept.
    pub is_kept: bool,
    /// What its probabilities are made by.
    pub models: Vec<InForce>,
}

const ASSESSMENT: &str = "version, made_at, as_of, known_at, in_force, chosen, why,
    EXISTS (SELECT FROM analysis.assessed d WHERE d.program = a.program AND d.version = a.version), models";

fn read(row: &Row) -> Assessment {
    Assessment {
        version: row.get(0),
        made_at: row.get(1),
        as_of: row.get(2),
        known_at: row.get(3),
        in_force: row.get(4),
        is_chosen: row.get(5),
        why: row.get(6),
        is_kept: row.get(7),
        // One that can't be read names no model, and is in no one's way.
        models: row.try_get::<_, Json<Vec<InForce>>>(8).map(|json| json.0).unwrap_or_default(),
    }
}

/// Assessments of the program, the newest first.
///
/// # Errors
/// What the database says.
pub async fn assessments(client: &Client, program: &str, limit: i64) -> Result<Vec<Assessment>, AnalysisError> {
    let sql = format!("SELECT {ASSESSMENT} FROM analysis.assessment a WHERE program = $1 ORDER BY version DESC LIMIT $2");
    Ok(client.query(&sql, &[&program, &limit]).await?.iter().map(read).collect())
}

/// The one in force; none where none was made since assessments are kept.
pub(super) async fn in_force(client: &Client, program: &str) -> Result<Option<Assessment>, AnalysisError> {
    let sql = format!("SELECT {ASSESSMENT} FROM analysis.assessment a WHERE program = $1 AND in_force");
    Ok(client.query_opt(&sql, &[&program]).await?.as_ref().map(read))
}

/// Keeps an assessment, and puts it in force if it says so; tells its version.
pub(super) async fn keep(
    client: &mut Client,
    program: &str,
    (as_of, made_at): (AsOf, DateTime<Utc>),
    assessed: &mut Assessed,
    standings: &[Standing],
    moves: &[Move],
) -> Result<i32, AnalysisError> {
    let transaction = client.transaction().await?;
    // One assessment of a program at a time.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.standing'))", &[]).await?;
    let sql = "SELECT coalesce(max(version), 0) + 1 FROM analysis.assessment WHERE program = $1";
    let version: i32 = transaction.query_one(sql, &[&program]).await?.get(0);
    let sql = "INSERT INTO analysis.assessment (program, version, made_at, as_of, known_at, in_force, chosen, why, models) VALUES ($1, $2, $3, $4, $5, false, false, $6, $7)";
    transaction.execute(sql, &[&program, &version, &made_at, &as_of.day, &as_of.known_at, &assessed.why, &serde_json::to_value(&assessed.models)?]).await?;
    let sql = "INSERT INTO analysis.assessed (program, version, account, as_of, state, falls, leaves, value_at_stake, recency_days, orders, reasons, signals)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let statement = transaction.prepare(sql).await?;
    for s in standings {
        let (state, signals) = (&s.state, Json(&s.signals));
        let row: [&(dyn ToSql + Sync); 12] =
            [&program, &version, &s.account_id, &as_of.day, state, &s.falls, &s.leaves, &s.value_at_stake, &s.recency_days, &s.orders, &s.reasons, &signals];
        transaction.execute(&statement, &row).await?;
    }
    if assessed.in_force {
        replace(&transaction, program, version, false).await?;
        let moves: Vec<(&str, &str, &str, &[String])> = moves.iter().map(|m| (&*m.account, m.from, m.to, &*m.reasons)).collect();
        note_moves(&transaction, program, as_of.day, &moves).await?;
    }
    let sql = "DELETE FROM analysis.assessed d USING analysis.assessment a
               WHERE a.program = $1 AND d.program = a.program AND d.version = a.version AND a.version <= $2 AND NOT a.in_force";
    transaction.execute(sql, &[&program, &(version - KEPT)]).await?;
    transaction.commit().await?;
    Ok(version)
}

/// Standings are by assessment `version` from here on.
async fn replace(transaction: &Transaction<'_>, program: &str, version: i32, is_chosen: bool) -> Result<(), tokio_postgres::Error> {
    transaction.execute("UPDATE analysis.assessment SET in_force = false WHERE program = $1 AND in_force", &[&program]).await?;
    let sql = "UPDATE analysis.assessment SET in_force = true, chosen = $3 WHERE program = $1 AND version = $2";
    transaction.execute(sql, &[&program, &version, &is_chosen]).await?;
    transaction.execute("DELETE FROM analysis.standing WHERE program = $1", &[&program]).await?;
    let sql = format!(
        "INSERT INTO analysis.standing (program, assessment, {COLUMNS}) SELECT program, version, {COLUMNS} FROM analysis.assessed
         WHERE program = $1 AND version = $2"
    );
    transaction.execute(&sql, &[&program, &version]).await?;
    Ok(())
}

async fn note_moves(client: &impl GenericClient, program: &str, day: NaiveDate, moves: &[(&str, &str, &str, &[String])]) -> Result<(), tokio_postgres::Error> {
    let next: i64 = client.query_one("SELECT coalesce(max(number), 0) FROM analysis.transition WHERE program = $1", &[&program]).await?.get(0);
    let statement = client.prepare("INSERT INTO analysis.transition VALUES ($1, $2, $3, $4, $5, $6, $7)").await?;
    for (number, (account, from, to, reasons)) in (next + 1..).zip(moves) {
        client.execute(&statement, &[&program, &number, account, &day, from, to, reasons]).await?;
    }
    Ok(())
}

/// Puts an assessment in force by hand, earlier or refused: it stays until the next of its day or later that is asked for. Changes of standing are
/// transitions like any other.
///
/// # Errors
/// [`AnalysisError::NotThere`] where there is no such assessment, or where members stood by it is not kept any more.
pub async fn put_in_force(client: &mut Client, program: &str, version: i32) -> Result<Assessment, AnalysisError> {
    let transaction = client.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.standing'))", &[]).await?;
    let sql = format!("SELECT {ASSESSMENT} FROM analysis.assessment a WHERE program = $1 AND version = $2");
    let found = transaction.query_opt(&sql, &[&program, &version]).await?.as_ref().map(read);
    let Some(assessment) = found.filter(|assessment| assessment.is_kept) else {
        let sql = "SELECT DISTINCT version FROM analysis.assessed WHERE program = $1 ORDER BY 1";
        let kept: Vec<String> = transaction.query(sql, &[&program]).await?.iter().map(|row| row.get::<_, i32>(0).to_string()).collect();
        let kept = if kept.is_empty() { "none is".to_owned() } else { format!("those that are: {}", kept.join(", ")) };
        return Err(AnalysisError::NotThere(format!(
            "no assessment {version} of program {program} is kept; {kept}; `loyalty decline assessments --program {program}` lists them"
        )));
    };
    let sql = "SELECT d.account, coalesce(s.state, ''), d.state FROM analysis.assessed d
               LEFT JOIN analysis.standing s ON s.program = d.program AND s.account = d.account
               WHERE d.program = $1 AND d.version = $2 AND d.state IS DISTINCT FROM s.state ORDER BY d.account";
    let changed: Vec<(String, String, String)> =
        transaction.query(sql, &[&program, &version]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    replace(&transaction, program, version, true).await?;
    let why = [format!("assessment {version} was put in force by hand")];
    let moves: Vec<(&str, &str, &str, &[String])> = changed.iter().map(|(account, from, to)| (&**account, &**from, &**to, why.as_slice())).collect();
    note_moves(&transaction, program, assessment.as_of, &moves).await?;
    transaction.commit().await?;
    Ok(Assessment { in_force: true, is_chosen: true, ..assessment })
}
