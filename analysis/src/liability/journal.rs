//! The revenue journal: what of a month's sales is deferred for the points they gave, and what of that becomes revenue as points are spent.
//!
//! Invariants: a month's journal is the difference of two states, each a function of what was booked by its month's end, so it is the same
//! whenever it is made, and journals sum to the state; every entry's debits equal its credits.

use std::collections::BTreeMap;

use insight::revenue::{allocate, recognise};
use iso_currency::Currency;
use jiff::Span;
use jiff::civil::Date;
use ledger_core::policy::{Program, Version};
use ledger_core::time::Moment;
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use serde::Serialize;
use tokio_postgres::Client;

use super::breakage::{Breakage, Calendar, CohortEstimate, estimate};
use super::flows::{Flows, month, next};
use crate::AnalysisError;

/// A line for the general ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The month that is closed.
    pub period: Date,
    /// The month in which the points were issued.
    pub cohort: Date,
    /// `revenue_goods`, `contract_liability` or `revenue_points`.
    pub account: &'static str,
    /// Money, 0 or more.
    pub debit: Decimal,
    /// Money, 0 or more.
    pub credit: Decimal,
    /// ISO 4217.
    pub currency: String,
    /// Why.
    pub memo: String,
}

/// A month's journal, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Journal {
    /// The month, its first day.
    pub period: Date,
    /// Lines; debits equal credits.
    pub entries: Vec<Entry>,
    /// Deferred in all and not yet revenue, at the month's end.
    pub contract_liability: Decimal,
}

/// What one issue month has deferred and recognised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    deferred: Decimal,
    recognised: Decimal,
}

/// The journal of the month of `day`; `today` is the day that has not ended yet.
///
/// # Errors
/// [`AnalysisError`]
pub async fn journal(client: &Client, name: &str, program: &Program, day: Date, today: Date) -> Result<Journal, AnalysisError> {
    let flows = Flows::load(client, name, day.last_of_month()).await?;
    let period = month(day);
    let Some(latest) = version(program, period) else { return Ok(Journal { period, entries: Vec::new(), contract_liability: Decimal::ZERO }) };
    let currency = latest.rulebook.currency.clone();
    let decimals = decimals(&currency);
    let mut then = states(&flows, program, period.saturating_sub(Span::new().months(1)), today, decimals)?;
    let mut now = states(&flows, program, period, today, decimals)?;
    // Where nothing is deferred any more, since all was given back.
    then.keys().for_each(|cohort| _ = now.entry(*cohort).or_default());
    let mut entries = Vec::new();
    for (cohort, state) in &now {
        let before = then.remove(cohort).unwrap_or_default();
        let mut transfer = |amount: Decimal, debit: &'static str, credit: &'static str, memo: &str| {
            let (debit, credit) = if amount.is_sign_negative() { (credit, debit) } else { (debit, credit) };
            let line = |account, debit, credit| Entry { period, cohort: *cohort, account, debit, credit, currency: currency.clone(), memo: memo.to_owned() };
            if !amount.is_zero() {
                entries.extend([line(debit, amount.abs(), Decimal::ZERO), line(credit, Decimal::ZERO, amount.abs())]);
            }
        };
        transfer(state.deferred - before.deferred, "revenue_goods", "contract_liability", "deferred for points given");
        transfer(state.recognised - before.recognised, "contract_liability", "revenue_points", "points spent, of those expected to be; all when none is left");
    }
    Ok(Journal { period, entries, contract_liability: now.values().map(|state| state.deferred - state.recognised).sum() })
}

/// The decimals of a currency.
#[must_use]
pub fn decimals(currency: &str) -> u32 {
    Currency::from_code(currency).and_then(Currency::exponent).map_or(2, u32::from)
}

/// The rulebook in force at the end of the month `period`.
fn version(program: &Program, period: Date) -> Option<&Version> {
    let days = i64::from((next(period) - Date::constant(1970, 1, 1)).get_days());
    let end = Moment::from_micros(days.checked_mul(86_400_000_000)?)?.plus_micros(-1);
    program.at_or_first(end).map(|version| &**version)
}

/// Every issue month as it stood at the end of `period`.
fn states(flows: &Flows, program: &Program, period: Date, today: Date, decimals: u32) -> Result<BTreeMap<Date, State>, AnalysisError> {
    let (points, sales) = (flows.points(period), flows.sales(period));
    let Some(latest) = version(program, period) else { return Ok(BTreeMap::new()) };
    let at = |month: Date| Calendar::at(month.last_of_month().min(today), today);
    let now = estimate(flows, at(period), latest.rulebook.insight.expected_redemption);
    let mut states = BTreeMap::new();
    for (cohort, points) in points.into_iter().filter(|(_, points)| points.issued > 0) {
        let Some(rules) = version(program, cohort) else { continue };
        // Shared by what was expected when the points were given; that is not looked at again, what becomes revenue is.
        let rate = match rules.rulebook.insight.expected_redemption {
            Some(set) => set.0,
            None => decimal(rate(&estimate(flows, at(cohort), None), cohort), 6),
        };
        let (worth, of) = (rules.rulebook.redeem.value.amount.0, Decimal::from(rules.rulebook.redeem.value.points));
        let revenue = |source| AnalysisError::Revenue { cohort, source };
        let sold = sales.get(&cohort).copied().unwrap_or_default();
        // Points given by hand are no part of a sale's price.
        let alone = Decimal::from(points.sold()).checked_mul(rate).and_then(|n| n.checked_mul(worth)).and_then(|n| n.checked_div(of));
        let alone = alone.ok_or_else(|| revenue(insight::revenue::RevenueError::Range))?;
        // Points that came with no sale, or are worth nothing, defer nothing.
        if sold <= Decimal::ZERO || alone <= Decimal::ZERO {
            continue;
        }
        let deferred = allocate(sold, sold, alone, decimals).map_err(revenue)?.points;
        let expected = ultimate(&now, cohort).max(Decimal::from(points.redeemed)).max(Decimal::ONE);
        // Where nothing is left, nothing is owed, whether it was spent or lost.
        let is_done = points.left <= 0;
        let recognised =
            if is_done { deferred } else { recognise(deferred, Decimal::ZERO, Decimal::from(points.redeemed), expected, decimals).map_err(revenue)? };
        states.insert(cohort, State { deferred, recognised });
    }
    Ok(states)
}

/// What share of an issue month's points will be spent.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn rate(breakage: &Breakage, cohort: Date) -> f64 {
    let of = |estimate: &CohortEstimate| if estimate.granted > 0 { estimate.ultimate / estimate.granted as f64 } else { 0.0 };
    breakage.cohorts.iter().find(|estimate| estimate.cohort == cohort).map_or(0.0, of)
}

/// Whole points that will be spent of an issue month.
fn ultimate(breakage: &Breakage, cohort: Date) -> Decimal {
    breakage.cohorts.iter().find(|estimate| estimate.cohort == cohort).map_or(Decimal::ZERO, |estimate| decimal(estimate.ultimate, 0))
}

/// An estimate, rounded before it is booked by.
fn decimal(estimate: f64, decimals: u32) -> Decimal {
    Decimal::from_f64(estimate).unwrap_or_default().round_dp(decimals)
}
