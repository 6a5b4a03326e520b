//! `loyalty period`: months of the revenue journal are closed by two people.

use analytics::liability::{Terms, figures};
use anyhow::{Context, bail};
use api::{closed_months, real_now};
use comfy_table::{Table, presets};
use command_service::Programs;
use ledger_core::id::Id;
use ledger_core::time::utc_date;
use reqwest::Method;
use serde_json::Value;

use crate::args::{DataOptions, PeriodAction, ServerOptions};
use crate::ops::{open_caught_up, program_state};

pub async fn run(action: PeriodAction) -> anyhow::Result<()> {
    match action {
        PeriodAction::List { program, server } => {
            let page = ask(&server, Method::GET, &format!("{program}/liability/periods")).await?;
            match page["items"].as_array().map(Vec::as_slice) {
                None | Some([]) => println!("no month of program {program} is closed: `loyalty period close YYYY-MM --program {program}` proposes one"),
                Some(periods) => println!("{}", table(periods)),
            }
        }
        PeriodAction::Close { period, program, server } => {
            let proposed = ask(&server, Method::POST, &format!("{program}/liability/periods/{period}/close")).await?;
            println!("{}\nproposed; somebody else approves it: loyalty period approve {period} --program {program}", table(&[proposed]));
        }
        PeriodAction::Verify { program, data } => verify(&program, &data).await?,
        PeriodAction::Approve { period, program, server } => {
            let closed = ask(&server, Method::POST, &format!("{program}/liability/periods/{period}/approve")).await?;
            println!("{}", table(&[closed]));
        }
    }
    Ok(())
}

/// Makes the figures again by the rulebooks that had been published when they were proposed.
async fn verify(name: &str, data: &DataOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(data).await?;
    let client = analytics::open(database.url()).await?;
    let id = Id::parse(name).context("--program")?;
    let state = program_state(&*log, name).await?;
    let today = utc_date(state.now(real_now()));
    let closed = closed_months(&state);
    let mut differ = 0;
    for (i, (month, period)) in closed.iter().zip(&state.closed_periods).enumerate() {
        let closing = &period.proposed.closing;
        let then = Programs::load_until(&*log, closing.program_entries).await?;
        let rules = then.by_id.get(&id).with_context(|| format!("program {name} had no rulebook when period {} was closed", closing.period))?;
        let terms = Terms { program: &rules.program, closed: &closed[..i], today };
        let figures = figures(&client, name, terms, month.period).await?;
        let agrees = figures.closing == month.figures && (i > 0 || figures.opening == month.opening);
        println!("period {}: {}", closing.period, if agrees { "the book gives the same figures" } else { "the book gives OTHER figures" });
        differ += usize::from(!agrees);
    }
    if differ > 0 {
        bail!("{differ} of {} closed periods have other figures than this release makes of the book", closed.len());
    }
    println!("{} closed periods verified", closed.len());
    Ok(())
}

fn table(periods: &[Value]) -> Table {
    let mut table = Table::new();
    let fields = ["period", "status", "currency", "deferred", "recognised", "contract_liability", "proposed_by", "closed_by", "closed_at", "digest"];
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(fields.map(|field| field.replace('_', " ")));
    for period in periods {
        table.add_row(fields.map(|field| period[field].as_str().unwrap_or_default().to_owned()));
    }
    table
}

async fn ask(server: &ServerOptions, method: Method, path: &str) -> anyhow::Result<Value> {
    let base = server.server.as_deref().context("--server URL names the running service")?;
    let url = format!("{}/v1/programs/{path}", base.trim_end_matches('/'));
    let response = server.with_key(reqwest::Client::new().request(method, url)).send().await?;
    let is_success = response.status().is_success();
    let body: Value = response.json().await.unwrap_or_default();
    if !is_success {
        bail!("{}", body["detail"].as_str().unwrap_or("it was refused without a reason"));
    }
    Ok(body)
}
