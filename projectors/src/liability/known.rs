//! What the rows say of the lots and accounts of a batch that the batch itself does not.

use std::collections::{BTreeSet, HashMap};

use jiff::civil::Date;
use ledger_core::account::event::LotId;
use ledger_core::id::AccountKey;

use super::project::Changes;
use super::store::{keys, number};
use crate::runtime::Rows;

const LOTS: &str = "
SELECT u.n, l.issued_on, l.rule FROM unnest($1::text[], $2::text[], $3::int[]) WITH ORDINALITY AS u(program, account, lot_id, n)
JOIN lot l USING (program, account, lot_id)";

const TIERS: &str = "
SELECT u.n, t.tier FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS u(program, account, n) JOIN tier t USING (program, account)";

/// When a lot was issued, and by which rule.
#[derive(Debug, Clone)]
pub(super) struct KnownLot {
    pub(super) issued_on: Date,
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

/// Looks up what `changes` needs.
pub(super) async fn read<'a>(transaction: &Rows<'_>, changes: &Changes<'a>) -> Result<Known<'a>, tokio_postgres::Error> {
    let mut known = Known::default();
    known.lots.extend(changes.lots.iter().map(|lot| ((lot.key, lot.lot), KnownLot { issued_on: lot.issued_on, rule: lot.rule.clone() })));
    let of_lots = changes.postings.keys().filter_map(|place| Some((place.key, place.lot?)));
    let lots: Vec<(&AccountKey, LotId)> = of_lots.filter(|lot| !known.lots.contains_key(lot)).collect::<BTreeSet<_>>().into_iter().collect();
    if !lots.is_empty() {
        let (programs, accounts) = keys(lots.iter().map(|(key, _)| *key));
        let ids: Vec<i32> = lots.iter().map(|(_, lot)| number(*lot)).collect();
        let statement = transaction.prepare(LOTS).await?;
        for row in transaction.query(&statement, &[&programs, &accounts, &ids]).await? {
            known.lots.insert(lots[ordinal(&row)], KnownLot { issued_on: row.get(1), rule: row.get(2) });
        }
    }
    let of_postings = changes.postings.keys().filter(|place| place.tier.is_none()).map(|place| place.key);
    let of_sales = changes.sales.keys().filter(|sold| sold.tier.is_none()).map(|sold| sold.key);
    let accounts: Vec<&AccountKey> = of_postings.chain(of_sales).collect::<BTreeSet<_>>().into_iter().collect();
    if !accounts.is_empty() {
        let (programs, names) = keys(accounts.iter().copied());
        let statement = transaction.prepare(TIERS).await?;
        for row in transaction.query(&statement, &[&programs, &names]).await? {
            known.tiers.insert(accounts[ordinal(&row)], row.get(1));
        }
    }
    Ok(known)
}

/// Which of those that were asked for the row is about.
fn ordinal(row: &tokio_postgres::Row) -> usize {
    usize::try_from(row.get::<_, i64>(0) - 1).expect("ordinality counts from 1")
}
