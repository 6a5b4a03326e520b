//! What a batch adds to the rows of `posting` and `cost`.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use ledger_core::time::first_of_month;
use rust_decimal::Decimal;

use super::known::Known;
use super::project::{ADJUSTMENT, Changes};

/// A row of `posting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PostingKey<'a> {
    pub(super) program: &'a str,
    pub(super) booked_on: NaiveDate,
    pub(super) effective_on: NaiveDate,
    pub(super) tier: &'a str,
    pub(super) cohort: NaiveDate,
    pub(super) kind: &'a str,
    pub(super) bucket: &'a str,
}

/// A row of `goodwill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoodwillKey<'a> {
    pub(super) program: &'a str,
    pub(super) booked_on: NaiveDate,
    pub(super) effective_on: NaiveDate,
    pub(super) cohort: NaiveDate,
    pub(super) bucket: &'a str,
}

/// A row of `cost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CostKey<'a> {
    pub(super) program: &'a str,
    pub(super) booked_on: NaiveDate,
    pub(super) rule: &'a str,
    pub(super) tier: &'a str,
    pub(super) kind: &'a str,
}

/// Points that are owed more, and the goods that earned them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) points: i64,
    pub(super) sales: Decimal,
}

#[derive(Debug, Default)]
pub(super) struct Sums<'a> {
    pub(super) postings: BTreeMap<PostingKey<'a>, i64>,
    pub(super) goodwill: BTreeMap<GoodwillKey<'a>, i64>,
    pub(super) costs: BTreeMap<CostKey<'a>, Cost>,
}

/// What points in this bucket are owed to somebody, and have not only changed their state.
fn is_cost(kind: &str, bucket: &str) -> bool {
    matches!(bucket, "pending" | "available" | "held" | "owed") && !matches!(kind, "matured" | "held" | "released")
}

/// Sums by row: under the tier of the time of the record, and the month in which the lot was issued.
pub(super) fn sum<'a>(changes: &'a Changes<'_>, known: &'a Known<'_>) -> Sums<'a> {
    let mut sums = Sums::default();
    for (place, points) in &changes.postings {
        let lot = place.lot.and_then(|lot| known.lots.get(&(place.key, lot)));
        let (program, booked_on, kind, bucket) = (place.key.program.as_str(), place.booked_on, place.kind, place.bucket);
        let tier = known.tier(place.key, place.tier);
        let cohort = first_of_month(lot.map_or(place.effective_on, |lot| lot.issued_on));
        let key = PostingKey { program, booked_on, effective_on: place.effective_on, tier, cohort, kind, bucket };
        *sums.postings.entry(key).or_default() += points;
        if lot.is_some_and(|lot| lot.rule == ADJUSTMENT) {
            let key = GoodwillKey { program, booked_on, effective_on: place.effective_on, cohort, bucket };
            *sums.goodwill.entry(key).or_default() += points;
        }
        if is_cost(kind, bucket) {
            let rule = lot.map_or("", |lot| lot.rule.as_str());
            sums.costs.entry(CostKey { program, booked_on, rule, tier, kind }).or_default().points += points;
        }
    }
    for (sold, sales) in &changes.sales {
        let Some(lot) = known.lots.get(&(sold.key, sold.lot)) else { continue };
        let tier = known.tier(sold.key, sold.tier);
        let key = CostKey { program: sold.key.program.as_str(), booked_on: sold.booked_on, rule: &lot.rule, tier, kind: "issued" };
        sums.costs.entry(key).or_default().sales += sales;
    }
    sums
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use ledger_core::id::{AccountKey, Id};

    use super::*;
    use crate::liability::known::KnownLot;
    use crate::liability::project::{Place, Sold};

    fn march(day: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 3, day).unwrap()
    }

    fn key(account: &str) -> AccountKey {
        AccountKey { program: Id::parse("shop").unwrap(), account: Id::parse(account).unwrap() }
    }

    #[test]
    fn postings_go_under_the_tier_of_then_and_the_month_of_their_lot() {
        let (anna, ben) = (key("anna"), key("ben"));
        let (booked_on, effective_on) = (march(5), march(4));
        let place = |key, lot, tier, kind, bucket| Place { key, lot, tier, booked_on, effective_on, kind, bucket };
        // Given a lot of January by a bonus, anna's tier as it was, and ben's as it has just become.
        let mut known = Known::default();
        known.lots.insert((&anna, 1), KnownLot { issued_on: NaiveDate::from_ymd_opt(2024, 1, 31).unwrap(), rule: "wine".into() });
        known.tiers.insert(&anna, "gold".into());
        // When anna spends, holds and lets mature, and ben, whose lot nobody knows, buys.
        let mut changes = Changes::default();
        changes.postings.insert(place(&anna, Some(1), None, "redeemed", "available"), -30);
        changes.postings.insert(place(&anna, Some(1), None, "redeemed", "redeemed"), 30);
        changes.postings.insert(place(&anna, Some(1), None, "matured", "available"), 5);
        changes.postings.insert(place(&ben, Some(7), Some("silver"), "issued", "pending"), 11);
        changes.sales.insert(Sold { key: &anna, lot: 1, tier: None, booked_on }, Decimal::new(995, 2));
        let sums = sum(&changes, &known);
        // Then each has its row, and only what is owed more or less is a cost.
        let row = |tier, cohort, kind, bucket| PostingKey { program: "shop", booked_on, effective_on, tier, cohort, kind, bucket };
        let january = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let postings = BTreeMap::from([
            (row("gold", january, "redeemed", "available"), -30),
            (row("gold", january, "redeemed", "redeemed"), 30),
            (row("gold", january, "matured", "available"), 5),
            (row("silver", march(1), "issued", "pending"), 11),
        ]);
        assert_eq!(sums.postings, postings);
        assert!(sums.goodwill.is_empty(), "nothing was given by hand: {:?}", sums.goodwill);
        let cost = |rule, tier, kind| CostKey { program: "shop", booked_on, rule, tier, kind };
        let costs = BTreeMap::from([
            (cost("wine", "gold", "redeemed"), Cost { points: -30, sales: Decimal::ZERO }),
            (cost("", "silver", "issued"), Cost { points: 11, sales: Decimal::ZERO }),
            (cost("wine", "gold", "issued"), Cost { points: 0, sales: Decimal::new(995, 2) }),
        ]);
        assert_eq!(sums.costs, costs);
    }

    #[test]
    fn points_given_by_hand_have_rows_of_their_own() {
        let anna = key("anna");
        let (booked_on, effective_on, january) = (march(5), march(4), NaiveDate::from_ymd_opt(2024, 1, 1).unwrap());
        // Given a lot that somebody gave by hand in January.
        let mut known = Known::default();
        known.lots.insert((&anna, 1), KnownLot { issued_on: NaiveDate::from_ymd_opt(2024, 1, 31).unwrap(), rule: ADJUSTMENT.into() });
        // When anna spends of it.
        let mut changes = Changes::default();
        for (bucket, points) in [("available", -30), ("redeemed", 30)] {
            let place = Place { key: &anna, lot: Some(1), tier: Some("gold"), booked_on, effective_on, kind: "redeemed", bucket };
            changes.postings.insert(place, points);
        }
        let sums = sum(&changes, &known);
        // Then the same points stand among the postings and apart.
        let row = |bucket| GoodwillKey { program: "shop", booked_on, effective_on, cohort: january, bucket };
        assert_eq!(sums.goodwill, BTreeMap::from([(row("available"), -30), (row("redeemed"), 30)]));
        assert_eq!(sums.postings.len(), 2);
    }
}
