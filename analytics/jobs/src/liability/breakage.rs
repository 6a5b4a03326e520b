//! Which points will never be spent: chain ladder over issue months, checked against what then happened; where too few are spent for one, by how
//! points ran off. While the oldest month still has points to spend, nothing is certain: see `estimators::tail`.

use chrono::{Datelike, NaiveDate};
use estimators::run_off::{RunOff, Step, run_off};
use ledger_core::points::Amount;
use ledger_core::time::{last_of_month, plus_months};
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::develop::{BackTest, back_test, develop_beyond};
use super::flows::{Count, Flows, Month, month};
use crate::AnalysisError;

/// What will become of one issue month.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CohortEstimate {
    /// First day of the month.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub cohort: NaiveDate,
    /// Points issued and not taken back with returned goods.
    pub granted: i64,
    /// Spent by now.
    pub redeemed: i64,
    /// Not spent and not there any more: expired, forfeited, taken by hand.
    pub lost: i64,
    /// To be spent in the end, points; no more than was spent and is left.
    pub ultimate: f64,
    /// Its standard error; none where it can't be told.
    pub standard_error: Option<f64>,
}

/// Which points will be spent.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Breakage {
    /// In which month the day lies.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub period: NaiveDate,
    /// The last day of the months that are over: those that rates are learned from.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub complete_until: NaiveDate,
    /// By issue month.
    pub cohorts: Vec<CohortEstimate>,
    /// Of all points granted, the share that will be spent.
    pub ultimate_redemption_rate: f64,
    /// Its standard error; none where it can't be told.
    pub standard_error: Option<f64>,
    /// How it came about: `chain_ladder` (with what is spent beyond the oldest age, where the oldest month has points left), `run_off`, `set` (by the
    /// rulebook), or `taken to be all` and why it can't be told.
    pub method: String,
    /// Of the chain ladder.
    pub back_test: Option<BackTest>,
}

/// The months up to that of a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Calendar {
    /// That of the day, its first day.
    pub(super) period: NaiveDate,
    /// What of it has passed.
    elapsed: f64,
    is_over: bool,
}

impl Calendar {
    /// At the end of `day`, of which `today` has not ended yet.
    pub(super) fn at(day: NaiveDate, today: NaiveDate) -> Self {
        let is_over = day == last_of_month(day) && day < today;
        Self { period: month(day), elapsed: f64::from(day.day()) / f64::from(day.num_days_in_month()), is_over }
    }

    /// The last month that is over.
    fn complete(self) -> NaiveDate {
        if self.is_over { self.period } else { plus_months(self.period, -1) }
    }
}

/// The estimate at the end of `day`, or of `today` if that comes first; `set` is the share that the rulebook names.
///
/// # Errors
/// What the database says.
pub async fn breakage(client: &Client, program: &str, day: NaiveDate, today: NaiveDate, set: Option<Amount>) -> Result<Breakage, AnalysisError> {
    let day = day.min(today);
    Ok(estimate(&Flows::load(client, program, day).await?, Calendar::at(day, today), set))
}

/// Of issue months, how many points will be spent, each with its standard error, and the error of all.
struct Expected {
    cohorts: Vec<(f64, Option<f64>)>,
    standard_error: Option<f64>,
    method: String,
    back_test: Option<BackTest>,
}

/// As [`breakage`], from what was loaded.
pub(super) fn estimate(flows: &Flows, calendar: Calendar, set: Option<Amount>) -> Breakage {
    let counts = flows.points(calendar.period).into_iter().map(|(cohort, points)| (cohort, points.all));
    let granted: Vec<(NaiveDate, Count)> = counts.filter(|(_, points)| points.issued > 0).collect();
    let rate = set.and_then(|share| share.0.to_f64());
    let expected = rate.map_or_else(|| learned(flows, calendar, &granted), |rate| taken(&granted, rate, "set".into()));
    let cohort = |((cohort, points), (ultimate, error)): (&(NaiveDate, Count), &(f64, Option<f64>))| CohortEstimate {
        cohort: *cohort,
        granted: points.granted(),
        redeemed: points.redeemed,
        lost: points.lost(),
        ultimate: points.attainable(*ultimate),
        standard_error: if points.left > 0 { *error } else { Some(0.0) },
    };
    let cohorts: Vec<CohortEstimate> = granted.iter().zip(&expected.cohorts).map(cohort).collect();
    let sum = |of: &dyn Fn(&CohortEstimate) -> f64| cohorts.iter().map(of).sum::<f64>();
    #[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
    let (ultimate, all) = (sum(&|cohort| cohort.ultimate), sum(&|cohort| cohort.granted as f64));
    let of_all = |sum: f64| if all > 0.0 { sum / all } else { 1.0 };
    Breakage {
        period: calendar.period,
        complete_until: last_of_month(calendar.complete()),
        ultimate_redemption_rate: rate.unwrap_or_else(|| of_all(ultimate)),
        standard_error: expected.standard_error.map(of_all),
        method: expected.method,
        back_test: expected.back_test,
        cohorts,
    }
}

/// `rate` of all points, as nothing else is known.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn taken(granted: &[(NaiveDate, Count)], rate: f64, method: String) -> Expected {
    let cohorts = granted.iter().map(|(_, points)| (points.granted() as f64 * rate, None)).collect();
    Expected { cohorts, standard_error: None, method, back_test: None }
}

fn learned(flows: &Flows, calendar: Calendar, granted: &[(NaiveDate, Count)]) -> Expected {
    let Some(first) = flows.first() else { return taken(granted, 1.0, "taken to be all: nothing was issued".into()) };
    let steps = flows.steps(first, calendar.period);
    let issued = months_of(granted, first, steps.len());
    // A month that is not over would look as if cohorts had stopped spending.
    let over = steps.len() - usize::from(!calendar.is_over);
    let complete: Vec<Vec<Month>> = steps[..over].iter().enumerate().map(|(i, row)| row[..over - i].to_vec()).collect();
    let rows: Vec<Vec<i64>> = complete.iter().map(|row| cumulative(row)).collect();
    let places = granted.iter().map(|(cohort, _)| place(first, *cohort));
    match develop_beyond(&issued, &rows, &fates(&complete, 1.0)) {
        Ok(all) => {
            let cohorts = places.map(|i| (all.ultimates[i], Some(all.standard_errors[i]))).collect();
            let points: f64 = granted.iter().filter_map(|(_, points)| points.granted().to_f64()).sum();
            let back_test = back_test(&issued[..over], &rows);
            Expected { cohorts, standard_error: Some(all.ultimate_rate_standard_error * points), method: "chain_ladder".into(), back_test }
        }
        Err(why) => match run_off(&fates(&steps, calendar.elapsed)).filter(|_| over > 0) {
            Some(RunOff { to_come, standard_errors, total_standard_error }) => {
                let redeemed = |points: &Count| points.redeemed.to_f64().unwrap_or(f64::NAN);
                let cohorts = places.zip(granted).map(|(i, (_, points))| (redeemed(points) + to_come[i], Some(standard_errors[i]))).collect();
                Expected { cohorts, standard_error: Some(total_standard_error), method: "run_off".into(), back_test: None }
            }
            None => taken(granted, 1.0, format!("taken to be all: {why}")),
        },
    }
}

#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn fates(steps: &[Vec<Month>], elapsed: f64) -> Vec<Vec<Step>> {
    let step = |age: usize, months: usize, month: &Month| Step {
        left: month.left as f64,
        spent: month.spent as f64,
        lost: month.lost as f64,
        elapsed: if age + 1 == months { elapsed } else { 1.0 },
    };
    steps.iter().map(|row| row.iter().enumerate().map(|(age, month)| step(age, row.len(), month)).collect()).collect()
}

fn cumulative(row: &[Month]) -> Vec<i64> {
    let mut sum = 0;
    let add = |month: &Month| {
        sum += month.spent;
        sum
    };
    row.iter().map(add).collect()
}

fn place(first: NaiveDate, cohort: NaiveDate) -> usize {
    let months = (cohort.year() - first.year()) * 12 + cohort.month0().cast_signed() - first.month0().cast_signed();
    usize::try_from(months).unwrap_or(0)
}

/// Points granted by month, months without any included.
fn months_of(granted: &[(NaiveDate, Count)], first: NaiveDate, count: usize) -> Vec<i64> {
    let mut issued = vec![0; count];
    for (cohort, points) in granted {
        if let Some(slot) = issued.get_mut(place(first, *cohort)) {
            *slot = points.granted();
        }
    }
    issued
}
