//! The REST API, under `/v1`.
//!
//! Invariants: a command answers after it is on the log; the same id with the same content gives the same body again; every error is
//! RFC 9457 with a stable `code`; a read says up to which position it has seen.

mod alias;
mod answer;
mod body;
mod http;
mod keys;
mod names;
mod parameters;
mod problem;
mod reads;
mod responses;
mod state;

pub use alias::{AliasKey, AliasKeyError};
pub use http::{PublicUrlError, PublicUrls, closed_months, openapi, ops_router, read_command, router};
pub use keys::{Keys, KeysError, hash_key};
pub use problem::{CODES, Code};
pub use state::{ApiState, StateError, real_now};
