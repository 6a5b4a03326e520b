//! The fold: purchases with their lines, and what was given back of them. A return is a difference, so no row is read to write it.

use chrono::{DateTime, NaiveDate, Utc};
use ledger_core::account::EventKind;
use ledger_core::account::command::{Purchase, Returned};
use ledger_core::account::event::{Earned, Reversed};
use ledger_core::id::AccountKey;
use ledger_core::time::{date_of, utc_date};
use rust_decimal::Decimal;

use crate::runtime::Placed;

/// A purchase.
#[derive(Debug)]
pub(super) struct Bought<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) purchase: &'a Purchase,
    pub(super) day: NaiveDate,
    pub(super) booked_on: NaiveDate,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) spend: Decimal,
    pub(super) lines: Vec<Decimal>,
}

/// Account and purchase.
pub(super) type Of<'a> = (&'a AccountKey, &'a str);

/// A return of a purchase.
#[derive(Debug)]
pub(super) struct GivenBack<'a> {
    pub(super) of: Of<'a>,
    pub(super) seq: i64,
    pub(super) booked_on: NaiveDate,
    pub(super) returned_on: NaiveDate,
}

/// What `records` change, in their order.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) purchases: Vec<Bought<'a>>,
    /// Quantities given back, line by line, by older records, which don't say for how much money.
    pub(super) lines: Vec<(GivenBack<'a>, &'a str, Decimal)>,
    /// Quantities given back, line by line, by records that do.
    pub(super) quantities: Vec<(Of<'a>, &'a str, Decimal)>,
    /// Money given back for goods.
    pub(super) amounts: Vec<(GivenBack<'a>, Decimal)>,
    /// Money given back for purchases that the book does not have, each under its refund's id.
    pub(super) unmatched: Vec<(GivenBack<'a>, Decimal)>,
}

pub(super) fn fold(records: &[Placed]) -> Changes<'_> {
    let mut changes = Changes::default();
    for placed in records {
        let (key, booked_on) = (&placed.record.key, utc_date(placed.record.recorded_at));
        for event in &placed.record.events {
            match &event.kind {
                EventKind::PointsEarned(earned) => changes.purchases.push(bought(key, earned, booked_on)),
                EventKind::PurchaseReturned(reversed) => {
                    let seq = i64::try_from(placed.record.account_seq).unwrap_or(i64::MAX);
                    let returned_on = utc_date(event.at);
                    changes.give_back(reversed, || GivenBack { of: (key, reversed.body.purchase_id.as_str()), seq, booked_on, returned_on });
                }
                EventKind::RefundBooked { refund, body } => {
                    let seq = i64::try_from(placed.record.account_seq).unwrap_or(i64::MAX);
                    let returned_on = utc_date(event.at);
                    changes.unmatched.push((GivenBack { of: (key, refund.as_str()), seq, booked_on, returned_on }, body.amount.0));
                }
                _ => {}
            }
        }
    }
    changes
}

fn bought<'a>(key: &'a AccountKey, earned: &'a Earned, booked_on: NaiveDate) -> Bought<'a> {
    let purchase = &*earned.purchase;
    let lines = purchase.lines.iter().map(|line| line.charge(earned.decimals).0).collect();
    let spend = earned.charge().0;
    Bought { key, purchase, day: date_of(earned.day), booked_on, occurred_at: purchase.occurred_at.timestamp(), spend, lines }
}

impl<'a> Changes<'a> {
    fn give_back(&mut self, reversed: &'a Reversed, given: impl Fn() -> GivenBack<'a>) {
        let Some(refunded) = &reversed.refunded else {
            match &reversed.body.what {
                Returned::Lines(lines) => self.lines.extend(lines.iter().map(|(line, quantity)| (given(), line.as_str(), quantity.0))),
                Returned::Amount(amount) => self.amounts.push((given(), amount.0)),
            }
            return;
        };
        if let Returned::Lines(lines) = &reversed.body.what {
            self.quantities.extend(lines.iter().map(|(line, quantity)| (given().of, line.as_str(), quantity.0)));
        }
        // A refund of shipping alone gives no goods back.
        if !refunded.goods.0.is_zero() {
            self.amounts.push((given(), refunded.goods.0));
        }
    }
}
