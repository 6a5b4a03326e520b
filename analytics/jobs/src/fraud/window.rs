//! Counting: for many signals at once, what a window that ends with each of them holds. Windows of one key that overlap are read together, so that a
//! look costs what its windows count, not that times the signals.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use estimators::robust::scores;
use ledger_core::policy::{Measure, SignalKind, SignalWindow};
use tokio_postgres::Transaction;

use super::signal::{Seen, Signal, column, kind, read, value};
use super::slide::{Ask, Counted, Run, Slider, runs};
use crate::AnalysisError;

/// Rows that are in memory beside those of one window.
const PAGE: i32 = 5000;
/// Signals looked at before that one window makes look at again.
const AGAIN_MAX: i64 = 1000;

fn length(window: &SignalWindow) -> i64 {
    i64::from(window.minutes) * 60_000_000
}

fn moment(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC })
}

/// By signal, in their order; all of them are of `program`.
pub(super) async fn count(transaction: &Transaction<'_>, program: &str, window: &SignalWindow, signals: &[&Signal]) -> Result<Vec<i64>, AnalysisError> {
    let ask = |(signal, of): (usize, &&Signal)| {
        let key = value(&of.view, window.by);
        // An empty key has nothing in common with another.
        (!key.is_empty()).then(|| Ask { signal, at: of.at.timestamp_micros(), points: of.view.points, key: key.to_owned() })
    };
    let asks: Vec<Ask> = signals.iter().enumerate().filter_map(ask).collect();
    let runs = runs(asks, length(window), window.measure != Measure::PeerScore);
    let keys: Vec<&str> = runs.iter().map(|run| run.key.as_str()).collect();
    let bounds = |of: fn(&Run) -> i64| runs.iter().map(|run| moment(of(run))).collect::<Vec<DateTime<Utc>>>();
    let (after, until) = (bounds(|run| run.after), bounds(|run| run.until));
    // Each run by itself: joined freely, the planner may read the whole table.
    let sql = format!(
        "SELECT u.n, r.at, r.grp, r.points FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) WITH ORDINALITY AS u(key, after, until, n)
         CROSS JOIN LATERAL ({}) r ORDER BY u.n, r.at",
        rows(window)
    );
    let statement = transaction.prepare(&sql).await?;
    let portal = transaction.bind(&statement, &[&program, &keys, &after, &until, &window.codes]).await?;
    let mut slider = Slider::new(window.measure, length(window), runs, signals.len());
    loop {
        let page = transaction.query_portal(&portal, PAGE).await?;
        for row in &page {
            let run = usize::try_from(row.get::<_, i64>(0)).unwrap_or(1) - 1;
            slider.push(run, Counted { at: row.get::<_, DateTime<Utc>>(1).timestamp_micros(), group: row.get(2), points: row.get(3) });
        }
        if page.len() < PAGE.unsigned_abs() as usize {
            return Ok(slider.finish());
        }
    }
}

/// The rows of the run `u`, as SQL: when, what is told apart, and points.
fn rows(window: &SignalWindow) -> String {
    let by = column(window.by);
    if window.kinds.contains(&SignalKind::Refused) {
        let group = if window.measure == Measure::Accounts { "f.account" } else { "''" };
        return format!(
            "SELECT f.recorded_at AS at, {group} AS grp, 0::bigint AS points FROM refusal.refusal f
             WHERE f.program = $1 AND f.{by} = u.key AND f.{by} <> '' AND f.recorded_at > u.after AND f.recorded_at <= u.until
               AND (cardinality($5::text[]) = 0 OR f.code = ANY($5))"
        );
    }
    let (table, group) = match window.measure {
        Measure::Confirmed => ("analysis.fraud_confirmed", "f.partition || ':' || f.position"),
        Measure::Accounts => ("fraud.signal", "f.account"),
        Measure::Stores => ("fraud.signal", "f.store"),
        Measure::PeerScore => ("fraud.signal", by),
        Measure::Count | Measure::Points | Measure::OwnPercent => ("fraud.signal", "''"),
    };
    let points = if window.measure == Measure::Confirmed { "0::bigint" } else { "f.points" };
    let key = if window.measure == Measure::PeerScore { "u.key IS NOT NULL" } else { &format!("f.{by} = u.key") };
    let codes = if window.measure == Measure::Confirmed {
        "cardinality($5::text[]) >= 0"
    } else {
        "(cardinality($5::text[]) = 0 OR f.kind <> 'adjust' OR f.reason = ANY($5))"
    };
    // Saying that the key is not empty, and the kinds written out, show the planner which partial index holds the rows.
    format!(
        "SELECT f.at, {group} AS grp, {points} AS points FROM {table} f
         WHERE f.program = $1 AND {key} AND f.{by} <> '' AND f.at > u.after AND f.at <= u.until AND f.kind IN ({}) AND {codes}",
        literals(window)
    )
}

/// Signals looked at before, of kinds `on`, in whose window one of `signals` has come late: accounts are read side by side, and shops tell late.
pub(super) async fn later(
    transaction: &Transaction<'_>,
    (program, seen): (&str, &Seen),
    window: &SignalWindow,
    on: &[SignalKind],
    signals: &[&Signal],
) -> Result<Vec<Signal>, AnalysisError> {
    if window.kinds.contains(&SignalKind::Refused) {
        return Ok(Vec::new());
    }
    let is_counted = |signal: &&&Signal| window.kinds.iter().any(|counted| kind(*counted) == signal.view.kind);
    // The windows that hold a signal end with it or after it: the same runs, put forward by a window.
    let ask = |signal: &&Signal| {
        let key = value(&signal.view, window.by);
        (!key.is_empty()).then(|| Ask { signal: 0, at: signal.at.timestamp_micros().saturating_add(length(window)), points: 0, key: key.to_owned() })
    };
    let runs = runs(signals.iter().filter(is_counted).filter_map(ask).collect(), length(window), true);
    let keys: Vec<&str> = runs.iter().map(|run| run.key.as_str()).collect();
    let bounds = |of: fn(&Run) -> i64| runs.iter().map(|run| moment(of(run))).collect::<Vec<DateTime<Utc>>>();
    let by = column(window.by);
    // By key: joined freely, the planner may read the whole window of everybody.
    let sql = format!(
        "SELECT f.program, f.at, f.partition, f.position, f.kind, f.account, f.actor, f.points, f.channel, f.store, f.cashier, f.till, f.device, f.card,
                f.reference, f.reason
         FROM unnest($2::text[], $3::timestamptz[], $4::timestamptz[]) AS u(key, after, until)
         CROSS JOIN LATERAL (SELECT s.* FROM fraud.signal s JOIN unnest($6::smallint[], $7::bigint[]) AS w(partition, seen)
                 ON w.partition = s.partition AND s.position < w.seen
             WHERE s.program = $1 AND s.{by} = u.key AND s.{by} <> '' AND s.at > u.after AND s.at < u.until
               AND s.kind = ANY($5) ORDER BY s.at LIMIT $8) f
         ORDER BY f.at LIMIT $8"
    );
    let on: Vec<&str> = on.iter().map(|one| kind(*one)).collect();
    let (after, until) = (bounds(|run| run.after), bounds(|run| run.until));
    let rows = transaction.query(&sql, &[&program, &keys, &after, &until, &on, &seen.partitions, &seen.positions, &AGAIN_MAX]).await?;
    Ok(rows.iter().map(read).collect())
}

/// The kinds as SQL, written out so that the planner sees which partial index holds them.
fn literals(window: &SignalWindow) -> String {
    window.kinds.iter().map(|one| format!("'{}'", kind(*one))).collect::<Vec<_>>().join(", ")
}

/// The points of the last signals of a program and kind, as they were at some moment.
#[derive(Default)]
pub(super) struct Lately(BTreeMap<(String, String), (DateTime<Utc>, Vec<f64>)>);

/// So near to each other signals are compared with the same ones: they are thousands, and cases may open by the dozen.
const LATELY_SECONDS: i64 = 60;

/// How far the points of a signal stand out from those of its kind in the day before it.
pub(super) async fn anomaly(transaction: &Transaction<'_>, lately: &mut Lately, signal: &Signal) -> Result<f64, AnalysisError> {
    let kind = (signal.program.clone(), signal.view.kind.clone());
    let near = |(at, _): &&(DateTime<Utc>, Vec<f64>)| (at.timestamp() - signal.at.timestamp()).abs() <= LATELY_SECONDS;
    let mut values = match lately.0.get(&kind).filter(near) {
        Some((_, values)) => values.clone(),
        None => {
            let values = last_points(transaction, signal).await?;
            lately.0.insert(kind, (signal.at, values.clone()));
            values
        }
    };
    #[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
    values.push(signal.view.points as f64);
    Ok(scores(&values).last().copied().unwrap_or(0.0))
}

async fn last_points(transaction: &Transaction<'_>, signal: &Signal) -> Result<Vec<f64>, AnalysisError> {
    let sql = "SELECT points::float8 FROM fraud.signal WHERE program = $1 AND kind = $2 AND at > $3::timestamptz - interval '1 day' AND at <= $3
               ORDER BY at DESC LIMIT 2000";
    let rows = transaction.query(sql, &[&signal.program, &signal.view.kind, &signal.at]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
