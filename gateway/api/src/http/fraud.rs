//! Cases of suspected fraud: what the rules found, and what people make of it.

use analytics::fraud::{self, Case, CaseEvent, Reference, Reported, RuleRecord, Step};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use ledger_core::policy::FraudRule;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Actor;
use crate::body::Body;
use crate::names::{CaseState, CaseStep, FraudRuleSchema, REPORTED, ReportedKind};
use crate::parameters::{Path, Query};
use crate::problem::Problem;
use crate::reads::{Page, limit};
use crate::responses::{BodyProblems, ReadProblems};
use crate::state::{ApiState, path_id, real_now};

/// Which cases.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CasesParams {
    /// open, assigned, confirmed or dismissed.
    #[param(value_type = Option<CaseState>)]
    pub state: Option<String>,
    /// Of this rule.
    pub rule: Option<String>,
    /// From `next_cursor`.
    pub cursor: Option<u32>,
    /// 1 to 500, 50 if none.
    pub limit: Option<u32>,
}

/// Cases, the worst first, then the newest.
#[utoipa::path(get, path = "/programs/{program}/fraud/cases", operation_id = "listFraudCases", tag = "Fraud",
    params(("program" = String, Path), CasesParams),
    responses((status = 200, description = "A page of cases", body = Page<Case>), ReadProblems))]
pub(super) async fn cases(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Query(params): Query<CasesParams>,
) -> Result<axum::Json<Page<Case>>, Problem> {
    let program = path_id("program", &program)?;
    state.program(&program)?;
    if let Some(wrong) = params.state.as_deref().filter(|state| !fraud::STATES.contains(state)) {
        return Err(Problem::parameter("state", wrong, "open, assigned, confirmed or dismissed"));
    }
    let (limit, skip) = (limit(params.limit)?, i64::from(params.cursor.unwrap_or(0)));
    let database = state.database().await?;
    let items = fraud::cases(&database, program.as_str(), params.state.as_deref(), params.rule.as_deref(), skip, limit).await?;
    Ok(axum::Json(Page::of(items, limit, |_| (skip + limit).to_string())))
}

/// A case and all that happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CaseView {
    /// The case.
    #[serde(flatten)]
    case: Case,
    /// What happened to it, in order, with its evidence.
    events: Vec<CaseEvent>,
}

fn not_found(case_id: &str) -> Problem {
    Problem::new("case_not_found", format!("there is no case {case_id}"))
}

/// A case, with its evidence: the signals and the positions of their records.
#[utoipa::path(get, path = "/programs/{program}/fraud/cases/{case_id}", operation_id = "getFraudCase", tag = "Fraud",
    params(("program" = String, Path), ("case_id" = String, Path)),
    responses((status = 200, description = "The case and what happened to it", body = CaseView), ReadProblems))]
pub(super) async fn case(State(state): State<ApiState>, Path((program, case_id)): Path<(String, String)>) -> Result<axum::Json<CaseView>, Problem> {
    let program = path_id("program", &program)?;
    let found = fraud::case(&*state.database().await?, program.as_str(), &case_id).await?;
    let (case, events) = found.ok_or_else(|| not_found(&case_id))?;
    Ok(axum::Json(CaseView { case, events }))
}

/// What is done about a case.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"step": "assign", "assignee": "anna", "note": "looks like one device"})))]
pub struct StepBody {
    /// `assign`, `note`, `confirm` or `dismiss`.
    #[schema(value_type = CaseStep)]
    pub step: String,
    /// To whom, for `assign`.
    #[serde(default)]
    pub assignee: String,
    /// In words; no personal data belongs here.
    #[serde(default)]
    pub note: String,
}

/// Assign, note, confirm or dismiss. A dismissed subject is left alone by the rule until its windows count twice as much.
#[utoipa::path(post, path = "/programs/{program}/fraud/cases/{case_id}", operation_id = "updateFraudCase", tag = "Fraud",
    request_body = StepBody, params(("program" = String, Path), ("case_id" = String, Path)),
    responses((status = 204, description = "It is done"), BodyProblems))]
pub(super) async fn step(
    State(state): State<ApiState>,
    Path((program, case_id)): Path<(String, String)>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<StepBody>,
) -> Result<StatusCode, Problem> {
    let program = path_id("program", &program)?;
    let step = match body.step.as_str() {
        "assign" if body.assignee.is_empty() => return Err(Problem::parameter("assignee", "", "a name, for assign")),
        "assign" => Step::Assign(&body.assignee),
        "note" => Step::Note,
        "confirm" => Step::Confirm,
        "dismiss" => Step::Dismiss,
        other => return Err(Problem::parameter("step", other, "assign, note, confirm or dismiss")),
    };
    let mut database = state.database().await?;
    let done = fraud::step(&mut database, program.as_str(), &case_id, &actor.0, step, &body.note, real_now().timestamp()).await?;
    done.map(|()| StatusCode::NO_CONTENT).ok_or_else(|| not_found(&case_id))
}

/// Fraud that was found out elsewhere.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"reference": "P-20260301-17", "account_id": "m-1001", "kind": "purchase", "note": "told by the card's bank"})))]
pub struct ReportBody {
    /// The id of the purchase, redemption, return or adjustment.
    pub reference: String,
    /// Whose it is; ids are an account's own, so it is needed where several accounts have this one.
    #[serde(default)]
    pub account_id: Option<String>,
    /// `purchase`, `redemption`, `return` or `adjustment`; needed where several of the account have this id.
    #[serde(default)]
    #[schema(value_type = Option<ReportedKind>)]
    pub kind: Option<String>,
    /// Who says so, in words; no personal data belongs here.
    #[serde(default)]
    pub note: String,
}

/// The case that a report made.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReportView {
    /// The case.
    case_id: String,
}

/// Of an ambiguous id, as many owners are named.
const OWNERS_TOLD: usize = 10;

/// Report fraud that was found out elsewhere, such as by the card's bank: a confirmed case, which rules may count. Reported again, it is the same case.
/// Where several accounts have the id, the report must name the account.
#[utoipa::path(post, path = "/programs/{program}/fraud/reports", operation_id = "reportFraud", tag = "Fraud",
    request_body = ReportBody, params(("program" = String, Path)),
    responses((status = 200, description = "The case", body = ReportView), BodyProblems))]
pub(super) async fn report(
    State(state): State<ApiState>,
    Path(program): Path<String>,
    Extension(actor): Extension<Actor>,
    Body(body): Body<ReportBody>,
) -> Result<axum::Json<ReportView>, Problem> {
    let program = path_id("program", &program)?;
    let id = path_id("reference", &body.reference)?;
    let account = body.account_id.as_deref().map(|account| path_id("account_id", account)).transpose()?;
    if let Some(wrong) = body.kind.as_deref().filter(|kind| !REPORTED.contains(kind)) {
        return Err(Problem::parameter("kind", wrong, "purchase, redemption, return or adjustment"));
    }
    let reference = Reference { id: id.as_str(), account: account.as_ref().map(|account| account.as_str()), kind: body.kind.as_deref() };
    let mut database = state.database().await?;
    let case_id = match fraud::report(&mut database, program.as_str(), reference, &actor.0, &body.note, real_now().timestamp()).await? {
        Reported::Case(case_id) => case_id,
        Reported::NotFound => {
            let whose = account.map_or_else(|| "no account has".to_owned(), |account| format!("account {account} does not have"));
            return Err(Problem::new("reference_not_found", format!("{whose} a purchase, redemption, return or adjustment {id}")));
        }
        Reported::Ambiguous(owners) => {
            let owners: Vec<String> = owners.iter().take(OWNERS_TOLD).map(|(account, kind)| format!("{kind} of account {account}")).collect();
            return Err(Problem::new("reference_ambiguous", format!("{id} is the id of several: {}", owners.join(", "))));
        }
    };
    Ok(axum::Json(ReportView { case_id }))
}

/// The rules in force and how they have done.
#[derive(Debug, Serialize, ToSchema)]
pub struct RulesView {
    /// As the rulebook has them.
    #[schema(value_type = Vec<FraudRuleSchema>)]
    rules: Vec<FraudRule>,
    /// Cases by rule, confirmed and dismissed, and whom it leaves alone.
    records: Vec<RuleRecord>,
}

/// The rules in force, and how each has done.
#[utoipa::path(get, path = "/programs/{program}/fraud/rules", operation_id = "getFraudRules", tag = "Fraud",
    params(("program" = String, Path)),
    responses((status = 200, description = "Rules and their records", body = RulesView), ReadProblems))]
pub(super) async fn rules(State(state): State<ApiState>, Path(program): Path<String>) -> Result<axum::Json<RulesView>, Problem> {
    let program = path_id("program", &program)?;
    let rules = state.program(&program)?;
    let version = rules.program.at_or_first(rules.now(real_now())).ok_or_else(|| Problem::program_not_found(&program))?;
    let records = fraud::records(&*state.database().await?, program.as_str()).await?;
    Ok(axum::Json(RulesView { rules: version.rulebook.fraud.rules.clone(), records }))
}
