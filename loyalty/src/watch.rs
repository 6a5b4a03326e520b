//! The watch: rules over signals, again and again; a rule that blocks freezes the account by a command like any other.

use std::time::Duration;

use analytics::fraud::{PendingFreeze, is_pending, pending_freezes, settle_freeze, watch};
use api::real_now;
use command_service::{Refusal, Service};
use ledger_core::account::Command;
use ledger_core::account::command::{Action, Reason};
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::FraudRules;
use tokio::sync::watch;
use tokio_postgres::{Client, NoTls};

/// Under which name accounts are frozen.
const ACTOR: &str = "fraud-rules";
/// Between two looks that found nothing.
const REST: Duration = Duration::from_millis(200);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long the database is given to end a query that a stop interrupts.
const CANCEL_WITHIN: Duration = Duration::from_secs(1);

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn rules(service: &Service, program: &str) -> Option<FraudRules> {
    let programs = service.programs();
    let program = programs.by_id.get(&Id::parse(program).ok()?)?;
    Some(program.program.at_or_first(program.now(real_now()))?.rulebook.fraud.clone())
}

/// Looks until `stop` says so, which interrupts a look. Whatever fails is tried again; what was looked at and not kept is looked at again.
pub async fn run(service: Service, url: String, mut stop: watch::Receiver<bool>) {
    let mut client: Option<Client> = None;
    loop {
        let turn = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            turn = turn(&service, &url, &mut client) => turn,
        };
        let rest = turn.unwrap_or_else(|error| {
            tracing::error!(error = &*error as &dyn std::error::Error, "the fraud rules could not be applied; trying again");
            client = None;
            RETRY_AFTER
        });
        // As long as there is no time to rest, nothing else would notice the stop.
        if tokio::time::timeout(rest, stop.wait_for(|stop| *stop)).await.is_ok() {
            break;
        }
    }
    if let Some(client) = client {
        // The transaction of an interrupted look is rolled back with its connection; its query need not be waited for.
        let _ = tokio::time::timeout(CANCEL_WITHIN, client.cancel_token().cancel_query(NoTls)).await;
    }
}

/// One look, and the freezes that are pending; tells how long to rest.
async fn turn(service: &Service, url: &str, client: &mut Option<Client>) -> Result<Duration, Failure> {
    let client = match client {
        Some(client) => client,
        None => client.insert(event_log::postgres::connect(url, "analysis").await?),
    };
    let signals = look(service, client).await?;
    let is_pending = freeze_pending(service, client).await?;
    Ok(match (signals, is_pending) {
        (0, false) => REST,
        (0, true) => RETRY_AFTER,
        _ => Duration::ZERO,
    })
}

async fn look(service: &Service, client: &mut Client) -> Result<usize, Failure> {
    let look = watch(client, |program| rules(service, program), real_now().timestamp()).await?;
    for (rule, why) in look.failures {
        tracing::warn!(rule, why, "a fraud rule's condition failed on a signal");
        metrics::counter!("loyalty_fraud_rule_failures_total", "rule" => rule).increment(1);
    }
    for found in look.found {
        metrics::counter!("loyalty_fraud_cases_total", "rule" => found.rule).increment(1);
    }
    Ok(look.signals)
}

/// Submits the freezes that are pending; tells whether some still are.
async fn freeze_pending(service: &Service, client: &mut Client) -> Result<bool, Failure> {
    let freezes = pending_freezes(client).await?;
    freeze_all(service, client, &freezes).await
}

async fn freeze_all(service: &Service, client: &mut Client, freezes: &[PendingFreeze]) -> Result<bool, Failure> {
    let mut is_left = false;
    for freeze in freezes {
        // Those before it took their time: somebody may have dismissed its case meanwhile.
        if !is_pending(client, freeze).await? {
            continue;
        }
        match submit(service, freeze).await? {
            Some(note) => settle_freeze(client, freeze, ACTOR, &note, real_now().timestamp()).await?,
            // Others may have an answer: another process may decide them.
            None => is_left = true,
        }
    }
    Ok(is_left)
}

/// What the ledger said, in words; none where it has no answer yet. The command's id derives from the case and its round, so to ask again is safe.
async fn submit(service: &Service, freeze: &PendingFreeze) -> Result<Option<String>, Failure> {
    let PendingFreeze { program, case_id, account, rule, round } = freeze;
    let key = AccountKey { program: Id::parse(program)?, account: Id::parse(account)? };
    let reason = Reason { code: "fraud".into(), note: format!("rule {rule}, case {case_id}") };
    let id = if *round == 0 { format!("fraud-{case_id}") } else { format!("fraud-{case_id}-{round}") };
    let command = Command { id: Id::parse(&id)?, actor: ACTOR.into(), action: Action::Freeze(reason) };
    Ok(match service.submit(key, command).await {
        Ok(_) => Some(format!("account {account} frozen")),
        // An account that can't be frozen (it is already, or is closed) stays as it is; the case says so.
        Err(refusal @ (Refusal::Rejected(_) | Refusal::Told { .. })) => Some(format!("account {account} could not be frozen: {refusal}")),
        Err(refusal) => {
            tracing::warn!(account, case_id, %refusal, "the freeze is not booked yet; trying again");
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use command_service::{Limits, ServiceConfig, Share, StatePlace};
    use event_log::memory::MemoryLog;

    use super::*;

    fn freeze(account: &str) -> PendingFreeze {
        PendingFreeze { program: "shop".into(), case_id: "c1".into(), account: account.into(), rule: "many".into(), round: 0 }
    }

    /// A service in `folder` whose loop does not run, so what is asked waits in the queue, which has room for one; it ends with what is told besides.
    async fn service(folder: &tempfile::TempDir) -> (Service, impl Sized) {
        let config = ServiceConfig {
            state: StatePlace::Folder(folder.path().to_owned()),
            owner: "test".into(),
            accounts_in_memory: 10,
            queue_max: 1,
            share: Share::Alone,
            answer_within: RETRY_AFTER,
            limits: Limits::default(),
        };
        Service::open(Arc::new(MemoryLog::new(1)), config, Arc::new(real_now)).await.unwrap()
    }

    #[tokio::test]
    async fn a_freeze_that_finds_the_queue_full_is_still_pending() {
        let folder = tempfile::tempdir().unwrap();
        let (service, running) = service(&folder).await;
        assert!(tokio::time::timeout(REST, submit(&service, &freeze("a"))).await.is_err(), "it waits");
        assert_eq!(submit(&service, &freeze("a")).await.unwrap(), None, "the queue is full");
        drop(running);
        assert_eq!(submit(&service, &freeze("a")).await.unwrap(), None, "nobody decides any more");
    }

    #[tokio::test]
    async fn a_freeze_whose_case_was_dismissed_meanwhile_is_not_asked_for() {
        let url = embedded_postgres::testing::database("freeze_dismissed").await;
        drop(analytics::open(&url).await.unwrap());
        let mut client = event_log::postgres::connect(&url, "analysis").await.unwrap();
        let insert = "INSERT INTO analysis.fraud_freeze SELECT 'shop', 'c1', account, 'many', now() FROM unnest(ARRAY['a', 'b']) AS u(account)";
        client.execute(insert, &[]).await.unwrap();
        // Given a round that has begun, in which nobody decides the first one.
        let round = pending_freezes(&client).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (service, running) = service(&folder).await;
        drop(running);
        assert!(freeze_all(&service, &mut client, &round).await.unwrap(), "they are still pending");
        // When the case is dismissed, nothing of it is left to ask for, and nothing is written.
        client.execute("DELETE FROM analysis.fraud_freeze", &[]).await.unwrap();
        assert!(!freeze_all(&service, &mut client, &round).await.unwrap());
        let events: i64 = client.query_one("SELECT count(*) FROM analysis.fraud_event", &[]).await.unwrap().get(0);
        assert_eq!(events, 0);
    }
}
