//! Value decline: who will spend less than half as much, who will buy nothing, why, and what is at stake.
//!
//! Two logistic models over what a member did until a day, learned from what followed an earlier day. Population: who bought something
//! within the last [`WINDOW_DAYS`]; the others are called at risk or lost by how overdue they are.

mod action;
mod assess;
mod backtest;
mod features;
mod members;
mod signals;

pub use action::{ActionEffect, Contact, Offer, action_effect, offers, take};
pub use assess::{Assessed, Standing, Transition, assess, list, one, transitions};
pub use backtest::{Backtest, Measured, backtest};
pub use signals::{Signals, Slope};

/// The days before and after that are compared.
pub const WINDOW_DAYS: i32 = 90;
