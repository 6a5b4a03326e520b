//! `loyalty decline`: whose value falls.

use analytics::clv::AsOf;
use analytics::decline::{Asked, Assessed, Assessment, Backtest, Choice, assess, assessments, backtest, put_in_force};
use anyhow::Context;
use api::real_now;
use chrono::NaiveDate;
use comfy_table::{Table, presets};
use event_log::EventLog;
use ledger_core::policy::{InsightRules, Rulebook};
use ledger_core::time::timestamp_text;
use tokio_postgres::Client;

use crate::args::{DataOptions, DeclineAction, DeclineModel};
use crate::ops::{open_caught_up, program_state};

/// As many assessments are listed.
const ASSESSMENTS_MAX: i64 = 50;

pub async fn run(action: DeclineAction) -> anyhow::Result<()> {
    match action {
        DeclineAction::Assess { program, as_of, known_at, model, dry_run, data } => {
            let model = match model {
                DeclineModel::Best => Choice::Best,
                DeclineModel::Logistic => Choice::Logistic,
                DeclineModel::Recency => Choice::Recency,
                DeclineModel::Overdue => Choice::Overdue,
            };
            let asked = |day| Asked { as_of: AsOf { day, known_at }, model, is_dry_run: dry_run, is_scheduled: false };
            make(&program, as_of, asked, &data).await
        }
        DeclineAction::Assessments { program, data } => {
            let (database, _log) = open_caught_up(&data).await?;
            let client = analytics::open(database.url()).await?;
            let all = assessments(&client, &program, ASSESSMENTS_MAX).await?;
            if all.is_empty() {
                println!("program {program} has no assessment yet: `loyalty decline assess --program {program}` makes one");
            } else {
                println!("{}", overview(&all));
            }
            Ok(())
        }
        DeclineAction::Use { assessment, program, data } => {
            let (database, _log) = open_caught_up(&data).await?;
            let mut client = analytics::open(database.url()).await?;
            let chosen = put_in_force(&mut client, &program, assessment).await?;
            println!("assessment {assessment} is in force, as of {}", chosen.as_of);
            Ok(())
        }
        DeclineAction::Backtest { program, from, until, data } => {
            let (database, _log) = open_caught_up(&data).await?;
            let client = analytics::open(database.url()).await?;
            let until = until.or(last_day(&client, &program).await?).with_context(|| format!("program {program} has no purchases"))?;
            let backtest = backtest(&client, &program, from, until).await?;
            println!("{}", table(&backtest));
            let days: Vec<String> = backtest.days.iter().map(NaiveDate::to_string).collect();
            println!(
                "{} members and month ends measured, of one half; learned from the other, as they were known then. falls: of those whose spend had not fallen yet. Month ends: {}",
                backtest.measured_on,
                days.join(", ")
            );
            Ok(())
        }
    }
}

async fn make(program: &str, as_of: Option<NaiveDate>, asked: impl Fn(NaiveDate) -> Asked, data: &DataOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(data).await?;
    let rules = insight_rules(&*log, program).await?;
    let mut client = analytics::open(database.url()).await?;
    let as_of = as_of.or(last_day(&client, program).await?).with_context(|| format!("program {program} has no purchases"))?;
    let asked = asked(as_of);
    let assessed = assess(&mut client, program, &rules, &asked, real_now().timestamp()).await?;
    println!("{}", summary(&assessed));
    for one in &assessed.models {
        println!("{} by {}: {}", one.target, one.model, one.why);
    }
    let name = assessed.version.map_or_else(|| "assessment (dry run, not kept)".to_owned(), |version| format!("assessment {version}"));
    match (assessed.in_force, assessed.version) {
        (true, Some(_)) => println!("{name}, as of {as_of}, is in force: {} members changed their state", assessed.transitions),
        (true, None) => println!("{name}, as of {as_of}, would be put in force: {} members would change their state", assessed.transitions),
        (false, None) => println!("{name}, as of {as_of}, would not be put in force: {}", assessed.why),
        (false, Some(version)) => {
            println!("{name}, as of {as_of}, is not put in force: {}", assessed.why);
            println!("to put it in force all the same: loyalty decline use {version} --program {program}");
        }
    }
    Ok(())
}

fn summary(assessed: &Assessed) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["state", "members", "value at stake"]);
    for (state, members, stake) in &assessed.states {
        table.add_row([state.clone(), members.to_string(), format!("{stake:.2}")]);
    }
    table
}

/// A row an assessment, the newest first.
fn overview(all: &[Assessment]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "assessment",
        "in force",
        "model",
        "made at",
        "as of",
        "known at",
        "can be used again",
        "why",
    ]);
    let yes = |is: bool| if is { "yes" } else { "" };
    for one in all {
        let known_at = one.known_at.map_or_else(String::new, |day| day.to_string());
        let model = models(one);
        let row =
            [&one.version.to_string(), yes(one.in_force), &model, &timestamp_text(one.made_at), &one.as_of.to_string(), &known_at, yes(one.is_kept), &one.why];
        table.add_row(row);
    }
    table
}

/// By what both probabilities of an assessment are made, or each.
fn models(one: &Assessment) -> String {
    match one.models.as_slice() {
        [] => "unknown".into(),
        [first, rest @ ..] if rest.iter().all(|other| other.model == first.model) => first.model.clone(),
        all => all.iter().map(|one| format!("{} by {}", one.target, one.model)).collect::<Vec<_>>().join(", "),
    }
}

/// What the rulebook in force says to analysts.
pub async fn insight_rules(log: &dyn EventLog, program: &str) -> anyhow::Result<InsightRules> {
    Ok(rulebook(log, program).await?.insight)
}

/// The rulebook in force.
pub async fn rulebook(log: &dyn EventLog, program: &str) -> anyhow::Result<Rulebook> {
    let state = program_state(log, program).await?;
    let version = state.program.at_or_first(state.now(real_now())).context("the program has no rulebook")?;
    Ok(version.rulebook.clone())
}

/// The day of the program's last purchase.
pub async fn last_day(client: &Client, program: &str) -> Result<Option<NaiveDate>, tokio_postgres::Error> {
    Ok(client.query_one("SELECT max(day) FROM clv.purchase_day WHERE program = $1", &[&program]).await?.get(0))
}

#[allow(clippy::float_arithmetic, reason = "shares, shown in per cent")]
fn table(backtest: &Backtest) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "score",
        "target",
        "ROC-AUC",
        "precision of the first tenth",
        "base rate",
        "days before 90 of silence, median of the right",
        "by warning given",
    ]);
    for m in &backtest.measures {
        table.add_row([
            m.score.to_owned(),
            m.target.to_owned(),
            format!("{:.4}", m.auc),
            format!("{:.1} %", 100.0 * m.top_tenth_precision),
            format!("{:.1} %", 100.0 * m.base_rate),
            format!("{:.0}", m.lead_days_median),
            format!("{:.1}", m.lead_days_per_warning),
        ]);
    }
    table
}
