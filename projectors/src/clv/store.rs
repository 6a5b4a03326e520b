//! The rows: purchases and lines are inserted once; returns move two numbers.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;

use super::project::{Bought, Changes, GivenBack, Of};
use crate::runtime::Rows;

const PURCHASES: &str = "
INSERT INTO purchase (program, account, purchase_id, day, booked_on, occurred_at, channel, store, spend)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::date[], $6::timestamptz[], $7::text[], $8::text[], $9::numeric[])";

const LINES: &str = "
INSERT INTO line (program, account, purchase_id, line_id, category, quantity, spend)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[])";

/// What a line gives back is its spend by quantity, rounded so that parts sum to the whole: each is the difference of two sums.
const LINES_BACK: &str = "
WITH back AS (
    SELECT u.*, l.quantity AS bought, l.spend, l.returned_quantity + sum(u.quantity) OVER (PARTITION BY u.program, u.account, u.purchase_id, u.line_id ORDER BY n) AS after
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::date[], $6::date[], $7::text[], $8::numeric[]) WITH ORDINALITY
      AS u(program, account, purchase_id, account_seq, booked_on, returned_on, line_id, quantity, n)
    JOIN line l USING (program, account, purchase_id, line_id)),
refunds AS (
    INSERT INTO refund (program, account, account_seq, purchase_id, booked_on, returned_on, amount)
    SELECT program, account, account_seq, purchase_id, booked_on, returned_on,
           sum(round(spend * after / bought, 6) - round(spend * (after - quantity) / bought, 6))
    FROM back GROUP BY program, account, account_seq, purchase_id, booked_on, returned_on
    RETURNING program, account, purchase_id, amount),
lines AS (
    UPDATE line l SET returned_quantity = l.returned_quantity + b.quantity
    FROM (SELECT program, account, purchase_id, line_id, sum(quantity) AS quantity FROM back GROUP BY 1, 2, 3, 4) b
    WHERE (l.program, l.account, l.purchase_id, l.line_id) = (b.program, b.account, b.purchase_id, b.line_id))
UPDATE purchase p SET returned = p.returned + r.amount
FROM (SELECT program, account, purchase_id, sum(amount) AS amount FROM refunds GROUP BY 1, 2, 3) r
WHERE (p.program, p.account, p.purchase_id) = (r.program, r.account, r.purchase_id)";

const QUANTITIES_BACK: &str = "
UPDATE line l SET returned_quantity = l.returned_quantity + b.quantity
FROM (SELECT program, account, purchase_id, line_id, sum(quantity) AS quantity
      FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[]) AS u(program, account, purchase_id, line_id, quantity) GROUP BY 1, 2, 3, 4) b
WHERE (l.program, l.account, l.purchase_id, l.line_id) = (b.program, b.account, b.purchase_id, b.line_id)";

const AMOUNTS_BACK: &str = "
WITH refunds AS (
    INSERT INTO refund (program, account, purchase_id, account_seq, booked_on, returned_on, amount)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::date[], $6::date[], $7::numeric[])
    RETURNING program, account, purchase_id, amount)
UPDATE purchase p SET returned = p.returned + r.amount
FROM (SELECT program, account, purchase_id, sum(amount) AS amount FROM refunds GROUP BY 1, 2, 3) r
WHERE (p.program, p.account, p.purchase_id) = (r.program, r.account, r.purchase_id)";

const UNMATCHED: &str = "
INSERT INTO unmatched_refund (program, account, refund_id, account_seq, booked_on, returned_on, amount)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::date[], $6::date[], $7::numeric[])";

pub(super) async fn write(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    if !changes.purchases.is_empty() {
        write_purchases(transaction, &changes.purchases).await?;
    }
    if !changes.lines.is_empty() {
        let (programs, accounts, purchases) = keys(changes.lines.iter().map(|(given, ..)| given.of));
        let (seqs, booked, returned) = places(changes.lines.iter().map(|(given, ..)| given));
        let lines: Vec<&str> = changes.lines.iter().map(|(_, line, _)| *line).collect();
        let quantities: Vec<Decimal> = changes.lines.iter().map(|(.., quantity)| *quantity).collect();
        let statement = transaction.prepare(LINES_BACK).await?;
        transaction.execute(&statement, &[&programs, &accounts, &purchases, &seqs, &booked, &returned, &lines, &quantities]).await?;
    }
    if !changes.quantities.is_empty() {
        let (programs, accounts, purchases) = keys(changes.quantities.iter().map(|(of, ..)| *of));
        let lines: Vec<&str> = changes.quantities.iter().map(|(_, line, _)| *line).collect();
        let quantities: Vec<Decimal> = changes.quantities.iter().map(|(.., quantity)| *quantity).collect();
        let statement = transaction.prepare(QUANTITIES_BACK).await?;
        transaction.execute(&statement, &[&programs, &accounts, &purchases, &lines, &quantities]).await?;
    }
    if !changes.amounts.is_empty() {
        let (programs, accounts, purchases) = keys(changes.amounts.iter().map(|(given, _)| given.of));
        let (seqs, booked, returned) = places(changes.amounts.iter().map(|(given, _)| given));
        let amounts: Vec<Decimal> = changes.amounts.iter().map(|(_, amount)| *amount).collect();
        let statement = transaction.prepare(AMOUNTS_BACK).await?;
        transaction.execute(&statement, &[&programs, &accounts, &purchases, &seqs, &booked, &returned, &amounts]).await?;
    }
    write_unmatched(transaction, &changes.unmatched).await
}

async fn write_unmatched(transaction: &Rows<'_>, refunds: &[(GivenBack<'_>, Decimal)]) -> Result<(), tokio_postgres::Error> {
    if !refunds.is_empty() {
        let (programs, accounts, ids) = keys(refunds.iter().map(|(given, _)| given.of));
        let (seqs, booked, returned) = places(refunds.iter().map(|(given, _)| given));
        let amounts: Vec<Decimal> = refunds.iter().map(|(_, amount)| *amount).collect();
        let statement = transaction.prepare(UNMATCHED).await?;
        transaction.execute(&statement, &[&programs, &accounts, &ids, &seqs, &booked, &returned, &amounts]).await?;
    }
    Ok(())
}

fn places<'a>(all: impl Iterator<Item = &'a GivenBack<'a>>) -> (Vec<i64>, Vec<NaiveDate>, Vec<NaiveDate>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for given in all {
        columns.0.push(given.seq);
        columns.1.push(given.booked_on);
        columns.2.push(given.returned_on);
    }
    columns
}

type Columns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<&'a str>);

fn keys<'a>(all: impl Iterator<Item = Of<'a>>) -> Columns<'a> {
    let mut columns = Columns::default();
    for (key, purchase) in all {
        columns.0.push(key.program.as_str());
        columns.1.push(key.account.as_str());
        columns.2.push(purchase);
    }
    columns
}

async fn write_purchases(transaction: &Rows<'_>, bought: &[Bought<'_>]) -> Result<(), tokio_postgres::Error> {
    let (programs, accounts, ids) = keys(bought.iter().map(|one| (one.key, one.purchase.purchase_id.as_str())));
    let days: Vec<NaiveDate> = bought.iter().map(|one| one.day).collect();
    let booked: Vec<NaiveDate> = bought.iter().map(|one| one.booked_on).collect();
    let times: Vec<DateTime<Utc>> = bought.iter().map(|one| one.occurred_at).collect();
    let channels: Vec<&str> = bought.iter().map(|one| one.purchase.channel.as_str()).collect();
    let stores: Vec<&str> = bought.iter().map(|one| one.purchase.store.as_str()).collect();
    let spends: Vec<Decimal> = bought.iter().map(|one| one.spend).collect();
    let statement = transaction.prepare(PURCHASES).await?;
    transaction.execute(&statement, &[&programs, &accounts, &ids, &days, &booked, &times, &channels, &stores, &spends]).await?;

    let lines = || bought.iter().flat_map(|one| one.purchase.lines.iter().map(move |line| (one, line)));
    let (programs, accounts, ids) = keys(lines().map(|(one, _)| (one.key, one.purchase.purchase_id.as_str())));
    let line_ids: Vec<&str> = lines().map(|(_, line)| line.line_id.as_str()).collect();
    let categories: Vec<&str> = lines().map(|(_, line)| line.category.as_str()).collect();
    let quantities: Vec<Decimal> = lines().map(|(_, line)| line.quantity.0).collect();
    let spends: Vec<Decimal> = bought.iter().flat_map(|one| one.lines.iter().copied()).collect();
    let statement = transaction.prepare(LINES).await?;
    transaction.execute(&statement, &[&programs, &accounts, &ids, &line_ids, &categories, &quantities, &spends]).await?;
    Ok(())
}
