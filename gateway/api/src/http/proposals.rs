//! Changes by hand that take two people: proposed by one, approved or declined by another.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use ledger_core::account::command::{Action, Reason};
use ledger_core::id::{AccountKey, Id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Actor;
use super::submit::submit;
use crate::body::Body;
use crate::names::IdSchema;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::reads::Page;
use crate::responses::{CommandResponses, ReadProblems};
use crate::state::{ApiState, path_id};

/// A proposal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"proposal_id": "A-13", "account_id": "m-1001", "points": 5000, "reason_code": "goodwill", "note": "lost order"})))]
pub struct ProposalBody {
    /// Its id, the idempotency key; the adjustment's, when it is approved.
    #[schema(value_type = IdSchema)]
    pub proposal_id: Id,
    /// Whose.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// Up or, negative, down.
    pub points: i64,
    /// A code of the program's own.
    pub reason_code: String,
    /// Free text, such as the evidence; no personal data belongs here.
    #[serde(default)]
    pub note: String,
}

/// An approval.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001"})))]
pub struct ApprovalBody {
    /// Whose account it is about.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
}

/// A refusal of a proposal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001", "reason_code": "not_shown", "note": ""})))]
pub struct DeclineBody {
    /// Whose account it is about.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
    /// A code of the program's own.
    pub reason_code: String,
    /// Free text; no personal data belongs here.
    #[serde(default)]
    pub note: String,
}

/// A proposal that waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct Waiting {
    /// Its id.
    pub proposal_id: String,
    /// Who made it, who can't approve it.
    pub maker: String,
    /// Up or, negative, down.
    pub points: i64,
    /// A code of the program's own.
    pub reason_code: String,
    /// Free text.
    pub note: String,
}

/// Propose a change of the balance by hand; nothing moves until somebody else approves it.
#[utoipa::path(post, path = "/programs/{program}/proposals", operation_id = "proposeAdjustment", tag = "Proposals",
    request_body = ProposalBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn post(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ProposalBody>,
) -> Result<Response, Problem> {
    let reason = Reason { code: body.reason_code.into(), note: body.note };
    submit(&state, &program, body.account_id, body.proposal_id, actor, Action::Propose { points: body.points, reason }).await
}

/// Approve what somebody else proposed: the points move.
#[utoipa::path(post, path = "/programs/{program}/proposals/{proposal_id}/approve", operation_id = "approveProposal", tag = "Proposals",
    request_body = ApprovalBody, params(("program" = String, Path), ("proposal_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn approve(
    State(state): State<ApiState>,
    Path((program, proposal)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ApprovalBody>,
) -> Result<Response, Problem> {
    let proposal = path_id("proposal_id", &proposal)?;
    submit(&state, &program, body.account_id, proposal.clone(), actor, Action::Approve { proposal }).await
}

/// Take a proposal back, or refuse it.
#[utoipa::path(post, path = "/programs/{program}/proposals/{proposal_id}/decline", operation_id = "declineProposal", tag = "Proposals",
    request_body = DeclineBody, params(("program" = String, Path), ("proposal_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn decline(
    State(state): State<ApiState>,
    Path((program, proposal)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<DeclineBody>,
) -> Result<Response, Problem> {
    let proposal = path_id("proposal_id", &proposal)?;
    let reason = Reason { code: body.reason_code.into(), note: body.note };
    submit(&state, &program, body.account_id, proposal.clone(), actor, Action::Decline { proposal, reason }).await
}

/// What waits for a second person.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/proposals", operation_id = "listProposals", tag = "Proposals",
    params(("program" = String, Path), ("account_id" = String, Path)),
    responses((status = 200, description = "All proposals that wait", body = Page<Waiting>), ReadProblems))]
pub(super) async fn list(State(state): State<ApiState>, Path((program, account)): Path<(String, String)>) -> Result<Json<Page<Waiting>>, Problem> {
    let key = AccountKey { program: path_id("program", &program)?, account: path_id("account_id", &account)? };
    let program = key.program.clone();
    let snapshot = state.service.snapshot(key, None).await?.ok_or_else(|| Problem::program_not_found(&program))?;
    if snapshot.account.seq == 0 {
        return Err(Problem::account_not_found());
    }
    let waiting = snapshot.account.proposals.into_iter().map(|proposal| Waiting {
        proposal_id: proposal.proposal.to_string(),
        maker: proposal.maker.into(),
        points: proposal.points,
        reason_code: proposal.reason.code.into(),
        note: proposal.reason.note,
    });
    Ok(Json(Page { items: waiting.collect(), next_cursor: None }))
}
