//! The number that every record, entry and message begins with.

/// The newest schema that this code reads. Records of edition 1 and entries that every release can read are of version 1, all else is of 2.
pub const SCHEMA_VERSION: u32 = 2;
