//! What the points owe: trial balance, roll-forward, lots, breakage, journal, expiry ahead.

use analytics::liability::{self, Basis, Breakage, Budget, BudgetAlert, Journal, Payer, RollForward, Terms, TrialBalance};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use ledger_core::id::Id;
use ledger_core::policy::{Program, Rulebook};
use ledger_core::time::{date_text, parse_date};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::clv::day;
use super::periods::closed_months;
use super::worth::{PayersMoney, RollForwardMoney};
use crate::names::{BasisName, Format, Grouping};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, cursor, limit, wait_for};
use crate::responses::ReadProblems;
use crate::state::{ApiState, path_id, real_now};

/// Of when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AsOfDayParams {
    /// A day (UTC), `YYYY-MM-DD`, at its end; today by the program's clock, if none.
    #[param(format = Date)]
    pub as_of: Option<String>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// Of when, and known when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrialBalanceParams {
    /// A day (UTC), `YYYY-MM-DD`, at its end; today by the program's clock, if none.
    #[param(format = Date)]
    pub as_of: Option<String>,
    /// Of what was booked by the end of this day, `YYYY-MM-DD`; of all if none.
    #[param(format = Date)]
    pub known_on: Option<String>,
    /// `booked` (the day it was booked; if none) or `effective` (the day it took effect).
    #[param(value_type = Option<BasisName>)]
    pub basis: Option<String>,
    /// As in every read.
    pub min_position: Option<String>,
}

fn basis(text: Option<&str>) -> Result<Basis, Problem> {
    match text {
        None | Some("booked") => Ok(Basis::Booked),
        Some("effective") => Ok(Basis::Effective),
        Some(other) => Err(Problem::parameter("basis", other, "booked or effective")),
    }
}

pub(super) fn today(state: &ApiState, program: &Id) -> Result<NaiveDate, Problem> {
    Ok(ledger_core::time::utc_date(state.program(program)?.now(real_now())))
}

fn day_or_today(state: &ApiState, program: &Id, name: &str, text: Option<&str>) -> Result<NaiveDate, Problem> {
    let today = today(state, program)?;
    text.map_or(Ok(today), |text| day(name, text))
}

fn period(from: &str, to: &str) -> Result<(NaiveDate, NaiveDate), Problem> {
    let period = (day("from", from)?, day("to", to)?);
    if period.1 < period.0 {
        return Err(Problem::parameter("to", to, "a day that is not before from"));
    }
    Ok(period)
}

fn rules_on<'a>(program: &'a Program, id: &Id, day: NaiveDate) -> Result<&'a Rulebook, Problem> {
    liability::rules_on(program, day).ok_or_else(|| Problem::program_not_found(id))
}

/// Where all points are; the sum over all buckets is zero.
#[utoipa::path(get, path = "/programs/{program}/liability/trial-balance", operation_id = "getTrialBalance", tag = "Liability",
    params(("program" = String, Path), TrialBalanceParams),
    responses((status = 200, description = "Points by bucket, their sum, which is 0, and what is owed", body = TrialBalance), ReadProblems))]
pub(super) async fn trial_balance(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<TrialBalanceParams>,
) -> Result<axum::Json<TrialBalance>, Problem> {
    let program = path_id("program", &program)?;
    let as_of = day_or_today(&state, &program, "as_of", params.as_of.as_deref())?;
    let basis = basis(params.basis.as_deref())?;
    wait_for(&state, "liability", params.min_position.as_deref()).await?;
    let known_on = params.known_on.as_deref().map(|text| day("known_on", text)).transpose()?;
    Ok(axum::Json(liability::trial_balance(&*state.database().await?, program.as_str(), as_of, known_on, basis).await?))
}

/// From when to when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RollForwardParams {
    /// The first day (UTC), `YYYY-MM-DD`.
    #[param(format = Date)]
    pub from: String,
    /// The last day.
    #[param(format = Date)]
    pub to: String,
    /// Of what was booked by the end of this day, `YYYY-MM-DD`; of all if none.
    #[param(format = Date)]
    pub known_on: Option<String>,
    /// `tier`, or `cohort` (issue month); one row for all, if none.
    #[param(value_type = Option<Grouping>)]
    pub by: Option<String>,
    /// `booked` (if none) or `effective`.
    #[param(value_type = Option<BasisName>)]
    pub basis: Option<String>,
}

/// A roll-forward in points and in money.
#[derive(Debug, Serialize, ToSchema)]
pub struct RollForwardView {
    /// In points.
    #[serde(flatten)]
    points: RollForward,
    /// What redeeming those points would be worth by the rulebook in force at the end of the period.
    money: RollForwardMoney,
}

/// Opening, issued, matured, redeemed, expired, clawed back, adjusted, forfeited, closing; any period, any grouping.
#[utoipa::path(get, path = "/programs/{program}/liability/roll-forward", operation_id = "getRollForward", tag = "Liability",
    params(("program" = String, Path), RollForwardParams),
    responses((status = 200, description = "A row a group, and the total", body = RollForwardView), ReadProblems))]
pub(super) async fn roll_forward(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<RollForwardParams>,
) -> Result<axum::Json<RollForwardView>, Problem> {
    let program = path_id("program", &program)?;
    let rules = state.program(&program)?;
    let (period, basis) = (period(&params.from, &params.to)?, basis(params.basis.as_deref())?);
    if let Some(by) = params.by.as_deref().filter(|by| !matches!(*by, "tier" | "cohort")) {
        return Err(Problem::parameter("by", by, "tier or cohort"));
    }
    let known_on = params.known_on.as_deref().map(|text| day("known_on", text)).transpose()?;
    let database = state.database().await?;
    let points = liability::roll_forward(&database, program.as_str(), period, known_on, basis, params.by.as_deref()).await?;
    let money = RollForwardMoney::of(&points, rules_on(&rules.program, &program, period.1)?);
    Ok(axum::Json(RollForwardView { points, money }))
}

/// The period.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PayersParams {
    /// The first day (UTC) booked, `YYYY-MM-DD`.
    #[param(format = Date)]
    pub from: String,
    /// The last day.
    #[param(format = Date)]
    pub to: String,
    /// As in every read.
    pub min_position: Option<String>,
}

/// Who pays, in points and in money.
#[derive(Debug, Serialize, ToSchema)]
pub struct PayersView {
    /// In points; the program itself, without a name, comes last.
    payers: Vec<Payer>,
    /// What redeeming those points would be worth: by the rulebook in force at the end of the period, what is owed now by that of today.
    money: PayersMoney,
}

/// Who pays for points (`earn.bonus[].paid_by` of the rulebook): given and clawed back in a period, and owed to members now.
#[utoipa::path(get, path = "/programs/{program}/liability/payers", operation_id = "getPayers", tag = "Liability",
    params(("program" = String, Path), PayersParams),
    responses((status = 200, description = "By payer, the program last", body = PayersView), ReadProblems))]
pub(super) async fn payers(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<PayersParams>,
) -> Result<axum::Json<PayersView>, Problem> {
    let program = path_id("program", &program)?;
    let rules = state.program(&program)?;
    let period = period(&params.from, &params.to)?;
    wait_for(&state, "liability", params.min_position.as_deref()).await?;
    let payers = liability::payers(&*state.database().await?, program.as_str(), period).await?;
    let money = PayersMoney::of(&payers, rules_on(&rules.program, &program, period.1)?, rules_on(&rules.program, &program, today(&state, &program)?)?);
    Ok(axum::Json(PayersView { payers, money }))
}

/// Which points will be spent: chain ladder over the issue months that are over, with Mack's standard errors, and how well it did three months ago.
#[utoipa::path(get, path = "/programs/{program}/liability/breakage", operation_id = "getBreakage", tag = "Liability",
    params(("program" = String, Path), AsOfDayParams),
    responses((status = 200, description = "By issue month, and the rate over all", body = Breakage), ReadProblems))]
pub(super) async fn breakage(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<AsOfDayParams>,
) -> Result<axum::Json<Breakage>, Problem> {
    let program = path_id("program", &program)?;
    let as_of = day_or_today(&state, &program, "as_of", params.as_of.as_deref())?;
    wait_for(&state, "liability", params.min_position.as_deref()).await?;
    let rules = state.program(&program)?;
    let set = rules_on(&rules.program, &program, as_of)?.insight.expected_redemption;
    let today = today(&state, &program)?;
    Ok(axum::Json(liability::breakage(&*state.database().await?, program.as_str(), as_of, today, set).await?))
}

/// Budgets and the alerts that were raised.
#[derive(Debug, Serialize, ToSchema)]
pub struct BudgetView {
    /// ISO 4217 code of all money here.
    currency: String,
    /// The periods, earlier ones first.
    periods: Vec<Budget>,
    /// The alerts, by period.
    alerts: Vec<BudgetAlert>,
}

/// What the points of each period cost against the plan (`insight.budget` of the rulebook): so far, by rule, by tier, and at the period's end.
#[utoipa::path(get, path = "/programs/{program}/liability/budget", operation_id = "getBudgets", tag = "Liability",
    params(("program" = String, Path), AsOfDayParams),
    responses((status = 200, description = "By period, in money", body = BudgetView), ReadProblems))]
pub(super) async fn budget(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<AsOfDayParams>,
) -> Result<axum::Json<BudgetView>, Problem> {
    let program = path_id("program", &program)?;
    let rules = state.program(&program)?;
    let as_of = day_or_today(&state, &program, "as_of", params.as_of.as_deref())?;
    wait_for(&state, "liability", params.min_position.as_deref()).await?;
    let version = rules.program.at_or_first(rules.now(real_now())).ok_or_else(|| Problem::program_not_found(&program))?;
    let database = state.database().await?;
    let periods = liability::budgets(&database, program.as_str(), &rules.program, as_of).await?;
    let alerts = liability::budget_alerts(&database, program.as_str()).await?;
    Ok(axum::Json(BudgetView { currency: version.rulebook.currency.to_string(), periods, alerts }))
}

/// Of which month.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JournalParams {
    /// The month, `YYYY-MM`.
    pub period: String,
    /// `json` (if none) or `csv`.
    #[param(value_type = Option<Format>)]
    pub format: Option<String>,
}

fn csv(journal: &Journal) -> String {
    let mut text = String::from("period,cohort,account,debit,credit,currency,memo\n");
    for entry in &journal.entries {
        let month = |day: NaiveDate| day.format("%Y-%m").to_string();
        // None of the fields can hold a comma or a quote.
        let fields =
            [month(entry.period), month(entry.cohort), entry.account.into(), entry.debit.to_string(), entry.credit.to_string(), entry.currency.clone()];
        text.push_str(&fields.join(","));
        text.push_str(&format!(",\"{}\"\n", entry.memo));
    }
    text
}

/// A month's entries for the general ledger: what of its sales is deferred for points (IFRS 15), and what became revenue. That of a closed month never changes.
#[utoipa::path(get, path = "/programs/{program}/liability/journal", operation_id = "getJournal", tag = "Liability",
    params(("program" = String, Path), JournalParams),
    responses((status = 200, description = "Balanced entries, as JSON or CSV", content((Journal = "application/json"), (String = "text/csv"))), ReadProblems))]
pub(super) async fn journal(State(state): State<ApiState>, Path(program): Path<String>, Query(params): Query<JournalParams>) -> Result<Response, Problem> {
    let program = path_id("program", &program)?;
    let rules = state.program(&program)?;
    let period = parse_date(&format!("{}-01", params.period)).map_err(|_| Problem::parameter("period", &params.period, "a month, such as 2010-12"))?;
    let closed = closed_months(&rules);
    let terms = Terms { program: &rules.program, closed: &closed, today: today(&state, &program)? };
    let journal = liability::journal(&*state.database().await?, program.as_str(), terms, period).await?;
    match params.format.as_deref() {
        None | Some("json") => Ok(axum::Json(journal).into_response()),
        Some("csv") => Ok(([(header::CONTENT_TYPE, "text/csv")], csv(&journal)).into_response()),
        Some(other) => Err(Problem::parameter("format", other, "json or csv")),
    }
}

/// How far ahead.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ForecastParams {
    /// The first day (UTC); today by the program's clock, if none.
    #[param(format = Date)]
    pub from: Option<String>,
    /// 1 to 120 months, 24 if none.
    pub months: Option<u32>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// Points that are lost on a day, if nobody spends them before.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExpiringDayView {
    /// The day (UTC).
    #[schema(format = Date)]
    pub day: String,
    /// Points.
    pub points: i64,
}

/// What will expire, day by day, as the lots stand now.
#[utoipa::path(get, path = "/programs/{program}/liability/expiry-forecast", operation_id = "getExpiryForecast", tag = "Liability",
    params(("program" = String, Path), ForecastParams),
    responses((status = 200, description = "The days on which points expire", body = Page<ExpiringDayView>), ReadProblems))]
pub(super) async fn expiry_forecast(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<ForecastParams>,
) -> Result<axum::Json<Page<ExpiringDayView>>, Problem> {
    let program = path_id("program", &program)?;
    let from = day_or_today(&state, &program, "from", params.from.as_deref())?;
    let months = params.months.unwrap_or(24);
    if !(1..=120).contains(&months) {
        return Err(Problem::parameter("months", &months.to_string(), "1 to 120"));
    }
    wait_for(&state, "balance", params.min_position.as_deref()).await?;
    let months = i32::try_from(months).unwrap_or(i32::MAX);
    let days = liability::expiry_forecast(&*state.database().await?, program.as_str(), from, months).await?;
    let items = days.into_iter().map(|(day, points)| ExpiringDayView { day: date_text(day), points }).collect();
    Ok(axum::Json(Page { items, next_cursor: None }))
}

/// Which lots.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OpenLotsParams {
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// A lot with points that are owed.
#[derive(Debug, Serialize, ToSchema)]
pub struct OpenLotView {
    /// The account.
    pub account_id: String,
    /// The lot.
    pub lot_id: i32,
    /// The day (UTC) on which it was given.
    #[schema(format = Date)]
    pub issued_on: String,
    /// What it began with.
    pub points: i64,
    /// Not yet to be spent.
    pub pending: i64,
    /// To be spent.
    pub available: i64,
    /// Set aside.
    pub held: i64,
}

/// Every lot with points that are owed, by account.
#[utoipa::path(get, path = "/programs/{program}/liability/lots", operation_id = "listOpenLots", tag = "Liability",
    params(("program" = String, Path), OpenLotsParams),
    responses((status = 200, description = "A page of lots", body = Page<OpenLotView>), ReadProblems))]
pub(super) async fn lots(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<OpenLotsParams>,
) -> Result<axum::Json<Page<OpenLotView>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let limit = limit(params.limit)?;
    let after = |text: &str| text.rsplit_once(':').and_then(|(account, lot)| Some((account.to_owned(), lot.parse::<i32>().ok()?)));
    let (account, lot) = cursor(params.cursor.as_deref(), after)?.unwrap_or_default();
    let sql = "SELECT account, lot_id, issued_on, points, pending, available, held FROM liability.lot
               WHERE program = $1 AND (account, lot_id) > ($2, $3) AND pending + available + held > 0 ORDER BY account, lot_id LIMIT $4";
    let rows = state.database().await?.query(sql, &[&program.as_str(), &account, &lot, &limit]).await?;
    let view = |row: &tokio_postgres::Row| OpenLotView {
        account_id: row.get(0),
        lot_id: row.get(1),
        issued_on: date_text(row.get(2)),
        points: row.get(3),
        pending: row.get(4),
        available: row.get(5),
        held: row.get(6),
    };
    let items = rows.iter().map(view).collect();
    Ok(axum::Json(Page::of(items, limit, |last: &OpenLotView| format!("{}:{}", last.account_id, last.lot_id))))
}
