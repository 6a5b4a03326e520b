//! Closing a month: its figures as one proposes them, so that what another approves never changes.

use std::fmt;

use ledger_core::points::Amount;
use ledger_core::time::Moment;

/// A month of the calendar (UTC), as `2026-01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(u32);

impl Month {
    /// From `YYYY-MM`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let number = |text: &str, digits: usize| (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u32>().ok()).flatten();
        let (year, month) = (number(year, 4)?, number(month, 2)?);
        (1..=12).contains(&month).then(|| Self(year * 12 + month - 1))
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// When it begins; none beyond the years that a moment can have.
    #[must_use]
    pub fn begin(self) -> Option<Moment> {
        Moment::parse(&format!("{self}-01T00:00:00Z")).ok()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0 / 12, self.0 % 12 + 1)
    }
}

/// What one issue month has deferred and recognised by the end of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssueMonth {
    /// When its points were given.
    pub issued_in: Month,
    /// Of its sales, deferred for them.
    pub deferred: Amount,
    /// Of that, revenue by now.
    pub recognised: Amount,
}

/// A month's figures, and what of the book they are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The month.
    pub period: Month,
    /// By partition, how many records of the log were there.
    pub log_ends: Vec<u64>,
    /// How many entries the program stream had, and so which rulebooks counted.
    pub program_entries: u64,
    /// ISO 4217.
    pub currency: String,
    /// At its beginning; empty where the month before is closed, whose figures they are then.
    pub opening: Vec<IssueMonth>,
    /// At its end.
    pub figures: Vec<IssueMonth>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_four_digits_and_two() {
        let december = Month::parse("2025-12").expect("a month");
        assert_eq!(december.next().to_string(), "2026-01");
        assert_eq!(december.next().begin().map(|begin| begin.to_string()), Some("2026-01-01T00:00:00Z".into()));
        assert!(["2025-13", "2025-00", "25-01", "2025-1", "2025", "+025-01", "2025-01-01"].iter().all(|text| Month::parse(text).is_none()));
    }
}
