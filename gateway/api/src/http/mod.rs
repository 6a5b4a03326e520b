//! The routes, one resource per file.

mod accounts;
mod adjustments;
mod aliases;
mod auth;
mod clv;
mod decline;
mod document;
mod explain;
mod fraud;
mod intake;
mod liability;
mod ops;
mod origin;
mod periods;
mod programs;
mod proposals;
mod purchases;
mod receipts;
mod redemptions;
mod refunds;
mod returns;
mod simulate;
mod statement;
mod submit;
mod tier;
mod trail;
mod worth;

pub use ops::ops_router;
pub use origin::{PublicUrlError, PublicUrls};
pub use periods::closed_months;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use ledger_core::account::Command;
use ledger_core::id::Id;
use ledger_core::policy::Invalid;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::body::{BODY_MAX_BYTES, parse};
use crate::problem::Problem;
use crate::state::ApiState;

fn routes() -> OpenApiRouter<ApiState> {
    let v1 = OpenApiRouter::new()
        .routes(routes!(programs::list))
        .routes(routes!(programs::put_rulebook, programs::get_rulebook))
        .routes(routes!(programs::put_clock))
        .routes(routes!(accounts::open))
        .routes(routes!(accounts::get))
        .routes(routes!(accounts::activate))
        .routes(routes!(accounts::freeze))
        .routes(routes!(accounts::unfreeze))
        .routes(routes!(accounts::close))
        .routes(routes!(accounts::balance))
        .routes(routes!(accounts::lots))
        .routes(routes!(aliases::add, aliases::list))
        .routes(routes!(aliases::remove))
        .routes(routes!(intake::unmatched))
        .routes(routes!(intake::claim))
        .routes(routes!(intake::rejected))
        .routes(routes!(statement::get))
        .routes(routes!(explain::get))
        .routes(routes!(receipts::get))
        .routes(routes!(trail::commands))
        .routes(routes!(trail::refusals))
        .routes(routes!(fraud::cases))
        .routes(routes!(fraud::case, fraud::step))
        .routes(routes!(fraud::report))
        .routes(routes!(fraud::rules))
        .routes(routes!(decline::get))
        .routes(routes!(decline::members))
        .routes(routes!(decline::transitions))
        .routes(routes!(decline::take))
        .routes(routes!(decline::effect))
        .routes(routes!(clv::get))
        .routes(routes!(clv::members))
        .routes(routes!(clv::fits))
        .routes(routes!(clv::cohorts))
        .routes(routes!(liability::trial_balance))
        .routes(routes!(liability::roll_forward))
        .routes(routes!(liability::lots))
        .routes(routes!(liability::payers))
        .routes(routes!(liability::breakage))
        .routes(routes!(liability::journal))
        .routes(routes!(liability::expiry_forecast))
        .routes(routes!(liability::budget))
        .routes(routes!(periods::list))
        .routes(routes!(periods::close))
        .routes(routes!(periods::approve))
        .routes(routes!(purchases::post))
        .routes(routes!(redemptions::post))
        .routes(routes!(redemptions::capture))
        .routes(routes!(redemptions::release))
        .routes(routes!(redemptions::give_back))
        .routes(routes!(returns::post))
        .routes(routes!(refunds::post))
        .routes(routes!(adjustments::post))
        .routes(routes!(proposals::post))
        .routes(routes!(proposals::approve))
        .routes(routes!(proposals::decline))
        .routes(routes!(proposals::list))
        .routes(routes!(tier::get))
        .routes(routes!(simulate::purchases))
        .routes(routes!(simulate::redemptions))
        .routes(routes!(simulate::returns));
    OpenApiRouter::with_openapi(document::Document::openapi())
        .nest("/v1", v1)
        .routes(routes!(ops::health))
        .routes(routes!(ops::live))
        .routes(routes!(ops::ready))
        .routes(routes!(ops::metrics))
}

/// Reads a purchase or, where it has a `return_id` or a `refund_id`, a return or a refund, as the API's bodies: the account and the command.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read_command(json: &[u8], actor: &str) -> Result<(Id, Command), Invalid> {
    let first = |problem: Problem| {
        let error = problem.errors.into_iter().next();
        error.map_or_else(|| Invalid::new("", "the document", problem.detail), |error| Invalid::new(error.pointer, error.value, error.expected))
    };
    let document: serde_json::Value = serde_json::from_slice(json).unwrap_or_default();
    let (account, id, action) = if document.get("refund_id").is_some() {
        let body: refunds::RefundBody = parse(json).map_err(first)?;
        (body.account_id.clone(), body.refund_id.clone(), body.into_action())
    } else if document.get("return_id").is_some() {
        let body: returns::ReturnBody = parse(json).map_err(first)?;
        (body.account_id.clone(), body.return_id.clone(), body.into_action().map_err(first)?)
    } else {
        let body: purchases::PurchaseBody = parse(json).map_err(first)?;
        (body.account_id.clone(), body.purchase_id.clone(), body.into_action())
    };
    Ok((account, Command { id, actor: actor.into(), action }))
}

/// Routes that take no key and tell nothing of the book.
fn open_routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new().routes(routes!(ops::problem))
}

/// The OpenAPI 3.1 document.
#[must_use]
pub fn openapi() -> serde_json::Value {
    document::complete(&routes().merge(open_routes()).split_for_parts().1)
}

/// The API, which is known under `urls`.
pub fn router(state: ApiState, urls: PublicUrls) -> Router {
    let guarded = routes().split_for_parts().0.layer(middleware::from_fn_with_state(state.clone(), auth::check));
    guarded
        .merge(open_routes().split_for_parts().0)
        .merge(SwaggerUi::new("/docs").external_url_unchecked("/openapi.json", openapi()))
        .fallback(async || Problem::new("not_found", "there is no such path; see /docs"))
        .method_not_allowed_fallback(async || Problem::new("method_not_allowed", "the path takes other methods; see Allow and /docs"))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn_with_state(urls, origin::check))
        .with_state(state)
}
