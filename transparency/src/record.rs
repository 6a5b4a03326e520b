//! What must hold of a record by itself and after those before it, whoever looks.

use ledger_core::account::Event;
use ledger_core::posting::{BUCKETS, Bucket, Posting, postings};
use ledger_schemas::{Hash, Record};

/// Why `record`, which stands as number `account_seq` of `account`, does not follow that of number `seq` with `hash`; nothing if it does.
#[must_use]
pub fn follows(seq: u64, hash: Hash, account: &str, account_seq: u64, record: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    let says = (record.key.program.as_str(), record.key.account.as_str());
    if account.split_once('/') != Some(says) || record.account_seq != account_seq {
        wrong.push(format!("it says that it is record {} of {}", record.account_seq, record.key));
    }
    if record.account_seq != seq + 1 {
        wrong.push(format!("record {} follows record {seq}", record.account_seq));
    }
    if record.previous_hash != hash {
        wrong.push("its chain is broken: it does not name the hash of the record before it".into());
    }
    wrong
}

/// Hears every posting of `event`; tells if they don't sum to zero.
pub fn balanced(event: &Event, mut each: impl FnMut(&Posting)) -> Option<String> {
    let mut sum = 0;
    postings(event, |posting| {
        sum += posting.points;
        each(&posting);
    });
    (sum != 0).then(|| format!("the postings of an event sum to {sum}"))
}

/// What is wrong where the account's postings sum to `totals` after `record`, and its purchases gave `earned` points in all.
#[must_use]
pub fn agrees_with(record: &Record, totals: &[i64; BUCKETS], earned: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    let has = |bucket: Bucket| totals[bucket as usize];
    let balance = &record.balance;
    let recorded = (balance.pending, balance.available, balance.held, balance.owed, balance.lifetime_earned);
    if recorded != (has(Bucket::Pending), has(Bucket::Available), has(Bucket::Held), -has(Bucket::Owed), earned) {
        wrong.push("its balance is not the sum of the account's postings".into());
    }
    if [Bucket::Pending, Bucket::Available, Bucket::Held, Bucket::Shortfall].iter().any(|bucket| has(*bucket) < 0) || has(Bucket::Owed) > 0 {
        wrong.push("a balance is negative".into());
    }
    wrong
}
