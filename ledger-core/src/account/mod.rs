//! One account: the commands that it takes, the events that they become, the state that is their fold.

pub mod command;
pub mod decide;
pub mod event;
mod evolve;
pub mod pool;
pub mod qualifying;
pub mod rejection;
pub mod state;

pub use command::{Action, Command};
pub use decide::{Context, Decision, decide};
pub use event::{Event, EventKind};
pub use rejection::Rejection;
pub use state::Account;
