//! What was published to the topic of purchases and not booked at once.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Id};
use ledger_schemas::{Ask, What};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::time;
use super::auth::Actor;
use crate::answer::respond;
use crate::body::Body;
use crate::names::IdSchema;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, limit};
use crate::responses::{CommandResponses, ReadProblems};
use crate::state::ApiState;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IntakeParams {
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
    /// Of this program only.
    pub program: Option<String>,
}

/// A message whose account is not known, or a return whose purchase is not.
#[derive(Debug, Serialize, ToSchema)]
pub struct UnmatchedView {
    /// Where it stands: topic:partition:position.
    pub id: String,
    /// The program.
    pub program: String,
    /// `purchase` or `return`.
    pub kind: String,
    /// The purchase's or return's id.
    pub command_id: String,
    /// The keyed hash of the name it came under; none where it names its account.
    pub alias: Option<String>,
    /// Its account, where it waits for its purchase only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The purchase that a return waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// Why it waits.
    pub reason: String,
    /// When it was read.
    #[schema(format = DateTime)]
    pub received_at: Option<String>,
}

/// A message that can't be booked.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectedView {
    /// Where it stands: topic:partition:position.
    pub id: String,
    /// A stable code.
    pub code: String,
    /// Why, with what would be right.
    pub reason: String,
    /// Its program, where that could be read.
    pub program: Option<String>,
    /// The message's bytes, in hexadecimal, with stars in place of the number of its card or member; empty where it can't be read.
    pub body_hex: String,
    /// When it was read.
    #[schema(format = DateTime)]
    pub received_at: Option<String>,
}

/// Whose it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001"})))]
pub struct ClaimBody {
    /// The account.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
}

type Place = (String, i32, i64);

fn place(name: &'static str, text: &str) -> Result<Place, Problem> {
    let parts = || {
        let (rest, position) = text.rsplit_once(':')?;
        let (topic, partition) = rest.rsplit_once(':')?;
        Some((topic.to_owned(), partition.parse().ok()?, position.parse().ok()?))
    };
    parts().ok_or_else(|| Problem::parameter(name, text, "topic:partition:position"))
}

async fn page(state: &ApiState, sql: &str, params: &IntakeParams) -> Result<(Vec<tokio_postgres::Row>, Option<String>), Problem> {
    let (topic, partition, position) = match &params.cursor {
        Some(cursor) => place("cursor", cursor)?,
        None => (String::new(), -1, -1),
    };
    let limit = limit(params.limit)?;
    let mut rows = state.database().await?.query(sql, &[&topic, &partition, &position, &(limit + 1), &params.program]).await?;
    let is_more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
    if is_more {
        rows.pop();
    }
    let next = rows.last().filter(|_| is_more).map(id);
    Ok((rows, next))
}

fn id(row: &tokio_postgres::Row) -> String {
    format!("{}:{}:{}", row.get::<_, String>(0), row.get::<_, i32>(1), row.get::<_, i64>(2))
}

/// What waits for its account: it is booked when an alias is added that fits, or when it is claimed by hand. And returns that came before their
/// purchase: each is booked when the purchase is, and rejected after 90 days.
#[utoipa::path(get, path = "/intake/unmatched", operation_id = "listUnmatchedMessages", tag = "Intake",
    params(IntakeParams),
    responses((status = 200, description = "A page of messages", body = Page<UnmatchedView>), ReadProblems))]
pub(super) async fn unmatched(State(state): State<ApiState>, Query(params): Query<IntakeParams>) -> Result<axum::Json<Page<UnmatchedView>>, Problem> {
    let sql = "SELECT topic, partition, position, program, kind, command_id, encode(alias, 'hex'), reason, received_at,
                      CASE WHEN awaits IS NOT NULL THEN account END, awaits
               FROM intake.unmatched
               WHERE claimed_at IS NULL AND (topic, partition, position) > ($1, $2, $3) AND ($5::text IS NULL OR program = $5) ORDER BY topic, partition, position LIMIT $4";
    let (rows, next_cursor) = page(&state, sql, &params).await?;
    let view = |row: &tokio_postgres::Row| UnmatchedView {
        id: id(row),
        program: row.get(3),
        kind: row.get(4),
        command_id: row.get(5),
        alias: row.get(6),
        reason: row.get(7),
        received_at: time(row.get(8)),
        account_id: row.get(9),
        awaits: row.get(10),
    };
    Ok(axum::Json(Page { items: rows.iter().map(view).collect(), next_cursor }))
}

/// What could not be read, or was refused: as it came, but for the number of its card or member, with the reason; for 90 days. Of what had waited the body is
/// what was kept of it (`loyalty.v1.Ask`).
#[utoipa::path(get, path = "/intake/rejected", operation_id = "listRejectedMessages", tag = "Intake",
    params(IntakeParams),
    responses((status = 200, description = "A page of messages", body = Page<RejectedView>), ReadProblems))]
pub(super) async fn rejected(State(state): State<ApiState>, Query(params): Query<IntakeParams>) -> Result<axum::Json<Page<RejectedView>>, Problem> {
    let sql = "SELECT topic, partition, position, code, reason, encode(body, 'hex'), received_at, program FROM intake.rejected
               WHERE (topic, partition, position) > ($1, $2, $3) AND ($5::text IS NULL OR program = $5) ORDER BY topic, partition, position LIMIT $4";
    let (rows, next_cursor) = page(&state, sql, &params).await?;
    let view = |row: &tokio_postgres::Row| RejectedView {
        id: id(row),
        code: row.get(3),
        reason: row.get(4),
        body_hex: row.get(5),
        received_at: time(row.get(6)),
        program: row.get(7),
    };
    Ok(axum::Json(Page { items: rows.iter().map(view).collect(), next_cursor }))
}

const DONE: &str = "
UPDATE intake.unmatched SET claimed_at = now(), outcome = 'accepted'
WHERE topic = $1 AND partition = $2 AND position = $3 AND account = $4 AND claimed_at IS NULL";

/// It may be another's after all, unless it waits for a purchase of just this account, or was published twice and is this account's at the other place.
const GIVEN_BACK: &str = "
WITH back AS (
    UPDATE intake.unmatched SET account = CASE WHEN awaits IS NOT NULL THEN account END, claimed_by = NULL
    WHERE topic = $1 AND partition = $2 AND position = $3 AND account = $4 AND claimed_at IS NULL RETURNING mark, awaits
)
UPDATE intake.mark m SET account = NULL FROM back b WHERE m.mark = b.mark AND b.awaits IS NULL AND NOT EXISTS (
    SELECT FROM intake.unmatched o WHERE o.mark = m.mark AND o.account = $4 AND (o.topic, o.partition, o.position) <> ($1, $2, $3))";

const LOOK: &str = "SELECT ask, account, mark FROM intake.unmatched WHERE topic = $1 AND partition = $2 AND position = $3 FOR UPDATE";

const MARK: &str = "UPDATE intake.mark SET account = coalesce(account, $2) WHERE mark = $1 RETURNING account";

const RESERVE: &str = "
UPDATE intake.unmatched SET account = $4, claimed_by = coalesce(claimed_by, $5) WHERE topic = $1 AND partition = $2 AND position = $3";

/// Gives a message to an account before it is booked for it, so that it goes to no other whatever happens in between; tells what it asks. What was
/// published twice has one mark, and goes to one account.
async fn reserve(state: &ApiState, (topic, partition, position): &Place, account: &str, by: &str) -> Result<Vec<u8>, Problem> {
    let mut database = state.database().await?;
    let transaction = database.transaction().await?;
    let Some(row) = transaction.query_opt(LOOK, &[topic, partition, position]).await? else {
        return Err(Problem::new("not_found", format!("nothing unmatched is at {topic}:{partition}:{position}; see /v1/intake/unmatched")));
    };
    let mut given: Option<String> = row.get(1);
    if let (None, Some(mark)) = (&given, row.get::<_, Option<Vec<u8>>>(2)) {
        given = transaction.query_opt(MARK, &[&mark, &account]).await?.and_then(|marked| marked.get(0));
    }
    if let Some(other) = given.filter(|given| given != account) {
        return Err(Problem::new("id_reused", format!("it was claimed for account {other}")));
    }
    transaction.execute(RESERVE, &[topic, partition, position, &account, &by]).await?;
    transaction.commit().await?;
    Ok(row.get(0))
}

/// Book what waits for an account that somebody has found.
#[utoipa::path(post, path = "/intake/unmatched/{id}/claim", operation_id = "claimUnmatchedMessage", tag = "Intake",
    request_body = ClaimBody, params(("id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn claim(
    State(state): State<ApiState>,
    Path(message): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ClaimBody>,
) -> Result<Response, Problem> {
    let place = place("id", &message)?;
    let account = body.account_id.as_str();
    let ask = reserve(&state, &place, account, &actor.0).await?;
    let Ok(Ask { what: What::Command(key, command), .. }) = Ask::decode(&ask) else {
        return Err(Problem::new("unavailable", "what is kept can't be read"));
    };
    let key = AccountKey { account: body.account_id.clone(), ..key };
    let outcome = state.service.submit(key, Command { actor: actor.0.clone(), ..command }).await;
    let and_then = match &outcome {
        Ok(_) => Some(DONE),
        Err(refusal) => (!refusal.is_passing()).then_some(GIVEN_BACK),
    };
    if let Some(sql) = and_then {
        state.database().await?.execute(sql, &[&place.0, &place.1, &place.2, &account]).await?;
    }
    let answer = outcome?;
    Ok(respond(&answer, &state.program(&answer.record.key.program)?.program))
}
