//! Gamma-Gamma: what a member spends at a time is gamma around a mean of the member's own, which is gamma over members.
//!
//! Fader, Hardie, Lee (2005), RFM and CLV, Journal of Marketing Research 42(4). It takes spend and frequency to be independent.

use statrs::function::gamma::{digamma, ln_gamma};

use crate::likelihood::{Estimate, FitError, Model, Slope, sum_chunks};

const NAME: &str = "gamma_gamma";
const SPENDERS_MIN: u64 = 20;

/// How much somebody spent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spend {
    /// How many purchases (repeats, where the first is left out).
    pub purchases: u32,
    /// What they came to on average.
    pub mean: f64,
}

/// The parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GammaGamma {
    /// p, shape of a purchase.
    pub p: f64,
    /// q, shape over members.
    pub q: f64,
    /// γ, money.
    pub gamma: f64,
}

/// Fits p, q, γ to those who spent something.
///
/// # Errors
/// [`FitError`]
pub fn fit(spends: &[Spend]) -> Result<Estimate<3>, FitError> {
    let mut rows: Vec<(f64, f64)> =
        spends.iter().filter(|spend| spend.purchases > 0 && spend.mean > 0.0).map(|spend| (f64::from(spend.purchases), spend.mean)).collect();
    let found = rows.len() as u64;
    if found < SPENDERS_MIN {
        return Err(FitError::TooFew { model: NAME, what: "members spent something again", found, least: SPENDERS_MIN });
    }
    rows.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    #[allow(clippy::cast_precision_loss)]
    let members = rows.len() as f64;
    let mean = rows.iter().map(|row| row.1).sum::<f64>() / members;
    let likelihood = |values: &[f64; 3]| sum_chunks(&rows, |rows| slope(values, rows));
    let starts = vec![[2.0, 3.0, mean], [6.0, 4.0, mean / 2.0], [1.0, 2.0, mean]];
    Model { name: NAME, parameters: ["p", "q", "gamma"], starts, members, likelihood }.fit()
}

fn slope(&[p, q, gamma]: &[f64; 3], rows: &[(f64, f64)]) -> Slope<3> {
    let mut sum = Slope::ZERO;
    let (ln_gamma_q, digamma_q, ln_scale) = (ln_gamma(q), digamma(q), gamma.ln());
    let (mut last, mut ln_ratio, mut both, mut own) = (f64::NAN, 0.0, 0.0, 0.0);
    for &(x, mean) in rows {
        let px = p * x;
        // Rows with as many purchases stand together.
        if x.to_bits() != last.to_bits() {
            (last, ln_ratio) = (x, ln_gamma(px + q) - ln_gamma(px) - ln_gamma_q);
            (both, own) = (digamma(px + q), digamma(px));
        }
        let (scale, ln_spend) = ((gamma + x * mean).ln(), mean.ln() + x.ln());
        let one = Slope {
            value: ln_ratio + q * ln_scale + px * ln_spend - mean.ln() - (px + q) * scale,
            gradient: [x * (both - own + ln_spend - scale), both - digamma_q + ln_scale - scale, q / gamma - (px + q) / (gamma + x * mean)],
        };
        sum.add(&one, 1.0);
    }
    sum
}

impl From<[f64; 3]> for GammaGamma {
    fn from([p, q, gamma]: [f64; 3]) -> Self {
        Self { p, q, gamma }
    }
}

impl GammaGamma {
    /// What a member will spend at a time, on average; who has not bought again is taken for an average member. A purchase that was free counts as
    /// one of nothing, though the fit leaves such members out.
    #[must_use]
    pub fn mean_spend(&self, spend: Spend) -> f64 {
        let x = f64::from(spend.purchases);
        self.p * (self.gamma + x * spend.mean) / (self.p * x + self.q - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_bought_again_for_nothing_is_expected_to_spend_little() {
        // Given the fit to CDNOW's sample.
        let money = GammaGamma { p: 6.249_572, q: 3.744_225, gamma: 15.443_523 };
        let near = |got: f64, wanted: f64| assert!((got - wanted).abs() < 1e-3, "{got} is not {wanted}");
        // Then who has not bought again is taken for an average member, p γ / (q − 1), and a free purchase counts: p γ / (p + q − 1).
        near(money.mean_spend(Spend { purchases: 0, mean: 0.0 }), 35.1704);
        near(money.mean_spend(Spend { purchases: 1, mean: 0.0 }), 10.7313);
        near(money.mean_spend(Spend { purchases: 2, mean: 22.345 }), 24.6539);
    }
}
