//! Keys as columns for `unnest`, and which of them a row of the answer is about.

use ledger_core::account::event::LotId;
use ledger_core::id::AccountKey;

pub(super) fn number(lot: LotId) -> i32 {
    i32::try_from(lot).unwrap_or(i32::MAX)
}

pub(super) fn keys<'a>(all: impl Iterator<Item = &'a AccountKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    all.map(|key| (key.program.as_str(), key.account.as_str())).unzip()
}

/// Which of those that were asked for the row is about.
pub(super) fn ordinal(row: &tokio_postgres::Row) -> usize {
    usize::try_from(row.get::<_, i64>(0) - 1).expect("ordinality counts from 1")
}
