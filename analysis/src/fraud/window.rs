//! Counting: for many signals at once, what a window that ends with each of them holds.

use std::collections::BTreeMap;

use insight::robust::scores;
use jiff::Timestamp;
use ledger_core::policy::{Measure, SignalKind, SignalWindow};
use tokio_postgres::Transaction;

use super::signal::{Signal, column, kind, read, value};
use crate::AnalysisError;

/// Of fewer than five nobody can tell what is usual.
const OWN_PERCENT: &str = "coalesce(CASE WHEN count(*) FILTER (WHERE s.at < u.at) >= 5
    THEN round(100 * abs(u.points) / nullif(percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(s.points)) FILTER (WHERE s.at < u.at), 0))::bigint END, 0)";

/// By signal, in their order.
pub(super) async fn count(transaction: &Transaction<'_>, window: &SignalWindow, signals: &[&Signal]) -> Result<Vec<i64>, AnalysisError> {
    let keys: Vec<&str> = signals.iter().map(|signal| value(&signal.view, window.by)).collect();
    if window.measure == Measure::PeerScore {
        return peer_scores(transaction, window, signals, &keys).await;
    }
    let measure = match window.measure {
        Measure::Points => "coalesce(sum(abs(s.points)), 0)::bigint",
        Measure::Accounts => "count(DISTINCT s.account)",
        Measure::Stores => "count(DISTINCT nullif(s.store, ''))",
        Measure::OwnPercent => OWN_PERCENT,
        Measure::Confirmed => "count(DISTINCT (s.partition, s.position))",
        Measure::Count | Measure::PeerScore => "count(*)",
    };
    let by = column(window.by);
    // An empty key has nothing in common with another; saying so lets the partial indexes be used.
    let rows = if window.kinds.contains(&SignalKind::Refused) {
        format!(
            "SELECT r.account, 0::bigint AS points, '' AS store FROM refusal.refusal r
             WHERE r.program = u.program AND r.{by} = u.key AND r.{by} <> '' AND r.recorded_at > u.at - make_interval(mins => $4) AND r.recorded_at <= u.at
               AND (cardinality($5::text[]) = 0 OR r.code = ANY($5))"
        )
    } else if window.measure == Measure::Confirmed {
        format!(
            "SELECT f.partition, f.position FROM analysis.fraud_confirmed f
             WHERE f.program = u.program AND f.{by} = u.key AND f.{by} <> '' AND f.at > u.at - make_interval(mins => $4) AND f.at <= u.at
               AND f.kind IN ({}) AND cardinality($5::text[]) >= 0",
            literals(window)
        )
    } else {
        format!(
            "SELECT f.account, f.points, f.store, f.at FROM fraud.signal f
             WHERE f.program = u.program AND f.{by} = u.key AND f.{by} <> '' AND f.at > u.at - make_interval(mins => $4) AND f.at <= u.at
               AND f.kind IN ({}) AND (cardinality($5::text[]) = 0 OR f.kind <> 'adjust' OR f.reason = ANY($5))",
            literals(window)
        )
    };
    let sql = format!(
        "SELECT c.counted FROM unnest($1::text[], $2::text[], $3::timestamptz[], $6::bigint[]) WITH ORDINALITY AS u(program, key, at, points, n)
         CROSS JOIN LATERAL (SELECT {measure} AS counted FROM ({rows}) s) c ORDER BY u.n"
    );
    let programs: Vec<&str> = signals.iter().map(|signal| signal.program.as_str()).collect();
    let times: Vec<Timestamp> = signals.iter().map(|signal| signal.at).collect();
    let points: Vec<i64> = signals.iter().map(|signal| signal.view.points).collect();
    let minutes = i32::try_from(window.minutes).unwrap_or(i32::MAX);
    let rows = transaction.query(&sql, &[&programs, &keys, &times, &minutes, &window.codes, &points]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Signals looked at before, of kinds `on`, in whose window one of `signals` has come late: accounts are read side by side, and shops tell late.
pub(super) async fn later(transaction: &Transaction<'_>, window: &SignalWindow, on: &[SignalKind], signals: &[&Signal]) -> Result<Vec<Signal>, AnalysisError> {
    if window.kinds.contains(&SignalKind::Refused) {
        return Ok(Vec::new());
    }
    let by = column(window.by);
    // By key: joined freely, the planner may read the whole window of everybody.
    let sql = format!(
        "SELECT DISTINCT f.program, f.at, f.partition, f.position, f.kind, f.account, f.actor, f.points, f.channel, f.store, f.cashier, f.till, f.device, f.card,
                f.reference, f.reason
         FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u(program, key, at)
         CROSS JOIN LATERAL (SELECT s.* FROM fraud.signal s JOIN watched w ON w.stream = 'signal' AND w.partition = s.partition AND w.position > s.position
             WHERE s.program = u.program AND s.{by} = u.key AND s.{by} <> '' AND s.at > u.at AND s.at < u.at + make_interval(mins => $4)
               AND s.kind = ANY($5) ORDER BY s.at LIMIT 1000) f
         ORDER BY f.at LIMIT 1000"
    );
    let is_counted = |signal: &&&Signal| window.kinds.iter().any(|counted| kind(*counted) == signal.view.kind);
    let counted: Vec<&Signal> = signals.iter().filter(is_counted).copied().collect();
    let programs: Vec<&str> = counted.iter().map(|signal| signal.program.as_str()).collect();
    let keys: Vec<&str> = counted.iter().map(|signal| value(&signal.view, window.by)).collect();
    let times: Vec<Timestamp> = counted.iter().map(|signal| signal.at).collect();
    let minutes = i32::try_from(window.minutes).unwrap_or(i32::MAX);
    let on: Vec<&str> = on.iter().map(|one| kind(*one)).collect();
    let rows = transaction.query(&sql, &[&programs, &keys, &times, &minutes, &on]).await?;
    Ok(rows.iter().map(read).collect())
}

/// The kinds as SQL, written out so that the planner sees which partial index holds them.
fn literals(window: &SignalWindow) -> String {
    window.kinds.iter().map(|one| format!("'{}'", kind(*one))).collect::<Vec<_>>().join(", ")
}

/// Each signal's key among all keys with something in its window, by the points of each.
async fn peer_scores(transaction: &Transaction<'_>, window: &SignalWindow, signals: &[&Signal], keys: &[&str]) -> Result<Vec<i64>, AnalysisError> {
    let by = column(window.by);
    let sql = format!(
        "SELECT {by}, sum(abs(points))::float8 FROM fraud.signal
         WHERE program = $1 AND {by} <> '' AND at > $2::timestamptz - make_interval(mins => $3) AND at <= $2 AND kind IN ({}) GROUP BY 1 ORDER BY 1",
        literals(window)
    );
    let minutes = i32::try_from(window.minutes).unwrap_or(i32::MAX);
    let mut all = Vec::with_capacity(signals.len());
    for (signal, key) in signals.iter().zip(keys) {
        let rows = transaction.query(&sql, &[&signal.program, &signal.at, &minutes]).await?;
        let place = rows.iter().position(|row| row.get::<_, &str>(0) == *key);
        // Of fewer than five nobody can be told to stand out.
        let score = place.filter(|_| rows.len() >= 5).and_then(|place| scores(&rows.iter().map(|row| row.get(1)).collect::<Vec<f64>>()).get(place).copied());
        #[allow(clippy::cast_possible_truncation, reason = "a score saturates")]
        all.push(score.map_or(0, |score| score.floor() as i64));
    }
    Ok(all)
}

/// The points of the last signals of a program and kind, as they were at some moment.
#[derive(Default)]
pub(super) struct Lately(BTreeMap<(String, String), (Timestamp, Vec<f64>)>);

/// So near to each other signals are compared with the same ones: they are thousands, and cases may open by the dozen.
const LATELY_SECONDS: i64 = 60;

/// How far the points of a signal stand out from those of its kind in the day before it.
pub(super) async fn anomaly(transaction: &Transaction<'_>, lately: &mut Lately, signal: &Signal) -> Result<f64, AnalysisError> {
    let kind = (signal.program.clone(), signal.view.kind.clone());
    let near = |(at, _): &&(Timestamp, Vec<f64>)| (at.as_second() - signal.at.as_second()).abs() <= LATELY_SECONDS;
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
