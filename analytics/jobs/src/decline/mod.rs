//! Value decline: who will spend less than half as much, who will buy nothing, why, and what is at stake.
//!
//! Two logistic models over what a member did until a day, learned from what followed an earlier day, and used only where they beat plain recency on a
//! holdout. Population: who bought something within the last [`WINDOW_DAYS`]; the others are called at risk or lost by how overdue they are.
//!
//! Invariant: nothing that was bought, given back or, where asked, booked after a day is known to what is said as of that day.

mod action;
mod assess;
mod backtest;
mod features;
mod kept;
mod members;
mod model;
mod signals;
mod standing;

pub use estimators::experiment::Effect;

pub use action::{ActionEffect, Contact, Offer, action_effect, offers, take};
pub use assess::{Asked, Assessed, STATES, assess};
pub use backtest::{Backtest, Measured, backtest};
pub use kept::{Assessment, assessments, put_in_force};
pub use model::{Choice, InForce};
pub use signals::{Signals, Slope};
pub use standing::{Standing, Transition, by_trend, list, one, transitions};

/// The days before and after that are compared.
pub const WINDOW_DAYS: i32 = 90;
