//! Aliases: other names by which an account can be found, such as its cards. Only keyed hashes of them are kept.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::command::Action;
use ledger_core::id::{Alias, Id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::accounts::{require_account, time};
use super::auth::Actor;
use super::submit::{id_or_new, submit};
use crate::body::Body;
use crate::names::IdSchema;
use crate::parameters::{Path, Query};
use crate::problem::{FieldError, Problem};
use crate::reads::{Page, ReadParams, wait_for};
use crate::responses::{CommandResponses, ReadProblems};
use crate::state::{ApiState, path_id};

/// Another name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"kind": "card", "value": "9840001234567", "command_id": "al-5"})))]
pub struct AliasBody {
    /// What kind of name: `card` or `member`.
    pub kind: AliasKind,
    /// The name, as shops publish it. It is hashed with the ledger's key before it goes anywhere.
    pub value: String,
    /// Makes a retry safe: the same id is done once.
    #[serde(default)]
    #[schema(value_type = Option<IdSchema>)]
    pub command_id: Option<Id>,
}

/// What kind of name.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasKind {
    /// A card.
    Card,
    /// A member reference of another system.
    Member,
}

/// A name an account has.
#[derive(Debug, Serialize, ToSchema)]
pub struct AliasView {
    /// Its keyed hash.
    pub alias: String,
    /// Since when.
    #[schema(format = DateTime)]
    pub added_at: Option<String>,
}

impl AliasBody {
    fn alias(&self, state: &ApiState, program: &Id) -> Result<Alias, Problem> {
        if self.value.is_empty() || self.value.len() > 256 {
            let value: String = format!("{} bytes", self.value.len());
            return Err(Problem::malformed(vec![FieldError { pointer: "/value".into(), value, expected: "1 to 256 bytes".into() }]));
        }
        let kind = match self.kind {
            AliasKind::Card => "card",
            AliasKind::Member => "member",
        };
        Ok(state.aliases.alias(program, kind, &self.value))
    }
}

async fn change(state: &ApiState, path: (String, String), actor: Actor, body: AliasBody, action: fn(Alias) -> Action) -> Result<Response, Problem> {
    let (program, account) = (path_id("program", &path.0)?, path_id("account_id", &path.1)?);
    let alias = body.alias(state, &program)?;
    // Two keys would give one card two names, of which a shop's message finds one.
    state.service.name_alias_key(state.aliases.fingerprint(), actor.0.clone()).await?;
    submit(state, program.as_str(), account, id_or_new(body.command_id), actor, action(alias)).await
}

/// Let the account be found by another name. What shops published under it and nobody had is booked then.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/aliases", operation_id = "addAlias", tag = "Aliases",
    request_body = AliasBody, params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn add(
    State(state): State<ApiState>,
    Path(path): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<AliasBody>,
) -> Result<Response, Problem> {
    change(&state, path, actor, body, Action::AddAlias).await
}

/// Let it be found by that name no more.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/aliases/remove", operation_id = "removeAlias", tag = "Aliases",
    request_body = AliasBody, params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Path(path): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<AliasBody>,
) -> Result<Response, Problem> {
    change(&state, path, actor, body, Action::RemoveAlias).await
}

/// The account's other names, as keyed hashes.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/aliases", operation_id = "listAliases", tag = "Aliases",
    params(("program" = String, Path), ("account_id" = String, Path), ReadParams),
    responses((status = 200, description = "All aliases of the account", body = Page<AliasView>), ReadProblems))]
pub(super) async fn list(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<ReadParams>,
) -> Result<axum::Json<Page<AliasView>>, Problem> {
    let (key, _) = state.key(&program, &account)?;
    wait_for(&state, "alias", params.min_position.as_deref()).await?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    let sql = "SELECT encode(alias, 'hex'), added_at FROM alias.alias WHERE program = $1 AND account = $2 ORDER BY added_at, alias";
    let rows = database.query(sql, &[&key.program.as_str(), &key.account.as_str()]).await?;
    let view = |row: &tokio_postgres::Row| AliasView { alias: row.get(0), added_at: time(row.get(1)) };
    Ok(axum::Json(Page { items: rows.iter().map(view).collect(), next_cursor: None }))
}
