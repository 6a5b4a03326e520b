//! What is asked of a command service over the log.

use compact_str::CompactString;
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;
use prost::Message;

use crate::closing::{Closing, Month};
use crate::decode::command;
use crate::decode_error::DecodeError;
use crate::encode::command as encode_command;
use crate::fields::{bad, check_version, fingerprint, id, moment, month};
use crate::record::Fingerprint;
use crate::schema_version::SCHEMA_VERSION;
use crate::v1;
use crate::wire::Wire;

/// A question.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// How many entries of the program stream the asker had seen.
    pub program_entries: u64,
    /// What.
    pub what: What,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Decide and book a command.
    Command(AccountKey, Command),
    /// Publish a rulebook.
    Publish {
        /// The program.
        program: Id,
        /// JSON.
        rulebook: Vec<u8>,
        /// Who asks.
        actor: CompactString,
    },
    /// Set a sandbox's clock.
    SetClock {
        /// The program.
        program: Id,
        /// What it is to show.
        now: Moment,
        /// Who asks.
        actor: CompactString,
    },
    /// Propose to close a month.
    ProposeClosing {
        /// The program.
        program: Id,
        /// The month and its figures.
        closing: Box<Closing>,
        /// Who asks.
        actor: CompactString,
    },
    /// Approve what somebody else proposed: close the month.
    ApproveClosing {
        /// The program.
        program: Id,
        /// The month.
        period: Month,
        /// The entry of the program stream with the figures that are approved.
        proposed_in: u64,
        /// Who asks.
        actor: CompactString,
    },
    /// Name the key by which aliases are hashed, unless one is named.
    NameAliasKey {
        /// The key's.
        fingerprint: Fingerprint,
        /// Who asks.
        actor: CompactString,
    },
    /// Do what is due by the program's clock.
    Settle(Id),
    /// Tell how the account stands; of its purchases, which may be large, only the one that is named, if it is there.
    Snapshot(AccountKey, Option<Id>),
}

impl Ask {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        let mut to = Wire(&mut out);
        to.uint(1, SCHEMA_VERSION);
        let (program, account) = match &self.what {
            What::Command(key, _) | What::Snapshot(key, _) => (key.program.as_str(), key.account.as_str()),
            What::Publish { program, .. } | What::SetClock { program, .. } | What::Settle(program) => (program.as_str(), ""),
            What::ProposeClosing { program, .. } | What::ApproveClosing { program, .. } => (program.as_str(), ""),
            What::NameAliasKey { .. } => ("", ""),
        };
        to.text(2, program);
        to.text(3, account);
        to.uint(4, self.program_entries);
        match &self.what {
            What::Command(_, command) => to.message(5, |to| encode_command(to, command)),
            What::Publish { rulebook, actor, .. } => to.message(6, |to| {
                to.bytes(1, rulebook);
                to.text(2, actor);
            }),
            What::SetClock { now, actor, .. } => to.message(7, |to| {
                to.int(1, now.as_micros());
                to.text(2, actor);
            }),
            What::Settle(_) => to.message(8, |_| {}),
            What::Snapshot(_, purchase) => {
                to.message(9, |_| {});
                to.text(13, purchase.as_ref().map_or("", Id::as_str));
            }
            What::ProposeClosing { closing, actor, .. } => to.message(10, |to| {
                to.message(1, |to| closing.encode(to));
                to.text(2, actor);
            }),
            What::ApproveClosing { period, proposed_in, actor, .. } => to.message(11, |to| {
                to.text(1, &period.to_string());
                to.uint(2, *proposed_in);
                to.text(3, actor);
            }),
            What::NameAliasKey { fingerprint, actor } => to.message(12, |to| {
                to.bytes(1, fingerprint);
                to.text(2, actor);
            }),
        }
        out
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but a whole question of a schema that this program knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        use v1::ask::Kind;
        let message = v1::Ask::decode(bytes)?;
        check_version(message.schema_version)?;
        let program = || id(&message.program, "program");
        let key = || Ok::<_, DecodeError>(AccountKey { program: program()?, account: id(&message.account, "account")? });
        let what = match message.kind.ok_or_else(|| bad("kind"))? {
            Kind::NameAliasKey(named) => What::NameAliasKey { fingerprint: fingerprint(&named.fingerprint)?, actor: named.actor.into() },
            Kind::Command(asked) => What::Command(key()?, command(asked)?),
            Kind::Publish(publish) => What::Publish { program: program()?, rulebook: publish.rulebook, actor: publish.actor.into() },
            Kind::SetClock(set) => What::SetClock { program: program()?, now: moment(set.now_us, "now_us")?, actor: set.actor.into() },
            Kind::ProposeClosing(proposed) => {
                let closing = Box::new(Closing::decode(proposed.closing.ok_or_else(|| bad("closing"))?)?);
                What::ProposeClosing { program: program()?, closing, actor: proposed.actor.into() }
            }
            Kind::ApproveClosing(approved) => {
                let period = month(&approved.period, "period")?;
                What::ApproveClosing { program: program()?, period, proposed_in: approved.proposed_in, actor: approved.actor.into() }
            }
            Kind::Settle(_) => What::Settle(program()?),
            Kind::Snapshot(_) => {
                let purchase = if message.purchase_id.is_empty() { None } else { Some(id(&message.purchase_id, "purchase_id")?) };
                What::Snapshot(key()?, purchase)
            }
        };
        Ok(Self { program_entries: message.program_entries, what })
    }
}
