//! The watch: rules over signals, again and again; a rule that blocks freezes the account by a command like any other.

use std::time::Duration;

use analysis::fraud::{Found, Step, step, watch};
use api::real_now;
use command_service::Service;
use ledger_core::account::Command;
use ledger_core::account::command::{Action, Reason};
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::FraudRules;
use tokio::sync::watch;
use tokio_postgres::Client;

/// Under which name accounts are frozen.
const ACTOR: &str = "fraud-rules";
/// Between two looks that found nothing.
const REST: Duration = Duration::from_millis(200);
const RETRY_AFTER: Duration = Duration::from_secs(1);

fn rules(service: &Service, program: &str) -> Option<FraudRules> {
    let programs = service.programs();
    let program = programs.by_id.get(&Id::parse(program).ok()?)?;
    Some(program.program.at_or_first(program.now(real_now()))?.rulebook.fraud.clone())
}

/// Looks until `stop` says so. Whatever fails is tried again; what was looked at and not kept is looked at again.
pub async fn run(service: Service, url: String, mut stop: watch::Receiver<bool>) {
    let mut client: Option<Client> = None;
    while !*stop.borrow_and_update() {
        let rest = match look(&service, &url, &mut client).await {
            Ok(0) => REST,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::error!(error = &*error as &dyn std::error::Error, "the fraud rules could not be applied; trying again");
                client = None;
                RETRY_AFTER
            }
        };
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn look(service: &Service, url: &str, client: &mut Option<Client>) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    let client = match client {
        Some(client) => client,
        None => client.insert(event_log::postgres::connect(url, "analysis").await?),
    };
    let look = watch(client, |program| rules(service, program), real_now().timestamp()).await?;
    for (rule, why) in look.failures {
        tracing::warn!(rule, why, "a fraud rule's condition failed on a signal");
        metrics::counter!("loyalty_fraud_rule_failures_total", "rule" => rule).increment(1);
    }
    for found in look.found {
        metrics::counter!("loyalty_fraud_cases_total", "rule" => found.rule.clone()).increment(1);
        if found.block {
            freeze(service, client, &found).await?;
        }
    }
    Ok(look.signals)
}

async fn freeze(service: &Service, client: &mut Client, found: &Found) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let key = AccountKey { program: Id::parse(&found.program)?, account: Id::parse(&found.account)? };
    let reason = Reason { code: "fraud".into(), note: format!("rule {}, case {}", found.rule, found.case_id) };
    let command = Command { id: Id::parse(&format!("fraud-{}", found.case_id))?, actor: ACTOR.into(), action: Action::Freeze(reason) };
    // An account that can't be frozen (it is already, or is closed) stays as it is; the case says so.
    let note = match service.submit(key, command).await {
        Ok(_) => format!("account {} frozen", found.account),
        Err(refusal) => format!("account {} could not be frozen: {refusal}", found.account),
    };
    step(client, &found.program, &found.case_id, ACTOR, Step::Freeze, &note, real_now().timestamp()).await?;
    Ok(())
}
