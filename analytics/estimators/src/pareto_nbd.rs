//! Pareto/NBD: purchases while alive are Poisson, rates gamma(r, α); lifetimes are exponential, rates gamma(s, β).
//!
//! Schmittlein, Morrison, Colombo (1987), Management Science 33(1). The likelihood of one history is
//! `Γ(r+x)/Γ(r) α^r β^s [ (α+T)^-(r+x) (β+T)^-s + s ∫ (α+y)^-(r+x) (β+y)^-(s+1) dy ]`, y from `t_x` to T: alive now, or gone at y. The usual
//! closed form of the integral overflows for a few dozen purchases; Gauss-Legendre over ln(α + y), where the integrand is all but an
//! exponential, gives it to twelve digits, and its derivatives with the same nodes.

use std::num::NonZeroUsize;
use std::sync::LazyLock;

use gauss_quad::GaussLegendre;
use statrs::function::gamma::{digamma, ln_gamma};

use crate::history::{Histories, History};
use crate::likelihood::{Estimate, FitError, Model, Slope, sum_chunks};

const NAME: &str = "pareto_nbd";
const NODES: usize = 16;

/// Nodes and the logarithms of their weights, on -1 to 1.
static RULE: LazyLock<[(f64, f64); NODES]> = LazyLock::new(|| {
    let rule = GaussLegendre::new(NonZeroUsize::new(NODES).expect("it is not 0"));
    let pairs = rule.as_node_weight_pairs();
    std::array::from_fn(|i| (pairs[i].0, pairs[i].1.ln()))
});

/// The parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ParetoNbd {
    /// r, shape of the rates.
    pub r: f64,
    /// α, weeks.
    pub alpha: f64,
    /// s, shape of the lifetimes.
    pub s: f64,
    /// β, weeks.
    pub beta: f64,
}

/// Fits r, α, s, β.
///
/// # Errors
/// [`FitError`]
pub fn fit(histories: &Histories) -> Result<Estimate<4>, FitError> {
    let members = histories.enough(NAME)?;
    let likelihood = |values: &[f64; 4]| {
        let model = ParetoNbd::from(*values);
        sum_chunks(&histories.rows, |rows| model.slope(rows))
    };
    let starts = vec![[0.5, 10.0, 0.5, 10.0], [1.0, 20.0, 1.0, 50.0], [0.3, 3.0, 0.3, 3.0]];
    Model { name: NAME, parameters: ["r", "alpha", "s", "beta"], starts, members, likelihood }.fit()
}

impl From<[f64; 4]> for ParetoNbd {
    fn from([r, alpha, s, beta]: [f64; 4]) -> Self {
        Self { r, alpha, s, beta }
    }
}

impl ParetoNbd {
    fn slope(&self, rows: &[(History, f64)]) -> Slope<4> {
        let mut sum = Slope::ZERO;
        let (mut repeats, mut ln_rising, mut rising) = (u32::MAX, 0.0, 0.0);
        for (history, weight) in rows {
            if history.repeats != repeats {
                repeats = history.repeats;
                ln_rising = ln_gamma(self.r + history.x()) - ln_gamma(self.r);
                rising = digamma(self.r + history.x()) - digamma(self.r);
            }
            let mut one = self.fate(*history).1;
            one.value += ln_rising + self.r * self.alpha.ln() + self.s * self.beta.ln();
            one.gradient[0] += rising + self.alpha.ln();
            one.gradient[1] += self.r / self.alpha;
            one.gradient[2] += self.beta.ln();
            one.gradient[3] += self.s / self.beta;
            sum.add(&one, *weight);
        }
        sum
    }

    /// The probability of being alive, and the logarithm of the bracket with its gradient.
    fn fate(&self, history: History) -> (f64, Slope<4>) {
        let &Self { r, alpha, s, beta } = self;
        let (rx, age) = (r + history.x(), history.age());
        let (from, to) = ((alpha + history.recency()).ln(), (alpha + age).ln());
        let (ln_age, ln_end) = (to, (beta + age).ln());
        // Everything relative to being alive now, so that nothing overflows.
        let alive = -rx * ln_age - s * ln_end;
        let decay = (rx - 1.0) * (to - from) + (s + 1.0) * (ln_end - (beta + history.recency()).ln());
        let panels = (1.0 + (decay / 24.0).max((to - from) / 2.0)).floor().min(64.0);
        let half = (to - from) / panels / 2.0;
        let (ln_scale, mut most) = ((s * half).ln(), 0.0_f64);
        let mut sums = [0.0_f64; 5];
        let mut panel = 0.0;
        while panel < panels && to > from {
            let middle = from + half * (2.0 * panel + 1.0);
            for (node, ln_weight) in &*RULE {
                let u = middle + half * node;
                let risen = u.exp();
                let end = beta + (risen - alpha);
                let ln_end = end.ln();
                let term = ln_scale + ln_weight - (rx - 1.0) * u - (s + 1.0) * ln_end - alive;
                if term > most {
                    sums.iter_mut().for_each(|sum| *sum *= (most - term).exp());
                    most = term;
                }
                let part = (term - most).exp();
                sums[0] += part;
                sums[1] += part * u;
                sums[2] += part / risen;
                sums[3] += part * ln_end;
                sums[4] += part / end;
            }
            panel += 1.0;
        }
        let stays = (-most).exp();
        let total = stays + sums[0];
        let (p, q) = (stays / total, |i: usize| sums[i] / total);
        let gradient = [-p * ln_age - q(1), -rx * (p / (alpha + age) + q(2)), q(0) / s - p * ln_end - q(3), -s * p / (beta + age) - (s + 1.0) * q(4)];
        (p, Slope { value: alive + most + total.ln(), gradient })
    }

    /// The probability that the member still buys.
    #[must_use]
    pub fn alive(&self, history: History) -> f64 {
        self.fate(history).0
    }

    /// How many purchases to expect in the next `weeks`.
    #[must_use]
    pub fn expected(&self, history: History, weeks: f64) -> f64 {
        let (age, end) = (self.alpha + history.age(), self.beta + history.age());
        let s = self.s - 1.0;
        let exponent = s * (end / (end + weeks)).ln();
        // (1 - e^v) / s, which at s = 0 is its limit.
        let time = if s.abs() < 1e-9 { (1.0 + weeks / end).ln() } else { -exponent.exp_m1() / s };
        self.alive(history) * (self.r + history.x()) * end / age * time
    }
}
