//! What the points owe: trial balance, roll-forward, breakage, revenue journal, expiry ahead, budgets.

mod breakage;
mod budget;
mod develop;
mod flows;
mod in_force;
mod journal;
mod payers;
mod trial;

pub use breakage::{Breakage, CohortEstimate, breakage};
pub use budget::{Budget, BudgetAlert, Share, budget_alerts, budgets, raise_alerts};
pub use develop::BackTest;
pub use in_force::rules_on;
pub use journal::{ClosedMonth, Entry, Figures, Journal, State, States, Terms, decimals, figures, journal};
pub use payers::{Payer, payers};
pub use trial::{Basis, BucketPoints, RollForward, Rolled, TrialBalance, expiry_forecast, roll_forward, trial_balance};
