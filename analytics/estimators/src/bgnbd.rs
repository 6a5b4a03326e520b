//! BG/NBD: purchases while alive are Poisson, rates gamma(r, α); after each purchase a member leaves with a probability that is beta(a, b).
//!
//! Fader, Hardie, Lee (2005), "Counting your customers" the easy way, Marketing Science 24(2).

use statrs::function::gamma::{digamma, ln_gamma};

use crate::history::{Histories, History};
use crate::likelihood::{Estimate, FitError, Model, Slope, sum_chunks};

const NAME: &str = "bg_nbd";

/// The parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BgNbd {
    /// r, shape of the rates.
    pub r: f64,
    /// α, weeks.
    pub alpha: f64,
    /// a, of leaving.
    pub a: f64,
    /// b, of staying.
    pub b: f64,
}

/// Fits r, α, a, b.
///
/// # Errors
/// [`FitError`]
pub fn fit(histories: &Histories) -> Result<Estimate<4>, FitError> {
    let members = histories.enough(NAME)?;
    let likelihood = |values: &[f64; 4]| sum_chunks(&histories.rows, |rows| slope(values, rows));
    Model {
        name: NAME,
        parameters: ["r", "alpha", "a", "b"],
        starts: vec![[0.5, 5.0, 1.0, 2.0], [1.0, 20.0, 0.5, 5.0], [0.2, 1.0, 0.2, 1.0]],
        members,
        likelihood,
    }
    .fit()
}

fn slope(&[r, alpha, a, b]: &[f64; 4], rows: &[(History, f64)]) -> Slope<4> {
    let mut sum = Slope::ZERO;
    let (ln_alpha, mut of_repeats, mut repeats) = (alpha.ln(), Slope::<4>::ZERO, u32::MAX);
    for (history, weight) in rows {
        let x = history.x();
        if history.repeats != repeats {
            repeats = history.repeats;
            let (stay, both) = (digamma(a + b), digamma(a + b + x));
            of_repeats.value = ln_gamma(r + x) - ln_gamma(r) + ln_gamma(a + b) + ln_gamma(b + x) - ln_gamma(b) - ln_gamma(a + b + x);
            of_repeats.gradient = [digamma(r + x) - digamma(r), 0.0, stay - both, stay + digamma(b + x) - digamma(b) - both];
        }
        let ln_age = (alpha + history.age()).ln();
        let alive = -(r + x) * ln_age;
        let mut one = of_repeats;
        one.gradient[0] += ln_alpha;
        one.gradient[1] = r / alpha;
        one.value += r * ln_alpha;
        if repeats == 0 {
            one.value += alive;
            one.gradient[0] -= ln_age;
            one.gradient[1] -= r / (alpha + history.age());
        } else {
            let ln_recency = (alpha + history.recency()).ln();
            let left = a.ln() - (b + x - 1.0).ln() - (r + x) * ln_recency;
            let most = alive.max(left);
            let total = most + ((alive - most).exp() + (left - most).exp()).ln();
            let (stays, leaves) = ((alive - total).exp(), (left - total).exp());
            one.value += total;
            one.gradient[0] -= stays * ln_age + leaves * ln_recency;
            one.gradient[1] -= (r + x) * (stays / (alpha + history.age()) + leaves / (alpha + history.recency()));
            one.gradient[2] += leaves / a;
            one.gradient[3] -= leaves / (b + x - 1.0);
        }
        sum.add(&one, *weight);
    }
    sum
}

impl From<[f64; 4]> for BgNbd {
    fn from([r, alpha, a, b]: [f64; 4]) -> Self {
        Self { r, alpha, a, b }
    }
}

impl BgNbd {
    /// The probability that the member still buys. One who bought once is certain to, by this model: nobody leaves before a second purchase.
    #[must_use]
    pub fn alive(&self, history: History) -> f64 {
        if history.repeats == 0 {
            return 1.0;
        }
        let x = history.x();
        let odds = (self.a / (self.b + x - 1.0)).ln() + (self.r + x) * ((self.alpha + history.age()) / (self.alpha + history.recency())).ln();
        1.0 / (1.0 + odds.exp())
    }

    /// How many purchases to expect in the next `weeks`.
    #[must_use]
    pub fn expected(&self, history: History, weeks: f64) -> f64 {
        let [expected] = self.expected_each(history, &[weeks]);
        expected
    }

    /// How many purchases to expect in the next `weeks`, for each of them.
    #[must_use]
    pub fn expected_each<const N: usize>(&self, history: History, weeks: &[f64; N]) -> [f64; N] {
        let (x, age) = (history.x(), self.alpha + history.age());
        // At a = 1 the form below is 0 / 0; its limit is as near as this.
        let a = if (self.a - 1.0).abs() < 1e-7 { 1.0 + 1e-7 } else { self.a };
        let z = weeks.map(|weeks| weeks / (age + weeks));
        // By Euler's transformation of 2F1(r + x, b + x; a + b + x - 1; z): its series is short for any x.
        let series = hypergeometric(a + self.b - 1.0 - self.r, a - 1.0, a + self.b + x - 1.0, &z);
        let most = (a + self.b + x - 1.0) / (a - 1.0) * self.alive(history);
        std::array::from_fn(|i| most * (1.0 - ((a - 1.0) * (1.0 - z[i]).ln()).exp() * series[i]))
    }
}

/// Gauss' 2F1 by its series at each of `z`, 0 ≤ z < 1: they share its coefficients, each of which costs a division.
fn hypergeometric<const N: usize>(a: f64, b: f64, c: f64, z: &[f64; N]) -> [f64; N] {
    // It converges slowest at the largest.
    let slowest = (0..N).max_by(|one, other| z[*one].total_cmp(&z[*other])).unwrap_or(0);
    let (mut sums, mut powers, mut coefficient, mut n) = ([1.0; N], [1.0; N], 1.0, 0.0);
    while n < 10_000.0 {
        coefficient *= (a + n) * (b + n) / ((c + n) * (n + 1.0));
        for i in 0..N {
            powers[i] *= z[i];
            sums[i] += coefficient * powers[i];
        }
        if f64::abs(coefficient * powers[slowest]) < 1e-15 * f64::abs(sums[slowest]) {
            break;
        }
        n += 1.0;
    }
    sums
}
