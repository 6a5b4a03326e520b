//! Returns: goods given back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::{Action, Return, Returned};
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
use crate::problem::{FieldError, Problem};
use crate::responses::CommandResponses;
use crate::state::ApiState;

/// A return, by `lines` or by `amount`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "return_id": "T-5", "account_id": "m-1001", "purchase_id": "P-20260301-17", "occurred_at": "2026-03-08T10:00:00Z",
    "lines": [{"line_id": "1", "quantity": "1"}]
})))]
pub struct ReturnBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub return_id: Id,
    /// Whose.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// The purchase that the goods came from.
    #[schema(value_type = IdSchema)]
    pub purchase_id: Id,
    /// When they were given back.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Moment,
    /// What was given back.
    #[serde(default)]
    pub lines: Option<Vec<ReturnLineBody>>,
    /// The whole of the money given back, shipping included, no line named. One that exceeds what is left by at most a minor unit, or half of one
    /// for each line that is kept, gives all goods back.
    #[serde(default)]
    #[schema(value_type = Option<AmountSchema>)]
    pub amount: Option<Amount>,
    /// What of the shipping is given back: a part of `amount`, or beside `lines`. It takes no points. Without it `amount` is for the goods first,
    /// then for the shipping.
    #[serde(default)]
    #[schema(value_type = Option<AmountSchema>)]
    pub shipping: Option<Amount>,
}

/// A line given back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReturnLineBody {
    /// The purchase's line.
    #[schema(value_type = IdSchema)]
    pub line_id: Id,
    /// How many of it.
    #[schema(value_type = AmountSchema)]
    pub quantity: Amount,
}

impl ReturnBody {
    pub(super) fn into_action(self) -> Result<Action, Problem> {
        let what = match (self.lines, self.amount) {
            (Some(lines), None) => Returned::Lines(lines.into_iter().map(|line| (line.line_id, line.quantity)).collect()),
            (None, Some(amount)) => Returned::Amount(amount),
            (lines, _) => {
                let value = if lines.is_some() { "both" } else { "neither" };
                let error = FieldError { pointer: "/lines".into(), value: value.into(), expected: "either lines or amount".into() };
                return Err(Problem::malformed(vec![error]));
            }
        };
        Ok(Action::Return(Arc::new(Return { purchase_id: self.purchase_id, occurred_at: self.occurred_at, what, shipping: self.shipping })))
    }
}

/// Give goods back: the member keeps exactly the points that the goods kept would have earned.
#[utoipa::path(post, path = "/programs/{program}/returns", operation_id = "returnPurchase", tag = "Returns",
    request_body = ReturnBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReturnBody>,
) -> Result<Response, Problem> {
    let (account, id) = (body.account_id.clone(), body.return_id.clone());
    submit(&state, &program, account, id, actor, body.into_action()?).await
}
