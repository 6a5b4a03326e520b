//! Closing months: one proposes a month's figures, another approves them.

use analytics::liability::{self, ClosedMonth, Figures, States, Terms};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::NaiveDate;
use command_service::{ClosedPeriod, ClosingStep, ProgramState, ProposedClosing};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::{LAST_DATE, parse_date};
use ledger_schemas::{Closing, IssueMonth, Month};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Actor;
use super::liability::today;
use crate::answer::position;
use crate::names::PeriodStatus;
use crate::parameters::Path;
use crate::problem::Problem;
use crate::reads::{Page, wait_for};
use crate::responses::{BodyProblems, ReadProblems};
use crate::state::{ApiState, path_id};

/// A month that is closed, or that somebody proposed to close.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodView {
    /// The month, `YYYY-MM` (UTC).
    #[schema(pattern = "^[0-9]{4}-[0-9]{2}$")]
    pub period: String,
    /// `proposed` or `closed`.
    #[schema(value_type = PeriodStatus)]
    pub status: &'static str,
    /// ISO 4217 code.
    pub currency: String,
    /// Deferred for points in all, by its end.
    #[schema(format = "decimal")]
    pub deferred: String,
    /// Of that, revenue by its end.
    #[schema(format = "decimal")]
    pub recognised: String,
    /// The difference: what is still owed.
    #[schema(format = "decimal")]
    pub contract_liability: String,
    /// BLAKE3 of the figures as they stand on the program stream, hexadecimal.
    pub digest: String,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    #[schema(format = DateTime)]
    pub proposed_at: String,
    /// The entry of the program stream that proposed it.
    pub proposed_in: u64,
    /// Who approved it.
    pub closed_by: Option<String>,
    /// When.
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// By partition, how many records of the log the figures were made from.
    pub log_ends: Vec<u64>,
    /// How many entries of the program stream they were made from.
    pub program_entries: u64,
}

impl PeriodView {
    fn of(proposed: &ProposedClosing, closed: Option<&ClosedPeriod>) -> Self {
        let Closing { period, currency, figures, log_ends, program_entries, .. } = &*proposed.closing;
        let decimals = liability::decimals(currency);
        let sum = |of: fn(&IssueMonth) -> Decimal| figures.iter().map(of).sum::<Decimal>();
        let money = |mut amount: Decimal| {
            amount.rescale(decimals);
            amount.to_string()
        };
        let (deferred, recognised) = (sum(|month| month.deferred.0), sum(|month| month.recognised.0));
        Self {
            period: period.to_string(),
            status: if closed.is_some() { "closed" } else { "proposed" },
            currency: currency.clone(),
            deferred: money(deferred),
            recognised: money(recognised),
            contract_liability: money(deferred - recognised),
            digest: blake3::Hash::from_bytes(proposed.closing.digest()).to_hex().to_string(),
            proposed_by: proposed.maker.to_string(),
            proposed_at: proposed.proposed_at.to_string(),
            proposed_in: proposed.entry,
            closed_by: closed.map(|closed| closed.approver.to_string()),
            closed_at: closed.map(|closed| closed.closed_at.to_string()),
            log_ends: log_ends.clone(),
            program_entries: *program_entries,
        }
    }
}

fn first_day(month: Month) -> NaiveDate {
    parse_date(&format!("{month}-01")).unwrap_or(LAST_DATE)
}

fn month(text: &str) -> Result<Month, Problem> {
    Month::parse(text).ok_or_else(|| Problem::parameter("period", text, "a month, such as 2010-12"))
}

/// The program's closed months, for its journals.
#[must_use]
pub fn closed_months(program: &ProgramState) -> Vec<ClosedMonth> {
    let of = |closed: &ClosedPeriod| {
        let closing = &closed.proposed.closing;
        let decimals = liability::decimals(&closing.currency);
        let states = |months: &[IssueMonth]| months.iter().map(|month| issue_month(month, decimals)).collect::<States>();
        ClosedMonth { period: first_day(closing.period), opening: states(&closing.opening), figures: states(&closing.figures) }
    };
    program.closed_periods.iter().map(of).collect()
}

fn issue_month(month: &IssueMonth, decimals: u32) -> (NaiveDate, liability::State) {
    let money = |Amount(mut amount)| {
        amount.rescale(decimals);
        amount
    };
    (first_day(month.issued_in), liability::State { deferred: money(month.deferred), recognised: money(month.recognised) })
}

fn issue_months(states: &States) -> Result<Vec<IssueMonth>, Problem> {
    let one = |(cohort, state): (&NaiveDate, &liability::State)| {
        let issued_in = month(&cohort.format("%Y-%m").to_string())?;
        Ok(IssueMonth { issued_in, deferred: Amount(state.deferred.normalize()), recognised: Amount(state.recognised.normalize()) })
    };
    states.iter().map(one).collect()
}

/// The figures of `period` by what is on the log now.
async fn closing(state: &ApiState, program: &Id, period: Month) -> Result<Closing, Problem> {
    let program_entries = state.service.programs().entries;
    let rules = state.program(program)?;
    let log_ends = state.log.ends().await.map_err(|error| Problem::unavailable(&error))?;
    for (partition, end) in (0..).zip(&log_ends) {
        if let Some(last) = end.checked_sub(1) {
            wait_for(state, "liability", Some(&position(partition, last))).await?;
            wait_for(state, "clv", Some(&position(partition, last))).await?;
        }
    }
    let closed = closed_months(&rules);
    let terms = Terms { program: &rules.program, closed: &closed, today: today(state, program)? };
    let Figures { currency, opening, closing } = liability::figures(&*state.database().await?, program.as_str(), terms, first_day(period)).await?;
    let opening = if closed.is_empty() { issue_months(&opening)? } else { Vec::new() };
    Ok(Closing { period, log_ends, program_entries, currency, opening, figures: issue_months(&closing)? })
}

fn has_figures(proposed: &ProposedClosing, closing: &Closing) -> bool {
    let of = |closing: &Closing| (closing.period, closing.currency.clone(), closing.opening.clone(), closing.figures.clone());
    of(&proposed.closing) == of(closing)
}

/// Propose to close a month: its figures go onto the program stream, where somebody else approves them. A proposal takes the place of one that waits.
#[utoipa::path(post, path = "/programs/{program}/liability/periods/{period}/close", operation_id = "proposePeriodClosing", tag = "Periods",
    params(("program" = String, Path), ("period" = String, Path, description = "The month, YYYY-MM")),
    responses(
        (status = 201, description = "It is proposed", body = PeriodView),
        (status = 200, description = "The same figures are proposed already", body = PeriodView),
        BodyProblems))]
pub(super) async fn close(
    State(state): State<ApiState>,
    Path((program, period)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Problem> {
    let (program, period) = (path_id("program", &program)?, month(&period)?);
    let closing = closing(&state, &program, period).await?;
    let before = state.program(&program)?.proposed_closing;
    if let Some(waits) = before.filter(|waits| waits.maker == actor.0 && has_figures(waits, &closing)) {
        return Ok(Json(PeriodView::of(&waits, None)).into_response());
    }
    state.service.closing(program.clone(), ClosingStep::Propose(Box::new(closing)), actor.0).await?;
    let now = state.program(&program)?;
    let proposed = now.proposed_closing.as_ref().ok_or_else(|| Problem::retry("outcome_unknown", "another process has closed it just now"))?;
    Ok((StatusCode::CREATED, Json(PeriodView::of(proposed, None))).into_response())
}

/// Approve the figures that somebody else proposed: the month is closed and never changes.
#[utoipa::path(post, path = "/programs/{program}/liability/periods/{period}/approve", operation_id = "approvePeriodClosing", tag = "Periods",
    params(("program" = String, Path), ("period" = String, Path, description = "The month, YYYY-MM")),
    responses(
        (status = 201, description = "The month is closed", body = PeriodView),
        (status = 200, description = "It is closed already, by the same approval", body = PeriodView),
        BodyProblems))]
pub(super) async fn approve(
    State(state): State<ApiState>,
    Path((program, period)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
) -> Result<Response, Problem> {
    let (program, period) = (path_id("program", &program)?, month(&period)?);
    let before = state.program(&program)?;
    if let Some(closed) = before.closed_periods.iter().find(|closed| closed.proposed.closing.period == period && closed.approver == actor.0) {
        return Ok(Json(PeriodView::of(&closed.proposed, Some(closed))).into_response());
    }
    let waits = before.proposed_closing.as_ref().filter(|waits| waits.closing.period == period);
    // What nobody proposed is refused with its reason.
    let proposed_in = waits.map_or(u64::MAX, |waits| waits.entry);
    if let Some(waits) = waits
        && !has_figures(waits, &closing(&state, &program, period).await?)
    {
        return Err(Problem::new("figures_changed", format!("the figures of period {period} are not those that {} proposed any more", waits.maker)));
    }
    state.service.closing(program.clone(), ClosingStep::Approve { period, proposed_in }, actor.0).await?;
    let after = state.program(&program)?;
    let closed = after.closed_periods.iter().find(|closed| closed.proposed.closing.period == period);
    let closed = closed.ok_or_else(|| Problem::retry("outcome_unknown", "this process does not see yet that it is closed"))?;
    Ok((StatusCode::CREATED, Json(PeriodView::of(&closed.proposed, Some(closed)))).into_response())
}

/// The closed months, in order, and the one that waits for a second person.
#[utoipa::path(get, path = "/programs/{program}/liability/periods", operation_id = "listPeriods", tag = "Periods",
    params(("program" = String, Path)),
    responses((status = 200, description = "All closed months, and the one that is proposed", body = Page<PeriodView>), ReadProblems))]
pub(super) async fn list(State(state): State<ApiState>, Path(program): Path<String>) -> Result<Json<Page<PeriodView>>, Problem> {
    let program = state.program(&path_id("program", &program)?)?;
    let closed = program.closed_periods.iter().map(|closed| PeriodView::of(&closed.proposed, Some(closed)));
    let proposed = program.proposed_closing.iter().map(|proposed| PeriodView::of(proposed, None));
    Ok(Json(Page { items: closed.chain(proposed).collect(), next_cursor: None }))
}
