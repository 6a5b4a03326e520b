//! What the report on liability shows.

use analytics::liability::{
    Basis, Breakage, Budget, CohortEstimate, Payer, RollForward, Rolled, Share, breakage, budgets, expiry_forecast, payers, roll_forward, rules_on,
    trial_balance,
};
use anyhow::Context;
use api::real_now;
use chrono::NaiveDate;
use event_log::EventLog;
use ledger_core::policy::{Program, Rulebook, Version};
use ledger_core::time::{first_of_month, last_of_month, plus_months, utc_date};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use tokio_postgres::Client;

use super::Section;
use super::words::{decimals, grouped, money, per_cent, points};
use crate::ops::program_state;

/// What points are worth, by a rulebook.
struct Worth<'a> {
    rulebook: &'a Rulebook,
    decimals: u32,
}

impl<'a> Worth<'a> {
    fn by(rulebook: &'a Rulebook) -> Self {
        Self { rulebook, decimals: decimals(&rulebook.currency) }
    }

    fn of(&self, points: i64) -> String {
        self.rulebook.redeem.value.money(points).map_or_else(|| "unknown".into(), |amount| money(amount.0, self.decimals))
    }

    /// A number of points, and what they are worth.
    fn both(&self, points: i64) -> [String; 2] {
        [grouped(points), self.of(points)]
    }

    /// An estimated number of points, whole ones.
    fn estimated(&self, points: f64) -> String {
        points.round().to_i64().map_or_else(|| "unknown".into(), |points| self.of(points))
    }
}

pub async fn sections(client: &Client, log: &dyn EventLog, program: &str) -> anyhow::Result<Vec<Section>> {
    let state = program_state(log, program).await?;
    let now = state.now(real_now());
    let (today, version) = (utc_date(now), state.program.at_or_first(now).context("the program has no rulebook")?);
    let worth = Worth::by(&version.rulebook);
    let estimate = breakage(client, program, today, today, version.rulebook.insight.expected_redemption).await?;
    let mut sections = vec![
        trial(client, program, &worth, today).await?,
        rolled(client, program, (&state.program, &version.rulebook), today).await?,
        to_be_spent(&estimate, &worth),
        expiring(client, program, &worth, today).await?,
    ];
    sections.extend(who_pays(client, program, &worth, today).await?);
    sections.extend(budget(client, program, (&state.program, version), today).await?);
    Ok(sections)
}

async fn trial(client: &Client, program: &str, worth: &Worth<'_>, today: NaiveDate) -> anyhow::Result<Section> {
    let balance = trial_balance(client, program, today, None, Basis::Booked).await?;
    let row = |name: &str, points: i64| std::iter::once(name.to_owned()).chain(worth.both(points)).collect::<Vec<String>>();
    let mut rows: Vec<Vec<String>> = balance.buckets.iter().map(|held| row(&held.bucket.replace('_', " "), held.points)).collect();
    if !rows.is_empty() {
        rows.extend([row("sum", balance.sum), row("owed to members", balance.liability_points)]);
    }
    Ok(Section {
        heading: format!("Trial balance at the end of {today}, in points and in {}", worth.rulebook.currency),
        columns: vec!["bucket", "points", "worth"],
        rows,
        when_empty: Some(nothing(program)),
        ..Section::default()
    })
}

fn nothing(program: &str) -> String {
    format!("Nothing has been booked yet: `loyalty import FILE --program {program}` or POST /v1/programs/{program}/purchases.")
}

async fn rolled(client: &Client, program: &str, (rules, rulebook): (&Program, &Rulebook), today: NaiveDate) -> anyhow::Result<Section> {
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for back in (0..12).rev() {
        let from = plus_months(first_of_month(today), -back);
        let RollForward { total, .. } = roll_forward(client, program, (from, last_of_month(from)), None, Basis::Booked, None).await?;
        let Rolled { opening, issued, redeemed, expired, clawed_back, adjusted, forfeited, closing, .. } = total;
        let month = from.format("%Y-%m").to_string();
        bars.push((month.clone(), closing.to_f64().unwrap_or(0.0)));
        let numbers = [opening, issued, redeemed, expired, clawed_back, adjusted, forfeited, closing].map(grouped);
        // At the end of its month, or today.
        let worth = Worth::by(rules_on(rules, last_of_month(from).min(today)).unwrap_or(rulebook));
        rows.push(std::iter::once(month).chain(numbers).chain([worth.of(closing)]).collect());
    }
    Ok(Section {
        heading: format!("Roll-forward by month, in points; the last column in {}, by the value of a point at its end", rulebook.currency),
        columns: vec!["month", "opening", "issued", "redeemed", "expired", "clawed back", "adjusted", "forfeited", "closing", "worth"],
        rows,
        bars,
        ..Section::default()
    })
}

/// How the estimate came about.
fn method(estimate: &Breakage) -> String {
    let until = estimate.complete_until;
    match (estimate.method.as_str(), &estimate.back_test) {
        ("chain_ladder", None) => format!("By chain ladder over issue months, learned from the months until {until}."),
        ("chain_ladder", Some(back)) => format!(
            "By chain ladder over issue months, learned from the months until {until}. Of the last {} months it would have expected {} points to be spent; {} were.",
            back.months,
            points(back.expected),
            points(back.actual)
        ),
        ("run_off", _) => {
            "By how points ran off: of those left at each age, the share that was spent and the share that was lost. Too few are spent for a chain ladder."
                .into()
        }
        ("set", _) => "Set by the rulebook's insight.expected_redemption.".into(),
        (why, _) => format!("At most: nothing tells yet how many will be lost ({why})."),
    }
}

fn to_be_spent(estimate: &Breakage, worth: &Worth<'_>) -> Section {
    let is_bound = estimate.standard_error.is_none() && estimate.method != "set";
    let bound = |text: String| if is_bound { format!("at most {text}") } else { text };
    let error = |error: Option<f64>, show: fn(f64) -> String| error.map_or_else(String::new, |error| format!("± {}", show(error)));
    let row = |c: &CohortEstimate| {
        let month = c.cohort.format("%Y-%m").to_string();
        let numbers = [c.granted, c.redeemed, c.lost].map(grouped);
        let expected = [bound(points(c.ultimate)), error(c.standard_error, points), bound(worth.estimated(c.ultimate))];
        std::iter::once(month).chain(numbers).chain(expected).collect::<Vec<String>>()
    };
    let mut rows: Vec<Vec<String>> = estimate.cohorts.iter().map(row).collect();
    if !rows.is_empty() {
        let sum = |of: fn(&CohortEstimate) -> i64| grouped(estimate.cohorts.iter().map(of).sum());
        let ultimate: f64 = estimate.cohorts.iter().map(|c| c.ultimate).sum();
        let (granted, redeemed, lost) = (sum(|c| c.granted), sum(|c| c.redeemed), sum(|c| c.lost));
        rows.push(vec!["all".into(), granted, redeemed, lost, bound(points(ultimate)), String::new(), bound(worth.estimated(ultimate))]);
        let (rate, error) = (bound(per_cent(estimate.ultimate_redemption_rate)), error(estimate.standard_error, per_cent));
        rows.push(vec!["share".into(), String::new(), String::new(), String::new(), rate, error, String::new()]);
    }
    Section {
        heading: format!("Points that will be spent, in points and in {}", worth.rulebook.currency),
        columns: vec!["issued in", "granted", "redeemed", "lost", "spent in the end", "standard error", "worth"],
        note: (!rows.is_empty()).then(|| method(estimate)),
        rows,
        when_empty: Some("No points have been issued yet.".into()),
        ..Section::default()
    }
}

async fn expiring(client: &Client, program: &str, worth: &Worth<'_>, today: NaiveDate) -> anyhow::Result<Section> {
    let mut by_month = std::collections::BTreeMap::<String, i64>::new();
    for (day, points) in expiry_forecast(client, program, today, 24).await? {
        *by_month.entry(day.format("%Y-%m").to_string()).or_default() += points;
    }
    Ok(Section {
        heading: format!("What expires from {today} on if nobody spends, in points and in {}", worth.rulebook.currency),
        columns: vec!["month", "points", "worth"],
        rows: by_month.iter().map(|(month, points)| std::iter::once(month.clone()).chain(worth.both(*points)).collect()).collect(),
        bars: by_month.iter().map(|(month, points)| (month.clone(), points.to_f64().unwrap_or(0.0))).collect(),
        when_empty: Some("No points expire within 24 months.".into()),
        ..Section::default()
    })
}

/// Who pays, where others than the program do.
async fn who_pays(client: &Client, program: &str, worth: &Worth<'_>, today: NaiveDate) -> anyhow::Result<Option<Section>> {
    let from = first_of_month(today);
    let payers = payers(client, program, (from, today)).await?;
    let row = |p: &Payer| {
        let name = p.payer.clone().unwrap_or_else(|| "the program".into());
        vec![name, grouped(p.issued), grouped(p.clawed_back), grouped(p.liability), worth.of(p.liability)]
    };
    let section = Section {
        heading: format!("Who pays, since {from}, in points; the last column in {}", worth.rulebook.currency),
        columns: vec!["payer", "issued", "clawed back", "owed to members", "worth"],
        rows: payers.iter().map(row).collect(),
        bars: payers.iter().filter_map(|p| Some((p.payer.clone()?, p.liability.to_f64().unwrap_or(0.0)))).collect(),
        ..Section::default()
    };
    Ok((payers.len() > 1).then_some(section))
}

/// The periods of the budget, and what gave the points of the one that runs.
async fn budget(client: &Client, program: &str, (rules, version): (&Program, &Version), today: NaiveDate) -> anyhow::Result<Vec<Section>> {
    let budgets = budgets(client, program, rules, today).await?;
    let Some(current) = budgets.iter().rfind(|budget| budget.from <= today) else { return Ok(Vec::new()) };
    let decimals = decimals(&version.rulebook.currency);
    let money = |amount: Decimal| money(amount, decimals);
    let row = |b: &Budget| {
        let spent_on = b.spent_on.map_or_else(|| "it lasts".into(), |day| day.to_string());
        vec![b.from.to_string(), b.until.to_string(), money(b.planned), money(b.actual), money(b.forecast), money(b.variance), spent_on]
    };
    let share = |s: &Share| {
        let back = s.return_on_cost.map_or_else(String::new, |share| share.to_string());
        vec![s.name.clone(), money(s.cost), money(s.sales), back]
    };
    let bars = |shares: &[Share]| shares.iter().map(|share| (share.name.clone(), share.cost.to_f64().unwrap_or(0.0))).collect();
    let by = |what: &'static str, shares: &[Share]| Section {
        heading: format!("Cost by {what} since {}", current.from),
        columns: vec![what, "cost", "sales", "margin by cost"],
        rows: shares.iter().map(share).collect(),
        bars: bars(shares),
        ..Section::default()
    };
    let periods = Section {
        heading: format!("Budget, in {}", version.rulebook.currency),
        columns: vec!["from", "until", "planned", "actual", "forecast", "left in the end", "spent on"],
        rows: budgets.iter().map(row).collect(),
        ..Section::default()
    };
    Ok(vec![periods, by("rule", &current.rules), by("tier", &current.tiers)])
}
