//! `loyalty log copy`: the whole book to another engine, with its positions, its order and its hashes.
//!
//! Invariants: the source is taken over first, so that nothing is written to it while it is copied; what the target has already is kept
//! where it is the same and refused where it is not, so a copy that was broken off goes on; only when the target verifies is the source
//! marked as moved, and from then on it is not opened any more.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use event_log::kafka::KafkaLog;
use event_log::postgres::PostgresLog;
use event_log::{Batch, EventLog, NewOutcome, NewRecord, Partition, Position, Writer};
use indicatif::ProgressBar;

use crate::args::{DataOptions, LogAction, LogOptions};
use crate::node::Database;
use crate::objects::Here;

/// A source whose offset counts the book's moves: odd where it has moved away.
const MOVES: &str = "book moves";
const BATCH_MAX: usize = 4000;

/// Refuses a log whose book has moved away.
pub async fn require_here(log: &dyn EventLog) -> anyhow::Result<()> {
    let moves = log.offsets().await?.get(MOVES).copied().unwrap_or(0);
    ensure!(moves % 2 == 0, "the book was moved from here to another engine by `loyalty log copy`: name that one, or copy it back first");
    Ok(())
}

/// Copies.
pub async fn run(options: LogOptions) -> anyhow::Result<()> {
    let LogAction::Copy { from, to, data } = options.action;
    ensure!(from != to, "--from and --to are the same");
    // Held until the end: it may be the embedded one.
    let database = if from == "postgres" || to == "postgres" { Some(Database::open(&data).await?) } else { None };
    let archive = match from.strip_prefix("archive:") {
        Some(archive) => Some(Here::of(Path::new(archive)).await.context("--from")?),
        None => None,
    };
    let source: Arc<dyn EventLog> = match &archive {
        Some(archive) => Arc::new(transparency::ArchiveLog::open(&archive.folder).context("--from")?),
        None => open(&from, &data, database.as_ref(), None).await.context("--from")?,
    };
    let target = open(&to, &data, database.as_ref(), Some(source.book_id())).await.context("--to")?;
    require_here(&*source).await.context("--from")?;
    let records = copy(&*source, &*target).await?;
    println!("book copied and verified: {records} records");
    Ok(())
}

async fn open(place: &str, data: &DataOptions, database: Option<&Database>, book_id: Option<&str>) -> anyhow::Result<Arc<dyn EventLog>> {
    ensure!(!place.starts_with("archive:"), "an archive is never changed: `loyalty audit export` makes one");
    if let Some(place) = place.strip_prefix("kafka://") {
        let (brokers, prefix) = place.split_once('/').unwrap_or((place, &data.kafka_prefix));
        return Ok(Arc::new(KafkaLog::open(data.kafka_log(brokers, prefix), data.partitions, book_id.map(str::to_owned)).await?));
    }
    let url = match database {
        Some(database) if place == "postgres" => database.url(),
        _ if place.starts_with("postgres://") || place.starts_with("postgresql://") => place,
        _ => bail!("{place:?} is neither `postgres`, nor `postgres://…`, nor `kafka://HOST:PORT/PREFIX`, nor `archive:FOLDER`"),
    };
    Ok(Arc::new(PostgresLog::open(url, data.partitions, book_id).await?))
}

async fn copy(source: &dyn EventLog, target: &dyn EventLog) -> anyhow::Result<u64> {
    let mut old = source.acquire("log copy").await?;
    let mut new = target.acquire("log copy").await?;
    let ends: Vec<Position> = (0..source.partitions()).map(|partition| old.next_position(partition)).collect();
    let bar = ProgressBar::new(ends.iter().sum());
    programs(source, target, &mut *new).await?;
    for (partition, end) in (0..).zip(&ends) {
        records(source, target, &mut *new, partition, *end, &bar).await?;
        outcomes(source, target, &mut *new, partition).await?;
    }
    let there = target.offsets().await?;
    let here = source.offsets().await?;
    let moves = here.get(MOVES).max(there.get(MOVES)).copied().unwrap_or(0);
    // Even: the book is there now.
    let arrived = moves + moves % 2;
    let mut offsets: Vec<(String, u64)> = here.into_iter().filter(|(name, _)| name != MOVES).collect();
    offsets.push((MOVES.into(), arrived));
    new.append(Arc::new(Batch { offsets, ..Batch::default() })).await?;
    bar.finish_and_clear();
    while target.ends().await?.iter().zip(&ends).any(|(there, end)| there < end) {
        target.wait_beyond(&target.ends().await?, std::time::Duration::from_secs(1)).await?;
    }
    let check = crate::verify::book(target).await?;
    ensure!(check.findings.is_empty(), "the copy does not verify:\n  {}", check.findings.join("\n  "));
    same(source, target, &ends).await?;
    old.append(Arc::new(Batch { offsets: vec![(MOVES.into(), arrived + 1)], ..Batch::default() })).await?;
    Ok(check.records)
}

async fn programs(source: &dyn EventLog, target: &dyn EventLog, new: &mut dyn Writer) -> anyhow::Result<()> {
    let (here, there) = (source.read_programs(0).await?, target.read_programs(0).await?);
    ensure!(here.starts_with(&there), "the target has other rulebooks than the source: it has gone on by itself");
    let programs = here[there.len()..].to_vec();
    if !programs.is_empty() {
        new.append(Arc::new(Batch { programs, ..Batch::default() })).await?;
    }
    Ok(())
}

async fn records(
    source: &dyn EventLog,
    target: &dyn EventLog,
    new: &mut dyn Writer,
    partition: Partition,
    end: Position,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut next = new.next_position(partition);
    ensure!(next <= end, "the target has {next} records in partition {partition}, the source {end}: it has gone on by itself");
    if let Some(last) = next.checked_sub(1) {
        let (here, there) = (source.read(partition, last, 1).await?, target.read(partition, last, 1).await?);
        ensure!(here == there, "record {last} of partition {partition} is not the same in the target: it has gone on by itself");
    }
    bar.inc(next);
    while next < end {
        let entries = source.read(partition, next, BATCH_MAX).await?;
        ensure!(!entries.is_empty(), "partition {partition} of the source ends at {next}, {end} was expected");
        next += entries.len() as Position;
        bar.inc(entries.len() as u64);
        let record = |entry: event_log::Entry| NewRecord {
            partition,
            position: entry.position,
            account: entry.account,
            account_seq: entry.account_seq,
            body: entry.body,
        };
        new.append(Arc::new(Batch { records: entries.into_iter().map(record).collect(), ..Batch::default() })).await?;
    }
    Ok(())
}

async fn outcomes(source: &dyn EventLog, target: &dyn EventLog, new: &mut dyn Writer, partition: Partition) -> anyhow::Result<()> {
    let mut next = crate::verify::outcomes(target, partition).await?;
    loop {
        let here = source.read_outcomes(partition, next, BATCH_MAX).await?;
        if here.is_empty() {
            return Ok(());
        }
        next += here.len() as Position;
        let outcomes = here.into_iter().map(|body| NewOutcome { partition, body }).collect();
        new.append(Arc::new(Batch { outcomes, ..Batch::default() })).await?;
    }
}

/// Compares every record and every outcome.
async fn same(source: &dyn EventLog, target: &dyn EventLog, ends: &[Position]) -> anyhow::Result<()> {
    for (partition, end) in (0..).zip(ends) {
        let mut next = 0;
        while next < *end {
            let (here, there) = tokio::try_join!(source.read(partition, next, BATCH_MAX), target.read(partition, next, BATCH_MAX))?;
            ensure!(here == there && !here.is_empty(), "the records of partition {partition} from {next} on are not the same in the target");
            next += here.len() as Position;
        }
        let mut next = 0;
        loop {
            let (here, there) = tokio::try_join!(source.read_outcomes(partition, next, BATCH_MAX), target.read_outcomes(partition, next, BATCH_MAX))?;
            ensure!(here == there, "the outcomes of partition {partition} from {next} on are not the same in the target");
            if here.is_empty() {
                break;
            }
            next += here.len() as Position;
        }
    }
    Ok(())
}
