//! Verifying an archive: with nothing but its files and a public key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use event_log::{Entry, EventLog, Partition};
use ledger_core::account::Account;
use ledger_schemas::{Record, hash};
use tlog_tiles::{Hash, record_hash};

use crate::again::{Again, Programs};
use crate::archive::ArchiveLog;
use crate::head::{Head, Reached};
use crate::record::{agrees_with, balanced, follows};
use crate::seal::{Key, heads, leaf, leaf_of_hash};
use crate::tree::{Frontier, Tree};
use crate::window::{WINDOW, by_account};
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
        other.findings.into_iter().for_each(|what| self.find(what));
    }
}

/// Verifies `archive` with `key`: sequence, chain, trees, signature, postings, balances, and that every decision, made again, comes to what was
/// recorded. `progress` hears how many records were read.
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
                return part;
            }
            let told = |records: u64| progress(count.fetch_add(records, Ordering::Relaxed) + records);
            one(archive, partition, &heads, &programs, &told, &mut part);
        }
    };
    let parts: Vec<Option<Verified>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().ok()).collect()
    });
    for part in parts {
        verified.join(part.ok_or_else(|| AuditError::Wrong("a part of the verification broke down".into()))?);
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

fn one(archive: &ArchiveLog, partition: Partition, heads: &[Head], programs: &Programs, told: &dyn Fn(u64), verified: &mut Verified) {
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
    let mut book = Book { partition, sealed, next: 0, accounts: HashMap::new(), again: Again::new(programs) };
    let mut window = Vec::new();
    for first in archive.chunk_starts(partition) {
        match archive.records(partition, first) {
            Ok(entries) => window.extend(entries),
            Err(error) => verified.find(error.to_string()),
        }
        if window.len() >= WINDOW {
            book.take(&mut window, told, verified);
        }
    }
    book.take(&mut window, told, verified);
    let expected = archive.end(partition).max(book.sealed.len() as u64);
    if book.next != expected {
        verified.find(format!("partition {partition} ends at {}, {expected} records were told or sealed", book.next));
    }
    verified.accounts += book.accounts.len() as u64;
}

/// A partition as its records go by.
struct Book<'a> {
    partition: Partition,
    sealed: Vec<Hash>,
    next: u64,
    /// None where a record did not follow.
    accounts: HashMap<String, Option<Account>>,
    again: Again<'a>,
}

impl Book<'_> {
    /// Checks what is in `window`, which goes on where the last one ended, and empties it.
    fn take(&mut self, window: &mut Vec<Entry>, told: &dyn Fn(u64), verified: &mut Verified) {
        let mut wrong: Vec<(usize, String)> = Vec::new();
        let mut hashes = Vec::with_capacity(window.len());
        for (i, entry) in window.iter().enumerate() {
            let own = hash(&entry.body);
            wrong.extend(self.place(entry, &own).into_iter().map(|what| (i, what)));
            hashes.push(own);
        }
        let order = by_account(window);
        for of_one in order.chunk_by(|one, next| window[*one].account == window[*next].account) {
            let account = self.accounts.entry(window[of_one[0]].account.clone()).or_insert_with(|| Some(Account::default()));
            for i in of_one {
                let entry = &window[*i];
                match Record::decode(&entry.body) {
                    Ok(record) => wrong.extend(check(account, &mut self.again, entry, &record, hashes[*i]).into_iter().map(|what| (*i, what))),
                    Err(error) => wrong.push((*i, error.to_string())),
                }
            }
        }
        wrong.sort_by_key(|(i, _)| *i);
        for (i, what) in wrong {
            let Entry { position, account, .. } = &window[i];
            verified.find(format!("partition {} position {position} account {account}: {what}", self.partition));
        }
        verified.records += window.len() as u64;
        told(window.len() as u64);
        window.clear();
    }

    /// What is wrong with where the entry stands.
    fn place(&mut self, entry: &Entry, own: &[u8; 32]) -> Vec<String> {
        let mut wrong = Vec::new();
        if entry.position != self.next {
            wrong.push(format!("position {} should stand here: a record was dropped, repeated or moved", self.next));
        }
        self.next = entry.position + 1;
        let sealed = usize::try_from(entry.position).ok().and_then(|position| self.sealed.get(position));
        if sealed.is_some_and(|sealed| leaf_of_hash(own) != *sealed) {
            wrong.push("the record is not the one that was sealed".into());
        }
        wrong
    }
}

/// What is wrong with the account's next record; `state` is none from where one did not follow.
fn check(state: &mut Option<Account>, again: &mut Again<'_>, entry: &Entry, record: &Record, own: [u8; 32]) -> Vec<String> {
    // What comes after a record that does not follow can't be judged.
    let Some(account) = state else { return Vec::new() };
    let mut wrong = follows(account.seq, account.last_hash, entry, record);
    if record.recorded_at < account.recorded_at {
        wrong.push(format!("it was booked {}, before the record before it ({})", record.recorded_at, account.recorded_at));
    }
    if wrong.is_empty() {
        wrong.extend(again.agrees(account, record, &entry.account).err());
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
    wrong
}
