//! The domain of the loyalty ledger, pure.
//!
//! `decide(&Account, &Command, &Context) -> Result<Decision, Rejection>` says what a command does; `Account::evolve` folds what was
//! decided. Time and ids are arguments: there is no clock, randomness, IO or async here (`clippy.toml` and the architecture test
//! refuse them).

pub mod account;
pub mod currency;
pub mod edition;
pub mod id;
#[doc(hidden)]
pub mod planted;
pub mod points;
pub mod policy;
pub mod posting;
pub mod text;
pub mod time;
