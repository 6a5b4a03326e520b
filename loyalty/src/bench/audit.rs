//! An archive of the book that was measured before: read bare, verified, decided again under another rulebook.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use api::real_now;
use event_log::EventLog;
use event_log::postgres::PostgresLog;
use ledger_core::time::Moment;
use transparency::{ArchiveLog, Key, Sealer, WhatIf, export, make_key, replay, verify};

use super::workload::RULEBOOK;
use super::{Figure, rate, ratio};

/// Measures the log in the database at `url`.
pub async fn run(url: &str, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let log = PostgresLog::open(url, 8, None).await?;
    let (seal, archive) = (folder.join("seal"), folder.join("archive"));
    let (secret, public) = make_key("bench");
    let begin = Instant::now();
    let (head, _) = Sealer::open(&seal, &secret)?.seal(&log, real_now()).await?;
    let sealed = rate(head.record_count(), begin.elapsed().as_secs_f64());
    export(&log, &archive, Some(&seal), |_| {}).await?;
    let archive = Arc::new(ArchiveLog::open(&archive)?);
    let begin = Instant::now();
    let records = read(&*archive).await?;
    let bare = rate(records, begin.elapsed().as_secs_f64());
    let (book, begin) = (Arc::clone(&archive), Instant::now());
    let verified = tokio::task::spawn_blocking(move || verify(&book, &Key::parse(&public)?, &|_| {})).await??;
    let checked = rate(records, begin.elapsed().as_secs_f64());
    anyhow::ensure!(verified.findings.is_empty() && verified.records == records, "{:?}", verified.findings);
    let rulebook = serde_json::from_str(&RULEBOOK.replace(r#""points": "1", "per""#, r#""points": "2", "per""#))?;
    let begin = Instant::now();
    let since = Moment::parse("2010-01-01T00:00:00Z")?;
    let replayed = replay(archive, WhatIf::Rulebook { rulebook: Box::new(rulebook), since }, |_| {}).await?;
    let again = rate(replayed.records, begin.elapsed().as_secs_f64());
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let by_core = |all: f64| format!("{all:.0}/s, {:.0}/s a core", ratio(all, f64::from(u32::try_from(cores).unwrap_or(1))));
    Ok(vec![
        Figure::new("seal of a whole book, from Postgres, one core", format!("{sealed:.0}/s"), ""),
        Figure::new("archive verified, every decision made again, all cores", by_core(checked), "300,000/s a core"),
        Figure::new("  to a bare read of the archive on one core", format!("{:.2} of {bare:.0}/s", ratio(checked, bare)), ""),
        Figure::new("history decided again under another rulebook, all cores", by_core(again), "300,000/s a core"),
    ])
}

async fn read(log: &dyn EventLog) -> anyhow::Result<u64> {
    let mut count = 0;
    for partition in 0..log.partitions() {
        let mut next = 0;
        loop {
            let entries = log.read(partition, next, 20_000).await?;
            if entries.is_empty() {
                break;
            }
            next += entries.len() as u64;
            count += entries.len() as u64;
        }
    }
    Ok(count)
}
