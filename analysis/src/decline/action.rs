//! Next best action: what is worth doing for a member, who is left alone to compare with, and what it did.

use insight::experiment::{Arm, Effect, effect};
use jiff::Span;
use jiff::civil::Date;
use ledger_core::policy::{ActionRule, ActionScope, InsightRules, MemberView, Predicate};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::json;
use tokio_postgres::Client;

use super::WINDOW_DAYS;
use super::assess::Standing;
use crate::AnalysisError;

/// The fewest members in each arm before what was measured counts.
const MEASURED_MIN: usize = 50;

/// An action that is open to a member.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Offer {
    /// The action.
    pub action: String,
    /// What it is, in words.
    pub what: String,
    /// The share of the value at stake that it keeps.
    pub uplift: f64,
    /// `measured`, or `prior` where there is not enough to measure by.
    pub uplift_source: &'static str,
    /// What it costs.
    pub cost: f64,
    /// Value at stake × uplift − cost.
    pub expected_value: f64,
}

/// What an action did so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionEffect {
    /// Members treated of whom the window is over.
    pub treated: usize,
    /// Members left alone of whom it is.
    pub control: usize,
    /// Spend in the window after: treated against control; null where there is too little.
    pub spend: Option<Effect>,
    /// Members who bought something in it.
    pub buyers: Option<Effect>,
}

/// What came of asking for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contact {
    /// Do it.
    Treated,
    /// Leave the member alone: it is in the group to compare with.
    Control,
    /// The member was contacted too lately.
    TooSoon,
    /// The money is spent.
    OverBudget,
    /// The action is not for this member.
    NotEligible,
}

fn double(value: Decimal) -> f64 {
    value.to_f64().unwrap_or(0.0)
}

fn is_eligible(action: &ActionRule, standing: &Standing) -> bool {
    let member = MemberView {
        state: standing.state.clone(),
        falls: standing.falls,
        leaves: standing.leaves,
        value_at_stake: standing.value_at_stake,
        recency_days: i64::from(standing.recency_days),
        orders: standing.orders,
    };
    Predicate::compile(&action.when).and_then(|condition| condition.holds(&ActionScope { member: &member })) == Ok(true)
}

/// Whether the account is in the action's holdout: by a hash, so that it is for ever.
fn is_held_out(program: &str, action: &ActionRule, account: &str) -> bool {
    let hash = blake3::hash(json!([program, action.id, account]).to_string().as_bytes());
    let mut head = [0; 4];
    head.copy_from_slice(&hash.as_bytes()[..4]);
    f64::from(u32::from_be_bytes(head)) / 4_294_967_296.0 < double(action.holdout.0)
}

/// What is worth doing for a member, the best first.
///
/// # Errors
/// What the database says.
pub async fn offers(client: &Client, program: &str, rules: &InsightRules, standing: &Standing, today: Date) -> Result<Vec<Offer>, AnalysisError> {
    let mut offers = Vec::new();
    for action in rules.actions.iter().filter(|action| is_eligible(action, standing)) {
        if spent(client, program, action, today).await? == Some(false) {
            continue;
        }
        let measured = measured_uplift(client, program, action, today).await?;
        let (uplift, uplift_source) = measured.map_or((double(action.uplift.0), "prior"), |uplift| (uplift, "measured"));
        let (cost, what) = (double(action.cost.0), action.what.clone());
        let expected_value = standing.value_at_stake * uplift - cost;
        offers.push(Offer { action: action.id.clone(), what, uplift, uplift_source, cost, expected_value });
    }
    offers.retain(|offer| offer.expected_value > 0.0);
    offers.sort_by(|one, other| other.expected_value.total_cmp(&one.expected_value));
    Ok(offers)
}

/// Whether the budget holds one more; none where there is no budget.
async fn spent(client: &Client, program: &str, action: &ActionRule, today: Date) -> Result<Option<bool>, AnalysisError> {
    let Some(budget) = action.budget else { return Ok(None) };
    let sql = "SELECT coalesce(sum(cost), 0) FROM analysis.contact WHERE program = $1 AND action = $2 AND arm = 'treated' AND day > $3";
    let since = today.saturating_sub(Span::new().days(365));
    let spent: Decimal = client.query_one(sql, &[&program, &action.id, &since]).await?.get(0);
    Ok(Some(spent.saturating_add(action.cost.0) <= budget.0))
}

/// Takes an action for a member, or leaves it alone: once a day at most, within budget and contact limit.
///
/// # Errors
/// What the database says.
pub async fn take(client: &Client, program: &str, action: &ActionRule, standing: &Standing, today: Date, actor: &str) -> Result<Contact, AnalysisError> {
    if !is_eligible(action, standing) {
        return Ok(Contact::NotEligible);
    }
    let sql = "SELECT arm, action FROM analysis.contact WHERE program = $1 AND account = $2 AND day = $3";
    if let Some(row) = client.query_opt(sql, &[&program, &standing.account_id, &today]).await? {
        // Asked for again on the same day, the answer is the same.
        let same = row.get::<_, &str>(1) == action.id;
        return Ok(if !same {
            Contact::TooSoon
        } else if row.get::<_, &str>(0) == "control" {
            Contact::Control
        } else {
            Contact::Treated
        });
    }
    let since = today.saturating_sub(Span::new().days(i64::from(action.contact_days)));
    let sql = "SELECT FROM analysis.contact WHERE program = $1 AND account = $2 AND day > $3 LIMIT 1";
    if client.query_opt(sql, &[&program, &standing.account_id, &since]).await?.is_some() {
        return Ok(Contact::TooSoon);
    }
    if spent(client, program, action, today).await? == Some(false) {
        return Ok(Contact::OverBudget);
    }
    let contact = if is_held_out(program, action, &standing.account_id) { Contact::Control } else { Contact::Treated };
    let (arm, cost) = if contact == Contact::Control { ("control", Decimal::ZERO) } else { ("treated", action.cost.0) };
    let sql = "INSERT INTO analysis.contact VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    client.execute(sql, &[&program, &action.id, &standing.account_id, &today, &arm, &cost, &standing.value_at_stake, &actor]).await?;
    Ok(contact)
}

/// Spend of each member in the window after the contact, by arm, of those whose window is over by `today`; and what was at stake for the treated.
async fn outcomes(client: &Client, program: &str, action: &str, today: Date) -> Result<(Vec<f64>, Vec<f64>, f64), AnalysisError> {
    let sql = "SELECT c.arm, c.value_at_stake, coalesce(sum(d.spend), 0)::float8 FROM analysis.contact c
               LEFT JOIN clv.purchase_day d ON d.program = c.program AND d.account = c.account AND d.day > c.day AND d.day <= c.day + $3::int
               WHERE c.program = $1 AND c.action = $2 AND c.day + $3::int <= $4 GROUP BY c.account, c.day, c.arm, c.value_at_stake ORDER BY c.account, c.day";
    let (mut treated, mut control, mut stake) = (Vec::new(), Vec::new(), 0.0);
    for row in client.query(sql, &[&program, &action, &WINDOW_DAYS, &today]).await? {
        if row.get::<_, &str>(0) == "control" {
            control.push(row.get(2));
        } else {
            treated.push(row.get(2));
            stake += row.get::<_, f64>(1);
        }
    }
    Ok((treated, control, stake))
}

/// What an action did: treated against control, in the window after it.
///
/// # Errors
/// What the database says.
pub async fn action_effect(client: &Client, program: &str, action: &str, today: Date) -> Result<ActionEffect, AnalysisError> {
    let (treated, control, _) = outcomes(client, program, action, today).await?;
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let share = |arm: &[f64]| Arm::proportion(arm.len() as f64, arm.iter().filter(|spend| **spend > 0.0).count() as f64);
    let spend = Arm::of(&control).zip(Arm::of(&treated)).and_then(|(control, treated)| effect(&control, &treated));
    let buyers = if treated.is_empty() || control.is_empty() { None } else { effect(&share(&control), &share(&treated)) };
    Ok(ActionEffect { treated: treated.len(), control: control.len(), spend, buyers })
}

/// The share of the value at stake that the action kept, where enough members of both arms tell.
async fn measured_uplift(client: &Client, program: &str, action: &ActionRule, today: Date) -> Result<Option<f64>, AnalysisError> {
    let (treated, control, stake) = outcomes(client, program, &action.id, today).await?;
    if treated.len() < MEASURED_MIN || control.len() < MEASURED_MIN || stake <= 0.0 {
        return Ok(None);
    }
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let mean = |arm: &[f64]| arm.iter().sum::<f64>() / arm.len() as f64;
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let stake = stake / treated.len() as f64;
    Ok(Some(((mean(&treated) - mean(&control)) / stake).clamp(0.0, 1.0)))
}
