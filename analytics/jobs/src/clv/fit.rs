//! One fit: both models of buying on the days before the holdout, each against what then happened and against a naive forecast; the better
//! one, if it beats that, is fitted again to all days and put in force.

use chrono::{DateTime, NaiveDate, Utc};
use estimators::bgnbd::BgNbd;
use estimators::gamma_gamma::{GammaGamma, Spend};
use estimators::lifetime::Buying;
use estimators::pareto_nbd::ParetoNbd;
use estimators::{Estimate, FitError, Histories, bgnbd, gamma_gamma, pareto_nbd};
use ledger_core::time::plus_days;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::history::{AsOf, Member, last_day, members, span};
use super::holdout::{Forecast, Holdout, measure};
use super::kept::{in_force, is_chosen, keep};
use crate::AnalysisError;

fn models() -> utoipa::openapi::Object {
    crate::one_of("`bg_nbd` (r, α, a, b) or `pareto_nbd` (r, α, s, β); weeks.", &MODELS.map(|(name, _)| name))
}

/// A fitted model of how often members buy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BuyingFit {
    /// `bg_nbd` (r, α, a, b) or `pareto_nbd` (r, α, s, β); weeks.
    #[schema(schema_with = models)]
    pub model: String,
    /// In the model's order.
    pub parameters: [f64; 4],
    /// Theirs.
    pub standard_errors: [f64; 4],
    /// At the maximum.
    pub log_likelihood: f64,
}

/// A fitted model of how much they spend a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Calibration {
    /// The model.
    #[schema(schema_with = models)]
    pub model: String,
    /// The fit.
    pub fit: Option<BuyingFit>,
    /// Why there is none.
    pub failure: Option<String>,
    /// Against what then happened.
    pub holdout: Option<Holdout>,
}

/// What was fitted, with its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Fit {
    /// 1, 2, 3 … within the program.
    pub version: i32,
    /// The first day of the data.
    #[serde(with = "ledger_core::time::date")]
    pub since: NaiveDate,
    /// The last.
    #[serde(with = "ledger_core::time::date")]
    pub until: NaiveDate,
    /// Days at the end that the check was made on.
    pub holdout_days: i32,
    /// Members with a purchase by `until`.
    pub members: u64,
    /// Of what was booked by the end of this day; of all if none.
    #[serde(default, with = "ledger_core::time::date::optional", skip_serializing_if = "Option::is_none")]
    pub known_at: Option<NaiveDate>,
    /// Whether scores are made by it.
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

impl Fit {
    /// Whether it came to a model, so that it can be put in force.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.buying.is_some() && self.spend.is_some()
    }
}

/// Which model of buying to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that does better in the holdout.
    #[default]
    Best,
    /// BG/NBD.
    BgNbd,
    /// Pareto/NBD.
    ParetoNbd,
}

impl Choice {
    fn allows(self, model: &str) -> bool {
        match self {
            Self::Best => true,
            Self::BgNbd => model == "bg_nbd",
            Self::ParetoNbd => model == "pareto_nbd",
        }
    }
}

/// What is to be fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The last day of the data, and what was known of it.
    pub as_of: AsOf,
    /// How many days at the end the check is made on.
    pub holdout_days: i32,
    /// The model.
    pub model: Choice,
    /// Whether nothing is kept.
    pub is_dry_run: bool,
    /// Whether nobody asked: then it does not replace a fit that somebody chose.
    pub is_scheduled: bool,
}

impl Asked {
    /// By all that is known now of the days until `until`, to be kept.
    #[must_use]
    pub fn until(until: NaiveDate, holdout_days: i32) -> Self {
        Self { as_of: AsOf::day(until), holdout_days, model: Choice::Best, is_dry_run: false, is_scheduled: false }
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

/// Fits the models to the purchases of `program`, checks them on the last days, and keeps what came of it, unless it is a dry run.
///
/// # Errors
/// [`AnalysisError`]; a fit that is no good is kept with its reason, not an error.
pub async fn fit(client: &mut Client, program: &str, asked: &Asked, fitted_at: DateTime<Utc>) -> Result<Fit, AnalysisError> {
    let Asked { as_of, holdout_days, .. } = *asked;
    let until = as_of.day;
    if !(7..=3660).contains(&holdout_days) {
        return Err(AnalysisError::Invalid { field: "holdout_days", value: holdout_days.to_string(), expected: "7 to 3660".into() });
    }
    let (since, last) = span(client, program, as_of).await?.ok_or_else(|| AnalysisError::NoPurchases { program: program.into(), until })?;
    // Days on which nobody can have bought yet would look as if all members had left.
    if until > last {
        return Err(AnalysisError::Invalid { field: "until", value: until.to_string(), expected: format!("a day up to the last purchase, {last}") });
    }
    let cutoff = AsOf { day: plus_days(until, -holdout_days), ..as_of };
    let before = members(client, program, cutoff, until).await?;
    let all = members(client, program, as_of, until).await?;
    let mut fit = estimate(&before, &all, f64::from(holdout_days) / 7.0, asked.model);
    (fit.since, fit.until, fit.holdout_days, fit.known_at) = (since, until, holdout_days, as_of.known_at);
    if fit.in_force
        && let Some(reason) = held_back(client, program, asked).await?
    {
        fit.in_force = false;
        fit.why = format!("{reason}; {}", fit.why);
    }
    if !asked.is_dry_run {
        keep(client, program, &mut fit, fitted_at).await?;
    }
    Ok(fit)
}

/// Why a good fit does not replace the one in force.
async fn held_back(client: &Client, program: &str, asked: &Asked) -> Result<Option<String>, AnalysisError> {
    if let Some(day) = asked.as_of.known_at {
        return Ok(Some(format!("it looks back at what was known on {day}")));
    }
    let Some(current) = in_force(client, program).await? else { return Ok(None) };
    if current.until > asked.as_of.day {
        return Ok(Some(format!("it looks back: fit {}, which is in force, has data until {}", current.version, current.until)));
    }
    if !is_chosen(client, program).await? {
        return Ok(None);
    }
    if asked.is_scheduled {
        return Ok(Some(format!("fit {} was chosen by hand", current.version)));
    }
    // Who looks back does not mean to undo what somebody chose, though the day looked at be after the data of that.
    let looks_back = last_day(client, program, None).await?.is_some_and(|last| asked.as_of.day < last);
    Ok(looks_back.then(|| format!("it looks back, and fit {} was chosen by hand", current.version)))
}

fn estimate(before: &[Member], all: &[Member], weeks: f64, model: Choice) -> Fit {
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
        since: NaiveDate::default(),
        until: NaiveDate::default(),
        holdout_days: 0,
        known_at: None,
        members: all.len() as u64,
        in_force: false,
        why: String::new(),
        calibration_spend,
        calibrations,
        naive,
        buying: None,
        spend: None,
    };
    match choose(&fit, all, model) {
        Ok((buying, spend, why)) => (fit.in_force, fit.buying, fit.spend, fit.why) = (true, Some(buying), Some(spend), why),
        Err(why) => fit.why = why,
    }
    fit
}

/// The better model on all days, or why none is put in force.
fn choose(fit: &Fit, all: &[Member], model: Choice) -> Result<(BuyingFit, SpendFit, String), String> {
    let naive = fit.naive.rmse;
    let allowed = || fit.calibrations.iter().filter(|calibration| model.allows(&calibration.model));
    let checked = allowed().filter_map(|calibration| Some((calibration, calibration.holdout.as_ref()?)));
    let best = checked.min_by(|one, other| one.1.rmse.total_cmp(&other.1.rmse));
    let Some((best, holdout)) = best else {
        let whys: Vec<String> = allowed().filter_map(|calibration| calibration.failure.clone()).collect();
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
