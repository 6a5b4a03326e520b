//! What if: the history decided again under another rulebook. Nothing is written.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log::{Entry, EventLog, Partition};
use ledger_core::account::command::Action;
use ledger_core::account::decide::due_at;
use ledger_core::account::{Account, Command, Context, decide};
use ledger_core::id::Id;
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use ledger_core::time::Moment;
use ledger_schemas::{Record, hash};

use crate::AuditError;
use crate::again::{Programs, command_of};
use crate::window::{WINDOW, by_account};

const READ_MAX: usize = 5000;

/// What would be different of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose.
    pub account: String,
    /// The number of its last record.
    pub account_seq: u64,
    /// The BLAKE3 hash of that, in hexadecimal.
    pub last_hash: String,
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
    let mut differences = BTreeMap::new();
    for task in tasks {
        let part = task.await.map_err(|error| AuditError::Wrong(error.to_string()))??;
        all.records += part.records;
        all.accounts += part.accounts;
        all.points_is += part.points_is;
        all.points_would_be += part.points_would_be;
        differences.extend(part.differences.into_iter().map(|difference| (difference.account.clone(), difference)));
    }
    all.differences = differences.into_values().collect();
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
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut all = Replayed::default();
    let (mut next, mut scratch, mut last) = (0, Vec::new(), since);
    loop {
        let mut entries = Vec::new();
        loop {
            let read = log.read(partition, next, READ_MAX).await?;
            let Some(newest) = read.last() else { break };
            next = newest.position + 1;
            entries.extend(read);
            if entries.len() >= WINDOW {
                break;
            }
        }
        if entries.is_empty() {
            break;
        }
        let order = by_account(&entries);
        for of_one in order.chunk_by(|one, next| entries[*one].account == entries[*next].account) {
            let name = &entries[of_one[0]].account;
            if name.split_once('/').is_none_or(|(program, _)| program != id.as_str()) {
                continue;
            }
            let pair = pairs.entry(name.clone()).or_default();
            for i in of_one {
                let Entry { position, body, .. } = &entries[*i];
                let record = Record::decode(body).map_err(|error| AuditError::Wrong(format!("partition {partition} position {position}: {error}")))?;
                last = last.max(record.recorded_at);
                pair.record(&record, name, would_be, since, &mut scratch);
            }
            // Nothing asks for the hashes before the last one, and each takes a third as long as reading the record.
            pair.is.last_hash = hash(&entries[of_one[of_one.len() - 1]].body);
        }
        all.records += entries.len() as u64;
        told(entries.len() as u64);
    }
    for (name, mut pair) in pairs {
        // Both as they stand when the last record was made.
        let mut other = pair.would_be.take().unwrap_or_else(|| pair.is.clone());
        settle(&mut pair.is, was, last);
        settle(&mut other, would_be, last);
        all.accounts += 1;
        let (points_is, points_would_be) = (points(&pair.is), points(&other));
        all.points_is += points_is;
        all.points_would_be += points_would_be;
        let (tier_is, tier_would_be) = (pair.is.standing.tier.to_string(), other.standing.tier.to_string());
        if points_is != points_would_be || tier_is != tier_would_be || pair.refused > 0 {
            let account = name.split_once('/').map_or(name.as_str(), |(_, account)| account).to_owned();
            let last_hash = pair.is.last_hash.iter().map(|byte| format!("{byte:02x}")).collect();
            let account_seq = pair.is.seq;
            all.differences.push(Difference { account, account_seq, last_hash, points_is, points_would_be, tier_is, tier_would_be, refused: pair.refused });
        }
    }
    Ok(all)
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
        let Some(command) = command_of(record, name, scratch).filter(|command| command.action != Action::Expire) else { return };
        match decide(would_be, &command, &Context { program, now: record.recorded_at, target_known: false }) {
            Ok(decision) => {
                decision.events.iter().for_each(|event| would_be.evolve(event));
                would_be.seal(record.recorded_at, NOT_ASKED);
            }
            Err(_) => self.refused += 1,
        }
    }
}
