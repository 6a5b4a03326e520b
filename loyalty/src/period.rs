//! `loyalty period`: months of the revenue journal are closed by two people.

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use reqwest::Method;
use serde_json::Value;

use crate::args::{PeriodAction, ServerOptions};

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
        PeriodAction::Approve { period, program, server } => {
            let closed = ask(&server, Method::POST, &format!("{program}/liability/periods/{period}/approve")).await?;
            println!("{}", table(&[closed]));
        }
    }
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
    embedded_postgres::use_ring();
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
