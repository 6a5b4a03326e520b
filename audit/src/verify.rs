//! Verifying an archive: with nothing but its files and a public key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use event_log::{EventLog, Partition, Position};
use ledger_core::account::Account;
use ledger_core::edition::EDITION;
use ledger_core::time::Moment;
use ledger_schemas::{Archived, ArchivedRecords, Record, hash};
use tlog_tiles::{Hash, record_hash};

use crate::again::{Again, Programs};
use crate::archive::ArchiveLog;
use crate::by_account::ByAccount;
use crate::cosignature::Quorum;
use crate::head::{Head, Reached};
use crate::record::{agrees_with, balanced, follows};
use crate::seal::{Key, heads, leaf, leaf_of_hash};
use crate::tree::{Frontier, Tree};
use crate::{AuditError, file};

const FINDINGS_MAX: usize = 20;

/// What a verification found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Records read.
    pub records: u64,
    /// Accounts they are of.
    pub accounts: u64,
    /// Refused commands.
    pub outcomes: u64,
    /// Records that the signed checkpoint covers.
    pub sealed: u64,
    /// How many checkpoints there were.
    pub heads: usize,
    /// Records of older editions than this release decides by, by edition: all of them was checked but the decision itself.
    pub older_editions: BTreeMap<u32, u64>,
    /// What is wrong; the first twenty.
    pub findings: Vec<String>,
}

impl Verified {
    fn find(&mut self, what: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what);
        }
    }

    fn join(&mut self, other: Self) {
        self.records += other.records;
        self.accounts += other.accounts;
        self.outcomes += other.outcomes;
        for (edition, records) in other.older_editions {
            *self.older_editions.entry(edition).or_default() += records;
        }
        other.findings.into_iter().for_each(|what| self.find(what));
    }
}

/// Verifies `archive` with `key`: sequence, chain, trees, signature, postings, balances, and that every decision of this release's edition, made
/// again, comes to what was recorded. `progress` hears how many records were read.
///
/// # Errors
/// [`AuditError`], where the archive can't be read at all.
pub fn verify(archive: &ArchiveLog, key: &Key, progress: &(dyn Fn(u64) + Sync)) -> Result<Verified, AuditError> {
    let mut verified = Verified::default();
    let heads = match signed_heads(archive, key) {
        Ok(heads) => heads,
        Err(error) => {
            verified.find(error.to_string());
            Vec::new()
        }
    };
    verified.heads = heads.len();
    verified.sealed = heads.last().map_or(0, Head::record_count);
    let bodies = archive.programs()?;
    let reached: Vec<Reached> = heads.iter().map(|head| head.programs).collect();
    stream(archive, "programs/000", "entry of the program stream", &bodies, &reached, &mut verified);
    let programs = match Programs::read(&bodies) {
        Ok(programs) => programs,
        Err(error) => {
            verified.find(error.to_string());
            Programs::default()
        }
    };
    let (next, count) = (AtomicU16::new(0), AtomicU64::new(0));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let mut part = Verified::default();
        loop {
            let partition = next.fetch_add(1, Ordering::Relaxed);
            if partition >= archive.partitions() {
                return Ok(part);
            }
            let told = |records: u64| progress(count.fetch_add(records, Ordering::Relaxed) + records);
            one(archive, partition, &heads, &programs, &told, &mut part)?;
        }
    };
    let parts: Vec<Option<Result<Verified, AuditError>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().ok()).collect()
    });
    for part in parts {
        verified.join(part.ok_or_else(|| AuditError::Wrong("a part of the verification broke down".into()))??);
    }
    Ok(verified)
}

/// The heads that the signed checkpoint covers.
fn signed_heads(archive: &ArchiveLog, key: &Key) -> Result<Vec<Head>, AuditError> {
    let path = archive.seal().join("checkpoint");
    let note = std::fs::read(&path).map_err(file("read", &path))?;
    let checkpoint = key.open(&note)?;
    let texts = heads(&archive.seal(), checkpoint.size())?;
    let mut frontier = Frontier::default();
    texts.iter().for_each(|text| frontier.push(record_hash(text.as_bytes())));
    if frontier.root() != *checkpoint.hash() {
        return Err(AuditError::Wrong("the heads are not those that were signed".into()));
    }
    let heads: Vec<Head> = texts.iter().map(|text| Head::parse(text)).collect::<Result<_, _>>()?;
    match heads.iter().find(|head| head.book != archive.book_id()) {
        Some(head) => Err(AuditError::Wrong(format!("the seal is of book {}, the archive of {}", head.book, archive.book_id()))),
        None => Ok(heads),
    }
}

/// Proves that the archive's seal extends the checkpoint in `earlier`, a signed note that somebody kept; tells how many heads that one covers.
///
/// # Errors
/// [`AuditError::Wrong`], where the archive begins with other heads, so that something was changed or taken out since.
pub fn extends(archive: &ArchiveLog, key: &Key, earlier: &[u8]) -> Result<u64, AuditError> {
    let earlier = key.open(earlier)?;
    let path = archive.seal().join("checkpoint");
    let last = key.open(&std::fs::read(&path).map_err(file("read", &path))?)?;
    if earlier.size() > last.size() {
        let (has, had) = (last.size(), earlier.size());
        return Err(AuditError::Wrong(format!("the archive has {has} checkpoints, the earlier one covers {had}: it is older, or some were taken out")));
    }
    let mut frontier = Frontier::default();
    for text in heads(&archive.seal(), last.size())?.iter().take(usize::try_from(earlier.size()).unwrap_or(usize::MAX)) {
        frontier.push(record_hash(text.as_bytes()));
    }
    if frontier.root() == *earlier.hash() {
        Ok(earlier.size())
    } else {
        Err(AuditError::Wrong(format!("the archive does not extend the earlier checkpoint: its first {} heads are others", earlier.size())))
    }
}

/// Checks that the witnesses of `quorum` cosigned the archive's checkpoint; tells the name of each that did, and when. [`verify`] checks the checkpoint itself.
///
/// # Errors
/// [`AuditError::Wrong`] names those that did not.
pub fn cosigned(archive: &ArchiveLog, quorum: &Quorum) -> Result<Vec<(String, Moment)>, AuditError> {
    let path = archive.seal().join("checkpoint");
    quorum.check(&std::fs::read(&path).map_err(file("read", &path))?)
}

/// The leaves of the stream `name` as they were sealed: their roots are those that every head names.
fn sealed_leaves(archive: &ArchiveLog, name: &str, reached: &[Reached]) -> Result<Vec<Hash>, String> {
    let size = reached.last().map_or(0, |(size, _)| *size);
    let leaves = Tree::open(&archive.seal().join(name), size).leaves().map_err(|error| format!("{name}: {error}"))?;
    let mut heads = reached.iter().skip_while(|(size, _)| *size == 0).peekable();
    let mut frontier = Frontier::default();
    for (n, leaf) in (1_u64..).zip(&leaves) {
        frontier.push(*leaf);
        while let Some((_, root)) = heads.next_if(|(size, _)| *size == n) {
            if frontier.root() != *root {
                return Err(format!("{name}: the tiles have another root at size {n} than was signed"));
            }
        }
    }
    Ok(leaves)
}

/// A stream without more in it than its bytes.
fn stream(archive: &ArchiveLog, name: &str, what: &str, bodies: &[Vec<u8>], reached: &[Reached], verified: &mut Verified) {
    let sealed = sealed_leaves(archive, name, reached).unwrap_or_else(|wrong| {
        verified.find(wrong);
        Vec::new()
    });
    if bodies.len() < sealed.len() {
        verified.find(format!("{name}: {} were sealed, {} are here", sealed.len(), bodies.len()));
    }
    for (n, (body, expected)) in bodies.iter().zip(&sealed).enumerate() {
        if leaf(body) != *expected {
            verified.find(format!("{name}: {what} {n} is not the one that was sealed"));
        }
    }
}

fn one(archive: &ArchiveLog, partition: Partition, heads: &[Head], programs: &Programs, told: &dyn Fn(u64), verified: &mut Verified) -> Result<(), AuditError> {
    let of = |streams: fn(&Head) -> &Vec<Reached>| -> Vec<Reached> {
        heads.iter().map(|head| streams(head).get(usize::from(partition)).copied().unwrap_or((0, tlog_tiles::EMPTY_HASH))).collect()
    };
    match archive.outcomes(partition) {
        Ok(outcomes) => {
            verified.outcomes += outcomes.len() as u64;
            let (name, reached) = (format!("outcomes/{partition:03}"), of(|head| &head.outcomes));
            stream(archive, &name, "refused command", &outcomes, &reached, verified);
        }
        Err(error) => verified.find(error.to_string()),
    }
    let (name, reached) = (format!("records/{partition:03}"), of(|head| &head.records));
    let sealed = sealed_leaves(archive, &name, &reached).unwrap_or_else(|wrong| {
        verified.find(wrong);
        Vec::new()
    });
    let end = archive.end(partition);
    let (mut sorted, mut next) = (ByAccount::new(end)?, 0);
    let mut book = Book { partition, sealed, again: Again::new(programs), wrong: Vec::new(), older_editions: BTreeMap::new() };
    for first in archive.chunk_starts(partition) {
        let bytes = archive.chunk(partition, first).unwrap_or_else(|error| {
            verified.find(error.to_string());
            Vec::new()
        });
        for record in ArchivedRecords(&bytes) {
            match record {
                Ok(record) => {
                    if record.position != next {
                        book.find(&record, format!("position {next} should stand here: a record was dropped, repeated or moved"));
                    }
                    next = record.position + 1;
                    sorted.push(&record)?;
                }
                Err(error) => verified.find(format!("partition {partition}, after position {next}: {error}")),
            }
        }
    }
    sorted.each(&mut |records| {
        book.account(records);
        verified.accounts += 1;
        verified.records += records.len() as u64;
        told(records.len() as u64);
        Ok(())
    })?;
    book.keep_first();
    verified.join(Verified { older_editions: book.older_editions, ..Verified::default() });
    for (position, account, what) in book.wrong {
        verified.find(format!("partition {partition} position {position} account {account}: {what}"));
    }
    let expected = end.max(book.sealed.len() as u64);
    if next != expected {
        verified.find(format!("partition {partition} ends at {next}, {expected} records were told or sealed"));
    }
    Ok(())
}

/// A partition, account by account.
struct Book<'a> {
    partition: Partition,
    sealed: Vec<Hash>,
    again: Again<'a>,
    /// Where, of which account, what.
    wrong: Vec<(u64, String, String)>,
    /// How many records of older editions there are, by edition.
    older_editions: BTreeMap<u32, u64>,
}

impl Book<'_> {
    fn find(&mut self, at: &Archived<'_>, what: String) {
        self.wrong.push((at.position, at.account.to_owned(), what));
        if self.wrong.len() > 100 * FINDINGS_MAX {
            self.keep_first();
        }
    }

    /// Keeps those that are told, in the order of the log.
    fn keep_first(&mut self) {
        self.wrong.sort_by_key(|(position, ..)| *position);
        self.wrong.truncate(FINDINGS_MAX);
    }

    /// Checks all records of one account.
    fn account(&mut self, records: &[Archived<'_>]) {
        let mut state = Some(Account::default());
        for archived in records {
            let own = hash(archived.body);
            let sealed = usize::try_from(archived.position).ok().and_then(|position| self.sealed.get(position));
            if sealed.is_some_and(|sealed| leaf_of_hash(&own) != *sealed) {
                self.find(archived, "the record is not the one that was sealed".into());
            }
            match Record::decode(archived.body) {
                Ok(record) => {
                    if record.edition < EDITION {
                        *self.older_editions.entry(record.edition).or_default() += 1;
                    }
                    let place = (self.partition, archived.position);
                    check(&mut state, &mut self.again, archived, place, &record, own).into_iter().for_each(|what| self.find(archived, what));
                }
                Err(error) => self.find(archived, error.to_string()),
            }
        }
    }
}

/// What is wrong with the account's next record; `state` is none from where one did not follow.
fn check(
    state: &mut Option<Account>,
    again: &mut Again<'_>,
    archived: &Archived<'_>,
    place: (Partition, Position),
    record: &Record,
    own: [u8; 32],
) -> Vec<String> {
    // What comes after a record that does not follow can't be judged.
    let Some(account) = state else { return Vec::new() };
    let mut wrong = follows(account.seq, account.last_hash, archived.account, archived.account_seq, record);
    if record.recorded_at < account.recorded_at {
        wrong.push(format!("it was booked {}, before the record before it ({})", record.recorded_at, account.recorded_at));
    }
    if wrong.is_empty() {
        wrong.extend(again.agrees(account, record, archived.account, place).err());
        wrong.extend(fold(account, record, own));
    } else {
        *state = None;
    }
    wrong
}

/// Folds `record` into the account; tells what is wrong with its points.
fn fold(account: &mut Account, record: &Record, own: [u8; 32]) -> Vec<String> {
    let mut wrong = Vec::new();
    for event in &record.events {
        wrong.extend(balanced(event, |_| {}));
        account.evolve(event);
    }
    account.seal(record.recorded_at, own);
    wrong.extend(agrees_with(record, &account.totals, account.lifetime_earned));
    if record.balance.lapsed != account.balance_at(record.recorded_at).lapsed {
        wrong.push(format!("it says that {} points have lapsed, which is not what its lots say", record.balance.lapsed));
    }
    wrong
}
