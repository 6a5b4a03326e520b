//! From a body to a booked command.

use std::time::SystemTime;

use axum::response::Response;
use ledger_core::account::Command;
use ledger_core::account::command::Action;
use ledger_core::id::{AccountKey, Id};
use serde::Deserialize;
use telemetry::{Part, Trace};
use utoipa::ToSchema;

use super::auth::Actor;
use crate::answer::respond;
use crate::names::IdSchema;
use crate::problem::Problem;
use crate::state::{ApiState, path_id};

/// Submits an action for an account and answers when it is booked.
pub(super) async fn submit(state: &ApiState, program: &str, account: Id, id: Id, actor: Actor, action: Action) -> Result<Response, Problem> {
    let key = AccountKey { program: path_id("program", program)?, account };
    let trace = telemetry::is_on().then(|| (Trace::of(&key, action.kind(), &id), action.kind(), SystemTime::now()));
    let answer = state.service.submit(key, Command { id, actor: actor.0, action }).await;
    if let Some((trace, kind, begin)) = trace {
        let part = if answer.as_ref().is_ok_and(|answer| !answer.replayed) { Part::Request } else { Part::Again };
        trace.span(part, format!("REST {kind}"), begin, answer.as_ref().err().map(ToString::to_string));
    }
    let answer = answer?;
    Ok(respond(&answer, &state.program(&answer.record.key.program)?.program))
}

/// Why somebody does something.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"reason_code": "card_stolen", "note": "told by phone", "command_id": "f-77"})))]
pub struct ReasonBody {
    /// A code of the program's own.
    pub reason_code: String,
    /// Free text; no personal data belongs here.
    #[serde(default)]
    pub note: String,
    /// Makes a retry safe: the same id is done once.
    #[serde(default)]
    #[schema(value_type = Option<IdSchema>)]
    pub command_id: Option<Id>,
}

/// The id given, or a new one.
pub(super) fn id_or_new(id: Option<Id>) -> Id {
    id.unwrap_or_else(|| Id::parse(&uuid::Uuid::now_v7().to_string()).expect("a UUID is an id"))
}
