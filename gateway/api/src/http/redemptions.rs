//! Redemptions: at once, or hold → capture → release; and their return.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::Action;
use ledger_core::id::Id;
use ledger_core::time::Moment;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Actor;
use super::submit::submit;
use crate::body::Body;
use crate::names::IdSchema;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::responses::CommandResponses;
use crate::state::{ApiState, path_id};

/// A redemption.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"redemption_id": "R-3", "account_id": "m-1001", "points": 500})))]
pub struct RedemptionBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub redemption_id: Id,
    /// Whose points.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// How many.
    pub points: i64,
    /// Set them aside instead of spending them at once.
    #[serde(default)]
    pub hold: bool,
    /// After how many minutes the hold lapses; the rulebook's time if none.
    #[serde(default)]
    pub hold_minutes: Option<u32>,
    /// When it occurred, where it is told later, as by a till that was offline; at most the rulebook's `redeem.offline_minutes` ago. Now if none.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub occurred_at: Option<Moment>,
}

impl RedemptionBody {
    pub(super) fn action(&self) -> Action {
        let (points, occurred_at) = (self.points, self.occurred_at);
        if self.hold { Action::Hold { points, minutes: self.hold_minutes, occurred_at } } else { Action::Redeem { points, occurred_at } }
    }
}

/// A capture of held points.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001", "points": 200})))]
pub struct CaptureBody {
    /// Whose points.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// How many, the rest stays held; all that are still held if none.
    #[serde(default)]
    pub points: Option<i64>,
    /// The idempotency key where one hold is captured several times; the redemption's id if none.
    #[serde(default)]
    #[schema(value_type = Option<IdSchema>)]
    pub capture_id: Option<Id>,
}

/// A release of what is still held.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001"})))]
pub struct ReleaseBody {
    /// Whose points.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
}

/// A return of a redemption.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"return_id": "RT-1", "account_id": "m-1001", "points": 500})))]
pub struct RedemptionReturnBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub return_id: Id,
    /// Whose points.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// How many come back; all that did not come back yet if none.
    #[serde(default)]
    pub points: Option<i64>,
}

/// Spend points, or set them aside.
#[utoipa::path(post, path = "/programs/{program}/redemptions", operation_id = "redeemPoints", tag = "Redemptions",
    request_body = RedemptionBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<RedemptionBody>,
) -> Result<Response, Problem> {
    if body.hold_minutes.is_some() && !body.hold {
        return Err(Problem::parameter("/hold_minutes", "set", "hold_minutes goes with hold: true"));
    }
    let action = body.action();
    submit(&state, &program, body.account_id, body.redemption_id, actor, action).await
}

/// Spend held points, whole or in part.
#[utoipa::path(post, path = "/programs/{program}/redemptions/{redemption_id}/capture", operation_id = "captureHold", tag = "Redemptions",
    request_body = CaptureBody, params(("program" = String, Path), ("redemption_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn capture(
    State(state): State<ApiState>,
    Path((program, redemption)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<CaptureBody>,
) -> Result<Response, Problem> {
    let redemption = path_id("redemption_id", &redemption)?;
    let id = body.capture_id.unwrap_or_else(|| redemption.clone());
    submit(&state, &program, body.account_id, id, actor, Action::Capture { redemption, points: body.points }).await
}

/// Give back what is still held.
#[utoipa::path(post, path = "/programs/{program}/redemptions/{redemption_id}/release", operation_id = "releaseHold", tag = "Redemptions",
    request_body = ReleaseBody, params(("program" = String, Path), ("redemption_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn release(
    State(state): State<ApiState>,
    Path((program, redemption)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReleaseBody>,
) -> Result<Response, Problem> {
    let redemption = path_id("redemption_id", &redemption)?;
    submit(&state, &program, body.account_id, redemption.clone(), actor, Action::Release { redemption }).await
}

/// Give spent points back.
#[utoipa::path(post, path = "/programs/{program}/redemptions/{redemption_id}/return", operation_id = "returnRedemption", tag = "Redemptions",
    request_body = RedemptionReturnBody, params(("program" = String, Path), ("redemption_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn give_back(
    State(state): State<ApiState>,
    Path((program, redemption)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<RedemptionReturnBody>,
) -> Result<Response, Problem> {
    let redemption = path_id("redemption_id", &redemption)?;
    let action = Action::ReturnRedemption { redemption, points: body.points };
    submit(&state, &program, body.account_id, body.return_id, actor, action).await
}
