//! API keys: bearer tokens, kept as hashes, with scopes.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a key may do; each scope holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look.
    Read,
    /// Send commands.
    Write,
    /// Publish rulebooks and set clocks.
    Admin,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    hash: String,
    scopes: Vec<Scope>,
}

/// The keys of a file.
#[derive(Debug, Clone)]
pub struct Keys(Vec<(blake3::Hash, Key)>);

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It can't be read.
    #[error("the key file {path} can't be read")]
    Read {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("the key file {path} is not a JSON list of {{\"name\", \"hash\", \"scopes\"}}")]
    Parse {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A hash is none.
    #[error("key {name} in {path}: hash {hash:?} is not 64 hexadecimal digits; make one with `loyalty key`")]
    Hash {
        /// Which file.
        path: String,
        /// Which key.
        name: String,
        /// What is there.
        hash: String,
    },
}

/// The hash of a key, as the file holds it.
#[must_use]
pub fn hash_key(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

impl Keys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeysError`]
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|source| KeysError::Read { path: name.clone(), source })?;
        let keys: Vec<Key> = serde_json::from_slice(&text).map_err(|source| KeysError::Parse { path: name.clone(), source })?;
        let hashed = keys.into_iter().map(|key| match blake3::Hash::from_hex(&key.hash) {
            Ok(hash) => Ok((hash, key)),
            Err(_) => Err(KeysError::Hash { path: name.clone(), name: key.name, hash: key.hash }),
        });
        hashed.collect::<Result<_, _>>().map(Self)
    }

    /// The name of the key, if there is one with this token, and whether it has `scope`.
    pub(crate) fn find(&self, token: &str, scope: Scope) -> Option<(&str, bool)> {
        let hash = blake3::hash(token.as_bytes());
        // Comparing blake3 hashes takes the same time whatever they are.
        let (_, key) = self.0.iter().find(|(known, _)| *known == hash)?;
        Some((&key.name, key.scopes.iter().any(|has| *has >= scope)))
    }
}
