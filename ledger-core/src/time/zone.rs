//! The wall clock of a program.

use chrono::{Datelike, NaiveDate, NaiveDateTime};

use super::{DAY_US, EARLIEST_US, LATEST_US, Moment, MomentError, Period, calendar, table, text};

/// A change of a zone's offset.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// From this moment on (the clock of UTC).
    utc_us: i64,
    /// From this local time on. Where the clock skips or repeats a time, the offset before holds until both agree again.
    local_us: i64,
    offset_us: i64,
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
/// The year of [`LATEST_US`].
const LAST_YEAR: i32 = 2300;

impl Zone {
    /// By IANA name in any case, from the compiled-in database; `None` for a name it doesn't have.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let table = table::of(name, LAST_YEAR)?;
        let mut before = table.first_offset * 1_000_000;
        let mut first_offset_us = before;
        let mut changes = Vec::new();
        for (second, offset) in table.changes {
            let (utc_us, offset_us) = (second.checked_mul(1_000_000)?, offset * 1_000_000);
            if utc_us <= EARLIEST_US {
                first_offset_us = offset_us;
            } else if utc_us <= LATEST_US && offset_us != before {
                // Changes of the name or of what counts as summer time are none of the clock.
                changes.push(Change { utc_us, local_us: utc_us + before.max(offset_us), offset_us });
            }
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

    /// The moment at which this clock shows `text`, such as `2009-12-01 07:45:00`.
    ///
    /// # Errors
    /// [`MomentError`] when it is no civil date and time.
    pub fn parse_local(&self, text: &str) -> Result<Moment, MomentError> {
        let local = text::civil(text).ok_or_else(|| MomentError::of(text))?;
        Ok(self.at_local_us(micros(local)))
    }

    /// The number of the local day that `at` falls in, counted from 1970-01-01.
    #[must_use]
    pub fn day(&self, at: Moment) -> i32 {
        i32::try_from(self.local_us(at).div_euclid(DAY_US)).expect("a moment lies within 4 centuries of the epoch")
    }

    /// The local date of `at`.
    #[must_use]
    pub fn date(&self, at: Moment) -> NaiveDate {
        calendar::date_of(self.day(at))
    }

    /// `months` later at the same local time of day; the day is held to the length of the month.
    #[must_use]
    pub fn plus_months(&self, at: Moment, months: u32) -> Moment {
        self.move_months(at, i64::from(months)).unwrap_or(Moment(LATEST_US))
    }

    /// `months` earlier, by the same rule.
    #[must_use]
    pub fn minus_months(&self, at: Moment, months: u32) -> Moment {
        self.move_months(at, -i64::from(months)).unwrap_or(Moment(EARLIEST_US))
    }

    /// `None` where the calendar ends.
    fn move_months(&self, at: Moment, months: i64) -> Option<Moment> {
        let local_us = self.local_us(at);
        let day = calendar::month_day(self.date(at), months)?;
        Some(self.at_local_us(midnight_us(day) + local_us.rem_euclid(DAY_US)))
    }

    /// `days` later at the same local time of day.
    #[must_use]
    pub fn plus_days(&self, at: Moment, days: u32) -> Moment {
        self.at_local_us(self.local_us(at) + i64::from(days) * DAY_US)
    }

    /// The first moment after the calendar period that `at` falls in, `grace_days` added.
    #[must_use]
    pub fn end_of(&self, period: Period, at: Moment, grace_days: u32) -> Moment {
        let months = match period {
            Period::Year => 12,
            Period::Quarter => 3,
            Period::Month => 1,
        };
        let day = self.date(at);
        let next = months - i64::from(day.month0()) % months;
        let end = calendar::month_day(calendar::first_of_month(day), next);
        end.map_or(Moment(LATEST_US), |end| self.plus_days(self.midnight(end), grace_days))
    }

    /// 1 January, 00:00, of the local year that `at` falls in.
    #[must_use]
    pub fn start_of_year(&self, at: Moment) -> Moment {
        let day = self.date(at);
        self.midnight(day.with_ordinal(1).expect("every year has a first day"))
    }

    /// The first moment of the local day `date`.
    #[must_use]
    pub fn midnight(&self, date: NaiveDate) -> Moment {
        self.at_local_us(midnight_us(date))
    }
}

fn midnight_us(date: NaiveDate) -> i64 {
    i64::from(date.to_epoch_days()) * DAY_US
}

/// How long after 1970-01-01 00:00 a date and time stand on one clock; finer than a microsecond is cut off.
fn micros(local: NaiveDateTime) -> i64 {
    super::cut_to_micros(local.and_utc())
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
