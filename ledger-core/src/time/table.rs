//! The changes of every zone's offset, from the time zone database that is compiled in.
//!
//! `zones.tzif` holds the TZif files of the pinned release one after the other, `zones.txt` its version and where each name's file
//! lies. A TZif file (RFC 9636) lists the changes until its last irregular one; a POSIX rule tells the years after it.

use chrono::{Datelike, NaiveDate};

const INDEX: &str = include_str!("zones.txt");
const FILES: &[u8] = include_bytes!("zones.tzif");

/// Seconds in a day of 24 hours.
const DAY: i64 = 86_400;
/// A TZif header: magic, version, 15 unused bytes, six counts.
const HEADER: usize = 44;

/// What a zone's clock did, in seconds since 1970-01-01T00:00:00Z and seconds east of UTC.
pub(super) struct Table {
    /// The offset before the first change.
    pub(super) first_offset: i64,
    /// From when on which offset holds, earliest first.
    pub(super) changes: Vec<(i64, i64)>,
}

/// The table of the zone `name`, in whatever case it is written, with its changes in the years to `last_year`.
pub(super) fn of(name: &str, last_year: i32) -> Option<Table> {
    // Not a zone, but what software writes where none is known (CLDR).
    if name.eq_ignore_ascii_case("Etc/Unknown") {
        return of("UTC", last_year);
    }
    let mut lines = INDEX.lines().skip(1).map(|line| line.split(' '));
    let mut line = lines.find(|line| line.clone().next().is_some_and(|known| known.eq_ignore_ascii_case(name)))?;
    let (begin, end) = (line.nth(1)?.parse().ok()?, line.next()?.parse().ok()?);
    read(FILES.get(begin..end)?, last_year)
}

fn read(file: &[u8], last_year: i32) -> Option<Table> {
    // The first block counts in 32 bits and is there for old readers; the second one counts in 64.
    let (_, rest) = block(file, 4)?;
    let (mut table, rest) = block(rest, 8)?;
    let rule = Rule::parse(std::str::from_utf8(rest).ok()?.trim_matches('\n'))?;
    let (last_change, _) = table.changes.last().copied().unwrap_or((i64::MIN, 0));
    let first_year = if last_change == i64::MIN { 1900 } else { year_of(last_change)? };
    let regular = (first_year..=last_year).flat_map(|year| rule.changes(year));
    table.changes.extend(regular.filter(|(at, _)| *at > last_change));
    Some(table)
}

fn year_of(second: i64) -> Option<i32> {
    Some(NaiveDate::from_epoch_days(i32::try_from(second.div_euclid(DAY)).ok()?)?.year())
}

/// Reads a header and the block that follows it, whose moments take `width` bytes; gives back what comes after the block.
fn block(bytes: &[u8], width: usize) -> Option<(Table, &[u8])> {
    let (header, bytes) = bytes.split_at_checked(HEADER)?;
    if !header.starts_with(b"TZif") {
        return None;
    }
    let counts: Vec<usize> = header[20..].chunks(4).map(|bytes| usize::try_from(number(bytes)).ok()).collect::<Option<_>>()?;
    let [utc_marks, standard_marks, leaps, changes, types, names] = counts[..] else { return None };
    let (moments, bytes) = bytes.split_at_checked(changes * width)?;
    let (kinds, bytes) = bytes.split_at_checked(changes)?;
    let (types, bytes) = bytes.split_at_checked(types * 6)?;
    let rest = bytes.get(names + leaps * (width + 4) + standard_marks + utc_marks..)?;
    let offset = |kind: usize| types.chunks(6).nth(kind).map(|kind| number(&kind[..4]));
    let change = |(at, kind): (&[u8], &u8)| Some((number(at), offset(usize::from(*kind))?));
    let changes = moments.chunks(width).zip(kinds).map(change).collect::<Option<_>>()?;
    // A first block may be empty. Before the first change the first type holds.
    Some((Table { first_offset: offset(0).unwrap_or(0), changes }, rest))
}

/// A big-endian two's complement number.
fn number(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |sum, byte| sum << 8 | i64::from(*byte))
}

/// How a zone's clock goes on for ever: a POSIX TZ string such as `EST5EDT,M3.2.0,M11.1.0`.
struct Rule {
    standard_offset: i64,
    summer: Option<Summer>,
}

struct Summer {
    offset: i64,
    begins: Day,
    ends: Day,
}

/// A day such as the second Sunday of March, and a local time on it or, beyond 24 hours or below 0, near it.
struct Day {
    month: u32,
    /// 5 is the last one of the month.
    week: u32,
    /// 0 is Sunday.
    weekday: u32,
    seconds: i64,
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let (standard, rest) = offset(parts.next()?)?;
        let standard_offset = standard?;
        if rest.is_empty() {
            return Some(Self { standard_offset, summer: None });
        }
        let (summer, "") = offset(rest)? else { return None };
        let summer = Summer { offset: summer.unwrap_or(standard_offset + 3600), begins: Day::parse(parts.next()?)?, ends: Day::parse(parts.next()?)? };
        Some(Self { standard_offset, summer: Some(summer) })
    }

    /// The two changes of a year, in their order.
    fn changes(&self, year: i32) -> Vec<(i64, i64)> {
        let Some(summer) = &self.summer else { return Vec::new() };
        let begins = summer.begins.local(year).map(|local| (local - self.standard_offset, summer.offset));
        let ends = summer.ends.local(year).map(|local| (local - summer.offset, self.standard_offset));
        let mut changes: Vec<_> = begins.into_iter().chain(ends).collect();
        changes.sort_unstable();
        changes
    }
}

impl Day {
    /// From `M3.2.0` or `M3.2.0/3`; the other forms of POSIX are in no zone of the database.
    fn parse(text: &str) -> Option<Self> {
        let (day, time) = text.strip_prefix('M')?.split_once('/').map_or((text.get(1..)?, "2"), |parts| parts);
        let mut numbers = day.split('.').map(|number| number.parse().ok());
        let (month, week, weekday) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Self { month, week, weekday, seconds: seconds(time)? })
    }

    /// In seconds since 1970-01-01 00:00 on the zone's own clock.
    fn local(&self, year: i32) -> Option<i64> {
        let first = NaiveDate::from_ymd_opt(year, self.month, 1)?;
        let to_weekday = (7 + self.weekday - first.weekday().num_days_from_sunday()) % 7;
        let days = (0..self.week).map(|week| to_weekday + 7 * week).take_while(|days| *days < u32::from(first.num_days_in_month()));
        Some((i64::from(first.to_epoch_days()) + i64::from(days.last()?)) * DAY + self.seconds)
    }
}

/// The offset after a name such as `EST` or `<+0330>`, if one follows, and the rest of the text.
fn offset(text: &str) -> Option<(Option<i64>, &str)> {
    let after_name = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let rest = after_name.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | '+' | '-'));
    let stated = &after_name[..after_name.len() - rest.len()];
    if stated.is_empty() {
        return Some((None, rest));
    }
    // POSIX counts west of Greenwich.
    Some((Some(-seconds(stated)?), rest))
}

/// `2`, `-1:30` or `26:00:00` as seconds.
fn seconds(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.trim_start_matches('+')), |digits| (-1, digits));
    let mut sum = 0;
    let mut unit = 3600;
    for part in digits.split(':') {
        sum += part.parse::<i64>().ok()? * unit;
        unit /= 60;
    }
    Some(sign * sum)
}
