//! Fits and scores of lifetime value, on members drawn from a seed; `bench/lifetimes.py` draws the same and measures Python's `lifetimes`.
#![allow(clippy::float_arithmetic, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "measured estimates")]

use std::hint::black_box;
use std::time::Instant;

use estimators::gamma_gamma::{GammaGamma, Spend};
use estimators::lifetime::{Buying, Terms, value};
use estimators::{Histories, History, bgnbd, gamma_gamma, pareto_nbd};
use rayon::prelude::*;

use super::{Figure, rate};

/// As many as the figures for Python are of.
const MEMBERS: u32 = 23_570;
const MILLION: u32 = 1_000_000;
const SCORED: usize = 100_000;
const AGE_DAYS: f64 = 728.0;

/// Uniform numbers from a seed (Steele, Lea, Flood 2014, SplitMix64).
struct Draws(u64);

impl Draws {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as f64 / 4_294_967_296.0 + 1e-10
    }
}

/// Members with rates and chances to leave of their own, who came within two years.
fn draw(count: u32) -> Vec<(History, Spend)> {
    let mut draws = Draws(5);
    let one = |_| {
        let (rate, leaves) = (0.01 + 0.4 * draws.uniform().powi(4), 0.02 + 0.4 * draws.uniform().powi(2));
        let age = 7.0 + (AGE_DAYS - 7.0) * draws.uniform();
        let (mut day, mut last, mut repeats) = (0.0, 0, 0);
        loop {
            day += -7.0 * draws.uniform().ln() / rate;
            if day >= age.floor() || (repeats > 0 && draws.uniform() < leaves) {
                break;
            }
            if day as u32 > last {
                (last, repeats) = (day as u32, repeats + 1);
            }
        }
        // Gamma-Gamma with p 1, q 3, γ 15: exponential purchases around means whose inverse is gamma.
        let rate = (0..3).map(|_| -draws.uniform().ln()).sum::<f64>() / 15.0;
        let spend: f64 = (0..repeats.max(1)).map(|_| -draws.uniform().ln() / rate).sum();
        let mean = spend / f64::from(repeats.max(1));
        (History { repeats, recency_days: last, age_days: age as u32 }, Spend { purchases: repeats, mean })
    };
    (0..count).map(one).collect()
}

fn seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let done = black_box(work());
    (done, begin.elapsed().as_secs_f64())
}

pub fn run() -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut models = None;
    for count in [MEMBERS, MILLION] {
        let members = draw(count);
        let histories: Histories = members.iter().map(|member| member.0).collect();
        let spends: Vec<Spend> = members.iter().map(|member| member.1).collect();
        let (bg, bg_seconds) = seconds(|| bgnbd::fit(&histories));
        let (pareto, pareto_seconds) = seconds(|| pareto_nbd::fit(&histories));
        let (money, money_seconds) = seconds(|| gamma_gamma::fit(&spends));
        let (bg, pareto, money) = (bg?, pareto?, money?);
        let target = |small: &'static str| if count == MEMBERS { small } else { "60 s" };
        let words =
            |seconds: f64, values: &[f64]| format!("{seconds:.3} s ({})", values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(", "));
        figures.push(Figure::new(&format!("BG/NBD fit, {count} members"), words(bg_seconds, &bg.values), target("a tenth of lifetimes'")));
        figures.push(Figure::new(&format!("Pareto/NBD fit, {count} members"), words(pareto_seconds, &pareto.values), target("a tenth of lifetimes'")));
        figures.push(Figure::new(&format!("Gamma-Gamma fit, {count} members"), words(money_seconds, &money.values), ""));
        models = Some((Buying::BgNbd(bg.values.into()), GammaGamma::from(money.values), members));
    }
    let (buying, money, members) = models.ok_or_else(|| anyhow::anyhow!("there are two sizes"))?;
    let terms = Terms { months: 12, margin: 1.0, monthly_discount: 0.01 };
    let score = || members[..SCORED].par_iter().map(|(history, spend)| value(&buying, *history, money.mean_spend(*spend), &terms)).sum::<f64>();
    let (_, score_seconds) = seconds(score);
    let (_, alive_seconds) = seconds(|| members[..SCORED].iter().map(|(history, _)| buying.alive(*history)).sum::<f64>());
    let words = |seconds: f64| format!("{seconds:.4} s, {:.0}/s", rate(SCORED as u64, seconds));
    figures.push(Figure::new(&format!("lifetime value of {SCORED} members, 12 months, all cores"), words(score_seconds), "a fiftieth of lifetimes'"));
    figures.push(Figure::new(&format!("P(alive) of {SCORED} members"), words(alive_seconds), ""));
    Ok(figures)
}
