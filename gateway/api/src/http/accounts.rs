//! Accounts: their life, and what they have.

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use chrono::{DateTime, Utc};
use command_service::ProgramState;
use ledger_core::account::Command;
use ledger_core::account::command::{Action, Reason};
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::policy::{Program, QualifyBy, Version};
use ledger_core::time::{Moment, timestamp_text};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Actor;
use super::submit::{ReasonBody, id_or_new, submit};
use crate::answer::{BalanceView, position};
use crate::body::Body;
use crate::names::{AccountStatus, IdSchema};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, ReadParams, limit, moment, wait_for};
use crate::responses::{CommandResponses, ReadProblems};
use crate::state::{ApiState, path_id, real_now};

/// An account to open.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"account_id": "m-1001"})))]
pub struct OpenBody {
    /// 1 to 64 of `A-Z a-z 0-9 . _ : -`, opaque.
    #[schema(value_type = IdSchema)]
    pub account_id: Id,
}

/// Points that expire at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExpiringView {
    /// How many.
    pub points: i64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
}

/// What counts towards tiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Qualifying {
    /// Points or purchases.
    Count(i64),
    /// Spend: an exact decimal.
    Spend(String),
}

/// A member's tier.
#[derive(Debug, Serialize, ToSchema)]
pub struct TierView {
    /// Its name.
    pub name: String,
    /// What counts towards tiers now: points or purchases as a number, spend as a decimal in a string.
    pub qualifying: Qualifying,
    /// What `qualifying` and `points_to_next` count: `points`, `purchases`, or, where spend counts, the currency, such as `GBP`.
    pub unit: String,
    /// The tier above, if any.
    pub next: Option<String>,
    /// What is missing for it, in the same unit.
    pub points_to_next: Option<Qualifying>,
    /// When the tier is reviewed.
    #[schema(format = DateTime)]
    pub review_at: Option<String>,
    /// Since when the member has it; null where the read model has not seen the account yet.
    #[schema(format = DateTime)]
    pub since: Option<String>,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(examples(json!({
    "account_id": "m-1001", "status": "active",
    "balance": {"available": 1500, "pending": 25, "held": 0, "owed": 0, "lifetime_earned": 2025},
    "expiring": [{"points": 1525, "at": "2027-03-01T12:00:00Z"}],
    "tier": {"name": "silver", "qualifying": 2025, "unit": "points", "next": "gold", "points_to_next": 2975, "review_at": "2027-03-01T12:00:00Z",
        "since": "2026-03-01T12:00:00Z"},
    "position": "3:17"
})))]
pub struct AccountView {
    /// Its id.
    pub account_id: String,
    /// How the account is.
    #[schema(value_type = AccountStatus)]
    pub status: String,
    /// What it has.
    pub balance: BalanceView,
    /// Every future expiry, soonest first.
    pub expiring: Vec<ExpiringView>,
    /// The member's tier.
    pub tier: TierView,
    /// The last record that this has seen.
    pub position: String,
}

/// A lot with points.
#[derive(Debug, Serialize, ToSchema)]
pub struct LotView {
    /// Its number.
    pub lot_id: i32,
    /// What it began with.
    pub points: i64,
    /// What of it is pending or available.
    pub remaining: i64,
    /// What of it is held.
    pub held: i64,
    /// Whether the rest is pending.
    pub pending: bool,
    /// When it can be spent.
    #[schema(format = DateTime)]
    pub available_at: Option<String>,
    /// When it is lost.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// The purchase or adjustment that gave it.
    pub source: String,
    /// The version of the rulebook that gave it.
    pub rule_version: i32,
}

/// Pages of lots.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LotsParams {
    /// From `next_cursor`.
    pub cursor: Option<i32>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// What is wrong with a moment that is asked of before it came.
pub(super) const PAST_ONLY: &str = "a moment at or after as_of: what the book said of the future is not kept";

/// Of when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AsOfParams {
    /// The past as the book has it, or the future as the clock alone would make it; now if none.
    #[param(format = DateTime)]
    pub as_of: Option<String>,
    /// What the book said at this moment about the other one, not later than now; what it says now if none. Purchases may be told of late.
    #[param(format = DateTime)]
    pub known_at: Option<String>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// A balance at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceAtView {
    /// The moment.
    #[schema(format = DateTime)]
    pub as_of: String,
    /// When the book said so, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub known_at: Option<String>,
    /// What the account has then.
    #[serde(flatten)]
    pub balance: BalanceView,
}

/// Open an account.
#[utoipa::path(post, path = "/programs/{program}/accounts", operation_id = "openAccount", tag = "Accounts",
    request_body = OpenBody, params(("program" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn open(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<OpenBody>,
) -> Result<Response, Problem> {
    submit(&state, &program, body.account_id.clone(), body.account_id, actor, Action::Open).await
}

async fn life(state: &ApiState, program: &str, account: &str, actor: Actor, body: ReasonBody, action: fn(Reason) -> Action) -> Result<Response, Problem> {
    let account = path_id("account_id", account)?;
    let reason = Reason { code: body.reason_code.into(), note: body.note };
    submit(state, program, account, id_or_new(body.command_id), actor, action(reason)).await
}

/// Make a pending account active.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/activate", operation_id = "activateAccount", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn activate(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Problem> {
    let account = path_id("account_id", &account)?;
    submit(&state, &program, account, id_or_new(None), actor, Action::Activate).await
}

/// Stop earning and redeeming.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/freeze", operation_id = "freezeAccount", tag = "Accounts",
    request_body = ReasonBody, params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn freeze(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReasonBody>,
) -> Result<Response, Problem> {
    life(&state, &program, &account, actor, body, Action::Freeze).await
}

/// Undo a freeze.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/unfreeze", operation_id = "unfreezeAccount", tag = "Accounts",
    request_body = ReasonBody, params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn unfreeze(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReasonBody>,
) -> Result<Response, Problem> {
    life(&state, &program, &account, actor, body, Action::Unfreeze).await
}

/// End the account; what happens to its points is the rulebook's choice.
#[utoipa::path(post, path = "/programs/{program}/accounts/{account_id}/close", operation_id = "closeAccount", tag = "Accounts",
    request_body = ReasonBody, params(("program" = String, Path), ("account_id" = String, Path)),
    responses(CommandResponses))]
pub(super) async fn close(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReasonBody>,
) -> Result<Response, Problem> {
    life(&state, &program, &account, actor, body, Action::Close).await
}

pub(super) fn time(at: Option<DateTime<Utc>>) -> Option<String> {
    at.map(timestamp_text)
}

/// What an account is and has.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}", operation_id = "getAccount", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), ReadParams),
    responses((status = 200, description = "The account", body = AccountView), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<ReadParams>,
) -> Result<axum::Json<AccountView>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    wait_for(&state, "balance", params.min_position.as_deref()).await?;
    wait_for(&state, "tier", params.min_position.as_deref()).await?;
    let database = state.database().await?;
    let (program_id, account_id) = (key.program.as_str(), key.account.as_str());
    let now = program.now(real_now()).timestamp();
    // What is lost and not booked so yet, as redemptions of before may still be told, is not available.
    let sql = "SELECT status, available - (SELECT coalesce(sum(remaining), 0)::bigint FROM balance.lot l
                 WHERE (l.program, l.account) = (b.program, b.account) AND remaining > 0 AND NOT l.pending AND expires_at <= $3),
                 pending, held, owed, lifetime_earned, partition, position FROM balance.balance b WHERE program = $1 AND account = $2";
    let row = database.query_opt(sql, &[&program_id, &account_id, &now]).await?.ok_or_else(Problem::account_not_found)?;
    let balance = BalanceView { available: row.get(1), pending: row.get(2), held: row.get(3), owed: row.get(4), lifetime_earned: row.get(5) };
    let sql = "SELECT sum(remaining)::bigint, expires_at FROM balance.lot
               WHERE program = $1 AND account = $2 AND remaining > 0 AND expires_at > $3 GROUP BY expires_at ORDER BY expires_at";
    let lots = database.query(sql, &[&program_id, &account_id, &now]).await?;
    let expiring = lots.iter().map(|row| ExpiringView { points: row.get(0), at: timestamp_text(row.get(1)) }).collect();
    Ok(axum::Json(AccountView {
        account_id: key.account.to_string(),
        status: row.get(0),
        balance,
        expiring,
        tier: tier(&database, &key, &program).await?,
        position: position(row.get::<_, i16>(6).unsigned_abs(), row.get::<_, i64>(7).unsigned_abs()),
    }))
}

fn qualifying_of(version: &Version, amount: Amount) -> Qualifying {
    match version.rulebook.tiers.qualify_by {
        QualifyBy::Spend => Qualifying::Spend(amount.0.normalize().to_string()),
        _ => Qualifying::Count(amount.0.trunc().to_string().parse::<i64>().unwrap_or(i64::MAX)),
    }
}

fn unit(version: &Version) -> String {
    match version.rulebook.tiers.qualify_by {
        QualifyBy::Points => "points".into(),
        QualifyBy::Purchases => "purchases".into(),
        QualifyBy::Spend => version.rulebook.currency.clone(),
    }
}

async fn tier(database: &deadpool_postgres::Object, key: &AccountKey, program: &ProgramState) -> Result<TierView, Problem> {
    let now = program.now(real_now());
    let version = program.program.at_or_first(now).ok_or_else(|| Problem::program_not_found(&key.program))?;
    let (program_id, account_id) = (key.program.as_str(), key.account.as_str());
    let sql = "SELECT tier, since, review_at FROM tier.standing WHERE program = $1 AND account = $2";
    let row = database.query_opt(sql, &[&program_id, &account_id]).await?;
    let column = match version.rulebook.tiers.qualify_by {
        QualifyBy::Points => "points",
        QualifyBy::Spend => "spend",
        QualifyBy::Purchases => "purchases",
    };
    let sql =
        format!("SELECT coalesce(sum({column}::numeric), 0) FROM tier.qualifying WHERE program = $1 AND account = $2 AND ($3::timestamptz IS NULL OR at > $3)");
    let from = version.window_start(now).map(Moment::timestamp);
    let qualifying = Amount(database.query_one(&sql, &[&program_id, &account_id, &from]).await?.get::<_, Decimal>(0));
    let name: String = row.as_ref().map_or_else(|| version.levels()[0].name.clone(), |row| row.get(0));
    let next = version.levels().get(version.level_index(&name) + 1);
    Ok(TierView {
        qualifying: qualifying_of(version, qualifying),
        unit: unit(version),
        next: next.map(|level| level.name.clone()),
        points_to_next: next.map(|level| qualifying_of(version, level.at.minus(qualifying).max(Amount::ZERO))),
        review_at: row.as_ref().and_then(|row| time(row.get(2))),
        since: row.as_ref().map(|row| timestamp_text(row.get(1))),
        name,
    })
}

/// The lots with points, in the order they were given.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/lots", operation_id = "listLots", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), LotsParams),
    responses((status = 200, description = "A page of lots", body = Page<LotView>), ReadProblems))]
pub(super) async fn lots(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<LotsParams>,
) -> Result<axum::Json<Page<LotView>>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    let limit = limit(params.limit)?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    let sql = "SELECT lot_id, points, CASE WHEN expires_at <= $5 THEN 0 ELSE remaining END, held, pending, available_at, expires_at, source, rule_version
               FROM balance.lot WHERE program = $1 AND account = $2 AND lot_id > $3 AND (remaining > 0 AND (expires_at IS NULL OR expires_at > $5) OR held > 0)
               ORDER BY lot_id LIMIT $4";
    let (after, now) = (params.cursor.unwrap_or(0), program.now(real_now()).timestamp());
    let rows = database.query(sql, &[&key.program.as_str(), &key.account.as_str(), &after, &limit, &now]).await?;
    let items = rows.iter().map(lot_view).collect();
    Ok(axum::Json(Page::of(items, limit, |lot: &LotView| lot.lot_id.to_string())))
}

pub(super) fn lot_view(row: &tokio_postgres::Row) -> LotView {
    LotView {
        lot_id: row.get(0),
        points: row.get(1),
        remaining: row.get(2),
        held: row.get(3),
        pending: row.get(4),
        available_at: time(row.get(5)),
        expires_at: time(row.get(6)),
        source: row.get(7),
        rule_version: row.get(8),
    }
}

/// A connection to read the account by; refuses where it does not exist, as far as the book is known up to `min_position`.
pub(super) async fn require_account(state: &ApiState, key: &AccountKey, min_position: Option<&str>) -> Result<deadpool_postgres::Object, Problem> {
    wait_for(state, "balance", min_position).await?;
    let database = state.database().await?;
    let sql = "SELECT FROM balance.balance WHERE program = $1 AND account = $2";
    let row = database.query_opt(sql, &[&key.program.as_str(), &key.account.as_str()]).await?;
    row.map(|_| database).ok_or_else(Problem::account_not_found)
}

/// What the account had at a moment of the past, or will have by the clock alone.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/balance", operation_id = "getBalance", tag = "Accounts",
    params(("program" = String, Path), ("account_id" = String, Path), AsOfParams),
    responses((status = 200, description = "The balance at that moment", body = BalanceAtView), ReadProblems))]
pub(super) async fn balance(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<AsOfParams>,
) -> Result<axum::Json<BalanceAtView>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    wait_for(&state, "statement", params.min_position.as_deref()).await?;
    let now = program.now(real_now());
    let as_of = params.as_of.as_deref().map_or(Ok(now), |text| moment("as_of", text))?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    let known_at = params.known_at.as_deref().map(|text| moment("known_at", text)).transpose()?;
    if let Some(known_at) = known_at.filter(|known_at| as_of > *known_at) {
        return Err(Problem::parameter("known_at", &known_at.to_string(), PAST_ONLY));
    }
    let balance =
        if as_of > now { balance_ahead(&state, &key, as_of).await? } else { balance_then(&database, &key, &program.program, as_of, known_at).await? };
    Ok(axum::Json(BalanceAtView { as_of: as_of.to_string(), known_at: known_at.map(|at| at.to_string()), balance }))
}

async fn balance_then(
    database: &deadpool_postgres::Object,
    key: &AccountKey,
    program: &Program,
    as_of: Moment,
    known_at: Option<Moment>,
) -> Result<BalanceView, Problem> {
    let sql = "SELECT coalesce(sum(available_delta), 0)::bigint, coalesce(sum(pending_delta), 0)::bigint, coalesce(sum(held_delta), 0)::bigint,
                      coalesce(sum(owed_delta), 0)::bigint, coalesce(sum(earned_delta), 0)::bigint
               FROM statement.movement WHERE program = $1 AND account = $2 AND effective_at <= $3 AND ($4::timestamptz IS NULL OR recorded_at <= $4)";
    let known_at = known_at.map(Moment::timestamp);
    let row = database.query_one(sql, &[&key.program.as_str(), &key.account.as_str(), &as_of.timestamp(), &known_at]).await?;
    let lapsed = if program.is_told_later() { lapsed_then(database, key, as_of, known_at.as_ref()).await? } else { 0 };
    Ok(BalanceView { available: row.get::<_, i64>(0) - lapsed, pending: row.get(1), held: row.get(2), owed: row.get(3), lifetime_earned: row.get(4) })
}

/// What was available by the bookings known then, of lots that were lost by then: it was or will be booked as expired later.
async fn lapsed_then(database: &deadpool_postgres::Object, key: &AccountKey, as_of: Moment, known_at: Option<&DateTime<Utc>>) -> Result<i64, Problem> {
    let sql = "SELECT coalesce(sum(CASE 'available' WHEN part.\"to\" THEN part.points WHEN part.\"from\" THEN -part.points ELSE 0 END), 0)::bigint
               FROM statement.movement m CROSS JOIN jsonb_to_recordset(m.lots) AS part(lot_id integer, points bigint, \"from\" text, \"to\" text)
               JOIN balance.lot l ON (l.program, l.account, l.lot_id) = (m.program, m.account, part.lot_id)
               WHERE m.program = $1 AND m.account = $2 AND m.effective_at <= $3 AND ($4::timestamptz IS NULL OR m.recorded_at <= $4)
                 AND (l.expires_at <= $3 OR EXISTS (
                   SELECT FROM statement.movement e CROSS JOIN jsonb_to_recordset(e.lots) AS lost(lot_id integer)
                   WHERE (e.program, e.account, e.kind, lost.lot_id) = (m.program, m.account, 'points_expired', l.lot_id)
                     AND e.effective_at <= $3 AND e.recorded_at > $4))";
    let row = database.query_one(sql, &[&key.program.as_str(), &key.account.as_str(), &as_of.timestamp(), &known_at]).await?;
    Ok(row.get(0))
}

async fn balance_ahead(state: &ApiState, key: &AccountKey, as_of: Moment) -> Result<BalanceView, Problem> {
    let mut snapshot = state.service.snapshot(key.clone(), None).await?.ok_or_else(|| Problem::program_not_found(&key.program))?;
    snapshot.now = as_of;
    let clock = Command { id: key.account.clone(), actor: "clock".into(), action: Action::Expire };
    let simulated = command_service::simulate(&snapshot, &clock)?;
    Ok(simulated.after.balance_at(as_of).into())
}
