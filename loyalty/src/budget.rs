//! Budgets are looked at again and again: what is nearly spent raises an alert, once a period.

use std::time::Duration;

use analytics::liability::{budgets, raise_alerts};
use api::real_now;
use command_service::{ProgramState, Service};
use ledger_core::time::utc_date;
use rust_decimal::prelude::ToPrimitive;
use tokio::sync::watch;
use tokio_postgres::Client;

/// Between two looks.
const REST: Duration = Duration::from_secs(5);

/// Looks until `stop` says so, which interrupts a look. Whatever fails is tried again at the next look.
pub async fn run(service: Service, url: String, mut stop: watch::Receiver<bool>) {
    let mut client: Option<Client> = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = look_at_all(&service, &url, &mut client) => {}
        }
        if tokio::time::timeout(REST, stop.wait_for(|stop| *stop)).await.is_ok() {
            return;
        }
    }
}

async fn look_at_all(service: &Service, url: &str, client: &mut Option<Client>) {
    for (id, program) in &service.programs().by_id {
        if let Err(error) = look(id.as_str(), program, url, client).await {
            tracing::error!(program = %id, error = &*error as &dyn std::error::Error, "the budgets could not be looked at; trying again");
            *client = None;
        }
    }
}

async fn look(name: &str, program: &ProgramState, url: &str, client: &mut Option<Client>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = program.now(real_now());
    if program.program.at_or_first(now).is_none_or(|version| version.rulebook.insight.budget.is_empty()) {
        return Ok(());
    }
    let client = match client {
        Some(client) => client,
        None => client.insert(event_log::postgres::connect(url, "analysis").await?),
    };
    let today = utc_date(now);
    let budgets = budgets(client, name, &program.program, today).await?;
    for budget in budgets.iter().filter(|budget| (budget.from..=budget.until).contains(&today)) {
        metrics::gauge!("loyalty_budget_used_ratio", "program" => name.to_owned()).set(budget.used.to_f64().unwrap_or(0.0));
    }
    for alert in raise_alerts(client, name, &budgets, today).await? {
        let (from, planned, actual) = (alert.from, alert.planned, alert.actual);
        tracing::warn!(program = name, %from, %planned, %actual, spent_on = ?alert.spent_on, "a budget is nearly spent");
    }
    Ok(())
}
