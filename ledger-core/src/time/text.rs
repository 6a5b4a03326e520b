//! Dates and times as text: RFC 3339, and what ISO 8601 and RFC 9557 allow beside it.
//!
//! chrono reads less (no basic form such as `20091201T0745Z`, no comma before a fraction, no `[Europe/London]` at the end) and more
//! (one digit for a month, spaces inside a date). Texts that rulebooks, tills and files have been written with must stay what they
//! are, so the grammar is here, byte for byte:
//!
//! ```text
//! text       = date [ ( "T" | " " ) clock [ "Z" | sign clock ] ] [ zone ] annotation*     letters in either case
//! date       = year "-" month "-" day | year month day           year: 4 digits, or a sign and 6
//! clock      = hh [ ":" mm [ ":" ss [ fraction ] ] ] | hh [ mm [ ss [ fraction ] ] ]
//! fraction   = ( "." | "," ) 1 to 9 digits
//! zone       = "[" [ "!" ] ( name ( "/" name )* | sign hh [ [ ":" ] mm ] ) "]"
//! annotation = "[" key "=" value ( "-" value )* "]"
//! ```
//!
//! A leap second, `:60`, is read as `:59`. What stands in brackets is checked and then left out of account: the offset decides.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};

/// The last year that a text names; the first one is as far before the year 0.
pub(super) const LAST_YEAR: i32 = 9999;

enum Offset {
    /// `Z`: UTC.
    Zulu,
    /// Seconds east of UTC.
    East(i32),
}

struct Read {
    date: NaiveDate,
    time: Option<NaiveTime>,
    offset: Option<Offset>,
}

/// A moment: date, time and offset.
pub(super) fn moment(text: &str) -> Option<DateTime<Utc>> {
    let Read { date, time, offset } = read(text)?;
    let east = match offset? {
        Offset::Zulu => 0,
        // Rounding must not carry into a 26th hour.
        Offset::East(seconds) => Some(seconds).filter(|seconds| seconds.abs() < 26 * 3600)?,
    };
    Some(date.and_time(time?).checked_sub_signed(TimeDelta::seconds(i64::from(east)))?.and_utc())
}

/// What a clock on the wall shows; without a time it is midnight. A numeric offset is left out of account, `Z` is refused, since
/// it names a moment and no wall.
pub(super) fn civil(text: &str) -> Option<NaiveDateTime> {
    let Read { date, time, offset } = read(text)?;
    if matches!(offset, Some(Offset::Zulu)) { None } else { Some(date.and_time(time.unwrap_or(NaiveTime::MIN))) }
}

fn read(text: &str) -> Option<Read> {
    let mut rest = Rest(text.as_bytes());
    let mut read = Read { date: rest.date()?, time: None, offset: None };
    if rest.eat_one_of(b"Tt ") {
        read.time = Some(rest.time()?);
        read.offset = if rest.eat_one_of(b"Zz") { Some(Offset::Zulu) } else { rest.numeric_offset()?.map(Offset::East) };
    }
    rest.zone()?;
    rest.annotations()?;
    rest.0.is_empty().then_some(read)
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn starts_with(&self, one_of: &[u8]) -> bool {
        self.0.first().is_some_and(|first| one_of.contains(first))
    }

    fn eat_one_of(&mut self, one_of: &[u8]) -> bool {
        let is_there = self.starts_with(one_of);
        if is_there {
            self.0 = &self.0[1..];
        }
        is_there
    }

    /// Reads what `is_part` holds for, and tells how much it was.
    fn eat_while(&mut self, is_part: impl Fn(u8) -> bool) -> usize {
        let length = self.0.iter().take_while(|byte| is_part(**byte)).count();
        self.0 = &self.0[length..];
        length
    }

    fn digits(&mut self, count: usize) -> Option<u32> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))?;
        self.0 = rest;
        Some(number)
    }

    fn two_digits(&mut self, most: u32) -> Option<u32> {
        self.digits(2).filter(|number| *number <= most)
    }

    fn date(&mut self) -> Option<NaiveDate> {
        let (is_before, is_signed) = (self.starts_with(b"-"), self.eat_one_of(b"+-"));
        let year = i32::try_from(self.digits(if is_signed { 6 } else { 4 })?).ok().filter(|year| *year <= LAST_YEAR)?;
        if is_before && year == 0 {
            return None;
        }
        let is_extended = self.eat_one_of(b"-");
        let month = self.digits(2)?;
        if is_extended && !self.eat_one_of(b"-") {
            return None;
        }
        NaiveDate::from_ymd_opt(if is_before { -year } else { year }, month, self.digits(2)?)
    }

    fn time(&mut self) -> Option<NaiveTime> {
        let [hour, minute, second, nanosecond] = self.clock(23, 60)?;
        NaiveTime::from_hms_nano_opt(hour, minute, second.min(59), nanosecond)
    }

    fn numeric_offset(&mut self) -> Option<Option<i32>> {
        let is_west = self.starts_with(b"-");
        if !self.eat_one_of(b"+-") {
            return Some(None);
        }
        let [hours, minutes, seconds, nanoseconds] = self.clock(25, 59)?;
        let seconds = i32::try_from(hours * 3600 + minutes * 60 + seconds + u32::from(nanoseconds >= 500_000_000)).ok()?;
        Some(Some(if is_west { -seconds } else { seconds }))
    }

    /// Hours, minutes, seconds and nanoseconds, as far as they are stated.
    fn clock(&mut self, most_hours: u32, most_seconds: u32) -> Option<[u32; 4]> {
        let mut read = [self.two_digits(most_hours)?, 0, 0, 0];
        let has_colons = self.starts_with(b":");
        for (place, most) in [(1, 59), (2, most_seconds)] {
            let is_more = if has_colons { self.eat_one_of(b":") } else { self.two_digits_follow() };
            if !is_more {
                return Some(read);
            }
            read[place] = self.two_digits(most)?;
        }
        if self.eat_one_of(b".,") {
            let length = self.0.iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
            let unit = 10_u32.pow(9 - u32::try_from(length).ok().filter(|length| *length > 0)?);
            read[3] = self.digits(length)? * unit;
        }
        Some(read)
    }

    fn two_digits_follow(&self) -> bool {
        self.0.len() >= 2 && self.0[..2].iter().all(u8::is_ascii_digit)
    }

    /// Reads `[Europe/London]` or `[+01:00]`, unless what comes next is no bracket or an annotation with a key.
    fn zone(&mut self) -> Option<()> {
        let before = self.0;
        if !self.eat_one_of(b"[") {
            return Some(());
        }
        self.eat_one_of(b"!");
        if self.eat_one_of(b"+-") {
            self.two_digits(25)?;
            if self.eat_one_of(b":") || self.two_digits_follow() {
                self.two_digits(59)?;
            }
            return self.eat_one_of(b"]").then_some(());
        }
        let mut is_first = true;
        loop {
            if self.eat_while(|byte| matches!(byte, b'_' | b'.') || byte.is_ascii_alphabetic()) == 0 {
                return None;
            }
            self.eat_while(|byte| matches!(byte, b'_' | b'.' | b'+' | b'-') || byte.is_ascii_alphanumeric());
            if is_first && self.starts_with(b"=") {
                self.0 = before;
                return Some(());
            }
            is_first = false;
            if !self.eat_one_of(b"/") {
                return self.eat_one_of(b"]").then_some(());
            }
        }
    }

    fn annotations(&mut self) -> Option<()> {
        while self.eat_one_of(b"[") {
            let is_critical = self.eat_one_of(b"!");
            let begins = self.eat_while(|byte| byte == b'_' || byte.is_ascii_lowercase());
            self.eat_while(|byte| matches!(byte, b'_' | b'-') || byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if begins == 0 || !self.eat_one_of(b"=") {
                return None;
            }
            loop {
                if self.eat_while(|byte| byte.is_ascii_alphanumeric()) == 0 {
                    return None;
                }
                if !self.eat_one_of(b"-") {
                    break;
                }
            }
            // Critical ones must be understood, and none of them is.
            if !self.eat_one_of(b"]") || is_critical {
                return None;
            }
        }
        Some(())
    }
}
