//! Treated against control: difference and relative lift, each with an interval, and a p that may be looked at as often as one likes.
//!
//! Difference: Welch (1947). Lift: the ratio of means by the delta method. Sequential: the asymptotic confidence sequence of Waudby-Smith
//! et al. (2024), Annals of Statistics 52(6), tightest at [`TUNED_TO`] observations.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// With how many observations in both arms together the sequential interval is tightest.
pub const TUNED_TO: f64 = 5000.0;
const ALPHA: f64 = 0.05;

/// One arm of an experiment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm {
    /// How many members.
    pub members: f64,
    /// The mean of what is measured.
    pub mean: f64,
    /// Its variance over members.
    pub variance: f64,
}

/// From and to, 95 %.
pub type Interval = [f64; 2];

/// What treatment did.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Effect {
    /// Treated less control.
    pub difference: f64,
    /// By Welch's t.
    pub difference_interval: Interval,
    /// The difference, relative to control.
    pub lift: f64,
    /// For one look at a time fixed beforehand.
    pub lift_interval: Interval,
    /// Of no lift, for one look at a time fixed beforehand.
    pub p: f64,
    /// Valid at every look.
    pub sequential_lift_interval: Interval,
    /// Of no lift, valid at every look.
    pub sequential_p: f64,
}

impl Arm {
    /// From how many of `members` did it.
    #[must_use]
    pub fn proportion(members: f64, did: f64) -> Self {
        let mean = did / members;
        Self { members, mean, variance: mean * (1.0 - mean) }
    }

    /// From values, one a member; none of fewer than two. Several values of one member are not independent: sum or choose before.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.len() < 2 {
            return None;
        }
        #[allow(clippy::cast_precision_loss)]
        let members = values.len() as f64;
        let mean = values.iter().sum::<f64>() / members;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (members - 1.0);
        Some(Self { members, mean, variance })
    }

    fn of_mean(&self) -> f64 {
        self.variance / self.members
    }
}

/// What treatment did; none where control has no mean to compare with, or nothing varies.
#[must_use]
pub fn effect(control: &Arm, treated: &Arm) -> Option<Effect> {
    let (of_control, of_treated) = (control.of_mean(), treated.of_mean());
    let error = (of_control + of_treated).sqrt();
    if control.members < 2.0 || treated.members < 2.0 || control.mean <= 0.0 || error <= 0.0 {
        return None;
    }
    let freedom = (of_control + of_treated).powi(2) / (of_control.powi(2) / (control.members - 1.0) + of_treated.powi(2) / (treated.members - 1.0));
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(1.0 - ALPHA / 2.0);
    let normal = Normal::new(0.0, 1.0).ok()?;
    let difference = treated.mean - control.mean;
    let lift = difference / control.mean;
    let lift_error = (of_treated / control.mean.powi(2) + treated.mean.powi(2) / control.mean.powi(4) * of_control).sqrt();
    let z = lift / lift_error;
    let around = |middle: f64, half: f64| [middle - half, middle + half];
    let members = control.members + treated.members;
    let ln = -2.0 * ALPHA.ln();
    let scale = members * (ln + (ln + 1.0).ln()) / TUNED_TO;
    let sequential = ((scale + 1.0) / scale * 2.0 * ((scale + 1.0).sqrt() / ALPHA).ln()).sqrt();
    Some(Effect {
        difference,
        difference_interval: around(difference, t * error),
        lift,
        lift_interval: around(lift, normal.inverse_cdf(1.0 - ALPHA / 2.0) * lift_error),
        p: 2.0 * normal.cdf(-z.abs()),
        sequential_lift_interval: around(lift, sequential * lift_error),
        sequential_p: ((scale + 1.0).sqrt() * (-z * z / 2.0 * scale / (scale + 1.0)).exp()).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_more_of_ten_thousand() {
        let effect = effect(&Arm::proportion(10_000.0, 1_000.0), &Arm::proportion(10_000.0, 1_100.0)).unwrap();
        let near = |got: f64, wanted: f64, digits: f64| assert!((got - wanted).abs() < digits, "{got} is not {wanted}");
        near(effect.p, 0.0279, 5e-5);
        near(effect.lift_interval[0], 0.0109, 5e-5);
        near(effect.lift_interval[1], 0.1891, 5e-5);
        near(effect.sequential_p, 0.549, 5e-4);
        assert!(effect.sequential_lift_interval[0] < 0.0);
    }

    /// A small linear congruential generator: normal enough when twelve are summed.
    fn normals(seed: &mut u64) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sum += f64::from(u32::try_from(*seed >> 33).unwrap()) / f64::from(1_u32 << 31);
        }
        sum
    }

    #[test]
    fn looking_twenty_times_at_nothing_seldom_finds_something() {
        let (mut seed, mut fixed, mut sequential) = (7, 0, 0);
        for _ in 0..400 {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            let (mut alarm, mut valid) = (false, false);
            for _ in 0..20 {
                one.extend((0..50).map(|_| 10.0 + normals(&mut seed)));
                other.extend((0..50).map(|_| 10.0 + normals(&mut seed)));
                let effect = effect(&Arm::of(&one).unwrap(), &Arm::of(&other).unwrap()).unwrap();
                alarm |= effect.p < 0.05;
                valid |= effect.sequential_p < 0.05;
            }
            fixed += u32::from(alarm);
            sequential += u32::from(valid);
        }
        assert!(fixed > 60, "the fixed test raised {fixed} false alarms of 400");
        assert!(sequential <= 20, "the sequential test raised {sequential} false alarms of 400");
    }
}
