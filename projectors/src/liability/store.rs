//! The rows: sums go up and down by difference.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use ledger_core::account::event::LotId;
use ledger_core::id::AccountKey;
use rust_decimal::Decimal;

use super::known::{self, Known, KnownLot};
use super::project::{Changes, NewLot, Place};
use super::sums::{Cost, CostKey, GoodwillKey, PostingKey, sum};
use super::unnest::{keys, number, ordinal};
use crate::runtime::Rows;

const LOTS: &str = "
INSERT INTO lot (program, account, lot_id, issued_on, source, rule, points, pending, available, held, redeemed, expired, other)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::date[], $5::text[], $6::text[], $7::bigint[],
                     $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[])";

const MOVED: &str = "
UPDATE lot l SET pending = l.pending + u.pending, available = l.available + u.available, held = l.held + u.held,
    redeemed = l.redeemed + u.redeemed, expired = l.expired + u.expired, other = l.other + u.other
FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
  WITH ORDINALITY AS u(program, account, lot_id, pending, available, held, redeemed, expired, other, n)
WHERE (l.program, l.account, l.lot_id) = (u.program, u.account, u.lot_id)
RETURNING u.n, l.issued_on, l.rule";

const POSTINGS: &str = "
INSERT INTO posting AS p (program, booked_on, effective_on, tier, cohort, kind, bucket, points)
SELECT * FROM unnest($1::text[], $2::date[], $3::date[], $4::text[], $5::date[], $6::text[], $7::text[], $8::bigint[])
ON CONFLICT (program, booked_on, effective_on, tier, cohort, kind, bucket) DO UPDATE SET points = p.points + excluded.points";

const GOODWILL: &str = "
INSERT INTO goodwill AS g (program, booked_on, effective_on, cohort, bucket, points)
SELECT * FROM unnest($1::text[], $2::date[], $3::date[], $4::date[], $5::text[], $6::bigint[])
ON CONFLICT (program, booked_on, effective_on, cohort, bucket) DO UPDATE SET points = g.points + excluded.points";

const COSTS: &str = "
INSERT INTO cost AS c (program, booked_on, rule, tier, kind, points, sales)
SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::numeric[])
ON CONFLICT (program, booked_on, rule, tier, kind) DO UPDATE SET points = c.points + excluded.points, sales = c.sales + excluded.sales";

const RETURNED: &str = "
UPDATE lot l SET returned = l.returned + u.points FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS u(program, account, source, points)
WHERE (l.program, l.account, l.source) = (u.program, u.account, u.source) AND l.rule <> 'adjustment'";

const FUNDING: &str = "
INSERT INTO funding AS f (program, account, lot_id, payer, points)
SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::bigint[])
ON CONFLICT (program, account, lot_id, payer) DO UPDATE SET points = f.points + excluded.points";

const PAYMENTS: &str = "
INSERT INTO payment AS p (program, booked_on, payer, kind, points)
SELECT * FROM unnest($1::text[], $2::date[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (program, booked_on, payer, kind) DO UPDATE SET points = p.points + excluded.points";

const TIERS: &str = "
INSERT INTO tier (program, account, tier) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
ON CONFLICT (program, account) DO UPDATE SET tier = excluded.tier";

pub(super) async fn write(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    let mut moved = moved(&changes.postings);
    // New lots are written with what has moved in them since.
    let states: Vec<[i64; COLUMNS]> = changes.lots.iter().map(|lot| moved.remove(&(lot.key, lot.lot)).unwrap_or_default()).collect();
    // One is made ready while the database is at the one before.
    let (tiers, (), old) =
        tokio::try_join!(known::tiers(transaction, changes), write_lots(transaction, &changes.lots, &states), move_lots(transaction, &moved))?;
    let new = changes.lots.iter().map(|lot| ((lot.key, lot.lot), KnownLot { issued_on: lot.issued_on, rule: lot.rule.clone() }));
    let known = Known { lots: new.chain(old).collect(), tiers };
    let sums = sum(changes, &known);
    // Several write these rows at once: always these tables in this order and their rows in the order of their keys, or they lock each other out.
    write_postings(transaction, &sums.postings).await?;
    write_goodwill(transaction, &sums.goodwill).await?;
    write_costs(transaction, &sums.costs).await?;
    write_payers(transaction, changes).await?;
    write_returned(transaction, &changes.returned).await?;
    // Last: postings before the first change of the batch count under the tier of before.
    write_tiers(transaction, &changes.tiers).await
}

async fn write_payers(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    if changes.funding.is_empty() {
        return Ok(());
    }
    let (programs, accounts) = keys(changes.funding.keys().map(|funded| funded.key));
    let lots: Vec<i32> = changes.funding.keys().map(|funded| number(funded.lot)).collect();
    let payers: Vec<&str> = changes.funding.keys().map(|funded| funded.payer).collect();
    let points: Vec<i64> = changes.funding.values().copied().collect();
    let statement = transaction.prepare(FUNDING).await?;
    transaction.execute(&statement, &[&programs, &accounts, &lots, &payers, &points]).await?;
    let programs: Vec<&str> = changes.payments.keys().map(|payment| payment.program).collect();
    let booked: Vec<NaiveDate> = changes.payments.keys().map(|payment| payment.booked_on).collect();
    let payers: Vec<&str> = changes.payments.keys().map(|payment| payment.payer).collect();
    let kinds: Vec<&str> = changes.payments.keys().map(|payment| payment.kind).collect();
    let points: Vec<i64> = changes.payments.values().copied().collect();
    let statement = transaction.prepare(PAYMENTS).await?;
    transaction.execute(&statement, &[&programs, &booked, &payers, &kinds, &points]).await?;
    Ok(())
}

async fn write_returned(transaction: &Rows<'_>, returned: &BTreeMap<(&AccountKey, &str), i64>) -> Result<(), tokio_postgres::Error> {
    if returned.is_empty() {
        return Ok(());
    }
    let (programs, accounts) = keys(returned.keys().map(|(key, _)| *key));
    let purchases: Vec<&str> = returned.keys().map(|(_, purchase)| *purchase).collect();
    let points: Vec<i64> = returned.values().copied().collect();
    let statement = transaction.prepare(RETURNED).await?;
    transaction.execute(&statement, &[&programs, &accounts, &purchases, &points]).await?;
    Ok(())
}

async fn write_tiers(transaction: &Rows<'_>, changed: &BTreeMap<&AccountKey, &str>) -> Result<(), tokio_postgres::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let (programs, accounts) = keys(changed.keys().copied());
    let tiers: Vec<&str> = changed.values().copied().collect();
    let statement = transaction.prepare(TIERS).await?;
    transaction.execute(&statement, &[&programs, &accounts, &tiers]).await?;
    Ok(())
}

async fn write_lots(transaction: &Rows<'_>, lots: &[NewLot<'_>], states: &[[i64; COLUMNS]]) -> Result<(), tokio_postgres::Error> {
    if lots.is_empty() {
        return Ok(());
    }
    let (programs, accounts) = keys(lots.iter().map(|lot| lot.key));
    let ids: Vec<i32> = lots.iter().map(|lot| number(lot.lot)).collect();
    let issued: Vec<NaiveDate> = lots.iter().map(|lot| lot.issued_on).collect();
    let sources: Vec<&str> = lots.iter().map(|lot| lot.source).collect();
    let rules: Vec<&str> = lots.iter().map(|lot| lot.rule.as_str()).collect();
    let points: Vec<i64> = lots.iter().map(|lot| lot.points).collect();
    let [pending, available, held, redeemed, expired, other] = columns(states.iter());
    let statement = transaction.prepare(LOTS).await?;
    transaction
        .execute(&statement, &[&programs, &accounts, &ids, &issued, &sources, &rules, &points, &pending, &available, &held, &redeemed, &expired, &other])
        .await?;
    Ok(())
}

/// The columns of a lot, and where the postings of a bucket go.
const COLUMNS: usize = 6;

fn column(bucket: &str) -> Option<usize> {
    match bucket {
        "pending" => Some(0),
        "available" => Some(1),
        "held" => Some(2),
        "redeemed" => Some(3),
        "expired" => Some(4),
        "clawed_back" | "forfeited" | "adjusted" | "owed" => Some(5),
        // What was issued is the lot's points; shortfall and its other side have no lot.
        _ => None,
    }
}

type Lot<'a> = (&'a AccountKey, LotId);

/// By lot, what has come into each column less what has left it.
type Moved<'a> = BTreeMap<Lot<'a>, [i64; COLUMNS]>;

fn moved<'a>(postings: &BTreeMap<Place<'a>, i64>) -> Moved<'a> {
    let mut moved = Moved::new();
    for (place, points) in postings {
        let Some(lot) = place.lot else { continue };
        let columns = moved.entry((place.key, lot)).or_default();
        if let Some(column) = column(place.bucket) {
            columns[column] += points;
        }
    }
    moved
}

fn columns<'a>(rows: impl Iterator<Item = &'a [i64; COLUMNS]> + Clone) -> [Vec<i64>; COLUMNS] {
    std::array::from_fn(|column| rows.clone().map(|row| row[column]).collect())
}

/// Tells of each when it was issued, and by which rule.
async fn move_lots<'a>(transaction: &Rows<'_>, moved: &Moved<'a>) -> Result<Vec<(Lot<'a>, KnownLot)>, tokio_postgres::Error> {
    if moved.is_empty() {
        return Ok(Vec::new());
    }
    let lots: Vec<Lot<'a>> = moved.keys().copied().collect();
    let (programs, accounts) = keys(lots.iter().map(|(key, _)| *key));
    let ids: Vec<i32> = lots.iter().map(|(_, lot)| number(*lot)).collect();
    let [pending, available, held, redeemed, expired, other] = columns(moved.values());
    let statement = transaction.prepare(MOVED).await?;
    let rows = transaction.query(&statement, &[&programs, &accounts, &ids, &pending, &available, &held, &redeemed, &expired, &other]).await?;
    Ok(rows.iter().map(|row| (lots[ordinal(row)], KnownLot { issued_on: row.get(1), rule: row.get(2) })).collect())
}

async fn write_postings(transaction: &Rows<'_>, postings: &BTreeMap<PostingKey<'_>, i64>) -> Result<(), tokio_postgres::Error> {
    if postings.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = postings.keys().map(|key| key.program).collect();
    let booked: Vec<NaiveDate> = postings.keys().map(|key| key.booked_on).collect();
    let effective: Vec<NaiveDate> = postings.keys().map(|key| key.effective_on).collect();
    let tiers: Vec<&str> = postings.keys().map(|key| key.tier).collect();
    let cohorts: Vec<NaiveDate> = postings.keys().map(|key| key.cohort).collect();
    let kinds: Vec<&str> = postings.keys().map(|key| key.kind).collect();
    let buckets: Vec<&str> = postings.keys().map(|key| key.bucket).collect();
    let points: Vec<i64> = postings.values().copied().collect();
    let statement = transaction.prepare(POSTINGS).await?;
    transaction.execute(&statement, &[&programs, &booked, &effective, &tiers, &cohorts, &kinds, &buckets, &points]).await?;
    Ok(())
}

async fn write_goodwill(transaction: &Rows<'_>, goodwill: &BTreeMap<GoodwillKey<'_>, i64>) -> Result<(), tokio_postgres::Error> {
    if goodwill.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = goodwill.keys().map(|key| key.program).collect();
    let booked: Vec<NaiveDate> = goodwill.keys().map(|key| key.booked_on).collect();
    let effective: Vec<NaiveDate> = goodwill.keys().map(|key| key.effective_on).collect();
    let cohorts: Vec<NaiveDate> = goodwill.keys().map(|key| key.cohort).collect();
    let buckets: Vec<&str> = goodwill.keys().map(|key| key.bucket).collect();
    let points: Vec<i64> = goodwill.values().copied().collect();
    let statement = transaction.prepare(GOODWILL).await?;
    transaction.execute(&statement, &[&programs, &booked, &effective, &cohorts, &buckets, &points]).await?;
    Ok(())
}

async fn write_costs(transaction: &Rows<'_>, costs: &BTreeMap<CostKey<'_>, Cost>) -> Result<(), tokio_postgres::Error> {
    if costs.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = costs.keys().map(|key| key.program).collect();
    let booked: Vec<NaiveDate> = costs.keys().map(|key| key.booked_on).collect();
    let rules: Vec<&str> = costs.keys().map(|key| key.rule).collect();
    let tiers: Vec<&str> = costs.keys().map(|key| key.tier).collect();
    let kinds: Vec<&str> = costs.keys().map(|key| key.kind).collect();
    let points: Vec<i64> = costs.values().map(|cost| cost.points).collect();
    let sales: Vec<Decimal> = costs.values().map(|cost| cost.sales).collect();
    let statement = transaction.prepare(COSTS).await?;
    transaction.execute(&statement, &[&programs, &booked, &rules, &tiers, &kinds, &points, &sales]).await?;
    Ok(())
}
