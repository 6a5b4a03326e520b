//! What the book says of the future: how often members will buy, what they are worth, which points will never be spent.
//!
//! Invariants: everything here is a pure function of its arguments; floats are estimates and never become points or booked money
//! (what is booked, in [`revenue`], is exact decimals).
#![allow(clippy::float_arithmetic, reason = "estimates; what is booked uses decimals")]

pub mod bgnbd;
pub mod experiment;
pub mod gamma_gamma;
mod history;
pub mod lifetime;
mod likelihood;
pub mod logistic;
pub mod pareto_nbd;
pub mod reserve;
pub mod revenue;
pub mod robust;
pub mod run_off;
pub mod tail;

pub use history::{Histories, History};
pub use likelihood::{Estimate, FitError};
