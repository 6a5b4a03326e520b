//! Members made by a model with known parameters: the fit finds them again, and what can't be fitted says so.
#![allow(clippy::unwrap_used, clippy::float_arithmetic, clippy::cast_possible_truncation, clippy::cast_sign_loss, missing_docs)]

use estimators::gamma_gamma::Spend;
use estimators::{Estimate, FitError, Histories, History, bgnbd, gamma_gamma, pareto_nbd};
use statrs::distribution::{Beta, ContinuousCDF, Exp, Gamma};

/// Uniform numbers from a seed (Steele, Lea, Flood 2014, SplitMix64).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()).mul_add(1.0 / 4_294_967_296.0, 1e-10)
    }

    fn from(&mut self, distribution: &impl ContinuousCDF<f64, f64>) -> f64 {
        distribution.inverse_cdf(self.uniform())
    }
}

const AGE_DAYS: u32 = 364;

/// Purchases at `rate` by week until `ends`, given the day and how often the member bought again, says so.
fn history(draws: &mut Draws, rate: f64, mut ends: impl FnMut(&mut Draws, f64, usize) -> bool) -> History {
    let (mut day, mut days) = (0.0, vec![0]);
    let gap = Exp::new(rate.max(1e-9)).unwrap();
    loop {
        day += 7.0 * draws.from(&gap);
        if day >= f64::from(AGE_DAYS) || ends(draws, day, days.len() - 1) {
            break;
        }
        days.push(day as u32);
    }
    days.dedup();
    History { repeats: u32::try_from(days.len() - 1).unwrap(), recency_days: *days.last().unwrap(), age_days: AGE_DAYS }
}

fn assert_found<const N: usize>(fit: &Estimate<N>, truth: [f64; N]) {
    for ((value, error), truth) in fit.values.iter().zip(fit.standard_errors).zip(truth) {
        assert!((value - truth).abs() < 4.0 * error, "{value} ± {error} is not {truth}: {fit:?}");
    }
}

#[test]
fn pareto_nbd_is_found_again() {
    let truth = [0.6, 10.0, 0.8, 20.0];
    let (mut draws, rates, ends) = (Draws(1), Gamma::new(0.6, 10.0).unwrap(), Gamma::new(0.8, 20.0).unwrap());
    let histories: Histories = (0..6000)
        .map(|_| {
            let rate = draws.from(&rates);
            let leaving = Exp::new(draws.from(&ends).max(1e-9)).unwrap();
            let end = 7.0 * draws.from(&leaving);
            history(&mut draws, rate, |_, day, _| day >= end)
        })
        .collect();
    assert_found(&pareto_nbd::fit(&histories).unwrap(), truth);
}

#[test]
fn bg_nbd_is_found_again() {
    let truth = [0.5, 8.0, 0.9, 3.0];
    let (mut draws, rates, stays) = (Draws(2), Gamma::new(0.5, 8.0).unwrap(), Beta::new(0.9, 3.0).unwrap());
    let histories: Histories = (0..6000)
        .map(|_| {
            let (rate, chance) = (draws.from(&rates), draws.from(&stays));
            // The coin is thrown after each repeat purchase: here, before the next one.
            history(&mut draws, rate, |draws, _, repeats| repeats > 0 && draws.uniform() < chance)
        })
        .collect();
    assert_found(&bgnbd::fit(&histories).unwrap(), truth);
}

#[test]
fn gamma_gamma_is_found_again() {
    let (mut draws, means) = (Draws(3), Gamma::new(4.0, 15.0).unwrap());
    let spends: Vec<Spend> = (0..3000)
        .map(|i| {
            let (purchases, rate) = (1 + i % 5, draws.from(&means));
            // The mean of n purchases that are gamma(p, rate) is gamma(np, n rate).
            let mean = draws.from(&Gamma::new(6.0 * f64::from(purchases), rate * f64::from(purchases)).unwrap());
            Spend { purchases, mean }
        })
        .collect();
    assert_found(&gamma_gamma::fit(&spends).unwrap(), [6.0, 4.0, 15.0]);
}

#[test]
fn what_the_data_do_not_determine_is_refused() {
    let few: Histories = (0..10).map(|i| History { repeats: 1, recency_days: i, age_days: 100 }).collect();
    assert!(matches!(bgnbd::fit(&few), Err(FitError::TooFew { found: 10, least: 20, .. })));
    // Everybody buys each week and nobody leaves: no rate of leaving can be told from none.
    let regular: Histories = (0..500).map(|_| History { repeats: 50, recency_days: 350, age_days: 352 }).collect();
    for fit in [bgnbd::fit(&regular), pareto_nbd::fit(&regular)] {
        assert!(matches!(fit, Err(FitError::Degenerate { .. } | FitError::NotConverged { .. })), "{fit:?}");
    }
    let alike = vec![Spend { purchases: 3, mean: 20.0 }; 100];
    assert!(gamma_gamma::fit(&alike).is_err());
}
