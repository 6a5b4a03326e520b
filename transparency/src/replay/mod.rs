//! What if: the history decided again under another rulebook, or by the deciding of today where an older edition decided. Nothing is written.

mod account;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log::{EventLog, Partition};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::policy::{Program, Rulebook, read_rulebook};
use ledger_core::time::Moment;
use ledger_schemas::{Archived, Hash, Outcome, Record};

use crate::AuditError;
use crate::again::Programs;
use crate::archive::{CHUNK, archived};
use crate::by_account::ByAccount;
use account::{Rules, Twice, worth};

/// An account, one way or the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Pending, available and held together, less what is owed.
    pub points: i64,
    /// Pending, available and held together: what the program owes the member.
    pub outstanding: i64,
    /// That in money by the rules at the end; none where it is beyond all decimals.
    pub liability: Option<Amount>,
    /// The tier; empty where there is no such account.
    pub tier: String,
}

/// What would be different of one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose.
    pub account: String,
    /// The number of its last record; 0 where it has none.
    pub account_seq: u64,
    /// The BLAKE3 hash of that.
    pub last_hash: Hash,
    /// As the book says.
    pub is: Standing,
    /// As it would be under the other rulebook.
    pub would_be: Standing,
    /// Commands that were granted and would be refused.
    pub refused: u64,
    /// Commands that were refused and would be granted.
    pub granted: u64,
}

/// All accounts together, one way or the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// Pending, available and held, less what is owed.
    pub points: i64,
    /// Pending, available and held.
    pub outstanding: i64,
    /// What those are worth by the rules at the end; none where it is beyond all decimals.
    pub liability: Option<Amount>,
}

/// What the whole book would be.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Records read.
    pub records: u64,
    /// Accounts of the program.
    pub accounts: u64,
    /// The currency that the other rulebook names.
    pub currency: String,
    /// As the book says.
    pub is: Sums,
    /// As it would be.
    pub would_be: Sums,
    /// How many accounts would be in another tier: from which, to which.
    pub tiers: BTreeMap<(String, String), u64>,
    /// Commands that were granted and would be refused.
    pub refused: u64,
    /// Commands that were refused and would be granted.
    pub granted: u64,
    /// Accounts that would be different, in the order of their names.
    pub differences: Vec<Difference>,
}

/// By what the history is decided again.
#[derive(Debug, Clone)]
pub enum WhatIf {
    /// By another rulebook.
    Rulebook {
        /// It.
        rulebook: Box<Rulebook>,
        /// As if it had come into force then, and none after it.
        since: Moment,
    },
    /// By the rulebooks as they were published, and the edition of this release: what members are due from older editions.
    Edition {
        /// The program.
        program: Id,
    },
}

/// Decides a program's history again; `progress` hears how many records were read.
///
/// # Errors
/// [`AuditError`], where the rulebook is invalid or the log can't be read.
pub async fn replay(log: Arc<dyn EventLog>, what_if: WhatIf, progress: impl Fn(u64) + Send + Sync + 'static) -> Result<Replayed, AuditError> {
    let programs = Programs::read(&log.read_programs(0).await?)?;
    let id = match &what_if {
        WhatIf::Rulebook { rulebook, .. } => rulebook.program.clone(),
        WhatIf::Edition { program } => program.clone(),
    };
    let was = programs.latest(&id).ok_or_else(|| AuditError::Wrong(format!("there is no program {id}")))?.clone();
    let (would_be, since, by_edition) = match what_if {
        WhatIf::Rulebook { rulebook, since } => (other_program(&was, *rulebook, since)?, since, false),
        WhatIf::Edition { .. } => (was.clone(), Moment::from_micros(0).unwrap_or_default(), true),
    };
    let currency = would_be.latest().map(|version| version.rulebook.currency.clone()).unwrap_or_default();
    let shared = Arc::new((id, Rules { was, would_be, since, by_edition }, AtomicU64::new(0), progress));
    let mut tasks = Vec::new();
    for partition in 0..log.partitions() {
        let (log, shared) = (Arc::clone(&log), Arc::clone(&shared));
        tasks.push(tokio::spawn(async move {
            let (id, rules, count, progress) = &*shared;
            let told = |records: u64| progress(count.fetch_add(records, Ordering::Relaxed) + records);
            partition_of_it(&*log, partition, id, rules, told).await
        }));
    }
    let mut all = Replayed { currency, ..Replayed::default() };
    let mut last = since;
    for task in tasks {
        let (part, until) = task.await.map_err(|error| AuditError::Wrong(error.to_string()))??;
        all.join(part)?;
        last = last.max(until);
    }
    let (_, rules, ..) = &*shared;
    all.is.liability = worth(&rules.was, all.is.outstanding, last);
    all.would_be.liability = worth(&rules.would_be, all.would_be.outstanding, last);
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

/// What comes of it, and when its last record was made.
async fn partition_of_it(log: &dyn EventLog, partition: Partition, id: &Id, rules: &Rules, told: impl Fn(u64)) -> Result<(Replayed, Moment), AuditError> {
    let end = log.ends().await?.get(usize::from(partition)).copied().unwrap_or(0);
    let (mut sorted, mut all, mut next, mut last) = (ByAccount::new(end)?, Replayed::default(), 0, rules.since);
    refusals(log, partition, id, rules.since, &mut sorted).await?;
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
    sorted.each(&mut |entries| {
        let (refusals, records) = entries.split_at(entries.partition_point(|entry| entry.account_seq == REFUSED));
        let name = entries.first().map_or("", |entry| entry.account);
        let refusals = refusals.iter().map(|entry| outcome(partition, entry.position, entry.body)).collect::<Result<_, _>>()?;
        let mut twice = Twice::new(rules, name, refusals);
        for archived in records {
            twice.record(&record(partition, archived)?);
        }
        all.add(&twice.end(last, records.last().map(|newest| newest.body)))
    })?;
    Ok((all, last))
}

/// Stands for the number within the account where a refusal is sorted among records, which begin at 1.
const REFUSED: u64 = 0;

/// Sorts in what was refused of program `id` from `since` on; it comes before the account's records.
async fn refusals(log: &dyn EventLog, partition: Partition, id: &Id, since: Moment, sorted: &mut ByAccount) -> Result<(), AuditError> {
    let mut next = 0;
    loop {
        let outcomes = log.read_outcomes(partition, next, CHUNK).await?;
        if outcomes.is_empty() {
            return Ok(());
        }
        for (body, position) in outcomes.iter().zip(next..) {
            let outcome = outcome(partition, position, body)?;
            if outcome.key.program == *id && outcome.recorded_at >= since {
                sorted.push(&Archived { position, account: &outcome.key.name(), account_seq: REFUSED, body })?;
            }
        }
        next += outcomes.len() as u64;
    }
}

fn record(partition: Partition, archived: &Archived<'_>) -> Result<Record, AuditError> {
    let wrong = |error| AuditError::Wrong(format!("partition {partition} position {}: {error}", archived.position));
    Record::decode(archived.body).map_err(wrong)
}

fn outcome(partition: Partition, position: u64, body: &[u8]) -> Result<Outcome, AuditError> {
    Outcome::decode(body).map_err(|error| AuditError::Wrong(format!("partition {partition} refused command {position}: {error}")))
}

impl Replayed {
    fn add(&mut self, ended: &account::Ended<'_>) -> Result<(), AuditError> {
        let (account_seq, last_hash) = ended.last_record;
        self.accounts += u64::from(account_seq > 0);
        let (is, would_be) = ended.standings();
        self.is.add(&is)?;
        self.would_be.add(&would_be)?;
        self.refused += ended.refused;
        self.granted += ended.granted;
        if is.tier != would_be.tier {
            *self.tiers.entry((is.tier.clone(), would_be.tier.clone())).or_default() += 1;
        }
        if is != would_be || ended.refused > 0 || ended.granted > 0 {
            self.differences.push(Difference {
                account: ended.name.split_once('/').map_or(ended.name, |(_, account)| account).to_owned(),
                account_seq,
                last_hash,
                is,
                would_be,
                refused: ended.refused,
                granted: ended.granted,
            });
        }
        Ok(())
    }

    fn join(&mut self, part: Self) -> Result<(), AuditError> {
        self.records += part.records;
        self.accounts += part.accounts;
        self.is.join(&part.is)?;
        self.would_be.join(&part.would_be)?;
        for (tiers, count) in part.tiers {
            *self.tiers.entry(tiers).or_default() += count;
        }
        self.refused += part.refused;
        self.granted += part.granted;
        self.differences.extend(part.differences);
        Ok(())
    }
}

impl Sums {
    fn add(&mut self, account: &Standing) -> Result<(), AuditError> {
        self.join(&Self { points: account.points, outstanding: account.outstanding, liability: None })
    }

    fn join(&mut self, other: &Self) -> Result<(), AuditError> {
        let sum = |one: i64, other: i64| one.checked_add(other).ok_or_else(|| AuditError::Wrong("the points of all accounts are too many to sum".into()));
        self.points = sum(self.points, other.points)?;
        self.outstanding = sum(self.outstanding, other.outstanding)?;
        Ok(())
    }
}
