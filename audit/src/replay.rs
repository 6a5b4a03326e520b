//! What if: the history decided again under another rulebook. Nothing is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log::{EventLog, Partition};
use ledger_core::account::command::Action;
use ledger_core::account::decide::due_at;
use ledger_core::account::{Account, Command, Context, decide};
use ledger_core::id::Id;
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use ledger_core::time::Moment;
use ledger_schemas::{Archived, Hash, Record, hash};

use crate::AuditError;
use crate::again::{Programs, command_believed};
use crate::archive::{CHUNK, archived};
use crate::by_account::ByAccount;

/// What would be different of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose.
    pub account: String,
    /// The number of its last record.
    pub account_seq: u64,
    /// The BLAKE3 hash of that.
    pub last_hash: Hash,
    /// Pending, available and held together, less what is owed.
    pub points_is: i64,
    /// The same under the other rulebook.
    pub points_would_be: i64,
    /// The tier.
    pub tier_is: String,
    /// The tier under the other rulebook.
    pub tier_would_be: String,
    /// Commands that were granted and would be refused.
    pub refused: u64,
}

/// What the whole book would be.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Records read.
    pub records: u64,
    /// Accounts of the program.
    pub accounts: u64,
    /// Points of all, as they are.
    pub points_is: i64,
    /// As they would be.
    pub points_would_be: i64,
    /// Accounts that would be different, in the order of their names.
    pub differences: Vec<Difference>,
}

/// One account, as it is and as it would be.
#[derive(Default)]
struct Pair {
    is: Account,
    /// From the first record on that is decided again.
    would_be: Option<Account>,
    refused: u64,
}

fn points(account: &Account) -> i64 {
    let balance = account.balance();
    balance.available + balance.pending + balance.held - balance.owed
}

/// Decides what was decided from `since` on again, by `rulebook` instead of those of then; `progress` hears how many records were read.
///
/// # Errors
/// [`AuditError`], where the rulebook is invalid or the log can't be read.
pub async fn replay(log: Arc<dyn EventLog>, rulebook: Rulebook, since: Moment, progress: impl Fn(u64) + Send + Sync + 'static) -> Result<Replayed, AuditError> {
    let programs = Programs::read(&log.read_programs(0).await?)?;
    let id = rulebook.program.clone();
    let was = programs.latest(&id).ok_or_else(|| AuditError::Wrong(format!("there is no program {id}")))?.clone();
    let would_be = other_program(&was, rulebook, since)?;
    let shared = Arc::new((id, was, would_be, since, AtomicU64::new(0), progress));
    let mut tasks = Vec::new();
    for partition in 0..log.partitions() {
        let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
        tasks.push(tokio::spawn(async move {
            let (id, was, would_be, since, count, progress) = &*shared;
            let told = |records: u64| progress(count.fetch_add(records, Ordering::Relaxed) + records);
            partition_of_it(&*log, partition, id, was, would_be, *since, told).await
        }));
    }
    let mut all = Replayed::default();
    for task in tasks {
        let part = task.await.map_err(|error| AuditError::Wrong(error.to_string()))??;
        all.records += part.records;
        all.accounts += part.accounts;
        all.points_is += part.points_is;
        all.points_would_be += part.points_would_be;
        all.differences.extend(part.differences);
    }
    all.differences.sort_unstable_by(|one, other| one.account.cmp(&other.account));
    Ok(all)
}

/// The program as if `rulebook` had come into force at `since`, and none after it.
fn other_program(was: &Program, mut rulebook: Rulebook, since: Moment) -> Result<Program, AuditError> {
    let mut program = Program::default();
    for number in 1.. {
        let Some(version) = was.version(number) else { break };
        if version.rulebook.effective_from < since {
            program.publish(Arc::clone(version));
        }
    }
    rulebook.effective_from = since;
    let invalid = |invalid: Vec<ledger_core::policy::Invalid>| {
        let words: Vec<String> = invalid.iter().map(ToString::to_string).collect();
        AuditError::Wrong(format!("the rulebook is refused:\n  {}", words.join("\n  ")))
    };
    let version = read_rulebook(rulebook, &program).map_err(invalid)?;
    program.publish(Arc::new(version));
    Ok(program)
}

async fn partition_of_it(
    log: &dyn EventLog,
    partition: Partition,
    id: &Id,
    was: &Program,
    would_be: &Program,
    since: Moment,
    told: impl Fn(u64),
) -> Result<Replayed, AuditError> {
    let end = log.ends().await?.get(usize::from(partition)).copied().unwrap_or(0);
    let (mut sorted, mut all, mut next, mut last) = (ByAccount::new(end)?, Replayed::default(), 0, since);
    loop {
        let entries = log.read(partition, next, CHUNK).await?;
        let Some(newest) = entries.last() else { break };
        next = newest.position + 1;
        last = last.max(record(partition, &archived(newest))?.recorded_at);
        all.records += entries.len() as u64;
        told(entries.len() as u64);
        for entry in &entries {
            if entry.account.split_once('/').is_some_and(|(program, _)| program == id.as_str()) {
                sorted.push(&archived(entry))?;
            }
        }
    }
    let mut scratch = Vec::new();
    sorted.each(&mut |records| {
        let Some(newest) = records.last() else { return Ok(()) };
        let mut pair = Pair::default();
        for archived in records {
            pair.record(&record(partition, archived)?, newest.account, would_be, since, &mut scratch);
        }
        // Nothing asks for the hashes before the last one, and each takes a third as long as reading the record.
        pair.is.last_hash = hash(newest.body);
        // Both as they stand when the last record was made.
        let mut other = pair.would_be.take().unwrap_or_else(|| pair.is.clone());
        let now = last.max(pair.is.recorded_at);
        settle(&mut pair.is, was, now);
        settle(&mut other, would_be, now);
        all.add(newest.account, &pair, &other);
        Ok(())
    })?;
    Ok(all)
}

fn record(partition: Partition, archived: &Archived<'_>) -> Result<Record, AuditError> {
    let wrong = |error| AuditError::Wrong(format!("partition {partition} position {}: {error}", archived.position));
    Record::decode(archived.body).map_err(wrong)
}

impl Replayed {
    fn add(&mut self, name: &str, pair: &Pair, other: &Account) {
        self.accounts += 1;
        let (points_is, points_would_be) = (points(&pair.is), points(other));
        self.points_is += points_is;
        self.points_would_be += points_would_be;
        if points_is != points_would_be || pair.is.standing.tier != other.standing.tier || pair.refused > 0 {
            self.differences.push(Difference {
                account: name.split_once('/').map_or(name, |(_, account)| account).to_owned(),
                account_seq: pair.is.seq,
                last_hash: pair.is.last_hash,
                points_is,
                points_would_be,
                tier_is: pair.is.standing.tier.to_string(),
                tier_would_be: other.standing.tier.to_string(),
                refused: pair.refused,
            });
        }
    }
}

/// Does what is due of the account by `now`.
fn settle(account: &mut Account, program: &Program, now: Moment) {
    if due_at(account, program).is_none_or(|at| at > now) {
        return;
    }
    let command = Command { id: Id::parse("due").expect("letters are an id"), actor: "clock".into(), action: Action::Expire };
    if let Ok(decision) = decide(account, &command, &Context { program, now, target_known: false }) {
        decision.events.iter().for_each(|event| account.evolve(event));
    }
}

/// Stands for the hash of a record that is not the account's last.
const NOT_ASKED: [u8; 32] = [0; 32];

impl Pair {
    fn record(&mut self, record: &Record, name: &str, program: &Program, since: Moment, scratch: &mut Vec<u8>) {
        // As it was before this record, if nothing was decided again yet.
        let before = (record.recorded_at >= since && self.would_be.is_none()).then(|| self.is.clone());
        record.events.iter().for_each(|event| self.is.evolve(event));
        self.is.seal(record.recorded_at, NOT_ASKED);
        if record.recorded_at < since {
            return;
        }
        let would_be = self.would_be.get_or_insert_with(|| before.unwrap_or_default());
        settle(would_be, program, record.recorded_at);
        let Some(command) = command_believed(record, name, scratch).filter(|command| command.action != Action::Expire) else { return };
        match decide(would_be, &command, &Context { program, now: record.recorded_at, target_known: false }) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| would_be.evolve(event));
                would_be.seal(record.recorded_at, NOT_ASKED);
            }
            Err(_) => self.refused += 1,
        }
    }
}
