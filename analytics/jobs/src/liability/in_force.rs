//! Which rules a day's points are worth by.

use chrono::NaiveDate;
use ledger_core::policy::{Program, Rulebook, Version};
use ledger_core::time::{DAY_US, Moment};

/// The version in force at the end of `day` (UTC), or the first to come; none where there are none.
pub(super) fn version_on(program: &Program, day: NaiveDate) -> Option<&Version> {
    let next_day = i64::from(day.to_epoch_days()) + 1;
    let end = Moment::from_micros(next_day.checked_mul(DAY_US)?)?.plus_micros(-1);
    program.at_or_first(end).map(AsRef::as_ref)
}

/// The rules of that version: what the points of `day` are worth.
#[must_use]
pub fn rules_on(program: &Program, day: NaiveDate) -> Option<&Rulebook> {
    version_on(program, day).map(|version| &version.rulebook)
}
