//! The rows.

use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

use super::project::{Changes, Counted, Place};
use crate::runtime::Rows;

const STANDINGS: &str = "
INSERT INTO standing (program, account, tier, since, review_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[])
ON CONFLICT (program, account) DO UPDATE SET tier = excluded.tier, since = excluded.since, review_at = excluded.review_at";

const KEPT: &str = "
UPDATE standing s SET review_at = u.review_at FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u(program, account, review_at)
WHERE s.program = u.program AND s.account = u.account";

const MOVES: &str = "
INSERT INTO move (program, account, account_seq, event, at, from_tier, to_tier, cause, qualifying, recorded_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::numeric[],
  $10::timestamptz[])";

const PURCHASES: &str = "
INSERT INTO purchase (program, account, purchase_id, at) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[])";

const QUALIFYING: &str = "
INSERT INTO qualifying (program, account, account_seq, event, at, amount, points, spend, purchases)
SELECT u.program, u.account, u.seq, u.event, coalesce(u.at, p.at), u.amount, u.points, u.spend, u.purchases
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::timestamptz[], $6::text[], $7::numeric[], $8::bigint[], $9::numeric[], $10::bigint[])
  AS u(program, account, seq, event, at, purchase_id, amount, points, spend, purchases)
LEFT JOIN purchase p ON u.at IS NULL AND p.program = u.program AND p.account = u.account AND p.purchase_id = u.purchase_id
WHERE (u.amount, u.points, u.spend, u.purchases) <> (0, 0, 0, 0)";

fn programs<'a>(places: impl Iterator<Item = &'a Place<'a>>) -> (Vec<&'a str>, Vec<&'a str>, Vec<i64>, Vec<i16>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for place in places {
        columns.0.push(place.key.program.as_str());
        columns.1.push(place.key.account.as_str());
        columns.2.push(place.seq);
        columns.3.push(place.event);
    }
    columns
}

pub(super) async fn write(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    write_standings(transaction, changes).await?;
    write_moves(transaction, changes).await?;
    // Purchases first: a return in the same batch looks for its purchase's time.
    if !changes.purchases.is_empty() {
        let (programs, accounts, ..) = programs(changes.purchases.iter().map(|row| &row.place));
        let ids: Vec<&str> = changes.purchases.iter().map(|row| row.purchase).collect();
        let times: Vec<Option<DateTime<Utc>>> = changes.purchases.iter().map(|row| row.at).collect();
        let statement = transaction.prepare(PURCHASES).await?;
        transaction.execute(&statement, &[&programs, &accounts, &ids, &times]).await?;
    }
    write_qualifying(transaction, &changes.purchases).await?;
    write_qualifying(transaction, &changes.returns).await
}

async fn write_standings(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    if !changes.standings.is_empty() {
        let programs: Vec<&str> = changes.standings.keys().map(|key| key.program.as_str()).collect();
        let accounts: Vec<&str> = changes.standings.keys().map(|key| key.account.as_str()).collect();
        let tiers: Vec<&str> = changes.standings.values().map(|row| row.tier.as_str()).collect();
        let since: Vec<DateTime<Utc>> = changes.standings.values().map(|row| row.since).collect();
        let reviews: Vec<Option<DateTime<Utc>>> = changes.standings.values().map(|row| row.review_at).collect();
        transaction.execute(STANDINGS, &[&programs, &accounts, &tiers, &since, &reviews]).await?;
    }
    if !changes.kept.is_empty() {
        let programs: Vec<&str> = changes.kept.keys().map(|key| key.program.as_str()).collect();
        let accounts: Vec<&str> = changes.kept.keys().map(|key| key.account.as_str()).collect();
        let reviews: Vec<Option<DateTime<Utc>>> = changes.kept.values().copied().collect();
        transaction.execute(KEPT, &[&programs, &accounts, &reviews]).await?;
    }
    Ok(())
}

async fn write_moves(transaction: &Rows<'_>, changes: &Changes<'_>) -> Result<(), tokio_postgres::Error> {
    if changes.moves.is_empty() {
        return Ok(());
    }
    let (programs, accounts, seqs, events) = programs(changes.moves.iter().map(|row| &row.place));
    let times: Vec<DateTime<Utc>> = changes.moves.iter().map(|row| row.at).collect();
    let from: Vec<&str> = changes.moves.iter().map(|row| row.from.as_str()).collect();
    let to: Vec<&str> = changes.moves.iter().map(|row| row.to.as_str()).collect();
    let causes: Vec<&str> = changes.moves.iter().map(|row| row.cause).collect();
    let qualifying: Vec<Decimal> = changes.moves.iter().map(|row| row.qualifying).collect();
    let recorded: Vec<DateTime<Utc>> = changes.moves.iter().map(|row| row.recorded_at).collect();
    transaction.execute(MOVES, &[&programs, &accounts, &seqs, &events, &times, &from, &to, &causes, &qualifying, &recorded]).await?;
    Ok(())
}

async fn write_qualifying(transaction: &Rows<'_>, rows: &[Counted<'_>]) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let (programs, accounts, seqs, events) = programs(rows.iter().map(|row| &row.place));
    let times: Vec<Option<DateTime<Utc>>> = rows.iter().map(|row| row.at).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.purchase).collect();
    let amounts: Vec<Decimal> = rows.iter().map(|row| row.amount).collect();
    let points: Vec<i64> = rows.iter().map(|row| row.counted.points).collect();
    let spend: Vec<Decimal> = rows.iter().map(|row| row.counted.spend.0).collect();
    let purchases: Vec<i64> = rows.iter().map(|row| row.counted.purchases).collect();
    let statement = transaction.prepare(QUALIFYING).await?;
    transaction.execute(&statement, &[&programs, &accounts, &seqs, &events, &times, &ids, &amounts, &points, &spend, &purchases]).await?;
    Ok(())
}
