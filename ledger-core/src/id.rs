//! Opaque identifiers. Invariant: an [`Id`] is 1 to 64 of `A-Z a-z 0-9 . _ : -`, so it can stand in a URL, a log line and
//! a file name as it is, and can't be an e-mail address or a name in clear.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

/// An opaque id: of a program, an account, a purchase, a redemption, a return, an adjustment or a line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[schemars(transparent)]
pub struct Id(#[schemars(regex(pattern = r"^[A-Za-z0-9._:-]{1,64}$"), with = "String")] CompactString);

/// Why a text is no [`Id`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("id {value:?} is not 1 to 64 characters of A-Z a-z 0-9 . _ : -")]
pub struct IdError {
    /// What was given.
    pub value: String,
}

/// The alphabet, looked up: ids are most of what a record is made of.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let letter = byte as u8;
        allowed[byte] = letter.is_ascii_alphanumeric() || matches!(letter, b'.' | b'_' | b':' | b'-');
        byte += 1;
    }
    allowed
};

impl Id {
    /// Checks and takes `text`.
    ///
    /// # Errors
    /// [`IdError`] when it is empty, longer than 64 characters, or holds a character outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|byte| ALLOWED[usize::from(byte)]) {
            Ok(Self(CompactString::new(text)))
        } else {
            Err(IdError { value: text.chars().take(80).collect() })
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Where a member's points are kept: one account of one program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AccountKey {
    /// The program.
    pub program: Id,
    /// The account, opaque to the ledger.
    pub account: Id,
}

impl AccountKey {
    /// As it is displayed, in less time.
    #[must_use]
    pub fn name(&self) -> String {
        [self.program.as_str(), "/", self.account.as_str()].concat()
    }
}

impl fmt::Display for AccountKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.program, self.account)
    }
}

/// Another name of an account, such as a card's number: a keyed hash of it, so that the ledger never knows the number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alias(pub [u8; 32]);

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_e_mail_address_is_no_id() {
        assert!(Id::parse("jane@example.org").is_err());
        assert!(Id::parse("").is_err());
        assert!(Id::parse(&"x".repeat(65)).is_err());
        assert!(Id::parse(&"x".repeat(64)).is_ok());
        assert_eq!(Id::parse("A.z_0:9-").unwrap().as_str(), "A.z_0:9-");
    }
}
