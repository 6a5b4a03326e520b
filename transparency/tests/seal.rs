//! Sealing, many times over: bundles fill, tiles fill, sealers come and go; every receipt holds for ever.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::path::Path;
use std::sync::Arc;

use event_log::memory::MemoryLog;
use event_log::{Batch, EventLog, NewOutcome, NewRecord, Partition, Position};
use ledger_core::time::Moment;
use ledger_schemas::Hash;
use transparency::{ArchiveLog, AuditError, Head, Key, Sealed, Sealer, export, make_key, verify};

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
    tiles_of_every_level_are_compared(&log, folder.path(), &key).await;
}

/// Those above the leaves, which no root needs, and bundles that are full. The records of this log say nothing, so each of them is found.
async fn tiles_of_every_level_are_compared(log: &MemoryLog, seal: &Path, key: &Key) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    export(log, &archive, Some(seal), |_| {}).await.unwrap();
    let of_the_seal = || {
        let verified = verify(&ArchiveLog::open(&archive).unwrap(), key, &|_| {}).unwrap();
        verified.findings.into_iter().filter(|finding| !finding.starts_with("partition ")).collect::<Vec<_>>()
    };
    assert_eq!(of_the_seal(), Vec::<String>::new());
    for name in ["seal/tile/0/000", "seal/tile/0/001.p/44", "seal/tile/1/000.p/1", "seal/tile/entries/000", "seal/tile/entries/001.p/44"] {
        let path = archive.join(name);
        let honest = std::fs::read(&path).unwrap();
        let mut altered = honest.clone();
        *altered.last_mut().unwrap() ^= 1;
        for altered in [altered, honest[..honest.len() - 1].to_vec(), [&honest[..], &[0; 32]].concat()] {
            std::fs::write(&path, altered).unwrap();
            let found = of_the_seal();
            assert!(found.iter().any(|finding| finding.contains(name.rsplit_once("/0").unwrap().0)), "{name}: {found:?}");
        }
        std::fs::write(&path, honest).unwrap();
    }
}

/// What is signed is never extended by who did not sign it, nor over other heads.
#[tokio::test]
async fn a_seal_goes_on_by_its_own_key_and_from_its_own_heads_only() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, _) = make_key("test.example/book");
    let log = MemoryLog::new(1);
    let mut writer = log.acquire("test").await.unwrap();
    let mut append = async |position: Position| {
        let record = NewRecord { partition: 0, position, account: "shop/a".into(), account_seq: 1, body: body(0, position) };
        writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await.unwrap();
    };
    append(0).await;
    Sealer::open(folder.path(), &secret).unwrap().seal(&log, Moment::default()).await.unwrap();
    append(1).await;
    let (other, _) = make_key("test.example/book");
    let refused = Sealer::open(folder.path(), &other).unwrap().seal(&log, Moment::default()).await.unwrap_err();
    assert!(refused.to_string().contains("was not signed by this key, or was changed since"), "{refused}");
    let checkpoint = folder.path().join("checkpoint");
    let honest = std::fs::read_to_string(&checkpoint).unwrap();
    std::fs::write(&checkpoint, honest.replacen("\n1\n", "\n2\n", 1)).unwrap();
    let refused = Sealer::open(folder.path(), &secret).unwrap().seal(&log, Moment::default()).await.unwrap_err();
    assert!(refused.to_string().contains("or was changed since"), "{refused}");
    std::fs::write(&checkpoint, honest).unwrap();
    assert_eq!(Sealer::open(folder.path(), &secret).unwrap().seal(&log, Moment::default()).await.unwrap().0.record_count(), 2);
    // Of partial tiles two are left, however often it was sealed.
    for position in 2..40 {
        append(position).await;
        Sealer::open(folder.path(), &secret).unwrap().seal(&log, Moment::default()).await.unwrap();
    }
    let partials = |path: &str| std::fs::read_dir(folder.path().join(path)).unwrap().count();
    assert_eq!((partials("records/000/tile/0/000.p"), partials("tile/0/000.p"), partials("tile/entries/000.p")), (2, 2, 2));
}

/// A log restored from a backup has other records, or fewer, where some were sealed.
#[tokio::test]
async fn a_log_that_is_not_the_one_that_was_sealed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, _) = make_key("test.example/book");
    let with = async |bodies: &[Position]| {
        let log = MemoryLog::new(1);
        let mut writer = log.acquire("test").await.unwrap();
        for (position, content) in (0..).zip(bodies) {
            let record = NewRecord { partition: 0, position, account: "shop/a".into(), account_seq: 1, body: body(0, *content) };
            writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await.unwrap();
        }
        log
    };
    let sealer = Sealer::open(folder.path(), &secret).unwrap();
    let whole = with(&[0, 1, 2]).await;
    sealer.seal(&whole, Moment::default()).await.unwrap();
    assert!(sealer.require_same(&whole).await.is_ok() && sealer.require_same(&with(&[0, 1, 2, 3]).await).await.is_ok());
    for (bodies, what) in [(&[0, 1][..], "3 records are sealed, the log has 2"), (&[0, 1, 7, 8], "record 2 is another than the one that is sealed")] {
        let other = with(bodies).await;
        for refused in [sealer.require_same(&other).await.err(), sealer.seal(&other, Moment::default()).await.err()] {
            assert!(refused.as_ref().is_some_and(|error| matches!(error, AuditError::Diverged { .. }) && error.to_string().contains(what)), "{refused:?}");
        }
    }
}
