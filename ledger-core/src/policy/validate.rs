//! Reading a rulebook: strictly, with the path, the value and what would be right for each thing that is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use cel::Env;

use super::condition::Condition;
use super::program::{Conditions, Excluded, Program, Version};
use super::rulebook::{Expiry, Rulebook, Span};
use crate::currency::minor_digits;
use crate::points::{Amount, POINTS_MAX, Points};
use crate::text::{VISIBLE_LINES, hidden_in_lines};
use crate::time::{Zone, date_text};

/// The most bonuses of a version (docs/limits.md): a purchase is held to each of them, line by line.
pub const BONUSES_MAX: usize = 500;
const EXCLUDED_MAX: usize = 50_000;
const LEVELS_MAX: usize = 100;
const RULES_MAX: usize = 200;
const WINDOWS_MAX: usize = 20;
const BUDGETS_MAX: usize = 1000;

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {value} is wrong: {expected}")]
pub struct Invalid {
    /// JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    /// The value found there.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl Invalid {
    /// For `value` at `pointer`.
    pub fn new(pointer: impl Into<String>, value: impl ToString, expected: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), value: value.to_string(), expected: expected.into() }
    }
}

/// The JSON Schema (2020-12) of a rulebook.
#[must_use]
pub fn json_schema() -> schemars::Schema {
    schemars::schema_for!(Rulebook)
}

/// Checks `rulebook`, which is to be published, and compiles it as the next version of `program`.
///
/// # Errors
/// Everything that is wrong with it, at least one.
pub fn read_rulebook(rulebook: Rulebook, program: &Program) -> Result<Version, Vec<Invalid>> {
    let mut invalid = Vec::new();
    check_counts(&rulebook, &mut invalid);
    if !invalid.is_empty() {
        // What follows looks at all of them, at some by the square.
        return Err(invalid);
    }
    check_general(&rulebook, program, &mut invalid);
    check_money(&rulebook, program, &mut invalid);
    check_earn(&rulebook, &mut invalid);
    check_redeem_and_expiry(&rulebook, &mut invalid);
    check_tiers(&rulebook, &mut invalid);
    check_texts("", &serde_json::to_value(&rulebook).unwrap_or_default(), &mut invalid);
    rulebook.insight.check(&mut invalid);
    rulebook.fraud.check(&mut invalid);
    for (i, bonus) in rulebook.earn.bonus.iter().enumerate() {
        if let Err(error) = Condition::check(&bonus.when) {
            invalid.push(Invalid::new(format!("/earn/bonus/{i}/when"), &bonus.when, error.to_string()));
        }
    }
    match compile_rulebook(rulebook, program) {
        Ok(version) if invalid.is_empty() => Ok(version),
        Ok(_) => Err(invalid),
        Err(uncompiled) => {
            invalid.extend(uncompiled.into_iter().filter(|other| !invalid.iter().any(|known| known.pointer == other.pointer)).collect::<Vec<_>>());
            Err(invalid)
        }
    }
}

/// Compiles `rulebook`, which was published, as the next version of `program`. What was once published must compile in every later release,
/// so a check of new rulebooks belongs into [`read_rulebook`], never here.
///
/// # Errors
/// What can't be compiled at all: a time zone that does not exist, a condition that is not CEL, no tier.
pub fn compile_rulebook(rulebook: Rulebook, program: &Program) -> Result<Version, Vec<Invalid>> {
    let mut invalid = Vec::new();
    let zone = Zone::parse(&rulebook.time_zone);
    if zone.is_none() {
        invalid.push(Invalid::new("/time_zone", &rulebook.time_zone, "an IANA time zone, such as Europe/London"));
    }
    if rulebook.tiers.levels.is_empty() {
        invalid.push(Invalid::new("/tiers/levels/0/at", "none", "an entry tier at 0"));
    }
    let env = Arc::new(Env::stdlib());
    let mut conditions = Vec::new();
    for (i, bonus) in rulebook.earn.bonus.iter().enumerate() {
        match Condition::compile(&env, &bonus.when) {
            Ok(condition) => conditions.push(condition),
            Err(error) => invalid.push(Invalid::new(format!("/earn/bonus/{i}/when"), &bonus.when, error.to_string())),
        }
    }
    match zone {
        Some(zone) if invalid.is_empty() => {
            let number = program.latest().map_or(1, |latest| latest.number + 1);
            let excluded = Excluded::of(&rulebook.earn.exclude);
            Ok(Version { number, rulebook, zone, env, conditions: Conditions::of(conditions), excluded })
        }
        _ => Err(invalid),
    }
}

/// A purchase is rated, and an account is looked at, by all of these: their number is what its time depends on.
fn check_counts(rulebook: &Rulebook, invalid: &mut Vec<Invalid>) {
    let windows = rulebook.fraud.rules.iter().map(|rule| rule.windows.len()).max().unwrap_or(0);
    let counts = [
        ("/earn/bonus", rulebook.earn.bonus.len(), BONUSES_MAX),
        ("/earn/exclude/categories", rulebook.earn.exclude.categories.len(), EXCLUDED_MAX),
        ("/earn/exclude/skus", rulebook.earn.exclude.skus.len(), EXCLUDED_MAX),
        ("/tiers/levels", rulebook.tiers.levels.len(), LEVELS_MAX),
        ("/insight/ladder", rulebook.insight.ladder.len(), LEVELS_MAX),
        ("/insight/actions", rulebook.insight.actions.len(), RULES_MAX),
        ("/insight/budget", rulebook.insight.budget.len(), BUDGETS_MAX),
        ("/fraud/rules", rulebook.fraud.rules.len(), RULES_MAX),
        ("/fraud/rules/windows", windows, WINDOWS_MAX),
    ];
    for (pointer, count, count_max) in counts.into_iter().filter(|(_, count, count_max)| count > count_max) {
        invalid.push(Invalid::new(pointer, count, format!("at most {count_max}")));
    }
}

/// Every text of the rulebook may be shown to somebody.
fn check_texts(pointer: &str, value: &serde_json::Value, invalid: &mut Vec<Invalid>) {
    match value {
        serde_json::Value::String(text) => {
            if let Some(character) = hidden_in_lines(text) {
                invalid.push(Invalid::new(pointer, format!("{character:?}"), VISIBLE_LINES));
            }
        }
        serde_json::Value::Array(items) => items.iter().enumerate().for_each(|(i, item)| check_texts(&format!("{pointer}/{i}"), item, invalid)),
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, field)| check_texts(&format!("{pointer}/{name}"), field, invalid)),
        _ => {}
    }
}

fn is_currency_code(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

fn check_general(rulebook: &Rulebook, program: &Program, invalid: &mut Vec<Invalid>) {
    if !is_currency_code(&rulebook.currency) {
        invalid.push(Invalid::new("/currency", &rulebook.currency, "an ISO 4217 code of three capital letters, such as GBP"));
    }
    if let Some(latest) = program.latest() {
        if latest.rulebook.mode != rulebook.mode {
            let expected = format!("the mode of the versions before it, {:?}, which can't change", latest.rulebook.mode);
            invalid.push(Invalid::new("/mode", format!("{:?}", rulebook.mode), expected.to_lowercase()));
        }
        if latest.rulebook.currency != rulebook.currency {
            let expected = format!("the currency of the versions before it, {}, which can't change", latest.rulebook.currency);
            invalid.push(Invalid::new("/currency", &rulebook.currency, expected));
        }
    }
    if let Some(points) = rulebook.adjust.approval_from_points.filter(|points| *points < 1) {
        invalid.push(Invalid::new("/adjust/approval_from_points", points, "a whole number of points, 1 or more"));
    }
    if let Some(span) = rulebook.accounts.inactive_after {
        check_span("/accounts/inactive_after", span, invalid);
    }
}

fn check_money(rulebook: &Rulebook, program: &Program, invalid: &mut Vec<Invalid>) {
    let (currency, value) = (&rulebook.currency, rulebook.redeem.value.amount);
    let decimals = minor_digits(currency);
    // A program keeps its currency, also one that was not asked for in ISO 4217 when it began.
    let is_kept = program.latest().is_some_and(|latest| latest.rulebook.currency == *currency);
    if is_currency_code(currency) && decimals.is_none() && !is_kept {
        invalid.push(Invalid::new("/currency", currency, "a currency of ISO 4217, such as GBP"));
    }
    if let Some(decimals) = decimals.filter(|decimals| value.is_finer_than(*decimals)) {
        let expected = format!("an amount that can be paid in {currency}, at most {decimals} decimals: say what more points are worth");
        invalid.push(Invalid::new("/redeem/value/amount", value, expected));
    }
}

fn check_span(pointer: &str, span: Span, invalid: &mut Vec<Invalid>) {
    let right = match (span.months, span.days) {
        (Some(months), None) => (1..=1200).contains(&months),
        (None, Some(days)) => (1..=36_500).contains(&days),
        _ => false,
    };
    if !right {
        let value = serde_json::to_string(&span).unwrap_or_default();
        invalid.push(Invalid::new(pointer, value, "either months (1 to 1200) or days (1 to 36500)"));
    }
}

fn check_positive(pointer: String, amount: Amount, invalid: &mut Vec<Invalid>) {
    if amount <= Amount::ZERO || amount > Amount::from(1_000_000) {
        invalid.push(Invalid::new(pointer, amount, "a decimal above 0, at most 1000000"));
    }
}

fn check_earn(rulebook: &Rulebook, invalid: &mut Vec<Invalid>) {
    let earn = &rulebook.earn;
    check_positive("/earn/base/points".into(), earn.base.points, invalid);
    check_positive("/earn/base/per".into(), earn.base.per, invalid);
    if earn.pending_days > 3650 {
        invalid.push(Invalid::new("/earn/pending_days", earn.pending_days, "0 to 3650"));
    }
    let mut ids = BTreeSet::new();
    for (i, bonus) in earn.bonus.iter().enumerate() {
        if !ids.insert(&bonus.id) {
            invalid.push(Invalid::new(format!("/earn/bonus/{i}/id"), &bonus.id, "an id that no other bonus has"));
        }
        if bonus.multiply < Amount::ZERO || bonus.multiply > Amount::from(1000) {
            invalid.push(Invalid::new(format!("/earn/bonus/{i}/multiply"), bonus.multiply, "a factor from 0 to 1000"));
        }
        if let Some(payer) = bonus.paid_by.as_ref().filter(|_| bonus.multiply <= Amount::ONE) {
            invalid.push(Invalid::new(format!("/earn/bonus/{i}/paid_by"), payer, "nobody, as a factor of 1 or less adds no points to pay for"));
        }
    }
    let caps = [("per_purchase", earn.caps.per_purchase), ("per_day", earn.caps.per_day), ("per_member", earn.caps.per_member)];
    for (name, cap) in caps {
        if let Some(cap) = cap.filter(|cap| !(0..=POINTS_MAX).contains(cap)) {
            invalid.push(Invalid::new(format!("/earn/caps/{name}"), cap, "0 or more points"));
        }
    }
}

fn check_at_least_one(pointer: &str, points: Points, invalid: &mut Vec<Invalid>) {
    if !(1..=POINTS_MAX).contains(&points) {
        invalid.push(Invalid::new(pointer, points, "1 or more points"));
    }
}

fn check_redeem_and_expiry(rulebook: &Rulebook, invalid: &mut Vec<Invalid>) {
    let redeem = &rulebook.redeem;
    check_at_least_one("/redeem/minimum", redeem.minimum, invalid);
    check_at_least_one("/redeem/multiple_of", redeem.multiple_of, invalid);
    check_at_least_one("/redeem/value/points", redeem.value.points, invalid);
    if redeem.value.amount < Amount::ZERO {
        invalid.push(Invalid::new("/redeem/value/amount", redeem.value.amount, "an amount of money, 0 or more"));
    }
    if !(1..=527_040).contains(&redeem.hold_minutes) {
        invalid.push(Invalid::new("/redeem/hold_minutes", redeem.hold_minutes, "1 to 527040 minutes (366 days)"));
    }
    if redeem.offline_minutes > 10_080 {
        invalid.push(Invalid::new("/redeem/offline_minutes", redeem.offline_minutes, "0 to 10080 minutes (7 days)"));
    }
    match rulebook.expiry {
        Expiry::Rolling { months, days } | Expiry::Inactivity { months, days } => check_span("/expiry", Span { months, days }, invalid),
        Expiry::Calendar { grace_days, .. } if grace_days > 3650 => {
            invalid.push(Invalid::new("/expiry/grace_days", grace_days, "0 to 3650"));
        }
        Expiry::FixedDate { date } => {
            let is_before = Zone::parse(&rulebook.time_zone).is_some_and(|zone| zone.midnight(date) < rulebook.effective_from);
            if is_before {
                let expected = format!("a day after effective_from, {}", rulebook.effective_from);
                invalid.push(Invalid::new("/expiry/date", date_text(date), expected));
            }
        }
        Expiry::Never | Expiry::Calendar { .. } => {}
    }
    if rulebook.returns.window_days > 36_500 {
        invalid.push(Invalid::new("/return/window_days", rulebook.returns.window_days, "0 to 36500"));
    }
}

fn check_tiers(rulebook: &Rulebook, invalid: &mut Vec<Invalid>) {
    let levels = &rulebook.tiers.levels;
    if levels.first().is_none_or(|entry| entry.at != Amount::ZERO) {
        let value = levels.first().map_or("none".into(), |entry| entry.at.to_string());
        invalid.push(Invalid::new("/tiers/levels/0/at", value, "an entry tier at 0"));
    }
    for (i, level) in levels.iter().enumerate() {
        if i > 0 && level.at <= levels[i - 1].at {
            let expected = format!("more than the tier before it, {}", levels[i - 1].at);
            invalid.push(Invalid::new(format!("/tiers/levels/{i}/at"), level.at, expected));
        }
        if level.name.is_empty() || level.name.len() > 64 || levels[..i].iter().any(|other| other.name == level.name) {
            invalid.push(Invalid::new(format!("/tiers/levels/{i}/name"), &level.name, "1 to 64 characters that no other tier has"));
        }
        if level.multiplier < Amount::ZERO || level.multiplier > Amount::from(1000) {
            invalid.push(Invalid::new(format!("/tiers/levels/{i}/multiplier"), level.multiplier, "a factor from 0 to 1000"));
        }
        if let Some(base) = &level.base {
            check_positive(format!("/tiers/levels/{i}/base/points"), base.points, invalid);
            check_positive(format!("/tiers/levels/{i}/base/per"), base.per, invalid);
        }
    }
}
