//! Lifetime value: what members are worth, by the fit in force.

use analytics::AnalysisError;
use analytics::clv::{self, AsOf, CategoryShare, ChannelShare, Fit, Member, Score, Scored};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use ledger_core::id::Id;
use ledger_core::time::{date_text, parse_date};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::accounts::require_account;
use crate::names::Format;
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, by_value, limit, wait_for};
use crate::responses::ReadProblems;
use crate::state::{ApiState, path_id, real_now};

/// Of when, and for how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClvParams {
    /// A day, `YYYY-MM-DD`: by what had been bought at its end; if none, the day of `known_at`, or today by the program's clock.
    #[param(format = Date)]
    pub as_of: Option<String>,
    /// Only what was booked by the end of this day (UTC), `YYYY-MM-DD`; all if none.
    #[param(format = Date)]
    pub known_at: Option<String>,
    /// For how many weeks purchases are expected, up to 520, such as `39` or `4.5`; the rulebook's horizon if none.
    pub weeks: Option<String>,
    /// By which fit; if none, the one in force, or for a day before its last one, or what was known then, the latest fit of data up to it.
    pub fit: Option<i32>,
    /// As in every read.
    pub min_position: Option<String>,
}

/// What a member bought so far, and will.
#[derive(Debug, Serialize, ToSchema)]
pub struct ClvView {
    /// The account.
    pub account_id: String,
    /// Of the end of which day.
    #[schema(format = Date)]
    pub as_of: String,
    /// Orders of which something was kept.
    pub orders: u32,
    /// Days with a purchase after the first such day.
    pub repeats: u32,
    /// Days since the first purchase; null where there is none.
    pub age_days: Option<u32>,
    /// Days from the first purchase to the last.
    pub recency_days: Option<u32>,
    /// Spend net of returns and of refunds of purchases that the book does not have, in the program's currency.
    pub spend: f64,
    /// Mean spend of the days after the first.
    pub repeat_day_spend: f64,
    /// Mean days between days with a purchase; null before the second.
    pub gap_days: Option<f64>,
    /// The ten categories on which most was spent: `gross_spend`, as a return by amount can't be taken off a category.
    pub categories: Vec<CategoryShare>,
    /// The ten channels on which most was spent, net of returns.
    pub channels: Vec<ChannelShare>,
    /// By the fit in force, or one of its day; null where there is none, or no purchase.
    pub forecast: Option<ForecastView>,
    /// Why `forecast` is null; null where it is not.
    pub why_no_forecast: Option<String>,
}

/// What to expect.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForecastView {
    /// The version of the fit.
    pub fit_version: i32,
    /// Probability that the member still buys.
    pub alive: f64,
    /// Days with a purchase to expect.
    pub expected_purchases: f64,
    /// What such a day's purchases come to.
    pub order_value: f64,
    /// Discounted margin within the rulebook's horizon, in the program's currency.
    pub lifetime_value: f64,
}

impl From<Score> for ForecastView {
    fn from(score: Score) -> Self {
        let Score { fit_version, alive, expected_purchases, order_value, lifetime_value } = score;
        Self { fit_version, alive, expected_purchases, order_value, lifetime_value }
    }
}

impl From<AnalysisError> for Problem {
    fn from(error: AnalysisError) -> Self {
        match &error {
            // To ask again gives the same amounts.
            AnalysisError::Revenue { source, .. } => Self::new("amount_too_large", format!("{error}: {source}")),
            _ => Self::unavailable(&error),
        }
    }
}

/// The end of a day that the program's clock has reached.
fn as_of(today: NaiveDate, as_of: Option<&str>, known_at: Option<&str>) -> Result<AsOf, Problem> {
    let known_at = known_at.map(|text| day("known_at", text)).transpose()?;
    // What was known on a day is of days up to it: of those after it, it would say that nobody bought.
    let Some(text) = as_of else { return Ok(AsOf { day: known_at.map_or(today, |known_at| known_at.min(today)), known_at }) };
    let day = day("as_of", text)?;
    if day > today {
        return Err(Problem::parameter("as_of", text, &format!("a day up to {today}, which is today")));
    }
    Ok(AsOf { day, known_at })
}

/// Weeks, and parts of one.
fn weeks(text: Option<&str>) -> Result<Option<f64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let weeks = text.parse::<f64>().ok().filter(|weeks| *weeks > 0.0 && *weeks <= 520.0);
    weeks.map(Some).ok_or_else(|| Problem::parameter("weeks", text, "more than 0 and up to 520, such as 39 or 4.5"))
}

/// The fit of this version, or the one to look back with; if none, why there is none.
async fn fit(database: &tokio_postgres::Client, program: &str, version: Option<i32>, as_of: AsOf) -> Result<Result<Fit, String>, Problem> {
    let Some(version) = version else {
        return Ok(match clv::fit_for(database, program, as_of).await? {
            Some(fit) => Ok(fit),
            None => Err(why_none(clv::in_force(database, program).await?.as_ref(), program, as_of)),
        });
    };
    let fit = clv::version_of(database, program, version).await?.filter(Fit::is_usable);
    fit.map(Ok).ok_or_else(|| Problem::parameter("fit", &version.to_string(), "the version of a fit that came to a model, as clv/fits lists them"))
}

/// Why there is no fit to look back with, and what makes one.
fn why_none(current: Option<&Fit>, program: &str, AsOf { day, known_at }: AsOf) -> String {
    let Some(current) = current else { return format!("no fit is in force: `loyalty clv fit --program {program}` makes one") };
    let known = known_at.map_or_else(String::new, |known_at| format!(" --known-at {known_at}"));
    let last = known_at.map_or(day, |known_at| known_at.min(day));
    format!(
        "no fit is of data until {last} or earlier, and that in force, of data until {}, knows what followed: `loyalty clv fit --program {program} --as-of {last}{known}` makes one",
        current.until
    )
}

pub(super) fn day(name: &str, text: &str) -> Result<NaiveDate, Problem> {
    parse_date(text).map_err(|_| Problem::parameter(name, text, "a day, such as 2010-12-09"))
}

/// What a member bought, and what is to be expected.
#[utoipa::path(get, path = "/programs/{program}/accounts/{account_id}/clv", operation_id = "getLifetimeValue", tag = "Lifetime value",
    params(("program" = String, Path), ("account_id" = String, Path), ClvParams),
    responses((status = 200, description = "What the member bought, and will", body = ClvView), ReadProblems))]
pub(super) async fn get(
    State(state): State<ApiState>,
    Path((program, account)): Path<(String, String)>,
    Query(params): Query<ClvParams>,
) -> Result<axum::Json<ClvView>, Problem> {
    let (key, program) = state.key(&program, &account)?;
    let weeks = weeks(params.weeks.as_deref())?;
    wait_for(&state, "clv", params.min_position.as_deref()).await?;
    let version = program.program.at_or_first(program.now(real_now())).ok_or_else(|| Problem::program_not_found(&key.program))?;
    let as_of = as_of(version.zone.date(program.now(real_now())), params.as_of.as_deref(), params.known_at.as_deref())?;
    let database = require_account(&state, &key, params.min_position.as_deref()).await?;
    let member = clv::member(&database, key.program.as_str(), key.account.as_str(), as_of).await?;
    let forecast = match (member.as_ref(), fit(&database, key.program.as_str(), params.fit, as_of).await?) {
        (None, _) => Err(format!("nothing was bought and kept by {}", as_of.day)),
        (Some(_), Err(why)) => Err(why),
        (Some(member), Ok(fit)) => {
            let score = clv::score_one(&fit, member, &version.rulebook.insight, weeks);
            score.map(ForecastView::from).ok_or_else(|| format!("fit {} came to no model", fit.version))
        }
    };
    let shares = clv::shares(&database, key.program.as_str(), key.account.as_str(), as_of).await?;
    let refunded = clv::refunded(&database, key.program.as_str(), key.account.as_str(), as_of).await?;
    Ok(axum::Json(view(key.account.to_string(), as_of.day, member.as_ref(), refunded, shares, forecast)))
}

type Shares = (Vec<CategoryShare>, Vec<ChannelShare>);

/// `refunded` counts where there is no member of whom it is taken off.
fn view(
    account_id: String,
    as_of: NaiveDate,
    member: Option<&Member>,
    refunded: f64,
    (categories, channels): Shares,
    forecast: Result<ForecastView, String>,
) -> ClvView {
    let again = member.filter(|member| member.history.repeats > 0);
    #[allow(clippy::float_arithmetic, reason = "a mean, told and not booked")]
    let gap_days = again.map(|member| f64::from(member.history.recency_days) / f64::from(member.history.repeats));
    #[allow(clippy::float_arithmetic, reason = "a difference, told and not booked")]
    let without_purchase = 0.0 - refunded;
    ClvView {
        gap_days,
        categories,
        channels,
        account_id,
        as_of: date_text(as_of),
        orders: member.map_or(0, |member| member.orders),
        repeats: member.map_or(0, |member| member.history.repeats),
        age_days: member.map(|member| member.history.age_days),
        recency_days: member.map(|member| member.history.recency_days),
        spend: member.map_or(without_purchase, |member| member.total),
        repeat_day_spend: member.map_or(0.0, |member| member.spend.mean),
        why_no_forecast: forecast.as_ref().err().cloned(),
        forecast: forecast.ok(),
    }
}

/// Which members.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScoresParams {
    /// Only those on this rung of the ladder.
    pub rung: Option<String>,
    /// The end of a day, `YYYY-MM-DD`: scores are made anew of what had been bought by then. If none, the day of `known_at`, or that of the last scores.
    #[param(format = Date)]
    pub as_of: Option<String>,
    /// Only what was booked by the end of this day (UTC), `YYYY-MM-DD`; scores are made anew.
    #[param(format = Date)]
    pub known_at: Option<String>,
    /// For how many weeks purchases are expected, up to 520, such as `39` or `4.5`; scores are made anew. The rulebook's horizon if none.
    pub weeks: Option<String>,
    /// By which fit; scores are made anew. As for one member, if none.
    pub fit: Option<i32>,
    /// `json` (if none) or `csv`, which has all members unless `limit` is given.
    #[param(value_type = Option<Format>)]
    pub format: Option<String>,
    /// From `next_cursor`.
    pub cursor: Option<String>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// A member's score.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScoreView {
    /// The account.
    pub account_id: String,
    /// Of the end of which day.
    #[schema(format = Date)]
    pub as_of: String,
    /// Rung of the ladder of loyalty.
    pub rung: String,
    /// Recency, frequency, monetary value: 1 to 5 each, by fifths of the members.
    pub rfm: [i16; 3],
    /// What to expect; null where no fit knew nothing later than the day looked at.
    pub forecast: Option<ForecastView>,
    /// Why `forecast` is null; null where it is not.
    pub why_no_forecast: Option<String>,
}

/// Members by lifetime value, the most valuable first: as they were scored last, or as of any day, for any number of weeks, by any fit.
#[utoipa::path(get, path = "/programs/{program}/clv/members", operation_id = "listLifetimeValues", tag = "Lifetime value",
    params(("program" = String, Path), ScoresParams),
    responses((status = 200, description = "A page, or CSV", content((Page<ScoreView> = "application/json"), (String = "text/csv"))), ReadProblems))]
pub(super) async fn members(State(state): State<ApiState>, Path(program): Path<String>, Query(params): Query<ScoresParams>) -> Result<Response, Problem> {
    let program = path_id("program", &program)?;
    let is_csv = match params.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(other) => return Err(Problem::parameter("format", other, "json or csv")),
    };
    let count = limit(params.limit)?;
    let most = if is_csv && params.limit.is_none() { i64::MAX } else { count };
    let after = by_value(params.cursor.as_deref())?.unwrap_or((f64::INFINITY, String::new()));
    let is_kept = params.as_of.is_none() && params.known_at.is_none() && params.weeks.is_none() && params.fit.is_none();
    let items = if is_kept { kept(&state, &program, &params, after, most).await? } else { anew(&state, &program, &params, after, most).await? };
    if is_csv {
        return Ok(([(header::CONTENT_TYPE, "text/csv")], csv(&items)).into_response());
    }
    Ok(axum::Json(Page::of(items, most, |last: &ScoreView| {
        let value = last.forecast.as_ref().map_or(0.0, |forecast| forecast.lifetime_value);
        format!("{value}:{}", last.account_id)
    }))
    .into_response())
}

/// Scores as they were made last.
async fn kept(state: &ApiState, program: &Id, params: &ScoresParams, (value, account): (f64, String), most: i64) -> Result<Vec<ScoreView>, Problem> {
    state.program(program)?;
    let database = state.database().await?;
    let sql = "SELECT account, as_of, rung, recency_score, frequency_score, monetary_score, fit_version, alive, expected_purchases, order_value, lifetime_value
               FROM analysis.score WHERE program = $1 AND ($2::text IS NULL OR rung = $2) AND (-lifetime_value, account) > (-$3::float8, $4)
               ORDER BY lifetime_value DESC, account LIMIT $5";
    let rows = database.query(sql, &[&program.as_str(), &params.rung, &value, &account, &most]).await?;
    Ok(rows.iter().map(score_view).collect())
}

/// Scores made for this answer.
async fn anew(state: &ApiState, program: &Id, params: &ScoresParams, (value, account): (f64, String), most: i64) -> Result<Vec<ScoreView>, Problem> {
    let rules = state.program(program)?;
    let weeks = weeks(params.weeks.as_deref())?;
    let version = rules.program.at_or_first(rules.now(real_now())).ok_or_else(|| Problem::program_not_found(program))?;
    let mut as_of = as_of(version.zone.date(rules.now(real_now())), params.as_of.as_deref(), params.known_at.as_deref())?;
    let database = state.database().await?;
    if params.as_of.is_none() && params.known_at.is_none() {
        let sql = "SELECT max(as_of) FROM analysis.score WHERE program = $1";
        as_of.day = database.query_one(sql, &[&program.as_str()]).await?.get::<_, Option<NaiveDate>>(0).unwrap_or(as_of.day);
    }
    let fit = fit(&database, program.as_str(), params.fit, as_of).await?;
    let mut scores = clv::scored(&database, program.as_str(), fit.as_ref().ok(), &version.rulebook.insight, as_of, weeks).await?;
    // Without a fit all are worth alike, and stand by account.
    let worth = |one: &Scored| one.score.as_ref().map_or(0.0, |score| score.lifetime_value);
    let later = |one: &Scored| worth(one) < value || (worth(one) <= value && one.account > account);
    scores.retain(|one| params.rung.as_ref().is_none_or(|rung| one.rung == *rung) && later(one));
    scores.sort_by(|one, other| worth(other).total_cmp(&worth(one)).then_with(|| one.account.cmp(&other.account)));
    scores.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let view = |one: Scored| ScoreView {
        account_id: one.account,
        as_of: date_text(as_of.day),
        rung: one.rung,
        rfm: one.rfm,
        forecast: one.score.map(ForecastView::from),
        why_no_forecast: fit.as_ref().err().cloned(),
    };
    Ok(scores.into_iter().map(view).collect())
}

fn csv(items: &[ScoreView]) -> String {
    let mut text = String::from("account_id,as_of,rung,recency,frequency,monetary,fit_version,alive,expected_purchases,order_value,lifetime_value\n");
    // A rung has any name that the rulebook gives it.
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    for ScoreView { account_id, as_of, rung, rfm: [recency, frequency, monetary], forecast, .. } in items {
        let rung = quoted(rung);
        let expected = forecast.as_ref().map_or_else(
            || ",,,,".to_owned(),
            |ForecastView { fit_version, alive, expected_purchases, order_value, lifetime_value }| {
                format!("{fit_version},{alive},{expected_purchases},{order_value},{lifetime_value}")
            },
        );
        text.push_str(&format!("{account_id},{as_of},{rung},{recency},{frequency},{monetary},{expected}\n"));
    }
    text
}

fn score_view(row: &tokio_postgres::Row) -> ScoreView {
    ScoreView {
        account_id: row.get(0),
        as_of: date_text(row.get(1)),
        rung: row.get(2),
        rfm: [row.get(3), row.get(4), row.get(5)],
        forecast: Some(ForecastView {
            fit_version: row.get(6),
            alive: row.get(7),
            expected_purchases: row.get(8),
            order_value: row.get(9),
            lifetime_value: row.get(10),
        }),
        why_no_forecast: None,
    }
}

/// Which page of fits.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FitsParams {
    /// From `next_cursor`: those before this version.
    pub cursor: Option<i32>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// Every fit that was made, the newest first: data, parameters with standard errors, log-likelihood, holdout, and why it is in force or not.
#[utoipa::path(get, path = "/programs/{program}/clv/fits", operation_id = "listFits", tag = "Lifetime value",
    params(("program" = String, Path), FitsParams),
    responses((status = 200, description = "A page of fits", body = Page<Fit>), ReadProblems))]
pub(super) async fn fits(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<FitsParams>,
) -> Result<axum::Json<Page<Fit>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let limit = limit(params.limit)?;
    let items = clv::list(&*state.database().await?, program.as_str(), params.cursor.unwrap_or(i32::MAX), limit).await?;
    Ok(axum::Json(Page::of(items, limit, |last| last.version.to_string())))
}

/// Members who came in one month, in one month after it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CohortView {
    /// First day of the month of their first purchase.
    #[schema(format = Date)]
    pub cohort: String,
    /// Months after it, from 0.
    pub month: i32,
    /// How many of them bought in it.
    pub members: i64,
    /// Their orders.
    pub orders: i64,
    /// Their spend net of returns, in the program's currency.
    #[schema(format = "decimal")]
    pub spend: String,
}

/// The cohort table: by month of first purchase, what members did in each month after it.
#[utoipa::path(get, path = "/programs/{program}/clv/cohorts", operation_id = "listCohorts", tag = "Lifetime value",
    params(("program" = String, Path)),
    responses((status = 200, description = "The cohort table", body = Page<CohortView>), ReadProblems))]
pub(super) async fn cohorts(State(state): State<ApiState>, Path(program): Path<String>) -> Result<axum::Json<Page<CohortView>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    let sql = "SELECT cohort, month, members, orders, spend::text FROM clv.cohort WHERE program = $1 ORDER BY cohort, month";
    let rows = state.database().await?.query(sql, &[&program.as_str()]).await?;
    let view =
        |row: &tokio_postgres::Row| CohortView { cohort: date_text(row.get(0)), month: row.get(1), members: row.get(2), orders: row.get(3), spend: row.get(4) };
    Ok(axum::Json(Page { items: rows.iter().map(view).collect(), next_cursor: None }))
}
