//! `loyalty export`: the book as Parquet files, partitioned by the day on which it was booked, for DuckDB, pandas and the like.
//!
//! Invariant: `state.json` says up to where the book was exported and is written last; what a run that broke off had written is removed by the next
//! one, so every record and refused command stands in the files exactly once. Estimates are not of the book: see [`estimates`].

mod estimates;
mod returns;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use event_log::{EventLog, Position};
use indicatif::ProgressBar;
use ledger_schemas::{Outcome, Record};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::args::ExportOptions;
use crate::ops::open_caught_up;
use returns::{Refunds, Refused, ReturnLines, Returns};
use table::{Lines, Movements, Rows};

/// How many records are in memory at once, and end in one file a day at most.
const RUN_RECORDS: usize = 200_000;
const READ_MAX: usize = 5000;
/// Raised when a table or a column is added: what was exported before lacks it.
const FORMAT: u32 = 3;
/// The tables that are exported run by run.
const TABLES: [&str; 6] = ["movement", "purchase_line", "return", "return_line", "refund", "refusal"];

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    book: String,
    runs: u64,
    /// The next record of each partition.
    next: Vec<Position>,
    /// The next refused command of each partition.
    #[serde(default)]
    next_refused: Vec<Position>,
    /// Absent in the first.
    #[serde(default)]
    format: u32,
}

#[derive(Default)]
struct Day {
    movements: Movements,
    lines: Lines,
    returns: Returns,
    return_lines: ReturnLines,
    refunds: Refunds,
    refused: Refused,
}

impl Day {
    fn add(&mut self, record: &Record, partition: u16, position: Position) {
        self.movements.add(record, partition, position);
        self.lines.add(record);
        self.returns.add(record);
        self.return_lines.add(record);
        self.refunds.add(record);
    }

    /// With the money that the read model has for it.
    async fn with_money(mut self, client: &Client) -> anyhow::Result<Self> {
        let [programs, accounts, purchases, lines] = self.lines.keys();
        let sql = "SELECT l.spend FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(program, account, purchase_id, line_id, n)
                   LEFT JOIN clv.line l USING (program, account, purchase_id, line_id) ORDER BY n";
        let spends: Vec<Option<Decimal>> = client.query(sql, &[&programs, &accounts, &purchases, &lines]).await?.iter().map(|row| row.get(0)).collect();
        self.lines.set_spends(spends);
        let (programs, accounts, seqs) = self.returns.keys();
        let sql = "SELECT r.amount FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS u(program, account, account_seq, n)
                   LEFT JOIN clv.refund r USING (program, account, account_seq) ORDER BY n";
        let amounts: Vec<Option<Decimal>> = client.query(sql, &[&programs, &accounts, &seqs]).await?.iter().map(|row| row.get(0)).collect();
        self.returns.set_amounts(amounts);
        Ok(self)
    }

    fn write(self, folder: &Path, day: &str, run: u64) -> anyhow::Result<()> {
        self.movements.write(&file(folder, "movement", day, run))?;
        self.lines.write(&file(folder, "purchase_line", day, run))?;
        self.returns.write(&file(folder, "return", day, run))?;
        self.return_lines.write(&file(folder, "return_line", day, run))?;
        self.refunds.write(&file(folder, "refund", day, run))?;
        self.refused.write(&file(folder, "refusal", day, run))
    }
}

pub async fn run(options: ExportOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(&options.data).await?;
    let folder = &options.folder;
    let mut state = state(folder, &*log)?;
    let client = analytics::open(database.url()).await?;
    let ends = projected(&client, log.ends().await?).await?;
    let left: u64 = ends.iter().zip(&state.next).map(|(end, next)| end.saturating_sub(*next)).sum();
    let bar = ProgressBar::new(left).with_message("exporting");
    let mut count = Count::default();
    loop {
        state.runs += 1;
        let days = read(&*log, &mut state, &ends, &mut count).await?;
        if days.is_empty() {
            break;
        }
        remove_leftovers(folder, state.runs)?;
        for (day, rows) in days {
            rows.with_money(&client).await?.write(folder, &day, state.runs)?;
        }
        let text = serde_json::to_vec_pretty(&state)?;
        let partial = folder.join("state.partial");
        std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, folder.join("state.json"))).context("can't note how far it is exported")?;
        bar.set_position(count.records);
    }
    estimates::write(&client, folder).await?;
    bar.finish_and_clear();
    let Count { records, refused } = count;
    println!(
        "{records} records exported and {refused} refused commands to {}; read them with DuckDB: SELECT * FROM '{0}/movement/*/*.parquet'",
        folder.display()
    );
    Ok(())
}

/// What was exported.
#[derive(Default)]
struct Count {
    records: u64,
    refused: u64,
}

/// Where the records end of which the read model `clv` has what was paid.
async fn projected(client: &Client, ends: Vec<Position>) -> anyhow::Result<Vec<Position>> {
    let rows = client.query("SELECT partition, position FROM clv.checkpoint", &[]).await?;
    let known: HashMap<i16, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let known = |partition: i16| known.get(&partition).map_or(0, |position| position.unsigned_abs());
    Ok((0..).zip(ends).map(|(partition, end)| end.min(known(partition))).collect())
}

/// How far the book was exported before; nothing yet where the folder is new.
fn state(folder: &Path, log: &dyn EventLog) -> anyhow::Result<State> {
    let path = folder.join("state.json");
    let starts = || vec![0; usize::from(log.partitions())];
    let new = || State { book: log.book_id().to_owned(), runs: 0, next: starts(), next_refused: starts(), format: FORMAT };
    let state: State = match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} does not say how far the book was exported", path.display()))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => new(),
        Err(error) => return Err(error).with_context(|| format!("can't read {}", path.display())),
    };
    let book = log.book_id();
    ensure!(state.book == book, "{} has book {}, this is {book}; name another folder", folder.display(), state.book);
    ensure!(
        state.format == FORMAT,
        "{} was exported by another version, without all tables and columns of this one; export into a new folder",
        folder.display()
    );
    let lengths = [state.next.len(), state.next_refused.len()];
    ensure!(lengths == [usize::from(log.partitions()); 2], "{} was written for another number of partitions", path.display());
    Ok(state)
}

fn file(folder: &Path, table: &str, day: &str, run: u64) -> PathBuf {
    folder.join(table).join(format!("day={day}")).join(format!("run-{run:06}.parquet"))
}

/// A run that broke off may have written files of days that are not in the next one.
fn remove_leftovers(folder: &Path, run: u64) -> anyhow::Result<()> {
    for table in TABLES {
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

/// The day (UTC) of a moment.
fn day(at: impl std::fmt::Display) -> String {
    at.to_string().chars().take(10).collect()
}

/// The next records and refused commands, by day.
async fn read(log: &dyn EventLog, state: &mut State, ends: &[Position], count: &mut Count) -> anyhow::Result<BTreeMap<String, Day>> {
    let (mut days, mut left): (BTreeMap<String, Day>, usize) = (BTreeMap::new(), RUN_RECORDS);
    for (partition, (next, end)) in (0..).zip(state.next.iter_mut().zip(ends)) {
        while *next < *end && left > 0 {
            let want = usize::try_from(*end - *next).unwrap_or(usize::MAX).min(READ_MAX).min(left);
            let entries = log.read(partition, *next, want).await?;
            ensure!(!entries.is_empty(), "partition {partition} ends at {next}, {end} was told");
            for entry in &entries {
                let record = Record::decode(&entry.body).with_context(|| format!("partition {partition} position {}", entry.position))?;
                days.entry(day(record.recorded_at)).or_default().add(&record, partition, entry.position);
                *next = entry.position + 1;
            }
            left -= entries.len();
            count.records += entries.len() as u64;
        }
    }
    for (partition, next) in (0..).zip(&mut state.next_refused) {
        while left > 0 {
            let outcomes = log.read_outcomes(partition, *next, READ_MAX.min(left)).await?;
            if outcomes.is_empty() {
                break;
            }
            for body in &outcomes {
                let outcome = Outcome::decode(body).with_context(|| format!("partition {partition} refused command {next}"))?;
                days.entry(day(outcome.recorded_at)).or_default().refused.add(&outcome, partition, *next);
                *next += 1;
            }
            left -= outcomes.len();
            count.refused += outcomes.len() as u64;
        }
    }
    Ok(days)
}
