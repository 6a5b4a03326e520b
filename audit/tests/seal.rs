//! Sealing, many times over: bundles fill, tiles fill, sealers come and go; every receipt holds for ever.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;

use audit::{AuditError, Key, Receipt, Sealed, Sealer, make_key};
use event_log::memory::MemoryLog;
use event_log::{Batch, EventLog, NewOutcome, NewRecord, Partition, Position};
use ledger_core::time::Moment;

fn body(partition: Partition, position: Position) -> Vec<u8> {
    format!("record {position} of partition {partition}").into_bytes()
}

fn receipt(folder: &Path, partition: Partition, position: Position) -> Receipt {
    let hash: String = ledger_schemas::hash(&body(partition, position)).iter().map(|byte| format!("{byte:02x}")).collect();
    let sealed = Sealed::of(folder, partition, position).unwrap();
    let (program, account_id, kind, command_id) = ("shop".into(), "a".into(), "purchase".into(), "p".into());
    Receipt { program, account_id, kind, command_id, account_seq: 1, partition, position, record_hash: hash, sealed }
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
            early.push(receipt(folder.path(), partition, 0));
            // A sealer goes on where another ended.
            drop(sealer);
            sealer = Sealer::open(folder.path(), &secret).unwrap();
        }
    }
    assert!(matches!(Sealer::open(folder.path(), &secret), Err(AuditError::Taken { .. })));
    let mut checked = 0;
    for (partition, end) in (0..).zip(log.ends().await.unwrap()) {
        for position in 0..end {
            let receipt = receipt(folder.path(), partition, position);
            assert_eq!(receipt.check(&key, Some(&body(partition, position))).unwrap().record_count(), 750);
            assert!(receipt.check(&key, Some(b"another")).is_err());
            checked += 1;
        }
    }
    assert_eq!((checked, early.len()), (750, 6));
    assert!(early.iter().all(|receipt| receipt.check(&key, None).is_ok()), "what was proven stays proven");
    assert_eq!(receipt(folder.path(), 0, 750).sealed, None, "what is not there is not proven");
    let (_, other) = make_key("test.example/book");
    assert!(early[0].check(&Key::parse(&other).unwrap(), None).is_err(), "by another key of the same name nothing is");
}
