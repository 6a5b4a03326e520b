//! What is looked at of a member on a day, and the models over it.

use insight::lifetime::Buying;
use insight::logistic::{Logistic, fit};
use insight::{FitError, Histories, History, bgnbd, pareto_nbd};

use super::WINDOW_DAYS;
use super::members::Member;

/// The inter-purchase time that a member with few of them is taken to have, counts as this many of them.
const PRIOR_GAPS: f64 = 2.0;
/// Of whom there is no telling: the days between purchases of an average shop's member.
const PRIOR_GAP_DAYS: f64 = 60.0;

/// What is looked at.
#[derive(Debug, Clone)]
pub(super) struct Features {
    pub(super) recency_days: i32,
    /// Between days with a purchase: the member's own mean, drawn to a prior where there are few.
    pub(super) gap_days: f64,
    pub(super) last: f64,
    pub(super) before: f64,
    pub(super) visits_last: u32,
    pub(super) visits_before: u32,
    pub(super) breadth_last: i32,
    pub(super) breadth_before: i32,
    /// Spend of the last 28 days less that of the 28 before.
    pub(super) trend28: f64,
    pub(super) history: History,
}

/// As of the end of `day`; none who had bought nothing by then.
pub(super) fn features(member: &Member, day: i32) -> Option<Features> {
    let known: Vec<i32> = member.between(i32::MIN, day).map(|known| known.day).collect();
    let (first, latest) = (*known.first()?, *known.last()?);
    let repeats = u32::try_from(known.len()).unwrap_or(u32::MAX) - 1;
    let span = |from: i32, to: i32| member.between(day - from, day - to);
    let breadth = |from: i32, to: i32| span(from, to).map(|day| day.categories).max().unwrap_or(0);
    let visits = |from: i32, to: i32| u32::try_from(span(from, to).count()).unwrap_or(u32::MAX);
    let (window, twice) = (WINDOW_DAYS, 2 * WINDOW_DAYS);
    Some(Features {
        recency_days: day - latest,
        gap_days: (f64::from(latest - first) + PRIOR_GAPS * PRIOR_GAP_DAYS) / (f64::from(repeats) + PRIOR_GAPS),
        last: member.spend(day - window, day),
        before: member.spend(day - twice, day - window),
        visits_last: visits(window, 0),
        visits_before: visits(twice, window),
        breadth_last: breadth(window, 0),
        breadth_before: breadth(twice, window),
        trend28: member.spend(day - 28, day) - member.spend(day - 56, day - 28),
        history: History { repeats, recency_days: (latest - first).unsigned_abs(), age_days: (day - first).unsigned_abs() },
    })
}

impl Features {
    /// How overdue the next purchase is, in the member's own gaps.
    pub(super) fn overdue(&self) -> f64 {
        f64::from(self.recency_days) / self.gap_days
    }

    /// For the models; `buying` tells what to expect of the next window.
    fn row(&self, buying: Option<&Buying>) -> Vec<f64> {
        let weeks = f64::from(WINDOW_DAYS) / 7.0;
        let (expected, alive) = buying.map_or((0.0, 1.0), |buying| (buying.expected(self.history, weeks), buying.alive(self.history)));
        let ln = |value: f64| value.max(0.0).ln_1p();
        vec![
            ln(f64::from(self.recency_days)),
            ln(self.overdue()),
            ln(self.gap_days),
            ln(self.last),
            ln(self.before),
            ln(self.last) - ln(self.before),
            ln(self.last / f64::from(self.visits_last.max(1))),
            f64::from(self.visits_last).sqrt(),
            f64::from(self.visits_before).sqrt(),
            ln(f64::from(self.history.repeats)),
            ln(f64::from(self.history.age_days)),
            f64::from(self.breadth_last - self.breadth_before),
            ln(expected),
            alive,
        ]
    }
}

/// What can be told of members on a day.
#[derive(Debug, Clone)]
pub(super) struct Models {
    buying: Option<Buying>,
    /// Spends less than half of what it did.
    falls: Logistic,
    /// Buys nothing.
    leaves: Logistic,
}

/// What followed within the window after a day.
pub(super) fn followed(member: &Member, features: &Features, day: i32) -> (bool, bool) {
    let next = member.spend(day, day + WINDOW_DAYS);
    let bought = member.between(day, day + WINDOW_DAYS).next().is_some();
    (next < features.last / 2.0, !bought)
}

fn buying(members: &[&Member], day: i32) -> Option<Buying> {
    let histories: Histories = members.iter().filter_map(|member| features(member, day)).map(|features| features.history).collect();
    let bg = bgnbd::fit(&histories).ok().map(|fit| Buying::BgNbd(fit.values.into()));
    bg.or_else(|| pareto_nbd::fit(&histories).ok().map(|fit| Buying::ParetoNbd(fit.values.into())))
}

impl Models {
    /// Learned by `day` from what followed it, of those of `members` who had bought within the window; `days` are looked at together.
    pub(super) fn learn(members: &[&Member], days: &[i32]) -> Result<Self, FitError> {
        let latest = days.iter().copied().max().unwrap_or(0);
        let buying = buying(members, latest);
        let (mut rows, mut falls, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        for day in days {
            for member in members {
                let Some(features) = features(member, *day).filter(|features| features.last > 0.0) else { continue };
                let (falling, leaving) = followed(member, &features, *day);
                rows.push(features.row(buying.as_ref()));
                falls.push(falling);
                leaves.push(leaving);
            }
        }
        Ok(Self { falls: fit(&rows, &falls)?, leaves: fit(&rows, &leaves)?, buying })
    }

    /// The probability that a member with this history still buys; none where no model of purchases could be fitted.
    pub(super) fn alive(&self, history: History) -> Option<f64> {
        self.buying.as_ref().map(|buying| buying.alive(history))
    }

    /// The probabilities that spend falls below half, and that nothing is bought.
    pub(super) fn probabilities(&self, features: &Features) -> (f64, f64) {
        let row = features.row(self.buying.as_ref());
        (self.falls.probability(&row), self.leaves.probability(&row))
    }
}
