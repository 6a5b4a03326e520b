//! One fit: both models of buying on the days before the holdout, each against what then happened and against a naive forecast; the better
//! one, if it beats that, is fitted again to all days and put in force.

use insight::bgnbd::BgNbd;
use insight::gamma_gamma::{GammaGamma, Spend};
use insight::lifetime::Buying;
use insight::pareto_nbd::ParetoNbd;
use insight::{Estimate, FitError, Histories, bgnbd, gamma_gamma, pareto_nbd};
use jiff::civil::Date;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

use super::history::{Member, members};
use super::holdout::{Forecast, Holdout, measure};
use crate::AnalysisError;

/// A fitted model of how often members buy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuyingFit {
    /// `bg_nbd` (r, α, a, b) or `pareto_nbd` (r, α, s, β); weeks.
    pub model: String,
    /// In the model's order.
    pub parameters: [f64; 4],
    /// Theirs.
    pub standard_errors: [f64; 4],
    /// At the maximum.
    pub log_likelihood: f64,
}

/// A fitted model of how much they spend a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpendFit {
    /// p, q, γ of Gamma-Gamma.
    pub parameters: [f64; 3],
    /// Theirs.
    pub standard_errors: [f64; 3],
    /// At the maximum.
    pub log_likelihood: f64,
    /// Members who spent something again.
    pub members: u64,
}

/// A model on the days before the holdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// The model.
    pub model: String,
    /// The fit.
    pub fit: Option<BuyingFit>,
    /// Why there is none.
    pub failure: Option<String>,
    /// Against what then happened.
    pub holdout: Option<Holdout>,
}

/// What was fitted, with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// 1, 2, 3 … within the program.
    pub version: i32,
    /// The first day of the data.
    pub since: Date,
    /// The last.
    pub until: Date,
    /// Days at the end that the check was made on.
    pub holdout_days: i32,
    /// Members with a purchase by `until`.
    pub members: u64,
    /// Whether scores may be made by it.
    pub in_force: bool,
    /// Why, or why not.
    pub why: String,
    /// Each model on the days before the holdout.
    pub calibrations: Vec<Calibration>,
    /// Going on buying as often as before.
    pub naive: Holdout,
    /// Spend on the days before the holdout.
    pub calibration_spend: Option<SpendFit>,
    /// The better model on all days.
    pub buying: Option<BuyingFit>,
    /// Spend on all days.
    pub spend: Option<SpendFit>,
}

impl BuyingFit {
    fn of(model: &str, estimate: Estimate<4>) -> Self {
        let Estimate { values, standard_errors, log_likelihood, .. } = estimate;
        Self { model: model.into(), parameters: values, standard_errors, log_likelihood }
    }

    /// To forecast with.
    #[must_use]
    pub fn buying(&self) -> Buying {
        if self.model == "pareto_nbd" { Buying::ParetoNbd(ParetoNbd::from(self.parameters)) } else { Buying::BgNbd(BgNbd::from(self.parameters)) }
    }
}

type Fitter = fn(&Histories) -> Result<Estimate<4>, FitError>;
const MODELS: [(&str, Fitter); 2] = [("bg_nbd", bgnbd::fit), ("pareto_nbd", pareto_nbd::fit)];

fn fit_buying(model: &str, fitter: Fitter, histories: &Histories) -> Result<BuyingFit, String> {
    fitter(histories).map(|estimate| BuyingFit::of(model, estimate)).map_err(|error| error.to_string())
}

fn fit_spend(members: &[Member]) -> Result<SpendFit, String> {
    let spends: Vec<Spend> = members.iter().map(|member| member.spend).collect();
    let estimate = gamma_gamma::fit(&spends).map_err(|error| error.to_string())?;
    let Estimate { values: parameters, standard_errors, log_likelihood, .. } = estimate;
    if parameters[1] <= 1.0 {
        return Err(format!("gamma_gamma: q is {:.3}, so that the mean spend over members has no end", parameters[1]));
    }
    let members = spends.iter().filter(|spend| spend.purchases > 0 && spend.mean > 0.0).count() as u64;
    Ok(SpendFit { parameters, standard_errors, log_likelihood, members })
}

/// Forecasts purchases by `forecast`, and spend by what the model of spend says of each of them.
fn check(members: &[Member], spend: Option<&SpendFit>, forecast: impl Fn(&Member) -> f64) -> Holdout {
    let spend = spend.map(|spend| GammaGamma::from(spend.parameters));
    let one = |member: &Member| {
        let expected = forecast(member);
        let value = expected * spend.map_or(1.0, |spend| spend.mean_spend(member.spend));
        Forecast { expected, value, actual: f64::from(member.later_purchases), spend: member.later_spend }
    };
    measure(members.iter().map(one).collect())
}

/// Fits the models to the purchases of `program` until `until`, checks them on the last `holdout_days`, and keeps what came of it.
///
/// # Errors
/// [`AnalysisError`]; a fit that is no good is kept with its reason, not an error.
pub async fn fit(client: &mut Client, program: &str, until: Date, holdout_days: i32, fitted_at: Timestamp) -> Result<Fit, AnalysisError> {
    if !(7..=3660).contains(&holdout_days) {
        return Err(AnalysisError::Invalid { field: "holdout_days", value: holdout_days.to_string(), expected: "7 to 3660".into() });
    }
    let first: Option<Date> = client.query_one("SELECT min(day) FROM clv.purchase_day WHERE program = $1 AND day <= $2", &[&program, &until]).await?.get(0);
    let since = first.ok_or_else(|| AnalysisError::NoPurchases { program: program.into(), until })?;
    let cutoff = until.saturating_sub(Span::new().days(holdout_days));
    let before = members(client, program, cutoff, until).await?;
    let all = members(client, program, until, until).await?;
    let mut fit = estimate(&before, &all, f64::from(holdout_days) / 7.0);
    (fit.since, fit.until, fit.holdout_days) = (since, until, holdout_days);
    keep(client, program, &mut fit, fitted_at).await?;
    Ok(fit)
}

fn estimate(before: &[Member], all: &[Member], weeks: f64) -> Fit {
    let histories: Histories = before.iter().map(|member| member.history).collect();
    let calibration_spend = fit_spend(before).ok();
    let spend = calibration_spend.as_ref();
    let calibrate = |(model, fitter): (&str, Fitter)| {
        let (fit, failure) = match fit_buying(model, fitter, &histories) {
            Ok(fit) => (Some(fit), None),
            Err(why) => (None, Some(why)),
        };
        let holdout = fit.as_ref().map(|fit| {
            let buying = fit.buying();
            check(before, spend, |member| buying.expected(member.history, weeks))
        });
        Calibration { model: model.into(), fit, failure, holdout }
    };
    let calibrations: Vec<Calibration> = MODELS.into_iter().map(calibrate).collect();
    let naive = check(before, spend, |member| {
        let age = member.history.age();
        if age > 0.0 { member.history.x() / age * weeks } else { 0.0 }
    });
    let mut fit = Fit {
        version: 0,
        since: Date::ZERO,
        until: Date::ZERO,
        holdout_days: 0,
        members: all.len() as u64,
        in_force: false,
        why: String::new(),
        calibration_spend,
        calibrations,
        naive,
        buying: None,
        spend: None,
    };
    match choose(&fit, all) {
        Ok((buying, spend, why)) => (fit.in_force, fit.buying, fit.spend, fit.why) = (true, Some(buying), Some(spend), why),
        Err(why) => fit.why = why,
    }
    fit
}

/// The better model on all days, or why none is put in force.
fn choose(fit: &Fit, all: &[Member]) -> Result<(BuyingFit, SpendFit, String), String> {
    let naive = fit.naive.rmse;
    let checked = fit.calibrations.iter().filter_map(|calibration| Some((calibration, calibration.holdout.as_ref()?)));
    let best = checked.min_by(|one, other| one.1.rmse.total_cmp(&other.1.rmse));
    let Some((best, holdout)) = best else {
        let whys: Vec<String> = fit.calibrations.iter().filter_map(|calibration| calibration.failure.clone()).collect();
        return Err(whys.join("; "));
    };
    if holdout.rmse >= naive {
        return Err(format!("{} is no better than going on as before: RMSE {:.4} against {naive:.4}", best.model, holdout.rmse));
    }
    let histories: Histories = all.iter().map(|member| member.history).collect();
    let (model, fitter) = MODELS.into_iter().find(|(model, _)| *model == best.model).ok_or("no such model")?;
    let buying = fit_buying(model, fitter, &histories)?;
    let spend = fit_spend(all)?;
    Ok((buying, spend, format!("{model} has the lowest RMSE in the holdout: {:.4}, going on as before {naive:.4}", holdout.rmse)))
}

async fn keep(client: &mut Client, program: &str, fit: &mut Fit, fitted_at: Timestamp) -> Result<(), AnalysisError> {
    let transaction = client.transaction().await?;
    // One fit of a program at a time takes a number.
    transaction.execute("SELECT pg_advisory_xact_lock(hashtext('analysis.fit'))", &[]).await?;
    let sql = "SELECT coalesce(max(version), 0) + 1 FROM fit WHERE program = $1";
    fit.version = transaction.query_one(sql, &[&program]).await?.get(0);
    let sql = "INSERT INTO fit (program, version, fitted_at, since, until, holdout_days, members, in_force, why, report) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let (report, members) = (serde_json::to_value(&*fit)?, i64::try_from(fit.members).unwrap_or(i64::MAX));
    transaction
        .execute(sql, &[&program, &fit.version, &fitted_at, &fit.since, &fit.until, &fit.holdout_days, &members, &fit.in_force, &fit.why, &report])
        .await?;
    transaction.commit().await?;
    Ok(())
}

fn read(row: &Row) -> Result<Fit, AnalysisError> {
    Ok(serde_json::from_value(row.get(0))?)
}

/// The program's fits, the newest first.
///
/// # Errors
/// [`AnalysisError`]
pub async fn list(client: &Client, program: &str, before: i32, limit: i64) -> Result<Vec<Fit>, AnalysisError> {
    let sql = "SELECT report FROM analysis.fit WHERE program = $1 AND version < $2 ORDER BY version DESC LIMIT $3";
    client.query(sql, &[&program, &before, &limit]).await?.iter().map(read).collect()
}

/// The fit in force: the newest of those that were good enough.
///
/// # Errors
/// [`AnalysisError`]
pub async fn in_force(client: &Client, program: &str) -> Result<Option<Fit>, AnalysisError> {
    let sql = "SELECT report FROM analysis.fit WHERE program = $1 AND in_force ORDER BY version DESC LIMIT 1";
    client.query_opt(sql, &[&program]).await?.as_ref().map(read).transpose()
}
