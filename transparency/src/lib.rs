//! What an auditor can check alone.
//!
//! A **leaf** is the BLAKE3 hash of what stands on the log: a record, an outcome, an entry of the program stream. Each stream of them has a Merkle
//! tree (RFC 6962, SHA-256). A **head** is a text that says how far each stream had come and what its root was then; the heads are the entries of a
//! tree of their own, whose signed **checkpoint** (C2SP tlog-checkpoint, signed-note) therefore covers the whole book, and whose tiles
//! (C2SP tlog-tiles) any tool and witness of transparency logs can follow. Each checkpoint is kept first, then **cosigned** by witnesses (C2SP tlog-witness,
//! tlog-cosignature).
//!
//! Invariants: a head never takes back what an earlier one said; nothing here writes to the book.

mod again;
mod archive;
mod by_account;
mod contents;
mod cosignature;
mod head;
mod receipt;
mod record;
mod replay;
mod seal;
mod tree;
mod verify;
mod witness;

pub use again::{Again, Programs};
pub use archive::{ArchiveLog, export};
pub use cosignature::Quorum;
pub use head::Head;
pub use receipt::{Receipt, Sealed, record_text};
pub use record::{agrees_with, balanced, follows};
pub use replay::{Difference, Replayed, Standing, Sums, WhatIf, replay};
pub use seal::{Key, Sealer, make_key};
pub use verify::{Verified, cosigned, extends, verify};
pub use witness::Witnesses;

use std::path::{Path, PathBuf};

use event_log::LogError;

/// Why something can't be sealed, proven or verified.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A file.
    #[error("can't {action} {}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another process is at work there.
    #[error("another process seals in {}", folder.display())]
    Taken {
        /// Where.
        folder: PathBuf,
    },
    /// The log does not go on from what was sealed.
    #[error(
        "the log is not the one that was sealed in {}: {stream}: {what}. A backup may have been restored that lacks what came after it. What was signed can't be \
         taken back: keep that folder, which proves what was lost, and seal into a new one (--seal NEW)", folder.display()
    )]
    Diverged {
        /// Where.
        folder: PathBuf,
        /// Which stream.
        stream: String,
        /// How.
        what: String,
    },
    /// Something is not what it should be.
    #[error("{0}")]
    Wrong(String),
    /// A key can't be read.
    #[error("the key is not one: {0}; `loyalty audit key` makes one")]
    Key(String),
    /// A witness, its key or its URL, can't be one.
    #[error("{0}")]
    Witness(String),
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> AuditError {
    let path = path.to_owned();
    move |source| AuditError::File { action, path, source }
}
