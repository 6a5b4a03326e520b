//! Deciding: from a request and the state in memory to what is staged for the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use compact_str::CompactString;
use event_log::{NewOutcome, NewRecord, Partition, partition_of};
use ledger_core::account::command::Action;
use ledger_core::account::{Command, Context, Decision, Event, Rejection, decide};
use ledger_core::edition::EDITION;
use ledger_core::id::{AccountKey, Id};
use ledger_core::planted::{Bug, is_planted};
use ledger_core::policy::{Invalid, Program};
use ledger_core::time::Moment;
use ledger_schemas::{
    EditionEntered, Fingerprint, Hash, Outcome, ProgramChange, ProgramEntry, Record, content_hash, encode_outcome, encode_program_entry, encode_record, hash,
};
use telemetry::{Part, Trace};

use crate::accounts::Accounts;
use crate::admit::{Admitted, admit};
use crate::closings::ClosingStep;
use crate::group::{Group, Staged};
use crate::limits::{self, Limits};
use crate::programs::{ProgramState, Programs};
use crate::request::{Answer, CommandKey, Parts, Plan, Refusal, Reply, command_key, target};
use crate::store::{Reached, StoreError, UsedId};

/// About as many as a record has: more would cost more in memory than growing does.
const RECORD_BYTES: usize = 512;

/// The state in memory: ahead of the log by what is staged.
pub(crate) struct Book {
    pub(crate) accounts: Accounts,
    pub(crate) programs: Programs,
    /// How far each partition goes, with what is staged.
    pub(crate) reached: Vec<Reached>,
    /// The partitions that are decided here; of the others it only knows how they stand.
    pub(crate) owned: BTreeSet<Partition>,
    pub(crate) group: Group,
    pub(crate) limits: Limits,
    last_now: BTreeMap<Id, Moment>,
}

impl Book {
    pub(crate) fn new(accounts: Accounts, programs: Programs, reached: Vec<Reached>, limits: Limits) -> Self {
        Self { accounts, programs, reached, owned: BTreeSet::new(), group: Group::default(), limits, last_now: BTreeMap::new() }
    }

    /// The program and its time, which never goes back.
    pub(crate) fn program(&mut self, id: &Id, real_now: Moment) -> Option<(Arc<Program>, Moment)> {
        let state: &ProgramState = self.programs.by_id.get(id)?;
        let now = state.now(real_now);
        let last = self.last_now.entry(id.clone()).or_insert(now);
        *last = now.max(*last);
        Some((Arc::clone(&state.program), *last))
    }

    /// The group as it is to be appended, if there is anything in it: with the last clock of each program. The next one is made in
    /// the room of one that was.
    pub(crate) fn seal(&mut self, real_now: Moment, room: impl FnOnce() -> Group) -> Option<Group> {
        if self.group.is_empty() {
            return None;
        }
        let mut group = std::mem::replace(&mut self.group, room());
        group.bytes = 0;
        for ((kind, outcome), count) in std::mem::take(&mut group.decided) {
            metrics::counter!("loyalty_commands_total", "kind" => kind, "outcome" => outcome).increment(count);
        }
        group.batch.consumed.extend(std::mem::take(&mut group.consumed));
        for (program, (now, actor)) in std::mem::take(&mut group.clocks) {
            let change = ProgramChange::ClockSet { program, now };
            group.batch.programs.push(encode_program_entry(&ProgramEntry { recorded_at: real_now, actor, change }));
            self.programs.entries += 1;
        }
        Some(group)
    }

    fn partition(&self, name: &str) -> Partition {
        partition_of(name, u16::try_from(self.reached.len()).unwrap_or(u16::MAX))
    }

    pub(crate) fn is_here(&self, name: &str) -> bool {
        self.owned.len() == self.reached.len() || self.owned.contains(&self.partition(name))
    }

    /// Decides one command and stages what comes of it.
    pub(crate) fn command(&mut self, asked: Result<Admitted, Invalid>, reply: Reply, real_now: Moment) -> Result<(), StoreError> {
        let is_asked = !matches!(reply, Reply::Many(..));
        let staged = match self.try_command(asked, is_asked, real_now)? {
            Ok(Accepted::New(answer)) => Staged::Answer(reply, Ok(answer)),
            Ok(Accepted::Before(used)) => match reply {
                Reply::Many(sender, tag) => Staged::Before(sender, tag),
                reply => Staged::Replay(reply, used.partition, used.position),
            },
            Err(refusal) => Staged::Answer(reply, Err(refusal)),
        };
        self.group.stage(staged);
        Ok(())
    }

    /// Decides a command where `before` was booked as it is here; one that was booked itself is answered as ever.
    pub(crate) fn after(
        &mut self,
        before: Option<(CommandKey, Hash)>,
        asked: Result<Admitted, Invalid>,
        why: String,
        reply: Reply,
        real_now: Moment,
    ) -> Result<(), StoreError> {
        let is_booked = match before {
            Some((id, content)) => self.accounts.used_id(&id)?.is_some_and(|used| used.content == content),
            None => false,
        };
        let is_decided = match &asked {
            Ok(asked) => self.accounts.used_id(&asked.id)?.is_some(),
            Err(_) => true,
        };
        if is_booked || is_decided {
            return self.command(asked, reply, real_now);
        }
        self.group.stage(Staged::Answer(reply, Err(Refusal::Unusable(why))));
        Ok(())
    }

    /// `is_asked` over the network, so that a request's span comes before this one's.
    fn try_command(&mut self, asked: Result<Admitted, Invalid>, is_asked: bool, real_now: Moment) -> Result<Result<Accepted, Refusal>, StoreError> {
        let Admitted { key, name, command, id, content } = match asked {
            Ok(admitted) => admitted,
            Err(invalid) => return Ok(Err(Refusal::Invalid(vec![invalid]))),
        };
        let (key, command) = (&key, &command);
        if !self.is_here(&name) {
            return Ok(Err(Refusal::NotHere));
        }
        if let Some(why) = self.accounts.stopped(&name) {
            return Ok(Err(Refusal::Stopped(why.clone())));
        }
        let Some((program, now)) = self.program(&key.program, real_now) else {
            return Ok(Err(Refusal::ProgramNotFound(key.program.clone())));
        };
        let (now, is_due) = self.moment(key, &program, now)?;
        if let Some(used) = self.accounts.used_id(&id)?.filter(|_| !is_planted(Bug::NoDedup)) {
            if used.content == content {
                return Ok(Ok(Accepted::Before(used)));
            }
            self.reject(key, &name, command, &Rejection::IdReused, now);
            return Ok(Err(Rejection::IdReused.into()));
        }
        if is_due {
            self.run_due(key, &name, &program, now)?;
        }
        let target_known = self.target_known(&name, &command.action)?;
        let context = Context { program: &program, now, target_known };
        let begin = telemetry::is_on().then(SystemTime::now);
        let account = self.accounts.get(key, &program)?.account();
        if let Err(refusal) = limits::require_bounded(account, &program, command, now, &self.limits) {
            return Ok(Err(refusal));
        }
        match decide(account, command, &context) {
            Ok(decision) => {
                if limits::may_be_large(&decision, &self.limits) {
                    let mut body = Vec::new();
                    encode_record(&self.record(key, command, content, decision.clone(), &program, now)?, &mut body);
                    if let Err(too_large) = limits::require("record", body.len(), self.limits.record_bytes) {
                        return Ok(Err(too_large));
                    }
                }
                if let Some(begin) = begin {
                    let part = if is_asked { Part::Decide } else { Part::DecideAlone };
                    self.group.traces.push((Trace::of(key, command.action.kind(), &command.id), part, begin));
                }
                let answer = self.book(key, name, command, content, decision, &program, now)?;
                let used = UsedId { content, partition: answer.partition, position: answer.position };
                self.accounts.use_id(id, used);
                Ok(Ok(Accepted::New(answer)))
            }
            Err(rejection) => {
                self.reject(key, &name, command, &rejection, now);
                Ok(Err(rejection.into()))
            }
        }
    }

    /// The account's time, see [`Self::no_earlier`], and whether something of it is due by then.
    fn moment(&mut self, key: &AccountKey, program: &Program, now: Moment) -> Result<(Moment, bool), StoreError> {
        self.accounts.get(key, program)?;
        self.accounts.refresh(key, program);
        let cached = self.accounts.get(key, program)?;
        let now = now.max(cached.account().recorded_at);
        Ok((now, cached.due.is_some_and(|at| at <= now)))
    }

    /// `now`, or when the account's last record was decided: clocks differ, and an account's time does not go back.
    pub(crate) fn no_earlier(&mut self, key: &AccountKey, program: &Program, now: Moment) -> Result<Moment, StoreError> {
        Ok(self.moment(key, program, now)?.0)
    }

    fn run_due(&mut self, key: &AccountKey, name: &str, program: &Program, now: Moment) -> Result<(), StoreError> {
        if self.accounts.stopped(name).is_some() {
            return Ok(());
        }
        let account = self.accounts.get(key, program)?.account();
        let id = Id::parse(&format!("due-{}", account.seq + 1)).expect("digits and letters are an id");
        let command = Command { id, actor: CompactString::const_new("clock"), action: Action::Expire };
        let context = Context { program, now, target_known: false };
        match decide(account, &command, &context) {
            Ok(decision) if !decision.events.is_empty() => {
                let content = content_hash(name, &command, &mut Vec::new());
                self.book(key, name.to_owned(), &command, content, decision, program, now)?;
            }
            // Nothing is due after all, as where a rulebook gave more time: it goes back into the index.
            Ok(_) => self.accounts.changed(key, program),
            Err(rejection) => tracing::warn!(account = name, %rejection, "due work was refused"),
        }
        Ok(())
    }

    /// Does due work of `program` until its time `now`, at most `max` accounts of each partition; tells whether there is more.
    pub(crate) fn due_work(&mut self, program_id: &Id, max: usize, real_now: Moment) -> Result<bool, StoreError> {
        let Some((program, now)) = self.program(program_id, real_now) else { return Ok(false) };
        let mut more = false;
        for partition in self.owned.clone() {
            let mut left = max;
            while left > 0 {
                let Some(key) = self.accounts.pop_due(program_id, partition, now) else { break };
                let now = self.no_earlier(&key, &program, now)?;
                self.run_due(&key, &key.name(), &program, now)?;
                left -= 1;
            }
            more |= left == 0;
        }
        Ok(more)
    }

    /// Whether what the command refers to was ever booked for this account; asked only where the state does not have it.
    fn target_known(&self, name: &str, action: &Action) -> Result<bool, StoreError> {
        let Some((kind, id)) = target(action) else { return Ok(false) };
        Ok(self.accounts.used_id(&command_key(name, kind, id))?.is_some())
    }

    #[allow(clippy::too_many_arguments, reason = "one record is made of all of these, and nothing else is")]
    fn book(
        &mut self,
        key: &AccountKey,
        name: String,
        command: &Command,
        content: Hash,
        decision: Decision,
        program: &Program,
        now: Moment,
    ) -> Result<Answer, StoreError> {
        let mut record = self.record(key, command, content, decision, program, now)?;
        let cached = self.accounts.get(key, program)?;
        let (partition, account) = (cached.partition, cached.account_mut());
        record.events.iter().for_each(|event| account.evolve(event));
        record.balance = account.balance_at(now);
        let mut body = Vec::with_capacity(RECORD_BYTES);
        encode_record(&record, &mut body);
        let last = hash(&body);
        account.seal(now, last);
        self.accounts.changed(key, program);
        let position = self.reached[usize::from(partition)].next;
        self.reached[usize::from(partition)] = Reached { next: position + 1, last };
        self.group.bytes += body.len();
        self.group.batch.records.push(NewRecord { partition, position, account: name, account_seq: record.account_seq, body });
        *self.group.decided.entry((command.action.kind(), "accepted")).or_default() += 1;
        Ok(Answer { record: Arc::new(record), partition, position, replayed: false })
    }

    /// The account's next record, with the balance before it.
    fn record(&mut self, key: &AccountKey, command: &Command, content: Hash, decision: Decision, program: &Program, now: Moment) -> Result<Record, StoreError> {
        let program_entries = self.programs.entries;
        let account = self.accounts.get(key, program)?.account();
        Ok(Record {
            key: key.clone(),
            account_seq: account.seq + 1,
            command_id: command.id.clone(),
            command_kind: CompactString::const_new(command.action.kind()),
            content_hash: content,
            recorded_at: now,
            effective_at: effective_at(&command.action, &decision.events, now),
            actor: command.actor.clone(),
            rule_version: decision.rule_version,
            previous_hash: account.last_hash,
            events: decision.events,
            balance: account.balance_at(now),
            edition: EDITION,
            program_entries: Some(program_entries),
        })
    }

    fn reject(&mut self, key: &AccountKey, name: &str, command: &Command, rejection: &Rejection, now: Moment) {
        let outcome = Outcome {
            key: key.clone(),
            command: command.clone(),
            recorded_at: now,
            number: rejection.number(),
            code: rejection.code().into(),
            detail: rejection.to_string(),
        };
        let body = encode_outcome(&outcome);
        self.group.bytes += body.len();
        self.group.batch.outcomes.push(NewOutcome { partition: self.partition(name), body });
        *self.group.decided.entry((command.action.kind(), rejection.code())).or_default() += 1;
    }

    /// Decides commands in turn on a copy of the account: the first refusal, if there is one.
    fn rehearse(&mut self, key: &AccountKey, commands: &[Command], program: &Program, now: Moment) -> Result<Option<Refusal>, StoreError> {
        let mut account = self.accounts.get(key, program)?.account().clone();
        for command in commands {
            let Admitted { name, command, id, content, .. } = match admit(key.clone(), command.clone()) {
                Ok(admitted) => admitted,
                Err(invalid) => return Ok(Some(Refusal::Invalid(vec![invalid]))),
            };
            let decision = match self.accounts.used_id(&id)? {
                Some(used) if used.content == content => continue,
                Some(_) => Err(Rejection::IdReused),
                None => {
                    if let Err(refusal) = limits::require_bounded(&account, program, &command, now, &self.limits) {
                        return Ok(Some(refusal));
                    }
                    let target_known = self.target_known(&name, &command.action)?;
                    decide(&account, &command, &Context { program, now, target_known })
                }
            };
            match decision {
                Ok(decision) => decision.events.iter().for_each(|event| account.evolve(event)),
                Err(rejection) => {
                    self.reject(key, &name, &command, &rejection, now);
                    return Ok(Some(rejection.into()));
                }
            }
            let hash = account.last_hash;
            account.seal(now, hash);
        }
        Ok(None)
    }

    /// Plans commands from the account's state and books them together, all or none; where the first of its `parts` was booked before, all that were are read back.
    pub(crate) fn plan(&mut self, key: AccountKey, parts: Parts, plan: Plan, reply: Reply, real_now: Moment) -> Result<(), StoreError> {
        let name = key.name();
        let Some((program, now)) = self.program(&key.program, real_now) else {
            self.group.stage(Staged::Answer(reply, Err(Refusal::ProgramNotFound(key.program.clone()))));
            return Ok(());
        };
        if let Some(why) = self.accounts.stopped(&name) {
            let refusal = Refusal::Stopped(why.clone());
            self.group.stage(Staged::Answer(reply, Err(refusal)));
            return Ok(());
        }
        let mut before = 0;
        while let Some(used) = self.used_part(&name, parts(before + 1))? {
            before += 1;
            self.group.staged.extend(reply.again().map(|reply| Staged::Replay(reply, used.partition, used.position)));
        }
        if before > 0 {
            return Ok(());
        }
        let (now, is_due) = self.moment(&key, &program, now)?;
        if is_due {
            self.run_due(&key, &name, &program, now)?;
        }
        let commands = match plan(self.accounts.get(&key, &program)?.account()) {
            Ok(commands) => commands,
            Err(why) => {
                self.group.stage(Staged::Answer(reply, Err(Refusal::Unusable(why))));
                return Ok(());
            }
        };
        if commands.len() > 1
            && let Some(refusal) = self.rehearse(&key, &commands, &program, now)?
        {
            self.group.stage(Staged::Answer(reply, Err(refusal)));
            return Ok(());
        }
        let mut outcomes = Vec::new();
        for command in commands {
            match self.try_command(admit(key.clone(), command), false, real_now)? {
                Ok(Accepted::New(answer)) => outcomes.push(Ok(answer)),
                Ok(Accepted::Before(_)) => {}
                Err(refusal) => {
                    outcomes.push(Err(refusal));
                    break;
                }
            }
        }
        let staged = outcomes.into_iter().filter_map(|outcome| Some(Staged::Answer(reply.again()?, outcome)));
        self.group.staged.extend(staged);
        Ok(())
    }

    fn used_part(&self, name: &str, ids: Vec<(&'static str, Id)>) -> Result<Option<UsedId>, StoreError> {
        for (kind, id) in ids {
            if let Some(used) = self.accounts.used_id(&command_key(name, kind, &id))? {
                return Ok(Some(used));
            }
        }
        Ok(None)
    }

    /// The program stream belongs to whoever has the first partition.
    fn require_programs(&self) -> Result<(), Refusal> {
        if self.owned.contains(&0) { Ok(()) } else { Err(Refusal::NotHere) }
    }

    pub(crate) fn publish(&mut self, program: &Id, rulebook: Vec<u8>, actor: CompactString, real_now: Moment) -> Result<(u32, bool), Refusal> {
        self.require_programs()?;
        let (version, entry) = self.programs.publish(program, rulebook, actor.clone(), real_now)?;
        let Some(entry) = entry else { return Ok((version, false)) };
        if self.programs.entries == 0 {
            self.begin_book(actor, real_now);
        }
        self.stage_program_entry(&entry);
        Ok((version, true))
    }

    /// Names the key by which aliases are hashed; refuses another than the one that is named.
    pub(crate) fn name_alias_key(&mut self, fingerprint: Fingerprint, actor: CompactString, real_now: Moment) -> Result<(), Refusal> {
        self.require_programs()?;
        match self.programs.alias_key {
            Some(named) if named == fingerprint => return Ok(()),
            Some(_) => return Err(Refusal::OtherAliasKey),
            None => {}
        }
        if self.programs.entries == 0 {
            self.begin_book(actor.clone(), real_now);
        }
        self.programs.alias_key = Some(fingerprint);
        self.stage_program_entry(&ProgramEntry { recorded_at: real_now, actor, change: ProgramChange::AliasKeyNamed(fingerprint) });
        Ok(())
    }

    /// The first entry of a new book says by which edition it is decided.
    fn begin_book(&mut self, actor: CompactString, real_now: Moment) {
        let entered = EditionEntered::current(vec![0; self.reached.len()]);
        self.programs.edition = Some(entered.clone());
        self.stage_program_entry(&ProgramEntry { recorded_at: real_now, actor, change: ProgramChange::EditionEntered(entered) });
    }

    fn stage_program_entry(&mut self, entry: &ProgramEntry) {
        self.programs.entries += 1;
        self.group.batch.programs.push(encode_program_entry(entry));
    }

    pub(crate) fn closing(&mut self, program: &Id, step: ClosingStep, actor: CompactString, real_now: Moment) -> Result<(), Refusal> {
        self.require_programs()?;
        let entry = self.programs.closing(program, step, actor, real_now)?;
        self.stage_program_entry(&entry);
        Ok(())
    }

    pub(crate) fn set_clock(&mut self, program: &Id, now: Moment, actor: CompactString, real_now: Moment) -> Result<(), Refusal> {
        self.require_programs()?;
        self.programs.set_clock(program, now, real_now)?;
        self.group.clocks.insert(program.clone(), (now, actor));
        Ok(())
    }
}

enum Accepted {
    New(Answer),
    Before(UsedId),
}

/// When the command's own doing took effect: a purchase or return when it occurred, all else now.
fn effective_at(action: &Action, events: &[Event], now: Moment) -> Moment {
    match action {
        Action::Earn(purchase) => purchase.occurred_at,
        Action::Return(body) => body.occurred_at,
        Action::Redeem { occurred_at, .. } | Action::Hold { occurred_at, .. } => occurred_at.unwrap_or(now),
        Action::Refund(body) => body.occurred_at,
        Action::Expire => events.first().map_or(now, |event| event.at),
        _ => now,
    }
}
