//! What is known of how often somebody bought: frequency, recency, age.

use std::collections::BTreeMap;

use crate::likelihood::FitError;

/// The fewest members that bought again, for a fit.
const REPEATERS_MIN: u64 = 20;
/// Days of one unit of time: rates are by week.
const UNIT_DAYS: f64 = 7.0;

/// How often somebody bought. Purchases of one day are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct History {
    /// Days with a purchase after the first such day (x).
    pub repeats: u32,
    /// Days from the first purchase to the last.
    pub recency_days: u32,
    /// Days from the first purchase to now.
    pub age_days: u32,
}

impl History {
    /// x
    #[must_use]
    pub fn x(self) -> f64 {
        f64::from(self.repeats)
    }

    /// `t_x`, weeks.
    #[must_use]
    pub fn recency(self) -> f64 {
        f64::from(self.recency_days) / UNIT_DAYS
    }

    /// T, weeks.
    #[must_use]
    pub fn age(self) -> f64 {
        f64::from(self.age_days) / UNIT_DAYS
    }
}

/// Histories with how many members have each: likelihoods see each kind of history once.
#[derive(Debug, Clone, Default)]
pub struct Histories {
    /// In order, so that neighbours have the same number of repeats.
    pub(crate) rows: Vec<(History, f64)>,
    pub(crate) members: u64,
}

impl FromIterator<History> for Histories {
    fn from_iter<I: IntoIterator<Item = History>>(all: I) -> Self {
        let mut counts = BTreeMap::<History, u32>::new();
        let mut members = 0;
        for history in all {
            *counts.entry(history).or_default() += 1;
            members += 1;
        }
        Self { rows: counts.into_iter().map(|(history, count)| (history, f64::from(count))).collect(), members }
    }
}

impl Histories {
    /// How many members they are of.
    #[must_use]
    pub fn members(&self) -> u64 {
        self.members
    }

    /// How many members there are, to scale a fit of `model` by.
    ///
    /// # Errors
    /// [`FitError::TooFew`] where fewer than [`REPEATERS_MIN`] bought again.
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    pub(crate) fn enough(&self, model: &'static str) -> Result<f64, FitError> {
        let found = self.repeaters();
        if found < REPEATERS_MIN {
            return Err(FitError::TooFew { model, what: "members bought again", found, least: REPEATERS_MIN });
        }
        Ok(self.members as f64)
    }

    /// How many of them bought again.
    #[must_use]
    pub fn repeaters(&self) -> u64 {
        // Counts are whole numbers far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = self.rows.iter().filter(|(history, _)| history.repeats > 0).map(|(_, count)| count).sum::<f64>() as u64;
        count
    }
}
