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
use crate::archive::{ArchiveLog, chunk_len};
use crate::by_account::ByAccount;
use crate::contents::MANIFEST;
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
    /// Refused commands that it does not cover.
    pub unsealed_outcomes: u64,
    /// Entries of the program stream that it does not cover.
    pub unsealed_programs: u64,
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

    fn find_all(&mut self, all: Vec<String>) {
        all.into_iter().for_each(|what| self.find(what));
    }

    fn join(&mut self, other: Self) {
        self.records += other.records;
        self.accounts += other.accounts;
        self.outcomes += other.outcomes;
        self.unsealed_outcomes += other.unsealed_outcomes;
        for (edition, records) in other.older_editions {
            *self.older_editions.entry(edition).or_default() += records;
        }
        self.find_all(other.findings);
    }
}

/// Verifies `archive` with `key`: its files, sequence, chain, trees, signature, postings, balances, and that every decision of this release's edition, made
/// again, comes to what was recorded. `progress` hears how many records were read.
///
/// # Errors
/// [`AuditError`], where the archive can't be read at all.
pub fn verify(archive: &ArchiveLog, key: &Key, progress: &(dyn Fn(u64) + Sync)) -> Result<Verified, AuditError> {
    let mut verified = Verified::default();
    let heads = match signed_heads(archive, key, &mut verified) {
        Ok(heads) => heads,
        Err(error) => {
            verified.find(error.to_string());
            Vec::new()
        }
    };
    verified.find_all(archive.files.check(archive.chunk_names(), &heads));
    verified.heads = heads.len();
    verified.sealed = heads.last().map_or(0, Head::record_count);
    let bodies = archive.programs()?;
    let reached: Vec<Reached> = heads.iter().map(|head| head.programs).collect();
    verified.unsealed_programs = stream(archive, "programs/000", "entry of the program stream", &bodies, &reached, &mut verified);
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
fn signed_heads(archive: &ArchiveLog, key: &Key, verified: &mut Verified) -> Result<Vec<Head>, AuditError> {
    let path = archive.seal().join("checkpoint");
    let note = std::fs::read(&path).map_err(file("read", &path))?;
    let checkpoint = key.open(&note)?;
    let texts = heads(&archive.seal(), checkpoint.size())?;
    let leaves: Vec<Hash> = texts.iter().map(|text| record_hash(text.as_bytes())).collect();
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    if frontier.root() != *checkpoint.hash() {
        return Err(AuditError::Wrong("the heads in seal/tile/entries are not those that were signed in seal/checkpoint".into()));
    }
    verified.find_all(archive.files.altered_tiles("", &leaves, &frontier, &texts));
    let heads: Vec<Head> = texts.iter().map(|text| Head::parse(text)).collect::<Result<_, _>>()?;
    let partitions = usize::from(archive.partitions());
    if let Some(head) = heads.iter().find(|head| head.book != archive.book_id()) {
        return Err(AuditError::Wrong(format!("the seal is of book {}, {MANIFEST} of {}", head.book, archive.book_id())));
    }
    // A book has as many for ever: one that was left out with all its files would not be missed else.
    if let Some(head) = heads.iter().find(|head| [head.records.len(), head.outcomes.len()] != [partitions; 2]) {
        return Err(AuditError::Wrong(format!("the seal is of {} partitions, {MANIFEST} of {partitions}", head.records.len())));
    }
    Ok(heads)
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

/// The leaves of the stream `name` as they were sealed; none where they are not.
fn sealed_leaves(archive: &ArchiveLog, name: &str, reached: &[Reached], verified: &mut Verified) -> Vec<Hash> {
    match rooted(archive, name, reached) {
        Ok((leaves, grown)) => {
            verified.find_all(archive.files.altered_tiles(&format!("{name}/"), &leaves, &grown, &[]));
            leaves
        }
        Err(wrong) => {
            verified.find(wrong);
            Vec::new()
        }
    }
}

/// The leaves in the tiles of the stream `name`: their roots are those that every head names.
fn rooted(archive: &ArchiveLog, name: &str, reached: &[Reached]) -> Result<(Vec<Hash>, Frontier), String> {
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
    match heads.next() {
        Some((size, _)) => Err(format!("{name}: a head of {size} was signed after a larger one: one of them is false")),
        None => Ok((leaves, frontier)),
    }
}

/// A stream without more in it than its bytes; tells how many of them are not sealed.
fn stream(archive: &ArchiveLog, name: &str, what: &str, bodies: &[Vec<u8>], reached: &[Reached], verified: &mut Verified) -> u64 {
    let sealed = sealed_leaves(archive, name, reached, verified);
    if bodies.len() < sealed.len() {
        verified.find(format!("{name}: {} were sealed, {} are here", sealed.len(), bodies.len()));
    }
    for (n, (body, expected)) in bodies.iter().zip(&sealed).enumerate() {
        if leaf(body) != *expected {
            verified.find(format!("{name}: {what} {n} is not the one that was sealed"));
        }
    }
    bodies.len().saturating_sub(sealed.len()) as u64
}

fn one(archive: &ArchiveLog, partition: Partition, heads: &[Head], programs: &Programs, told: &dyn Fn(u64), verified: &mut Verified) -> Result<(), AuditError> {
    let of = |streams: fn(&Head) -> &Vec<Reached>| -> Vec<Reached> {
        heads.iter().map(|head| streams(head).get(usize::from(partition)).copied().unwrap_or((0, tlog_tiles::EMPTY_HASH))).collect()
    };
    match archive.outcomes(partition) {
        Ok(outcomes) => {
            verified.outcomes += outcomes.len() as u64;
            let (name, reached) = (format!("outcomes/{partition:03}"), of(|head| &head.outcomes));
            verified.unsealed_outcomes += stream(archive, &name, "refused command", &outcomes, &reached, verified);
        }
        Err(error) => verified.find(error.to_string()),
    }
    let (name, reached) = (format!("records/{partition:03}"), of(|head| &head.records));
    let sealed = sealed_leaves(archive, &name, &reached, verified);
    let mut sorted = ByAccount::new(archive.end(partition))?;
    let mut book = Book { partition, sealed, again: Again::new(programs), wrong: Vec::new(), older_editions: BTreeMap::new() };
    let next = read(archive, &mut book, &mut sorted, verified)?;
    if next < book.sealed.len() as u64 {
        verified.find(format!("{name}: {} were sealed, {next} are here", book.sealed.len()));
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
    Ok(())
}

/// Reads all records of the book's partition into `sorted`: each where it should be, and in each file as many as it should have. Tells how many there are.
fn read(archive: &ArchiveLog, book: &mut Book<'_>, sorted: &mut ByAccount, verified: &mut Verified) -> Result<Position, AuditError> {
    let (partition, mut next) = (book.partition, 0);
    for first in archive.chunk_starts(partition) {
        let (name, bytes) = match archive.chunk(partition, first) {
            Ok(chunk) => chunk,
            Err(error) => {
                verified.find(error.to_string());
                continue;
            }
        };
        let (mut count, mut length) = (0, 0);
        for record in ArchivedRecords(&bytes) {
            match record {
                Ok(record) => {
                    if record.position != next {
                        book.find(&record, format!("position {next} should stand here: a record was dropped, repeated or moved"));
                    }
                    next = record.position.saturating_add(1);
                    count += 1;
                    length += sorted.push(&record)?;
                }
                Err(error) => verified.find(format!("{name}, after position {next}: {error}")),
            }
        }
        let told = chunk_len(archive.end(partition), first);
        if count != told {
            verified.find(format!("{name} has {count}, {MANIFEST} tells of {told}"));
        } else if length != bytes.len() {
            verified.find(format!("{name} has more in it than its records"));
        }
    }
    Ok(next)
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
