//! Purchases: Earn.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::{Action, Line, Origin, Purchase};
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

/// A purchase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({
    "purchase_id": "P-20260301-17", "account_id": "m-1001", "occurred_at": "2026-03-01T12:00:00Z", "currency": "GBP", "channel": "store", "store": "s1",
    "lines": [{"line_id": "1", "sku": "21212", "category": "home", "quantity": "2", "unit_price": "12.50", "discount": "0", "tax": "4.17"}],
    "shipping": "0"
})))]
pub struct PurchaseBody {
    /// Its id, the idempotency key.
    #[schema(value_type = IdSchema)]
    pub purchase_id: Id,
    /// Whose.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Moment,
    /// ISO 4217 code.
    pub currency: String,
    /// Such as `store` or `web`.
    #[serde(default)]
    pub channel: String,
    /// Which store.
    #[serde(default)]
    pub store: String,
    /// What was bought.
    pub lines: Vec<LineBody>,
    /// What was paid for shipping, to the currency's minor unit; it earns nothing.
    #[serde(default)]
    #[schema(value_type = AmountSchema)]
    pub shipping: Amount,
    /// The member of staff who took it; an opaque name of the shop's own.
    #[serde(default)]
    pub cashier: String,
    /// The till it was taken on.
    #[serde(default)]
    pub till: String,
    /// The member's device.
    #[serde(default)]
    pub device: String,
    /// A token of the card that was paid with; never its number.
    #[serde(default)]
    pub card_token: String,
}

/// A line of a purchase.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LineBody {
    /// Its id within the purchase.
    #[schema(value_type = IdSchema)]
    pub line_id: Id,
    /// Stock-keeping unit.
    pub sku: String,
    /// Category of goods.
    #[serde(default)]
    pub category: String,
    /// How many: a whole number, or a decimal in a string.
    #[schema(value_type = AmountSchema)]
    pub quantity: Amount,
    /// The price of one, tax included; may have more decimals than the currency.
    #[schema(value_type = AmountSchema)]
    pub unit_price: Amount,
    /// What was taken off the line.
    #[serde(default)]
    #[schema(value_type = AmountSchema)]
    pub discount: Amount,
    /// The tax contained in the line after discount.
    #[serde(default)]
    #[schema(value_type = AmountSchema)]
    pub tax: Amount,
    /// What the receipt says was charged for the line, tax included, to the currency's minor unit: it replaces quantity × unit_price − discount,
    /// from which it may differ by one minor unit. Without it, that product is rounded half up to the minor unit.
    #[serde(default)]
    #[schema(value_type = Option<AmountSchema>)]
    pub amount: Option<Amount>,
}

impl PurchaseBody {
    pub(super) fn into_action(self) -> Action {
        let line = |line: LineBody| Line {
            line_id: line.line_id,
            sku: line.sku.into(),
            category: line.category.into(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount: line.discount,
            tax: line.tax,
            amount: line.amount,
        };
        let (cashier, till) = (self.cashier.into(), self.till.into());
        let origin = Origin { cashier, till, device: self.device.into(), card_token: self.card_token.into() };
        Action::Earn(Arc::new(Purchase {
            purchase_id: self.purchase_id,
            occurred_at: self.occurred_at,
            currency: self.currency.into(),
            channel: self.channel.into(),
            store: self.store.into(),
            lines: self.lines.into_iter().map(line).collect(),
            shipping: self.shipping,
            origin: (origin != Origin::default()).then(|| Box::new(origin)),
        }))
    }
}

/// Give points for a purchase. An account not opened yet is opened, unless the rulebook says no.
#[utoipa::path(post, path = "/programs/{program}/purchases", operation_id = "earnPurchase", tag = "Purchases",
    request_body = PurchaseBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<PurchaseBody>,
) -> Result<Response, Problem> {
    let (account, id) = (body.account_id.clone(), body.purchase_id.clone());
    submit(&state, &program, account, id, actor, body.into_action()).await
}
