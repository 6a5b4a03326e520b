//! What the points of a period cost against what was planned: so far, by rule and by tier, and at its end if it goes on like this.
//!
//! Source: the postings of the read model `liability`. The cost of a period is what was given in it (issued and adjusted, less what was clawed
//! back), each point at what one is worth at the period's end, or on the day asked if that is sooner, whether or not it will be spent. So what a rulebook
//! says later changes nothing about periods that are over.

use std::collections::BTreeMap;

use chrono::{Days, NaiveDate};
use ledger_core::policy::{BudgetRule, Program, Rulebook};
use ledger_core::time::plus_days;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::in_force::rules_on;
use crate::AnalysisError;

/// The pace is that of so many days: whole weeks, as shops have weekdays.
const PACE_DAYS: i32 = 28;

/// A period's budget and what became of it, in the program's currency.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Budget {
    /// Its first day (UTC).
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub from: NaiveDate,
    /// Its last day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub until: NaiveDate,
    /// What was planned.
    #[schema(value_type = String, format = "decimal")]
    pub planned: Decimal,
    /// What it cost up to the day asked.
    #[schema(value_type = String, format = "decimal")]
    pub actual: Decimal,
    /// Of what was planned, the share that is spent.
    #[schema(value_type = String, format = "decimal")]
    pub used: Decimal,
    /// What it will have cost at the period's end, at the pace of the last 28 days.
    #[schema(value_type = String, format = "decimal")]
    pub forecast: Decimal,
    /// What is left then; negative where more is spent than was planned.
    #[schema(value_type = String, format = "decimal")]
    pub variance: Decimal,
    /// The day on which all is spent, or will be at this pace; none if that is not within the period.
    #[serde(serialize_with = "ledger_core::time::date::optional::serialize")]
    pub spent_on: Option<NaiveDate>,
    /// Whether as much is spent as calls for an alert.
    pub is_alert: bool,
    /// By what gave the points.
    pub rules: Vec<Share>,
    /// By the tier of the member then.
    pub tiers: Vec<Share>,
}

/// A part of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Share {
    /// The rule (`base`, bonuses joined by `+`, `adjustment`) or the tier.
    pub name: String,
    /// What its points cost.
    #[schema(value_type = String, format = "decimal")]
    pub cost: Decimal,
    /// The goods that earned them, before returns.
    #[schema(value_type = String, format = "decimal")]
    pub sales: Decimal,
    /// Margin of those sales for each unit of cost; none where it cost nothing.
    #[schema(value_type = Option<String>, format = "decimal")]
    pub return_on_cost: Option<Decimal>,
}

/// What points are worth, and what of sales is the program's own.
struct Worth<'a>(&'a Rulebook);

impl Worth<'_> {
    fn money(&self, points: i64) -> Decimal {
        self.0.redeem.value.money(points).map_or(Decimal::MAX, |money| money.0)
    }

    fn share(&self, name: String, points: i64, sales: Decimal) -> Share {
        let cost = self.money(points);
        let margin = sales.saturating_mul(self.0.insight.margin.0);
        let return_on_cost = margin.checked_div(cost).filter(|_| cost > Decimal::ZERO).map(|share| share.round_dp(4).normalize());
        Share { name, cost, sales: sales.normalize(), return_on_cost }
    }
}

/// Every period of the budget that is in force at the end of `today`, as it stands then.
///
/// # Errors
/// What the database says.
pub async fn budgets(client: &Client, program: &str, rules: &Program, today: NaiveDate) -> Result<Vec<Budget>, AnalysisError> {
    let sql = "SELECT min(booked_on) FROM liability.cost WHERE program = $1";
    let began: Option<NaiveDate> = client.query_one(sql, &[&program]).await?.get(0);
    let mut budgets = Vec::new();
    for rule in rules_on(rules, today).map_or(&[][..], |rulebook| &rulebook.insight.budget) {
        if let Some(rulebook) = rules_on(rules, rule.until.min(today)) {
            budgets.push(budget(client, program, (rulebook, rule), began, today).await?);
        }
    }
    Ok(budgets)
}

/// A budget of a program whose first points were booked on the day `began`.
async fn budget(
    client: &Client,
    program: &str,
    (rulebook, rule): (&Rulebook, &BudgetRule),
    began: Option<NaiveDate>,
    today: NaiveDate,
) -> Result<Budget, AnalysisError> {
    let worth = Worth(rulebook);
    let until = rule.until.min(today);
    let pace_from = plus_days(until, -(PACE_DAYS - 1));
    let sql = "SELECT booked_on, sum(points)::bigint FROM liability.cost
               WHERE program = $1 AND booked_on BETWEEN least($2::date, $3) AND $4 AND kind IN ('issued', 'clawed_back', 'adjusted') GROUP BY 1";
    let rows = client.query(sql, &[&program, &rule.from, &pace_from, &until]).await?;
    let days: BTreeMap<NaiveDate, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let points: i64 = days.range(rule.from..).map(|(_, points)| points).sum();
    // A program that began within the pace's days has had fewer of them.
    let first = began.unwrap_or(until).max(pace_from).min(until);
    let pace = Pace { points: days.range(pace_from..).map(|(_, points)| points).sum(), days: days_between(first, until) + 1 };
    // Where the period has not begun, all of it is ahead.
    let elapsed_until = today.max(plus_days(rule.from, -1));
    let left = days_between(elapsed_until, rule.until).max(0);
    let actual = worth.money(points);
    let planned = rule.planned.0.normalize();
    let forecast = actual.saturating_add(worth.money(pace.points.saturating_mul(left) / pace.days)).normalize();
    let used = actual.checked_div(planned).unwrap_or_default().round_dp(4).normalize();
    let spent_on = spent_on(&worth, rule, &days, elapsed_until, (actual, pace));
    Ok(Budget {
        from: rule.from,
        until: rule.until,
        planned,
        actual,
        used,
        forecast,
        variance: (planned - forecast).normalize(),
        spent_on,
        is_alert: actual >= planned.saturating_mul(rule.alert_at.0),
        rules: shares(client, program, &worth, rule, until, "rule").await?,
        tiers: shares(client, program, &worth, rule, until, "tier").await?,
    })
}

/// Points given in the last days, and how many those were.
#[derive(Clone, Copy)]
struct Pace {
    points: i64,
    days: i64,
}

fn days_between(from: NaiveDate, until: NaiveDate) -> i64 {
    (until - from).num_days()
}

fn spent_on(
    worth: &Worth<'_>,
    rule: &BudgetRule,
    days: &BTreeMap<NaiveDate, i64>,
    elapsed_until: NaiveDate,
    (actual, pace): (Decimal, Pace),
) -> Option<NaiveDate> {
    if actual >= rule.planned.0 {
        let mut points = 0;
        let spent = |(_, day): &(&NaiveDate, &i64)| {
            points += **day;
            worth.money(points) >= rule.planned.0
        };
        return days.range(rule.from..).find(spent).map(|(day, _)| *day);
    }
    let a_day = worth.money(pace.points).checked_div(Decimal::from(pace.days)).filter(|cost| *cost > Decimal::ZERO)?;
    let days_left = (rule.planned.0 - actual).checked_div(a_day)?.ceil().to_i64()?;
    elapsed_until.checked_add_days(Days::new(days_left.try_into().ok()?)).filter(|day| *day <= rule.until)
}

async fn shares(client: &Client, program: &str, worth: &Worth<'_>, rule: &BudgetRule, until: NaiveDate, by: &str) -> Result<Vec<Share>, AnalysisError> {
    let sql = format!(
        "SELECT {by}, sum(points)::bigint, sum(sales) FROM liability.cost
         WHERE program = $1 AND booked_on BETWEEN $2 AND $3 AND kind IN ('issued', 'clawed_back', 'adjusted') GROUP BY 1 ORDER BY 2 DESC, 1"
    );
    let rows = client.query(&sql, &[&program, &rule.from, &until]).await?;
    Ok(rows.iter().map(|row| worth.share(row.get(0), row.get(1), row.get(2))).collect())
}

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BudgetAlert {
    /// The period's first day.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub from: NaiveDate,
    /// The day on which it was raised.
    #[serde(serialize_with = "ledger_core::time::date::serialize")]
    pub raised_on: NaiveDate,
    /// What was planned then.
    #[schema(value_type = String, format = "decimal")]
    pub planned: Decimal,
    /// What was spent then.
    #[schema(value_type = String, format = "decimal")]
    pub actual: Decimal,
    /// At the pace of then, the day on which all is spent.
    #[serde(serialize_with = "ledger_core::time::date::optional::serialize")]
    pub spent_on: Option<NaiveDate>,
}

/// Raises an alert for each budget that calls for one and has none; gives back the new ones.
///
/// # Errors
/// What the database says.
pub async fn raise_alerts(client: &Client, program: &str, budgets: &[Budget], today: NaiveDate) -> Result<Vec<BudgetAlert>, AnalysisError> {
    let sql = "INSERT INTO analysis.budget_alert (program, period_from, raised_on, planned, actual, spent_on) VALUES ($1, $2, $3, $4, $5, $6)
               ON CONFLICT (program, period_from) DO NOTHING";
    let mut raised = Vec::new();
    for budget in budgets.iter().filter(|budget| budget.is_alert && budget.from <= today) {
        let Budget { from, planned, actual, spent_on, .. } = budget;
        if client.execute(sql, &[&program, from, &today, planned, actual, spent_on]).await? > 0 {
            raised.push(BudgetAlert { from: *from, raised_on: today, planned: *planned, actual: *actual, spent_on: *spent_on });
        }
    }
    Ok(raised)
}

/// The alerts of a program, by period.
///
/// # Errors
/// What the database says.
pub async fn budget_alerts(client: &Client, program: &str) -> Result<Vec<BudgetAlert>, AnalysisError> {
    let sql = "SELECT period_from, raised_on, planned, actual, spent_on FROM analysis.budget_alert WHERE program = $1 ORDER BY period_from";
    let alert = |row: &tokio_postgres::Row| BudgetAlert {
        from: row.get(0),
        raised_on: row.get(1),
        planned: row.get::<_, Decimal>(2).normalize(),
        actual: row.get::<_, Decimal>(3).normalize(),
        spent_on: row.get(4),
    };
    Ok(client.query(sql, &[&program]).await?.iter().map(alert).collect())
}
