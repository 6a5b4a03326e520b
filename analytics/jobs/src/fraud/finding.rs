//! From what met a rule to cases: one case a subject and day, written once a look, however many signals met the rule.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use ledger_core::policy::FraudRule;
use ledger_core::time::timestamp_text;
use tokio_postgres::Transaction;

use super::case::{Evidence, add_event, id};
use super::freeze;
use super::signal::{Signal, column, value};
use super::watch::Found;
use super::window::{Lately, anomaly};
use crate::AnalysisError;

/// Of so many signals of a case, those with the most points, it is asked how far they stand out.
const ANOMALIES_MAX: usize = 20;

/// A signal that met the rule.
pub(super) struct Hit<'a> {
    pub(super) signal: &'a Signal,
    pub(super) windows: BTreeMap<String, i64>,
    /// Whether it had been looked at before.
    pub(super) is_again: bool,
}

impl Hit<'_> {
    fn measure(&self) -> i64 {
        self.windows.values().copied().max().unwrap_or(1)
    }

    fn evidence(&self) -> Evidence {
        let view = &self.signal.view;
        Evidence {
            account_id: view.account.clone(),
            kind: view.kind.clone(),
            reference: view.reference.clone(),
            at: timestamp_text(self.signal.at),
            position: self.signal.place(),
            windows: Some(self.windows.clone()),
        }
    }

    fn explanation(&self, rule: &FraudRule) -> String {
        let counted: Vec<String> = self.windows.iter().map(|(name, count)| format!("{name} {count}")).collect();
        if counted.is_empty() { rule.explanation.clone() } else { format!("{} ({})", rule.explanation, counted.join(", ")) }
    }
}

/// What is known of a case that signals are looked at again for.
struct Known {
    measure: i64,
    /// Kind and place of its evidence.
    evidence: HashSet<(String, String)>,
}

/// Opens cases, or adds to those that are there; tells of the new ones.
pub(super) async fn open(
    transaction: &Transaction<'_>,
    (program, rule): (&str, &FraudRule),
    hits: Vec<Hit<'_>>,
    now: DateTime<Utc>,
    lately: &mut Lately,
) -> Result<Vec<Found>, AnalysisError> {
    if hits.is_empty() {
        return Ok(Vec::new());
    }
    let held_back = held_back(transaction, (program, rule), &hits).await?;
    let mut by_case: BTreeMap<(&str, NaiveDate), Vec<Hit<'_>>> = BTreeMap::new();
    for hit in hits {
        let subject = value(&hit.signal.view, rule.by);
        if held_back.get(subject).is_none_or(|dismissed| hit.measure() >= dismissed.saturating_mul(2)) {
            by_case.entry((subject, hit.signal.at.date_naive())).or_default().push(hit);
        }
    }
    let again = by_case.iter().filter(|(_, hits)| hits.iter().any(|hit| hit.is_again));
    let again: Vec<String> = again.map(|((subject, day), _)| id(program, &rule.id, subject, *day)).collect();
    let known = known(transaction, program, &again).await?;
    let mut found = Vec::new();
    for ((subject, day), mut hits) in by_case {
        let case_id = id(program, &rule.id, subject, day);
        let known = known.get(&case_id);
        let is_in = |hit: &Hit<'_>| known.is_some_and(|known| known.evidence.contains(&(hit.signal.view.kind.clone(), hit.signal.place())));
        hits.retain(|hit| !is_in(hit) || known.is_some_and(|known| hit.measure() > known.measure));
        let (old, new): (Vec<Hit<'_>>, Vec<Hit<'_>>) = hits.into_iter().partition(is_in);
        if !(old.is_empty() && new.is_empty()) {
            let finding = Finding { program, rule, case_id, subject, day, old, new };
            found.extend(finding.write(transaction, now, lately).await?);
        }
    }
    Ok(found)
}

/// By subject, the most that a dismissed case of the rule counted: such are not opened again until it is twice as much.
async fn held_back(transaction: &Transaction<'_>, (program, rule): (&str, &FraudRule), hits: &[Hit<'_>]) -> Result<HashMap<String, i64>, AnalysisError> {
    let subjects: BTreeSet<&str> = hits.iter().map(|hit| value(&hit.signal.view, rule.by)).collect();
    let subjects: Vec<&str> = subjects.into_iter().collect();
    let sql = "SELECT subject, max(measure) FROM fraud_case WHERE program = $1 AND rule = $2 AND subject = ANY($3) AND state = 'dismissed' GROUP BY subject";
    Ok(transaction.query(sql, &[&program, &rule.id, &subjects]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn known(transaction: &Transaction<'_>, program: &str, case_ids: &[String]) -> Result<HashMap<String, Known>, AnalysisError> {
    let mut all = HashMap::new();
    if case_ids.is_empty() {
        return Ok(all);
    }
    let sql = "SELECT case_id, measure FROM fraud_case WHERE program = $1 AND case_id = ANY($2)";
    for row in transaction.query(sql, &[&program, &case_ids]).await? {
        all.insert(row.get(0), Known { measure: row.get(1), evidence: HashSet::new() });
    }
    let sql = "SELECT e.case_id, k.one->>'kind', k.one->>'position' FROM fraud_event e CROSS JOIN LATERAL jsonb_array_elements(e.evidence) AS k(one)
               WHERE e.program = $1 AND e.case_id = ANY($2)";
    for row in transaction.query(sql, &[&program, &case_ids]).await? {
        if let Some(known) = all.get_mut(row.get::<_, &str>(0)) {
            known.evidence.insert((row.get(1), row.get(2)));
        }
    }
    Ok(all)
}

/// What one look found on one subject and day.
struct Finding<'a> {
    program: &'a str,
    rule: &'a FraudRule,
    case_id: String,
    subject: &'a str,
    day: NaiveDate,
    /// Signals that the case has already, of which the windows count more now.
    old: Vec<Hit<'a>>,
    new: Vec<Hit<'a>>,
}

impl Finding<'_> {
    async fn write(self, transaction: &Transaction<'_>, now: DateTime<Utc>, lately: &mut Lately) -> Result<Option<Found>, AnalysisError> {
        let Self { program, rule, case_id, subject, day, .. } = &self;
        // The first of those that count the most.
        let worst = self.new.iter().chain(&self.old).rev().max_by_key(|hit| hit.measure());
        let Some(worst) = worst else { return Ok(None) };
        let explanation = worst.explanation(rule);
        let score = self.anomaly(transaction, lately).await?;
        let severity = serde_json::to_value(rule.severity)?.as_str().unwrap_or_default().to_owned();
        let version = i32::try_from(rule.version).unwrap_or(i32::MAX);
        let account = self.new.first().map_or("", |hit| hit.signal.view.account.as_str());
        let count = i64::try_from(self.new.len()).unwrap_or(i64::MAX);
        let sql =
            "INSERT INTO fraud_case AS c (program, case_id, rule, rule_version, severity, severity_rank, subject_kind, subject, account, day, state, opened_at,
                                          signals, measure, anomaly_score, explanation)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', $11, $15, $12, $13, $14)
             ON CONFLICT (program, case_id) DO UPDATE SET signals = c.signals + excluded.signals, measure = greatest(c.measure, excluded.measure),
                 anomaly_score = greatest(c.anomaly_score, excluded.anomaly_score), state = CASE WHEN c.state = 'dismissed' THEN 'open' ELSE c.state END,
                 explanation = CASE WHEN excluded.measure > c.measure THEN excluded.explanation ELSE c.explanation END
             RETURNING signals";
        let (rank, by, measure) = (rule.severity as i16, column(rule.by), worst.measure());
        let row = transaction
            .query_one(
                sql,
                &[program, case_id, &rule.id, &version, &severity, &rank, &by, subject, &account, day, &now, &measure, &score, &explanation, &count],
            )
            .await?;
        let is_new = count > 0 && row.get::<_, i64>(0) == count;
        let evidence: Vec<Evidence> = self.new.iter().map(Hit::evidence).collect();
        let kind = if is_new { "opened" } else { "seen_again" };
        add_event(transaction, program, case_id, now, "rules", kind, &explanation, &evidence).await?;
        if rule.block {
            let accounts: Vec<&str> = self.new.iter().map(|hit| hit.signal.view.account.as_str()).collect();
            freeze::ask(transaction, (program, case_id, &rule.id), &accounts, now).await?;
        }
        Ok(is_new.then(|| Found { program: (*program).to_owned(), case_id: case_id.clone(), account: account.to_owned(), rule: rule.id.clone() }))
    }

    /// How far the signals stand out, the furthest of them.
    async fn anomaly(&self, transaction: &Transaction<'_>, lately: &mut Lately) -> Result<f64, AnalysisError> {
        let mut hits: Vec<&Hit<'_>> = self.new.iter().collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(hit.signal.view.points));
        let mut most: f64 = 0.0;
        for hit in hits.into_iter().take(ANOMALIES_MAX) {
            most = most.max(anomaly(transaction, lately, hit.signal).await?);
        }
        Ok(most)
    }
}
