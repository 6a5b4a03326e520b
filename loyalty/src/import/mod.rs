//! `loyalty import`: a file of purchases, in bounded memory, idempotent.
//!
//! Invariants: every row ends as booked, booked before, or rejected with its line, field and reason, and the counts add up; a purchase is
//! booked whole or not at all. What was booked is known by its id, which is kept for ever: so a run that was killed, a file that was
//! corrected, and a file under other rules are all imported by running the import again.

#[cfg(test)]
mod fuzz;
mod group;
mod matching;
mod outcome;
mod purchases;
mod rejects;
mod retail;
mod sort;
pub mod source;
mod table;
mod text;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use command_service::{Outcomes, Service, Source};
use indicatif::{ProgressBar, ProgressStyle};
use ledger_core::account::Command;
use ledger_core::account::command::{Action, Purchase};
use ledger_core::currency::minor_digits;
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::{Invalid, UnmatchedRefunds};
use ledger_core::time::{Moment, Zone};
use tokio::sync::mpsc;

use crate::args::{Format, ImportOptions};
use crate::node::{Node, Role};
use matching::{Cancellation, Terms, Wait};
use outcome::Tally;
use rejects::Rejects;
use text::Text;

/// How many items wait between the reader and the service.
const AHEAD: usize = 256;

/// Something read from the file.
pub enum Item {
    /// Rows that are for the ledger.
    Ask(Ask),
    /// A row that is not, by its line.
    Rejected(u64, Fault),
}

/// What rows ask for.
pub struct Ask {
    /// Their lines.
    pub rows: Vec<u64>,
    /// When it happened.
    pub at: Option<Moment>,
    /// What it is.
    pub what: What,
}

/// What is asked.
pub enum What {
    /// A command for an account.
    Command(Id, Command),
    /// A command for an account, which is for the ledger only where the one named first was booked as it is here.
    After(Id, Box<Command>, Command),
    /// Goods given back that name no purchase, and what they wait for.
    Cancellation(Cancellation, Wait),
}

impl Ask {
    /// To book a purchase made of `rows`, one a line.
    fn purchase(account: Id, purchase: Purchase, rows: Vec<u64>) -> Self {
        Self { rows, at: Some(purchase.occurred_at), what: What::Command(account, earn(purchase)) }
    }

    /// To book a purchase that is a further part of an invoice, whose part before it is `before`.
    fn part(account: Id, before: Purchase, purchase: Purchase, rows: Vec<u64>) -> Self {
        Self { rows, at: Some(purchase.occurred_at), what: What::After(account, Box::new(earn(before)), earn(purchase)) }
    }
}

fn earn(purchase: Purchase) -> Command {
    Command { id: purchase.purchase_id.clone(), actor: "import".into(), action: Action::Earn(purchase.into()) }
}

/// Why a row is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field that is wrong; empty where it is none alone.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }

    /// Of a row that is right, whose purchase has one at `line` that is not.
    fn beside(line: u64) -> Self {
        Self::new("", format!("belongs to a purchase with a rejected row: line {line}"))
    }

    fn of(invalid: &Invalid) -> Self {
        let expected = invalid.expected.split(" at line ").next().unwrap_or_default();
        let pointer = invalid.pointer.trim_start_matches('/');
        match expected.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            Some(name) if pointer.is_empty() => Self::new(name, "it is missing"),
            Some(name) => Self::new(format!("{pointer}/{name}"), "it is missing"),
            None => Self::new(pointer, format!("{} is wrong: {expected}", invalid.value)),
        }
    }

    /// For `lines/N/FIELD`, the line's place within its purchase, and the fault of its row.
    fn of_row(mut self) -> (Option<usize>, Self) {
        let line = self.field.strip_prefix("lines/").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        let Some((place, field)) = line.and_then(|(place, field)| Some((place.parse().ok()?, field.to_owned()))) else { return (None, self) };
        self.field = field;
        (Some(place), self)
    }
}

/// What came of an import.
#[derive(Debug, Default, Clone)]
pub struct Imported {
    /// Rows read.
    pub rows: u64,
    /// Rows that are booked now.
    pub booked: u64,
    /// Rows that had been booked before.
    pub before: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Commands booked.
    pub commands: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Some rows were not imported.
#[derive(Debug, thiserror::Error)]
#[error("{rejected} of {rows} rows were rejected; {} names each with its line, field and reason", file.display())]
pub struct SomeRejected {
    rejected: u64,
    rows: u64,
    file: PathBuf,
}

/// Runs the command.
pub async fn run(options: ImportOptions) -> anyhow::Result<()> {
    refuse_same_file(&options)?;
    let node = Node::start(&options.data, Role::ALONE).await?;
    let imported = import(&node.service, &options).await;
    let stopped = node.stop().await;
    let imported = imported?;
    stopped?;
    println!("{}", imported.words());
    match imported.rejected {
        0 => Ok(()),
        rejected => Err(SomeRejected { rejected, rows: imported.rows, file: rejects_path(&options) }.into()),
    }
}

fn rejects_path(options: &ImportOptions) -> PathBuf {
    options.rejected.clone().unwrap_or_else(|| Path::new(&format!("{}.rejected.csv", options.file.display())).to_owned())
}

/// Writing the rejected rows must not destroy what is imported, by whatever names the two are called.
fn refuse_same_file(options: &ImportOptions) -> anyhow::Result<()> {
    let path = rejects_path(options);
    let (Ok(file), Ok(rejects)) = (std::fs::metadata(&options.file), std::fs::metadata(&path)) else { return Ok(()) };
    let is_same = rejects.is_file() && (file.dev(), file.ino()) == (rejects.dev(), rejects.ino());
    ensure!(
        !is_same,
        "FILE and --rejected are the same file ({} and {}): the rejected rows would overwrite what is imported; give --rejected another path",
        options.file.display(),
        path.display()
    );
    Ok(())
}

impl Imported {
    /// In words.
    #[allow(clippy::float_arithmetic, reason = "a rate for people")]
    pub fn words(&self) -> String {
        let Self { rows, booked, before, rejected, commands, seconds } = self;
        let rate = u32::try_from(*rows).map_or(0.0, f64::from) / seconds.max(0.001);
        format!("{rows} rows: {booked} booked, {before} booked before, {rejected} rejected; {commands} commands booked, {seconds:.1} s, {rate:.0} rows/s")
    }
}

/// Imports a file into the program.
pub async fn import(service: &Service, options: &ImportOptions) -> anyhow::Result<Imported> {
    let begin = Instant::now();
    refuse_same_file(options)?;
    let program = Id::parse(&options.program)?;
    let programs = service.programs();
    let Some(state) = programs.by_id.get(&program) else {
        bail!("there is no program {program}; publish its rulebook first: loyalty program publish FILE");
    };
    if options.drive_clock && !state.program.is_sandbox() {
        bail!("--drive-clock needs a sandbox program; {program} is live");
    }
    let rules = state.program.latest().context("a program has a rulebook")?;
    let reader = Reader {
        file: options.file.clone(),
        options: options.clone(),
        zone: rules.zone.clone(),
        currency: rules.rulebook.currency.to_string(),
        bar: bar(std::fs::metadata(&options.file).with_context(|| format!("can't read {}", options.file.display()))?.len()),
    };
    let rejects = Rejects::open(&rejects_path(options), &options.data.data)?;
    // A currency that is no real one has the decimals that amounts have.
    let decimals = minor_digits(&reader.currency).unwrap_or(6);
    let tally = Tally::new(options.format, decimals, rejects);
    let run = Run { service, program, decimals, tally, drive_clock: options.drive_clock, clock: None };
    let mut imported = run.run(reader).await?;
    imported.seconds = begin.elapsed().as_secs_f64();
    ensure!(
        imported.booked + imported.before + imported.rejected == imported.rows,
        "the counts of the import don't add up, which is a fault of this program: {}",
        imported.words()
    );
    Ok(imported)
}

fn bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg} {elapsed_precise} eta {eta}");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Reads the file on a thread of its own.
struct Reader {
    file: PathBuf,
    options: ImportOptions,
    zone: Zone,
    currency: String,
    bar: ProgressBar,
}

impl Reader {
    /// Sends all rows; tells how many there are.
    fn read(&self, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
        let folder = &self.options.data.data;
        let mut text = Text::new(source::open(&self.file, self.bar.clone())?, self.options.encoding);
        let rows = match self.options.format {
            Format::OnlineRetail => retail::read(&mut text, &self.zone, &self.currency, folder, items),
            Format::PurchasesCsv => purchases::read_csv(&mut text, folder, items),
            Format::PurchasesJsonl => purchases::read_jsonl(&mut text, items),
        };
        rows.with_context(|| format!("can't import {}", self.file.display()))
    }
}

struct Run<'a> {
    service: &'a Service,
    program: Id,
    /// Those of the currency's minor unit.
    decimals: u32,
    tally: Tally,
    drive_clock: bool,
    clock: Option<Moment>,
}

impl Run<'_> {
    async fn run(mut self, reader: Reader) -> anyhow::Result<Imported> {
        let (items, mut read) = mpsc::channel(AHEAD);
        let bar = reader.bar.clone();
        let reader = tokio::task::spawn_blocking(move || reader.read(&items));
        let (source, mut outcomes) = self.service.source();
        let mut asked = 0;
        while let Some(item) = read.recv().await {
            match item {
                Item::Rejected(line, fault) => self.tally.reject(line, &fault)?,
                Item::Ask(ask) => {
                    asked += 1;
                    self.send(&source, &mut outcomes, asked, ask).await?;
                }
            }
            self.hear(&mut outcomes)?;
            if asked % 64 == 0 {
                bar.set_message(format!("{asked} purchases and returns, {} rows rejected", self.tally.rejected()));
            }
        }
        let rows = reader.await??;
        self.service.flush().await;
        drop(source);
        while let Some((tag, outcome)) = outcomes.recv().await {
            self.tally.hear(tag, outcome)?;
        }
        bar.finish_and_clear();
        self.tally.finish(rows)
    }

    async fn send(&mut self, source: &Source, outcomes: &mut Outcomes, tag: u64, mut ask: Ask) -> anyhow::Result<()> {
        if let What::Cancellation(cancellation, wait) = &mut ask.what
            && let Some(line) = self.refused_purchase(&cancellation.account, outcomes).await?
        {
            *wait = Wait::Always(format!("waits for a purchase of the same customer that was refused: line {line}"));
        }
        if let Some(at) = ask.at.filter(|at| self.drive_clock && self.clock.is_none_or(|clock| *at > clock)) {
            self.clock = Some(at);
            self.service.drive_clock(self.program.clone(), at, "import".into()).await;
        }
        self.tally.expect(tag, &ask);
        let key = |account| AccountKey { program: self.program.clone(), account };
        match ask.what {
            What::Command(account, command) => source.send(tag, key(account), command).await,
            What::After(account, before, command) => {
                let why = format!("belongs to an invoice whose part {} was refused, or was booked otherwise before", before.id);
                source.send_after(tag, key(account), *before, command, why).await;
            }
            What::Cancellation(cancellation, wait) => {
                let (key, again) = (key(cancellation.account.clone()), cancellation.clone());
                let terms = Terms { wait, reduces_spend: self.reduces_spend(cancellation.at), decimals: self.decimals };
                // Where it was booked before, that is told, even if it would wait now.
                source.plan(tag, key, move |part| again.parts(part), move |account| cancellation.plan(account, &terms)).await;
            }
        }
        Ok(())
    }

    /// The line of a purchase of `account` in this file that the ledger refused. A cancellation that comes after it could be matched to another
    /// one, so it is sent only once the purchases before it have their answers.
    async fn refused_purchase(&mut self, account: &Id, outcomes: &mut Outcomes) -> anyhow::Result<Option<u64>> {
        if self.tally.awaits_purchase(account) {
            self.service.flush().await;
            self.hear(outcomes)?;
        }
        Ok(self.tally.refused_purchase(account))
    }

    /// Whether a refund of then may name no purchase.
    fn reduces_spend(&self, at: Moment) -> bool {
        let programs = self.service.programs();
        let version = programs.by_id.get(&self.program).and_then(|state| state.program.at(at));
        version.is_some_and(|version| version.rulebook.returns.unmatched == UnmatchedRefunds::ReduceSpend)
    }

    fn hear(&mut self, outcomes: &mut Outcomes) -> anyhow::Result<()> {
        while let Ok((tag, outcome)) = outcomes.try_recv() {
            self.tally.hear(tag, outcome)?;
        }
        Ok(())
    }
}
