//! Refunds: money given back for purchases that the book does not have.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::{Action, Refund};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Actor;
use super::submit::submit;
use crate::answer::Accepted;
use crate::body::Body;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::state::ApiState;

/// A refund of a purchase that the book does not have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    /// Its id, the idempotency key.
    #[schema(value_type = String)]
    pub refund_id: Id,
    /// Whose.
    #[schema(value_type = String)]
    pub account_id: Id,
    /// When the money was given back.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Moment,
    /// How much, to the currency's minor unit.
    #[schema(value_type = String)]
    pub amount: Amount,
    /// What the shop refers to, such as the number of a receipt.
    #[serde(default)]
    pub reference: String,
}

impl RefundBody {
    pub(super) fn into_action(self) -> Action {
        Action::Refund(Box::new(Refund { occurred_at: self.occurred_at, amount: self.amount, reference: self.reference.into() }))
    }
}

/// Give money back for a purchase that the book does not have, where the rulebook's `return.unmatched` is `reduce_spend`. It lowers what the member
/// has spent; points and tier stay, as none can be shown to have been given for it. Goods of a purchase on the book go back with `returns`.
#[utoipa::path(post, path = "/programs/{program}/refunds", request_body = RefundBody, params(("program" = String, Path)),
    responses((status = 201, body = Accepted), (status = 200, description = "the first answer again", body = Accepted),
        (status = 400, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<RefundBody>,
) -> Result<Response, Problem> {
    let (account, id) = (body.account_id.clone(), body.refund_id.clone());
    submit(&state, &program, account, id, actor, body.into_action()).await
}
