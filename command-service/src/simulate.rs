//! What a command would do, without doing it.

use compact_str::CompactString;
use ledger_core::account::command::Action;
use ledger_core::account::{Account, Command, Context, Decision, Event, decide};
use ledger_core::id::Id;

use crate::limits::{self, Limits};
use crate::request::{Refusal, target};
use crate::service::Snapshot;

/// What would happen.
#[derive(Debug)]
pub struct Simulated {
    /// The account with what is due by now done.
    pub before: Account,
    /// The account after the command.
    pub after: Account,
    /// The command's events.
    pub events: Vec<Event>,
    /// The version of the rulebook that decides.
    pub rule_version: u32,
}

/// The purchase that a decision of `command` has to know of; it is to be asked for with the snapshot.
#[must_use]
pub fn purchase_of(command: &Command) -> Option<Id> {
    target(&command.action).filter(|(kind, _)| *kind == "purchase").map(|(_, id)| id.clone())
}

/// Decides `command` for the account of `snapshot` as the real one would be, and books nothing.
///
/// # Errors
/// The refusal that the real command would get.
pub fn simulate(snapshot: &Snapshot, command: &Command) -> Result<Simulated, Refusal> {
    let context = Context { program: &snapshot.program, now: snapshot.now, target_known: false };
    let id = Id::parse("simulate").expect("letters are an id");
    let due = Command { id, actor: CompactString::const_new("clock"), action: Action::Expire };
    let mut before = snapshot.account.clone();
    if let Ok(decision) = decide(&before, &due, &context) {
        evolve(&mut before, &decision);
    }
    limits::require_bounded(&before, &snapshot.program, command, snapshot.now, &Limits::default())?;
    let decision = decide(&before, command, &context)?;
    let mut after = before.clone();
    evolve(&mut after, &decision);
    Ok(Simulated { before, after, events: decision.events, rule_version: decision.rule_version })
}

fn evolve(account: &mut Account, decision: &Decision) {
    decision.events.iter().for_each(|event| account.evolve(event));
}
