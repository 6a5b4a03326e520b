//! What can be asked of the service and what it answers.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use event_log::{Partition, Position, ReplyTo};
use ledger_core::account::command::Action;
use ledger_core::account::{Account, Command, Rejection};
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::Invalid;
use ledger_core::time::Moment;
use ledger_schemas::{Fingerprint, Hash, Record};
use tokio::sync::{mpsc, oneshot};

use crate::admit::Admitted;
use crate::closings::{ClosingStep, PeriodRefusal};
use crate::service::Snapshot;

/// An accepted command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// What stands on the log.
    pub record: Arc<Record>,
    /// In which partition.
    pub partition: Partition,
    /// Where.
    pub position: Position,
    /// The command was accepted before, this is the first answer again.
    pub replayed: bool,
}

/// Why a request was not granted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Refusal {
    /// Its form is wrong.
    #[error("the request is malformed")]
    Invalid(Vec<Invalid>),
    /// There is no such program.
    #[error("there is no program {0}")]
    ProgramNotFound(Id),
    /// The rules say no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A clock is set only in a sandbox, only forwards.
    #[error("{0}")]
    Clock(String),
    /// A month can't be closed.
    #[error(transparent)]
    Period(#[from] PeriodRefusal),
    /// It could not be read or planned, so nothing was asked.
    #[error("{0}")]
    Unusable(String),
    /// More waits than is good; nothing was done.
    #[error("too many commands are waiting; nothing was done, try again")]
    Busy,
    /// The log failed in the middle.
    #[error("the log failed, so it is unknown whether the command was booked; sending it again with the same id is safe")]
    OutcomeUnknown,
    /// The aliases of the book are hashed by another key.
    #[error(
        "the book's aliases are hashed by another key than this process has: give it the file that the others have (--alias-key-file), or put the old alias.key back into the data folder"
    )]
    OtherAliasKey,
    /// What would go over the log has more bytes than a message may have.
    #[error("the {what} would have {bytes} bytes, more than the {bytes_max} that it may have (docs/limits.md); nothing was done")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many it would have.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// The account has as much as it may have.
    #[error("the account has {count} {what}, and may have {count_max} (docs/limits.md); nothing was done, and what takes away from it goes on")]
    AccountFull {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many it may have.
        count_max: usize,
    },
    /// A purchase would ask more conditions of bonuses than others may wait for.
    #[error(
        "the purchase has {lines} lines, and version {version} of the rulebook {conditions} bonuses: it would ask {asked} conditions, more than the {asked_max} that one purchase may (docs/limits.md); nothing was done. Send it in parts, or let the conditions begin with a comparison, such as line.sku == '…' &&, so that most lines need not ask them"
    )]
    TooManyConditions {
        /// How many lines it has.
        lines: usize,
        /// The version that rates it.
        version: u32,
        /// How many bonuses that has.
        conditions: usize,
        /// How many conditions would be asked.
        asked: usize,
        /// How many may be.
        asked_max: usize,
    },
    /// Whoever has the account did not answer.
    #[error("no answer came in {} s, so it is unknown whether the command was or will be booked; sending it again with the same id is safe", .0.as_secs())]
    NoAnswer(Duration),
    /// The rules say no, as another process tells.
    #[error("{detail}")]
    Told {
        /// The rejection's number.
        number: u8,
        /// Its code.
        code: String,
        /// In words.
        detail: String,
    },
    /// A record of the account can't be read, so nothing can be decided for it.
    #[error("the account is stopped: this version can't read or follow {0}; nothing was done")]
    Stopped(String),
    /// The account's partition is another process's.
    #[error("another process has the account")]
    NotHere,
}

impl Refusal {
    /// Whether nothing is decided: to ask again may help, and is safe.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::OutcomeUnknown | Self::NoAnswer(_) | Self::NotHere)
    }

    /// The stable code, as in the API's errors.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Invalid(_) | Self::Unusable(_) => "malformed",
            Self::ProgramNotFound(_) => "program_not_found",
            Self::Rejected(rejection) => rejection.code(),
            Self::Told { code, .. } => code,
            Self::Clock(_) => "clock",
            Self::Period(refusal) => refusal.code(),
            Self::Stopped(_) => "account_stopped",
            Self::OtherAliasKey => "other_alias_key",
            Self::TooLarge { .. } => "too_large",
            Self::AccountFull { .. } => "account_full",
            Self::TooManyConditions { .. } => "too_many_conditions",
            Self::Busy => "too_many_requests",
            Self::OutcomeUnknown | Self::NoAnswer(_) | Self::NotHere => "outcome_unknown",
        }
    }
}

/// The kinds and ids that part 1, 2, … of a plan may have been booked under.
pub(crate) type Parts = Box<dyn Fn(u32) -> Vec<(&'static str, Id)> + Send>;

/// From an account's state, the commands to decide and book together, or why there are none.
pub(crate) type Plan = Box<dyn FnOnce(&Account) -> Result<Vec<Command>, String> + Send>;
type Outcome = Result<Answer, Refusal>;

/// What became of one of many commands: booked now, or read back where the answer says `replayed`; `None` stands for a command that was
/// booked before, whose record nobody needs.
pub type SourceOutcome = Result<Option<Answer>, Refusal>;

/// To whom the answer goes.
pub(crate) enum Reply {
    One(oneshot::Sender<Outcome>),
    /// Over the log, together with what was booked; none where nobody waits.
    Log(Option<ReplyTo>),
    /// One of many, told apart by a tag.
    Many(mpsc::UnboundedSender<(u64, SourceOutcome)>, u64),
}

impl Reply {
    /// Another answer to the same asker, where there can be several.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::One(_) | Self::Log(_) => None,
            Self::Many(sender, tag) => Some(Self::Many(sender.clone(), *tag)),
        }
    }

    /// Whoever asked may have gone; then nobody is told.
    pub(crate) fn send(self, outcome: Outcome) {
        match self {
            Self::One(sender) => drop(sender.send(outcome)),
            // Staged with the batch before.
            Self::Log(_) => {}
            Self::Many(sender, tag) => drop(sender.send((tag, outcome.map(Some)))),
        }
    }
}

pub(crate) enum Request {
    Command {
        asked: Result<Admitted, Invalid>,
        reply: Reply,
    },
    /// A command that is booked only where `before` was, with the content that is told; else it is refused, and `why` is told.
    After {
        before: Option<(CommandKey, Hash)>,
        asked: Box<Result<Admitted, Invalid>>,
        why: String,
        reply: Reply,
    },
    /// Commands that depend on the account's state, unless the first of them was booked before.
    Plan {
        key: AccountKey,
        parts: Parts,
        plan: Plan,
        reply: Reply,
    },
    Publish {
        program: Id,
        rulebook: Vec<u8>,
        actor: CompactString,
        reply: oneshot::Sender<Result<(u32, bool), Refusal>>,
    },
    Closing {
        program: Id,
        step: ClosingStep,
        actor: CompactString,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    NameAliasKey {
        fingerprint: Fingerprint,
        actor: CompactString,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    SetClock {
        program: Id,
        now: Moment,
        actor: CompactString,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Snapshot {
        key: AccountKey,
        reply: oneshot::Sender<Result<Option<Snapshot>, Refusal>>,
    },
    /// Answered when all that was asked before is on the log.
    Flush {
        reply: oneshot::Sender<()>,
    },
    /// Ends the loop when all that was asked before is on the log.
    Stop,
}

/// The idempotency key of a command: BLAKE3 of account, kind and id, cut to 16 bytes. The kinds of a hold share one key with the
/// redemption they belong to only where their own id says so.
pub(crate) type CommandKey = [u8; 16];

/// `name` is the account's key as it is written.
pub(crate) fn command_key(name: &str, kind: &str, id: &Id) -> CommandKey {
    // In one piece, which is hashed in half the time of several.
    let hash = blake3::hash([name, kind, id.as_str(), ""].join("\0").as_bytes());
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// The purchase or redemption that a command refers to.
pub(crate) fn target(action: &Action) -> Option<(&'static str, &Id)> {
    match action {
        Action::Return(body) => Some(("purchase", &body.purchase_id)),
        Action::Capture { redemption, .. } | Action::Release { redemption } | Action::ReturnRedemption { redemption, .. } => Some(("redemption", redemption)),
        _ => None,
    }
}
