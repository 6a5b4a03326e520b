//! Simulate: the same body, the same answer, nothing written.

use axum::Extension;
use axum::extract::State;
use command_service::{purchase_of, simulate};
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Id};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Actor;
use super::purchases::PurchaseBody;
use super::redemptions::RedemptionBody;
use super::returns::ReturnBody;
use crate::answer::{BalanceView, EventView, PointsMoved};
use crate::body::Body;
use crate::names::SimulatedOutcome;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::responses::BodyProblems;
use crate::state::{ApiState, path_id};

/// What would happen.
#[derive(Debug, Serialize, ToSchema)]
pub struct SimulatedView {
    /// `simulated`.
    #[schema(value_type = SimulatedOutcome)]
    pub outcome: &'static str,
    /// The command's id.
    pub command_id: String,
    /// The account.
    pub account_id: String,
    /// Points that would move.
    pub points: PointsMoved,
    /// What would happen.
    pub events: Vec<EventView>,
    /// What the account would have.
    pub balance: BalanceView,
    /// The version of the rulebook that would decide.
    pub rule_version: u32,
    /// The tier before and after.
    pub tier: TierChange,
    /// What would be lost, in words.
    pub warnings: Vec<String>,
}

/// The tier before and after.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierChange {
    /// Before.
    pub before: String,
    /// After.
    pub after: String,
}

async fn run(state: &ApiState, program: &str, account: Id, id: Id, actor: Actor, action: Action) -> Result<axum::Json<SimulatedView>, Problem> {
    let key = AccountKey { program: path_id("program", program)?, account };
    let command = Command { id, actor: actor.0, action };
    command.check().map_err(|invalid| Problem::malformed(vec![invalid.into()]))?;
    let snapshot = state.service.snapshot(key.clone(), purchase_of(&command)).await?.ok_or_else(|| Problem::program_not_found(&key.program))?;
    let simulated = simulate(&snapshot, &command)?;
    let (before, after) = (&simulated.before.standing.tier, &simulated.after.standing.tier);
    let rules = snapshot.program.at_or_first(snapshot.now);
    let falls = rules.is_some_and(|rules| rules.level_index(after) < rules.level_index(before));
    let mut warnings = Vec::new();
    if falls {
        warnings.push(format!("you will fall to {after}"));
    }
    let points = PointsMoved::of(&simulated.events);
    for (lost, why) in [(points.shortfall, "can't be taken back and are booked as a shortfall"), (points.expired, "will expire at once")] {
        if let Some(lost) = lost {
            warnings.push(format!("{lost} points {why}"));
        }
    }
    Ok(axum::Json(SimulatedView {
        outcome: "simulated",
        command_id: command.id.to_string(),
        account_id: key.account.to_string(),
        points,
        events: simulated.events.iter().map(|event| EventView::of(event, &snapshot.program)).collect(),
        balance: simulated.after.balance_at(snapshot.now).into(),
        rule_version: simulated.rule_version,
        tier: TierChange { before: before.to_string(), after: after.to_string() },
        warnings,
    }))
}

/// What a purchase would earn.
#[utoipa::path(post, path = "/programs/{program}/simulate/purchases", operation_id = "simulatePurchase", tag = "Simulations",
    request_body = PurchaseBody, params(("program" = String, Path)),
    responses((status = 200, description = "What would happen", body = SimulatedView), BodyProblems))]
pub(super) async fn purchases(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<PurchaseBody>,
) -> Result<axum::Json<SimulatedView>, Problem> {
    let (account, id) = (body.account_id.clone(), body.purchase_id.clone());
    run(&state, &program, account, id, actor, body.into_action()).await
}

/// What a redemption would do.
#[utoipa::path(post, path = "/programs/{program}/simulate/redemptions", operation_id = "simulateRedemption", tag = "Simulations",
    request_body = RedemptionBody, params(("program" = String, Path)),
    responses((status = 200, description = "What would happen", body = SimulatedView), BodyProblems))]
pub(super) async fn redemptions(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<RedemptionBody>,
) -> Result<axum::Json<SimulatedView>, Problem> {
    let action = body.action();
    run(&state, &program, body.account_id, body.redemption_id, actor, action).await
}

/// What a return would take, and whether a tier would be lost.
#[utoipa::path(post, path = "/programs/{program}/simulate/returns", operation_id = "simulateReturn", tag = "Simulations",
    request_body = ReturnBody, params(("program" = String, Path)),
    responses((status = 200, description = "What would happen", body = SimulatedView), BodyProblems))]
pub(super) async fn returns(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReturnBody>,
) -> Result<axum::Json<SimulatedView>, Problem> {
    let (account, id) = (body.account_id.clone(), body.return_id.clone());
    run(&state, &program, account, id, actor, body.into_action()?).await
}
