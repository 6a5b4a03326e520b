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
use crate::answer::Accepted;
use crate::body::Body;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::state::ApiState;

/// An adjustment.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustmentBody {
    /// Its id, the idempotency key.
    #[schema(value_type = String)]
    pub adjustment_id: Id,
    /// Whose.
    #[schema(value_type = String)]
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
#[utoipa::path(post, path = "/programs/{program}/adjustments", request_body = AdjustmentBody, params(("program" = String, Path)),
    responses((status = 201, body = Accepted), (status = 200, description = "the first answer again", body = Accepted),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<AdjustmentBody>,
) -> Result<Response, Problem> {
    let reason = Reason { code: body.reason_code.into(), note: body.note };
    submit(&state, &program, body.account_id, body.adjustment_id, actor, Action::Adjust { points: body.points, reason }).await
}
