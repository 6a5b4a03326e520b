//! How good the warnings are: month ends looked at as they were then, half of the members to learn from, the other half to be measured on,
//! beside plain recency and the trend of 28 days.

use chrono::NaiveDate;
use estimators::logistic::auc;
use ledger_core::time::{last_of_month, plus_days};
use serde::Serialize;
use tokio_postgres::Client;

use super::WINDOW_DAYS;
use super::features::{FALLEN, features, followed};
use super::members::{Member, load, number};
use super::model::Models;
use crate::AnalysisError;
use crate::clv::AsOf;

/// How well a score ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// `model`, `recency` or `trend28`.
    pub score: &'static str,
    /// `falls` (spend below half, of those whose spend had not fallen yet) or `leaves` (buys nothing).
    pub target: &'static str,
    /// Area under the ROC curve.
    pub auc: f64,
    /// Of the tenth that was warned of first, the share to whom it happened.
    pub top_tenth_precision: f64,
    /// Of all, the share to whom it happened.
    pub base_rate: f64,
    /// Of those rightly warned of in the first tenth: the median of days from the warning until they had been silent for the window.
    pub lead_days_median: f64,
    /// The same days summed, by warning given in the first tenth, right or wrong: what a warning is worth, as one score may be right seldom but early.
    pub lead_days_per_warning: f64,
}

/// A back-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backtest {
    /// The month ends.
    pub days: Vec<NaiveDate>,
    /// Members measured, each month end for itself.
    pub measured_on: usize,
    /// Three scores, two targets.
    pub measures: Vec<Measured>,
}

struct Row {
    scores: [(f64, f64); 3],
    outcome: (bool, bool),
    /// Who has fallen can't be warned of it.
    has_fallen: bool,
    lead_days: f64,
}

/// Month ends from `from` on of which the window after is known by `until`.
///
/// # Errors
/// [`AnalysisError`]; [`AnalysisError::Invalid`] where no month end has enough before and after it.
pub async fn backtest(client: &Client, program: &str, from: NaiveDate, until: NaiveDate) -> Result<Backtest, AnalysisError> {
    let members = load(client, program, AsOf::day(until)).await?;
    let (learn_from, measure_on): (Vec<&Member>, Vec<&Member>) = members.iter().partition(|member| member.half());
    let last = plus_days(until, -WINDOW_DAYS);
    let ends = std::iter::successors(Some(last_of_month(from)), |end| Some(last_of_month(plus_days(*end, 1))));
    let (mut days, mut rows) = (Vec::new(), Vec::new());
    for end in ends.take_while(|end| *end <= last) {
        let day = number(end);
        // By what was known then; what came back later is not.
        let Ok(models) = Models::unchecked(&learn_from, day) else { continue };
        days.push(end);
        for member in &measure_on {
            let Some(features) = features(&member.at(day), day).filter(|features| !features.is_silent()) else { continue };
            let recency = f64::from(features.recency_days);
            rows.push(Row {
                scores: [models.probabilities(&features), (recency, recency), (-features.trend28, -features.trend28)],
                outcome: followed(member, &features, day),
                has_fallen: features.is_below(FALLEN),
                lead_days: f64::from(WINDOW_DAYS - features.recency_days),
            });
        }
    }
    if rows.is_empty() {
        let expected = format!("a month with {} days of purchases before its end and {WINDOW_DAYS} after", 2 * WINDOW_DAYS);
        return Err(AnalysisError::Invalid { field: "from", value: from.to_string(), expected });
    }
    let mut measures = Vec::new();
    for (i, score) in ["model", "recency", "trend28"].into_iter().enumerate() {
        let not_fallen: Vec<&Row> = rows.iter().filter(|row| !row.has_fallen).collect();
        measures.push(measure(score, "falls", &not_fallen, |row| (row.scores[i].0, row.outcome.0)));
        measures.push(measure(score, "leaves", &rows.iter().collect::<Vec<_>>(), |row| (row.scores[i].1, row.outcome.1)));
    }
    Ok(Backtest { days, measured_on: rows.len(), measures })
}

#[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
fn measure(score: &'static str, target: &'static str, rows: &[&Row], of: impl Fn(&Row) -> (f64, bool)) -> Measured {
    let (scores, outcomes): (Vec<f64>, Vec<bool>) = rows.iter().map(|row| of(row)).unzip();
    let mut ranked: Vec<&Row> = rows.to_vec();
    ranked.sort_by(|one, other| of(other).0.total_cmp(&of(one).0));
    let top = &ranked[..rows.len().div_ceil(10)];
    let right: Vec<&&Row> = top.iter().filter(|row| of(row).1).collect();
    let leads: Vec<f64> = right.iter().map(|row| row.lead_days).collect();
    Measured {
        score,
        target,
        auc: auc(&scores, &outcomes).unwrap_or(f64::NAN),
        top_tenth_precision: right.len() as f64 / top.len() as f64,
        base_rate: outcomes.iter().filter(|outcome| **outcome).count() as f64 / rows.len() as f64,
        lead_days_median: estimators::robust::median(&leads).unwrap_or(f64::NAN),
        lead_days_per_warning: leads.iter().sum::<f64>() / top.len() as f64,
    }
}
