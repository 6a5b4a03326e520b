//! Asking over the log whoever has the account.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use event_log::{Asker, EventLog, LogError, Partition, Position, partition_of};
use ledger_core::account::{Account, Command};
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;
use ledger_schemas::v1::reply::Kind;
use ledger_schemas::{Ask, Fingerprint, What, v1};
use prost::Message;

use crate::closings::ClosingStep;
use crate::commit::answer_at;
use crate::limits::{self, Limits};
use crate::request::{Answer, Refusal};
use crate::wire::refusal;

/// Asks over the log.
pub(crate) struct Remote {
    log: Arc<dyn EventLog>,
    asker: Arc<dyn Asker>,
    patience: Duration,
    limits: Limits,
}

impl Remote {
    /// Over `log`, waiting for an answer at most `patience`; none where the log can't be shared.
    pub(crate) async fn open(log: &Arc<dyn EventLog>, patience: Duration, limits: Limits) -> Result<Option<Self>, LogError> {
        let asker = log.asker().await?;
        Ok(asker.map(|asker| Self { log: Arc::clone(log), asker, patience, limits }))
    }

    pub(crate) fn partition(&self, key: &AccountKey) -> Partition {
        partition_of(&key.to_string(), self.log.partitions())
    }

    pub(crate) fn partitions(&self) -> Partition {
        self.log.partitions()
    }

    async fn ask(&self, partition: Partition, key: &str, program_entries: Position, what: What) -> Result<Kind, Refusal> {
        let body = Ask { program_entries, what }.encode();
        limits::require("command", body.len(), self.limits.command_bytes)?;
        let answer = self.asker.ask(partition, key, &body, self.patience).await;
        let answer = answer.map_err(|error| {
            tracing::warn!(%error, "a question could not be sent");
            Refusal::Busy
        })?;
        let reply = answer.and_then(|bytes| v1::Reply::decode(&*bytes).ok()).and_then(|reply| reply.kind);
        reply.ok_or(Refusal::NoAnswer(self.patience))
    }

    pub(crate) async fn command(&self, key: AccountKey, command: Command, program_entries: Position) -> Result<Answer, Refusal> {
        let (name, program) = (key.to_string(), key.program.clone());
        let partition = partition_of(&name, self.partitions());
        match self.ask(partition, &name, program_entries, What::Command(key, command)).await? {
            Kind::Accepted(accepted) => answer_at(&*self.log, partition, accepted.position, accepted.replayed).await,
            other => Err(unexpected(other, &program)),
        }
    }

    /// Tells the version, whether it is new, and how many entries the program stream has with it.
    pub(crate) async fn publish(&self, program: Id, rulebook: Vec<u8>, actor: CompactString, entries: Position) -> Result<(u32, bool, Position), Refusal> {
        let what = What::Publish { program: program.clone(), rulebook, actor };
        match self.ask(0, program.as_str(), entries, what).await? {
            Kind::Published(published) => Ok((published.version, published.is_new, published.program_entries)),
            other => Err(unexpected(other, &program)),
        }
    }

    /// Tells how many entries the program stream has with a step of closing a month.
    pub(crate) async fn closing(&self, program: Id, step: ClosingStep, actor: CompactString, entries: Position) -> Result<Position, Refusal> {
        let what = match step {
            ClosingStep::Propose(closing) => What::ProposeClosing { program: program.clone(), closing, actor },
            ClosingStep::Approve { period, proposed_in } => What::ApproveClosing { program: program.clone(), period, proposed_in, actor },
        };
        match self.ask(0, program.as_str(), entries, what).await? {
            Kind::Published(published) => Ok(published.program_entries),
            other => Err(unexpected(other, &program)),
        }
    }

    /// Tells how many entries the program stream has with it.
    pub(crate) async fn name_alias_key(&self, fingerprint: Fingerprint, actor: CompactString, entries: Position) -> Result<Position, Refusal> {
        match self.ask(0, "", entries, What::NameAliasKey { fingerprint, actor }).await? {
            Kind::Published(published) => Ok(published.program_entries),
            Kind::Refused(refused) if refused.code == Refusal::OtherAliasKey.code() => Err(Refusal::OtherAliasKey),
            _ => Err(Refusal::OutcomeUnknown),
        }
    }

    pub(crate) async fn set_clock(&self, program: Id, now: Moment, actor: CompactString, entries: Position) -> Result<Position, Refusal> {
        match self.ask(0, program.as_str(), entries, What::SetClock { program: program.clone(), now, actor }).await? {
            Kind::Published(published) => Ok(published.program_entries),
            other => Err(unexpected(other, &program)),
        }
    }

    /// Returns when whoever has `partition` has done what is due of the program.
    pub(crate) async fn settle(&self, partition: Partition, program: Id, entries: Position) -> Result<(), Refusal> {
        match self.ask(partition, program.as_str(), entries, What::Settle(program.clone())).await? {
            Kind::Done(_) => Ok(()),
            other => Err(unexpected(other, &program)),
        }
    }

    pub(crate) async fn snapshot(&self, key: AccountKey, purchase: Option<Id>, entries: Position) -> Result<(Account, Moment), Refusal> {
        let (name, program) = (key.to_string(), key.program.clone());
        let partition = partition_of(&name, self.partitions());
        match self.ask(partition, &name, entries, What::Snapshot(key, purchase)).await? {
            Kind::Snapshot(snapshot) => {
                let (mut account, purchases): (Account, _) = postcard::from_bytes(&snapshot.account).map_err(|_| Refusal::OutcomeUnknown)?;
                account.purchases = purchases;
                Ok((account, Moment::from_micros(snapshot.now_us).ok_or(Refusal::OutcomeUnknown)?))
            }
            other => Err(unexpected(other, &program)),
        }
    }
}

fn unexpected(reply: Kind, program: &Id) -> Refusal {
    match reply {
        Kind::Refused(refused) => refusal(refused, program),
        _ => Refusal::OutcomeUnknown,
    }
}
