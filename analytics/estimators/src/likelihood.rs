//! Maximum likelihood of models whose parameters are all positive: L-BFGS over their logarithms, with exact gradients.

use std::cell::RefCell;

use argmin::core::{CostFunction, Executor, Gradient, State, TerminationReason, TerminationStatus};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;
use nalgebra::DMatrix;
use rayon::prelude::*;

/// Beyond these a parameter has run away.
const PARAMETER_MIN: f64 = 1e-6;
const PARAMETER_MAX: f64 = 1e5;
const ITERATIONS_MAX: u64 = 300;
/// Of the mean log-likelihood, by the logarithm of a parameter.
const GRADIENT_MAX: f64 = 1e-5;
/// Rows a unit of parallel work; sums are made in its order, so that they don't depend on the number of cores.
const CHUNK: usize = 2048;

/// What was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate<const N: usize> {
    /// The parameters, in the order in which the model names them.
    pub values: [f64; N],
    /// Their standard errors, from the observed information.
    pub standard_errors: [f64; N],
    /// The log-likelihood at its maximum.
    pub log_likelihood: f64,
    /// How many steps it took.
    pub iterations: u64,
}

/// Why there is no fit to go by.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Too few data.
    #[error("{model}: {found} {what}, at least {least} are needed")]
    TooFew {
        /// The model.
        model: &'static str,
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many it takes.
        least: u64,
    },
    /// A parameter runs to an end of its range: the data don't fix it.
    #[error("{model}: {parameter} runs to {value:.3e}; the data don't determine it")]
    Degenerate {
        /// The model.
        model: &'static str,
        /// Which parameter.
        parameter: &'static str,
        /// Where it stood.
        value: f64,
    },
    /// No maximum was found.
    #[error("{model}: no maximum found ({why})")]
    NotConverged {
        /// The model.
        model: &'static str,
        /// How the search ended.
        why: String,
    },
}

/// The log-likelihood and its gradient, summed over rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slope<const N: usize> {
    pub(crate) value: f64,
    pub(crate) gradient: [f64; N],
}

impl<const N: usize> Slope<N> {
    pub(crate) const ZERO: Self = Self { value: 0.0, gradient: [0.0; N] };

    pub(crate) fn add(&mut self, other: &Self, weight: f64) {
        self.value += weight * other.value;
        self.gradient.iter_mut().zip(other.gradient).for_each(|(sum, part)| *sum += weight * part);
    }
}

/// The sum of `part` over the chunks of `rows`, in their order.
pub(crate) fn sum_chunks<T: Sync, const N: usize>(rows: &[T], part: impl Fn(&[T]) -> Slope<N> + Sync + Send) -> Slope<N> {
    let parts: Vec<Slope<N>> = rows.par_chunks(CHUNK).map(part).collect();
    let mut sum = Slope::ZERO;
    parts.iter().for_each(|part| sum.add(part, 1.0));
    sum
}

/// A model to fit: its name, its parameters' names, where to begin, and the likelihood.
pub(crate) struct Model<const N: usize, F> {
    pub(crate) name: &'static str,
    pub(crate) parameters: [&'static str; N],
    pub(crate) starts: Vec<[f64; N]>,
    /// Members, to scale the cost by.
    pub(crate) members: f64,
    pub(crate) likelihood: F,
}

impl<const N: usize, F: Fn(&[f64; N]) -> Slope<N>> Model<N, F> {
    /// Fits from the starts in turn until one leads to a maximum.
    ///
    /// # Errors
    /// [`FitError`], that of the last start.
    pub(crate) fn fit(&self) -> Result<Estimate<N>, FitError> {
        let mut outcome = Err(FitError::NotConverged { model: self.name, why: "no start".into() });
        for start in &self.starts {
            outcome = self.fit_from(start);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn fit_from(&self, start: &[f64; N]) -> Result<Estimate<N>, FitError> {
        let problem = Problem { model: self, last: RefCell::new(None) };
        let begin: Vec<f64> = start.iter().map(|value| value.ln()).collect();
        let not_converged = |why: String| FitError::NotConverged { model: self.name, why };
        let solver = LBFGS::new(MoreThuenteLineSearch::new(), 8);
        let solver = solver.with_tolerance_cost(1e-14).map_err(|error| not_converged(error.to_string()))?;
        let run = Executor::new(problem, solver).configure(|state| state.param(begin).max_iters(ITERATIONS_MAX)).run();
        let run = run.map_err(|error| not_converged(error.to_string()))?;
        let best = run.state().get_best_param().ok_or_else(|| not_converged("no step succeeded".into()))?;
        let values = exponentials(best);
        for (value, parameter) in values.into_iter().zip(self.parameters) {
            if !(PARAMETER_MIN..=PARAMETER_MAX).contains(&value) {
                return Err(FitError::Degenerate { model: self.name, parameter, value });
            }
        }
        if let TerminationStatus::Terminated(TerminationReason::MaxItersReached) = run.state().get_termination_status() {
            return Err(not_converged(format!("{ITERATIONS_MAX} steps were not enough")));
        }
        let slope = (self.likelihood)(&values);
        let steepest = slope.gradient.iter().zip(values).map(|(slope, value)| (slope * value / self.members).abs()).fold(0.0, f64::max);
        if !slope.value.is_finite() || steepest.is_nan() || steepest > GRADIENT_MAX {
            return Err(not_converged(format!("it stopped where the slope is {steepest:.1e}")));
        }
        let standard_errors = self.standard_errors(&values)?;
        Ok(Estimate { values, standard_errors, log_likelihood: slope.value, iterations: run.state().get_iter() })
    }

    /// From the curvature in the logarithms; `se(p) = p se(ln p)`.
    fn standard_errors(&self, values: &[f64; N]) -> Result<[f64; N], FitError> {
        const STEP: f64 = 1e-4;
        let gradient_at = |j: usize, step: f64| {
            let mut moved = *values;
            moved[j] *= step.exp();
            let slope = (self.likelihood)(&moved);
            std::array::from_fn::<f64, N, _>(|i| slope.gradient[i] * moved[i])
        };
        let mut information = DMatrix::<f64>::zeros(N, N);
        for j in 0..N {
            let (up, down) = (gradient_at(j, STEP), gradient_at(j, -STEP));
            for i in 0..N {
                information[(i, j)] = -(up[i] - down[i]) / (2.0 * STEP);
            }
        }
        let symmetric = (&information + information.transpose()) * 0.5;
        // No inverse, or none that is positive: the likelihood is flat there.
        let flat = FitError::Degenerate { model: self.name, parameter: self.parameters[0], value: values[0] };
        let Some(inverse) = symmetric.cholesky().map(|cholesky| cholesky.inverse()) else { return Err(flat) };
        Ok(std::array::from_fn(|i| values[i] * inverse[(i, i)].sqrt()))
    }
}

fn exponentials<const N: usize>(logarithms: &[f64]) -> [f64; N] {
    std::array::from_fn(|i| logarithms.get(i).copied().unwrap_or(f64::NAN).exp())
}

struct Problem<'a, const N: usize, F> {
    model: &'a Model<N, F>,
    /// Cost and gradient are asked for one after the other, at the same place.
    last: RefCell<Option<Asked>>,
}

/// Where, the cost there, and its gradient.
type Asked = (Vec<f64>, f64, Vec<f64>);

impl<const N: usize, F: Fn(&[f64; N]) -> Slope<N>> Problem<'_, N, F> {
    fn at(&self, logarithms: &[f64]) -> (f64, Vec<f64>) {
        if let Some((place, cost, gradient)) = &*self.last.borrow()
            && place == logarithms
        {
            return (*cost, gradient.clone());
        }
        let values = exponentials(logarithms);
        let slope = (self.model.likelihood)(&values);
        let cost = if slope.value.is_finite() { -slope.value / self.model.members } else { f64::MAX };
        let gradient: Vec<f64> = slope.gradient.iter().zip(values).map(|(slope, value)| -slope * value / self.model.members).collect();
        *self.last.borrow_mut() = Some((logarithms.to_vec(), cost, gradient.clone()));
        (cost, gradient)
    }
}

impl<const N: usize, F: Fn(&[f64; N]) -> Slope<N>> CostFunction for Problem<'_, N, F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, logarithms: &Vec<f64>) -> Result<f64, argmin::core::Error> {
        Ok(self.at(logarithms).0)
    }
}

impl<const N: usize, F: Fn(&[f64; N]) -> Slope<N>> Gradient for Problem<'_, N, F> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, logarithms: &Vec<f64>) -> Result<Vec<f64>, argmin::core::Error> {
        Ok(self.at(logarithms).1)
    }
}
