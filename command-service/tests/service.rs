//! The loop over the memory log: retries, crashes at each step, restarts, fencing, back-pressure.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use command_service::{Answer, Limits, Refusal, Running, Service, ServiceConfig, ServiceError, Share, StatePlace};
use event_log::memory::MemoryLog;
use event_log::{Batch, Crash, Entry, EventLog, LogError, Partition, Position, Writer};
use ledger_core::account::Command;
use ledger_core::account::command::{Action, LINES_MAX, Line, Purchase, Return, Returned};
use ledger_core::account::{Account, Rejection};
use ledger_core::id::{AccountKey, Id};
use ledger_core::points::Amount;
use ledger_core::time::Moment;

const RULES: &str = r#"{"program": "shop", "currency": "GBP", "time_zone": "UTC", "effective_from": "2009-01-01T00:00:00Z",
    "earn": {"base": {"points": "1", "per": "1.00"}}, "redeem": {"value": {"points": 100, "amount": "1.00"}}}"#;

fn id(text: &str) -> Id {
    Id::parse(text).unwrap()
}

fn key(account: &str) -> AccountKey {
    AccountKey { program: id("shop"), account: id(account) }
}

fn purchase(name: &str, pounds: i64) -> Command {
    let line = Line {
        line_id: id("1"),
        sku: "A".into(),
        category: "".into(),
        quantity: Amount::ONE,
        unit_price: Amount::from(pounds),
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    };
    let body = Purchase {
        purchase_id: id(name),
        occurred_at: now(),
        currency: "GBP".into(),
        channel: "".into(),
        store: "".into(),
        lines: vec![line],
        shipping: Amount::ZERO,
        origin: None,
    };
    Command { id: id(name), actor: "test".into(), action: Action::Earn(body.into()) }
}

fn now() -> Moment {
    Moment::parse("2010-01-01T12:00:00Z").unwrap()
}

/// A memory log whose next append can be made to crash.
#[derive(Clone)]
struct Faulty {
    log: MemoryLog,
    crash: Arc<Mutex<Option<Crash>>>,
    gate: Arc<tokio::sync::Semaphore>,
    /// The bytes of the records of each batch.
    batch_bytes: Arc<Mutex<Vec<usize>>>,
}

struct FaultyWriter {
    writer: Box<dyn Writer>,
    faulty: Faulty,
}

impl Faulty {
    fn new() -> Self {
        Self { log: MemoryLog::new(4), crash: Arc::default(), gate: Arc::new(tokio::sync::Semaphore::new(1_000_000)), batch_bytes: Arc::default() }
    }

    fn crash_next(&self, crash: Crash) {
        *self.crash.lock().unwrap() = Some(crash);
    }
}

#[async_trait]
impl EventLog for Faulty {
    fn book_id(&self) -> &str {
        self.log.book_id()
    }
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }
    async fn acquire(&self, owner: &str) -> Result<Box<dyn Writer>, LogError> {
        let writer = self.log.acquire(owner).await?;
        Ok(Box::new(FaultyWriter { writer, faulty: self.clone() }))
    }
    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        self.log.read(partition, from, max).await
    }
    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.log.read_outcomes(partition, from, max).await
    }
    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        self.log.read_programs(from).await
    }
    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        self.log.ends().await
    }
    async fn offsets(&self) -> Result<std::collections::BTreeMap<String, u64>, LogError> {
        self.log.offsets().await
    }
    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        self.log.wait_beyond(ends, patience).await
    }
}

#[async_trait]
impl Writer for FaultyWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.writer.next_position(partition)
    }
    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        self.faulty.gate.acquire().await.unwrap().forget();
        self.faulty.batch_bytes.lock().unwrap().push(batch.records.iter().map(|record| record.body.len()).sum());
        let crash = self.faulty.crash.lock().unwrap().take();
        if let Some(crash) = crash {
            self.writer.crash_next(crash);
        }
        self.writer.append(batch).await
    }
    fn crash_next(&mut self, crash: Crash) {
        self.writer.crash_next(crash);
    }
}

async fn start(log: &Faulty, folder: &Path, queue_max: usize) -> (Service, Running) {
    let config = ServiceConfig {
        state: StatePlace::Folder(folder.to_owned()),
        owner: "test".into(),
        accounts_in_memory: 3,
        queue_max,
        share: Share::Alone,
        answer_within: Duration::from_secs(10),
        limits: Limits::default(),
    };
    Service::start(Arc::new(log.clone()), config, Arc::new(now)).await.unwrap()
}

async fn stop(service: Service, running: Running) -> Result<(), ServiceError> {
    service.stop().await;
    tokio::task::spawn_blocking(move || running.join()).await.unwrap()
}

async fn account(service: &Service, name: &str) -> Account {
    service.snapshot(key(name), None).await.unwrap().unwrap().account
}

fn same(one: &Answer, other: &Answer) {
    assert_eq!((&one.record, one.partition, one.position), (&other.record, other.partition, other.position));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_gets_the_first_answer_again_and_other_content_a_conflict_also_after_a_restart() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    let first = service.submit(key("a"), purchase("p1", 10)).await.unwrap();
    let again = service.submit(key("a"), purchase("p1", 10)).await.unwrap();
    assert!(!first.replayed && again.replayed);
    same(&first, &again);
    let other = service.submit(key("a"), purchase("p1", 11)).await.unwrap_err();
    assert!(matches!(other, Refusal::Rejected(Rejection::IdReused)));
    let elsewhere = service.submit(key("b"), purchase("p1", 10)).await.unwrap();
    assert!(!elsewhere.replayed, "an id is an account's own: accounts are decided in different processes");
    stop(service, running).await.unwrap();

    // Once with the state store, once without it: the log alone makes it again.
    for keep in [true, false] {
        if !keep {
            std::fs::remove_dir_all(folder.path()).unwrap();
        }
        let (service, running) = start(&log, folder.path(), 100).await;
        let again = service.submit(key("a"), purchase("p1", 10)).await.unwrap();
        assert!(again.replayed);
        same(&first, &again);
        assert_eq!(account(&service, "a").await.balance().available, 10);
        stop(service, running).await.unwrap();
    }
    let refused: usize = refusals(&log).await;
    assert_eq!(refused, 1, "the refusal is on the log");
}

async fn refusals(log: &Faulty) -> usize {
    let mut count = 0;
    for partition in 0..log.partitions() {
        count += log.read_outcomes(partition, 0, 100).await.unwrap().len();
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_each_step_loses_nothing_and_doubles_nothing() {
    for (crash, replayed) in [(Crash::BeforeCommit, false), (Crash::AfterCommit, true)] {
        let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
        let (service, running) = start(&log, folder.path(), 100).await;
        service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
        service.submit(key("a"), purchase("p1", 10)).await.unwrap();
        log.crash_next(crash);
        let unknown = service.submit(key("a"), purchase("p2", 20)).await.unwrap_err();
        assert!(matches!(unknown, Refusal::OutcomeUnknown), "{unknown}");
        let retried = service.submit(key("a"), purchase("p2", 20)).await.unwrap();
        assert_eq!(retried.replayed, replayed, "{crash:?}");
        assert_eq!((retried.record.account_seq, account(&service, "a").await.balance().available), (2, 30));
        stop(service, running).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_was_taken_over_stops_and_books_nothing_more() {
    let (log, old_folder, new_folder) = (Faulty::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, old_running) = start(&log, old_folder.path(), 100).await;
    old.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    let (new, new_running) = start(&log, new_folder.path(), 100).await;
    let refused = old.submit(key("a"), purchase("p1", 10)).await.unwrap_err();
    assert!(matches!(refused, Refusal::OutcomeUnknown));
    let ended = tokio::task::spawn_blocking(move || old_running.join()).await.unwrap().unwrap_err();
    assert_eq!(ended.to_string(), "another process writes this log now; this one has stopped");
    assert!(!new.submit(key("a"), purchase("p1", 10)).await.unwrap().replayed);
    stop(new, new_running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_queue_holds_is_refused_at_once_and_nothing_waits_without_bound() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 2).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    // The log stands still: every append waits for a permit.
    log.gate.forget_permits(usize::MAX);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let service = service.clone();
        tasks.spawn(async move { service.submit(key("a"), purchase(&format!("p{n}"), 1)).await });
    }
    let mut busy = 0;
    while let Some(outcome) = tasks.join_next().await {
        if matches!(outcome.unwrap(), Err(Refusal::Busy)) {
            busy += 1;
            if busy == 1 {
                log.gate.add_permits(1000);
            }
        }
    }
    assert!(busy > 0);
    assert_eq!(account(&service, "a").await.purchase_count, 64 - busy, "what was not refused was booked");
    stop(service, running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn purchases_of_many_lines_go_to_the_log_in_several_groups() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    let mut command = purchase("p", 1);
    let Action::Earn(purchase) = &mut command.action else { panic!("a purchase earns") };
    let purchase = Arc::make_mut(purchase);
    let line = Line { sku: "A".repeat(64).into(), ..purchase.lines[0].clone() };
    purchase.lines = (0..LINES_MAX).map(|n| Line { line_id: id(&format!("{n}")), ..line.clone() }).collect();
    let large = Arc::new(purchase.clone());
    // All wait while the log stands still.
    log.gate.forget_permits(usize::MAX);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let (service, mut purchase) = (service.clone(), large.clone());
        Arc::make_mut(&mut purchase).purchase_id = id(&format!("p{n}"));
        tasks.spawn(async move {
            let command = Command { id: purchase.purchase_id.clone(), actor: "test".into(), action: Action::Earn(purchase) };
            service.submit(key("a"), command).await
        });
    }
    log.gate.add_permits(1_000);
    while let Some(outcome) = tasks.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert_eq!(account(&service, "a").await.purchase_count, 50);
    let batches = log.batch_bytes.lock().unwrap().clone();
    let (one, most) = (batches.iter().sum::<usize>() / 50, *batches.iter().max().unwrap());
    assert!(most < (10 << 20) + one, "{most} bytes in one batch");
    assert!(most > 2 * one, "several in a batch");
    stop(service, running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_beyond_memory_come_back_from_the_store() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    for round in 0..3 {
        for n in 0..40 {
            service.submit(key(&format!("a{n}")), purchase(&format!("p{round}-{n}"), 1)).await.unwrap();
        }
    }
    for n in 0..40 {
        assert_eq!(account(&service, &format!("a{n}")).await.balance().available, 3);
    }
    stop(service, running).await.unwrap();
}

/// An account as the store has it is the one that the log makes, whatever became of its purchases in between.
#[tokio::test(flavor = "multi_thread")]
async fn purchases_kept_apart_are_those_that_the_log_makes() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let rules = RULES.replace(r#""currency""#, r#""mode": "sandbox", "return": {"window_days": 30}, "currency""#);
    let back = |purchase_id: &str| {
        let body = Return { purchase_id: id(purchase_id), occurred_at: now(), what: Returned::Amount(Amount::from(2)), shipping: None };
        Command { id: id(&format!("{purchase_id}-back")), actor: "test".into(), action: Action::Return(Arc::new(body)) }
    };
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), rules.into(), "test".into()).await.unwrap();
    service.set_clock(id("shop"), now(), "t".into()).await.unwrap();
    stop(service, running).await.unwrap();
    // The second one is changed after it was written; after 90 days all are dropped, and so is one that is told of so late.
    let steps = [(0, vec![purchase("p1", 10), purchase("p2", 10)], 2), (0, vec![back("p2"), purchase("p3", 5)], 3), (90, vec![purchase("p4", 5)], 0)];
    for (days, commands, kept) in steps {
        let (service, running) = start(&log, folder.path(), 100).await;
        service.set_clock(id("shop"), Moment::from_micros(now().as_micros() + days * 86_400_000_000).unwrap(), "t".into()).await.unwrap();
        for command in commands {
            service.submit(key("a"), command).await.unwrap();
        }
        stop(service, running).await.unwrap();
        let anew = tempfile::tempdir().unwrap();
        let mut states = Vec::new();
        for folder in [folder.path(), anew.path()] {
            let (service, running) = start(&log, folder, 100).await;
            states.push(account(&service, "a").await);
            stop(service, running).await.unwrap();
        }
        assert_eq!(states[0].purchases.len(), kept, "after {days} days");
        assert_eq!(states[0], states[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_clock_does_all_that_falls_due_and_a_live_program_has_none() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    let sandbox = RULES.replace(r#""currency""#, r#""mode": "sandbox", "expiry": {"mode": "rolling", "months": 1}, "currency""#).replace("shop", "box");
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    service.publish(id("box"), sandbox.into(), "test".into()).await.unwrap();
    assert!(matches!(service.set_clock(id("shop"), now(), "t".into()).await, Err(Refusal::Clock(_))));
    service.set_clock(id("box"), now(), "t".into()).await.unwrap();
    let key = |n: i64| AccountKey { program: id("box"), account: id(&format!("a{n}")) };
    for n in 0..50 {
        service.submit(key(n), purchase(&format!("p{n}"), 1)).await.unwrap();
    }
    assert!(matches!(service.set_clock(id("box"), Moment::parse("2009-12-31T00:00:00Z").unwrap(), "t".into()).await, Err(Refusal::Clock(_))));
    service.set_clock(id("box"), Moment::parse("2010-02-01T12:00:00Z").unwrap(), "t".into()).await.unwrap();
    let mut expired = 0;
    for partition in 0..log.partitions() {
        for entry in log.read(partition, 0, 1000).await.unwrap() {
            expired += usize::from(ledger_schemas::Record::decode(&entry.body).unwrap().command_kind == "expire");
        }
    }
    assert_eq!(expired, 50, "on the log before the clock's setter is answered");
    stop(service, running).await.unwrap();
    let (service, running) = start(&log, folder.path(), 100).await;
    assert_eq!(service.snapshot(key(0), None).await.unwrap().unwrap().now, Moment::parse("2010-02-01T12:00:00Z").unwrap(), "the clock outlives the process");
    stop(service, running).await.unwrap();
}

/// Every file of the folder with its middle overwritten.
fn damage(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damage(&path);
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle..].iter_mut().take(64).for_each(|byte| *byte = !*byte);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_store_is_made_anew_from_the_log() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    for n in 0..20 {
        service.submit(key(&format!("a{n}")), purchase(&format!("p{n}"), 7)).await.unwrap();
    }
    stop(service, running).await.unwrap();
    damage(folder.path());
    let (service, running) = start(&log, folder.path(), 100).await;
    for n in 0..20 {
        assert_eq!(account(&service, &format!("a{n}")).await.balance().available, 7);
        assert!(service.submit(key(&format!("a{n}")), purchase(&format!("p{n}"), 7)).await.unwrap().replayed, "p{n} is not booked twice");
    }
    stop(service, running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_record_that_cannot_be_read_is_stopped_and_the_others_go_on() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    for name in ["a", "b"] {
        service.submit(key(name), purchase("p1", 10)).await.unwrap();
    }
    stop(service, running).await.unwrap();
    // A newer version wrote the second record of b, and a third.
    let account = key("b").to_string();
    let partition = event_log::partition_of(&account, 4);
    for account_seq in 2..4 {
        let mut writer = log.log.acquire("newer").await.unwrap();
        let body = vec![0x08, 99];
        let record = event_log::NewRecord { partition, position: writer.next_position(partition), account: account.clone(), account_seq, body };
        writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await.unwrap();
    }
    // As the log is read, from the state store, and with neither.
    for wiped in [false, false, true] {
        if wiped {
            std::fs::remove_dir_all(folder.path()).unwrap();
        }
        let (service, running) = start(&log, folder.path(), 100).await;
        let refused = service.submit(key("b"), purchase("p2", 10)).await.unwrap_err();
        assert_eq!(refused.code(), "account_stopped");
        assert!(refused.to_string().contains("schema"), "{refused}");
        assert_eq!(service.snapshot(key("b"), None).await.unwrap_err().code(), "account_stopped");
        assert!(service.submit(key("a"), purchase("p1", 10)).await.unwrap().replayed);
        stop(service, running).await.unwrap();
    }
    let (service, running) = start(&log, folder.path(), 100).await;
    assert!(!service.submit(key("a"), purchase("p2", 10)).await.unwrap().replayed, "and books");
    stop(service, running).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_does_not_follow_stops_its_account_and_no_other() {
    let (log, folder) = (Faulty::new(), tempfile::tempdir().unwrap());
    let (service, running) = start(&log, folder.path(), 100).await;
    service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
    for name in ["a", "b"] {
        service.submit(key(name), purchase("p1", 10)).await.unwrap();
    }
    stop(service, running).await.unwrap();
    // The first record of b stands there once more.
    let account = key("b").to_string();
    let partition = event_log::partition_of(&account, 4);
    let first = log.log.read(partition, 0, 100).await.unwrap().into_iter().find(|entry| entry.account == account).unwrap();
    let mut writer = log.log.acquire("somebody").await.unwrap();
    let record = event_log::NewRecord { partition, position: writer.next_position(partition), account, account_seq: 2, body: first.body };
    writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await.unwrap();
    for wiped in [false, false, true] {
        if wiped {
            std::fs::remove_dir_all(folder.path()).unwrap();
        }
        let (service, running) = start(&log, folder.path(), 100).await;
        let refused = service.submit(key("b"), purchase("p2", 10)).await.unwrap_err();
        assert!(refused.code() == "account_stopped" && refused.to_string().contains("which is number 1 after number 1"), "{refused}");
        assert!(service.submit(key("a"), purchase("p1", 10)).await.unwrap().replayed);
        stop(service, running).await.unwrap();
    }
}

/// As after a backup was restored and other records took the places of those that were lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_store_of_other_records_is_made_anew() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut logs = Vec::new();
    for (folder, points) in [(&folder, 10), (&other, 99)] {
        let log = Faulty::new();
        let (service, running) = start(&log, folder.path(), 100).await;
        service.publish(id("shop"), RULES.into(), "test".into()).await.unwrap();
        service.submit(key("a"), purchase("p1", points)).await.unwrap();
        stop(service, running).await.unwrap();
        logs.push(log);
    }
    assert_eq!(logs[0].ends().await.unwrap(), logs[1].ends().await.unwrap(), "as many records");
    let (service, running) = start(&logs[1], folder.path(), 100).await;
    assert_eq!(account(&service, "a").await.balance().available, 99);
    stop(service, running).await.unwrap();
}
