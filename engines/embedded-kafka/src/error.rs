//! Why there is no broker.

use std::path::{Path, PathBuf};

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// Java is not installed.
    #[error("no java was found; the broker needs Java 17 or later (Debian: apt-get install openjdk-17-jre-headless)")]
    Java(#[source] std::io::Error),
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
    /// A jar can't be fetched.
    #[error("{jar} can't be fetched")]
    Fetch {
        /// Which.
        jar: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// A jar is not what `jars.txt` says.
    #[error("{jar} has the SHA-256 {found}, {expected} was expected")]
    Hash {
        /// Which.
        jar: String,
        /// Of what came.
        found: String,
        /// Of `jars.txt`.
        expected: String,
    },
    /// The broker ended or did not come up.
    #[error("the broker failed: {output}")]
    Broker {
        /// The end of what it printed.
        output: String,
    },
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> KafkaError {
    let path = path.to_owned();
    move |source| KafkaError::Io { action, path, source }
}
