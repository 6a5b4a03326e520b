//! Aliases: a card's number becomes a keyed hash before anything else sees it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ledger_core::id::{Alias, Id};

/// The key of the hashes: who has it can try card numbers against the book, who has not can't.
#[derive(Clone)]
pub struct AliasKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum AliasKeyError {
    /// The file.
    #[error("the alias key file {path} can't be read or made")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("the alias key file {path} is wrong: 64 hexadecimal digits are expected")]
    Form {
        /// Which.
        path: String,
    },
}

impl From<[u8; 32]> for AliasKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl AliasKey {
    /// The key in the file at `path`, which is made with a new key where it is not there. All processes of a ledger need the same.
    ///
    /// # Errors
    /// [`AliasKeyError`]
    pub fn read_or_make(path: &Path) -> Result<Self, AliasKeyError> {
        let file = |source| AliasKeyError::File { path: path.display().to_string(), source };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::make(path).map_err(file)?,
            read => read.map_err(file)?,
        };
        let hash = blake3::Hash::from_hex(text.trim()).map_err(|_| AliasKeyError::Form { path: path.display().to_string() })?;
        Ok(Self(*hash.as_bytes()))
    }

    fn make(path: &Path) -> std::io::Result<String> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(std::io::Error::other)?;
        let text = blake3::Hash::from_bytes(key).to_hex().to_string();
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            // Another process was first.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => std::fs::read_to_string(path),
            file => {
                let mut file = file?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                Ok(text)
            }
        }
    }

    /// What tells this key from others, and nothing of it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        let hash = blake3::derive_key("loyalty ledger 2026 fingerprint of an alias key", &self.0);
        *hash.first_chunk().expect("a hash has 32 bytes")
    }

    /// The alias of `name`, which is of `kind` (`card`, `member`), in `program`.
    #[must_use]
    pub fn alias(&self, program: &Id, kind: &str, name: &str) -> Alias {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [program.as_str(), kind, name] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes()).update(part.as_bytes());
        }
        Alias(*hasher.finalize().as_bytes())
    }
}
