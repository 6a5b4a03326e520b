//! The fold: purchases with their lines, and what was given back of them. A return is a difference, so no row is read to write it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use ledger_core::account::EventKind;
use ledger_core::account::command::{Purchase, Return, Returned};
use ledger_core::account::event::Earned;
use ledger_core::id::AccountKey;
use ledger_core::time::date_of;
use rust_decimal::Decimal;

use crate::runtime::Placed;

/// A purchase.
#[derive(Debug)]
pub(super) struct Bought<'a> {
    pub(super) key: &'a AccountKey,
    pub(super) purchase: &'a Purchase,
    pub(super) day: Date,
    pub(super) occurred_at: Timestamp,
    pub(super) spend: Decimal,
    pub(super) lines: Vec<Decimal>,
}

/// Account and purchase.
pub(super) type Of<'a> = (&'a AccountKey, &'a str);

/// What `records` change.
#[derive(Debug, Default)]
pub(super) struct Changes<'a> {
    pub(super) purchases: Vec<Bought<'a>>,
    /// Quantities given back, by line.
    pub(super) lines: BTreeMap<(Of<'a>, &'a str), Decimal>,
    /// Money given back, no line named.
    pub(super) amounts: BTreeMap<Of<'a>, Decimal>,
}

pub(super) fn fold(records: &[Placed]) -> Changes<'_> {
    let mut changes = Changes::default();
    for placed in records {
        let key = &placed.record.key;
        for event in &placed.record.events {
            match &event.kind {
                EventKind::PointsEarned(earned) => changes.purchases.push(bought(key, earned)),
                EventKind::PurchaseReturned(reversed) => changes.give_back(key, &reversed.body),
                _ => {}
            }
        }
    }
    changes
}

fn bought<'a>(key: &'a AccountKey, earned: &'a Earned) -> Bought<'a> {
    let purchase = &*earned.purchase;
    // Lines are in range (12 digits before the point, 6 after, each), and so is the sum of 5,000 of their products in a decimal's 28 digits,
    // but for its last decimals, which a saturating product rounds.
    let lines: Vec<Decimal> = purchase.lines.iter().map(|line| line.quantity.0.saturating_mul(line.unit_price.0).saturating_sub(line.discount.0)).collect();
    let spend = lines.iter().fold(Decimal::ZERO, |sum, line| sum.saturating_add(*line));
    Bought { key, purchase, day: date_of(earned.day), occurred_at: purchase.occurred_at.timestamp(), spend, lines }
}

impl<'a> Changes<'a> {
    fn give_back(&mut self, key: &'a AccountKey, body: &'a Return) {
        let of = (key, body.purchase_id.as_str());
        match &body.what {
            Returned::Lines(lines) => {
                for (line, quantity) in lines {
                    *self.lines.entry((of, line.as_str())).or_default() += quantity.0;
                }
            }
            Returned::Amount(amount) => *self.amounts.entry(of).or_default() += amount.0,
        }
    }
}
