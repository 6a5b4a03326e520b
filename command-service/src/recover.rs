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
use crate::programs::{Programs, ProgramsError};
use crate::request::command_key;
use crate::state::StatePlace;
use crate::store::{Store, StoreError, UsedId};

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
    /// A record does not follow the one before it.
    #[error("record {position} of partition {partition} is number {found} of account {account}, after number {last}, or its chain is broken")]
    Chain {
        /// Its partition.
        partition: u16,
        /// Its position.
        position: Position,
        /// Whose.
        account: String,
        /// Its number.
        found: u64,
        /// The number of the one before it.
        last: u64,
    },
}

/// The state as it was kept, and what the log has after it: of all partitions, unless others keep theirs and this is to take them as they come.
pub(crate) async fn recover(log: &dyn EventLog, state: &StatePlace, capacity: usize, follows: bool) -> Result<Book, RecoverError> {
    let (partitions, book_id) = (log.partitions(), log.book_id());
    let programs = Programs::load(log).await?;
    programs.require_edition()?;
    let (mut store, mut positions) = Store::open(state, book_id, partitions)?;
    // What was kept is on the log, but may take its time to be seen.
    let deadline = Instant::now() + SEEN_WITHIN;
    while log.ends().await?.iter().zip(&positions).any(|(end, position)| end < position) {
        if Instant::now() > deadline {
            store = store.wipe()?;
            positions = vec![0; usize::from(partitions)];
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let accounts = Accounts::new(store, book_id, partitions, capacity)?;
    let mut book = Book::new(accounts, programs, positions);
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

/// Folds the partition's records up to `end`; tells how many there were.
pub(crate) async fn catch_up(book: &mut Book, log: &dyn EventLog, partition: Partition, end: Position) -> Result<u64, RecoverError> {
    let from = book.next[usize::from(partition)];
    let deadline = Instant::now() + SEEN_WITHIN;
    while book.next[usize::from(partition)] < end {
        let next = book.next[usize::from(partition)];
        follow(book, log, partition).await?;
        if book.next[usize::from(partition)] == next {
            if Instant::now() > deadline {
                let source = Box::new(std::io::Error::from(std::io::ErrorKind::TimedOut));
                return Err(LogError::Unavailable { action: "read up to the end of a partition", source }.into());
            }
            log.wait_beyond(&beyond_one(log.partitions(), partition, next), LOOK_AGAIN).await?;
        }
        if book.accounts.is_full() {
            book.accounts.write_checkpoint(book.next.clone())?;
        }
    }
    Ok(book.next[usize::from(partition)] - from)
}

/// Folds the next of the partition's records, as far as there are any.
pub(crate) async fn follow(book: &mut Book, log: &dyn EventLog, partition: Partition) -> Result<(), RecoverError> {
    for entry in &log.read(partition, book.next[usize::from(partition)], READ_MAX).await? {
        let position = entry.position;
        let record = match Record::decode(&entry.body) {
            Ok(record) if book.accounts.stopped(&entry.account).is_none() => record,
            read => {
                book.next[usize::from(partition)] = position + 1;
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
            book.next[usize::from(partition)] = position + 1;
            break;
        }
        replay(book, partition, entry, &record, &program)?;
    }
    Ok(())
}

fn replay(book: &mut Book, partition: Partition, entry: &Entry, record: &Record, program: &Program) -> Result<(), RecoverError> {
    let position = entry.position;
    let key: &AccountKey = &record.key;
    let account = book.accounts.get(key, program)?.account_mut();
    if record.account_seq != account.seq + 1 || record.previous_hash != account.last_hash {
        let (found, last) = (record.account_seq, account.seq);
        return Err(RecoverError::Chain { partition, position, account: entry.account.clone(), found, last });
    }
    record.events.iter().for_each(|event| account.evolve(event));
    account.seal(record.recorded_at, hash(&entry.body));
    book.accounts.changed(key, program);
    if record.command_kind != "expire" {
        let id = command_key(&entry.account, &record.command_kind, &record.command_id);
        let used = UsedId { content: record.content_hash, partition, position };
        book.accounts.use_id(id, used);
    }
    book.next[usize::from(partition)] = position + 1;
    Ok(())
}
