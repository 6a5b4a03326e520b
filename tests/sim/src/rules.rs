//! What the reference makes of a rulebook: versions, calendars, rating; exact, and from the beginning each time.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use num_rational::BigRational;
use num_traits::{FromPrimitive, ToPrimitive, Zero};
use serde_json::Value;

use crate::model::Bought;
use crate::plan::LineSpec;

pub type Ratio = BigRational;

pub fn ratio(value: &Value) -> Ratio {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits: i64 = format!("{whole}{part}").parse().expect("a decimal");
    whole_number(digits) / whole_number(10_i64.pow(u32::try_from(part.len()).expect("few digits")))
}

pub fn whole_number(n: i64) -> Ratio {
    Ratio::from_i64(n).expect("a number")
}

pub fn rounded(value: &Ratio, how: &str) -> i64 {
    let two = whole_number(2);
    let floor = value.floor();
    let half = value - &floor == whole_number(1) / &two;
    let result = match how {
        "floor" => floor,
        "ceiling" => value.ceil(),
        "half_up" => (value + whole_number(1) / two).floor(),
        _ if half && (&floor / &two).is_integer() => floor,
        _ => (value + whole_number(1) / two).floor(),
    };
    result.to_integer().to_i64().expect("few points")
}

pub fn zoned(us: i64, rules: &Value) -> Zoned {
    let zone = TimeZone::get(rules["time_zone"].as_str().expect("a zone")).expect("a zone");
    Timestamp::from_microsecond(us).expect("a moment").to_zoned(zone)
}

fn micros(zoned: &Zoned) -> i64 {
    zoned.timestamp().as_microsecond()
}

pub fn plus_days(us: i64, days: i64, rules: &Value) -> i64 {
    micros(&zoned(us, rules).checked_add(days.days()).expect("a day"))
}

pub fn plus_months(us: i64, months: i64, rules: &Value) -> i64 {
    micros(&zoned(us, rules).checked_add(months.months()).expect("a month"))
}

fn start_of(day: Date, rules: &Value) -> i64 {
    let zone = TimeZone::get(rules["time_zone"].as_str().expect("a zone")).expect("a zone");
    micros(&day.to_zoned(zone).expect("a day").start_of_day().expect("a day begins"))
}

fn effective_us(rules: &Value) -> i64 {
    rules["effective_from"].as_str().expect("a moment").parse::<Timestamp>().expect("a moment").as_microsecond()
}

/// The version in force: the one that came into force last, of those the one published last.
pub fn in_force(rules: &[Value], us: i64) -> Option<usize> {
    (0..rules.len()).filter(|i| effective_us(&rules[*i]) <= us).max_by_key(|i| (effective_us(&rules[*i]), *i))
}

pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

pub fn level(rules: &Value, qualifying: i64) -> usize {
    let levels = rules["tiers"]["levels"].as_array().expect("levels");
    levels.iter().rposition(|level| number(&level["at"]) <= qualifying).unwrap_or(0)
}

/// What the receipt says, in cents: what the shop tells, or the product to the nearer cent, a half up.
fn charged(line: &LineSpec) -> i64 {
    line.amount.unwrap_or_else(|| (line.quantity * line.price - 1000 * line.discount + 500).div_euclid(1000))
}

/// The part of `cents` that falls to `quantity` of the line.
fn part(line: &LineSpec, cents: i64, quantity: i64) -> Ratio {
    whole_number(cents) / whole_number(100) * whole_number(quantity) / whole_number(line.quantity)
}

/// What was paid for the goods kept.
pub fn paid(bought: &Bought) -> Ratio {
    bought.lines.iter().zip(&bought.kept).map(|(line, kept)| part(line, charged(line), *kept)).fold(Ratio::zero(), |sum, value| sum + value)
}

/// What the goods kept earn, without the caps.
pub fn rate(bought: &Bought, rules: &Value) -> i64 {
    let earn = &rules["earn"];
    let paid = paid(bought);
    let left = if bought.money_back == 0 { whole_number(1) } else { (&paid - whole_number(bought.money_back) / whole_number(100)) / &paid };
    let base = rules["tiers"]["levels"][bought.tier].get("base").filter(|base| base.is_object()).unwrap_or(&earn["base"]);
    let (points, per) = (ratio(&base["points"]), ratio(&base["per"]));
    let rounding = earn["rounding"].as_str().unwrap_or("floor");
    let per_line = earn["round_per"] == "line";
    let steps = base["whole_steps"] == true;
    let (mut total, mut spend, mut by_line) = (Ratio::zero(), Ratio::zero(), 0);
    for (line, kept) in bought.lines.iter().zip(&bought.kept).filter(|(line, kept)| **kept > 0 && line.sku != "GIFT") {
        let base = part(line, (charged(line) - line.tax).max(0), *kept) * &left;
        spend += &base;
        let mut factor = bought.multiplier.clone();
        for bonus in earn["bonus"].as_array().expect("bonuses") {
            let holds = match bonus["id"].as_str() {
                Some("sku") => line.sku == "A",
                _ => line.category == "food",
            };
            if holds {
                factor *= ratio(&bonus["multiply"]);
            }
        }
        let value = if steps { (&base / &per).floor() * &points } else { &base / &per * &points } * factor;
        by_line += rounded(&value, rounding);
        total += value;
    }
    match (per_line, steps) {
        (true, _) => by_line,
        (false, true) => rounded(&((spend / per).floor() * points * &bought.multiplier), rounding),
        (false, false) => rounded(&total, rounding),
    }
}

pub fn expiry(rules: &Value, at_us: i64, last_activity_us: i64) -> Option<i64> {
    let expiry = &rules["expiry"];
    let after = |us: i64| match (expiry["months"].as_i64(), expiry["days"].as_i64()) {
        (Some(months), _) => plus_months(us, months, rules),
        (_, days) => plus_days(us, days.unwrap_or(0), rules),
    };
    match expiry["mode"].as_str() {
        Some("rolling") => Some(after(at_us)),
        Some("inactivity") => Some(after(last_activity_us)),
        Some("fixed_date") => Some(start_of(expiry["date"].as_str().expect("a date").parse().expect("a date"), rules)),
        Some("calendar") => {
            let day = zoned(at_us, rules).date();
            let next = match expiry["period"].as_str() {
                Some("month") => day.first_of_month().checked_add(1.month()),
                Some("quarter") => date(day.year(), (day.month() - 1) / 3 * 3 + 1, 1).checked_add(3.months()),
                _ => date(day.year(), 1, 1).checked_add(1.year()),
            };
            let end = next.and_then(|end| end.checked_add(number(&expiry["grace_days"]).days())).expect("a day");
            Some(start_of(end, rules))
        }
        _ => None,
    }
}
