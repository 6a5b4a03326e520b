//! The revenue journal: what of a month's sales is deferred for the points they gave, and what of that becomes revenue as points are spent.
//!
//! Invariants: a month's journal is the difference of two states, each a function of what was booked by its month's end and of the rules, or as the
//! month was closed; so journals sum to the state, and a closed month's is the same whenever it is made. Every entry's debits equal its credits.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use estimators::revenue::{allocate, recognise};
use ledger_core::currency::minor_digits;
use ledger_core::policy::Program;
use ledger_core::time::{last_of_month, plus_months};
use rust_decimal::Decimal;
use rust_decimal::prelude::FromPrimitive;
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::breakage::{Breakage, Calendar, CohortEstimate, estimate};
use super::flows::{Count, Flows, month};
use super::in_force::version_on;
use crate::AnalysisError;

fn ledger_accounts() -> utoipa::openapi::Object {
    crate::one_of("The account of the general ledger.", &["revenue_goods", "contract_liability", "revenue_points"])
}

fn statuses() -> utoipa::openapi::Object {
    crate::one_of(
        "`closed`: it never changes; `not_over`: what is booked until its end will change it; `before_first_closing`: months were closed from a later one on, so it never is.",
        &["closed", "open", "not_over", "before_first_closing"],
    )
}

/// A line for the general ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Entry {
    /// The month that is closed.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub period: NaiveDate,
    /// The month in which the points were issued.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub cohort: NaiveDate,
    /// `revenue_goods`, `contract_liability` or `revenue_points`.
    #[schema(schema_with = ledger_accounts)]
    pub account: &'static str,
    /// Money, 0 or more.
    #[schema(value_type = String, format = "decimal")]
    pub debit: Decimal,
    /// Money, 0 or more.
    #[schema(value_type = String, format = "decimal")]
    pub credit: Decimal,
    /// ISO 4217.
    pub currency: String,
    /// Why.
    pub memo: String,
}

/// A month's journal, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Journal {
    /// The month, its first day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub period: NaiveDate,
    /// `closed`: it never changes; `open`; `not_over`: what is booked until its end will change it; or `before_first_closing`: months were closed from a later
    /// one on, so it never is, its figures are today's, and they need not lead to that month's opening.
    #[schema(schema_with = statuses)]
    pub status: &'static str,
    /// Lines; debits equal credits.
    pub entries: Vec<Entry>,
    /// Deferred in all and not yet revenue, at the month's end.
    #[schema(value_type = String, format = "decimal")]
    pub contract_liability: Decimal,
}

/// What one issue month has deferred and recognised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Of its sales, deferred for points.
    pub deferred: Decimal,
    /// Of that, revenue by now.
    pub recognised: Decimal,
}

/// By issue month.
pub type States = BTreeMap<NaiveDate, State>;

/// A month that was closed: its figures never change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedMonth {
    /// Its first day.
    pub period: NaiveDate,
    /// At its beginning, where no month before it is closed.
    pub opening: States,
    /// At its end.
    pub figures: States,
}

/// What journals are made by.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The rules.
    pub program: &'a Program,
    /// The months that are closed, in order, one after the other.
    pub closed: &'a [ClosedMonth],
    /// The day (UTC) that has not ended yet.
    pub today: NaiveDate,
}

/// A month's figures, as they are closed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// ISO 4217.
    pub currency: String,
    /// At the month's beginning.
    pub opening: States,
    /// At its end.
    pub closing: States,
}

/// The figures of the month of `day`.
///
/// # Errors
/// [`AnalysisError`]
pub async fn figures(client: &Client, name: &str, terms: Terms<'_>, day: NaiveDate) -> Result<Figures, AnalysisError> {
    let flows = Flows::load(client, name, last_of_month(day)).await?;
    let period = month(day);
    let Some(latest) = version_on(terms.program, last_of_month(period)) else {
        return Ok(Figures { currency: String::new(), opening: States::new(), closing: States::new() });
    };
    let currency = latest.rulebook.currency.clone();
    let decimals = decimals(&currency);
    let opening = match terms.closed.iter().find(|month| month.period == period) {
        Some(closed) if closed.period == terms.closed[0].period => closed.opening.clone(),
        _ => settled(&flows, terms, plus_months(period, -1), decimals)?,
    };
    Ok(Figures { opening, closing: settled(&flows, terms, period, decimals)?, currency })
}

/// As a month was closed; if it was not, as its end looks now.
fn settled(flows: &Flows, terms: Terms<'_>, period: NaiveDate, decimals: u32) -> Result<States, AnalysisError> {
    match terms.closed.iter().find(|month| month.period == period) {
        Some(closed) => Ok(closed.figures.clone()),
        None => states(flows, terms.program, period, terms.today, decimals),
    }
}

/// The journal of the month of `day`.
///
/// # Errors
/// [`AnalysisError`]
pub async fn journal(client: &Client, name: &str, terms: Terms<'_>, day: NaiveDate) -> Result<Journal, AnalysisError> {
    let Figures { currency, opening: mut then, closing: mut now } = figures(client, name, terms, day).await?;
    let period = month(day);
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
    let status = if terms.closed.iter().any(|month| month.period == period) {
        "closed"
    } else if terms.closed.first().is_some_and(|first| period < first.period) {
        "before_first_closing"
    } else if last_of_month(period) < terms.today {
        "open"
    } else {
        "not_over"
    };
    Ok(Journal { period, status, entries, contract_liability: now.values().map(|state| state.deferred - state.recognised).sum() })
}

/// The decimals of a currency.
#[must_use]
pub fn decimals(currency: &str) -> u32 {
    minor_digits(currency).unwrap_or(2)
}

/// Every issue month as it stood at the end of `period`.
fn states(flows: &Flows, program: &Program, period: NaiveDate, today: NaiveDate, decimals: u32) -> Result<BTreeMap<NaiveDate, State>, AnalysisError> {
    let (points, sales) = (flows.points(period), flows.sales(period));
    let Some(latest) = version_on(program, last_of_month(period)) else { return Ok(BTreeMap::new()) };
    let at = |month: NaiveDate| Calendar::at(last_of_month(month).min(today), today);
    let now = estimate(flows, at(period), latest.rulebook.insight.expected_redemption);
    let mut states = BTreeMap::new();
    for (cohort, points) in points.into_iter().filter(|(_, points)| points.all.issued > 0) {
        let Some(rules) = version_on(program, last_of_month(cohort)) else { continue };
        // Shared by what was expected when the points were given; that is not looked at again, what becomes revenue is.
        let rate = match rules.rulebook.insight.expected_redemption {
            Some(set) => set.0,
            None => decimal(rate(&estimate(flows, at(cohort), None), cohort), 6),
        };
        let (worth, of) = (rules.rulebook.redeem.value.amount.0, Decimal::from(rules.rulebook.redeem.value.points));
        let revenue = |source| AnalysisError::Revenue { cohort, source };
        let sold = sales.get(&cohort).copied().unwrap_or_default();
        // Points given by hand are no part of a sale's price, and spending them is no revenue.
        let (all, own) = (points.all, points.sold());
        let alone = Decimal::from(own.granted()).checked_mul(rate).and_then(|n| n.checked_mul(worth)).and_then(|n| n.checked_div(of));
        let alone = alone.ok_or_else(|| revenue(estimators::revenue::RevenueError::Range))?;
        // Points that came with no sale, or are worth nothing, defer nothing.
        if sold <= Decimal::ZERO || alone <= Decimal::ZERO {
            continue;
        }
        let deferred = allocate(sold, sold, alone, decimals).map_err(revenue)?.points;
        let expected = expected(ultimate(&now, cohort), all, own).max(Decimal::ONE);
        // Where nothing is left, nothing is owed, whether it was spent or lost.
        let is_done = own.left <= 0;
        let recognised =
            if is_done { deferred } else { recognise(deferred, Decimal::ZERO, Decimal::from(own.redeemed), expected, decimals).map_err(revenue)? };
        states.insert(cohort, State { deferred, recognised });
    }
    Ok(states)
}

/// What share of an issue month's points will be spent.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn rate(breakage: &Breakage, cohort: NaiveDate) -> f64 {
    let of = |estimate: &CohortEstimate| if estimate.granted > 0 { estimate.ultimate / estimate.granted as f64 } else { 0.0 };
    breakage.cohorts.iter().find(|estimate| estimate.cohort == cohort).map_or(0.0, of)
}

/// How many points will be spent of an issue month.
fn ultimate(breakage: &Breakage, cohort: NaiveDate) -> f64 {
    breakage.cohorts.iter().find(|estimate| estimate.cohort == cohort).map_or(0.0, |estimate| estimate.ultimate)
}

/// Whole points of those that came with a sale that will be spent, if of what is left the same share is as of `all`, of which `ultimate` will be.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn expected(ultimate: f64, all: Count, own: Count) -> Decimal {
    let to_come = if all.left > 0 { (ultimate - all.redeemed as f64).max(0.0) * own.left as f64 / all.left as f64 } else { 0.0 };
    decimal(own.redeemed as f64 + to_come, 0)
}

/// An estimate, rounded before it is booked by.
fn decimal(estimate: f64, decimals: u32) -> Decimal {
    Decimal::from_f64(estimate).unwrap_or_default().round_dp(decimals)
}
