//! Commands in, records out.
//!
//! The way of a command: whoever asks has its form checked and its hashes made; it waits in a bounded queue; the loop takes all that
//! wait, settles what is due, decides each against the account in memory, and stages one batch; the committer appends the batch and
//! answers, while the loop decides the next one.
//!
//! Invariants: nothing is answered before it is on the log; the state in memory is ahead of the log by staged batches at most, and is
//! thrown away and read anew when one of them fails; the state store is never ahead of the log.

mod accounts;
mod admit;
mod asked;
mod book;
mod closings;
mod commit;
mod engine;
mod group;
mod json;
mod limits;
mod programs;
mod recover;
mod remote;
mod request;
mod service;
mod simulate;
mod state;
mod store;
mod wire;

pub use closings::{ClosedPeriod, ClosingStep, PeriodRefusal, ProposedClosing};
pub use json::read_json;
pub use limits::{CONDITIONS_MAX, HOLDS_MAX, LOTS_MAX, Limits, PURCHASES_MAX};
pub use programs::{ProgramState, Programs, ProgramsError};
pub use request::{Answer, Refusal, SourceOutcome};
pub use service::{Loop, Outcomes, Running, Service, ServiceConfig, ServiceError, Share, Snapshot, Source};
pub use simulate::{Simulated, purchase_of, simulate};
pub use state::{Change, Pair, Space, State, StateError, StateHome, StatePlace};
