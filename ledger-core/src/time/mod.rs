//! Moments and the program's wall clock.
//!
//! Invariants: a [`Moment`] is whole microseconds since the Unix epoch, between the years 1900 and 2300, so that adding any
//! period of a rulebook can't overflow. Periods run on the wall clock of a [`Zone`]: 31 January + 1 month is the last day of
//! February at the same time of day; a time that the clock skips is moved forward by the gap, one that it shows twice is the
//! first (RFC 5545, "compatible"). The zone database is ours, compiled in, so the same record is decided alike everywhere.

mod calendar;
mod table;
mod text;
mod zone;

use std::fmt;

use chrono::{DateTime, Timelike, Utc};
use serde::{Deserialize, Serialize};

pub use calendar::{DateError, LAST_DATE, date, date_of, date_text, first_of_month, last_of_month, parse_date, plus_days, plus_months, utc_date};
pub use zone::Zone;

/// A moment in microseconds since 1970-01-01T00:00:00Z. Reads and writes as RFC 3339 where the format is for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, schemars::JsonSchema)]
pub struct Moment(#[schemars(with = "schema::DateTime")] i64);

mod schema {
    /// Stands for an RFC 3339 text in the JSON Schema.
    #[derive(schemars::JsonSchema)]
    #[schemars(transparent)]
    #[allow(dead_code, reason = "only its schema is used")]
    pub struct DateTime(#[schemars(extend("format" = "date-time"))] String);
}

const EARLIEST_US: i64 = -2_208_988_800_000_000;
const LATEST_US: i64 = 10_413_792_000_000_000;
/// Microseconds in a minute.
pub const MINUTE_US: i64 = 60_000_000;
/// Microseconds in a day of 24 hours.
pub const DAY_US: i64 = 24 * 60 * MINUTE_US;

/// Why a text or number is no [`Moment`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not an RFC 3339 time between 1900 and 2300, such as 2009-12-01T07:45:00Z")]
pub struct MomentError {
    /// What was given.
    pub value: String,
}

impl MomentError {
    fn of(text: &str) -> Self {
        Self { value: text.chars().take(80).collect() }
    }
}

impl Moment {
    /// From microseconds since the epoch; `None` outside the years 1900 to 2300.
    #[must_use]
    pub fn from_micros(us: i64) -> Option<Self> {
        (EARLIEST_US..=LATEST_US).contains(&us).then_some(Self(us))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// From RFC 3339 and the forms of ISO 8601 beside it (see `text.rs`); finer than a microsecond is cut off.
    ///
    /// # Errors
    /// [`MomentError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MomentError> {
        text::moment(text).and_then(|at| Self::from_micros(cut_to_micros(at))).ok_or_else(|| MomentError::of(text))
    }

    /// `us` microseconds later, held inside the range of years.
    #[must_use]
    pub fn plus_micros(self, us: i64) -> Self {
        Self(self.0.saturating_add(us).clamp(EARLIEST_US, LATEST_US))
    }

    /// As chrono knows it, for rows.
    #[must_use]
    pub fn timestamp(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).expect("a moment lies between 1900 and 2300, within chrono's range")
    }
}

/// Whole microseconds since the epoch. What is finer is cut off towards the epoch, before it as after it.
fn cut_to_micros(at: DateTime<Utc>) -> i64 {
    let us = at.timestamp_micros();
    if us < 0 && !at.timestamp_subsec_nanos().is_multiple_of(1000) { us + 1 } else { us }
}

/// `at` in RFC 3339, in UTC, with as many digits of a second's fraction as it needs: rows hold what the API tells.
#[must_use]
pub fn timestamp_text(at: DateTime<Utc>) -> String {
    let mut text = String::new();
    write_timestamp(&mut text, at).expect("a String takes every text");
    text
}

/// chrono writes fractions with 3, 6 or 9 digits, but what was answered once is answered alike for ever.
fn write_timestamp(to: &mut impl fmt::Write, at: DateTime<Utc>) -> fmt::Result {
    calendar::write_date(to, at.date_naive())?;
    write!(to, "T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())?;
    let (mut fraction, mut width) = (at.timestamp_subsec_nanos(), 9);
    if fraction > 0 {
        while fraction % 10 == 0 {
            (fraction, width) = (fraction / 10, width - 1);
        }
        write!(to, ".{fraction:0width$}")?;
    }
    to.write_char('Z')
}

/// Writes [`timestamp_text`], for `#[serde(serialize_with = "serialize_timestamp")]`.
///
/// # Errors
/// Those of the format.
pub fn serialize_timestamp<S: serde::Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp_text(*at))
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_timestamp(f, self.timestamp())
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_i64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            Self::parse(&text).map_err(D::Error::custom)
        } else {
            let us = i64::deserialize(deserializer)?;
            Self::from_micros(us).ok_or_else(|| D::Error::custom(MomentError { value: us.to_string() }))
        }
    }
}

/// A stretch of the calendar, as a rulebook names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// 1 January to 31 December.
    Year,
    /// Three months, from January, April, July or October.
    Quarter,
    /// A calendar month.
    Month,
}
