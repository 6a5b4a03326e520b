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
use crate::body::Body;
use crate::names::{AmountSchema, IdSchema};
use crate::parameters::Path;
use crate::problem::Problem;
use crate::responses::CommandResponses;
use crate::state::ApiState;

/// A refund of a purchase that the book does not have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"refund_id": "F-9", "account_id": "m-1001", "occurred_at": "2026-03-08T10:00:00Z", "amount": "12.50", "reference": "receipt 4711"})))]
pub struct RefundBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub refund_id: Id,
    /// Whose.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// When the money was given back.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Moment,
    /// How much, to the currency's minor unit.
    #[schema(value_type = AmountSchema)]
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
#[utoipa::path(post, path = "/programs/{program}/refunds", operation_id = "bookRefund", tag = "Returns",
    request_body = RefundBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<RefundBody>,
) -> Result<Response, Problem> {
    let (account, id) = (body.account_id.clone(), body.refund_id.clone());
    submit(&state, &program, account, id, actor, body.into_action()).await
}
