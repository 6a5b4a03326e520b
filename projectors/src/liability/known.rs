//! What the rows say of the lots and accounts of a batch that the batch itself does not.

use std::collections::{BTreeSet, HashMap};

use chrono::NaiveDate;
use ledger_core::account::event::LotId;
use ledger_core::id::AccountKey;

use super::project::Changes;
use super::unnest::{keys, ordinal};
use crate::runtime::Rows;

const TIERS: &str = "
SELECT u.n, t.tier FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(program, account, n) JOIN tier t USING (program, account)";

/// When a lot was issued, and by which rule.
#[derive(Debug, Clone)]
pub(super) struct KnownLot {
    pub(super) issued_on: NaiveDate,
    pub(super) rule: String,
}

/// Lots and tiers as they were before the batch, and its new lots.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    pub(super) lots: HashMap<(&'a AccountKey, LotId), KnownLot>,
    pub(super) tiers: HashMap<&'a AccountKey, String>,
}

impl Known<'_> {
    /// The tier `since` it changed in the batch, or that of before; empty where there is none.
    pub(super) fn tier<'a>(&'a self, key: &AccountKey, since: Option<&'a str>) -> &'a str {
        since.or_else(|| self.tiers.get(key).map(String::as_str)).unwrap_or_default()
    }
}

/// The tiers of accounts with something that `changes` has under none.
pub(super) async fn tiers<'a>(transaction: &Rows<'_>, changes: &Changes<'a>) -> Result<HashMap<&'a AccountKey, String>, tokio_postgres::Error> {
    let of_postings = changes.postings.keys().filter(|place| place.tier.is_none()).map(|place| place.key);
    let of_sales = changes.sales.keys().filter(|sold| sold.tier.is_none()).map(|sold| sold.key);
    let accounts: Vec<&AccountKey> = of_postings.chain(of_sales).collect::<BTreeSet<_>>().into_iter().collect();
    if accounts.is_empty() {
        return Ok(HashMap::new());
    }
    let (programs, names) = keys(accounts.iter().copied());
    let statement = transaction.prepare(TIERS).await?;
    let rows = transaction.query(&statement, &[&programs, &names]).await?;
    Ok(rows.iter().map(|row| (accounts[ordinal(row)], row.get(1))).collect())
}
