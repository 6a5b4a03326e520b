//! Whose value falls, why, what is at stake, and what can be done.

use analytics::decline::{self, ActionEffect, Contact, Effect, Offer, Standing, Transition};
use axum::Extension;
use axum::extract::State;
use chrono::NaiveDate;
use ledger_core::id::Id;
use ledger_core::policy::InsightRules;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Actor;
use crate::names::DeclineState;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, by_value, limit};
use crate::responses::{BodyProblems, ReadProblems};
use crate::state::{ApiState, path_id, real_now};

const STATES: &str = "growing, steady, slipping, fallen, at_risk or lost";

/// The rules in force, and the day of the program's clock.
fn rules(state: &ApiState, program: &Id) -> Result<(InsightRules, NaiveDate), Problem> {
    let known = state.program(program)?;
    let now = known.now(real_now());
    let version = known.program.at_or_first(now).ok_or_else(|| Problem::program_not_found(program))?;
    Ok((version.rulebook.insight.clone(), version.zone.date(now)))
}

async fn standing(state: &ApiState, program: &Id, account: &str) -> Result<Standing, Problem> {
    let found = decline::one(&*state.database().await?, program.as_str(), account).await?;
    found.ok_or_else(|| Problem::new("not_assessed", format!("account {account} was not assessed: it bought nothing, or nothing was assessed since")))
}

/// A member's standing, how it came about, and what is worth doing.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeclineView {
    /// Where the member stands, and why.
    #[serde(flatten)]
    standing: Standing,
    /// How that changed, in order.
    transitions: Vec<Transition>,
    /// What is worth doing, the best first.
    actions: Vec<Offer>,
}

/// Where a member stands and why, how that changed, and what is worth doing, the best first.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/decline", operation_id = "getStanding", tag = "Decline",
    params(("program" = String, Path), ("account_id" = String, Path)),
    responses((status = 200, description = "Standing, transitions, actions", body = DeclineView), ReadProblems))]
pub(super) async fn get(State(state): State<ApiState>, Path((program, account)): Path<(String, String)>) -> Result<axum::Json<DeclineView>, Problem> {
    let program = path_id("program", &program)?;
    let (rules, today) = rules(&state, &program)?;
    let standing = standing(&state, &program, &account).await?;
    let database = state.database().await?;
    let transitions = decline::transitions(&database, program.as_str(), Some(&account), 0, 500).await?;
    let actions = decline::offers(&database, program.as_str(), &rules, &standing, today).await?;
    Ok(axum::Json(DeclineView { standing, transitions, actions }))
}

/// Which members.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StandingsParams {
    /// growing, steady, slipping, fallen, at_risk or lost.
    #[param(value_type = Option<DeclineState>)]
    pub state: Option<String>,
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// Members by what is at stake, the most first.
#[utoipa::path(get, path = "/programs/{program}/decline/members", operation_id = "listStandings", tag = "Decline",
    params(("program" = String, Path), StandingsParams),
    responses((status = 200, description = "A page of standings", body = Page<Standing>), ReadProblems))]
pub(super) async fn members(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<StandingsParams>,
) -> Result<axum::Json<Page<Standing>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    if let Some(wrong) = params.state.as_deref().filter(|state| !decline::STATES.contains(state)) {
        return Err(Problem::parameter("state", wrong, STATES));
    }
    let limit = limit(params.limit)?;
    let after = by_value(params.cursor.as_deref())?;
    let after = after.as_ref().map(|(value, account)| (*value, account.as_str()));
    let states: Vec<&str> = params.state.as_deref().into_iter().collect();
    let items = decline::list(&*state.database().await?, program.as_str(), &states, after, limit).await?;
    Ok(axum::Json(Page::of(items, limit, |last| format!("{}:{}", last.value_at_stake, last.account_id))))
}

/// Which transitions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TransitionsParams {
    /// Those after this number; from the first, if none.
    pub cursor: Option<i64>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// Changes of standing in order, for campaigns to follow: the cursor of the last page begins the next look.
#[utoipa::path(get, path = "/programs/{program}/decline/transitions", operation_id = "listTransitions", tag = "Decline",
    params(("program" = String, Path), TransitionsParams),
    responses((status = 200, description = "A page of transitions; its cursor is never null", body = Page<Transition>), ReadProblems))]
pub(super) async fn transitions(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<TransitionsParams>,
) -> Result<axum::Json<Page<Transition>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let after = params.cursor.unwrap_or(0);
    let items = decline::transitions(&*state.database().await?, program.as_str(), None, after, limit(params.limit)?).await?;
    let next_cursor = Some(items.last().map_or(after, |last| last.number).to_string());
    Ok(axum::Json(Page { items, next_cursor }))
}

/// What to do.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactView {
    /// Whether to do it.
    outcome: Contact,
}

fn action_not_found(action: &str) -> Problem {
    Problem::new("action_not_found", format!("the rulebook in force has no action {action}"))
}

/// Take an action for a member: `treated` says do it, `control` says leave the member alone. Asked for again on the same day, the answer is the same.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/actions/{action}", operation_id = "takeAction", tag = "Decline",
    params(("program" = String, Path), ("account_id" = String, Path), ("action" = String, Path)),
    responses((status = 200, description = "Whether to do it", body = ContactView), BodyProblems))]
pub(super) async fn take(
    State(state): State<ApiState>,
    Path((program, account, action)): Path<(String, String, String)>,
    Extension(actor): Extension<Actor>,
) -> Result<axum::Json<ContactView>, Problem> {
    let program = path_id("program", &program)?;
    let (rules, today) = rules(&state, &program)?;
    let rule = rules.actions.iter().find(|rule| rule.id == action).ok_or_else(|| action_not_found(&action))?;
    let standing = standing(&state, &program, &account).await?;
    let mut database = state.database().await?;
    let outcome = decline::take(&mut database, program.as_str(), rule, &standing, today, &actor.0).await?;
    Ok(axum::Json(ContactView { outcome }))
}

/// Treated against control, each interval from and to, 95 %.
#[derive(Debug, Serialize, ToSchema)]
pub struct EffectView {
    /// Treated less control.
    difference: f64,
    /// By Welch's t.
    difference_interval: [f64; 2],
    /// The difference, relative to control.
    lift: f64,
    /// For one look at a time fixed beforehand.
    lift_interval: [f64; 2],
    /// Of no lift, for one look at a time fixed beforehand.
    p: f64,
    /// Valid at every look.
    sequential_lift_interval: [f64; 2],
    /// Of no lift, valid at every look.
    sequential_p: f64,
}

impl From<Effect> for EffectView {
    fn from(effect: Effect) -> Self {
        let Effect { difference, difference_interval, lift, lift_interval, p, sequential_lift_interval, sequential_p } = effect;
        Self { difference, difference_interval, lift, lift_interval, p, sequential_lift_interval, sequential_p }
    }
}

/// What an action did in the 90 days after the first contact.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionEffectView {
    /// Members treated of whom the 90 days are over.
    treated: usize,
    /// Members left alone of whom they are.
    control: usize,
    /// Members treated who are not counted yet: their 90 days are not over.
    treated_open: usize,
    /// Members left alone who are not counted yet.
    control_open: usize,
    /// Contacts, of either arm, first or later, of which the 90 days are not over.
    contacts_open: usize,
    /// Spend, less refunds; null where there is too little.
    spend: Option<EffectView>,
    /// Why `spend` is null; null where it is not.
    why_no_spend: Option<String>,
    /// Members who bought something.
    buyers: Option<EffectView>,
    /// Why `buyers` is null; null where it is not.
    why_no_buyers: Option<String>,
}

impl From<ActionEffect> for ActionEffectView {
    fn from(effect: ActionEffect) -> Self {
        let ActionEffect { treated, control, treated_open, control_open, contacts_open, spend, why_no_spend, buyers, why_no_buyers } = effect;
        let (spend, buyers) = (spend.map(EffectView::from), buyers.map(EffectView::from));
        Self { treated, control, treated_open, control_open, contacts_open, spend, why_no_spend, buyers, why_no_buyers }
    }
}

/// What an action did: treated against control, each with an interval, and a p that may be looked at as often as one likes.
#[utoipa::path(get, path = "/programs/{program}/actions/{action}/effect", operation_id = "getActionEffect", tag = "Decline",
    params(("program" = String, Path), ("action" = String, Path)),
    responses((status = 200, description = "Spend and buyers in the 90 days after, by arm", body = ActionEffectView), ReadProblems))]
pub(super) async fn effect(State(state): State<ApiState>, Path((program, action)): Path<(String, String)>) -> Result<axum::Json<ActionEffectView>, Problem> {
    let program = path_id("program", &program)?;
    let (rules, today) = rules(&state, &program)?;
    if !rules.actions.iter().any(|rule| rule.id == action) {
        return Err(action_not_found(&action));
    }
    let effect = decline::action_effect(&*state.database().await?, program.as_str(), &action, today).await?;
    Ok(axum::Json(effect.into()))
}
