//! Deciding again: the command is made from its record, and decided by the rules of then.

use std::collections::BTreeMap;
use std::sync::Arc;

use event_log::{Partition, Position};
use ledger_core::account::command::Action;
use ledger_core::account::event::Part;
use ledger_core::account::{Account, Command, Context, EventKind, decide};
use ledger_core::edition::{EDITION, FIRST_EDITION};
use ledger_core::id::Id;
use ledger_core::policy::{Program, Rulebook, compile_rulebook};
use ledger_core::time::{MINUTE_US, Moment};
use ledger_schemas::{EditionEntered, ProgramChange, ProgramEntry, Record, content_hash};

use crate::AuditError;

/// The program stream: every program with its rulebooks as they were published, one after the other, and the editions that decided.
#[derive(Default)]
pub struct Programs {
    /// The program with the first version, with the first two, and so on, each with the number of the entry that published the last of them.
    by_id: BTreeMap<Id, Vec<(u64, Program)>>,
    /// The editions that the book entered, in their order.
    editions: Vec<EditionEntered>,
    /// How many entries there are.
    entries: u64,
}

impl Programs {
    /// From the entries of the program stream.
    ///
    /// # Errors
    /// [`AuditError::Wrong`], where an entry can't be read.
    pub fn read(entries: &[Vec<u8>]) -> Result<Self, AuditError> {
        let mut programs = Self { entries: entries.len() as u64, ..Self::default() };
        for (i, bytes) in entries.iter().enumerate() {
            let wrong = |what: String| AuditError::Wrong(format!("entry {i} of the program stream: {what}"));
            let entry = ProgramEntry::decode(bytes).map_err(|error| wrong(error.to_string()))?;
            match entry.change {
                ProgramChange::RulebookPublished { program, rulebook, .. } => {
                    let rulebook = serde_json::from_slice(&rulebook).map_err(|error| wrong(error.to_string()))?;
                    programs.publish(i as u64, program, rulebook).map_err(wrong)?;
                }
                ProgramChange::EditionEntered(entered) => programs.enter(entered).map_err(wrong)?,
                ProgramChange::ClockSet { .. } | ProgramChange::AliasKeyNamed(_) => {}
                ProgramChange::ClosingProposed { .. } | ProgramChange::PeriodClosed { .. } => {}
            }
        }
        Ok(programs)
    }

    fn publish(&mut self, entry: u64, id: Id, rulebook: Rulebook) -> Result<(), String> {
        let stages = self.by_id.entry(id).or_default();
        let mut program = stages.last().map(|(_, program)| program.clone()).unwrap_or_default();
        let version = compile_rulebook(rulebook, &program).map_err(|invalid| invalid.first().map(ToString::to_string).unwrap_or_default())?;
        program.publish(Arc::new(version));
        stages.push((entry, program));
        Ok(())
    }

    fn enter(&mut self, entered: EditionEntered) -> Result<(), String> {
        if let Some(before) = self.editions.last() {
            let goes_back = before.first_positions.iter().zip(&entered.first_positions).any(|(before, after)| after < before);
            if entered.edition <= before.edition || goes_back || entered.first_positions.len() != before.first_positions.len() {
                return Err(format!("it enters edition {} after edition {}, or at earlier positions", entered.edition, before.edition));
            }
        }
        self.editions.push(entered);
        Ok(())
    }

    /// The program with all its rulebooks.
    #[must_use]
    pub fn latest(&self, id: &Id) -> Option<&Program> {
        self.by_id.get(id).and_then(|stages| stages.last()).map(|(_, program)| program)
    }

    /// The edition that decided the record at `position` of `partition`.
    #[must_use]
    pub fn edition_at(&self, partition: Partition, position: Position) -> u32 {
        let is_reached = |entered: &&EditionEntered| entered.first_positions.get(usize::from(partition)).is_some_and(|first| *first <= position);
        self.editions.iter().rev().find(is_reached).map_or(FIRST_EDITION, |entered| entered.edition)
    }
}

fn sum(parts: &[Part]) -> i64 {
    parts.iter().map(|part| part.points).sum()
}

fn action(record: &Record) -> Option<Action> {
    let find = |f: &dyn Fn(&EventKind) -> Option<Action>| record.events.iter().find_map(|event| f(&event.kind));
    match record.command_kind.as_str() {
        "open" => Some(Action::Open),
        "activate" => Some(Action::Activate),
        "expire" => Some(Action::Expire),
        _ => find(&|kind| {
            Some(match (record.command_kind.as_str(), kind) {
                ("freeze", EventKind::AccountFrozen(reason)) => Action::Freeze(reason.clone()),
                ("unfreeze", EventKind::AccountUnfrozen { reason, .. }) => Action::Unfreeze(reason.clone()),
                ("close", EventKind::AccountClosed(reason)) => Action::Close(reason.clone()),
                ("purchase", EventKind::PointsEarned(earned)) => Action::Earn(Arc::clone(&earned.purchase)),
                ("redemption", EventKind::PointsRedeemed(spent)) => Action::Redeem { points: sum(&spent.parts), occurred_at: Some(record.effective_at) },
                ("redemption", EventKind::PointsHeld { parts, lapses_at, .. }) => {
                    // A till whose clock runs ahead holds from now on.
                    let us = lapses_at.as_micros() - record.effective_at.min(record.recorded_at).as_micros();
                    Action::Hold { points: sum(parts), minutes: u32::try_from(us / MINUTE_US).ok(), occurred_at: Some(record.effective_at) }
                }
                ("capture", EventKind::HoldCaptured(spent)) => Action::Capture { redemption: spent.redemption.clone(), points: Some(sum(&spent.parts)) },
                ("release", EventKind::HoldReleased { redemption, lapsed: false, .. }) => Action::Release { redemption: redemption.clone() },
                ("redemption_return", EventKind::RedemptionReturned { redemption, parts, .. }) => {
                    Action::ReturnRedemption { redemption: redemption.clone(), points: Some(sum(parts)) }
                }
                ("return", EventKind::PurchaseReturned(reversed)) => Action::Return(Arc::clone(&reversed.body)),
                ("refund", EventKind::RefundBooked { body, .. }) => Action::Refund(body.clone()),
                ("adjustment", EventKind::PointsAdded { lot, reason, .. }) => Action::Adjust { points: lot.points, reason: reason.clone() },
                ("adjustment", EventKind::PointsTaken { parts, reason, .. }) => Action::Adjust { points: -sum(parts), reason: reason.clone() },
                ("proposal", EventKind::AdjustmentProposed(asked)) => Action::Propose { points: asked.points, reason: asked.reason.clone() },
                ("approval", EventKind::AdjustmentApproved { proposal }) => Action::Approve { proposal: proposal.clone() },
                ("proposal_decline", EventKind::AdjustmentDeclined { proposal, reason }) => {
                    Action::Decline { proposal: proposal.clone(), reason: reason.clone() }
                }
                ("alias", EventKind::AliasAdded(alias)) => Action::AddAlias(*alias),
                ("alias_removal", EventKind::AliasRemoved(alias)) => Action::RemoveAlias(*alias),
                _ => return None,
            })
        }),
    }
}

/// What may have been asked where `said`, which says all that a record tells, was done: a hold may have left its time to the rulebook, a capture or return
/// have meant the rest, a redemption not have said that it occurred as it was told.
fn meanings(said: Action, record: &Record) -> Vec<Action> {
    let is_now = |occurred_at: &Option<Moment>| *occurred_at == Some(record.recorded_at);
    match said {
        Action::Redeem { points, occurred_at } if is_now(&occurred_at) => vec![Action::Redeem { points, occurred_at: None }, said],
        Action::Hold { points, minutes, occurred_at } => {
            let whens = [is_now(&occurred_at).then_some(None), Some(occurred_at)].into_iter().flatten();
            whens.flat_map(|occurred_at| [minutes, None].map(|minutes| Action::Hold { points, minutes, occurred_at })).collect()
        }
        Action::Capture { ref redemption, .. } => {
            let rest = Action::Capture { redemption: redemption.clone(), points: None };
            vec![said, rest]
        }
        Action::ReturnRedemption { ref redemption, .. } => {
            let rest = Action::ReturnRedemption { redemption: redemption.clone(), points: None };
            vec![said, rest]
        }
        said => vec![said],
    }
}

/// The command that `record` answers, if the record tells it and its content's hash agrees.
fn command_of(record: &Record, name: &str, scratch: &mut Vec<u8>) -> Option<Command> {
    let command = |action| Command { id: record.command_id.clone(), actor: record.actor.clone(), action };
    meanings(action(record)?, record).into_iter().map(command).find(|command| content_hash(name, command, scratch) == record.content_hash)
}

/// The same where the record is believed, as verifying is not what it is read for. Only what it doesn't say itself is found by the hash.
pub(crate) fn command_believed(record: &Record, name: &str, scratch: &mut Vec<u8>) -> Option<Command> {
    match action(record)? {
        Action::Redeem { .. } | Action::Hold { .. } | Action::Capture { .. } | Action::ReturnRedemption { .. } => command_of(record, name, scratch),
        action => Some(Command { id: record.command_id.clone(), actor: record.actor.clone(), action }),
    }
}

/// Decides the commands of one partition again.
pub struct Again<'a> {
    programs: &'a Programs,
    scratch: Vec<u8>,
}

impl<'a> Again<'a> {
    /// By the rulebooks of `programs`.
    #[must_use]
    pub fn new(programs: &'a Programs) -> Self {
        Self { programs, scratch: Vec::new() }
    }

    /// Whether deciding again on `account`, as it was before, comes to what `record`, at `position` of `partition`, says. Records of an older
    /// edition than this code decides by can't be decided again here.
    ///
    /// # Errors
    /// In words, why not.
    pub fn agrees(&mut self, account: &Account, record: &Record, name: &str, (partition, position): (Partition, Position)) -> Result<(), String> {
        let edition = self.programs.edition_at(partition, position);
        if record.edition != edition {
            return Err(format!("it says that edition {} decided it; at its position edition {edition} did", record.edition));
        }
        if edition > EDITION {
            return Err(format!("it was decided by edition {edition}; this release decides by edition {EDITION}: verify with a later release"));
        }
        if edition < EDITION {
            return Ok(());
        }
        let command = command_of(record, name, &mut self.scratch).ok_or("its command can't be made from it, or has another hash than it says")?;
        let stages = self.programs.by_id.get(&record.key.program).ok_or("its program has no rulebook")?;
        let entries = record.program_entries.ok_or("it does not say how much of the program stream its decision used")?;
        if entries > self.programs.entries {
            return Err(format!("it says that its decision used {entries} entries of the program stream, which has {}", self.programs.entries));
        }
        let published = stages.iter().rev().find(|(entry, _)| *entry < entries);
        let (_, program) = published.ok_or_else(|| format!("its program had no rulebook among the first {entries} entries of the program stream"))?;
        match decide(account, &command, &Context { program, now: record.recorded_at, target_known: false }) {
            Ok(decision) if decision.events == record.events && decision.rule_version == record.rule_version => Ok(()),
            Ok(_) => Err("decided again it comes to other events".into()),
            Err(rejection) => Err(format!("decided again it is refused: {rejection}")),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use ledger_core::account::Event;
    use ledger_core::account::event::Spent;
    use ledger_core::account::state::Balance;
    use ledger_core::id::AccountKey;
    use ledger_core::points::Amount;
    use ledger_core::time::Moment;

    use super::*;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    fn now() -> Moment {
        Moment::parse("2026-02-01T00:10:00Z").unwrap()
    }

    fn record(command: &Command, kind: EventKind, effective_at: Moment) -> Record {
        let key = AccountKey { program: id("shop"), account: id("a") };
        Record {
            account_seq: 2,
            command_id: command.id.clone(),
            command_kind: command.action.kind().into(),
            content_hash: content_hash(&key.name(), command, &mut Vec::new()),
            recorded_at: now(),
            effective_at,
            actor: command.actor.clone(),
            rule_version: 1,
            previous_hash: [0; 32],
            events: vec![Event { at: effective_at, kind }],
            balance: Balance::default(),
            edition: EDITION,
            program_entries: Some(1),
            key,
        }
    }

    fn same_again(action: Action, kind: EventKind, effective_at: Moment) {
        let sent = Command { id: id("x"), actor: "till-7".into(), action };
        let record = record(&sent, kind, effective_at);
        assert_eq!(command_of(&record, "shop/a", &mut Vec::new()).as_ref(), Some(&sent));
        assert_eq!(command_believed(&record, "shop/a", &mut Vec::new()), Some(sent));
    }

    #[test]
    fn a_command_is_made_from_its_record_as_it_was_sent() {
        let parts = || vec![Part { lot: 1, points: 30, pending: false }, Part { lot: 2, points: 40, pending: false }];
        let spent = || Spent { redemption: id("r"), parts: parts(), value: Amount::ONE, return_until: Moment::default(), rate: None };
        for points in [Some(70), None] {
            same_again(Action::Capture { redemption: id("r"), points }, EventKind::HoldCaptured(spent()), now());
            let returned = EventKind::RedemptionReturned { return_id: id("x"), redemption: id("r"), parts: parts(), value: None };
            same_again(Action::ReturnRedemption { redemption: id("r"), points }, returned, now());
        }
        for occurred_at in [None, Some(now()), Some(now().plus_micros(-20 * MINUTE_US))] {
            let at = occurred_at.unwrap_or(now());
            same_again(Action::Redeem { points: 70, occurred_at }, EventKind::PointsRedeemed(spent()), at);
            for minutes in [None, Some(45)] {
                let lapses_at = at.plus_micros(45 * MINUTE_US);
                let held = EventKind::PointsHeld { redemption: id("r"), parts: parts(), lapses_at };
                same_again(Action::Hold { points: 70, minutes, occurred_at }, held, at);
            }
        }
    }
}
