//! Catching up: the state store's accounts, plus what the log has after its positions.

use std::sync::Arc;
use std::time::Duration;

use event_log::{Entry, EventLog, LogError, Partition, Position, beyond_one};
use ledger_core::id::AccountKey;
use ledger_core::planted::{Bug, is_planted};
use ledger_core::policy::Program;
use ledger_schemas::{Record, hash};
use tokio::time::Instant;

use crate::accounts::Accounts;
use crate::book::Book;
use crate::commit::SEEN_WITHIN;
use crate::limits::Limits;
use crate::programs::{Programs, ProgramsError};
use crate::request::command_key;
use crate::state::StatePlace;
use crate::store::{Reached, Store, StoreError, UsedId};

const READ_MAX: usize = 5000;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why the state can't be made from the log.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The program stream.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
}

/// The state as it was kept, and what the log has after it: of all partitions, unless others keep theirs and this is to take them as they come.
pub(crate) async fn recover(log: &dyn EventLog, state: &StatePlace, capacity: usize, limits: Limits, follows: bool) -> Result<Book, RecoverError> {
    let (partitions, book_id) = (log.partitions(), log.book_id());
    let programs = Programs::load(log).await?;
    programs.require_edition()?;
    let (mut store, mut reached) = Store::open(state, book_id, partitions)?;
    // What was kept is on the log, but may take its time to be seen.
    let deadline = Instant::now() + SEEN_WITHIN;
    while log.ends().await?.iter().zip(&reached).any(|(end, reached)| *end < reached.next) {
        if Instant::now() > deadline {
            (store, reached) = (store.wipe()?, vec![Reached::default(); usize::from(partitions)]);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if !is_of(log, &reached).await? {
        tracing::warn!("the log is not the one that the state store was made from, as after a restored backup: the store is made anew");
        (store, reached) = (store.wipe()?, vec![Reached::default(); usize::from(partitions)]);
    }
    let accounts = Accounts::new(store, book_id, partitions, capacity)?;
    let mut book = Book::new(accounts, programs, reached, limits);
    if follows {
        let begin = Instant::now();
        let mut count = 0;
        for (partition, end) in (0..).zip(log.ends().await?) {
            count += catch_up(&mut book, log, partition, end).await?;
        }
        tracing::info!(records = count, seconds = begin.elapsed().as_secs_f32(), "caught up with the log");
    }
    Ok(book)
}

/// Whether the last record that was folded of each partition is the one that the log has there.
async fn is_of(log: &dyn EventLog, reached: &[Reached]) -> Result<bool, LogError> {
    for (partition, Reached { next, last }) in (0..).zip(reached) {
        let Some(position) = next.checked_sub(1) else { continue };
        if log.read(partition, position, 1).await?.first().is_none_or(|entry| hash(&entry.body) != *last) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Folds the partition's records up to `end`; tells how many there were.
pub(crate) async fn catch_up(book: &mut Book, log: &dyn EventLog, partition: Partition, end: Position) -> Result<u64, RecoverError> {
    let next_of = |book: &Book| book.reached[usize::from(partition)].next;
    let from = next_of(book);
    let deadline = Instant::now() + SEEN_WITHIN;
    while next_of(book) < end {
        let next = next_of(book);
        follow(book, log, partition).await?;
        if next_of(book) == next {
            if Instant::now() > deadline {
                let source = Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut));
                return Err(LogError::Unavailable { action: "read up to the end of a partition", source }.into());
            }
            log.wait_beyond(&beyond_one(log.partitions(), partition, next), LOOK_AGAIN).await?;
        }
        if book.accounts.is_full() {
            book.accounts.write_checkpoint(book.reached.clone())?;
        }
    }
    Ok(next_of(book) - from)
}

/// Folds the next of the partition's records, as far as there are any.
pub(crate) async fn follow(book: &mut Book, log: &dyn EventLog, partition: Partition) -> Result<(), RecoverError> {
    for entry in &log.read(partition, book.reached[usize::from(partition)].next, READ_MAX).await? {
        let position = entry.position;
        let passed = Reached { next: position + 1, last: hash(&entry.body) };
        let record = match Record::decode(&entry.body) {
            Ok(record) if book.accounts.stopped(&entry.account).is_none() => record,
            read => {
                book.reached[usize::from(partition)] = passed;
                if let Err(error) = read.map(drop)
                    && book.accounts.stopped(&entry.account).is_none()
                {
                    tracing::error!(account = entry.account, partition, position, %error, "an account is stopped: its record can't be read");
                    book.accounts.stop(entry.account.clone(), format!("record {position} of partition {partition}: {error}"));
                }
                continue;
            }
        };
        if !book.programs.by_id.contains_key(&record.key.program) {
            // A program is published before its first record, but the two come on ways of their own.
            book.programs.follow(log).await?;
        }
        let Some(program) = book.programs.by_id.get(&record.key.program).map(|state| Arc::clone(&state.program)) else { break };
        if is_planted(Bug::LostTailOnTakeOver) && log.ends().await?.get(usize::from(partition)) == Some(&(position + 1)) {
            book.reached[usize::from(partition)] = passed;
            break;
        }
        replay(book, partition, entry, &record, &program)?;
        book.reached[usize::from(partition)] = passed;
    }
    Ok(())
}

/// Folds a record into its account; an account whose record does not follow the one before it is stopped.
fn replay(book: &mut Book, partition: Partition, entry: &Entry, record: &Record, program: &Program) -> Result<(), StoreError> {
    let position = entry.position;
    let key: &AccountKey = &record.key;
    let account = book.accounts.get(key, program)?.account_mut();
    if record.account_seq != account.seq + 1 || record.previous_hash != account.last_hash {
        let (found, last) = (record.account_seq, account.seq);
        tracing::error!(account = entry.account, partition, position, found, last, "an account is stopped: its record does not follow the one before it");
        let why = format!("record {position} of partition {partition}, which is number {found} after number {last}, or whose chain is broken");
        book.accounts.stop(entry.account.clone(), why);
        return Ok(());
    }
    record.events.iter().for_each(|event| account.evolve(event));
    account.seal(record.recorded_at, hash(&entry.body));
    book.accounts.changed(key, program);
    if record.command_kind != "expire" {
        let id = command_key(&entry.account, &record.command_kind, &record.command_id);
        let used = UsedId { content: record.content_hash, partition, position };
        book.accounts.use_id(id, used);
    }
    Ok(())
}
