//! A Postgres server of one's own, in a folder of one's own.
//!
//! Invariants: two servers never share a folder (a lock that ends with its process); the server ends when its owner does, however
//! that happens (it stops when a pipe from the owner closes); it listens on loopback only, with a password that only the folder's
//! owner can read; it never runs as root.

mod binaries;
mod child_process;
mod error;
mod server;
pub mod testing;
mod user;

pub use binaries::{cache, find_or_fetch, use_ring};
pub use child_process::{GUARD, free_port, last_lines};
pub use error::PostgresError;
pub use server::Server;
