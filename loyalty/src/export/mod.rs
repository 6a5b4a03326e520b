//! `loyalty export`: the book as Parquet files, partitioned by the day on which it was booked, for DuckDB, pandas and the like.
//!
//! Invariant: `state.json` says up to where the book was exported and is written last; what a run that broke off had written is removed by the next
//! one, so every record stands in the files exactly once.

mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use event_log::{EventLog, Position};
use indicatif::ProgressBar;
use ledger_schemas::Record;
use serde::{Deserialize, Serialize};

use crate::args::ExportOptions;
use crate::ops::open;
use table::{Lines, Movements, Rows};

/// How many records are in memory at once, and end in one file a day at most.
const RUN_RECORDS: usize = 200_000;
const READ_MAX: usize = 5000;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    book: String,
    runs: u64,
    /// The next record of each partition.
    next: Vec<Position>,
}

#[derive(Default)]
struct Day {
    movements: Movements,
    lines: Lines,
}

pub async fn run(options: ExportOptions) -> anyhow::Result<()> {
    let (_database, log) = open(&options.data).await?;
    let folder = &options.folder;
    let mut state = state(folder, &*log)?;
    let ends = log.ends().await?;
    let left: u64 = ends.iter().zip(&state.next).map(|(end, next)| end.saturating_sub(*next)).sum();
    let bar = ProgressBar::new(left).with_message("exporting");
    let mut count = 0;
    loop {
        state.runs += 1;
        let days = read(&*log, &mut state.next, &ends, &mut count).await?;
        if days.is_empty() {
            break;
        }
        remove_leftovers(folder, state.runs)?;
        for (day, rows) in days {
            rows.movements.write(&file(folder, "movement", &day, state.runs))?;
            rows.lines.write(&file(folder, "purchase_line", &day, state.runs))?;
        }
        let text = serde_json::to_vec_pretty(&state)?;
        let partial = folder.join("state.partial");
        std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, folder.join("state.json"))).context("can't note how far it is exported")?;
        bar.set_position(count);
    }
    bar.finish_and_clear();
    println!("{count} records exported to {}; read them with DuckDB: SELECT * FROM '{0}/movement/*/*.parquet'", folder.display());
    Ok(())
}

/// How far the book was exported before; nothing yet where the folder is new.
fn state(folder: &Path, log: &dyn EventLog) -> anyhow::Result<State> {
    let path = folder.join("state.json");
    let new = || State { book: log.book_id().to_owned(), runs: 0, next: vec![0; usize::from(log.partitions())] };
    let state = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} does not say how far the book was exported", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => new(),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
    };
    let book = log.book_id();
    ensure!(state.book == book, "{} has book {}, this is {book}; name another folder", folder.display(), state.book);
    ensure!(state.next.len() == usize::from(log.partitions()), "{} was written for another number of partitions", path.display());
    Ok(state)
}

fn file(folder: &Path, table: &str, day: &str, run: u64) -> PathBuf {
    folder.join(table).join(format!("day={day}")).join(format!("run-{run:06}.parquet"))
}

/// A run that broke off may have written files of days that are not in the next one.
fn remove_leftovers(folder: &Path, run: u64) -> anyhow::Result<()> {
    for table in ["movement", "purchase_line"] {
        let Ok(days) = std::fs::read_dir(folder.join(table)) else { continue };
        for day in days {
            let leftover = day?.path().join(format!("run-{run:06}.parquet"));
            if leftover.exists() {
                std::fs::remove_file(&leftover).with_context(|| format!("can't remove {}", leftover.display()))?;
            }
        }
    }
    Ok(())
}

/// The next records, by day.
async fn read(log: &dyn EventLog, next: &mut [Position], ends: &[Position], count: &mut u64) -> anyhow::Result<BTreeMap<String, Day>> {
    let (mut days, mut left): (BTreeMap<String, Day>, usize) = (BTreeMap::new(), RUN_RECORDS);
    for (partition, (next, end)) in (0..).zip(next.iter_mut().zip(ends)) {
        while *next < *end && left > 0 {
            let want = usize::try_from(*end - *next).unwrap_or(usize::MAX).min(READ_MAX).min(left);
            let entries = log.read(partition, *next, want).await?;
            ensure!(!entries.is_empty(), "partition {partition} ends at {next}, {end} was told");
            for entry in &entries {
                let record = Record::decode(&entry.body).with_context(|| format!("partition {partition} position {}", entry.position))?;
                let day: String = record.recorded_at.to_string().chars().take(10).collect();
                let rows = days.entry(day).or_default();
                rows.movements.add(&record, partition, entry.position);
                rows.lines.add(&record);
                *next = entry.position + 1;
            }
            left -= entries.len();
            *count += entries.len() as u64;
        }
    }
    Ok(days)
}
