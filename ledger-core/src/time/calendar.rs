//! Dates: the calendar's arithmetic, and dates as text.
//!
//! Dates are chrono's, from the year -9999 to 9999: those that a text can name. Arithmetic is held inside of that range.

use std::fmt;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Utc};

use super::{DAY_US, Moment, text};

/// The last day that there is, 9999-12-31: a query until it asks for everything.
pub const LAST_DATE: NaiveDate = NaiveDate::from_ymd_opt(text::LAST_YEAR, 12, 31).expect("31 December is in every year");
const FIRST_DATE: NaiveDate = NaiveDate::from_ymd_opt(-text::LAST_YEAR, 1, 1).expect("1 January is in every year");

/// Why a text is no date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a date, such as 2010-12-31")]
pub struct DateError {
    /// What was given.
    pub value: String,
}

/// From ISO 8601; a time of day after it is left out of account.
///
/// # Errors
/// [`DateError`] for anything else, and for a moment in UTC (`2010-12-31T23:00Z`), which is no day of a calendar on the wall.
pub fn parse_date(text: &str) -> Result<NaiveDate, DateError> {
    let civil = text::civil(text).ok_or_else(|| DateError { value: text.chars().take(80).collect() })?;
    Ok(civil.date())
}

/// As ISO 8601 writes it: `2010-12-31`, and `-000001-12-31` in the second year before the year 1.
#[must_use]
pub fn date_text(date: NaiveDate) -> String {
    let mut text = String::new();
    write_date(&mut text, date).expect("a String takes every text");
    text
}

/// chrono writes years before 0 with four digits, which [`parse_date`] does not read.
pub(super) fn write_date(to: &mut impl fmt::Write, date: NaiveDate) -> fmt::Result {
    let (sign, width) = if date.year() < 0 { ("-", 6) } else { ("", 4) };
    write!(to, "{sign}{:0width$}-{:02}-{:02}", date.year().unsigned_abs(), date.month(), date.day())
}

/// The date of `at` in UTC, by which the book is closed.
#[must_use]
pub fn utc_date(at: Moment) -> NaiveDate {
    date_of(i32::try_from(at.as_micros().div_euclid(DAY_US)).expect("a moment lies within 4 centuries of the epoch"))
}

/// The date that lies `day` days after 1970-01-01, as [`Zone::day`](super::Zone::day) counts them.
#[must_use]
pub fn date_of(day: i32) -> NaiveDate {
    plus_days(DateTime::<Utc>::UNIX_EPOCH.date_naive(), day)
}

/// `days` later, or earlier where they are negative.
#[must_use]
pub fn plus_days(date: NaiveDate, days: impl Into<i64>) -> NaiveDate {
    let days = days.into();
    let distance = Days::new(days.unsigned_abs());
    let (moved, end) = if days < 0 { (date.checked_sub_days(distance), FIRST_DATE) } else { (date.checked_add_days(distance), LAST_DATE) };
    moved.unwrap_or(end).clamp(FIRST_DATE, LAST_DATE)
}

/// `months` later, or earlier where they are negative; the day is held to the length of the month.
#[must_use]
pub fn plus_months(date: NaiveDate, months: impl Into<i64>) -> NaiveDate {
    let months = months.into();
    month_day(date, months).unwrap_or(if months < 0 { FIRST_DATE } else { LAST_DATE }).clamp(FIRST_DATE, LAST_DATE)
}

/// As [`plus_months`]; `None` where chrono's calendar ends.
pub(super) fn month_day(date: NaiveDate, months: i64) -> Option<NaiveDate> {
    let distance = Months::new(u32::try_from(months.unsigned_abs()).ok()?);
    if months < 0 { date.checked_sub_months(distance) } else { date.checked_add_months(distance) }
}

/// The first day of the month of `date`.
#[must_use]
pub fn first_of_month(date: NaiveDate) -> NaiveDate {
    date.with_day(1).expect("every month has a first day")
}

/// The last day of the month of `date`.
#[must_use]
pub fn last_of_month(date: NaiveDate) -> NaiveDate {
    date.with_day(u32::from(date.num_days_in_month())).expect("every month has its last day")
}

/// A date in serde's formats, as [`parse_date`] and [`date_text`] have it: for `#[serde(with = "date")]`.
pub mod date {
    use chrono::NaiveDate;
    use serde::{Deserializer, Serializer, de};

    /// Writes [`date_text`](super::date_text).
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(date: &NaiveDate, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::date_text(*date))
    }

    /// Reads what [`parse_date`](super::parse_date) does.
    ///
    /// # Errors
    /// Those of the format, and [`DateError`](super::DateError).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = NaiveDate;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a date, such as 2010-12-31")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NaiveDate, E> {
                super::parse_date(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }

    /// The same for an `Option`.
    pub mod optional {
        use chrono::NaiveDate;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        /// `None` or [`date_text`](super::super::date_text).
        ///
        /// # Errors
        /// Those of the format.
        pub fn serialize<S: Serializer>(date: &Option<NaiveDate>, serializer: S) -> Result<S::Ok, S::Error> {
            date.map(super::super::date_text).serialize(serializer)
        }

        /// `None` or what [`parse_date`](super::super::parse_date) reads.
        ///
        /// # Errors
        /// Those of the format, and [`DateError`](super::super::DateError).
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NaiveDate>, D::Error> {
            #[derive(Deserialize)]
            struct Date(#[serde(deserialize_with = "super::deserialize")] NaiveDate);
            Ok(Option::<Date>::deserialize(deserializer)?.map(|Date(date)| date))
        }
    }
}
