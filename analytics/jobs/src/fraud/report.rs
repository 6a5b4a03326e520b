//! Fraud that was found out elsewhere, such as by the bank of the card that was paid with.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use ledger_core::policy::Severity;
use ledger_core::time::timestamp_text;
use serde_json::json;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::case::{Evidence, add_event, id, keep_confirmed};
use crate::AnalysisError;

/// The rule that such cases name.
const RULE: &str = "reported";

/// What is reported. Ids are an account's own, by kind: account and kind are needed where several have the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The id of a purchase, redemption, return or adjustment.
    pub id: &'a str,
    /// Whose.
    pub account: Option<&'a str>,
    /// purchase, redemption, return or adjustment.
    pub kind: Option<&'a str>,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The case.
    Case(String),
    /// Nothing has this id.
    NotFound,
    /// Several have it: account and kind of each.
    Ambiguous(Vec<(String, &'static str)>),
}

/// Kinds as reports and as signals name them.
const KINDS: [(&str, &str); 4] = [("purchase", "earn"), ("redemption", "redeem"), ("return", "return"), ("adjustment", "adjust")];

/// Opens a confirmed case about what `reference` names, once however often it is reported; one that was dismissed or assigned since is confirmed again.
///
/// # Errors
/// What the database says; nothing was done then.
pub async fn report(
    client: &mut Client,
    program: &str,
    reference: Reference<'_>,
    actor: &str,
    note: &str,
    now: DateTime<Utc>,
) -> Result<Reported, AnalysisError> {
    let transaction = client.transaction().await?;
    let signal_kind = reference.kind.map(|kind| KINDS.iter().find(|(name, _)| *name == kind).map_or(kind, |(_, signal)| *signal));
    let sql = "SELECT account, kind, at, partition, position FROM fraud.signal
               WHERE program = $1 AND reference = $2 AND reference <> '' AND kind = ANY($3) AND ($4::text IS NULL OR account = $4)
                 AND ($5::text IS NULL OR kind = $5) ORDER BY at, partition, position LIMIT 100";
    let kinds = KINDS.map(|(_, signal)| signal);
    let signals = transaction.query(sql, &[&program, &reference.id, &kinds.as_slice(), &reference.account, &signal_kind]).await?;
    let Some(first) = signals.first() else { return Ok(Reported::NotFound) };
    let (account, kind): (&str, &str) = (first.get(0), first.get(1));
    if signals.iter().any(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)) != (account, kind)) {
        return Ok(Reported::Ambiguous(owners(&signals)));
    }
    let day = first.get::<_, DateTime<Utc>>(2).date_naive();
    let case_id = id(program, RULE, &json!([account, kind, reference.id]).to_string(), day);
    let sql =
        "INSERT INTO analysis.fraud_case (program, case_id, rule, rule_version, severity, severity_rank, subject_kind, subject, account, day, state, opened_at,
                                                signals, measure, anomaly_score, explanation)
               VALUES ($1, $2, $3, 1, 'high', $4, 'reference', $5, $6, $7, 'confirmed', $8, $9, $9, 0, 'found out elsewhere') ON CONFLICT DO NOTHING";
    let count = i64::try_from(signals.len()).unwrap_or(i64::MAX);
    let values: [&(dyn ToSql + Sync); 9] = [&program, &case_id, &RULE, &(Severity::High as i16), &reference.id, &account, &day, &now, &count];
    let is_new = transaction.execute(sql, &values).await? == 1;
    if is_new {
        let evidence = |row: &Row| Evidence {
            account_id: account.to_owned(),
            kind: kind.to_owned(),
            reference: reference.id.to_owned(),
            at: timestamp_text(row.get(2)),
            position: format!("{}:{}", row.get::<_, i16>(3), row.get::<_, i64>(4)),
            windows: None,
        };
        let evidence: Vec<Evidence> = signals.iter().map(evidence).collect();
        add_event(&transaction, program, &case_id, now, actor, "opened", "found out elsewhere", &evidence).await?;
    }
    let sql = "UPDATE analysis.fraud_case SET state = 'confirmed' WHERE program = $1 AND case_id = $2 AND state <> 'confirmed'";
    if transaction.execute(sql, &[&program, &case_id]).await? == 1 || is_new {
        add_event(&transaction, program, &case_id, now, actor, "confirmed", note, &[]).await?;
        keep_confirmed(&transaction, program, &case_id).await?;
    }
    transaction.commit().await?;
    Ok(Reported::Case(case_id))
}

fn owners(signals: &[Row]) -> Vec<(String, &'static str)> {
    let owner = |row: &Row| {
        let kind = KINDS.iter().find(|(_, signal)| *signal == row.get::<_, &str>(1)).map_or("", |(name, _)| *name);
        (row.get(0), kind)
    };
    signals.iter().map(owner).collect::<BTreeSet<_>>().into_iter().collect()
}
