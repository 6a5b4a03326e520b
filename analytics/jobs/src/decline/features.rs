//! What is looked at of a member on a day.

use estimators::History;
use estimators::lifetime::Buying;

use super::WINDOW_DAYS;
use super::members::{Days, Member};

/// The inter-purchase time that a member with few of them is taken to have, counts as this many of them.
const PRIOR_GAPS: f64 = 2.0;
/// Of whom there is no telling: the days between purchases of an average shop's member.
const PRIOR_GAP_DAYS: f64 = 60.0;
/// Spend has fallen that is less than this share of what it was.
pub(super) const FALLEN: f64 = 0.5;

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

/// As of the end of `day`, by `days` as they were known then; none who had bought nothing by then.
pub(super) fn features(days: &Days, day: i32) -> Option<Features> {
    let known: Vec<i32> = days.between(i32::MIN, day).map(|known| known.day).collect();
    let (first, latest) = (*known.first()?, *known.last()?);
    let repeats = u32::try_from(known.len()).unwrap_or(u32::MAX) - 1;
    let span = |from: i32, to: i32| days.between(day - from, day - to);
    let breadth = |from: i32, to: i32| span(from, to).map(|day| day.categories).max().unwrap_or(0);
    let visits = |from: i32, to: i32| u32::try_from(span(from, to).count()).unwrap_or(u32::MAX);
    let (window, twice) = (WINDOW_DAYS, 2 * WINDOW_DAYS);
    Some(Features {
        recency_days: day - latest,
        gap_days: (f64::from(latest - first) + PRIOR_GAPS * PRIOR_GAP_DAYS) / (f64::from(repeats) + PRIOR_GAPS),
        last: days.spend(day - window, day),
        before: days.spend(day - twice, day - window),
        visits_last: visits(window, 0),
        visits_before: visits(twice, window),
        breadth_last: breadth(window, 0),
        breadth_before: breadth(twice, window),
        trend28: days.spend(day - 28, day) - days.spend(day - 56, day - 28),
        history: History { repeats, recency_days: (latest - first).unsigned_abs(), age_days: (day - first).unsigned_abs() },
    })
}

impl Features {
    /// How overdue the next purchase is, in the member's own gaps.
    pub(super) fn overdue(&self) -> f64 {
        f64::from(self.recency_days) / self.gap_days
    }

    /// Whether nothing was bought in the last window. Spend does not tell: refunds may leave nothing of it, though the member came.
    pub(super) fn is_silent(&self) -> bool {
        self.recency_days >= WINDOW_DAYS
    }

    /// The value that can be lost: spend of the better of the last two windows, so that a window that has fallen already is not the measure of the next;
    /// nothing where refunds left nothing of either.
    pub(super) fn base(&self) -> f64 {
        self.last.max(self.before).max(0.0)
    }

    /// Whether the last window brought less than `share` of the one before.
    pub(super) fn is_below(&self, share: f64) -> bool {
        self.before > 0.0 && self.last < share * self.before
    }

    /// For the models; `buying` tells what to expect of the next window.
    pub(super) fn row(&self, buying: Option<&Buying>) -> Vec<f64> {
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
            f64::from(u8::from(self.is_below(FALLEN))),
        ]
    }

    /// For the models that know nothing but when the last purchase was.
    pub(super) fn recency_row(&self) -> Vec<f64> {
        vec![f64::from(self.recency_days).ln_1p()]
    }
}

/// What followed within the window after a day, as it was known at its end: spend below half of the base, and no purchase.
pub(super) fn followed(member: &Member, features: &Features, day: i32) -> (bool, bool) {
    let end = day + WINDOW_DAYS;
    let next = member.at(end);
    let bought = next.between(day, end).next().is_some();
    (next.spend(day, end) < FALLEN * features.base(), !bought)
}
