//! `loyalty import`: a file of purchases, in bounded memory, resumable, idempotent.
//!
//! The offset of every purchase is booked with it, so a run that was killed goes on where it stood; ids are kept forever, so what is
//! read twice is not booked twice.

#[cfg(test)]
mod fuzz;
mod matching;
mod purchases;
mod rejects;
mod retail;
pub mod source;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use command_service::{Outcomes, Refusal, Service};
use indicatif::{ProgressBar, ProgressStyle};
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::{Moment, Zone};
use tokio::sync::mpsc;

use crate::args::{Format, ImportOptions};
use crate::node::{Node, Role};
use rejects::Rejects;

/// How many items wait between the reader and the service.
const AHEAD: usize = 256;

/// Something read from the file.
pub struct Item {
    /// The number of its last line.
    pub line: u64,
    /// When it happened.
    pub at: Option<Moment>,
    /// What it is.
    pub what: What,
}

/// What was read.
pub enum What {
    /// A command for an account.
    Command(Id, Command),
    /// Goods given back that name no purchase.
    Unmatched(matching::Unmatched),
    /// A line that is not for the ledger, and why.
    Rejected(String),
}

/// What came of an import.
#[derive(Debug, Default, Clone)]
pub struct Imported {
    /// Lines read, those of an earlier run included.
    pub lines: u64,
    /// Lines skipped because an earlier run booked them.
    pub skipped: u64,
    /// Commands booked.
    pub booked: u64,
    /// Commands that had been booked before.
    pub replayed: u64,
    /// Lines rejected.
    pub rejected: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Runs the command.
pub async fn run(options: ImportOptions) -> anyhow::Result<()> {
    let node = Node::start(&options.data, Role::ALONE).await?;
    let imported = import(&node.service, &*node.log, &options).await;
    let stopped = node.stop().await;
    let imported = imported?;
    stopped?;
    println!("{}", imported.words());
    Ok(())
}

impl Imported {
    /// In words.
    #[allow(clippy::float_arithmetic, reason = "a rate for people")]
    pub fn words(&self) -> String {
        let Self { lines, skipped, booked, replayed, rejected, seconds } = self;
        let rate = u32::try_from(lines - skipped).map_or(0.0, f64::from) / seconds.max(0.001);
        format!(
            "{lines} lines: {booked} commands booked, {replayed} booked before, {rejected} lines rejected, {skipped} lines skipped, {seconds:.1} s, {rate:.0} lines/s"
        )
    }
}

/// Imports a file into the program.
pub async fn import(service: &Service, log: &dyn event_log::EventLog, options: &ImportOptions) -> anyhow::Result<Imported> {
    let program = Id::parse(&options.program)?;
    let programs = service.programs();
    let Some(state) = programs.by_id.get(&program) else {
        bail!("there is no program {program}; publish its rulebook first: loyalty program publish FILE");
    };
    if options.drive_clock && !state.program.is_sandbox() {
        bail!("--drive-clock needs a sandbox program; {program} is live");
    }
    let zone = state.program.latest().map(|version| version.zone.clone()).context("a program has a rulebook")?;
    let name = source::name(&options.file, &options.program, options.format)?;
    let done = log.offsets().await?.get(&name).copied().unwrap_or(0);
    let rejects_path = options.rejected.clone().unwrap_or_else(|| Path::new(&format!("{}.rejected.csv", options.file.display())).to_owned());
    // What was booked but not told yet is read again: it is not booked twice, and its rejections are told once.
    let (rejects, told) = Rejects::open(&rejects_path, done)?;
    let done = done.min(told);
    let run = Run { service, program, rejects, done, drive_clock: options.drive_clock, clock: None, imported: Imported::default() };
    run.run(&options.file, options.format, zone, &name).await
}

struct Run<'a> {
    service: &'a Service,
    program: Id,
    rejects: Rejects,
    done: u64,
    drive_clock: bool,
    clock: Option<Moment>,
    imported: Imported,
}

fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg} {elapsed_precise} eta {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Run<'_> {
    async fn run(mut self, file: &Path, format: Format, zone: Zone, name: &str) -> anyhow::Result<Imported> {
        let begin = Instant::now();
        let bar = bar(std::fs::metadata(file).with_context(|| format!("can't read {}", file.display()))?.len());
        let (items, mut read) = mpsc::channel(AHEAD);
        let (path, reader_bar) = (file.to_owned(), bar.clone());
        let currency = self.service.programs().by_id.get(&self.program).and_then(|state| state.program.latest().map(|v| v.rulebook.currency.clone()));
        let currency = currency.unwrap_or_default();
        let reader = tokio::task::spawn_blocking(move || -> anyhow::Result<u64> {
            let input = source::open(&path, reader_bar)?;
            match format {
                Format::OnlineRetail => retail::read(input, &zone, &currency, &items),
                Format::PurchasesCsv => purchases::read_csv(input, &items),
                Format::PurchasesJsonl => purchases::read_jsonl(input, &items),
            }
        });
        let (source, mut outcomes) = self.service.source(name);
        while let Some(item) = read.recv().await {
            self.imported.lines = self.imported.lines.max(item.line);
            if item.line <= self.done {
                self.imported.skipped = self.imported.skipped.max(item.line);
                continue;
            }
            self.send(&source, item).await?;
            self.hear(&mut outcomes)?;
            if self.imported.lines.is_multiple_of(64) {
                bar.set_message(format!("{} lines, {} rejected", self.imported.lines, self.imported.rejected));
            }
        }
        self.imported.lines = self.imported.lines.max(reader.await??);
        self.service.flush().await;
        drop(source);
        while let Some((line, outcome)) = outcomes.recv().await {
            self.outcome(line, outcome)?;
        }
        bar.finish_and_clear();
        self.imported.rejected = self.rejects.finish()?;
        self.imported.seconds = begin.elapsed().as_secs_f64();
        Ok(self.imported)
    }

    async fn send(&mut self, source: &command_service::Source, item: Item) -> anyhow::Result<()> {
        if let Some(at) = item.at.filter(|at| self.drive_clock && self.clock.is_none_or(|clock| *at > clock)) {
            self.clock = Some(at);
            self.service.drive_clock(self.program.clone(), at, "import".into()).await;
        }
        match item.what {
            What::Command(account, command) => source.send(item.line, AccountKey { program: self.program.clone(), account }, command).await,
            What::Rejected(why) => source.unusable(item.line, why).await,
            What::Unmatched(unmatched) => {
                let key = AccountKey { program: self.program.clone(), account: unmatched.account.clone() };
                source.plan(item.line, key, unmatched.firsts(), move |account| unmatched.plan(account)).await;
            }
        }
        Ok(())
    }

    fn hear(&mut self, outcomes: &mut Outcomes) -> anyhow::Result<()> {
        while let Ok((line, outcome)) = outcomes.try_recv() {
            self.outcome(line, outcome)?;
        }
        Ok(())
    }

    fn outcome(&mut self, line: u64, outcome: Result<command_service::Answer, Refusal>) -> anyhow::Result<()> {
        match outcome {
            Ok(answer) if answer.replayed => self.imported.replayed += 1,
            Ok(_) => self.imported.booked += 1,
            Err(error @ (Refusal::OutcomeUnknown | Refusal::Busy)) => return Err(error).context("run the import again: it goes on where it stood"),
            Err(Refusal::Invalid(invalid)) => {
                let words: Vec<String> = invalid.iter().map(ToString::to_string).collect();
                self.rejects.write(line, &words.join("; "))?;
            }
            Err(refusal) => self.rejects.write(line, &refusal.to_string())?,
        }
        Ok(())
    }
}
