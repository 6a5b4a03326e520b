//! Catching up: the state store's accounts, plus what the log has after its positions.

use std::path::Path;

use event_log::{Entry, EventLog, LogError, Position, Writer};
use ledger_core::id::AccountKey;
use ledger_core::policy::Program;
use ledger_schemas::{DecodeError, Record, hash};

use crate::accounts::Accounts;
use crate::book::Book;
use crate::programs::{Programs, ProgramsError};
use crate::request::command_key;
use crate::store::{Store, StoreError, UsedId, account_mark};

const READ_MAX: usize = 5000;

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
    /// A record can't be read.
    #[error("record {position} of partition {partition} can't be read")]
    Decode {
        /// Its partition.
        partition: u16,
        /// Its position.
        position: Position,
        /// Why.
        #[source]
        source: DecodeError,
    },
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

/// Makes the state anew, up to where `writer` goes on.
pub(crate) async fn recover(log: &dyn EventLog, writer: &dyn Writer, folder: &Path, capacity: usize) -> Result<Book, RecoverError> {
    let ends: Vec<Position> = (0..log.partitions()).map(|partition| writer.next_position(partition)).collect();
    let programs = Programs::load(log).await?;
    let (store, positions) = Store::open(folder, log.book_id(), &ends)?;
    let accounts = Accounts::new(store, log.book_id(), capacity)?;
    let mut book = Book::new(accounts, programs, positions);
    let begin = std::time::Instant::now();
    let mut count = 0_usize;
    for partition in 0..log.partitions() {
        let end = ends[usize::from(partition)];
        while book.next[usize::from(partition)] < end {
            let entries = log.read(partition, book.next[usize::from(partition)], READ_MAX).await?;
            if entries.is_empty() {
                break;
            }
            for entry in &entries {
                replay(&mut book, partition, entry)?;
            }
            count += entries.len();
            if book.accounts.is_full() {
                book.accounts.write_checkpoint(book.next.clone())?;
            }
        }
    }
    tracing::info!(records = count, seconds = begin.elapsed().as_secs_f32(), "caught up with the log");
    Ok(book)
}

fn replay(book: &mut Book, partition: u16, entry: &Entry) -> Result<(), RecoverError> {
    let position = entry.position;
    let record = Record::decode(&entry.body).map_err(|source| RecoverError::Decode { partition, position, source })?;
    let none = Program::default();
    let program = book.programs.0.get(&record.key.program).map(|state| state.program.clone());
    let program = program.as_deref().unwrap_or(&none);
    let key: &AccountKey = &record.key;
    let account = &mut book.accounts.get(key, program)?.account;
    if record.account_seq != account.seq + 1 || record.previous_hash != account.last_hash {
        let (found, last) = (record.account_seq, account.seq);
        return Err(RecoverError::Chain { partition, position, account: entry.account.clone(), found, last });
    }
    record.events.iter().for_each(|event| account.evolve(event));
    account.seal(record.recorded_at, hash(&entry.body));
    book.accounts.changed(key, program);
    if record.command_kind != "expire" {
        let id = command_key(&key.program, &record.command_kind, &record.command_id);
        let used = UsedId { content: record.content_hash, account: account_mark(&entry.account), partition, position };
        book.accounts.use_id(id, used);
    }
    book.next[usize::from(partition)] = position + 1;
    Ok(())
}
