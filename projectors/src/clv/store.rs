//! The rows: purchases and lines are inserted once; returns move two numbers.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use tokio_postgres::Transaction;

use super::project::{Bought, Changes, Of};

const PURCHASES: &str = "
INSERT INTO purchase (program, account, purchase_id, day, occurred_at, channel, store, spend)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::date[], $5::timestamptz[], $6::text[], $7::text[], $8::numeric[])";

const LINES: &str = "
INSERT INTO line (program, account, purchase_id, line_id, category, quantity, spend)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[])";

/// What a line gave back is its spend by quantity: both rows change by what the line's own share changes.
const LINES_BACK: &str = "
WITH back AS (SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::numeric[]) AS u(program, account, purchase_id, line_id, quantity)),
moved AS (
    UPDATE line l SET returned_quantity = l.returned_quantity + back.quantity FROM back
    WHERE (l.program, l.account, l.purchase_id, l.line_id) = (back.program, back.account, back.purchase_id, back.line_id)
    RETURNING l.program, l.account, l.purchase_id,
              round(l.spend * l.returned_quantity / l.quantity, 6) - round(l.spend * (l.returned_quantity - back.quantity) / l.quantity, 6) AS amount)
UPDATE purchase p SET returned = p.returned + m.amount
FROM (SELECT program, account, purchase_id, sum(amount) AS amount FROM moved GROUP BY 1, 2, 3) m
WHERE (p.program, p.account, p.purchase_id) = (m.program, m.account, m.purchase_id)";

const AMOUNTS_BACK: &str = "
UPDATE purchase p SET returned = p.returned + u.amount FROM unnest($1::text[], $2::text[], $3::text[], $4::numeric[]) AS u(program, account, purchase_id, amount)
WHERE (p.program, p.account, p.purchase_id) = (u.program, u.account, u.purchase_id)";

pub(super) async fn write(transaction: &Transaction<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    if !changes.purchases.is_empty() {
        write_purchases(transaction, &changes.purchases).await?;
    }
    if !changes.lines.is_empty() {
        let (programs, accounts, purchases) = keys(changes.lines.keys().map(|(of, _)| *of));
        let lines: Vec<&str> = changes.lines.keys().map(|(_, line)| *line).collect();
        let quantities: Vec<Decimal> = changes.lines.values().copied().collect();
        let statement = transaction.prepare(LINES_BACK).await?;
        transaction.execute(&statement, &[&programs, &accounts, &purchases, &lines, &quantities]).await?;
    }
    if !changes.amounts.is_empty() {
        let (programs, accounts, purchases) = keys(changes.amounts.keys().copied());
        let amounts: Vec<Decimal> = changes.amounts.values().copied().collect();
        let statement = transaction.prepare(AMOUNTS_BACK).await?;
        transaction.execute(&statement, &[&programs, &accounts, &purchases, &amounts]).await?;
    }
    Ok(())
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

async fn write_purchases(transaction: &Transaction<'_>, bought: &[Bought<'_>]) -> Result<(), tokio_postgres::Error> {
    let (programs, accounts, ids) = keys(bought.iter().map(|one| (one.key, one.purchase.purchase_id.as_str())));
    let days: Vec<Date> = bought.iter().map(|one| one.day).collect();
    let times: Vec<Timestamp> = bought.iter().map(|one| one.occurred_at).collect();
    let channels: Vec<&str> = bought.iter().map(|one| one.purchase.channel.as_str()).collect();
    let stores: Vec<&str> = bought.iter().map(|one| one.purchase.store.as_str()).collect();
    let spends: Vec<Decimal> = bought.iter().map(|one| one.spend).collect();
    let statement = transaction.prepare(PURCHASES).await?;
    transaction.execute(&statement, &[&programs, &accounts, &ids, &days, &times, &channels, &stores, &spends]).await?;

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
