//! What the reference makes of a rulebook: versions, calendars, rating; exact, and from the beginning each time.

use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};
use num_rational::BigRational;
use num_traits::{FromPrimitive, ToPrimitive, Zero};
use serde_json::Value;

use crate::model::Bought;
use crate::plan::{LineSpec, MINUTE_US};

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

pub fn effective_us(rules: &Value) -> i64 {
    rules["effective_from"].as_str().expect("a moment").parse::<Timestamp>().expect("a moment").as_microsecond()
}

/// The version in force: the one that came into force last, of those the one published last.
pub fn in_force(rules: &[Value], us: i64) -> Option<usize> {
    (0..rules.len()).filter(|i| effective_us(&rules[*i]) <= us).max_by_key(|i| (effective_us(&rules[*i]), *i))
}

/// When points that are lost at `lost_us` are booked as lost: when no redemption of before can be told any more.
pub fn booked_us(lost_us: i64, rules: &[Value]) -> i64 {
    let ends = rules.iter().map(effective_us).filter(|us| *us < lost_us).chain([lost_us]);
    let told_by = |us: i64| us + number(&rules[in_force(rules, us - 1).unwrap_or(0)]["redeem"]["offline_minutes"]) * MINUTE_US;
    ends.map(told_by).fold(lost_us, i64::max)
}

pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

/// The tier that points, millionths of spend and purchases reach, by the unit that the rulebook qualifies by.
pub fn level(rules: &Value, counts: [i64; 3]) -> usize {
    let levels = rules["tiers"]["levels"].as_array().expect("levels");
    let scale = if unit(rules) == 1 { 1_000_000 } else { 1 };
    levels.iter().rposition(|level| number(&level["at"]) * scale <= counts[unit(rules)]).unwrap_or(0)
}

/// By which of points, spend and purchases the rulebook qualifies.
pub fn unit(rules: &Value) -> usize {
    match rules["tiers"]["qualify_by"].as_str() {
        Some("spend") => 1,
        Some("purchases") => 2,
        _ => 0,
    }
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

/// To millionths, as conditions see money.
fn millionths(value: &Ratio) -> i64 {
    rounded(&(value * whole_number(1_000_000)), "half_even")
}

/// Whether the bonus `id` holds for a line of which `kept` thousandths are kept, at `amount` in millionths, in a basket of `total`.
fn holds(id: &str, bought: &Bought, line: &LineSpec, kept: i64, (amount, total): (i64, i64)) -> bool {
    match id {
        "sku" => line.sku == "A",
        "food" => line.category == "food",
        "many" => kept >= 2000,
        "few" => kept < 1500,
        "cheap" => line.price < 1000,
        "dear" => amount >= 15_000_000,
        "basket" => total >= 25_000_000,
        "small" => total < 8_000_000,
        "single" => bought.kept.iter().filter(|kept| **kept > 0).count() == 1,
        other => unreachable!("no rulebook of the simulator has a bonus {other}"),
    }
}

/// What the goods kept earn, without the caps that purchases share, and what they cost in millionths, tax and what earns nothing left out.
pub fn rate(bought: &Bought, rules: &Value) -> (i64, i64) {
    let earn = &rules["earn"];
    let paid = paid(bought);
    let left = if bought.money_back == 0 { whole_number(1) } else { (&paid - whole_number(bought.money_back) / whole_number(100)) / &paid };
    let total_paid = millionths(&(&paid - whole_number(bought.money_back) / whole_number(100)));
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
        let amount = millionths(&(part(line, charged(line), *kept) * &left));
        for bonus in earn["bonus"].as_array().expect("bonuses") {
            if holds(bonus["id"].as_str().expect("an id"), bought, line, *kept, (amount, total_paid)) {
                factor *= ratio(&bonus["multiply"]);
            }
        }
        let value = if steps { (&base / &per).floor() * &points } else { &base / &per * &points } * factor;
        by_line += rounded(&value, rounding);
        total += value;
    }
    let points = match (per_line, steps) {
        (true, _) => by_line,
        (false, true) => rounded(&((&spend / per).floor() * points * &bought.multiplier), rounding),
        (false, false) => rounded(&total, rounding),
    };
    (earn["caps"].get("per_purchase").map_or(points, |cap| points.min(number(cap))), millionths(&spend))
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
        Some("fixed_date") => Some(start_of(expiry["date"].as_str().expect("a date").parse().expect("a date"), rules).max(at_us)),
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
