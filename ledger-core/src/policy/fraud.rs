//! Fraud rules as data: windows that are counted, and a condition in CEL over what was counted. They decide no points; what they find is
//! looked at by people, and may freeze an account by a command like any other.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::predicate::Predicate;
use super::validate::Invalid;
use crate::points::{POINTS_MAX, Points};

/// The longest window, days.
const WINDOW_MINUTES_MAX: u32 = 400 * 24 * 60;

/// What is watched for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FraudRules {
    /// Members of staff (cashiers, and actors who adjust) and their own accounts.
    pub staff: BTreeMap<String, String>,
    /// Adjustments of this many points or more need approval elsewhere; those just under it are looked at.
    pub approval_limit: Points,
    /// The rules; a set of our own if not given.
    pub rules: Vec<FraudRule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FraudRule {
    /// Its name.
    pub id: String,
    /// Raised whenever it changes; cases name it.
    pub version: u32,
    /// How bad it is.
    pub severity: Severity,
    /// The kinds of signal that it looks at.
    pub on: Vec<SignalKind>,
    /// Whom a case is about.
    pub by: SignalField,
    /// What is counted.
    #[serde(default)]
    pub windows: BTreeMap<String, SignalWindow>,
    /// A CEL expression over `signal`, `window` and `limit`.
    pub when: String,
    /// Why, in words.
    pub explanation: String,
    /// Whether the signal's account is frozen at once.
    #[serde(default)]
    pub block: bool,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be seen in a summary.
    Low,
    /// To be looked at this week.
    Medium,
    /// To be looked at today.
    High,
    /// To be looked at now.
    Critical,
}

/// A kind of signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalKind {
    /// An account was opened.
    Open,
    /// A purchase.
    Earn,
    /// Points were spent or held.
    Redeem,
    /// Goods were given back.
    Return,
    /// Points were given or taken by hand.
    Adjust,
    /// An account got another name.
    Alias,
    /// An inactive account was used again.
    Woken,
    /// A command was refused.
    Refused,
}

/// What signals are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignalField {
    /// The account.
    Account,
    /// Who asked: an API key.
    Actor,
    /// The member of staff.
    Cashier,
    /// The till.
    Till,
    /// The member's device.
    Device,
    /// The token of the card that was paid with.
    Card,
    /// The store.
    Store,
    /// The id of the purchase, redemption, return or adjustment; of an alias, its hash.
    Reference,
}

/// What is counted in a window that ends with the signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalWindow {
    /// Signals of these kinds; `refused` stands alone.
    pub kinds: Vec<SignalKind>,
    /// That have this in common with it; nothing is counted where it is empty.
    pub by: SignalField,
    /// How long the window is.
    pub minutes: u32,
    /// Of what.
    pub measure: Measure,
    /// Of refusals, those with one of these codes, and of adjustments, those with one of these reasons; all if none.
    #[serde(default)]
    pub codes: Vec<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Signals.
    Count,
    /// Their points, without sign.
    Points,
    /// Different accounts.
    Accounts,
    /// Different stores.
    Stores,
    /// How many robust standard deviations the points lie above the median of all others with something in the window.
    PeerScore,
    /// The signal's points in per cent of the median of those before it in the window; 0 where they are fewer than five.
    OwnPercent,
    /// Signals that somebody has confirmed to be fraud, by a case or a report.
    Confirmed,
}

/// What a condition sees of a signal.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SignalView {
    /// Its kind.
    pub kind: String,
    /// The account.
    pub account: String,
    /// Who asked.
    pub actor: String,
    /// What the member had more, or less.
    pub points: Points,
    /// Such as `store` or `web`.
    pub channel: String,
    /// Which store.
    pub store: String,
    /// The member of staff.
    pub cashier: String,
    /// The till.
    pub till: String,
    /// The device.
    pub device: String,
    /// The card's token.
    pub card: String,
    /// The id of the purchase, redemption, return or adjustment.
    pub reference: String,
    /// Of a refusal, and the reason of an adjustment.
    pub code: String,
    /// Whether the account is the cashier's or actor's own.
    pub own: bool,
    /// Whether the account is that of another member of staff.
    pub colleague: bool,
}

impl Default for FraudRules {
    fn default() -> Self {
        let rules = serde_json::from_str(include_str!("fraud_rules.json")).expect("a test reads it");
        Self { staff: BTreeMap::new(), approval_limit: 0, rules }
    }
}

impl FraudRules {
    /// Whether `account` is the own one of the member of staff `who`.
    #[must_use]
    pub fn is_own(&self, who: &str, account: &str) -> bool {
        self.staff.get(who).is_some_and(|own| own == account)
    }

    /// Whether `account` is the own one of anybody of the staff.
    #[must_use]
    pub fn is_of_staff(&self, account: &str) -> bool {
        self.staff.values().any(|own| own == account)
    }

    pub(super) fn check(&self, invalid: &mut Vec<Invalid>) {
        if !(0..=POINTS_MAX).contains(&self.approval_limit) {
            invalid.push(Invalid::new("/fraud/approval_limit", self.approval_limit, "0 or more points"));
        }
        let mut ids = BTreeSet::new();
        for (i, rule) in self.rules.iter().enumerate() {
            let at = |field: &str| format!("/fraud/rules/{i}/{field}");
            if rule.id.is_empty() || rule.id.len() > 64 || !ids.insert(&rule.id) {
                invalid.push(Invalid::new(at("id"), &rule.id, "1 to 64 characters that no other rule has"));
            }
            for (name, window) in &rule.windows {
                let is_refused = |kind: &SignalKind| *kind == SignalKind::Refused;
                if window.kinds.is_empty() || (window.kinds.iter().any(is_refused) && window.kinds.len() > 1) {
                    invalid.push(Invalid::new(at(&format!("windows/{name}/kinds")), window.kinds.len(), "one kind or more; refused stands alone"));
                }
                if window.kinds.iter().any(is_refused) && !matches!(window.by, SignalField::Account | SignalField::Actor) {
                    invalid.push(Invalid::new(
                        at(&format!("windows/{name}/by")),
                        format!("{:?}", window.by),
                        "account or actor, which is all that refusals tell",
                    ));
                }
                if window.kinds.iter().any(is_refused) && matches!(window.measure, Measure::OwnPercent | Measure::Confirmed) {
                    invalid.push(Invalid::new(at(&format!("windows/{name}/measure")), format!("{:?}", window.measure), "count, for refusals"));
                }
                if !(1..=WINDOW_MINUTES_MAX).contains(&window.minutes) {
                    invalid.push(Invalid::new(at(&format!("windows/{name}/minutes")), window.minutes, format!("1 to {WINDOW_MINUTES_MAX} minutes (400 days)")));
                }
            }
            // Ones, so that no part of a condition is passed over because of a zero before it.
            let ones: BTreeMap<String, i64> = rule.windows.keys().map(|name| (name.clone(), 1)).collect();
            let scope = FraudScope { signal: &SignalView { points: 1, ..SignalView::default() }, window: &ones, limit: 1 };
            if let Err(why) = Predicate::check(&rule.when, &scope) {
                invalid.push(Invalid::new(at("when"), &rule.when, why));
            }
        }
    }
}

/// The variables of a rule's condition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FraudScope<'a> {
    /// What happened.
    pub signal: &'a SignalView,
    /// What its windows count, by name.
    pub window: &'a BTreeMap<String, i64>,
    /// The approval limit.
    pub limit: Points,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_rules_are_right() {
        let mut invalid = Vec::new();
        FraudRules::default().check(&mut invalid);
        assert_eq!(invalid, []);
    }

    #[test]
    fn refusals_have_no_points_and_are_no_fraud_yet() {
        let mut rules = FraudRules::default();
        rules.rules.retain(|rule| rule.id == "guessing");
        rules.rules[0].windows.values_mut().for_each(|window| window.measure = Measure::Confirmed);
        let mut invalid = Vec::new();
        rules.check(&mut invalid);
        assert_eq!((invalid.len(), &*invalid[0].pointer), (1, "/fraud/rules/0/windows/refusals/measure"));
    }

    #[test]
    fn a_condition_that_names_what_is_not_counted_is_refused() {
        let mut rules = FraudRules::default();
        rules.rules.truncate(1);
        rules.rules[0].when = "window.shoes > 1".into();
        let mut invalid = Vec::new();
        rules.check(&mut invalid);
        assert_eq!(invalid[0].pointer, "/fraud/rules/0/when");
    }
}
