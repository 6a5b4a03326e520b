//! The book's wire format: protobuf, generated from `proto/`, with a codec from and to the core's types.
//!
//! Invariants: what was ever written can be read; a record of a newer schema than this is refused, never skipped or guessed at;
//! a record's hash is BLAKE3 over its bytes as stored.

mod archived;
mod ask;
mod closing;
mod closing_codec;
mod decode;
mod decode_error;
mod decode_record;
mod encode;
mod fields;
mod published;
mod read;
mod record;
mod schema_version;
pub mod v1;
mod wire;

pub use archived::{Archived, ArchivedRecords};
pub use ask::{Ask, What};
pub use closing::{Closing, IssueMonth, Month};
pub use decode_error::DecodeError;
pub use encode::{content_hash, encode_outcome, encode_program_entry, encode_record};
pub use published::{Published, Whose};
pub use record::{EditionEntered, Fingerprint, Hash, Outcome, ProgramChange, ProgramEntry, Record, hash};
pub use schema_version::SCHEMA_VERSION;
