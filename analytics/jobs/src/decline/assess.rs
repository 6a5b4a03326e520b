//! Where each member stands: probabilities into a state, with hysteresis, reasons in words, and what is at stake.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use ledger_core::policy::InsightRules;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::Client;

use super::WINDOW_DAYS;
use super::features::{FALLEN, Features, features};
use super::kept::{self, Assessment};
use super::members::{Member, load, number};
use super::model::{Choice, InForce, Models};
use super::signals::{Signals, around};
use super::standing::{Standing, list};
use crate::AnalysisError;
use crate::clv::AsOf;

/// How far beyond a threshold it takes to cross it, either way, so that nobody flaps.
const HYSTERESIS: f64 = 0.05;
/// Spend has grown that is more than this factor of what it was.
const GROWN: f64 = 1.25;
/// Growth beyond this factor says no more than that it is.
const GROWTH_TOLD: f64 = 10.0;

/// The states, the best first.
pub const STATES: [&str; 6] = ["growing", "steady", "slipping", "fallen", "at_risk", "lost"];

/// What is asked of an assessment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// As of when.
    pub as_of: AsOf,
    /// By which model.
    pub model: Choice,
    /// Nothing is kept.
    pub is_dry_run: bool,
    /// It is made on a schedule, so it does not replace what somebody chose.
    pub is_scheduled: bool,
}

impl Asked {
    /// As of the end of `day`, by all that is known now.
    #[must_use]
    pub fn day(day: NaiveDate) -> Self {
        Self { as_of: AsOf::day(day), model: Choice::Best, is_dry_run: false, is_scheduled: false }
    }
}

/// What an assessment came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Assessed {
    /// Its version; none of a dry run.
    pub version: Option<i32>,
    /// Whether it is in force, or would be.
    pub in_force: bool,
    /// Why, or why not.
    pub why: String,
    /// By state, the best first: how many, and what is at stake.
    pub states: Vec<(String, usize, f64)>,
    /// How many changed their state.
    pub transitions: usize,
    /// What the probabilities are made by.
    pub models: Vec<InForce>,
}

/// The state by thresholds moved by `shift` towards the better (positive: it takes more to be worse).
fn place(f: &Features, falls: f64, leaves: f64, shift: f64) -> usize {
    if f.is_silent() {
        let lost = f.overdue() >= 6.0 + 20.0 * shift || f.recency_days > 365;
        return if lost { 5 } else { 4 };
    }
    // That spend has fallen is a fact, not a guess: it takes no more than that, but more than half again to be better.
    let fallen = FALLEN + (-shift).max(0.0);
    let has_grown = f.before > 0.0 && f.last > GROWN * f.before;
    if leaves >= 0.6 + shift {
        4
    } else if f.is_below(fallen) {
        3
    } else if falls >= 0.5 + shift && !has_grown {
        // Who spent much more than before will often come back to what is usual: that is no decline.
        2
    } else if has_grown && falls < 0.35 + shift {
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
    if f.is_below(0.8) {
        reasons.push(format!("spent {:.0} % of the {WINDOW_DAYS} days before", 100.0 * f.last.max(0.0) / f.before));
    }
    // Of who is likely to leave, growth is no reason.
    let has_grown = f.before > 0.0 && f.last > GROWN * f.before && leaves < 0.5;
    if has_grown && f.last > GROWTH_TOLD * f.before {
        reasons.push(format!("spent more than {GROWTH_TOLD:.0} times as much as in the {WINDOW_DAYS} days before"));
    } else if has_grown {
        reasons.push(format!("spent {:.0} % more than in the {WINDOW_DAYS} days before", 100.0 * (f.last / f.before - 1.0)));
    }
    if f.breadth_last < f.breadth_before {
        reasons.push(format!("buys from {} categories at a time, before from {}", f.breadth_last, f.breadth_before));
    }
    if !f.is_silent() && leaves >= 0.5 {
        reasons.push(format!("members like this one buy nothing in the next {WINDOW_DAYS} days in {:.0} of 100 cases", 100.0 * leaves));
    } else if !f.is_silent() && f.is_below(FALLEN) && falls >= 0.5 {
        reasons.push(format!("members like this one do not come back to half of what they spent in {:.0} of 100 cases", 100.0 * falls));
    } else if !f.is_silent() && falls >= 0.5 && !has_grown {
        reasons.push(format!("members like this one spend less than half next in {:.0} of 100 cases", 100.0 * falls));
    }
    reasons.extend(signals.reasons());
    reasons
}

/// What is lost if it comes as feared: margin of the better window, times the probability.
fn value_at_stake(margin: f64, f: &Features, falls: f64, leaves: f64) -> f64 {
    margin * f.base() * if f.is_silent() { leaves } else { falls }
}

/// A change of state.
pub(super) struct Move {
    pub(super) account: String,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
    pub(super) reasons: Vec<String>,
}

fn assess_all(
    members: &[Member],
    models: &Models,
    mut around: BTreeMap<String, Signals>,
    day: NaiveDate,
    margin: f64,
    was: &BTreeMap<String, usize>,
) -> (Vec<Standing>, Vec<Move>) {
    let today = number(day);
    let (mut standings, mut moves) = (Vec::new(), Vec::new());
    for member in members {
        let days = member.at(today);
        let Some(f) = features(&days, today) else { continue };
        let (falls, leaves) = models.probabilities(&f);
        let before = was.get(&member.account).copied();
        let now = state(&f, falls, leaves, before);
        let signals = around.remove(&member.account).unwrap_or_default().with(member, &f, models, today);
        let reasons = reasons(&f, falls, leaves, &signals);
        if before != Some(now) {
            moves.push(Move { account: member.account.clone(), from: before.map_or("", |before| STATES[before]), to: STATES[now], reasons: reasons.clone() });
        }
        standings.push(Standing {
            account_id: member.account.clone(),
            as_of: day,
            state: STATES[now].into(),
            falls,
            leaves,
            value_at_stake: value_at_stake(margin, &f, falls, leaves),
            recency_days: f.recency_days,
            orders: i64::from(f.history.repeats) + 1,
            reasons,
            signals,
        });
    }
    (standings, moves)
}

/// Assesses everybody as of the end of a day; keeps where they stand, and, where it is put in force, how that changed. One of an earlier day than the one
/// in force, of what was known earlier, or by a named model that ranks no better than recency or worse than the one in force, is kept but does not replace it.
///
/// # Errors
/// [`AnalysisError`]
pub async fn assess(client: &mut Client, program: &str, rules: &InsightRules, asked: &Asked, made_at: DateTime<Utc>) -> Result<Assessed, AnalysisError> {
    let Asked { as_of, model, .. } = *asked;
    let last: Option<NaiveDate> = client.query_one("SELECT max(day) FROM clv.purchase_day WHERE program = $1", &[&program]).await?.get(0);
    let last = last.ok_or_else(|| AnalysisError::NoPurchases { program: program.into(), until: as_of.day })?;
    if as_of.day > last {
        let expected = format!("{last}, the day of the last purchase, or earlier: after it, everybody looks as if they had stopped buying");
        return Err(AnalysisError::Invalid { field: "as_of", value: as_of.day.to_string(), expected });
    }
    let current = kept::in_force(client, program).await?;
    let before: Vec<Standing> = list(client, program, &[], None, i64::MAX).await?;
    let was = before.iter().filter_map(|s| Some((s.account_id.clone(), STATES.iter().position(|state| *state == s.state)?))).collect();
    let members = load(client, program, as_of).await?;
    if members.is_empty() {
        return Err(AnalysisError::NoPurchases { program: program.into(), until: as_of.day });
    }
    let around = around(client, program, as_of, as_of.day < last || as_of.known_at.is_some()).await?;
    let refs: Vec<&Member> = members.iter().collect();
    let models = Models::choose(&refs, number(as_of.day), model);
    let latest = before.iter().map(|standing| standing.as_of).max();
    let refused = refuse(asked, &models, (latest, last), current.as_ref());
    // A look back starts afresh: what came of later days is no part of it.
    let looks_back = refused.is_some();
    let was = if looks_back { BTreeMap::new() } else { was };
    let (standings, moves) = assess_all(&members, &models, around, as_of.day, rules.margin.0.to_f64().unwrap_or(1.0), &was);
    let of = |name: &&str| {
        let those = || standings.iter().filter(|standing| standing.state == **name);
        ((*name).to_owned(), those().count(), those().map(|standing| standing.value_at_stake).fold(0.0, |sum, stake| sum + stake))
    };
    let mut assessed = Assessed {
        version: None,
        in_force: refused.is_none(),
        why: refused.unwrap_or_else(|| format!("as of {}, the latest day assessed", as_of.day)),
        states: STATES.iter().map(of).collect(),
        transitions: if looks_back { 0 } else { moves.len() },
        models: models.in_force,
    };
    // On a schedule, what is not put in force is not worth keeping.
    if !asked.is_dry_run && (assessed.in_force || !asked.is_scheduled) {
        assessed.version = Some(kept::keep(client, program, (as_of, made_at), &mut assessed, &standings, &moves).await?);
    }
    Ok(assessed)
}

/// Why an assessment is not put in force; none if it is. `latest` is the day of the one in force, `last` that of the last purchase.
fn refuse(asked: &Asked, models: &Models, (latest, last): (Option<NaiveDate>, NaiveDate), current: Option<&Assessment>) -> Option<String> {
    let AsOf { day, known_at } = asked.as_of;
    if let Some(why) = &models.refused {
        return Some(why.clone());
    }
    // The best model is chosen by the same figures, so only one that was named can rank worse.
    let ranks_worse = || current.and_then(|current| models.ranks_worse(&current.models));
    if let Some(why) = Some(asked.model).filter(|model| *model != Choice::Best).and_then(|_| ranks_worse()) {
        return Some(why);
    }
    if let Some(known_at) = known_at {
        return Some(format!("it looks back: only what was booked by {known_at} is known to it"));
    }
    if let Some(chosen) = current.filter(|current| asked.is_scheduled && current.is_chosen) {
        return Some(format!("assessment {} was put in force by hand", chosen.version));
    }
    if let Some(later) = latest.filter(|latest| *latest > day) {
        return Some(format!("it looks back: the one in force is as of {later}"));
    }
    // Who looks back does not mean to undo what somebody chose, though the day looked at be after that one's.
    let chosen = current.filter(|current| current.is_chosen && day < last)?;
    Some(format!("it looks back, and assessment {} was put in force by hand", chosen.version))
}

#[cfg(test)]
mod tests {
    use estimators::History;

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
        let fallen = member(52.0, 100.0, 10);
        assert_eq!((state(&fallen, 0.2, 0.1, Some(1)), state(&fallen, 0.2, 0.1, Some(3))), (1, 3), "a little over half is not better yet");
        assert_eq!(state(&member(56.0, 100.0, 10), 0.2, 0.1, Some(3)), 1);
    }

    #[test]
    fn states_are_told_apart_and_say_why() {
        assert_eq!(STATES[state(&member(100.0, 50.0, 5), 0.2, 0.1, None)], "growing");
        assert_eq!(STATES[state(&member(50.0, 50.0, 80), 0.9, 0.7, None)], "at_risk");
        assert_eq!(STATES[state(&member(0.0, 50.0, 100), 1.0, 0.9, None)], "at_risk");
        assert_eq!(STATES[state(&member(0.0, 0.0, 130), 1.0, 0.9, None)], "lost");
        let signals = Signals { points_expiring: 1200, ..Signals::default() };
        let said = reasons(&member(30.0, 50.0, 62), 0.8, 0.3, &signals);
        let wanted = [
            "no purchase for 62 days, usually every 20",
            "spent 60 % of the 90 days before",
            "members like this one spend less than half next in 80 of 100 cases",
            "1200 points expire within 60 days",
        ];
        assert_eq!(said, wanted);
        assert_eq!(STATES[state(&member(403.3, 0.5, 5), 0.9, 0.1, Some(1))], "steady", "to come back to what is usual is no decline");
        let said = reasons(&member(403.3, 0.5, 5), 0.9, 0.05, &Signals::default());
        assert_eq!(said, ["spent more than 10 times as much as in the 90 days before"]);
    }

    #[test]
    fn whose_spend_has_fallen_is_not_steady_and_what_it_was_is_at_stake() {
        // Given a household that spent 49 in the last 90 days and 100 in the 90 before, whatever the models say and wherever it stood.
        for was in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)] {
            for (falls, leaves) in [(0.05, 0.01), (0.5, 0.2), (0.9, 0.7)] {
                let now = state(&member(49.0, 100.0, 10), falls, leaves, was);
                assert!(now >= 3, "{} after {was:?} with {falls}, {leaves}", STATES[now]);
            }
        }
        // Then the earlier value is at stake, not the one that has fallen.
        assert!((value_at_stake(0.5, &member(49.0, 100.0, 10), 0.6, 0.1) - 30.0).abs() < 1e-9);
        let said = reasons(&member(20.0, 50.0, 12), 0.8, 0.3, &Signals::default());
        assert_eq!(said, ["spent 40 % of the 90 days before", "members like this one do not come back to half of what they spent in 80 of 100 cases"]);
    }
}
