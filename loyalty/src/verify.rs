//! Verifying the book: sequence, hash chain, postings and balances, from the log alone; then the read models against a fresh fold.

use std::collections::HashMap;

use anyhow::bail;
use event_log::{EventLog, LogError, Partition};
use ledger_core::account::EventKind;
use ledger_core::posting::{BUCKETS, Bucket};
use ledger_schemas::{Hash, Record, hash};
use transparency::{agrees_with, balanced, follows};

const READ_MAX: usize = 5000;
const FINDINGS_MAX: usize = 20;

/// What is known of an account while its records go by.
#[derive(Default)]
struct Tail {
    seq: u64,
    hash: Hash,
    totals: [i64; BUCKETS],
    earned: i64,
}

/// What the log holds.
#[derive(Default)]
pub struct BookCheck {
    /// How many records.
    pub records: u64,
    /// How many accounts.
    pub accounts: u64,
    /// How many refused commands.
    pub outcomes: u64,
    /// The sum of all postings, by bucket.
    pub totals: [i64; BUCKETS],
    /// What is wrong; the first twenty.
    pub findings: Vec<String>,
}

impl BookCheck {
    /// The points in a bucket, over all accounts.
    pub fn total(&self, bucket: Bucket) -> i64 {
        self.totals[bucket as usize]
    }

    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }

    fn record(&mut self, tails: &mut HashMap<String, Tail>, partition: u16, entry: &event_log::Entry) {
        let place = format!("partition {partition} position {} account {}", entry.position, entry.account);
        let record = match Record::decode(&entry.body) {
            Ok(record) => record,
            Err(error) => return self.find(format!("{place}: {error}")),
        };
        let tail = tails.entry(entry.account.clone()).or_default();
        let mut wrong = follows(tail.seq, tail.hash, &entry.account, entry.account_seq, &record);
        for event in &record.events {
            wrong.extend(balanced(event, |posting| {
                tail.totals[posting.bucket as usize] += posting.points;
                self.totals[posting.bucket as usize] += posting.points;
            }));
            if let EventKind::PointsEarned(earned) = &event.kind {
                tail.earned += earned.lot.as_ref().map_or(0, |lot| lot.points);
            }
        }
        wrong.extend(agrees_with(&record, &tail.totals, tail.earned));
        (tail.seq, tail.hash) = (record.account_seq, hash(&entry.body));
        self.records += 1;
        for what in wrong {
            self.find(format!("{place}: {what}"));
        }
    }
}

/// How many outcomes a partition has.
pub async fn outcomes(log: &dyn EventLog, partition: Partition) -> Result<u64, LogError> {
    let mut count = 0;
    loop {
        let outcomes = log.read_outcomes(partition, count, READ_MAX).await?;
        if outcomes.is_empty() {
            return Ok(count);
        }
        count += outcomes.len() as u64;
    }
}

/// Reads the whole log.
pub async fn book(log: &dyn EventLog) -> anyhow::Result<BookCheck> {
    let mut check = BookCheck::default();
    for partition in 0..log.partitions() {
        let mut tails = HashMap::new();
        let mut next = 0;
        loop {
            let entries = log.read(partition, next, READ_MAX).await?;
            let Some(last) = entries.last() else { break };
            if last.position + 1 - next != entries.len() as u64 {
                check.find(format!("partition {partition}: positions {next} to {} have gaps", last.position));
            }
            next = last.position + 1;
            for entry in &entries {
                check.record(&mut tails, partition, entry);
            }
        }
        check.accounts += tails.len() as u64;
        check.outcomes += outcomes(log, partition).await?;
    }
    let shortfall = check.total(Bucket::Shortfall) + check.total(Bucket::Uncollected);
    let sum: i64 = check.totals.iter().sum();
    if sum != 0 || shortfall != 0 {
        check.find(format!("the book's postings sum to {sum}, shortfall and uncollected to {shortfall}"));
    }
    Ok(check)
}

/// Verifies the book and every read model; prints what it finds, and fails if that is anything.
pub async fn all(log: std::sync::Arc<dyn EventLog>, url: &str) -> anyhow::Result<BookCheck> {
    let check = book(&*log).await?;
    let mut findings = check.findings.clone();
    for model in projectors::read_models() {
        let verified = projectors::verify(model, std::sync::Arc::clone(&log), url).await?;
        findings.extend(verified.differences.iter().map(|difference| format!("read model {}: {difference}", verified.projector)));
    }
    let verified = projectors::verify_refusals(log, url).await?;
    findings.extend(verified.differences.iter().map(|difference| format!("refused commands: {difference}")));
    if !findings.is_empty() {
        bail!("the book does not verify:\n  {}", findings.join("\n  "));
    }
    Ok(check)
}
