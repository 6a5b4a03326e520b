//! What the points owe: trial balance, roll-forward, breakage, revenue journal, expiry ahead.

mod breakage;
mod flows;
mod journal;
mod trial;

pub use breakage::{BackTest, Breakage, CohortEstimate, breakage};
pub use journal::{Entry, Journal, journal};
pub use trial::{Basis, RollForward, Rolled, TrialBalance, expiry_forecast, roll_forward, trial_balance};
