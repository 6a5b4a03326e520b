//! The book's wire format: protobuf, generated from `proto/`, with a codec from and to the core's types.
//!
//! Invariants: what was ever written can be read; a record of a newer schema than this is refused, never skipped or guessed at;
//! a record's hash is BLAKE3 over its bytes as stored.

mod archived;
mod ask;
mod closing;
mod decode;
mod decode_record;
mod encode;
mod published;
mod read;
mod record;
mod wire;

pub use archived::{Archived, ArchivedRecords};
pub use ask::{Ask, What};
pub use closing::{Closing, IssueMonth, Month};
pub use decode::DecodeError;
pub use encode::{content_hash, encode_outcome, encode_program_entry, encode_record};
pub use published::{Published, Whose};
pub use record::{EditionEntered, Fingerprint, Hash, Outcome, ProgramChange, ProgramEntry, Record, hash};

/// The newest schema that this code reads. Records of edition 1 and entries that every release can read are of version 1, all else is of 2.
pub const SCHEMA_VERSION: u32 = 2;

/// The generated types.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/loyalty.v1.rs"));
}
