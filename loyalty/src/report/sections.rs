//! What each report shows.

use analysis::liability::{Basis, Budget, Payer, Share, breakage, budgets, expiry_forecast, payers, roll_forward, trial_balance};
use analysis::{clv, decline, fraud};
use anyhow::Context;
use api::real_now;
use command_service::Programs;
use event_log::EventLog;
use jiff::Span;
use jiff::civil::Date;
use ledger_core::id::Id;
use ledger_core::policy::Version;
use ledger_core::time::utc_date;
use rust_decimal::prelude::ToPrimitive;
use tokio_postgres::Client;

use super::Section;

/// Rows of a list of members or cases.
const ROWS_MAX: i64 = 20;

pub async fn clv(client: &Client, program: &str) -> anyhow::Result<Vec<Section>> {
    let fit = clv::in_force(client, program).await?.with_context(|| format!("no fit of program {program} is in force: `loyalty clv fit`"))?;
    let model = fit.buying.as_ref().map_or("", |buying| buying.model.as_str());
    let about = vec![vec![fit.version.to_string(), model.to_owned(), fit.until.to_string(), fit.members.to_string(), fit.why.clone()]];
    let sql = "SELECT rung, count(*), avg(lifetime_value), sum(lifetime_value) FROM analysis.score WHERE program = $1 GROUP BY rung ORDER BY 4 DESC";
    let rungs = client.query(sql, &[&program]).await?;
    let row = |row: &tokio_postgres::Row| {
        vec![row.get::<_, String>(0), row.get::<_, i64>(1).to_string(), format!("{:.2}", row.get::<_, f64>(2)), format!("{:.2}", row.get::<_, f64>(3))]
    };
    let bars = rungs.iter().map(|row| (row.get(0), row.get(3))).collect();
    let sql = "SELECT account, lifetime_value, alive, expected_purchases, order_value, rung FROM analysis.score WHERE program = $1
               ORDER BY lifetime_value DESC, account LIMIT $2";
    let best = client.query(sql, &[&program, &ROWS_MAX]).await?;
    let member = |row: &tokio_postgres::Row| {
        let number = |i: usize| format!("{:.2}", row.get::<_, f64>(i));
        vec![row.get(0), number(1), number(2), number(3), number(4), row.get(5)]
    };
    Ok(vec![
        Section { heading: "The fit in force".into(), columns: vec!["version", "model", "until", "members", "why"], rows: about, bars: Vec::new() },
        Section { heading: "Lifetime value by rung".into(), columns: vec!["rung", "members", "mean", "sum"], rows: rungs.iter().map(row).collect(), bars },
        Section {
            heading: "The most valuable members".into(),
            columns: vec!["account", "lifetime value", "alive", "expected purchases", "order value", "rung"],
            rows: best.iter().map(member).collect(),
            bars: Vec::new(),
        },
    ])
}

pub async fn decline(client: &Client, program: &str) -> anyhow::Result<Vec<Section>> {
    let sql = "SELECT state, count(*), sum(value_at_stake) FROM analysis.standing WHERE program = $1 GROUP BY state
               ORDER BY array_position(ARRAY['growing', 'steady', 'slipping', 'at_risk', 'lost'], state)";
    let states = client.query(sql, &[&program]).await?;
    let state = |row: &tokio_postgres::Row| vec![row.get::<_, String>(0), row.get::<_, i64>(1).to_string(), format!("{:.2}", row.get::<_, f64>(2))];
    let members = decline::list(client, program, None, None, ROWS_MAX).await?;
    let member = |s: &decline::Standing| vec![s.account_id.clone(), s.state.clone(), format!("{:.2}", s.value_at_stake), s.reasons.join("; ")];
    let bars = states.iter().map(|row| (row.get(0), row.get(2))).collect();
    Ok(vec![
        Section {
            heading: "Value at stake by state".into(),
            columns: vec!["state", "members", "value at stake"],
            rows: states.iter().map(state).collect(),
            bars,
        },
        Section {
            heading: "The most at stake".into(),
            columns: vec!["account", "state", "value at stake", "why"],
            rows: members.iter().map(member).collect(),
            bars: Vec::new(),
        },
    ])
}

pub async fn fraud(client: &Client, program: &str) -> anyhow::Result<Vec<Section>> {
    let records = fraud::records(client, program).await?;
    let row = |r: &fraud::RuleRecord| vec![r.rule.clone(), r.open.to_string(), r.confirmed.to_string(), r.dismissed.to_string()];
    let total = |r: &fraud::RuleRecord| (r.open + r.confirmed + r.dismissed).to_f64().unwrap_or(0.0);
    let bars = records.iter().map(|record| (record.rule.clone(), total(record))).collect();
    let cases = fraud::cases(client, program, None, None, 0, ROWS_MAX).await?;
    let case = |c: &fraud::Case| {
        vec![
            c.case_id.clone(),
            c.severity.clone(),
            c.state.clone(),
            format!("{} {}", c.subject_kind, c.subject),
            format!("{:.0}", c.priority),
            c.explanation.clone(),
        ]
    };
    Ok(vec![
        Section { heading: "Cases by rule".into(), columns: vec!["rule", "open", "confirmed", "dismissed"], rows: records.iter().map(row).collect(), bars },
        Section {
            heading: "The worst cases".into(),
            columns: vec!["case", "severity", "state", "about", "priority", "why"],
            rows: cases.iter().map(case).collect(),
            bars: Vec::new(),
        },
    ])
}

pub async fn liability(client: &Client, log: &dyn EventLog, program: &str) -> anyhow::Result<Vec<Section>> {
    let programs = Programs::load(log).await?;
    let state = programs.by_id.get(&Id::parse(program).context("--program")?).with_context(|| format!("there is no program {program}"))?;
    let now = state.now(real_now());
    let (today, version) = (utc_date(now), state.program.at_or_first(now).context("the program has no rulebook")?);
    let balance = trial_balance(client, program, today, None, Basis::Booked).await?;
    let mut buckets: Vec<Vec<String>> = balance.buckets.iter().map(|(bucket, points)| vec![bucket.clone(), points.to_string()]).collect();
    buckets.push(vec!["sum".into(), balance.sum.to_string()]);
    buckets.push(vec!["owed to members".into(), balance.liability_points.to_string()]);
    let (mut months, mut closings) = (Vec::new(), Vec::new());
    for back in (0..12).rev() {
        let from = today.first_of_month().saturating_sub(Span::new().months(back));
        let rolled = roll_forward(client, program, (from, from.last_of_month()), None, Basis::Booked, None).await?.total;
        let month = from.strftime("%Y-%m").to_string();
        closings.push((month.clone(), rolled.closing.to_f64().unwrap_or(0.0)));
        let numbers = [rolled.opening, rolled.issued, rolled.redeemed, rolled.expired, rolled.clawed_back, rolled.adjusted, rolled.forfeited, rolled.closing];
        months.push(std::iter::once(month).chain(numbers.map(|points| points.to_string())).collect());
    }
    let estimate = breakage(client, program, today, version.rulebook.insight.expected_redemption).await?;
    let rate = |value: f64| format!("{value:.4}");
    let row = |c: &analysis::liability::CohortEstimate| {
        vec![c.cohort.strftime("%Y-%m").to_string(), c.granted.to_string(), c.redeemed.to_string(), format!("{:.0} ± {:.0}", c.ultimate, c.standard_error)]
    };
    let mut cohorts: Vec<Vec<String>> = estimate.cohorts.iter().map(row).collect();
    cohorts.push(vec![
        "rate over all".into(),
        estimate.method.clone(),
        String::new(),
        format!("{} ± {}", rate(estimate.ultimate_redemption_rate), rate(estimate.standard_error)),
    ]);
    let expiring = expiry_forecast(client, program, today, 24).await?;
    let mut by_month = std::collections::BTreeMap::<String, i64>::new();
    for (day, points) in expiring {
        *by_month.entry(day.strftime("%Y-%m").to_string()).or_default() += points;
    }
    let mut sections = vec![
        Section { heading: format!("Trial balance at the end of {today}"), columns: vec!["bucket", "points"], rows: buckets, bars: Vec::new() },
        Section {
            heading: "Roll-forward by month".into(),
            columns: vec!["month", "opening", "issued", "redeemed", "expired", "clawed back", "adjusted", "forfeited", "closing"],
            rows: months,
            bars: closings,
        },
        Section {
            heading: "Points that will be spent".into(),
            columns: vec!["issued in", "granted", "redeemed", "in the end"],
            rows: cohorts,
            bars: Vec::new(),
        },
        Section {
            heading: "What expires if nobody spends".into(),
            columns: vec!["month", "points"],
            rows: by_month.iter().map(|(month, points)| vec![month.clone(), points.to_string()]).collect(),
            bars: by_month.iter().map(|(month, points)| (month.clone(), points.to_f64().unwrap_or(0.0))).collect(),
        },
    ];
    sections.extend(who_pays(client, program, today).await?);
    sections.extend(budget(client, program, version, today).await?);
    Ok(sections)
}

/// Who pays, where others than the program do.
async fn who_pays(client: &Client, program: &str, today: Date) -> anyhow::Result<Option<Section>> {
    let from = today.first_of_month();
    let payers = payers(client, program, (from, today)).await?;
    let row = |p: &Payer| {
        let name = p.payer.clone().unwrap_or_else(|| "the program".into());
        vec![name, p.issued.to_string(), p.clawed_back.to_string(), p.liability.to_string()]
    };
    let section = Section {
        heading: format!("Who pays, since {from}"),
        columns: vec!["payer", "issued", "clawed back", "owed to members"],
        rows: payers.iter().map(row).collect(),
        bars: payers.iter().filter_map(|p| Some((p.payer.clone()?, p.liability.to_f64().unwrap_or(0.0)))).collect(),
    };
    Ok((payers.len() > 1).then_some(section))
}

/// The periods of the budget, and what gave the points of the one that runs.
async fn budget(client: &Client, program: &str, version: &Version, today: Date) -> anyhow::Result<Vec<Section>> {
    let budgets = budgets(client, program, &version.rulebook, today).await?;
    let Some(current) = budgets.iter().rfind(|budget| budget.from <= today) else { return Ok(Vec::new()) };
    let row = |b: &Budget| {
        let spent_on = b.spent_on.map_or_else(|| "it lasts".into(), |day| day.to_string());
        vec![b.from.to_string(), b.until.to_string(), b.planned.to_string(), b.actual.to_string(), b.forecast.to_string(), b.variance.to_string(), spent_on]
    };
    let share = |s: &Share| {
        let back = s.return_on_cost.map_or_else(String::new, |share| share.to_string());
        vec![s.name.clone(), s.cost.to_string(), s.sales.to_string(), back]
    };
    let bars = |shares: &[Share]| shares.iter().map(|share| (share.name.clone(), share.cost.to_f64().unwrap_or(0.0))).collect();
    let by = |what: &'static str, shares: &[Share]| Section {
        heading: format!("Cost by {what} since {}", current.from),
        columns: vec![what, "cost", "sales", "margin by cost"],
        rows: shares.iter().map(share).collect(),
        bars: bars(shares),
    };
    let periods = Section {
        heading: format!("Budget, in {}", version.rulebook.currency),
        columns: vec!["from", "until", "planned", "actual", "forecast", "left in the end", "spent on"],
        rows: budgets.iter().map(row).collect(),
        bars: Vec::new(),
    };
    Ok(vec![periods, by("rule", &current.rules), by("tier", &current.tiers)])
}
