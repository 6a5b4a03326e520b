//! What every adapter must hold. Each check takes a fresh, empty log of four partitions.

use std::sync::Arc;
use std::time::Duration;

use crate::{Batch, Crash, EventLog, LogError, NewOutcome, NewRecord};

fn record(partition: u16, position: u64, body: &str) -> NewRecord {
    NewRecord { partition, position, account: format!("p/{partition}"), account_seq: position + 1, body: body.as_bytes().to_vec() }
}

fn batch(records: Vec<NewRecord>) -> Arc<Batch> {
    Arc::new(Batch { records, ..Batch::default() })
}

/// Waits until a reader sees `count` records in `partition`: what was appended is seen soon, not at once.
async fn seen(log: &dyn EventLog, partition: u16, count: u64) {
    while log.ends().await.expect("ends")[usize::from(partition)] < count {
        let ends = log.ends().await.expect("ends");
        assert!(log.wait_beyond(&ends, Duration::from_secs(20)).await.expect("wait"), "partition {partition} comes to {count} records");
    }
}

async fn bodies(log: &dyn EventLog, partition: u16, count: u64) -> Vec<String> {
    seen(log, partition, count).await;
    let entries = log.read(partition, 0, 1000).await.expect("a log that is up can be read");
    for (position, entry) in (0_u64..).zip(&entries) {
        assert_eq!(entry.position, position, "positions are 0, 1, 2 …");
        assert_eq!((entry.account.as_str(), entry.account_seq), (format!("p/{partition}").as_str(), position + 1));
    }
    entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.body).into_owned()).collect()
}

/// Appends are read back in order, from any position, partition by partition.
pub async fn append_and_replay(log: &dyn EventLog) {
    let mut writer = log.acquire("one").await.expect("an idle log can be acquired");
    writer.append(batch(vec![record(0, 0, "a"), record(2, 0, "b"), record(0, 1, "c")])).await.expect("append");
    writer.append(batch(vec![record(0, 2, "d")])).await.expect("append");
    assert_eq!(bodies(log, 0, 3).await, ["a", "c", "d"]);
    assert_eq!(bodies(log, 2, 1).await, ["b"]);
    assert_eq!(writer.next_position(0), 3);
    assert_eq!(log.ends().await.expect("ends"), [3, 0, 1, 0]);
    let tail = log.read(0, 1, 1).await.expect("read");
    assert_eq!((tail.len(), tail[0].position), (1, 1), "reading starts where asked and stops at the limit");
    assert!(log.read(0, 3, 10).await.expect("read").is_empty());
}

/// Records, outcomes, program entries and offsets of a batch come together.
pub async fn all_parts_of_a_batch(log: &dyn EventLog) {
    let mut writer = log.acquire("one").await.expect("acquire");
    let all = Arc::new(Batch {
        records: vec![record(1, 0, "a")],
        outcomes: vec![NewOutcome { partition: 3, body: b"no".to_vec() }, NewOutcome { partition: 3, body: b"nor this".to_vec() }],
        programs: vec![b"rules".to_vec()],
        offsets: vec![("file".into(), 42)],
        ..Batch::default()
    });
    writer.append(all).await.expect("append");
    let late = Arc::new(Batch { offsets: vec![("file".into(), 41)], programs: vec![b"clock".to_vec()], ..Batch::default() });
    writer.append(late).await.expect("append");
    assert_eq!(bodies(log, 1, 1).await, ["a"]);
    assert_eq!(log.read_outcomes(3, 0, 10).await.expect("outcomes"), [b"no".to_vec(), b"nor this".to_vec()]);
    assert_eq!(log.read_outcomes(3, 1, 10).await.expect("outcomes"), [b"nor this".to_vec()]);
    assert_eq!(log.read_programs(0).await.expect("programs"), [b"rules".to_vec(), b"clock".to_vec()]);
    assert_eq!(log.read_programs(1).await.expect("programs"), [b"clock".to_vec()]);
    assert_eq!(log.offsets().await.expect("offsets").get("file"), Some(&42), "an offset never goes back");
    assert_eq!(log.offsets().await.expect("offsets").get("other"), None);
}

/// A second writer fences the first, whose writes are refused, not merged.
pub async fn second_writer_fences_the_first(log: &dyn EventLog) {
    let mut old = log.acquire("old").await.expect("acquire");
    old.append(batch(vec![record(0, 0, "old")])).await.expect("append");
    let mut new = log.acquire("new").await.expect("acquire");
    let zombie = Arc::new(Batch { records: vec![record(0, 1, "zombie")], offsets: vec![("file".into(), 7)], ..Batch::default() });
    let refused = old.append(zombie).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "the first writer is fenced, not {refused:?}");
    let offset_alone = Arc::new(Batch { offsets: vec![("file".into(), 7)], ..Batch::default() });
    let refused = old.append(offset_alone).await;
    assert!(matches!(refused, Err(LogError::Fenced { .. })), "offsets are fenced too, not {refused:?}");
    new.append(batch(vec![record(0, 1, "new")])).await.expect("append");
    assert!(matches!(old.append(batch(vec![record(0, 2, "zombie")])).await, Err(LogError::Fenced { .. })));
    assert_eq!(bodies(log, 0, 2).await, ["old", "new"]);
    assert_eq!(log.offsets().await.expect("offsets").get("file"), None);
}

/// A batch that does not go on where its partitions end is refused whole.
pub async fn wrong_position_is_refused_whole(log: &dyn EventLog) {
    let mut writer = log.acquire("one").await.expect("acquire");
    let gap = batch(vec![record(0, 0, "a"), record(1, 1, "gap")]);
    assert!(matches!(writer.append(gap).await, Err(LogError::Fenced { .. })));
    assert!(bodies(log, 0, 0).await.is_empty() && bodies(log, 1, 0).await.is_empty());
    writer.append(batch(vec![record(0, 0, "a")])).await.expect("the writer goes on");
    assert_eq!(bodies(log, 0, 1).await, ["a"]);
}

/// A crash before the commit leaves nothing, one after it everything; the next writer goes on from there.
pub async fn crash_at_each_step(log: &dyn EventLog) {
    for (step, (crash, expected)) in [(Crash::BeforeCommit, 0), (Crash::AfterCommit, 2)].into_iter().enumerate() {
        let mut writer = log.acquire("crashing").await.expect("acquire");
        let (first, second) = (writer.next_position(0), writer.next_position(1));
        writer.crash_next(crash);
        let torn =
            Arc::new(Batch { records: vec![record(0, first, "x"), record(1, second, "y")], offsets: vec![(format!("step {step}"), 1)], ..Batch::default() });
        assert!(matches!(writer.append(torn).await, Err(LogError::Crashed(_))));
        drop(writer);
        let writer = log.acquire("next").await.expect("acquire");
        let appended = writer.next_position(0) - first + writer.next_position(1) - second;
        assert_eq!(appended, expected, "{crash:?}");
        let offsets = log.offsets().await.expect("offsets");
        assert_eq!(offsets.contains_key(&format!("step {step}")), expected > 0, "the offset comes with the records: {crash:?}");
    }
}

/// A reader at the end is told of what is appended, and is not kept waiting for ever.
pub async fn tailing(log: &dyn EventLog) {
    let mut writer = log.acquire("one").await.expect("acquire");
    assert!(!log.wait_beyond(&[0; 4], Duration::from_millis(20)).await.expect("wait"), "nothing comes");
    let tail = async { log.wait_beyond(&[0; 4], Duration::from_secs(20)).await.expect("wait") };
    let append = async {
        tokio::task::yield_now().await;
        writer.append(batch(vec![record(0, 0, "a")])).await.expect("append");
    };
    let (seen, ()) = tokio::join!(tail, append);
    assert!(seen, "the reader is told");
    assert!(!log.wait_beyond(&[1, 0, 0, 0], Duration::from_millis(20)).await.expect("wait"));
    assert!(log.wait_beyond(&[0; 4], Duration::ZERO).await.expect("wait"), "what is there already is not waited for");
}
