//! Which points will never be spent: chain ladder over issue months, checked against what then happened.

use insight::reserve::{Redemption, ReserveError, Triangle, redemption};
use jiff::civil::Date;
use ledger_core::points::Amount;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::Client;

use super::flows::{Flows, Points, month};
use crate::AnalysisError;

/// How many months the back-test looks back.
const BACK_MONTHS: usize = 3;

/// What will become of one issue month.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CohortEstimate {
    /// First day of the month.
    pub cohort: Date,
    /// Points issued and not taken back with returned goods.
    pub granted: i64,
    /// Spent by now.
    pub redeemed: i64,
    /// To be spent in the end, points; no more than was spent and is left.
    pub ultimate: f64,
    /// Mack's standard error of that.
    pub standard_error: f64,
}

/// What the estimate of some months ago said would be spent since, and what was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackTest {
    /// How many months ago.
    pub months: usize,
    /// Points expected to be spent since, of the issue months of then.
    pub expected: f64,
    /// Points spent since, of those.
    pub actual: f64,
}

/// Which points will be spent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breakage {
    /// At the end of which month.
    pub period: Date,
    /// By issue month.
    pub cohorts: Vec<CohortEstimate>,
    /// Of all points granted, the share that will be spent; 1 where it can't be told.
    pub ultimate_redemption_rate: f64,
    /// Its standard error.
    pub standard_error: f64,
    /// How it came about: `chain_ladder`, `set` (by the rulebook), or why it can't be told.
    pub method: String,
    /// Of the chain ladder.
    pub back_test: Option<BackTest>,
}

/// The estimate at the end of the month of `day`; `set` is the share that the rulebook names.
///
/// # Errors
/// What the database says.
pub async fn breakage(client: &Client, program: &str, day: Date, set: Option<Amount>) -> Result<Breakage, AnalysisError> {
    Ok(estimate(&Flows::load(client, program).await?, month(day), set))
}

/// As [`breakage`], from what was loaded.
pub(super) fn estimate(flows: &Flows, period: Date, set: Option<Amount>) -> Breakage {
    let points = flows.points(period);
    let granted: Vec<(Date, Points)> = points.into_iter().filter(|(_, points)| points.issued > 0).collect();
    let certain = |rate: f64, method: String| {
        let cohort = |(cohort, points): &(Date, Points)| {
            #[allow(clippy::cast_precision_loss)]
            let ultimate = points.attainable(points.granted() as f64 * rate);
            CohortEstimate { cohort: *cohort, granted: points.granted(), redeemed: points.redeemed, ultimate, standard_error: 0.0 }
        };
        let cohorts = granted.iter().map(cohort).collect();
        Breakage { period, cohorts, ultimate_redemption_rate: rate, standard_error: 0.0, method, back_test: None }
    };
    if let Some(rate) = set.and_then(|share| share.0.to_f64()) {
        return certain(rate, "set".into());
    }
    let Some(first) = flows.first() else { return certain(1.0, "nothing was issued".into()) };
    let rows = flows.triangle(first, period);
    let issued: Vec<i64> = months_of(&granted, first, rows.len());
    match develop(&issued, &rows) {
        Err(why) => certain(1.0, format!("taken to be all: {why}")),
        Ok(all) => {
            let cohort = |(i, (cohort, points)): (usize, &(Date, Points))| CohortEstimate {
                cohort: *cohort,
                granted: points.granted(),
                redeemed: points.redeemed,
                ultimate: points.attainable(all.ultimates[i]),
                standard_error: if points.left > 0 { all.standard_errors[i] } else { 0.0 },
            };
            let places = granted.iter().map(|(cohort, _)| place(first, *cohort));
            let cohorts = places.zip(&granted).map(cohort).collect();
            let (ultimate_redemption_rate, standard_error) = (all.ultimate_rate, all.ultimate_rate_standard_error);
            Breakage { period, cohorts, ultimate_redemption_rate, standard_error, method: "chain_ladder".into(), back_test: back_test(&issued, &rows) }
        }
    }
}

fn place(first: Date, cohort: Date) -> usize {
    let months = (i32::from(cohort.year()) - i32::from(first.year())) * 12 + i32::from(cohort.month()) - i32::from(first.month());
    usize::try_from(months).unwrap_or(0)
}

/// Points granted by month, months without any included.
fn months_of(granted: &[(Date, Points)], first: Date, count: usize) -> Vec<i64> {
    let mut issued = vec![0; count];
    for (cohort, points) in granted {
        if let Some(slot) = issued.get_mut(place(first, *cohort)) {
            *slot = points.granted();
        }
    }
    issued
}

#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn develop(issued: &[i64], rows: &[Vec<i64>]) -> Result<Redemption, ReserveError> {
    // Months in which nobody spends yet develop into nothing; the triangle begins with the first in which somebody does.
    let begun = |k: usize| rows.iter().any(|row| row.len() > k + 1 && row[k] > 0);
    let begin = (0..rows.len()).find(|k| begun(*k)).unwrap_or(0);
    let known: Vec<Vec<f64>> = rows.iter().filter(|row| row.len() > begin).map(|row| row[begin..].iter().map(|n| *n as f64).collect()).collect();
    let count = known.len();
    let points: Vec<f64> = issued.iter().map(|n| *n as f64).collect();
    let mut all = redemption(&points[..count], &Triangle::new(known)?)?;
    let (ultimate, granted): (f64, f64) = (all.ultimates.iter().sum(), points[..count].iter().sum());
    let rate = if granted > 0.0 { ultimate / granted } else { 0.0 };
    let error = if ultimate > 0.0 { all.ultimate_rate_standard_error / all.ultimate_rate } else { 0.0 };
    for points in &points[count..] {
        all.ultimates.push(points * rate);
        all.standard_errors.push(points * rate * error);
    }
    Ok(all)
}

fn back_test(issued: &[i64], rows: &[Vec<i64>]) -> Option<BackTest> {
    let before: Vec<Vec<i64>> = rows.iter().filter(|row| row.len() > BACK_MONTHS).map(|row| row[..row.len() - BACK_MONTHS].to_vec()).collect();
    let then = develop(&issued[..before.len()], &before).ok()?;
    let developed = share_developed(&before)?;
    let (mut expected, mut actual) = (0.0, 0.0);
    for ((row, now), ultimate) in before.iter().zip(rows).zip(&then.ultimates) {
        let (age, later) = (row.len() - 1, (row.len() - 1 + BACK_MONTHS).min(developed.len() - 1));
        let to_come = 1.0 - developed[age];
        let share = if to_come > 0.0 { (developed[later] - developed[age]) / to_come } else { 0.0 };
        expected += (ultimate - latest(row)) * share;
        actual += latest(now) - latest(row);
    }
    Some(BackTest { months: BACK_MONTHS, expected, actual })
}

#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn latest(row: &[i64]) -> f64 {
    row.last().map_or(0.0, |points| *points as f64)
}

/// Of what is spent in the end, the share that is by each month.
fn share_developed(rows: &[Vec<i64>]) -> Option<Vec<f64>> {
    #[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
    let sum = |k: usize, of: usize| rows.iter().filter(|row| row.len() > of).map(|row| row[k] as f64).sum::<f64>();
    let count = rows.first()?.len();
    let mut developed = vec![1.0; count];
    for k in (0..count - 1).rev() {
        let (before, after) = (sum(k, k + 1), sum(k + 1, k + 1));
        developed[k] = if after > 0.0 { developed[k + 1] * before / after } else { 0.0 };
    }
    Some(developed)
}
