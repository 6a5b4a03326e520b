//! Cases: what was found, who looks at it, and what came of it.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_postgres::types::Json;
use tokio_postgres::{Client, GenericClient, Row, Transaction};
use utoipa::ToSchema;
use utoipa::openapi::Ref;

use super::freeze;
use crate::AnalysisError;

/// What of an anomaly score counts towards a case's priority, beside its severity (10, 30, 60 or 100).
const ANOMALY_WEIGHT: f64 = 2.0;

/// How far a case can be.
pub const STATES: [&str; 4] = ["open", "assigned", "confirmed", "dismissed"];

fn severities() -> Ref {
    Ref::from_schema_name("Severity")
}

fn subject_kinds() -> Ref {
    Ref::from_schema_name("SignalField")
}

fn states() -> Ref {
    Ref::from_schema_name("CaseState")
}

fn signal_kinds() -> Ref {
    Ref::from_schema_name("SignalKind")
}

fn event_kinds() -> utoipa::openapi::Object {
    crate::one_of("What happened.", &["opened", "seen_again", "assigned", "noted", "confirmed", "dismissed", "frozen"])
}

/// A case.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Case {
    /// A hash of rule, subject and day.
    pub case_id: String,
    /// The rule.
    pub rule: String,
    /// Its version.
    pub rule_version: i32,
    /// low, medium, high or critical.
    #[schema(schema_with = severities)]
    pub severity: String,
    /// account, actor, cashier, till, device, card, store or reference.
    #[schema(schema_with = subject_kinds)]
    pub subject_kind: String,
    /// Whom or what it is about.
    pub subject: String,
    /// The account of the signal that opened it.
    pub account_id: String,
    /// The day (UTC) of the signals.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub day: NaiveDate,
    /// open, assigned, confirmed or dismissed.
    #[schema(schema_with = states)]
    pub state: String,
    /// Who looks at it.
    pub assignee: String,
    /// When it was opened.
    #[serde(serialize_with = "ledger_core::time::serialize_timestamp")]
    pub opened_at: DateTime<Utc>,
    /// How many signals met the rule.
    pub signals: i64,
    /// The most that any of the rule's windows counted.
    pub measure: i64,
    /// Robust standard deviations from the points of its kind.
    pub anomaly_score: f64,
    /// What the score adds to the priority, for each.
    pub anomaly_weight: f64,
    /// Severity and anomaly together; the highest first.
    pub priority: f64,
    /// Why, in words.
    pub explanation: String,
}

/// What happened to a case.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CaseEvent {
    /// 1, 2, 3 … within the case.
    pub number: i32,
    /// When.
    #[serde(serialize_with = "ledger_core::time::serialize_timestamp")]
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// opened, `seen_again`, assigned, noted, confirmed, dismissed or frozen.
    #[schema(schema_with = event_kinds)]
    pub kind: String,
    /// In words.
    pub note: String,
    /// The signals, with the positions of their records.
    pub evidence: Vec<Evidence>,
}

/// A signal that is evidence of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// The signal's account.
    pub account_id: String,
    /// earn, redeem, return, adjust, alias, open, woken or refused.
    #[schema(schema_with = signal_kinds)]
    pub kind: String,
    /// The id of the purchase, redemption, return or adjustment; of an alias, its hash.
    pub reference: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// Where its record stands: partition:position.
    pub position: String,
    /// What the rule's windows counted, by name; none where the fraud was found out elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<BTreeMap<String, i64>>,
}

/// What is done about a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Somebody looks at it; one that was decided is open again.
    Assign(&'a str),
    /// Something is known of it.
    Note,
    /// It is fraud.
    Confirm,
    /// It is none.
    Dismiss,
}

pub(super) fn id(program: &str, rule: &str, subject: &str, day: NaiveDate) -> String {
    let hash = blake3::hash(json!([program, rule, subject, day]).to_string().as_bytes());
    hash.to_hex().chars().take(24).collect()
}

const COLUMNS: &str = "case_id, rule, rule_version, severity, subject_kind, subject, account, day, state, assignee, opened_at, signals, measure, anomaly_score,
                       explanation, severity_rank";

fn read(row: &Row) -> Case {
    let anomaly_score: f64 = row.get(13);
    let severity = [10.0, 30.0, 60.0, 100.0].get(usize::from(row.get::<_, i16>(15).unsigned_abs())).copied().unwrap_or(0.0);
    Case {
        case_id: row.get(0),
        rule: row.get(1),
        rule_version: row.get(2),
        severity: row.get(3),
        subject_kind: row.get(4),
        subject: row.get(5),
        account_id: row.get(6),
        day: row.get(7),
        state: row.get(8),
        assignee: row.get(9),
        opened_at: row.get(10),
        signals: row.get(11),
        measure: row.get(12),
        anomaly_score,
        anomaly_weight: ANOMALY_WEIGHT,
        priority: severity + ANOMALY_WEIGHT * anomaly_score.clamp(0.0, 10.0),
        explanation: row.get(14),
    }
}

/// Cases in `state` or any, of `rule` or any, the worst and newest first; after the first `skip`.
///
/// # Errors
/// What the database says.
pub async fn cases(client: &Client, program: &str, state: Option<&str>, rule: Option<&str>, skip: i64, limit: i64) -> Result<Vec<Case>, AnalysisError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM analysis.fraud_case WHERE program = $1 AND ($2::text IS NULL OR state = $2) AND ($3::text IS NULL OR rule = $3)
         ORDER BY severity_rank DESC, opened_at DESC, case_id OFFSET $4 LIMIT $5"
    );
    Ok(client.query(&sql, &[&program, &state, &rule, &skip, &limit]).await?.iter().map(read).collect())
}

/// A case and all that happened to it.
///
/// # Errors
/// What the database says.
pub async fn case(client: &Client, program: &str, case_id: &str) -> Result<Option<(Case, Vec<CaseEvent>)>, AnalysisError> {
    let sql = format!("SELECT {COLUMNS} FROM analysis.fraud_case WHERE program = $1 AND case_id = $2");
    let Some(row) = client.query_opt(&sql, &[&program, &case_id]).await? else { return Ok(None) };
    let sql = "SELECT number, at, actor, kind, note, evidence FROM analysis.fraud_event WHERE program = $1 AND case_id = $2 ORDER BY number";
    let event = |row: &Row| CaseEvent {
        number: row.get(0),
        at: row.get(1),
        actor: row.get(2),
        kind: row.get(3),
        note: row.get(4),
        evidence: row.get::<_, Json<Vec<Evidence>>>(5).0,
    };
    Ok(Some((read(&row), client.query(sql, &[&program, &case_id]).await?.iter().map(event).collect())))
}

/// Does something about a case; none where there is no such case.
///
/// # Errors
/// What the database says; nothing was done then.
pub async fn step(
    client: &mut Client,
    program: &str,
    case_id: &str,
    actor: &str,
    step: Step<'_>,
    note: &str,
    now: DateTime<Utc>,
) -> Result<Option<()>, AnalysisError> {
    let (kind, state, assignee) = match step {
        Step::Assign(who) => ("assigned", Some("assigned"), Some(who)),
        Step::Note => ("noted", None, None),
        Step::Confirm => ("confirmed", Some("confirmed"), None),
        Step::Dismiss => ("dismissed", Some("dismissed"), None),
    };
    let transaction = client.transaction().await?;
    let sql = "UPDATE analysis.fraud_case SET state = coalesce($3, state), assignee = coalesce($4, assignee) WHERE program = $1 AND case_id = $2";
    if transaction.execute(sql, &[&program, &case_id, &state, &assignee]).await? == 0 {
        return Ok(None);
    }
    let note = assignee.map_or_else(|| note.to_owned(), |who| format!("to {who}: {note}"));
    add_event(&transaction, program, case_id, now, actor, kind, &note, &[]).await?;
    match step {
        Step::Confirm => keep_confirmed(&transaction, program, case_id).await?,
        Step::Assign(_) => forget_confirmed(&transaction, program, case_id).await?,
        Step::Dismiss => {
            forget_confirmed(&transaction, program, case_id).await?;
            freeze::cancel(&transaction, program, case_id).await?;
        }
        Step::Note => {}
    }
    transaction.commit().await?;
    Ok(Some(()))
}

/// Keeps the signals that the case's evidence names as known fraud; refused commands are none.
pub(super) async fn keep_confirmed(transaction: &Transaction<'_>, program: &str, case_id: &str) -> Result<(), tokio_postgres::Error> {
    let sql = "INSERT INTO analysis.fraud_confirmed (program, case_id, partition, position, kind, at, account, actor, store, cashier, till, device, card, reference)
               SELECT DISTINCT s.program, e.case_id, s.partition, s.position, s.kind, s.at, s.account, s.actor, s.store, s.cashier, s.till, s.device, s.card, s.reference
               FROM analysis.fraud_event e CROSS JOIN LATERAL jsonb_array_elements(e.evidence) AS k(one)
               JOIN fraud.signal s ON s.program = e.program AND s.kind = k.one->>'kind'
                   AND s.partition = split_part(k.one->>'position', ':', 1)::smallint AND s.position = split_part(k.one->>'position', ':', 2)::bigint
               WHERE e.program = $1 AND e.case_id = $2 AND k.one->>'kind' <> 'refused' ON CONFLICT DO NOTHING";
    transaction.execute(sql, &[&program, &case_id]).await?;
    Ok(())
}

/// What is not confirmed any more is not known to be fraud.
async fn forget_confirmed(transaction: &Transaction<'_>, program: &str, case_id: &str) -> Result<(), tokio_postgres::Error> {
    transaction.execute("DELETE FROM analysis.fraud_confirmed WHERE program = $1 AND case_id = $2", &[&program, &case_id]).await?;
    Ok(())
}

#[allow(clippy::too_many_arguments, reason = "they are the columns")]
pub(super) async fn add_event(
    client: &impl GenericClient,
    program: &str,
    case_id: &str,
    at: DateTime<Utc>,
    actor: &str,
    kind: &str,
    note: &str,
    evidence: &[Evidence],
) -> Result<(), tokio_postgres::Error> {
    // The case's row is locked by now, so numbers come one after the other.
    let sql = "INSERT INTO analysis.fraud_event (program, case_id, number, at, actor, kind, note, evidence)
               SELECT $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7 FROM analysis.fraud_event WHERE program = $1 AND case_id = $2";
    client.execute(sql, &[&program, &case_id, &at, &actor, &kind, &note, &Json(evidence)]).await?;
    Ok(())
}

/// How a rule has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RuleRecord {
    /// The rule.
    pub rule: String,
    /// Cases that nobody has decided on.
    pub open: i64,
    /// Cases that were fraud.
    pub confirmed: i64,
    /// Cases that were none.
    pub dismissed: i64,
    /// Subjects of dismissed cases, for whom the rule holds back.
    pub held_back: Vec<HeldBack>,
}

/// Whom a rule leaves alone, after a case that was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldBack {
    /// Whom or what the dismissed case was about.
    pub subject: String,
    /// What one of the rule's windows must count before there is a case again.
    pub at_least: i64,
}

/// How the rules have done, those with cases.
///
/// # Errors
/// What the database says.
pub async fn records(client: &Client, program: &str) -> Result<Vec<RuleRecord>, AnalysisError> {
    let sql = "SELECT rule, count(*) FILTER (WHERE state IN ('open', 'assigned')), count(*) FILTER (WHERE state = 'confirmed'), count(*) FILTER (WHERE state = 'dismissed')
               FROM analysis.fraud_case WHERE program = $1 GROUP BY rule ORDER BY rule";
    let held = "SELECT subject, 2 * max(measure) FROM analysis.fraud_case WHERE program = $1 AND rule = $2 AND state = 'dismissed' GROUP BY subject ORDER BY 1 LIMIT 100";
    let mut records = Vec::new();
    for row in client.query(sql, &[&program]).await? {
        let rule: String = row.get(0);
        let held_back = client.query(held, &[&program, &rule]).await?.iter().map(|row| HeldBack { subject: row.get(0), at_least: row.get(1) }).collect();
        records.push(RuleRecord { rule, open: row.get(1), confirmed: row.get(2), dismissed: row.get(3), held_back });
    }
    Ok(records)
}
