//! Sealing, many times over: bundles fill, tiles fill, sealers come and go; every receipt holds for ever.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;

use audit::{AuditError, Head, Key, Sealed, Sealer, make_key};
use event_log::memory::MemoryLog;
use event_log::{Batch, EventLog, NewOutcome, NewRecord, Partition, Position};
use ledger_core::time::Moment;
use ledger_schemas::Hash;

fn body(partition: Partition, position: Position) -> Vec<u8> {
    format!("record {position} of partition {partition}").into_bytes()
}

/// The proof of a record, with its hash and its place.
struct Proof {
    sealed: Option<Sealed>,
    hash: Hash,
    place: (Partition, Position),
}

impl Proof {
    fn of(folder: &Path, partition: Partition, position: Position) -> Self {
        let sealed = Sealed::of(folder, partition, position).unwrap();
        Self { sealed, hash: ledger_schemas::hash(&body(partition, position)), place: (partition, position) }
    }

    fn check(&self, key: &Key) -> Result<Head, AuditError> {
        self.sealed.as_ref().unwrap().check(key, &self.hash, self.place.0, self.place.1)
    }
}

#[tokio::test]
async fn every_receipt_holds_whenever_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, public) = make_key("test.example/book");
    let key = Key::parse(&public).unwrap();
    let log = MemoryLog::new(2);
    let mut writer = log.acquire("test").await.unwrap();
    let mut early = Vec::new();
    let mut sealer = Sealer::open(folder.path(), &secret).unwrap();
    for round in 0..300_u64 {
        let partition = Partition::from(round % 3 == 0);
        let mut batch = Batch::default();
        for n in 0..=round % 4 {
            let position = writer.next_position(partition) + n;
            batch.records.push(NewRecord { partition, position, account: "shop/a".into(), account_seq: 1, body: body(partition, position) });
        }
        batch.outcomes.push(NewOutcome { partition, body: body(9, round) });
        writer.append(Arc::new(batch)).await.unwrap();
        let now = Moment::default().plus_micros(i64::try_from(round).unwrap());
        let (head, is_new) = sealer.seal(&log, now).await.unwrap();
        assert!(is_new && head.record_count() == log.ends().await.unwrap().iter().sum::<u64>());
        assert!(!sealer.seal(&log, now).await.unwrap().1, "nothing came since");
        if round % 50 == 7 {
            early.push(Proof::of(folder.path(), partition, 0));
            // A sealer goes on where another ended.
            drop(sealer);
            sealer = Sealer::open(folder.path(), &secret).unwrap();
        }
    }
    assert!(matches!(Sealer::open(folder.path(), &secret), Err(AuditError::Taken { .. })));
    let mut checked = 0;
    for (partition, end) in (0..).zip(log.ends().await.unwrap()) {
        for position in 0..end {
            let mut proof = Proof::of(folder.path(), partition, position);
            assert_eq!(proof.check(&key).unwrap().record_count(), 750);
            proof.hash[0] ^= 1;
            assert!(proof.check(&key).is_err(), "another record is not proven by it");
            checked += 1;
        }
    }
    assert_eq!((checked, early.len()), (750, 6));
    assert!(early.iter().all(|proof| proof.check(&key).is_ok()), "what was proven stays proven");
    assert_eq!(Sealed::of(folder.path(), 0, 750).unwrap(), None, "what is not there is not proven");
    let (_, other) = make_key("test.example/book");
    assert!(early[0].check(&Key::parse(&other).unwrap()).is_err(), "by another key of the same name nothing is");
}
