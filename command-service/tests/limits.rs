//! What would take too long to decide is refused by name, before it is decided (docs/limits.md).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::sync::Arc;
use std::time::Duration;

use command_service::{CONDITIONS_MAX, HOLDS_MAX, Limits, Refusal, Running, Service, ServiceConfig, Share, StatePlace, simulate};
use event_log::EventLog;
use event_log::memory::MemoryLog;
use ledger_core::account::Command;
use ledger_core::account::command::{Action, Line, Purchase, Return, Returned};
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::time::Moment;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn key() -> AccountKey {
    AccountKey { program: id("shop"), account: id("a") }
}

fn now() -> Moment {
    Moment::parse("2010-01-01T12:00:00Z").unwrap()
}

async fn start(log: &MemoryLog, folder: &std::path::Path, bonus: &str) -> (Service, Running) {
    let rules = format!(
        r#"{{"program": "shop", "currency": "GBP", "time_zone": "UTC", "effective_from": "2009-01-01T00:00:00Z",
        "earn": {{"base": {{"points": "1", "per": "1.00"}}, "bonus": [{bonus}]}}, "redeem": {{"value": {{"points": 100, "amount": "1.00"}}}}}}"#
    );
    let config = ServiceConfig {
        state: StatePlace::Folder(folder.to_owned()),
        owner: "test".into(),
        accounts_in_memory: 3,
        queue_max: 100,
        share: Share::Alone,
        limits: Limits::default(),
        answer_within: Duration::from_secs(10),
    };
    let (service, running) = Service::start(Arc::new(log.clone()), config, Arc::new(now)).await.unwrap();
    service.publish(id("shop"), rules.into_bytes(), "test".into()).await.unwrap();
    (service, running)
}

async fn stop(service: Service, running: Running) {
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await.unwrap().unwrap();
}

async fn records(log: &MemoryLog) -> u64 {
    log.ends().await.unwrap().iter().sum()
}

fn command(name: &str, action: Action) -> Command {
    Command { id: id(name), actor: "test".into(), action }
}

fn purchase(name: &str, lines: usize, sku: &str) -> Command {
    let line = |n: usize| Line {
        line_id: id(&n.to_string()),
        sku: sku.into(),
        category: "".into(),
        quantity: Amount::ONE,
        unit_price: Amount::from(10),
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    };
    let (currency, lines) = ("GBP".into(), (0..lines).map(line).collect());
    let body =
        Purchase { purchase_id: id(name), occurred_at: now(), currency, channel: "".into(), store: "".into(), lines, shipping: Amount::ZERO, origin: None };
    command(name, Action::Earn(body.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_would_ask_too_many_conditions_is_refused_by_name() {
    // Two that are asked for every line, one of more than a hundred characters, and one that is asked for one article.
    let long = format!("line.quantity >= 1.0 && line.sku != '{}'", "x".repeat(100));
    let whens = ["line.quantity >= 1.0", "line.tax < 9.0", &long, "line.sku == 'mug' && line.quantity >= 1.0"];
    let bonus: Vec<String> = whens.iter().enumerate().map(|(n, when)| format!(r#"{{"id": "b{n}", "when": "{when}", "multiply": "1"}}"#)).collect();
    let (log, folder) = (MemoryLog::new(1), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), &bonus.join(",")).await;
    let (lines, too_many) = (CONDITIONS_MAX / 4, CONDITIONS_MAX / 5 + 1);
    service.submit(key(), purchase("p1", lines, "cup")).await.expect("as many as may be: the long one counts twice, that for mugs not at all");
    let snapshot = service.snapshot(key(), None).await.unwrap().unwrap();
    let refused = purchase("p2", too_many, "mug");
    for refusal in [service.submit(key(), refused.clone()).await.err().unwrap(), simulate(&snapshot, &refused).err().unwrap()] {
        let Refusal::TooManyConditions { lines, version, conditions, asked, asked_max } = &refusal else { panic!("{refusal}") };
        assert_eq!((*lines, *version, *conditions, *asked, *asked_max), (too_many, 1, 4, 5 * too_many, CONDITIONS_MAX));
        assert_eq!((refusal.code(), refusal.is_passing()), ("too_many_conditions", false));
    }
    // Nothing of it is booked, its id is free, and what was booked comes back.
    assert_eq!(records(&log).await, 1);
    service.submit(key(), purchase("p2", too_many - 1, "mug")).await.unwrap();
    let back = Return { purchase_id: id("p1"), occurred_at: now(), what: Returned::Lines(vec![(id("0"), Amount::ONE)]), shipping: None };
    service.submit(key(), command("r1", Action::Return(back.into()))).await.unwrap();
    assert_eq!(records(&log).await, 3);
    stop(service, running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_as_many_holds_as_it_may_have_gets_no_more_and_goes_on() {
    let (log, folder) = (MemoryLog::new(1), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), "").await;
    service.submit(key(), purchase("p1", 500, "cup")).await.unwrap();
    let hold = |n: usize| command(&format!("h{n}"), Action::Hold { points: 1, minutes: None, occurred_at: None });
    for n in 0..HOLDS_MAX {
        service.submit(key(), hold(n)).await.unwrap();
    }
    let refused = service.submit(key(), hold(HOLDS_MAX)).await.err().unwrap();
    assert!(matches!(refused, Refusal::AccountFull { what: "holds", count: HOLDS_MAX, count_max: HOLDS_MAX }), "{refused}");
    service.submit(key(), command("s1", Action::Redeem { points: 1, occurred_at: None })).await.unwrap();
    service.submit(key(), command("h0", Action::Capture { redemption: id("h0"), points: None })).await.unwrap();
    service.submit(key(), hold(HOLDS_MAX)).await.expect("there is room again");
    stop(service, running).await;
}
