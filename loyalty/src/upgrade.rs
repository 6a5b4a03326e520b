//! `loyalty upgrade`: moves a book to the edition of this release, by an entry on its program stream.
//!
//! Invariant: the entry names the position after the last record of each partition, and is appended by whoever has the whole log, so every
//! record before it is of an older edition and every one after it of the new.

use std::sync::Arc;

use anyhow::Context;
use api::real_now;
use command_service::{Programs, ProgramsError};
use event_log::{Batch, EventLog, Partition};
use ledger_core::edition::EDITION;
use ledger_schemas::{EditionEntered, ProgramChange, ProgramEntry, encode_program_entry};

use crate::args::DataOptions;
use crate::node::{Database, open_log};

/// Upgrades the book, if it is of an older edition.
pub async fn run(options: DataOptions) -> anyhow::Result<()> {
    let database = Database::open(&options).await.context("the book is in use; stop every process first")?;
    let log = open_log(&options, &database).await?;
    match upgrade(&*log).await? {
        Some(found) => println!("the book was decided by edition {found}; from here on it is decided by edition {EDITION}"),
        None => println!("the book is decided by edition {EDITION}, or is new: nothing to do"),
    }
    Ok(())
}

/// Tells which edition the book was of, if there was something to do.
async fn upgrade(log: &dyn EventLog) -> anyhow::Result<Option<u32>> {
    let mut writer = log.acquire("loyalty upgrade").await?;
    let found = match Programs::load(log).await?.require_edition() {
        Ok(()) => return Ok(None),
        Err(ProgramsError::OlderEdition { found }) => found,
        Err(other) => return Err(other.into()),
    };
    let first_positions = (0..log.partitions()).map(|partition: Partition| writer.next_position(partition)).collect();
    let change = ProgramChange::EditionEntered(EditionEntered::current(first_positions));
    let entry = ProgramEntry { recorded_at: real_now(), actor: "cli".into(), change };
    let batch = Batch { programs: vec![encode_program_entry(&entry)], ..Batch::default() };
    writer.append(Arc::new(batch)).await?;
    Ok(Some(found))
}
