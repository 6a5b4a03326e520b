//! What becomes of points where too few are spent for a chain ladder: month by month of their age, a part of those left is spent and a part is
//! lost, until none is left (competing risks: cumulative incidence after Aalen and Johansen, pooled over cohorts).

/// What became of a cohort's points in one month of their age.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Step {
    /// Left when it began.
    pub left: f64,
    /// Spent in it.
    pub spent: f64,
    /// Lost in it: expired, forfeited, taken.
    pub lost: f64,
    /// How much of the month has passed, 1 if it is over.
    pub elapsed: f64,
}

/// What to expect of each cohort.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOff {
    /// By cohort: how many of the points left will be spent.
    pub to_come: Vec<f64>,
    /// Their standard errors, by how differently cohorts fared: delete-one jackknife, and a cohort's own deviation from the pooled share.
    pub standard_errors: Vec<f64>,
    /// Of the sum over the cohorts.
    pub total_standard_error: f64,
}

/// Exposure, spent and lost, by month of age.
type Sums = Vec<[f64; 3]>;

/// Of what is left at the end of each month of age, the share that will be spent; after the last month, the share is that of all whose fate is known.
fn shares(sums: &Sums) -> Vec<f64> {
    let (spent, lost) = sums.iter().fold((0.0, 0.0), |(spent, lost), sum| (spent + sum[1], lost + sum[2]));
    let mut shares = vec![if spent + lost > 0.0 { spent / (spent + lost) } else { 1.0 }; sums.len()];
    for k in (1..sums.len()).rev() {
        let (spent, lost) = rates(sums[k]);
        shares[k - 1] = spent + (1.0 - spent - lost) * shares[k];
    }
    shares
}

fn rates([exposed, spent, lost]: [f64; 3]) -> (f64, f64) {
    if exposed > 0.0 { ((spent / exposed).min(1.0), (lost / exposed).min(1.0 - (spent / exposed).min(1.0))) } else { (0.0, 0.0) }
}

/// How many of what a cohort has left will be spent.
fn to_come(steps: &[Step], sums: &Sums, shares: &[f64]) -> f64 {
    let Some(last) = steps.last() else { return 0.0 };
    let (k, left) = (steps.len() - 1, (last.left - last.spent - last.lost).max(0.0));
    let (spent, lost) = rates(sums[k]);
    let rest = 1.0 - last.elapsed;
    left * (rest * spent + (1.0 - rest * (spent + lost)) * shares[k])
}

/// What is to come of `cohorts`, each a step a month of age, the oldest cohort first; none where no point is known to be lost, for then nothing
/// says that one will be, nor where there are fewer than two cohorts to compare.
#[must_use]
pub fn run_off(cohorts: &[Vec<Step>]) -> Option<RunOff> {
    let ages = cohorts.iter().map(Vec::len).max()?;
    let mut all: Sums = vec![[0.0; 3]; ages];
    let add = |sums: &mut Sums, steps: &[Step], sign: f64| {
        for (sum, step) in sums.iter_mut().zip(steps) {
            let part = [step.left * step.elapsed, step.spent.max(0.0), step.lost.max(0.0)];
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum = (*sum + sign * part).max(0.0));
        }
    };
    cohorts.iter().for_each(|steps| add(&mut all, steps, 1.0));
    if all.iter().all(|sum| sum[2] <= 0.0) {
        return None;
    }
    let forecast = |sums: &Sums| {
        let shares = shares(sums);
        cohorts.iter().map(|steps| to_come(steps, sums, &shares)).collect::<Vec<f64>>()
    };
    let expected = forecast(&all);
    let without: Vec<Vec<f64>> = (0..cohorts.len())
        .filter(|i| cohorts[*i].iter().any(|step| step.left > 0.0))
        .map(|i| {
            let mut rest = all.clone();
            add(&mut rest, &cohorts[i], -1.0);
            forecast(&rest)
        })
        .collect();
    #[allow(clippy::cast_precision_loss)]
    let count = without.len() as f64;
    if without.len() < 2 {
        return None;
    }
    let variance = |of: &dyn Fn(&[f64]) -> f64| {
        let mean = without.iter().map(|one| of(one)).sum::<f64>() / count;
        without.iter().map(|one| (of(one) - mean).powi(2)).sum::<f64>() * (count - 1.0) / count
    };
    let own: Vec<f64> = (0..cohorts.len()).map(|i| variance(&|one: &[f64]| one[i])).collect();
    // A cohort deviates from the mean of `count` of them as they do: by `count` times the mean's variance.
    let total = variance(&|one: &[f64]| one.iter().sum()) + own.iter().map(|own| own * count).sum::<f64>();
    let standard_errors = own.iter().map(|own| (own * (count + 1.0)).sqrt()).collect();
    Some(RunOff { to_come: expected, standard_errors, total_standard_error: total.sqrt() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(left: f64, spent: f64, lost: f64) -> Step {
        Step { left, spent, lost, elapsed: 1.0 }
    }

    #[test]
    fn what_expires_after_three_months_is_not_expected_to_be_spent() {
        // Given cohorts of 1,000 of which a tenth of what is left is spent in the second month, and all is lost in the third.
        let whole = [step(1000.0, 0.0, 0.0), step(1000.0, 100.0, 0.0), step(900.0, 0.0, 900.0)];
        let cohorts: Vec<Vec<Step>> = (1..=3).rev().map(|age| whole[..age].to_vec()).collect();
        let run_off = run_off(&cohorts).unwrap();
        // Then nothing more is to come of the oldest and the next, and a tenth of the youngest.
        assert_eq!(run_off.to_come, [0.0, 0.0, 100.0]);
        assert!(run_off.standard_errors[0] < 1e-9, "{run_off:?}");
    }

    #[test]
    fn half_a_month_counts_half() {
        let mut now = step(1000.0, 50.0, 0.0);
        now.elapsed = 0.5;
        let cohorts = [vec![step(1000.0, 100.0, 0.0), step(900.0, 0.0, 900.0)], vec![now]];
        let run_off = run_off(&cohorts).unwrap();
        // 150 of 1,500 a month, so half a tenth of the 950 left is to come in the rest of it.
        assert!((run_off.to_come[1] - 47.5).abs() < 1e-9, "{run_off:?}");
        assert!(run_off.total_standard_error > 0.0);
    }

    #[test]
    fn without_a_loss_nothing_says_that_points_will_be_lost() {
        assert_eq!(run_off(&[vec![step(1000.0, 100.0, 0.0)], vec![step(1000.0, 0.0, 0.0)]]), None);
        assert_eq!(run_off(&[]), None);
    }
}
