//! Next best action: what is worth doing for a member, who is left alone to compare with, and what it did.

use chrono::NaiveDate;
use estimators::experiment::{Arm, Effect, effect};
use ledger_core::policy::{ActionRule, ActionScope, InsightRules, MemberView, Predicate};
use ledger_core::time::plus_days;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use serde_json::json;
use tokio_postgres::{Client, GenericClient};
use utoipa::ToSchema;

use super::WINDOW_DAYS;
use super::standing::Standing;
use crate::AnalysisError;

/// The fewest members in each arm before what was measured counts.
const MEASURED_MIN: usize = 50;

fn uplift_sources() -> utoipa::openapi::Object {
    crate::one_of("`prior` where there is not enough to measure by.", &["measured", "prior"])
}

/// An action that is open to a member.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Offer {
    /// The action.
    pub action: String,
    /// What it is, in words.
    pub what: String,
    /// The share of the value at stake that it keeps.
    pub uplift: f64,
    /// `measured`, or `prior` where there is not enough to measure by.
    #[schema(schema_with = uplift_sources)]
    pub uplift_source: &'static str,
    /// What it costs.
    pub cost: f64,
    /// Value at stake × uplift − cost.
    pub expected_value: f64,
}

/// What an action did so far. A member counts once, from the first contact on, however often contacted: the contacts of one member are not independent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ActionEffect {
    /// Members treated of whom the 90 days after the first contact are over.
    pub treated: usize,
    /// Members left alone of whom they are.
    pub control: usize,
    /// Members treated who are not counted yet: their 90 days are not over.
    pub treated_open: usize,
    /// Members left alone who are not counted yet.
    pub control_open: usize,
    /// Contacts, of either arm, first or later, of which the 90 days are not over.
    pub contacts_open: usize,
    /// Spend in the window after, less refunds in it: treated against control; null where there is too little.
    pub spend: Option<Effect>,
    /// Why `spend` is null; null where it is not.
    pub why_no_spend: Option<String>,
    /// Members who bought something in it.
    pub buyers: Option<Effect>,
    /// Why `buyers` is null; null where it is not.
    pub why_no_buyers: Option<String>,
}

/// What came of asking for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
pub async fn offers(client: &Client, program: &str, rules: &InsightRules, standing: &Standing, today: NaiveDate) -> Result<Vec<Offer>, AnalysisError> {
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
async fn spent(client: &impl GenericClient, program: &str, action: &ActionRule, today: NaiveDate) -> Result<Option<bool>, AnalysisError> {
    let Some(budget) = action.budget else { return Ok(None) };
    let sql = "SELECT coalesce(sum(cost), 0) FROM analysis.contact WHERE program = $1 AND action = $2 AND arm = 'treated' AND day > $3";
    let since = plus_days(today, -365);
    let spent: Decimal = client.query_one(sql, &[&program, &action.id, &since]).await?.get(0);
    Ok(Some(spent.saturating_add(action.cost.0) <= budget.0))
}

/// Takes an action for a member, or leaves it alone: once a day at most, within budget and contact limit. Of requests at the same moment one is granted,
/// and the others see it.
///
/// # Errors
/// What the database says; nothing was done then.
pub async fn take(
    client: &mut Client,
    program: &str,
    action: &ActionRule,
    standing: &Standing,
    today: NaiveDate,
    actor: &str,
) -> Result<Contact, AnalysisError> {
    if !is_eligible(action, standing) {
        return Ok(Contact::NotEligible);
    }
    let transaction = client.transaction().await?;
    // The member's contacts first, then the action's budget: always in this order, so that nobody waits in a circle.
    let lock = "SELECT pg_advisory_xact_lock(hashtext('analysis.contact'), hashtext($1))";
    transaction.execute(lock, &[&json!([program, standing.account_id]).to_string()]).await?;
    if action.budget.is_some() {
        let lock = "SELECT pg_advisory_xact_lock(hashtext('analysis.contact.budget'), hashtext($1))";
        transaction.execute(lock, &[&json!([program, action.id]).to_string()]).await?;
    }
    let (contact, is_new) = decide(&transaction, program, action, standing, today).await?;
    if is_new {
        let (arm, cost) = if contact == Contact::Control { ("control", Decimal::ZERO) } else { ("treated", action.cost.0) };
        let sql = "INSERT INTO analysis.contact (program, action, account, day, arm, cost, value_at_stake, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        transaction.execute(sql, &[&program, &action.id, &standing.account_id, &today, &arm, &cost, &standing.value_at_stake, &actor]).await?;
    }
    transaction.commit().await?;
    Ok(contact)
}

/// What to answer, and whether it is a new contact. The member's contacts are locked.
async fn decide(
    client: &impl GenericClient,
    program: &str,
    action: &ActionRule,
    standing: &Standing,
    today: NaiveDate,
) -> Result<(Contact, bool), AnalysisError> {
    let sql = "SELECT arm, action FROM analysis.contact WHERE program = $1 AND account = $2 AND day = $3";
    if let Some(row) = client.query_opt(sql, &[&program, &standing.account_id, &today]).await? {
        // Asked for again on the same day, the answer is the same.
        let same = row.get::<_, &str>(1) == action.id;
        let contact = match row.get::<_, &str>(0) {
            _ if !same => Contact::TooSoon,
            "control" => Contact::Control,
            _ => Contact::Treated,
        };
        return Ok((contact, false));
    }
    let since = plus_days(today, -i64::from(action.contact_days));
    let sql = "SELECT FROM analysis.contact WHERE program = $1 AND account = $2 AND day > $3 LIMIT 1";
    if client.query_opt(sql, &[&program, &standing.account_id, &since]).await?.is_some() {
        return Ok((Contact::TooSoon, false));
    }
    // Without money neither arm grows, so that the two stay alike.
    if spent(client, program, action, today).await? == Some(false) {
        return Ok((Contact::OverBudget, false));
    }
    Ok((if is_held_out(program, action, &standing.account_id) { Contact::Control } else { Contact::Treated }, true))
}

/// What a member did in the window after the first contact.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Net of refunds.
    spend: f64,
    /// A refund is no visit, and takes none away.
    has_bought: bool,
}

/// What members did in the window after their first contact, by arm, of those whose window is over; and who is not counted yet.
#[derive(Debug, Default)]
struct Outcomes {
    treated: Vec<Outcome>,
    control: Vec<Outcome>,
    /// Of the treated, what was at stake at their first contact.
    stake: f64,
    treated_open: usize,
    control_open: usize,
}

async fn outcomes(client: &Client, program: &str, action: &str, today: NaiveDate) -> Result<Outcomes, AnalysisError> {
    // The last day of the window must be over, too.
    let sql = "SELECT c.arm, c.value_at_stake, c.day + $3::int < $4::date, b.spend - r.amount, b.spend > 0
               FROM (SELECT DISTINCT ON (account) account, day, arm, value_at_stake FROM analysis.contact
                     WHERE program = $1 AND action = $2 ORDER BY account, day) c
               CROSS JOIN LATERAL (SELECT coalesce(sum(d.spend), 0)::float8 AS spend FROM clv.purchase_day d
                     WHERE d.program = $1 AND d.account = c.account AND d.day > c.day AND d.day <= c.day + $3::int) b
               CROSS JOIN LATERAL (SELECT coalesce(sum(u.amount), 0)::float8 AS amount FROM clv.unmatched_refund u
                     WHERE u.program = $1 AND u.account = c.account AND u.returned_on > c.day AND u.returned_on <= c.day + $3::int) r
               ORDER BY c.account";
    let mut outcomes = Outcomes::default();
    for row in client.query(sql, &[&program, &action, &WINDOW_DAYS, &today]).await? {
        let outcome = Outcome { spend: row.get(3), has_bought: row.get(4) };
        match (row.get::<_, &str>(0) == "control", row.get::<_, bool>(2)) {
            (true, true) => outcomes.control.push(outcome),
            (true, false) => outcomes.control_open += 1,
            (false, true) => {
                outcomes.treated.push(outcome);
                outcomes.stake += row.get::<_, f64>(1);
            }
            (false, false) => outcomes.treated_open += 1,
        }
    }
    Ok(outcomes)
}

/// What an action did: treated against control, in the window after the first contact of each member.
///
/// # Errors
/// What the database says.
pub async fn action_effect(client: &Client, program: &str, action: &str, today: NaiveDate) -> Result<ActionEffect, AnalysisError> {
    let Outcomes { treated, control, treated_open, control_open, .. } = outcomes(client, program, action, today).await?;
    let sql = "SELECT count(*) FROM analysis.contact WHERE program = $1 AND action = $2 AND day + $3::int >= $4::date";
    let contacts_open: i64 = client.query_one(sql, &[&program, &action, &WINDOW_DAYS, &today]).await?.get(0);
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let share = |arm: &[Outcome]| Arm::proportion(arm.len() as f64, arm.iter().filter(|outcome| outcome.has_bought).count() as f64);
    let spends = |arm: &[Outcome]| Arm::of(&arm.iter().map(|outcome| outcome.spend).collect::<Vec<f64>>());
    let spend = spends(&control).zip(spends(&treated)).and_then(|(control, treated)| effect(&control, &treated));
    let buyers = if treated.is_empty() || control.is_empty() { None } else { effect(&share(&control), &share(&treated)) };
    let contacts_open = usize::try_from(contacts_open).unwrap_or(usize::MAX);
    let why = incomparable(&control, &treated);
    let (why_no_spend, why_no_buyers) = (spend.is_none().then(|| why.clone()), buyers.is_none().then_some(why));
    let (treated, control) = (treated.len(), control.len());
    Ok(ActionEffect { treated, control, treated_open, control_open, contacts_open, spend, why_no_spend, buyers, why_no_buyers })
}

/// Why two arms can't be compared, where they can't.
fn incomparable(control: &[Outcome], treated: &[Outcome]) -> String {
    if control.len() < 2 || treated.len() < 2 {
        let (control, treated) = (control.len(), treated.len());
        format!(
            "each arm takes 2 members of whom the {WINDOW_DAYS} days after the first contact are over: {treated} treated and {control} of control are so far"
        )
    } else if !control.iter().any(|outcome| outcome.has_bought) {
        "no member of control bought anything, so there is nothing to compare with".into()
    } else if control.iter().map(|outcome| outcome.spend).sum::<f64>() <= 0.0 {
        "refunds left nothing of what control spent, so there is nothing to compare with".into()
    } else {
        "all members did the same, so no error can be told".into()
    }
}

/// The share of the value at stake that the action kept, where enough members of both arms tell.
async fn measured_uplift(client: &Client, program: &str, action: &ActionRule, today: NaiveDate) -> Result<Option<f64>, AnalysisError> {
    let Outcomes { treated, control, stake, .. } = outcomes(client, program, &action.id, today).await?;
    if treated.len() < MEASURED_MIN || control.len() < MEASURED_MIN || stake <= 0.0 {
        return Ok(None);
    }
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let mean = |arm: &[Outcome]| arm.iter().map(|outcome| outcome.spend).sum::<f64>() / arm.len() as f64;
    #[allow(clippy::cast_precision_loss, reason = "members far below 2^53")]
    let stake = stake / treated.len() as f64;
    Ok(Some(((mean(&treated) - mean(&control)) / stake).clamp(0.0, 1.0)))
}
