//! The runtime over a real Postgres: a poison record, two projectors at once, an altered row, a rebuild.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::sync::Arc;

use event_log::postgres::PostgresLog;
use event_log::{Batch, EventLog, NewRecord, Position, Writer, partition_of};
use ledger_core::account::command::Reason;
use ledger_core::account::event::Lot;
use ledger_core::account::state::Balance;
use ledger_core::account::{Event, EventKind};
use ledger_core::edition::EDITION;
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;
use ledger_schemas::{Record, encode_record};
use projectors::{Projector, ProjectorError, lags, read_model, read_models, rebuild, verify};
use tokio_postgres::Client;

struct Book {
    url: String,
    log: Arc<dyn EventLog>,
    writer: Box<dyn Writer>,
    client: Client,
}

impl Book {
    async fn new(name: &str) -> Self {
        let url = embedded_postgres::testing::database(name).await;
        let log: Arc<dyn EventLog> = Arc::new(PostgresLog::open(&url, 1, None).await.unwrap());
        let writer = log.acquire("test").await.unwrap();
        let client = event_log::postgres::connect(&url, "public").await.unwrap();
        Self { url, log, writer, client }
    }

    /// Appends record `seq` of `account`: ten points by hand.
    async fn append(&mut self, account: &str, seq: u64) {
        let mut body = Vec::new();
        encode_record(&record(account, seq), &mut body);
        self.append_bytes(account, seq, body).await;
    }

    async fn append_bytes(&mut self, account: &str, seq: u64, body: Vec<u8>) {
        let name = format!("shop/{account}");
        let (partition, position) = (partition_of(&name, 1), self.writer.next_position(0));
        let records = vec![NewRecord { partition, position, account: name, account_seq: seq, body }];
        self.writer.append(Arc::new(Batch { records, ..Batch::default() })).await.unwrap();
    }

    async fn projector(&self) -> Projector {
        Projector::open(read_model("balance").unwrap(), Arc::clone(&self.log), &self.url).await.unwrap()
    }

    async fn available(&self, account: &str) -> Option<i64> {
        let sql = "SELECT available FROM balance.balance WHERE program = 'shop' AND account = $1";
        self.client.query_opt(sql, &[&account]).await.unwrap().map(|row| row.get(0))
    }
}

fn record(account: &str, seq: u64) -> Record {
    let at = Moment::parse("2010-01-01T00:00:00Z").unwrap();
    let lot = Lot { lot: u32::try_from(seq).unwrap(), points: 10, available_at: at, expires_at: None, expiry_moves: false };
    let id = Id::parse(&format!("{account}-{seq}")).unwrap();
    let kind = EventKind::PointsAdded { adjustment: id.clone(), lot, rule_version: 1, reason: Reason::default() };
    let opened = EventKind::AccountOpened { pending: false, tier: "member".into() };
    let kinds = if seq == 1 { vec![opened, kind] } else { vec![kind] };
    Record {
        key: AccountKey { program: Id::parse("shop").unwrap(), account: Id::parse(account).unwrap() },
        account_seq: seq,
        command_id: id,
        command_kind: "adjustment".into(),
        content_hash: [0; 32],
        recorded_at: at,
        effective_at: at,
        actor: "test".into(),
        rule_version: 1,
        previous_hash: [0; 32],
        events: kinds.into_iter().map(|kind| Event { at, kind }).collect(),
        balance: Balance { available: 10 * i64::try_from(seq).unwrap(), ..Balance::default() },
        edition: EDITION,
        program_entries: Some(1),
    }
}

#[tokio::test]
async fn a_poison_record_stops_its_account_and_no_other() {
    let mut book = Book::new("poison").await;
    book.append("a", 1).await;
    book.append_bytes("b", 1, b"not protobuf".to_vec()).await;
    book.append("c", 1).await;
    book.append("c", 3).await;
    book.append("a", 2).await;
    let mut newer = Vec::new();
    encode_record(&record("d", 1), &mut newer);
    newer[1] = 99;
    book.append_bytes("d", 1, newer).await;
    let mut projector = book.projector().await;
    projector.catch_up().await.unwrap();
    book.append("b", 2).await;
    book.append("a", 3).await;
    projector.catch_up().await.unwrap();
    assert_eq!(book.available("a").await, Some(30));
    let health = lags(&*read_model("balance").unwrap(), &*book.log, &book.url).await.unwrap();
    assert_eq!(health.lags.iter().map(|lag| lag.lag).sum::<Position>(), 0, "the partition goes on");
    let stopped: Vec<&str> = health.poison.iter().map(|(account, _)| account.as_str()).collect();
    assert_eq!(stopped, ["shop/b", "shop/c", "shop/d"]);
    assert_eq!(health.poison[1].1, "position 3: record 3 follows record 1");
    assert!(health.poison[2].1.contains("schema version 99"), "{}", health.poison[2].1);
}

#[tokio::test]
async fn a_record_whose_rows_the_database_refuses_stops_its_account_and_no_other() {
    let mut book = Book::new("refused_rows").await;
    let points = |account: &str, seq: u64, points: i64| {
        let mut record = record(account, seq);
        if let Some(EventKind::PointsAdded { lot, .. }) = record.events.last_mut().map(|event| &mut event.kind) {
            lot.points = points;
        }
        let mut body = Vec::new();
        encode_record(&record, &mut body);
        body
    };
    book.append_bytes("x", 1, points("x", 1, i64::MAX - 5)).await;
    book.append_bytes("y", 1, points("y", 1, i64::MAX - 5)).await;
    let mut projector = book.projector().await;
    projector.catch_up().await.unwrap();
    for account in ["a", "b", "c", "d", "e"] {
        book.append(account, 1).await;
    }
    book.append_bytes("x", 2, points("x", 2, 10)).await;
    book.append("a", 2).await;
    book.append_bytes("y", 2, points("y", 2, 10)).await;
    projector.step().await.unwrap();
    book.append("x", 3).await;
    book.append("a", 3).await;
    projector.catch_up().await.unwrap();
    for (account, available) in [("a", 30), ("b", 10), ("c", 10), ("d", 10), ("e", 10), ("x", i64::MAX - 5), ("y", i64::MAX - 5)] {
        assert_eq!(book.available(account).await, Some(available), "{account}");
    }
    let health = lags(&*read_model("balance").unwrap(), &*book.log, &book.url).await.unwrap();
    assert_eq!(health.lags.iter().map(|lag| lag.lag).sum::<Position>(), 0, "the partition goes on");
    let stopped: Vec<&str> = health.poison.iter().map(|(account, _)| account.as_str()).collect();
    assert_eq!(stopped, ["shop/x", "shop/y"]);
    let why = &health.poison[0].1;
    assert!(why.starts_with("position 7: ") && why.contains("bigint out of range"), "{why}");
}

#[tokio::test]
async fn a_note_with_the_character_nul_is_shown_as_one_that_can_be_kept() {
    let mut book = Book::new("nul").await;
    let mut noted = record("a", 1);
    noted.actor = "ti\0ll".into();
    if let Some(EventKind::PointsAdded { reason, .. }) = noted.events.last_mut().map(|event| &mut event.kind) {
        *reason = Reason { code: "goodwill".into(), note: "a\0b".into() };
    }
    let mut body = Vec::new();
    encode_record(&noted, &mut body);
    book.append_bytes("a", 1, body).await;
    book.append("a", 2).await;
    for model in read_models() {
        Projector::open(Arc::clone(&model), Arc::clone(&book.log), &book.url).await.unwrap().catch_up().await.unwrap();
        let health = lags(&*model, &*book.log, &book.url).await.unwrap();
        assert!(health.poison.is_empty(), "{}: {:?}", model.name(), health.poison);
        assert!(verify(model, Arc::clone(&book.log), &book.url).await.unwrap().differences.is_empty());
    }
    let row = book.client.query_one("SELECT reason, actor FROM audit.command WHERE account_seq = 1", &[]).await.unwrap();
    assert_eq!((row.get::<_, String>(0), row.get::<_, String>(1)), ("goodwill: a\u{fffd}b".into(), "ti\u{fffd}ll".into()));
}

#[tokio::test]
async fn a_log_that_lost_what_was_folded_is_refused_until_the_read_model_is_made_anew() {
    let mut book = Book::new("lost").await;
    for seq in 1..=3 {
        book.append("a", seq).await;
    }
    book.projector().await.catch_up().await.unwrap();
    book.client.batch_execute("DELETE FROM log.record WHERE position = 2; UPDATE log.partition SET next_position = 2").await.unwrap();
    let refused = Projector::open(read_model("balance").unwrap(), Arc::clone(&book.log), &book.url).await.err().unwrap();
    assert!(matches!(refused, ProjectorError::Ahead { partition: 0, position: 3, end: 2, .. }), "{refused}");
    assert!(refused.to_string().contains("loyalty rebuild balance"), "{refused}");
    assert_eq!(rebuild(read_model("balance").unwrap(), Arc::clone(&book.log), &book.url, |_| {}).await.unwrap(), 2);
    book.projector().await.catch_up().await.unwrap();
    assert_eq!(book.available("a").await, Some(20));
}

#[tokio::test]
async fn a_gap_between_batches_is_seen_too() {
    let mut book = Book::new("gap").await;
    book.append("a", 1).await;
    let mut projector = book.projector().await;
    projector.catch_up().await.unwrap();
    book.append("a", 3).await;
    book.append("b", 2).await;
    projector.catch_up().await.unwrap();
    assert_eq!((book.available("a").await, book.available("b").await), (Some(10), None));
    let health = lags(&*read_model("balance").unwrap(), &*book.log, &book.url).await.unwrap();
    assert_eq!(health.poison.len(), 2, "{:?}", health.poison);
}

#[tokio::test]
async fn of_two_projectors_one_applies_and_the_other_is_told() {
    let mut book = Book::new("two").await;
    let (mut one, mut other) = (book.projector().await, book.projector().await);
    book.append("a", 1).await;
    assert_eq!(one.step().await.unwrap(), 1);
    assert!(matches!(other.step().await, Err(ProjectorError::Overtaken { partition: 0, .. })));
    assert_eq!(book.available("a").await, Some(10), "once");
}

#[tokio::test]
async fn an_altered_row_is_found_and_a_rebuild_mends_it() {
    let mut book = Book::new("altered").await;
    for seq in 1..=5 {
        book.append("a", seq).await;
        book.append("b", seq).await;
    }
    for model in read_models() {
        Projector::open(Arc::clone(&model), Arc::clone(&book.log), &book.url).await.unwrap().catch_up().await.unwrap();
        let verified = verify(model, Arc::clone(&book.log), &book.url).await.unwrap();
        assert!(verified.rows > 0 && verified.differences.is_empty(), "{verified:?}");
    }
    book.client.batch_execute("UPDATE balance.balance SET available = 51 WHERE account = 'a'").await.unwrap();
    let model = || read_model("balance").unwrap();
    let verified = verify(model(), Arc::clone(&book.log), &book.url).await.unwrap();
    assert_eq!(verified.differences.len(), 2, "{:?}", verified.differences);
    assert!(verified.differences[0].starts_with("balance: (shop,a,"));
    let mut live = book.projector().await;
    assert_eq!(rebuild(model(), Arc::clone(&book.log), &book.url, |_| {}).await.unwrap(), 10);
    assert!(verify(model(), Arc::clone(&book.log), &book.url).await.unwrap().differences.is_empty());
    book.append("a", 6).await;
    live.step().await.unwrap();
    assert_eq!(book.available("a").await, Some(60), "the projector that ran before goes on in the new one");
}
