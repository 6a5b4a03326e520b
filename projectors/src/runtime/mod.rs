//! What every projector does alike: read, check, fold, write, checkpoint; rebuild and verify.
//!
//! Invariants: rows and checkpoint change in one transaction, and only from the position that the checkpoint holds, so two projectors
//! of one read model can't apply a record twice; an account whose record can't be read or does not follow the one before it is
//! stopped there and named, the rest of the partition goes on.

mod apply;
mod error;
mod project;
mod read_model;
mod readable;
mod rebuild;
mod rows;
mod tables;
mod verify;

pub(crate) use error::failed;
pub use error::{EngineError, ProjectorError};
pub use project::{Health, Lag, Projector, lags};
pub use read_model::{Placed, ReadModel};
pub use rebuild::rebuild;
pub use rows::Rows;
pub use tables::{Run, Tables, TablesChange};
pub(crate) use verify::{Follower, verify_beside};
pub use verify::{Verified, verify};
