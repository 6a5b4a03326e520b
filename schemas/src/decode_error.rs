//! Why bytes of the book can't be read.

use crate::read::Malformed;
use crate::schema_version::SCHEMA_VERSION;

/// Why bytes of the book can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf.
    #[error("the bytes are not protobuf of the book's schema")]
    Malformed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Written by a newer program.
    #[error("the record is of schema version {found}, this program reads up to {SCHEMA_VERSION}: upgrade it")]
    NewerSchema {
        /// The record's.
        found: u32,
    },
    /// A field that must be there is not, or holds what it can't.
    #[error("field {field} is missing or out of range")]
    Field {
        /// Which.
        field: &'static str,
    },
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(Box::new(error))
    }
}

impl From<Malformed> for DecodeError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(Box::new(error))
    }
}

pub(crate) type Decoded<T> = Result<T, DecodeError>;
