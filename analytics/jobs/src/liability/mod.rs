//! What the points owe: trial balance, roll-forward, breakage, revenue journal, expiry ahead, budgets.

use chrono::NaiveDate;
use ledger_core::policy::{Program, Rulebook};
use ledger_core::time::{Moment, date_text};

mod breakage;
mod budget;
mod develop;
mod flows;
mod journal;
mod payers;
mod trial;

pub use breakage::{Breakage, CohortEstimate, breakage};
pub use budget::{Budget, BudgetAlert, Share, budget_alerts, budgets, raise_alerts};
pub use develop::BackTest;
pub use journal::{ClosedMonth, Entry, Figures, Journal, State, States, Terms, decimals, figures, journal};
pub use payers::{Payer, payers};
pub use trial::{Basis, BucketPoints, RollForward, Rolled, TrialBalance, expiry_forecast, roll_forward, trial_balance};

/// The rules in force at the end of `day` (UTC), or the first to come: what the points of that day are worth. None where there are none.
#[must_use]
pub fn rules_on(program: &Program, day: NaiveDate) -> Option<&Rulebook> {
    let end = Moment::parse(&format!("{}T23:59:59.999999Z", date_text(day))).ok()?;
    program.at_or_first(end).map(|version| &version.rulebook)
}
