//! One look: new signals, every rule, and the cases that come of it, in one transaction.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ledger_core::policy::{FraudRule, FraudRules, FraudScope, Predicate};
use serde_json::json;
use tokio_postgres::{Client, Transaction};

use super::case::id;
use super::signal::{Signal, Stream, column, kind, take, value};
use super::window::{Lately, anomaly, count, later};
use crate::AnalysisError;

/// Positions of each partition that one look takes.
const LOOK_POSITIONS: i64 = 500;

/// A case that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: String,
    /// The case.
    pub case_id: String,
    /// The account of the signal.
    pub account: String,
    /// The rule.
    pub rule: String,
    /// Whether the rule freezes the account.
    pub block: bool,
}

/// What one look came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Look {
    /// How many signals were new.
    pub signals: usize,
    /// The cases that were opened.
    pub found: Vec<Found>,
    /// Rules whose condition failed on a signal, with why; the signal counts as looked at.
    pub failures: Vec<(String, String)>,
}

/// Looks at what is new by the rules that `rules` has for each program with news. While another one looks, it does nothing.
///
/// # Errors
/// What the database says; nothing counts as looked at then.
pub async fn watch(client: &mut Client, rules: impl Fn(&str) -> Option<FraudRules>, now: Timestamp) -> Result<Look, AnalysisError> {
    let transaction = client.transaction().await?;
    let sql = "SELECT pg_try_advisory_xact_lock(hashtext('analysis.watched'))";
    if !transaction.query_one(sql, &[]).await?.get::<_, bool>(0) {
        return Ok(Look::default());
    }
    let mut signals = Vec::new();
    for stream in Stream::ALL {
        signals.extend(take(&transaction, stream, LOOK_POSITIONS).await?);
    }
    let mut done = Look { signals: signals.len(), ..Look::default() };
    let mut lately = Lately::default();
    let programs: BTreeSet<String> = signals.iter().map(|signal| signal.program.clone()).collect();
    for program in programs {
        let Some(rules) = rules(&program) else { continue };
        let mut mine: Vec<&mut Signal> = signals.iter_mut().filter(|signal| signal.program == program).collect();
        mine.iter_mut().for_each(|signal| set_staff(signal, &rules));
        let mine: Vec<&Signal> = mine.into_iter().map(|signal| &*signal).collect();
        for rule in &rules.rules {
            look(&transaction, (&rules, rule), &mine, now, &mut lately, &mut done).await?;
        }
    }
    transaction.commit().await?;
    Ok(done)
}

fn set_staff(signal: &mut Signal, rules: &FraudRules) {
    let view = &mut signal.view;
    view.own = rules.is_own(&view.cashier, &view.account) || rules.is_own(&view.actor, &view.account);
    view.colleague = !view.own && rules.is_of_staff(&view.account);
}

async fn look(
    transaction: &Transaction<'_>,
    (rules, rule): (&FraudRules, &FraudRule),
    signals: &[&Signal],
    now: Timestamp,
    lately: &mut Lately,
    done: &mut Look,
) -> Result<(), AnalysisError> {
    let about = |signal: &&&Signal| !value(&signal.view, rule.by).is_empty() && rule.on.iter().any(|on| kind(*on) == signal.view.kind);
    let mut seen_before = Vec::new();
    for window in rule.windows.values() {
        for mut signal in later(transaction, window, &rule.on, signals).await? {
            let is_here = |one: &Signal| (one.partition, one.position, &one.view.kind) == (signal.partition, signal.position, &signal.view.kind);
            if !signals.iter().any(|one| is_here(one)) && !seen_before.iter().any(is_here) {
                set_staff(&mut signal, rules);
                seen_before.push(signal);
            }
        }
    }
    let signals: Vec<&Signal> = signals.iter().filter(about).copied().chain(seen_before.iter()).collect();
    if signals.is_empty() {
        return Ok(());
    }
    let condition = match Predicate::compile(&rule.when) {
        Ok(condition) => condition,
        Err(why) => {
            done.failures.push((rule.id.clone(), why));
            return Ok(());
        }
    };
    let mut counted: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(); signals.len()];
    for (name, window) in &rule.windows {
        for (each, count) in counted.iter_mut().zip(count(transaction, window, &signals).await?) {
            each.insert(name.clone(), count);
        }
    }
    for (signal, windows) in signals.into_iter().zip(counted) {
        let scope = FraudScope { signal: &signal.view, window: &windows, limit: rules.approval_limit };
        match condition.holds(&scope) {
            Ok(true) => done.found.extend(open(transaction, rule, signal, &windows, now, lately).await?),
            Ok(false) => {}
            Err(why) => done.failures.push((rule.id.clone(), why)),
        }
    }
    Ok(())
}

/// Opens a case, or adds to the one that is there; tells of one that is new.
async fn open(
    transaction: &Transaction<'_>,
    rule: &FraudRule,
    signal: &Signal,
    windows: &BTreeMap<String, i64>,
    now: Timestamp,
    lately: &mut Lately,
) -> Result<Option<Found>, AnalysisError> {
    let (program, subject) = (signal.program.as_str(), value(&signal.view, rule.by));
    let measure = windows.values().copied().max().unwrap_or(1);
    // What was dismissed is not opened again until it is twice as much.
    let sql = "SELECT max(measure) FROM fraud_case WHERE program = $1 AND rule = $2 AND subject = $3 AND state = 'dismissed'";
    let dismissed: Option<i64> = transaction.query_one(sql, &[&program, &rule.id, &subject]).await?.get(0);
    if dismissed.is_some_and(|dismissed| measure < dismissed.saturating_mul(2)) {
        return Ok(None);
    }
    let day = signal.at.to_zoned(jiff::tz::TimeZone::UTC).date();
    let case_id = id(program, &rule.id, subject, day);
    let severity = serde_json::to_value(rule.severity)?.as_str().unwrap_or_default().to_owned();
    let score = anomaly(transaction, lately, signal).await?;
    let counted: Vec<String> = windows.iter().map(|(name, count)| format!("{name} {count}")).collect();
    let explanation = if counted.is_empty() { rule.explanation.clone() } else { format!("{} ({})", rule.explanation, counted.join(", ")) };
    let version = i32::try_from(rule.version).unwrap_or(i32::MAX);
    let sql = "INSERT INTO fraud_case AS c (program, case_id, rule, rule_version, severity, severity_rank, subject_kind, subject, account, day, state, opened_at, signals,
                                       measure, anomaly_score, explanation)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'open', $11, 1, $12, $13, $14)
               ON CONFLICT (program, case_id) DO UPDATE SET signals = c.signals + 1, measure = greatest(c.measure, excluded.measure),
                   anomaly_score = greatest(c.anomaly_score, excluded.anomaly_score),
                   explanation = CASE WHEN excluded.measure > c.measure THEN excluded.explanation ELSE c.explanation END
               RETURNING signals";
    let rank = rule.severity as i16;
    let by = column(rule.by);
    let row = transaction
        .query_one(
            sql,
            &[&program, &case_id, &rule.id, &version, &severity, &rank, &by, &subject, &signal.view.account, &day, &now, &measure, &score, &explanation],
        )
        .await?;
    let is_new = row.get::<_, i64>(0) == 1;
    let evidence = json!([{"account_id": signal.view.account, "kind": signal.view.kind, "reference": signal.view.reference, "at": signal.at.to_string(),
        "position": format!("{}:{}", signal.partition, signal.position), "windows": windows}]);
    let kind = if is_new { "opened" } else { "seen_again" };
    super::case::add_event(transaction, program, &case_id, now, "rules", kind, &explanation, &evidence).await?;
    Ok(is_new.then(|| Found { program: program.into(), case_id, account: signal.view.account.clone(), rule: rule.id.clone(), block: rule.block }))
}
