//! `loyalty decline`: whose value falls.

use analysis::decline::{Backtest, assess, backtest};
use anyhow::Context;
use api::real_now;
use comfy_table::{Table, presets};
use command_service::Programs;
use event_log::EventLog;
use jiff::civil::Date;
use ledger_core::id::Id;
use ledger_core::policy::{InsightRules, Rulebook};
use tokio_postgres::Client;

use crate::args::DeclineAction;
use crate::ops::open_caught_up;

pub async fn run(action: DeclineAction) -> anyhow::Result<()> {
    match action {
        DeclineAction::Assess { program, as_of, data } => {
            let (database, log) = open_caught_up(&data).await?;
            let rules = insight_rules(&*log, &program).await?;
            let mut client = analysis::open(database.url()).await?;
            let as_of = as_of.or(last_day(&client, &program).await?).with_context(|| format!("program {program} has no purchases"))?;
            let assessed = assess(&mut client, &program, &rules, as_of).await?;
            let mut table = Table::new();
            table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(["state", "members", "value at stake"]);
            for (state, members, stake) in assessed.states {
                table.add_row([state, members.to_string(), format!("{stake:.2}")]);
            }
            println!("{table}\nas of {as_of}: {} members changed their state", assessed.transitions);
            if let Some(why) = assessed.without_models {
                println!("without models, by how overdue members are: {why}");
            }
            Ok(())
        }
        DeclineAction::Backtest { program, from, until, data } => {
            let (database, _log) = open_caught_up(&data).await?;
            let client = analysis::open(database.url()).await?;
            let until = until.or(last_day(&client, &program).await?).with_context(|| format!("program {program} has no purchases"))?;
            let backtest = backtest(&client, &program, from, until).await?;
            println!("{}", table(&backtest));
            let days: Vec<String> = backtest.days.iter().map(Date::to_string).collect();
            println!("{} members and month ends measured, of one half; learned from the other. Month ends: {}", backtest.measured_on, days.join(", "));
            Ok(())
        }
    }
}

/// What the rulebook in force says to analysts.
pub async fn insight_rules(log: &dyn EventLog, program: &str) -> anyhow::Result<InsightRules> {
    Ok(rulebook(log, program).await?.insight)
}

/// The rulebook in force.
pub async fn rulebook(log: &dyn EventLog, program: &str) -> anyhow::Result<Rulebook> {
    let programs = Programs::load(log).await?;
    let id = Id::parse(program).context("--program")?;
    let state = programs.by_id.get(&id).with_context(|| format!("there is no program {program}"))?;
    let version = state.program.at_or_first(state.now(real_now())).context("the program has no rulebook")?;
    Ok(version.rulebook.clone())
}

/// The day of the program's last purchase.
pub async fn last_day(client: &Client, program: &str) -> Result<Option<Date>, tokio_postgres::Error> {
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
