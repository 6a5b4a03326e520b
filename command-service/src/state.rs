//! Where the state store's bytes are: an embedded key-value engine (fjall), or one that the simulator breaks at will.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// Opening the engine reads its journal, and whoever takes over waits for that.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Why the engine can't read or write.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Its checksums say that what is there is not what was written.
    #[error("the state store in {place} is damaged")]
    Damaged {
        /// Where it is.
        place: String,
        /// What was found.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It failed otherwise.
    #[error("the state store in {place} failed")]
    Failed {
        /// Where it is.
        place: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What the state store keeps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// Accounts, by key.
    Accounts,
    /// Ids ever used.
    Ids,
    /// What falls due, by account.
    Due,
    /// What the store is the fold of.
    Meta,
    /// Purchases, by account and record.
    Purchases,
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);
/// A write: a value, or none to remove the key.
pub type Change = (Space, Vec<u8>, Option<Vec<u8>>);

/// An open key-value engine.
pub trait State: Send + Sync {
    /// The value at `key`.
    ///
    /// # Errors
    /// [`StateError`].
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// The keys of `space` that begin with `prefix`, in their order, with their values.
    ///
    /// # Errors
    /// [`StateError`].
    fn under(&self, space: Space, prefix: &[u8]) -> Result<Vec<Pair>, StateError>;

    /// Makes `changes`, all or none.
    ///
    /// # Errors
    /// [`StateError`].
    fn write(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StateError>;

    /// What it takes on disk.
    fn disk_bytes(&self) -> u64;
}

/// A place for a state store that is not a folder.
pub trait StateHome: Send + Sync {
    /// Opens what is there.
    ///
    /// # Errors
    /// [`StateError`].
    fn open(&self) -> Result<Box<dyn State>, StateError>;

    /// Throws away what is there.
    fn wipe(&self);
}

/// Where a state store is.
#[derive(Clone)]
pub enum StatePlace {
    /// In a folder of its own.
    Folder(PathBuf),
    /// Wherever that is.
    Home(Arc<dyn StateHome>),
}

impl std::fmt::Debug for StatePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl StatePlace {
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Home(_) => "a home of its own".into(),
        }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn State>, StateError> {
        match self {
            Self::Folder(path) => Ok(Box::new(Fjall::open(path)?)),
            Self::Home(home) => home.open(),
        }
    }

    /// Throws away what is there, which nobody has open.
    pub(crate) fn wipe(&self) -> Result<(), StateError> {
        tracing::warn!(place = self.name(), "the state store is damaged or of another book or form; it is made anew from the log");
        match self {
            Self::Folder(path) => std::fs::remove_dir_all(path).map_err(|e| StateError::Failed { place: self.name(), source: Box::new(e) }),
            Self::Home(home) => {
                home.wipe();
                Ok(())
            }
        }
    }
}

struct Fjall {
    path: PathBuf,
    db: Database,
    /// In the order of [`Space`].
    spaces: [Keyspace; 5],
}

impl Fjall {
    fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |e| failed(path, e);
        let db = Database::builder(path).worker_threads(1).cache_size(32 << 20).max_journaling_size(JOURNAL_BYTES).open().map_err(failed)?;
        let keyspace = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default).map_err(failed);
        let spaces = [keyspace("accounts")?, keyspace("ids")?, keyspace("due")?, keyspace("meta")?, keyspace("purchases")?];
        Ok(Self { path: path.to_owned(), spaces, db })
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }
}

fn failed(path: &Path, error: fjall::Error) -> StateError {
    use fjall::Error as E;
    let is_io = matches!(error, E::Io(_) | E::Poisoned | E::Locked | E::KeyspaceDeleted) || matches!(&error, E::Storage(inner) if is_io(inner));
    let (place, source) = (path.display().to_string(), Box::new(error));
    if is_io { StateError::Failed { place, source } } else { StateError::Damaged { place, source } }
}

/// The engine's inner error is not nameable here; its chain tells whether the disk failed.
fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

impl State for Fjall {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let value = self.space(space).get(key).map_err(|e| failed(&self.path, e))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn under(&self, space: Space, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        let pairs = self.space(space).prefix(prefix).map(fjall::Guard::into_inner);
        let pairs = pairs.map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
        pairs.collect::<Result<_, _>>().map_err(|e| failed(&self.path, e))
    }

    fn write(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StateError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
        for (space, key, value) in changes {
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => batch.remove(self.space(space), key),
            }
        }
        batch.commit().map_err(|e| failed(&self.path, e))
    }

    fn disk_bytes(&self) -> u64 {
        self.spaces.iter().map(Keyspace::disk_space).sum()
    }
}
