//! Freezes that rules with `block` ask for: rows written in the transaction of the case, pending until the ledger has answered the command.
//!
//! The command's id derives from the case and its round, so a crash between the command and the row repeats the same command, and the ledger gives the
//! same answer. Dismissing a case ends the round: if it is opened again, its accounts are frozen again.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Row, Transaction};

use super::case::add_event;
use crate::AnalysisError;

/// A freeze whose command was not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingFreeze {
    /// The program.
    pub program: String,
    /// The case.
    pub case_id: String,
    /// The account to freeze.
    pub account: String,
    /// The rule.
    pub rule: String,
    /// How often the case had been dismissed before.
    pub round: i64,
}

/// Asks for the freeze of `accounts`, of each once until the case is dismissed.
pub(super) async fn ask(
    transaction: &Transaction<'_>,
    (program, case_id, rule): (&str, &str, &str),
    accounts: &[&str],
    now: DateTime<Utc>,
) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO analysis.fraud_freeze (program, case_id, account, rule, asked_at, round)
               SELECT DISTINCT $1, $2, account, $4, $5::timestamptz,
                   (SELECT count(*) FROM analysis.fraud_event WHERE program = $1 AND case_id = $2 AND kind = 'dismissed')
               FROM unnest($3::text[]) AS a(account) ON CONFLICT DO NOTHING";
    transaction.execute(sql, &[&program, &case_id, &accounts, &rule, &now]).await?;
    Ok(())
}

/// Pending freezes, the oldest first.
///
/// # Errors
/// What the database says.
pub async fn pending_freezes(client: &Client) -> Result<Vec<PendingFreeze>, AnalysisError> {
    let sql = "SELECT program, case_id, account, rule, round FROM analysis.fraud_freeze WHERE answered_at IS NULL ORDER BY asked_at, program, case_id, account";
    let read = |row: &Row| PendingFreeze { program: row.get(0), case_id: row.get(1), account: row.get(2), rule: row.get(3), round: row.get(4) };
    Ok(client.query(sql, &[]).await?.iter().map(read).collect())
}

/// Whether a freeze is still pending: its case may have been dismissed meanwhile.
///
/// # Errors
/// What the database says.
pub async fn is_pending(client: &Client, freeze: &PendingFreeze) -> Result<bool, AnalysisError> {
    let PendingFreeze { program, case_id, account, round, .. } = freeze;
    let sql = "SELECT FROM analysis.fraud_freeze WHERE program = $1 AND case_id = $2 AND account = $3 AND round = $4 AND answered_at IS NULL";
    Ok(client.query_opt(sql, &[program, case_id, account, round]).await?.is_some())
}

/// The ledger has answered: the freeze is no longer pending, and the case says what came of it, once.
///
/// # Errors
/// What the database says; the freeze is still pending then.
pub async fn settle_freeze(client: &mut Client, freeze: &PendingFreeze, actor: &str, note: &str, now: DateTime<Utc>) -> Result<(), AnalysisError> {
    let PendingFreeze { program, case_id, account, round, .. } = freeze;
    let transaction = client.transaction().await?;
    transaction.execute("SELECT FROM analysis.fraud_case WHERE program = $1 AND case_id = $2 FOR UPDATE", &[program, case_id]).await?;
    // The case may have been dismissed meanwhile, and opened again: what the ledger said is told once, of the round that it is about.
    let sql = "SELECT answered_at IS NOT NULL OR round <> $4 FROM analysis.fraud_freeze WHERE program = $1 AND case_id = $2 AND account = $3";
    let is_over = transaction.query_opt(sql, &[program, case_id, account, round]).await?.is_some_and(|row| row.get(0));
    if !is_over {
        let sql = "UPDATE analysis.fraud_freeze SET answered_at = $4 WHERE program = $1 AND case_id = $2 AND account = $3";
        transaction.execute(sql, &[program, case_id, account, &now]).await?;
        add_event(&transaction, program, case_id, now, actor, "frozen", note, &[]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// A case that turned out to be none freezes nobody any more, until it is opened again.
pub(super) async fn cancel(transaction: &Transaction<'_>, program: &str, case_id: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "DELETE FROM analysis.fraud_freeze WHERE program = $1 AND case_id = $2";
    transaction.execute(sql, &[&program, &case_id]).await?;
    Ok(())
}
