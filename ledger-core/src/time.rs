//! Moments and the program's wall clock.
//!
//! Invariants: a [`Moment`] is whole microseconds since the Unix epoch, between the years 1900 and 2300, so that adding any
//! period of a rulebook can't overflow. Periods run on the wall clock of a [`Zone`]: 31 January + 1 month is the last day of
//! February at the same time of day; a time that the clock skips is moved forward by the gap, one that it shows twice is the
//! first (RFC 5545, "compatible"). The zone database is compiled in, so the same record is decided alike everywhere.

use std::fmt;

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// A moment in microseconds since 1970-01-01T00:00:00Z. Reads and writes as RFC 3339 where the format is for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, schemars::JsonSchema)]
pub struct Moment(#[schemars(with = "jiff_schema::DateTime")] i64);

mod jiff_schema {
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

    /// From RFC 3339; finer than a microsecond is cut off.
    ///
    /// # Errors
    /// [`MomentError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MomentError> {
        text.parse::<jiff::Timestamp>()
            .ok()
            .and_then(|t| Self::from_micros(t.as_microsecond()))
            .ok_or_else(|| MomentError { value: text.chars().take(80).collect() })
    }

    /// `us` microseconds later, held inside the range of years.
    #[must_use]
    pub fn plus_micros(self, us: i64) -> Self {
        Self(self.0.saturating_add(us).clamp(EARLIEST_US, LATEST_US))
    }

    /// As jiff knows it.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.0).expect("a moment lies between 1900 and 2300, within jiff's range")
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.timestamp(), f)
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

/// A change of a zone's offset.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// From this moment on (the clock of UTC).
    utc_us: i64,
    /// From this local time on. Where the clock skips or repeats a time, the offset before holds until both agree again.
    local_us: i64,
    offset_us: i64,
}

/// The date of `at` in UTC, by which the book is closed.
#[must_use]
pub fn utc_date(at: Moment) -> Date {
    date_of(i32::try_from(at.as_micros().div_euclid(DAY_US)).expect("a moment lies within 4 centuries of the epoch"))
}

/// The date that lies `day` days after 1970-01-01, as [`Zone::day`] counts them.
#[must_use]
pub fn date_of(day: i32) -> Date {
    Date::constant(1970, 1, 1).saturating_add(jiff::Span::new().days(day))
}

/// A program's wall clock. The changes of its offset are laid out once, with an index by stretches of time, so that a conversion is
/// a look and a step or two.
#[derive(Clone, Debug)]
pub struct Zone {
    first_offset_us: i64,
    changes: Vec<Change>,
    /// How many changes there were before each stretch of [`STRETCH_US`].
    index: Vec<u32>,
}

/// Shorter than summer time lasts, so that few changes fall into one.
const STRETCH_US: i64 = 100 * DAY_US;

impl Zone {
    /// By IANA name, from the compiled-in database; `None` for a name it doesn't have.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let zone = if name == "UTC" { TimeZone::UTC } else { TimeZoneDatabase::bundled().get(name).ok()? };
        let offset_us = |offset: jiff::tz::Offset| i64::from(offset.seconds()) * 1_000_000;
        let (first, last) = (Moment(EARLIEST_US).timestamp(), Moment(LATEST_US).timestamp());
        let first_offset_us = offset_us(zone.to_offset(first));
        let mut before = first_offset_us;
        let mut changes = Vec::new();
        for change in zone.following(first).take_while(|change| change.timestamp() <= last) {
            let (utc_us, offset_us) = (change.timestamp().as_microsecond(), offset_us(change.offset()));
            changes.push(Change { utc_us, local_us: utc_us + before.max(offset_us), offset_us });
            before = offset_us;
        }
        let before = |start: i64| changes.partition_point(|change| change.utc_us <= start);
        let stretches = (EARLIEST_US..=LATEST_US).step_by(usize::try_from(STRETCH_US).ok()?);
        let index = stretches.map(|start| u32::try_from(before(start)).ok()).collect::<Option<_>>()?;
        Some(Self { first_offset_us, changes, index })
    }

    /// How many changes there were by `us`, on the clock that `when` tells.
    fn changed(&self, us: i64, when: impl Fn(&Change) -> i64) -> usize {
        // No zone is a day away from UTC, so what lies a day back on one clock is over on the other.
        let stretch = usize::try_from((us - DAY_US - EARLIEST_US) / STRETCH_US).unwrap_or(0);
        let begin = self.index.get(stretch).or(self.index.last()).map_or(0, |changes| *changes as usize);
        begin + self.changes[begin..].iter().take_while(|change| when(change) <= us).count()
    }

    fn offset(&self, changed: usize) -> i64 {
        changed.checked_sub(1).map_or(self.first_offset_us, |last| self.changes[last].offset_us)
    }

    /// How long after 1970-01-01 00:00 this clock shows at `at`.
    fn local_us(&self, at: Moment) -> i64 {
        at.0 + self.offset(self.changed(at.0, |change| change.utc_us))
    }

    /// When this clock shows 1970-01-01 00:00 and `local_us` more.
    fn at_local_us(&self, local_us: i64) -> Moment {
        let offset_us = self.offset(self.changed(local_us, |change| change.local_us));
        Moment((local_us - offset_us).clamp(EARLIEST_US, LATEST_US))
    }

    fn local(&self, at: Moment) -> DateTime {
        civil(self.local_us(at))
    }

    fn moment(&self, local: DateTime) -> Moment {
        self.at_local_us(micros(local))
    }

    /// The moment at which this clock shows `text`, such as `2009-12-01 07:45:00`.
    ///
    /// # Errors
    /// [`MomentError`] when it is no civil date and time.
    pub fn parse_local(&self, text: &str) -> Result<Moment, MomentError> {
        let local = text.parse::<DateTime>().map_err(|_| MomentError { value: text.chars().take(80).collect() })?;
        Ok(self.moment(local))
    }

    /// The number of the local day that `at` falls in, counted from 1970-01-01.
    #[must_use]
    pub fn day(&self, at: Moment) -> i32 {
        i32::try_from(self.local_us(at).div_euclid(DAY_US)).expect("a moment lies within 4 centuries of the epoch")
    }

    /// The local date of `at`.
    #[must_use]
    pub fn date(&self, at: Moment) -> Date {
        date_of(self.day(at))
    }

    /// `months` later at the same local time of day; the day is held to the length of the month.
    #[must_use]
    pub fn plus_months(&self, at: Moment, months: u32) -> Moment {
        let local = self.local(at);
        let index = i64::from(local.year()) * 12 + i64::from(local.month()) - 1 + i64::from(months);
        match month_day(index, local.day()) {
            Some(date) => self.moment(DateTime::from_parts(date, local.time())),
            None => Moment(LATEST_US),
        }
    }

    /// `months` earlier, by the same rule.
    #[must_use]
    pub fn minus_months(&self, at: Moment, months: u32) -> Moment {
        let local = self.local(at);
        let index = i64::from(local.year()) * 12 + i64::from(local.month()) - 1 - i64::from(months);
        match month_day(index, local.day()) {
            Some(date) => self.moment(DateTime::from_parts(date, local.time())),
            None => Moment(EARLIEST_US),
        }
    }

    /// `days` later at the same local time of day.
    #[must_use]
    pub fn plus_days(&self, at: Moment, days: u32) -> Moment {
        self.at_local_us(self.local_us(at) + i64::from(days) * DAY_US)
    }

    /// The first moment after the calendar period that `at` falls in, `grace_days` added.
    #[must_use]
    pub fn end_of(&self, period: Period, at: Moment, grace_days: u32) -> Moment {
        let date = self.local(at).date();
        let months = match period {
            Period::Year => 12,
            Period::Quarter => 3,
            Period::Month => 1,
        };
        let month = i64::from(date.month()) - 1;
        let index = i64::from(date.year()) * 12 + month - month % months + months;
        let Some(end) = month_day(index, 1) else { return Moment(LATEST_US) };
        self.plus_days(self.moment(DateTime::from_parts(end, jiff::civil::Time::midnight())), grace_days)
    }

    /// 1 January, 00:00, of the local year that `at` falls in.
    #[must_use]
    pub fn start_of_year(&self, at: Moment) -> Moment {
        let year = self.local(at).year();
        month_day(i64::from(year) * 12, 1).map_or(Moment(EARLIEST_US), |d| self.midnight(d))
    }

    /// The first moment of the local day `date`.
    #[must_use]
    pub fn midnight(&self, date: Date) -> Moment {
        self.moment(DateTime::from_parts(date, jiff::civil::Time::midnight()))
    }
}

/// The date and time that stand `us` microseconds after 1970-01-01 00:00 on one clock.
fn civil(us: i64) -> DateTime {
    jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_microsecond(us).unwrap_or(jiff::Timestamp::MAX))
}

/// How long after 1970-01-01 00:00 a date and time stand on one clock.
fn micros(local: DateTime) -> i64 {
    jiff::tz::Offset::UTC.to_timestamp(local).map_or(LATEST_US, jiff::Timestamp::as_microsecond)
}

/// Day `day` of the month with index `year * 12 + month - 1`, held to the month's length.
fn month_day(index: i64, day: i8) -> Option<Date> {
    let year = i16::try_from(index.div_euclid(12)).ok()?;
    let month = i8::try_from(index.rem_euclid(12) + 1).ok()?;
    let first = Date::new(year, month, 1).ok()?;
    Date::new(year, month, day.min(first.days_in_month())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        Moment::parse(text).unwrap()
    }

    #[test]
    fn months_are_held_to_the_length_of_the_month() {
        let london = Zone::parse("Europe/London").unwrap();
        for (from, months, to) in [
            ("2010-01-31T10:00:00Z", 1, "2010-02-28T10:00:00Z"),
            ("2012-01-31T10:00:00Z", 1, "2012-02-29T10:00:00Z"),
            ("2010-02-28T10:00:00Z", 12, "2011-02-28T10:00:00Z"),
            ("2012-02-29T10:00:00Z", 12, "2013-02-28T10:00:00Z"),
            ("2010-01-15T10:00:00Z", 6, "2010-07-15T09:00:00Z"),
            ("2009-12-31T23:59:59.999999Z", 2, "2010-02-28T23:59:59.999999Z"),
        ] {
            assert_eq!(london.plus_months(at(from), months), at(to), "{from} + {months} months");
        }
        assert_eq!(london.minus_months(at("2010-03-31T10:00:00Z"), 1), at("2010-02-28T11:00:00Z"), "11:00 in summer time");
    }

    #[test]
    fn skipped_and_repeated_times_are_settled_alike() {
        let london = Zone::parse("Europe/London").unwrap();
        // 28 March 2010, 01:30 does not exist: the clock goes from 01:00 to 02:00.
        assert_eq!(london.plus_days(at("2010-03-27T01:30:00Z"), 1), at("2010-03-28T01:30:00Z"));
        // 31 October 2010, 01:30 comes twice: the first counts.
        assert_eq!(london.plus_days(at("2010-10-30T00:30:00Z"), 1), at("2010-10-31T00:30:00Z"));
    }

    #[test]
    fn the_laid_out_changes_agree_with_the_zone_database() {
        for name in ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "UTC"] {
            let (ours, theirs) = (Zone::parse(name).unwrap(), TimeZoneDatabase::bundled().get(name).unwrap());
            let changes = ours.changes.iter().flat_map(|change| [-7_200_000_001, -1_800_000_000, -1, 0, 1, 3_600_000_000].map(|us| change.utc_us + us));
            let regular = (EARLIEST_US..LATEST_US).step_by(40 * 1_000_000_000_000 / 7);
            for at in changes.chain(regular).filter_map(Moment::from_micros) {
                let local = theirs.to_datetime(at.timestamp());
                assert_eq!(ours.local(at), local, "{name} {at}");
                let back = theirs.to_ambiguous_timestamp(local).compatible().unwrap().as_microsecond();
                assert_eq!(ours.moment(local).0, back, "{name} {local}");
                let skipped = local.checked_add(jiff::SignedDuration::from_mins(30)).unwrap();
                let settled = theirs.to_ambiguous_timestamp(skipped).compatible().unwrap().as_microsecond();
                assert_eq!(ours.moment(skipped).0, settled.min(LATEST_US), "{name} {skipped}");
            }
        }
    }

    #[test]
    fn days_and_periods_follow_the_local_calendar() {
        let york = Zone::parse("America/New_York").unwrap();
        assert_eq!(york.day(at("2010-06-01T03:59:59Z")) + 1, york.day(at("2010-06-01T04:00:00Z")));
        assert_eq!(york.end_of(Period::Year, at("2011-01-01T04:59:59Z"), 0), at("2011-01-01T05:00:00Z"));
        assert_eq!(york.end_of(Period::Quarter, at("2010-05-05T12:00:00Z"), 30), at("2010-07-31T04:00:00Z"));
        assert_eq!(york.end_of(Period::Month, at("2010-12-31T12:00:00Z"), 0), at("2011-01-01T05:00:00Z"));
        assert_eq!(york.start_of_year(at("2011-01-01T04:59:59Z")), at("2010-01-01T05:00:00Z"));
        assert!(Zone::parse("Europe/Atlantis").is_none());
    }
}
