//! What analysts need to know of a program: how its money is counted, and when a member counts as what. It decides no points.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::predicate::Predicate;
use super::validate::Invalid;
use crate::points::Amount;
use crate::time::date_text;

/// How lifetime value is counted, and the ladder of loyalty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InsightRules {
    /// What of a purchase is the program's own, from 0 to 1.
    pub margin: Amount,
    /// By which money a month later is worth less, such as 0.01.
    pub monthly_discount: Amount,
    /// For how many months lifetime value looks ahead.
    pub horizon_months: u32,
    /// Of the points given out, the share that will be spent, from 0 to 1, as finance has set it; estimated by chain ladder if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_redemption: Option<Amount>,
    /// From the lowest rung up; a member stands on the highest whose conditions hold.
    pub ladder: Vec<Rung>,
    /// What can be done for a member whose value falls.
    pub actions: Vec<ActionRule>,
    /// What the points given in a period may cost, earlier periods first; periods may leave gaps and don't overlap.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budget: Vec<BudgetRule>,
}

/// What the points given in a period may cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetRule {
    /// Its first day (UTC), `YYYY-MM-DD`.
    #[serde(with = "crate::time::date")]
    #[schemars(with = "String")]
    pub from: NaiveDate,
    /// Its last day.
    #[serde(with = "crate::time::date")]
    #[schemars(with = "String")]
    pub until: NaiveDate,
    /// In the program's currency.
    pub planned: Amount,
    /// An alert is raised when this share of it, from 0 to 1, is spent.
    #[serde(default = "default_alert_at")]
    pub alert_at: Amount,
}

fn default_alert_at() -> Amount {
    Amount(rust_decimal::Decimal::new(8, 1))
}

/// Something that can be done for a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRule {
    /// Its name.
    pub id: String,
    /// What it is, in words.
    pub what: String,
    /// What it costs for one member, in the program's currency.
    pub cost: Amount,
    /// Of the value at stake, the share that it is believed to keep, from 0 to 1; what was measured counts instead once there is enough.
    pub uplift: Amount,
    /// For whom: a CEL expression over `member`.
    pub when: String,
    /// What all of it may cost in 365 days; no limit if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Amount>,
    /// A member is not contacted again, by any action, for this many days.
    #[serde(default)]
    pub contact_days: u32,
    /// The share of members, from 0 to 1, that is left alone to compare with.
    #[serde(default)]
    pub holdout: Amount,
}

/// The variables of an action's condition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ActionScope<'a> {
    /// The member.
    pub member: &'a MemberView,
}

/// What an action's condition sees of a member.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MemberView {
    /// growing, steady, slipping, fallen, `at_risk` or lost.
    pub state: String,
    /// Probability that spend falls below half.
    pub falls: f64,
    /// Probability that nothing is bought.
    pub leaves: f64,
    /// In the program's currency.
    pub value_at_stake: f64,
    /// Days since the last purchase.
    pub recency_days: i64,
    /// Days with a purchase so far.
    pub orders: i64,
}

/// A rung of the ladder of loyalty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rung {
    /// Its name.
    pub name: String,
    /// At least this many orders.
    #[serde(default)]
    pub orders: u32,
    /// At least this much spent, net of returns.
    #[serde(default)]
    pub spend: Amount,
    /// Within this many days; ever, if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_days: Option<u32>,
}

impl Default for InsightRules {
    fn default() -> Self {
        let rung = |name: &str, orders, within_days| Rung { name: name.into(), orders, spend: Amount::ZERO, within_days };
        Self {
            margin: Amount::ONE,
            monthly_discount: Amount(rust_decimal::Decimal::new(1, 2)),
            horizon_months: 12,
            expected_redemption: None,
            actions: Vec::new(),
            budget: Vec::new(),
            ladder: vec![rung("prospect", 0, None), rung("customer", 1, None), rung("supporter", 3, None), rung("advocate", 10, Some(365))],
        }
    }
}

impl InsightRules {
    pub(super) fn check(&self, invalid: &mut Vec<Invalid>) {
        let shares = [("margin", Some(self.margin)), ("monthly_discount", Some(self.monthly_discount)), ("expected_redemption", self.expected_redemption)];
        for (name, value) in shares.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            if value < Amount::ZERO || value > Amount::ONE {
                invalid.push(Invalid::new(format!("/insight/{name}"), value, "a decimal from 0 to 1"));
            }
        }
        if !(1..=120).contains(&self.horizon_months) {
            invalid.push(Invalid::new("/insight/horizon_months", self.horizon_months, "1 to 120 months"));
        }
        if self.ladder.first().is_none_or(|rung| rung.orders != 0 || rung.spend != Amount::ZERO) {
            invalid.push(Invalid::new("/insight/ladder/0", "it asks for something, or there is none", "a lowest rung that everybody stands on"));
        }
        self.check_actions(invalid);
        self.check_budget(invalid);
        for (i, rung) in self.ladder.iter().enumerate() {
            if rung.name.is_empty() || rung.name.len() > 64 || self.ladder[..i].iter().any(|other| other.name == rung.name) {
                invalid.push(Invalid::new(format!("/insight/ladder/{i}/name"), &rung.name, "1 to 64 characters that no other rung has"));
            }
            if rung.within_days.is_some_and(|days| !(1..=36_500).contains(&days)) {
                invalid.push(Invalid::new(format!("/insight/ladder/{i}/within_days"), rung.within_days.unwrap_or(0), "1 to 36500 days"));
            }
        }
    }

    fn check_budget(&self, invalid: &mut Vec<Invalid>) {
        let mut before: Option<NaiveDate> = None;
        for (i, period) in self.budget.iter().enumerate() {
            let at = |field: &str| format!("/insight/budget/{i}/{field}");
            if before.is_some_and(|before| period.from <= before) {
                invalid.push(Invalid::new(at("from"), date_text(period.from), "a day after the period before it"));
            }
            if period.until < period.from {
                invalid.push(Invalid::new(at("until"), date_text(period.until), "a day that is not before from"));
            }
            if period.planned <= Amount::ZERO {
                invalid.push(Invalid::new(at("planned"), period.planned, "an amount of money above 0"));
            }
            if period.alert_at <= Amount::ZERO || period.alert_at > Amount::ONE {
                invalid.push(Invalid::new(at("alert_at"), period.alert_at, "a decimal above 0, at most 1"));
            }
            before = Some(period.until);
        }
    }

    fn check_actions(&self, invalid: &mut Vec<Invalid>) {
        for (i, action) in self.actions.iter().enumerate() {
            let at = |field: &str| format!("/insight/actions/{i}/{field}");
            if action.id.is_empty() || action.id.len() > 64 || self.actions[..i].iter().any(|other| other.id == action.id) {
                invalid.push(Invalid::new(at("id"), &action.id, "1 to 64 characters that no other action has"));
            }
            for (name, share) in [("uplift", action.uplift), ("holdout", action.holdout)] {
                if share < Amount::ZERO || share > Amount::ONE {
                    invalid.push(Invalid::new(at(name), share, "a decimal from 0 to 1"));
                }
            }
            for (name, amount) in [("cost", Some(action.cost)), ("budget", action.budget)] {
                if let Some(amount) = amount.filter(|amount| *amount < Amount::ZERO) {
                    invalid.push(Invalid::new(at(name), amount, "an amount of money, 0 or more"));
                }
            }
            let scope = ActionScope { member: &MemberView::default() };
            if let Err(why) = Predicate::check(&action.when, &scope) {
                invalid.push(Invalid::new(at("when"), &action.when, why));
            }
        }
    }
}
