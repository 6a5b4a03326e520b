//! What is still spent beyond the oldest age that was seen, while points are there to be spent. A chain ladder that ends with the oldest age says that
//! nothing is, and is certain of it.
//!
//! The share of the points left that is spent in a month of age is taken to go on falling by the factor by which it fell lately (exponential decay, as of
//! tail factors in Mack 1999, The standard error of chain ladder reserve estimates: recursive calculation and inclusion of a tail factor, ASTIN Bulletin 29(2)).
//! It is a share of what is left, so no more than that is ever expected. Points that will be lost meanwhile are not taken off: it is rather too much.

use crate::run_off::Step;

/// From the busiest age on, as many must have been seen: of fewer, nothing shows that spending fades.
const AGES_MIN: usize = 4;
/// The last ages are compared with as many before them, with no more than these.
const AGES_MAX: usize = 6;
/// Spending fades that is less than this share of what it was: of less, chance can't be told from fading.
const FADED: f64 = 0.95;
/// Ages to which less than this share of the most points has come are passed over.
const EXPOSURE: f64 = 0.01;
/// Months after which nothing is looked at any more.
const MONTHS_MAX: u32 = 1200;

/// What will be spent of the points that are left after the oldest age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tail {
    /// The share of them.
    pub share: f64,
    /// Its standard error: an extrapolation is as uncertain as it is large, and never certain. See [`tail`].
    pub standard_error: f64,
}

/// Exposure and what was spent of it.
fn rate(sums: &[[f64; 2]]) -> f64 {
    let (left, spent) = sums.iter().fold((0.0, 0.0), |(left, spent), sum| (left + sum[0], spent + sum[1]));
    if left > 0.0 { spent / left } else { 0.0 }
}

/// The tail of `cohorts`, each a step a month of age that is over; none where spending does not fade yet, so that nothing says how it will end.
///
/// The standard error is the share itself, as far as a share can be that uncertain. Where nothing is spent any more, it is what one more month in which
/// something is would bring, at the odds of one in the months seen since the busiest age and one more: that nothing was spent in them does not prove that
/// nothing will be (Laplace's rule of succession).
#[must_use]
pub fn tail(cohorts: &[Vec<Step>]) -> Option<Tail> {
    let ages = cohorts.iter().map(Vec::len).max()?;
    let mut sums = vec![[0.0; 2]; ages];
    for steps in cohorts {
        for (sum, step) in sums.iter_mut().zip(steps) {
            *sum = [sum[0] + step.left, sum[1] + step.spent.max(0.0)];
        }
    }
    // Of an age that only a few points have come to, nothing can be told: a few that were spent would make it the busiest.
    let most = sums.iter().fold(0.0_f64, |most, sum| most.max(sum[0]));
    let ages = sums.iter().rposition(|sum| sum[0] >= EXPOSURE * most)? + 1;
    let busiest = (0..ages).max_by(|one, other| rate(&sums[*one..=*one]).total_cmp(&rate(&sums[*other..=*other])))?;
    let seen = ages - busiest;
    if seen < AGES_MIN {
        return None;
    }
    let count = (seen / 2).min(AGES_MAX);
    let (last, before) = (rate(&sums[ages - count..]), rate(&sums[ages - 2 * count..ages - count]));
    if last > 0.0 && last >= FADED * before {
        return None;
    }
    #[allow(clippy::cast_precision_loss)]
    let months = count as f64;
    let decay = if last > 0.0 { (last / before).powf(1.0 / months) } else { 0.0 };
    // The mean of the last ages lies in their middle; from there it falls to the first age that was not seen.
    let share = to_come(last * decay.powf((months + 1.0) / 2.0), decay);
    let own = share.min((share * (1.0 - share)).sqrt());
    Some(Tail { share, standard_error: own.max(surprise(cohorts, busiest)?) })
}

/// The share that is spent in the end where `rate` of what is left is in the first month, and `decay` of the month's before in each after it.
fn to_come(rate: f64, decay: f64) -> f64 {
    let (mut left, mut rate, mut month) = (1.0, rate.min(1.0), 0);
    while rate > 1e-12 && month < MONTHS_MAX {
        left *= 1.0 - rate;
        rate *= decay;
        month += 1;
    }
    1.0 - left
}

/// What is spent in a month in which something is, at the odds of one such month in those seen since the busiest age and one more; none where nothing was
/// ever spent.
fn surprise(cohorts: &[Vec<Step>], busiest: usize) -> Option<f64> {
    let shares: Vec<f64> = cohorts.iter().flatten().filter(|step| step.left > 0.0 && step.spent > 0.0).map(|step| step.spent / step.left).collect();
    let seen = cohorts.iter().flat_map(|steps| steps.iter().skip(busiest + 1)).filter(|step| step.left > 0.0).count();
    #[allow(clippy::cast_precision_loss)]
    let (of, odds) = (shares.len() as f64, 1.0 / (seen as f64 + 1.0));
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / of * odds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cohorts of 1,000 points, of which `rates` of what is left are spent by age; the oldest has seen all ages.
    fn cohorts(rates: &[f64]) -> Vec<Vec<Step>> {
        let mut left = 1000.0;
        let step = |rate: &f64| {
            let step = Step { left, spent: left * rate, lost: 0.0, elapsed: 1.0 };
            left -= step.spent;
            step
        };
        let whole: Vec<Step> = rates.iter().map(step).collect();
        (1..=whole.len()).rev().map(|ages| whole[..ages].to_vec()).collect()
    }

    #[test]
    fn spending_that_halves_each_month_goes_on_to_halve() {
        // Given that 0.2, 0.1, 0.05 ... of what is left are spent, as far as 8 months.
        let rates: Vec<f64> = (0..8).map(|age| 0.2 * 0.5_f64.powi(age)).collect();
        let tail = tail(&cohorts(&rates)).unwrap();
        // Then what follows is near 0.2 × 0.5⁸ × 2, a little more as the mean of some ages is above their middle.
        assert!(tail.share > 0.001_56 && tail.share < 0.004, "{tail:?}");
        assert!(tail.standard_error >= tail.share, "{tail:?}");
    }

    #[test]
    fn a_few_points_of_the_oldest_month_change_nothing() {
        let mut cohorts = cohorts(&(0..8).map(|age| 0.2 * 0.5_f64.powi(age)).collect::<Vec<f64>>());
        let before = tail(&cohorts).unwrap();
        let pilot = cohorts[0].iter().map(|step| Step { left: step.left * 0.003, spent: step.spent * 0.003, ..*step });
        let mut pilot: Vec<Step> = pilot.collect();
        pilot.push(Step { left: 3.0, spent: 2.0, lost: 0.0, elapsed: 1.0 });
        cohorts.insert(0, pilot);
        let after = tail(&cohorts).unwrap();
        assert!((after.share - before.share).abs() < 0.1 * before.share, "{before:?} {after:?}");
    }

    #[test]
    fn spending_that_does_not_fade_has_no_tail() {
        // Steadily, more and more, of too few months, and not at all.
        for rates in [&[0.03; 12][..], &[0.01, 0.02, 0.03, 0.04, 0.05, 0.06], &[0.0, 0.05, 0.04], &[0.0; 6]] {
            assert_eq!(tail(&cohorts(rates)), None, "{rates:?}");
        }
        assert_eq!(tail(&[]), None);
    }

    #[test]
    fn that_nothing_was_spent_for_long_is_no_proof_that_nothing_will_be() {
        let short = tail(&cohorts(&[0.0, 0.1, 0.0, 0.0, 0.0])).unwrap();
        let long = tail(&cohorts(&[0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])).unwrap();
        assert_eq!((short.share, long.share), (0.0, 0.0));
        // 3 + 2 + 1 months after the busiest, and one more.
        assert!((short.standard_error - 0.1 / 7.0).abs() < 1e-12, "{short:?}");
        assert!(long.standard_error > 0.0 && long.standard_error < short.standard_error, "{long:?}");
    }
}
