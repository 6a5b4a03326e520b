//! Estimates on a schedule: a fit of lifetime value with scores, and an assessment of decline, for every program.

use std::time::Duration;

use analytics::{clv, decline};
use api::real_now;
use command_service::{ProgramState, Service};
use tokio::sync::watch;
use tokio_postgres::Client;

use crate::decline::last_day;

/// How many days at the end a fit is checked on.
const HOLDOUT_DAYS: i32 = 90;

/// Estimates at once and then every so often, until `stop` says so, which interrupts what waits for the database.
pub async fn run(service: Service, url: String, every: Duration, mut stop: watch::Receiver<bool>) {
    let mut clock = tokio::time::interval(every);
    loop {
        let turn = async {
            clock.tick().await;
            estimate_all(&service, &url).await;
        };
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = turn => {}
        }
    }
}

async fn estimate_all(service: &Service, url: &str) {
    for (id, program) in &service.programs().by_id {
        if let Err(error) = estimate(url, id.as_str(), program).await {
            tracing::error!(program = %id, error = &*error as &dyn std::error::Error, "the estimates could not be made");
        }
    }
}

async fn estimate(url: &str, name: &str, program: &ProgramState) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client: Client = analytics::open(url).await?;
    let now = real_now();
    let (Some(version), Some(day)) = (program.program.at_or_first(program.now(now)), last_day(&client, name).await?) else { return Ok(()) };
    let rules = &version.rulebook.insight;
    let asked = clv::Asked { is_scheduled: true, ..clv::Asked::until(day, HOLDOUT_DAYS) };
    let fit = clv::fit(&mut client, name, &asked, now.timestamp()).await?;
    if !fit.in_force {
        tracing::warn!(program = name, reason = fit.why, "the fit of lifetime value was not put in force");
    }
    if let Some(fit) = clv::in_force(&client, name).await? {
        clv::score_all(&mut client, name, &fit, rules, day).await?;
    }
    let asked = decline::Asked { is_scheduled: true, ..decline::Asked::day(day) };
    let assessed = decline::assess(&mut client, name, rules, &asked, now.timestamp()).await?;
    if !assessed.in_force {
        tracing::info!(program = name, reason = assessed.why, "the assessment of decline was not put in force");
    }
    Ok(())
}
