//! The programs: their rulebooks and clocks, folded from the program stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use compact_str::CompactString;
use event_log::{EventLog, Position};
use ledger_core::edition::{CEL, EDITION, FIRST_EDITION, TIME_ZONES, releases};
use ledger_core::id::Id;
use ledger_core::policy::{Invalid, Program, Rulebook, Version, compile_rulebook, read_rulebook};
use ledger_core::time::Moment;
use ledger_schemas::{DecodeError, EditionEntered, Fingerprint, Month, ProgramChange, ProgramEntry};

use crate::closings::{ClosedPeriod, ProposedClosing};
use crate::json::read_json;
use crate::request::Refusal;

/// One program as it stands.
#[derive(Debug, Clone, Default)]
pub struct ProgramState {
    /// Its rules, all versions.
    pub program: Arc<Program>,
    /// The rulebooks as published, by version from 1.
    pub rulebooks: Vec<Arc<Vec<u8>>>,
    /// The clock of a sandbox that was set.
    pub clock: Option<Moment>,
    /// Its closed months, in order.
    pub closed_periods: Vec<ClosedPeriod>,
    /// The month that somebody proposed to close.
    pub proposed_closing: Option<ProposedClosing>,
}

impl ProgramState {
    /// The program's time: the sandbox's clock, or `real_now`. A sandbox whose clock was never set stands at the beginning of its
    /// first rulebook.
    #[must_use]
    pub fn now(&self, real_now: Moment) -> Moment {
        if !self.program.is_sandbox() {
            return real_now;
        }
        let begin = || self.program.version(1).map_or(real_now, |first| first.rulebook.effective_from);
        self.clock.unwrap_or_else(begin)
    }
}

/// All programs.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    /// By id.
    pub by_id: BTreeMap<Id, ProgramState>,
    /// How many entries of the program stream this is the fold of.
    pub entries: Position,
    /// The edition that the book entered last; none where no entry says so: a book of the first edition, or a new one.
    pub edition: Option<EditionEntered>,
    /// The key by which the book's aliases are hashed, once it has some.
    pub alias_key: Option<Fingerprint>,
}

/// Why the program stream can't be folded.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The log.
    #[error(transparent)]
    Log(#[from] event_log::LogError),
    /// An entry can't be read.
    #[error("entry {position} of the program stream can't be read")]
    Decode {
        /// Which.
        position: Position,
        /// Why.
        #[source]
        source: DecodeError,
    },
    /// A rulebook that was published is refused now.
    #[error("the rulebook in entry {position} of the program stream is refused by this version: {why}")]
    Rulebook {
        /// Which.
        position: Position,
        /// Why.
        why: String,
    },
    /// A month is closed that nobody proposed to close.
    #[error("entry {position} of the program stream closes period {period}, which it does not propose before")]
    Closing {
        /// Which.
        position: Position,
        /// The month.
        period: Month,
    },
    /// The book is decided by an older edition than this release does.
    #[error(
        "the book is decided by edition {found} (release {}), this release decides by edition {EDITION}: stop every process, then run `loyalty upgrade` (docs/upgrading.md)",
        releases(*.found).unwrap_or("unknown")
    )]
    OlderEdition {
        /// The book's.
        found: u32,
    },
    /// The book is decided by a newer edition, or by other data, than this release does.
    #[error(
        "the book is decided by edition {} with time zones {} and CEL {}, this release decides by edition {EDITION} with time zones {TIME_ZONES} and CEL {CEL}: use the release that the book was upgraded by",
        .0.edition, .0.time_zones, .0.cel
    )]
    OtherEdition(Box<EditionEntered>),
}

impl Programs {
    /// Folds the program stream.
    ///
    /// # Errors
    /// The log's, or an entry that can't be read.
    pub async fn load(log: &dyn EventLog) -> Result<Self, ProgramsError> {
        let mut programs = Self::default();
        programs.follow(log).await?;
        Ok(programs)
    }

    /// Folds the first `entries` of the program stream: what was known then.
    ///
    /// # Errors
    /// The log's, or an entry that can't be read.
    pub async fn load_until(log: &dyn EventLog, entries: Position) -> Result<Self, ProgramsError> {
        let mut programs = Self::default();
        let all = log.read_programs(0).await?;
        for bytes in all.iter().take(usize::try_from(entries).unwrap_or(usize::MAX)) {
            programs.fold(bytes)?;
        }
        Ok(programs)
    }

    /// Folds what was added; tells whether anything was.
    ///
    /// # Errors
    /// The log's, or an entry that can't be read.
    pub async fn follow(&mut self, log: &dyn EventLog) -> Result<bool, ProgramsError> {
        let added = log.read_programs(self.entries).await?;
        for bytes in &added {
            self.fold(bytes)?;
        }
        Ok(!added.is_empty())
    }

    pub(crate) fn fold(&mut self, bytes: &[u8]) -> Result<(), ProgramsError> {
        let position = self.entries;
        let entry = ProgramEntry::decode(bytes).map_err(|source| ProgramsError::Decode { position, source })?;
        match entry.change {
            ProgramChange::ClockSet { program, now } => self.by_id.entry(program).or_default().clock = Some(now),
            ProgramChange::RulebookPublished { program, rulebook, .. } => {
                let refused = |invalid: Vec<Invalid>| ProgramsError::Rulebook { position, why: invalid.first().map(ToString::to_string).unwrap_or_default() };
                let state = self.by_id.entry(program).or_default();
                let version = parse(&rulebook).and_then(|read| compile_rulebook(read, &state.program)).map_err(refused)?;
                state.add(version, rulebook);
            }
            ProgramChange::EditionEntered(entered) => self.edition = Some(entered),
            // The first one stays: whoever was second was not told of it yet.
            ProgramChange::AliasKeyNamed(fingerprint) => drop(self.alias_key.get_or_insert(fingerprint)),
            ProgramChange::ClosingProposed { program, closing } => {
                let proposed = ProposedClosing { closing: Arc::new(*closing), maker: entry.actor, proposed_at: entry.recorded_at, entry: position };
                self.by_id.entry(program).or_default().propose(proposed);
            }
            ProgramChange::PeriodClosed { program, proposed_in, period } => {
                if !self.by_id.entry(program).or_default().close(proposed_in, entry.actor, entry.recorded_at) {
                    return Err(ProgramsError::Closing { position, period });
                }
            }
        }
        self.entries += 1;
        Ok(())
    }

    /// Refuses a book that this release may not decide: its edition is another one than [`EDITION`]. A new book has none yet.
    ///
    /// # Errors
    /// [`ProgramsError::OlderEdition`] or [`ProgramsError::OtherEdition`].
    pub fn require_edition(&self) -> Result<(), ProgramsError> {
        match &self.edition {
            None if self.entries == 0 => Ok(()),
            None => Err(ProgramsError::OlderEdition { found: FIRST_EDITION }),
            Some(entered) if entered.edition < EDITION => Err(ProgramsError::OlderEdition { found: entered.edition }),
            Some(entered) if *entered == EditionEntered::current(entered.first_positions.clone()) => Ok(()),
            Some(entered) => Err(ProgramsError::OtherEdition(Box::new(entered.clone()))),
        }
    }

    /// Takes a rulebook for `program`; tells its version and the entry for the stream, or none if it is the latest already.
    pub(crate) fn publish(&mut self, program: &Id, bytes: Vec<u8>, actor: CompactString, real_now: Moment) -> Result<(u32, Option<ProgramEntry>), Refusal> {
        let rulebook = parse(&bytes).map_err(Refusal::Invalid)?;
        if rulebook.program != *program {
            return Err(Refusal::Invalid(vec![Invalid::new("/program", &rulebook.program, format!("the program it is published for, {program}"))]));
        }
        let mut state = self.by_id.get(program).cloned().unwrap_or_default();
        if let Some(latest) = state.program.latest().filter(|latest| latest.rulebook == rulebook) {
            return Ok((latest.number, None));
        }
        let version = read_rulebook(rulebook, &state.program).map_err(Refusal::Invalid)?;
        let number = version.number;
        state.add(version, bytes.clone());
        self.by_id.insert(program.clone(), state);
        let change = ProgramChange::RulebookPublished { program: program.clone(), version: number, rulebook: bytes };
        Ok((number, Some(ProgramEntry { recorded_at: real_now, actor, change })))
    }

    /// Sets a sandbox's clock.
    pub(crate) fn set_clock(&mut self, program: &Id, now: Moment, real_now: Moment) -> Result<(), Refusal> {
        let state = self.by_id.get_mut(program).ok_or_else(|| Refusal::ProgramNotFound(program.clone()))?;
        if !state.program.is_sandbox() {
            return Err(Refusal::Clock(format!("program {program} is live: it runs on the real clock")));
        }
        let before = state.now(real_now);
        if now < before {
            return Err(Refusal::Clock(format!("the clock of {program} shows {before}; it can't go back to {now}")));
        }
        state.clock = Some(now);
        Ok(())
    }
}

impl ProgramState {
    fn add(&mut self, version: Version, bytes: Vec<u8>) {
        Arc::make_mut(&mut self.program).publish(Arc::new(version));
        self.rulebooks.push(Arc::new(bytes));
    }
}

/// Reads a rulebook's JSON strictly.
fn parse(bytes: &[u8]) -> Result<Rulebook, Vec<Invalid>> {
    read_json(bytes).map_err(|invalid| vec![invalid])
}
