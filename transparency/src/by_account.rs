//! A partition's records sorted by account: each account is checked from its first record to its last, and its state's room is the next one's. So
//! what is needed grows neither with the book nor with how many accounts it has.
//!
//! They are dealt out by account into shares that the processor's cache has room for, of which one after the other is sorted. (Shatdal, Kant, Naughton: Cache conscious algorithms for relational query processing, 1994.)
//!
//! Invariant: an account's records stay in the order in which they came.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Seek, Write};

use ledger_schemas::{Archived, ArchivedRecords, DecodeError};

use crate::{AuditError, file};

/// How many records a share has: with their bytes less than a megabyte.
const CACHED_RECORDS: u64 = 1500;
/// How many records are in memory at a time; with their bytes some fifty megabytes.
const IN_MEMORY_RECORDS: u64 = 100_000;
/// How many files are open at a time; those of a partition of more than 25,600,000 records are larger than that.
const FILES_MAX: u64 = 256;
const WRITE_BYTES: usize = 1 << 20;

/// Some of the accounts, with all their records.
struct Share {
    /// As in an archive.
    bytes: Vec<u8>,
    /// What of them was before: in a file without a name in the system's temporary folder, gone with the program.
    file: Option<File>,
}

/// Records on their way to be sorted.
pub(crate) struct ByAccount {
    shares: Vec<Share>,
    hasher: RandomState,
}

impl ByAccount {
    /// For about `records` of them.
    pub(crate) fn new(records: u64) -> Result<Self, AuditError> {
        if records <= IN_MEMORY_RECORDS { Ok(Self::in_memory(records.div_ceil(CACHED_RECORDS))) } else { Self::on_disk(records.div_ceil(IN_MEMORY_RECORDS)) }
    }

    fn in_memory(shares: u64) -> Self {
        let share = |_| Share { bytes: Vec::new(), file: None };
        Self { shares: (0..shares.max(1)).map(share).collect(), hasher: RandomState::new() }
    }

    fn on_disk(shares: u64) -> Result<Self, AuditError> {
        let share = |_| tempfile::tempfile().map(|file| Share { bytes: Vec::new(), file: Some(file) });
        let shares = (0..shares.min(FILES_MAX)).map(share).collect::<Result<_, _>>().map_err(spilled("make a file in"))?;
        Ok(Self { shares, hasher: RandomState::new() })
    }

    /// Takes the partition's next record; tells how many bytes it has in an archive.
    pub(crate) fn push(&mut self, record: &Archived<'_>) -> Result<usize, AuditError> {
        let of = self.hasher.hash_one(record.account) % self.shares.len() as u64;
        let share = &mut self.shares[usize::try_from(of).unwrap_or(0)];
        let before = share.bytes.len();
        record.encode(&mut share.bytes);
        let length = share.bytes.len() - before;
        if let Some(file) = share.file.as_mut().filter(|_| share.bytes.len() > WRITE_BYTES) {
            file.write_all(&share.bytes).map_err(spilled("write to"))?;
            share.bytes.clear();
        }
        Ok(length)
    }

    /// Calls `each` with the records of one account after the other.
    pub(crate) fn each(self, each: &mut impl FnMut(&[Archived<'_>]) -> Result<(), AuditError>) -> Result<(), AuditError> {
        for Share { bytes, file } in self.shares {
            if let Some(file) = file {
                of_file(file, &bytes)?.each(each)?;
                continue;
            }
            let mut records: Vec<Archived<'_>> = ArchivedRecords(&bytes).collect::<Result<_, _>>().map_err(unreadable)?;
            records.sort_by_cached_key(|record| self.hasher.hash_one(record.account));
            records.chunk_by(|one, next| one.account == next.account).try_for_each(&mut *each)?;
        }
        Ok(())
    }
}

/// What is in the file, and after it `last`.
fn of_file(mut file: File, last: &[u8]) -> Result<ByAccount, AuditError> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(spilled("read from"))?;
    bytes.extend(last);
    let count = ArchivedRecords(&bytes).count() as u64;
    let mut sorted = ByAccount::in_memory(count.div_ceil(CACHED_RECORDS));
    ArchivedRecords(&bytes).try_for_each(|record| sorted.push(&record.map_err(unreadable)?).map(drop))?;
    Ok(sorted)
}

fn unreadable(error: DecodeError) -> AuditError {
    AuditError::Wrong(format!("records to be sorted can't be read: {error}"))
}

fn spilled(action: &'static str) -> impl FnOnce(std::io::Error) -> AuditError {
    move |error| file(action, &std::env::temp_dir())(error)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_records_stay_in_their_order_in_memory_and_on_disk() {
        let body = vec![7; 30_000];
        for mut sorted in [ByAccount::in_memory(1), ByAccount::in_memory(3), ByAccount::on_disk(3).unwrap()] {
            for n in 0..100 {
                sorted.push(&Archived { position: n, account: &format!("p/a{}", n % 7), account_seq: n / 7 + 1, body: &body }).unwrap();
            }
            let mut accounts = std::collections::BTreeMap::new();
            let mut take = |records: &[Archived<'_>]| {
                let seqs: Vec<u64> = records.iter().map(|record| record.account_seq).collect();
                assert!(records.iter().all(|record| record.position % 7 == records[0].position % 7 && record.body == body));
                assert_eq!(accounts.insert(records[0].account.to_owned(), seqs), None, "an account comes once");
                Ok(())
            };
            sorted.each(&mut take).unwrap();
            let expected = |a: u64| (format!("p/a{a}"), (1..=if a < 2 { 15 } else { 14 }).collect());
            assert_eq!(accounts, (0..7).map(expected).collect());
        }
    }
}
