//! Where each member stands: probabilities into a state, with hysteresis, reasons in words, and what is at stake.

use std::collections::BTreeMap;

use jiff::civil::Date;
use ledger_core::policy::InsightRules;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::types::{Json, ToSql};
use tokio_postgres::{Client, Row};

use super::WINDOW_DAYS;
use super::features::{Features, Models, features};
use super::members::{Member, load, number};
use super::signals::{Signals, around};
use crate::AnalysisError;

/// How far beyond a threshold it takes to cross it, either way, so that nobody flaps.
const HYSTERESIS: f64 = 0.05;

/// The states, the best first.
const STATES: [&str; 5] = ["growing", "steady", "slipping", "at_risk", "lost"];

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The account.
    pub account_id: String,
    /// As of the end of which day.
    pub as_of: Date,
    /// growing, steady, slipping, `at_risk` or lost.
    pub state: String,
    /// Probability that the next 90 days bring less than half of the last 90.
    pub falls: f64,
    /// Probability that they bring nothing.
    pub leaves: f64,
    /// Margin of 90 days times the probability to lose it, in the program's currency.
    pub value_at_stake: f64,
    /// Days since the last purchase.
    pub recency_days: i32,
    /// Days with a purchase so far.
    pub orders: i64,
    /// Why, in words.
    pub reasons: Vec<String>,
    /// The signs that were looked at.
    pub signals: Signals,
}

/// What an assessment came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessed {
    /// By state, the best first: how many, and what is at stake.
    pub states: Vec<(String, usize, f64)>,
    /// How many changed their state.
    pub transitions: usize,
    /// Why the models could not be learned, if so; the states are made of how overdue members are, then.
    pub without_models: Option<String>,
}

/// The state by thresholds moved by `shift` towards the better (positive: it takes more to be worse).
fn place(f: &Features, falls: f64, leaves: f64, shift: f64) -> usize {
    if f.last <= 0.0 {
        let lost = f.overdue() >= 6.0 + 20.0 * shift || f.recency_days > 365;
        return if lost { 4 } else { 3 };
    }
    if leaves >= 0.6 + shift {
        3
    } else if falls >= 0.5 + shift {
        2
    } else if f.before > 0.0 && f.last > 1.25 * f.before && falls < 0.35 + shift {
        0
    } else {
        1
    }
}

/// The state after `was`: worse only beyond the threshold, better only well within it.
fn state(f: &Features, falls: f64, leaves: f64, was: Option<usize>) -> usize {
    let Some(was) = was else { return place(f, falls, leaves, 0.0) };
    let (strict, lenient) = (place(f, falls, leaves, HYSTERESIS), place(f, falls, leaves, -HYSTERESIS));
    if strict > was {
        strict
    } else if lenient < was {
        lenient
    } else {
        was
    }
}

fn reasons(f: &Features, falls: f64, leaves: f64, signals: &Signals) -> Vec<String> {
    let mut reasons = Vec::new();
    if f.overdue() >= 1.5 {
        reasons.push(format!("no purchase for {} days, usually every {:.0}", f.recency_days, f.gap_days));
    }
    if f.before > 0.0 && f.last < 0.8 * f.before {
        reasons.push(format!("spent {:.0} % of the {WINDOW_DAYS} days before", 100.0 * f.last / f.before));
    }
    if f.before > 0.0 && f.last > 1.25 * f.before {
        reasons.push(format!("spent {:.0} % more than in the {WINDOW_DAYS} days before", 100.0 * (f.last / f.before - 1.0)));
    }
    if f.breadth_last < f.breadth_before {
        reasons.push(format!("buys from {} categories at a time, before from {}", f.breadth_last, f.breadth_before));
    }
    if f.last > 0.0 && leaves >= 0.5 {
        reasons.push(format!("members like this one buy nothing in the next {WINDOW_DAYS} days in {:.0} of 100 cases", 100.0 * leaves));
    } else if f.last > 0.0 && falls >= 0.5 {
        reasons.push(format!("members like this one spend less than half next in {:.0} of 100 cases", 100.0 * falls));
    }
    reasons.extend(signals.reasons());
    reasons
}

/// Assesses everybody as of the end of `day`; keeps where they stand and how it changed. Nothing changes where it was done for that day or a later one.
///
/// # Errors
/// [`AnalysisError`]
pub async fn assess(client: &mut Client, program: &str, rules: &InsightRules, day: Date) -> Result<Assessed, AnalysisError> {
    let before: Vec<Standing> = list(client, program, None, None, i64::MAX).await?;
    if let Some(later) = before.iter().map(|standing| standing.as_of).max().filter(|later| *later > day) {
        return Err(AnalysisError::Invalid { field: "as_of", value: day.to_string(), expected: format!("{later}, the day of the last assessment, or later") });
    }
    let was: BTreeMap<&str, usize> = before.iter().filter_map(|s| Some((s.account_id.as_str(), STATES.iter().position(|state| *state == s.state)?))).collect();
    let members = load(client, program, day).await?;
    let mut around = around(client, program, day).await?;
    let today = number(day);
    let refs: Vec<&Member> = members.iter().collect();
    let models = Models::learn(&refs, &[today - WINDOW_DAYS, today - WINDOW_DAYS * 3 / 2, today - WINDOW_DAYS * 2]);
    let margin = rules.margin.0.to_f64().unwrap_or(1.0);
    let (mut standings, mut moves) = (Vec::new(), Vec::new());
    for member in &members {
        let Some(f) = features(member, today) else { continue };
        let overdue = 1.0 - 1.0 / (1.0 + (f.overdue() / 2.0).powi(2));
        let (falls, leaves) =
            if f.last <= 0.0 { (1.0, overdue.max(0.5)) } else { models.as_ref().map_or((overdue, overdue), |models| models.probabilities(&f)) };
        let before = was.get(member.account.as_str()).copied();
        let now = state(&f, falls, leaves, before);
        let signals = around.remove(&member.account).unwrap_or_default().with(member, &f, models.as_ref().ok(), today);
        let reasons = reasons(&f, falls, leaves, &signals);
        if before != Some(now) {
            moves.push((member.account.clone(), before.map_or("", |before| STATES[before]), STATES[now], reasons.clone()));
        }
        standings.push(Standing {
            account_id: member.account.clone(),
            as_of: day,
            state: STATES[now].into(),
            falls,
            leaves,
            value_at_stake: margin * f.last.max(f.before).max(0.0) * if f.last > 0.0 { falls } else { leaves },
            recency_days: f.recency_days,
            orders: i64::from(f.history.repeats) + 1,
            reasons,
            signals,
        });
    }
    keep(client, program, day, &standings, &moves).await?;
    let of = |name: &&str| {
        let those = || standings.iter().filter(|standing| standing.state == **name);
        ((*name).to_owned(), those().count(), those().map(|standing| standing.value_at_stake).fold(0.0, |sum, stake| sum + stake))
    };
    Ok(Assessed { states: STATES.iter().map(of).collect(), transitions: moves.len(), without_models: models.err().map(|error| error.to_string()) })
}

type Move = (String, &'static str, &'static str, Vec<String>);

async fn keep(client: &mut Client, program: &str, day: Date, standings: &[Standing], moves: &[Move]) -> Result<(), AnalysisError> {
    let transaction = client.transaction().await?;
    // One assessment of a program at a time.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.standing'))", &[]).await?;
    let sql = "INSERT INTO standing (program, account, as_of, state, falls, leaves, value_at_stake, recency_days, orders, reasons, signals)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
               ON CONFLICT (program, account) DO UPDATE SET as_of = excluded.as_of, state = excluded.state, falls = excluded.falls, leaves = excluded.leaves,
                   value_at_stake = excluded.value_at_stake, recency_days = excluded.recency_days, orders = excluded.orders, reasons = excluded.reasons,
                   signals = excluded.signals";
    let statement = transaction.prepare(sql).await?;
    for s in standings {
        let (state, signals) = (&s.state, Json(&s.signals));
        let row: [&(dyn ToSql + Sync); 11] =
            [&program, &s.account_id, &day, state, &s.falls, &s.leaves, &s.value_at_stake, &s.recency_days, &s.orders, &s.reasons, &signals];
        transaction.execute(&statement, &row).await?;
    }
    let next: i64 = transaction.query_one("SELECT coalesce(max(number), 0) FROM transition WHERE program = $1", &[&program]).await?.get(0);
    let statement = transaction.prepare("INSERT INTO transition VALUES ($1, $2, $3, $4, $5, $6, $7)").await?;
    for (number, (account, from, to, reasons)) in (next + 1..).zip(moves) {
        transaction.execute(&statement, &[&program, &number, account, &day, from, to, reasons]).await?;
    }
    transaction.commit().await?;
    Ok(())
}

const COLUMNS: &str = "account, as_of, state, falls, leaves, value_at_stake, recency_days, orders, reasons, signals";

fn read(row: &Row) -> Standing {
    Standing {
        account_id: row.get(0),
        as_of: row.get(1),
        state: row.get(2),
        falls: row.get(3),
        leaves: row.get(4),
        value_at_stake: row.get(5),
        recency_days: row.get(6),
        orders: row.get(7),
        reasons: row.get(8),
        // Of an assessment by a version that kept none.
        signals: row.try_get::<_, Json<Signals>>(9).map(|json| json.0).unwrap_or_default(),
    }
}

/// Members in `state` or any, the most at stake first, after the value and account of a page's last.
///
/// # Errors
/// What the database says.
pub async fn list(client: &Client, program: &str, state: Option<&str>, after: Option<(f64, &str)>, limit: i64) -> Result<Vec<Standing>, AnalysisError> {
    let (value, account) = after.unwrap_or((f64::INFINITY, ""));
    let sql = format!(
        "SELECT {COLUMNS} FROM analysis.standing WHERE program = $1 AND ($2::text IS NULL OR state = $2) AND (-value_at_stake, account) > (-$3::float8, $4)
         ORDER BY value_at_stake DESC, account LIMIT $5"
    );
    Ok(client.query(&sql, &[&program, &state, &value, &account, &limit]).await?.iter().map(read).collect())
}

/// Where one member stands; none who was not assessed.
///
/// # Errors
/// What the database says.
pub async fn one(client: &Client, program: &str, account: &str) -> Result<Option<Standing>, AnalysisError> {
    let sql = format!("SELECT {COLUMNS} FROM analysis.standing WHERE program = $1 AND account = $2");
    Ok(client.query_opt(&sql, &[&program, &account]).await?.as_ref().map(read))
}

/// A change of standing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transition {
    /// 1, 2, 3 … within the program.
    pub number: i64,
    /// The account.
    pub account_id: String,
    /// As of the end of which day.
    pub day: Date,
    /// Before; empty for the first.
    pub from: String,
    /// After.
    pub to: String,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// Transitions after number `after`, in order, of one account or all.
///
/// # Errors
/// What the database says.
pub async fn transitions(client: &Client, program: &str, account: Option<&str>, after: i64, limit: i64) -> Result<Vec<Transition>, AnalysisError> {
    let sql = "SELECT number, account, day, from_state, to_state, reasons FROM analysis.transition
               WHERE program = $1 AND number > $2 AND ($3::text IS NULL OR account = $3) ORDER BY number LIMIT $4";
    let read = |row: &Row| Transition { number: row.get(0), account_id: row.get(1), day: row.get(2), from: row.get(3), to: row.get(4), reasons: row.get(5) };
    Ok(client.query(sql, &[&program, &after, &account, &limit]).await?.iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use insight::History;

    use super::*;

    fn member(last: f64, before: f64, recency_days: i32) -> Features {
        let history = History { repeats: 5, recency_days: 100, age_days: 200 };
        let (visits_last, visits_before, breadth_last, breadth_before) = (1, 1, 0, 0);
        Features { recency_days, gap_days: 20.0, last, before, visits_last, visits_before, breadth_last, breadth_before, trend28: 0.0, history }
    }

    #[test]
    fn nobody_flaps() {
        let f = member(50.0, 50.0, 10);
        assert_eq!(state(&f, 0.52, 0.1, None), 2);
        assert_eq!(state(&f, 0.52, 0.1, Some(1)), 1, "a little over the threshold is not worse yet");
        assert_eq!(state(&f, 0.56, 0.1, Some(1)), 2);
        assert_eq!(state(&f, 0.48, 0.1, Some(2)), 2, "a little under it is not better yet");
        assert_eq!(state(&f, 0.44, 0.1, Some(2)), 1);
    }

    #[test]
    fn states_are_told_apart_and_say_why() {
        assert_eq!(STATES[state(&member(100.0, 50.0, 5), 0.2, 0.1, None)], "growing");
        assert_eq!(STATES[state(&member(50.0, 50.0, 80), 0.9, 0.7, None)], "at_risk");
        assert_eq!(STATES[state(&member(0.0, 50.0, 100), 1.0, 0.9, None)], "at_risk");
        assert_eq!(STATES[state(&member(0.0, 0.0, 130), 1.0, 0.9, None)], "lost");
        let signals = Signals { points_expiring: 1200, ..Signals::default() };
        let said = reasons(&member(20.0, 50.0, 62), 0.8, 0.3, &signals);
        let wanted = [
            "no purchase for 62 days, usually every 20",
            "spent 40 % of the 90 days before",
            "members like this one spend less than half next in 80 of 100 cases",
            "1200 points expire within 60 days",
        ];
        assert_eq!(said, wanted);
    }
}
