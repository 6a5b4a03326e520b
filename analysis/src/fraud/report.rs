//! Fraud that was found out elsewhere, such as by the bank of the card that was paid with.

use jiff::Timestamp;
use ledger_core::policy::Severity;
use serde_json::json;
use tokio_postgres::Client;

use super::case::{add_event, id, keep_confirmed};
use crate::AnalysisError;

/// The rule that such cases name.
const RULE: &str = "reported";

/// Opens a confirmed case about the purchase, redemption, return or adjustment `reference`, once however often it is reported; tells the case.
/// None where no account has one of this id.
///
/// # Errors
/// What the database says; nothing was done then.
pub async fn report(client: &mut Client, program: &str, reference: &str, actor: &str, note: &str, now: Timestamp) -> Result<Option<String>, AnalysisError> {
    let transaction = client.transaction().await?;
    let sql = "SELECT account, kind, at, partition, position FROM fraud.signal WHERE program = $1 AND reference = $2 AND reference <> '' AND kind <> 'alias'
               ORDER BY at, partition, position LIMIT 100";
    let signals = transaction.query(sql, &[&program, &reference]).await?;
    let Some(first) = signals.first() else { return Ok(None) };
    let day = first.get::<_, Timestamp>(2).to_zoned(jiff::tz::TimeZone::UTC).date();
    let case_id = id(program, RULE, reference, day);
    let sql =
        "INSERT INTO analysis.fraud_case (program, case_id, rule, rule_version, severity, severity_rank, subject_kind, subject, account, day, state, opened_at,
                                                signals, measure, anomaly_score, explanation)
               VALUES ($1, $2, $3, 1, 'high', $4, 'reference', $5, $6, $7, 'confirmed', $8, $9, $9, 0, 'found out elsewhere') ON CONFLICT DO NOTHING";
    let (account, count) = (first.get::<_, &str>(0), i64::try_from(signals.len()).unwrap_or(i64::MAX));
    if transaction.execute(sql, &[&program, &case_id, &RULE, &(Severity::High as i16), &reference, &account, &day, &now, &count]).await? == 1 {
        let evidence = signals.iter().map(|row| {
            let position = format!("{}:{}", row.get::<_, i16>(3), row.get::<_, i64>(4));
            json!({"account_id": row.get::<_, &str>(0), "kind": row.get::<_, &str>(1), "reference": reference, "at": row.get::<_, Timestamp>(2).to_string(),
                "position": position})
        });
        add_event(&transaction, program, &case_id, now, actor, "opened", "found out elsewhere", &evidence.collect()).await?;
        add_event(&transaction, program, &case_id, now, actor, "confirmed", note, &json!([])).await?;
        keep_confirmed(&transaction, program, &case_id).await?;
    }
    transaction.commit().await?;
    Ok(Some(case_id))
}
