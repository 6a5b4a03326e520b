//! Adjustments by hand.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::{Action, Reason};
use ledger_core::id::Id;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Actor;
use super::submit::submit;
use crate::body::Body;
use crate::names::IdSchema;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::responses::CommandResponses;
use crate::state::ApiState;

/// An adjustment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"adjustment_id": "A-12", "account_id": "m-1001", "points": 100, "reason_code": "goodwill", "note": "late delivery"})))]
pub struct AdjustmentBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub adjustment_id: Id,
    /// Whose.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// Up or, negative, down.
    pub points: i64,
    /// A code of the program's own.
    pub reason_code: String,
    /// Free text; no personal data belongs here.
    #[serde(default)]
    pub note: String,
}

/// Change the balance by hand.
#[utoipa::path(post, path = "/programs/{program}/adjustments", operation_id = "adjustPoints", tag = "Adjustments",
    request_body = AdjustmentBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<AdjustmentBody>,
) -> Result<Response, Problem> {
    let reason = Reason { code: body.reason_code.into(), note: body.note };
    submit(&state, &program, body.account_id, body.adjustment_id, actor, Action::Adjust { points: body.points, reason }).await
}
