//! What stands in the book, as the core's types.

use compact_str::CompactString;
use ledger_core::account::state::Balance;
use ledger_core::account::{Command, Event};
use ledger_core::edition::{CEL, EDITION, TIME_ZONES};
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;

use crate::closing::{Closing, Month};

/// A BLAKE3 hash.
pub type Hash = [u8; 32];

/// The hash of a record's bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}

/// One accepted command of one account.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Whose.
    pub key: AccountKey,
    /// 1, 2, 3 … within the account.
    pub account_seq: u64,
    /// With the kind, the idempotency key.
    pub command_id: Id,
    /// The kind of command.
    pub command_kind: CompactString,
    /// BLAKE3 of the command's content.
    pub content_hash: Hash,
    /// When it was decided, by the program's clock.
    pub recorded_at: Moment,
    /// When what it records took effect.
    pub effective_at: Moment,
    /// Who asked.
    pub actor: CompactString,
    /// The version of the rulebook that decided.
    pub rule_version: u32,
    /// The hash of the account's previous record; zeros for the first.
    pub previous_hash: Hash,
    /// What happened.
    pub events: Vec<Event>,
    /// What the account has after it.
    pub balance: Balance,
    /// The edition of the code that decided (see [`ledger_core::edition`]).
    pub edition: u32,
    /// How many entries of the program stream the decision used; none before edition 2.
    pub program_entries: Option<u64>,
}

/// A command that was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whose.
    pub key: AccountKey,
    /// What was asked.
    pub command: Command,
    /// When, by the program's clock.
    pub recorded_at: Moment,
    /// The rejection's number.
    pub number: u8,
    /// The rejection's code.
    pub code: String,
    /// The rejection in words.
    pub detail: String,
}

/// An entry of the program stream: something that is true from here on.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgramEntry {
    /// When, by the real clock.
    pub recorded_at: Moment,
    /// Who said so.
    pub actor: CompactString,
    /// What.
    pub change: ProgramChange,
}

/// What is true of a program, or of the whole book.
#[derive(Clone, Debug, PartialEq)]
pub enum ProgramChange {
    /// The book is decided by an edition from here on.
    EditionEntered(EditionEntered),
    /// The key by which the book's aliases are hashed.
    AliasKeyNamed(Fingerprint),
    /// A version of a program's rulebook.
    RulebookPublished {
        /// Which program.
        program: Id,
        /// 1, 2, 3 …
        version: u32,
        /// The rulebook as published, JSON.
        rulebook: Vec<u8>,
    },
    /// The clock of a sandbox program.
    ClockSet {
        /// Which program.
        program: Id,
        /// What it shows.
        now: Moment,
    },
    /// Somebody proposes to close a month of a program with these figures.
    ClosingProposed {
        /// Which program.
        program: Id,
        /// The month and its figures.
        closing: Box<Closing>,
    },
    /// Somebody else approved them: the month is closed.
    PeriodClosed {
        /// Which program.
        program: Id,
        /// The month.
        period: Month,
        /// The entry of the program stream that proposed it.
        proposed_in: u64,
    },
}

/// What tells a key from others, and nothing of it.
pub type Fingerprint = [u8; 16];

/// From where on a book is decided by an edition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditionEntered {
    /// The edition.
    pub edition: u32,
    /// The release of the time zone database that decides in it.
    pub time_zones: String,
    /// The version of the CEL implementation that decides in it.
    pub cel: String,
    /// By partition, the position of the first record decided in it.
    pub first_positions: Vec<u64>,
}

impl EditionEntered {
    /// The edition of this code, for a book whose partitions end at `first_positions`.
    #[must_use]
    pub fn current(first_positions: Vec<u64>) -> Self {
        Self { edition: EDITION, time_zones: TIME_ZONES.to_owned(), cel: CEL.to_owned(), first_positions }
    }
}
