//! The state store: accounts, ids ever used and what is due, in an embedded key-value store beside the log.
//!
//! Invariant: what it holds is the fold of the log up to the positions that it holds, written in one atomic batch. It can be thrown
//! away at any time; the log makes it again.

use std::path::{Path, PathBuf};

use event_log::{Partition, Position};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use ledger_core::account::Account;
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;
use ledger_schemas::Hash;
use serde::{Deserialize, Serialize};

use crate::request::CommandKey;

/// Changed when the form of what is stored changes: an older store is thrown away.
const FORMAT: &str = "3";

/// Opening the store reads its journal, and whoever takes over waits for that.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Why the store can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's engine.
    #[error("the state store in {} failed", path.display())]
    Engine {
        /// Its folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<fjall::Error>,
    },
    /// The folder.
    #[error("the state store's folder {} can't be used", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is stored is not what was written.
    #[error("the state store holds something unreadable at {key}")]
    Corrupt {
        /// Where.
        key: String,
        /// Why.
        #[source]
        source: postcard::Error,
    },
}

/// An id that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedId {
    pub(crate) content: Hash,
    pub(crate) partition: Partition,
    pub(crate) position: Position,
}

impl UsedId {
    fn to_bytes(self) -> [u8; 42] {
        let mut bytes = [0; 42];
        bytes[..32].copy_from_slice(&self.content);
        bytes[32..34].copy_from_slice(&self.partition.to_be_bytes());
        bytes[34..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<32>()?;
        let (partition, rest) = rest.split_first_chunk::<2>()?;
        let position = rest.try_into().ok()?;
        Some(Self { content: *content, partition: u16::from_be_bytes(*partition), position: u64::from_be_bytes(position) })
    }
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Header {
    format: String,
    book: String,
    positions: Vec<Position>,
}

pub(crate) struct Store {
    path: PathBuf,
    db: Database,
    accounts: Keyspace,
    ids: Keyspace,
    due: Keyspace,
    meta: Keyspace,
}

/// What one checkpoint writes.
pub(crate) struct Checkpoint<'a> {
    pub(crate) accounts: Vec<(&'a AccountKey, &'a Account, Option<Moment>)>,
    pub(crate) ids: &'a std::collections::HashMap<CommandKey, UsedId>,
    pub(crate) positions: Vec<Position>,
}

impl Store {
    /// Opens the store in `path` and tells up to where it has folded the book; a store of another book or form is made anew.
    pub(crate) fn open(path: &Path, book: &str, partitions: u16) -> Result<(Self, Vec<Position>), StoreError> {
        let store = Self::open_folder(path)?;
        let header = store.header()?;
        if header.format == FORMAT && header.book == book && header.positions.len() == usize::from(partitions) {
            return Ok((store, header.positions));
        }
        let store = if header == Header::default() { store } else { store.wipe()? };
        let positions = vec![0; usize::from(partitions)];
        let header = Header { format: FORMAT.into(), book: book.into(), positions: positions.clone() };
        let bytes = postcard::to_stdvec(&header).expect("a header always serializes");
        store.meta.insert("header", bytes).map_err(|e| store.engine(e))?;
        Ok((store, positions))
    }

    /// The store anew, empty.
    pub(crate) fn wipe(self) -> Result<Self, StoreError> {
        let path = self.path.clone();
        tracing::warn!(path = %path.display(), "the state store is of another book or form; it is made anew from the log");
        drop(self);
        std::fs::remove_dir_all(&path).map_err(|source| StoreError::Folder { path: path.clone(), source })?;
        Self::open_folder(&path)
    }

    fn open_folder(path: &Path) -> Result<Self, StoreError> {
        let engine = |source: fjall::Error| StoreError::Engine { path: path.to_owned(), source: Box::new(source) };
        let db = Database::builder(path).worker_threads(1).cache_size(32 << 20).max_journaling_size(JOURNAL_BYTES).open().map_err(engine)?;
        let keyspace = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default).map_err(engine);
        let (accounts, ids, due, meta) = (keyspace("accounts")?, keyspace("ids")?, keyspace("due")?, keyspace("meta")?);
        Ok(Self { path: path.to_owned(), accounts, ids, due, meta, db })
    }

    fn engine(&self, source: fjall::Error) -> StoreError {
        StoreError::Engine { path: self.path.clone(), source: Box::new(source) }
    }

    fn header(&self) -> Result<Header, StoreError> {
        let bytes = self.meta.get("header").map_err(|e| self.engine(e))?;
        // A header that can't be read is of another form.
        Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
    }

    pub(crate) fn account(&self, key: &AccountKey) -> Result<Option<Account>, StoreError> {
        let Some(bytes) = self.accounts.get(key.to_string()).map_err(|e| self.engine(e))? else { return Ok(None) };
        postcard::from_bytes(&bytes).map(Some).map_err(|source| StoreError::Corrupt { key: key.to_string(), source })
    }

    pub(crate) fn used_id(&self, key: &CommandKey) -> Result<Option<UsedId>, StoreError> {
        Ok(self.ids.get(key).map_err(|e| self.engine(e))?.and_then(|bytes| UsedId::from_bytes(&bytes)))
    }

    /// All accounts with something due, and when.
    pub(crate) fn all_due(&self) -> Result<Vec<(AccountKey, Moment)>, StoreError> {
        let mut all = Vec::new();
        for entry in self.due.iter() {
            let (key, value) = entry.into_inner().map_err(|e| self.engine(e))?;
            let key = std::str::from_utf8(&key).ok().and_then(|key| key.split_once('/'));
            let key = key.and_then(|(program, account)| Some(AccountKey { program: Id::parse(program).ok()?, account: Id::parse(account).ok()? }));
            let at = value.as_ref().try_into().ok().and_then(|bytes| Moment::from_micros(i64::from_be_bytes(bytes)));
            all.extend(key.zip(at));
        }
        Ok(all)
    }

    /// What it takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        [&self.accounts, &self.ids, &self.due, &self.meta].iter().map(|keyspace| keyspace.disk_space()).sum()
    }

    pub(crate) fn write(&self, book: &str, checkpoint: Checkpoint<'_>) -> Result<(), StoreError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for (key, account, due) in checkpoint.accounts {
            let name = key.to_string();
            let bytes = postcard::to_stdvec(account).map_err(|source| StoreError::Corrupt { key: name.clone(), source })?;
            match due {
                Some(at) => batch.insert(&self.due, name.clone(), at.as_micros().to_be_bytes()),
                None => batch.remove(&self.due, name.clone()),
            }
            batch.insert(&self.accounts, name, bytes);
        }
        for (key, used) in checkpoint.ids {
            batch.insert(&self.ids, *key, used.to_bytes());
        }
        let header = Header { format: FORMAT.into(), book: book.into(), positions: checkpoint.positions };
        batch.insert(&self.meta, "header", postcard::to_stdvec(&header).expect("a header always serializes"));
        batch.commit().map_err(|e| self.engine(e))
    }
}
