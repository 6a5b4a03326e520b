//! Logistic regression with a ridge, by L-BFGS: the probability of something by features.

use argmin::core::{CostFunction, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

use crate::FitError;

const NAME: &str = "logistic";
/// The weight of the ridge, in rows.
const RIDGE: f64 = 1.0;
/// The fewest rows of either kind.
const EITHER_MIN: u64 = 30;

/// A fitted model: features are standardised by what they were when it was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Logistic {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// The first is the constant.
    weights: Vec<f64>,
}

struct Problem<'a> {
    rows: &'a [Vec<f64>],
    outcomes: &'a [bool],
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

fn line(weights: &[f64], row: &[f64]) -> f64 {
    weights[0] + weights[1..].iter().zip(row).map(|(weight, value)| weight * value).sum::<f64>()
}

impl CostFunction for Problem<'_> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, weights: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        let loss = |(row, outcome): (&Vec<f64>, &bool)| {
            let z = if *outcome { -line(weights, row) } else { line(weights, row) };
            // ln(1 + e^z) without overflow.
            z.max(0.0) + (-z.abs()).exp().ln_1p()
        };
        let ridge: f64 = weights[1..].iter().map(|weight| weight * weight).sum();
        Ok(self.rows.iter().zip(self.outcomes).map(loss).sum::<f64>() + RIDGE / 2.0 * ridge)
    }
}

impl Gradient for Problem<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, weights: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        let mut gradient: Vec<f64> = weights.iter().map(|weight| RIDGE * weight).collect();
        gradient[0] = 0.0;
        for (row, outcome) in self.rows.iter().zip(self.outcomes) {
            let error = sigmoid(line(weights, row)) - f64::from(u8::from(*outcome));
            gradient[0] += error;
            gradient[1..].iter_mut().zip(row).for_each(|(slope, value)| *slope += error * value);
        }
        Ok(gradient)
    }
}

/// Fits the probability of `outcomes` by the features in `rows`, which are all of one length.
///
/// # Errors
/// [`FitError`] where there are too few of either kind, or no minimum is found.
pub fn fit(rows: &[Vec<f64>], outcomes: &[bool]) -> Result<Logistic, FitError> {
    let did = outcomes.iter().filter(|outcome| **outcome).count() as u64;
    let found = did.min(rows.len() as u64 - did);
    if found < EITHER_MIN {
        return Err(FitError::TooFew { model: NAME, what: "outcomes of the rarer kind", found, least: EITHER_MIN });
    }
    let width = rows.first().map_or(0, Vec::len);
    #[allow(clippy::cast_precision_loss)]
    let count = rows.len() as f64;
    let means: Vec<f64> = (0..width).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / count).collect();
    let deviation = |i: usize| (rows.iter().map(|row| (row[i] - means[i]).powi(2)).sum::<f64>() / count).sqrt();
    // A feature that never varies says nothing.
    let deviations: Vec<f64> = (0..width).map(deviation).map(|deviation| if deviation > 0.0 { deviation } else { 1.0 }).collect();
    let mut model = Logistic { means, deviations, weights: vec![0.0; width + 1] };
    let standard: Vec<Vec<f64>> = rows.iter().map(|row| model.standardise(row)).collect();
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 8);
    let begin = model.weights.clone();
    let run = Executor::new(Problem { rows: &standard, outcomes }, solver).configure(|state| state.param(begin).max_iters(200)).run();
    let not_converged = |why: String| FitError::NotConverged { model: NAME, why };
    let run = run.map_err(|error| not_converged(error.to_string()))?;
    model.weights = run.state().get_best_param().cloned().ok_or_else(|| not_converged("no step succeeded".into()))?;
    Ok(model)
}

impl Logistic {
    fn standardise(&self, row: &[f64]) -> Vec<f64> {
        row.iter().zip(&self.means).zip(&self.deviations).map(|((value, mean), deviation)| (value - mean) / deviation).collect()
    }

    /// The probability for these features.
    #[must_use]
    pub fn probability(&self, row: &[f64]) -> f64 {
        sigmoid(line(&self.weights, &self.standardise(row)))
    }
}

/// The area under the ROC curve: how often one to whom it happened scores above one to whom it did not; ties count half. Mann, Whitney (1947).
#[must_use]
pub fn auc(scores: &[f64], outcomes: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|one, other| scores[*one].total_cmp(&scores[*other]));
    let (mut rank_sum, mut did, mut begin) = (0.0, 0.0, 0);
    while begin < order.len() {
        let mut end = begin + 1;
        while end < order.len() && scores[order[end]].total_cmp(&scores[order[begin]]).is_eq() {
            end += 1;
        }
        #[allow(clippy::cast_precision_loss)]
        let rank = (begin + 1 + end) as f64 / 2.0;
        for place in &order[begin..end] {
            if outcomes[*place] {
                rank_sum += rank;
                did += 1.0;
            }
        }
        begin = end;
    }
    #[allow(clippy::cast_precision_loss)]
    let did_not = scores.len() as f64 - did;
    (did > 0.0 && did_not > 0.0).then(|| (rank_sum - did * (did + 1.0) / 2.0) / (did * did_not))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found_again() {
        let rows: Vec<Vec<f64>> = (0..400).map(|i| vec![f64::from(i % 20), f64::from(i % 7)]).collect();
        // The odds rise with the first feature alone: 0 to 19 of 20 by its value.
        let outcomes: Vec<bool> = (0..400).map(|i| (i / 20) < (i % 20)).collect();
        let model = fit(&rows, &outcomes).unwrap();
        assert!(model.probability(&[18.0, 3.0]) > 0.8 && model.probability(&[1.0, 3.0]) < 0.2);
        assert!((model.probability(&[10.0, 0.0]) - model.probability(&[10.0, 6.0])).abs() < 0.15);
        let mean = rows.iter().map(|row| model.probability(row)).sum::<f64>() / 400.0;
        let did = outcomes.iter().filter(|outcome| **outcome).count();
        assert!((mean * 400.0 - f64::from(u32::try_from(did).unwrap())).abs() < 1.0, "a fit's mean is the data's");
    }

    #[test]
    fn auc_counts_pairs() {
        assert_eq!(auc(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]), Some(1.0));
        assert_eq!(auc(&[1.0, 1.0], &[false, true]), Some(0.5));
        assert_eq!(auc(&[4.0, 2.0, 3.0], &[false, true, true]), Some(0.0));
        assert_eq!(auc(&[1.0], &[true]), None);
    }

    #[test]
    fn too_few_are_refused() {
        assert!(matches!(fit(&[vec![1.0]], &[true]), Err(FitError::TooFew { found: 0, .. })));
    }
}
