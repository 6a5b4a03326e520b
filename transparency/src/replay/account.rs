//! One account decided twice: as it was, and again under the other rulebook.
//!
//! A refused command does not say after which record of its account it came, only when. Of a record's moment it is the first place at which it
//! would be refused for the same reason by the rules of then. Where there is none, it is left alone: not the rules had refused it (its id was
//! used before), or two processes' clocks were apart. So under the same rules nothing is different.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};

use ledger_core::account::command::Action;
use ledger_core::account::decide::due_at;
use ledger_core::account::{Account, Command, Context, decide};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::policy::Program;
use ledger_core::time::Moment;
use ledger_schemas::{Hash, Outcome, Record, hash};

use super::Standing;
use crate::again::command_believed;

/// By which rules it was decided, and by which it is decided again from when on.
pub(super) struct Rules {
    pub was: Program,
    pub would_be: Program,
    pub since: Moment,
    /// Whether it is the edition that is another. An older one may have refused for reasons that this one never gives.
    pub by_edition: bool,
}

/// The code of a command whose id was used before: no rules refused it.
const ID_REUSED: &str = "id_reused";

/// One account, as it is and as it would be.
pub(super) struct Twice<'a> {
    rules: &'a Rules,
    name: &'a str,
    is: Account,
    /// From the first command on that is decided again.
    would_be: Option<Account>,
    /// What was refused and is still to come, in its order.
    refusals: VecDeque<Outcome>,
    refused: u64,
    /// What was refused and would be granted, by kind and id: sent again, it would hear that answer.
    granted: HashSet<(&'static str, Id)>,
    scratch: Vec<u8>,
}

/// What came of it.
pub(super) struct Ended<'a> {
    rules: &'a Rules,
    pub name: &'a str,
    is: Account,
    /// Its number, and its hash.
    pub last_record: (u64, Hash),
    would_be: Account,
    now: Moment,
    pub refused: u64,
    pub granted: u64,
}

/// What `points` are worth at `now`.
pub(super) fn worth(program: &Program, points: i64, now: Moment) -> Option<Amount> {
    program.at(now)?.rulebook.redeem.value.money(points)
}

fn is_due(account: &Account, program: &Program, now: Moment) -> bool {
    due_at(account, program).is_some_and(|at| at <= now)
}

/// Does what is due of the account by `now`.
fn settle(account: &mut Account, program: &Program, now: Moment) {
    if !is_due(account, program, now) {
        return;
    }
    let command = Command { id: Id::parse("due").expect("letters are an id"), actor: "clock".into(), action: Action::Expire };
    decide_again(account, &command, program, now);
}

/// Stands for the hash of a record that is not the account's last.
const NOT_ASKED: Hash = [0; 32];

impl<'a> Twice<'a> {
    /// The account `name` (`PROGRAM/ACCOUNT`) before its first record; of it `refusals` were refused.
    pub fn new(rules: &'a Rules, name: &'a str, refusals: VecDeque<Outcome>) -> Self {
        Self { rules, name, is: Account::default(), would_be: None, refusals, refused: 0, granted: HashSet::new(), scratch: Vec::new() }
    }

    /// Takes the account's next record.
    pub fn record(&mut self, record: &Record) {
        self.refusals_by(Some(record.recorded_at));
        // As it was before this record, if nothing was decided again yet.
        let before = (record.recorded_at >= self.rules.since && self.would_be.is_none()).then(|| self.is.clone());
        record.events.iter().for_each(|event| self.is.evolve(event));
        self.is.seal(record.recorded_at, NOT_ASKED);
        if record.recorded_at < self.rules.since {
            return;
        }
        let would_be = self.would_be.get_or_insert_with(|| before.unwrap_or_default());
        let program = &self.rules.would_be;
        settle(would_be, program, record.recorded_at);
        let Some(command) = command_believed(record, self.name, &mut self.scratch).filter(|command| command.action != Action::Expire) else { return };
        let is_answered = !self.granted.is_empty() && self.granted.contains(&(command.action.kind(), command.id.clone()));
        if !is_answered && !decide_again(would_be, &command, program, record.recorded_at) {
            self.refused += 1;
        }
    }

    /// Decides again what was refused before a record of `next`, or at all, as far as this is the place for it.
    fn refusals_by(&mut self, next: Option<Moment>) {
        while let Some(refusal) = self.refusals.front().filter(|refusal| next.is_none_or(|next| refusal.recorded_at <= next)) {
            let is_here = self.is_here(refusal) || (self.rules.by_edition && refusal.code != ID_REUSED && next != Some(refusal.recorded_at));
            if !is_here && next == Some(refusal.recorded_at) {
                // After the record perhaps.
                return;
            }
            let Some(Outcome { command, recorded_at, .. }) = self.refusals.pop_front().filter(|_| is_here) else { continue };
            let would_be = self.would_be.get_or_insert_with(|| self.is.clone());
            settle(would_be, &self.rules.would_be, recorded_at);
            let named = (command.action.kind(), command.id.clone());
            if !self.granted.contains(&named) && decide_again(would_be, &command, &self.rules.would_be, recorded_at) {
                self.granted.insert(named);
            }
        }
    }

    /// Whether the account as it is shows the reason for which it was refused.
    fn is_here(&self, refusal: &Outcome) -> bool {
        let (program, now) = (&self.rules.was, refusal.recorded_at);
        let mut account = Cow::Borrowed(&self.is);
        if is_due(&account, program, now) {
            settle(account.to_mut(), program, now);
        }
        decide(&account, &refusal.command, &Context { program, now, target_known: false }).is_err_and(|why| why.code() == refusal.code)
    }

    /// Both as they stand at `last`, if nothing is later; `newest` are the bytes of the account's last record.
    pub fn end(mut self, last: Moment, newest: Option<&[u8]>) -> Ended<'a> {
        self.refusals_by(None);
        // Nothing asks for the hashes before the last one, and each takes a third as long as reading the record.
        let last_record = (self.is.seq, newest.map_or(NOT_ASKED, hash));
        let mut would_be = self.would_be.take().unwrap_or_else(|| self.is.clone());
        let now = last.max(self.is.recorded_at).max(would_be.recorded_at);
        settle(&mut self.is, &self.rules.was, now);
        settle(&mut would_be, &self.rules.would_be, now);
        Ended { rules: self.rules, name: self.name, is: self.is, last_record, would_be, now, refused: self.refused, granted: self.granted.len() as u64 }
    }
}

/// Whether `command` is granted now.
fn decide_again(account: &mut Account, command: &Command, program: &Program, now: Moment) -> bool {
    let Ok(decision) = decide(account, command, &Context { program, now, target_known: false }) else { return false };
    decision.events.iter().for_each(|event| account.evolve(event));
    account.seal(now, NOT_ASKED);
    true
}

impl Ended<'_> {
    /// As it is, and as it would be.
    pub fn standings(&self) -> (Standing, Standing) {
        let told = |account: &Account, program: &Program| {
            let balance = account.balance_at(self.now);
            let outstanding = balance.available - balance.lapsed + balance.pending + balance.held;
            let liability = worth(program, outstanding, self.now);
            Standing { points: outstanding - balance.owed, outstanding, liability, tier: account.standing.tier.to_string() }
        };
        (told(&self.is, &self.rules.was), told(&self.would_be, &self.rules.would_be))
    }
}
