//! Rulebooks drawn by chance, and what may change between two versions.

use jiff::ToSpan;
use jiff::tz::TimeZone;
use rand::Rng;
use serde_json::{Value, json};

use super::{DAY_US, Draw, Plan, Step, What};
use crate::rules::in_force;

pub(super) const ZONES: [&str; 4] = ["UTC", "Europe/London", "America/New_York", "Australia/Lord_Howe"];
/// What tiers qualify by, and what the second and the third take.
const UNITS: [(&str, i64, i64); 3] = [("points", 60, 200), ("purchases", 3, 7), ("spend", 40, 150)];

impl Draw {
    pub(super) fn rulebook(&mut self, begin_us: i64) -> Value {
        let expiry = match self.rng.random_range(0..6) {
            0 => json!({"mode": "never"}),
            1 => json!({"mode": "rolling", "months": self.rng.random_range(1..4)}),
            2 => json!({"mode": "rolling", "days": self.rng.random_range(3..60)}),
            3 => {
                let date = jiff::Timestamp::from_microsecond(begin_us).expect("a moment").to_zoned(TimeZone::UTC).date();
                json!({"mode": "fixed_date", "date": (date + i64::from(self.rng.random_range(20..200)).days()).to_string()})
            }
            4 => json!({"mode": "calendar", "period": self.of(&["month", "quarter", "year"]), "grace_days": self.rng.random_range(0..20)}),
            _ => json!({"mode": "inactivity", "days": self.rng.random_range(5..60)}),
        };
        let mut bonus = Vec::new();
        if self.chance(40) {
            bonus.push(json!({"id": "sku", "when": "line.sku == 'A'", "multiply": self.of(&["2", "1.5", "3"]), "paid_by": "acme"}));
        }
        if self.chance(25) {
            bonus.push(
                json!({"id": "food", "when": "line.category == 'food' && purchase.channel == 'web'", "multiply": self.of(&["1.1", "2"]), "paid_by": "zeta"}),
            );
        }
        bonus.extend(self.bonus_on_goods());
        let mut caps = json!({});
        for (name, low, high) in [("per_purchase", 10, 60), ("per_day", 20, 90), ("per_member", 100, 400)] {
            if self.chance(25) {
                caps[name] = json!(self.rng.random_range(low..high));
            }
        }
        let whole_steps = bonus.is_empty() && self.chance(15);
        let mut tiers = json!({"levels": [{"name": "member", "at": 0}]});
        if self.chance(50) {
            let (unit, low, high) = self.of(&UNITS);
            let second = json!({"name": "silver", "at": low, "multiplier": self.of(&["1", "1.25", "2"])});
            let third = json!({"name": "gold", "at": high, "multiplier": "2.5"});
            tiers = json!({"qualify_by": unit, "downgrade": "never", "levels": [{"name": "member", "at": 0}, second, third]});
        }
        if let Some(rng) = &mut self.reviews {
            let (unit, low, high) = UNITS[rng.random_range(0..UNITS.len())];
            let second = json!({"name": "silver", "at": low, "multiplier": "1.25"});
            let third = json!({"name": "gold", "at": high, "multiplier": "2.5"});
            let window = ["lifetime", "calendar_year", "rolling_12_months"][rng.random_range(0..3)];
            let downgrade = ["one_level", "to_level"][rng.random_range(0..2)];
            tiers = json!({"qualify_by": unit, "window": window, "downgrade": downgrade, "levels": [{"name": "member", "at": 0}, second, third]});
        }
        if tiers["levels"][2].is_object() && self.chance(30) {
            tiers["levels"][2]["base"] = json!({"points": "1", "per": self.of(&["0.90", "0.70"]), "whole_steps": whole_steps});
        }
        let mut accounts =
            json!({"open_on_earn": self.chance(80), "activation_required": self.chance(20), "on_close": self.of(&["forfeit", "keep", "refuse"])});
        if self.chance(60) {
            accounts["inactive_after"] = json!({"days": self.rng.random_range(10..90)});
        }
        let minimum = self.of(&[1, 1, 1, 10]);
        let unmatched = if self.extras.random_bool(0.7) { "reduce_spend" } else { "reject" };
        json!({
            "program": "shop", "currency": "EUR", "time_zone": self.zone, "effective_from": "2020-01-01T00:00:00Z",
            "accounts": accounts,
            "earn": {"base": {"points": self.of(&["1", "1", "2", "0.5", "7"]), "per": self.of(&["1.00", "1.00", "3.00", "0.70"]), "whole_steps": whole_steps},
                     "rounding": self.of(&["floor", "half_up", "half_even", "ceiling"]), "round_per": self.of(&["line", "order"]),
                     "pending_days": self.of(&[0, 0, 1, 3, 14]), "exclude": {"skus": ["GIFT"]}, "bonus": bonus, "caps": caps},
            "expiry": expiry,
            "redeem": {"minimum": minimum, "multiple_of": self.of(&[1, 1, 5]), "value": {"points": self.of(&[100, 3, 7]), "amount": self.of(&["1.00", "2.50"])},
                       "offline_minutes": self.of(&[0, 30, 1440])},
            "return": {"window_days": self.of(&[60, 90, 365]), "on_shortfall": self.of(&["clamp", "negative"]), "unmatched": unmatched},
            "tiers": tiers
        })
    }

    /// Bonuses whose conditions look at what a return changes, or at prices.
    fn bonus_on_goods(&mut self) -> Vec<Value> {
        let all = [
            ("many", "line.quantity >= 2.0"),
            ("few", "line.quantity < 1.5"),
            ("cheap", "line.unit_price < 10.0"),
            ("dear", "line.amount >= 15.0"),
            ("basket", "purchase.total >= 25.0"),
            ("small", "purchase.total < 8.0"),
            ("single", "purchase.line_count == 1"),
        ];
        let all = all.map(|(id, when)| json!({"id": id, "when": when, "multiply": self.of(&["2", "1.5", "0.5"])}));
        all.into_iter().filter(|_| self.chance(10)).collect()
    }
}

/// What may change between two versions of a rulebook: in words, and where it stands.
pub const CHANGES: [(&str, &str); 24] = [
    ("cap per purchase", "/earn/caps/per_purchase"),
    ("cap per day", "/earn/caps/per_day"),
    ("cap per member", "/earn/caps/per_member"),
    ("base rate", "/earn/base"),
    ("rounding", "/earn/rounding"),
    ("rounded per line or order", "/earn/round_per"),
    ("days that points are pending", "/earn/pending_days"),
    ("bonuses and their conditions", "/earn/bonus"),
    ("expiry", "/expiry"),
    ("time zone", "/time_zone"),
    ("time without activity", "/accounts/inactive_after"),
    ("activation", "/accounts/activation_required"),
    ("opening by a purchase", "/accounts/open_on_earn"),
    ("what closing does", "/accounts/on_close"),
    ("least redemption", "/redeem/minimum"),
    ("what redemptions come in", "/redeem/multiple_of"),
    ("what points are worth", "/redeem/value"),
    ("how late a redemption may be told", "/redeem/offline_minutes"),
    ("time for returns", "/return/window_days"),
    ("shortfalls", "/return/on_shortfall"),
    ("refunds without a purchase", "/return/unmatched"),
    ("what tiers qualify by", "/tiers/qualify_by"),
    ("window and downgrade of tiers", "/tiers/window"),
    ("multipliers, rates and thresholds of tiers", "/tiers/levels"),
];

/// Which of [`CHANGES`] a plan makes by a version that something is asked after.
pub fn changes(plan: &Plan) -> impl Iterator<Item = usize> {
    let is_asked = |step: &Step| matches!(step.what, What::Ask { .. });
    let published = |(i, step): (usize, &Step)| match step.what {
        What::Publish(version) if plan.steps[i..].iter().any(is_asked) => Some(version),
        _ => None,
    };
    let versions: Vec<usize> = plan.steps.iter().enumerate().filter_map(published).collect();
    (0..CHANGES.len()).filter(move |i| {
        let pointer = CHANGES[*i].1;
        versions.iter().any(|version| plan.rulebooks[*version].pointer(pointer) != plan.rulebooks[*version - 1].pointer(pointer))
    })
}

/// Other rules from now on: all of them but the names of the tiers may be others.
pub(super) fn next_rulebook(draw: &mut Draw, before: &[Value]) -> Value {
    draw.zone = draw.of(&ZONES);
    let mut next = draw.rulebook(draw.now_us);
    // A ladder keeps its tiers; what they take, what they give and by which unit they are reached may change.
    let has_ladder = |rules: &Value| rules["tiers"]["levels"].as_array().is_some_and(|levels| levels.len() > 1);
    if has_ladder(&before[0]) != has_ladder(&next) {
        next["tiers"] = before[0]["tiers"].clone();
        let steps = next["earn"]["base"]["whole_steps"].clone();
        for level in next["tiers"]["levels"].as_array_mut().into_iter().flatten() {
            if level["base"].is_object() {
                level["base"]["whole_steps"] = steps.clone();
            }
        }
    }
    let from = draw.now_us + draw.of(&[0, -DAY_US, DAY_US]);
    // Of what is lost already it is known when it is booked: only rules to come may say otherwise.
    if let Some(version) = in_force(before, from).filter(|_| from <= draw.now_us) {
        next["redeem"]["offline_minutes"] = before[version]["redeem"]["offline_minutes"].clone();
    }
    next["effective_from"] = json!(jiff::Timestamp::from_microsecond(from).expect("a moment").to_string());
    next
}
