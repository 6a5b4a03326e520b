//! Purchases and returns from a topic: read, matched to accounts, decided; what can't be is kept.
//!
//! Invariants: a message's offset is committed after it is booked, refused for good, or kept; each message is read at least once and,
//! as its id is the idempotency key and its account is fixed before it is booked, booked at most once; the messages of one account are booked in their order; no card number or
//! member reference is stored, only its keyed hash; what is rejected is kept without it.

mod error;
mod mask;
mod message;
mod registry;
mod run;
mod source;
mod store;

pub use error::{EngineError, IntakeError};
pub use registry::Registry;
pub use run::{Intake, mark};
pub use source::{IntakeOptions, Message, Place, Source};
pub use store::{Claimable, Early, Known, Mark, Refused, Store, Unmatched, migrate};
