//! The rows: upserted by difference, a batch at a time.

use chrono::{DateTime, Utc};
use ledger_core::account::state::Status;
use ledger_core::posting::Bucket;
use ledger_core::time::Moment;

use super::project::{BalanceChanges, LotChange};
use crate::runtime::Rows;

const ACCOUNTS: &str = "
INSERT INTO balance AS b (program, account, status, opened_at, issued, pending, available, held, redeemed, expired,
                          clawed_back, forfeited, adjusted, owed, shortfall, lifetime_earned, partition, position)
SELECT u.program, u.account, coalesce(u.status, ''), u.opened_at, u.issued, u.pending, u.available, u.held, u.redeemed, u.expired,
       u.clawed_back, u.forfeited, u.adjusted, u.owed, u.shortfall, u.earned, u.partition, u.position
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[],
            $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::smallint[], $18::bigint[])
  AS u(program, account, status, opened_at, issued, pending, available, held, redeemed,
       expired, clawed_back, forfeited, adjusted, owed, shortfall, earned, partition, position)
ON CONFLICT (program, account) DO UPDATE SET
    status = CASE excluded.status WHEN '' THEN b.status ELSE excluded.status END,
    opened_at = coalesce(excluded.opened_at, b.opened_at),
    issued = b.issued + excluded.issued, pending = b.pending + excluded.pending, available = b.available + excluded.available,
    held = b.held + excluded.held, redeemed = b.redeemed + excluded.redeemed, expired = b.expired + excluded.expired,
    clawed_back = b.clawed_back + excluded.clawed_back, forfeited = b.forfeited + excluded.forfeited, adjusted = b.adjusted + excluded.adjusted,
    owed = b.owed + excluded.owed, shortfall = b.shortfall + excluded.shortfall, lifetime_earned = b.lifetime_earned + excluded.lifetime_earned,
    position = excluded.position";

const LOTS: &str = "
INSERT INTO lot AS l (program, account, lot_id, points, remaining, held, pending, earned_at, available_at, expires_at, expiry_moves, source, rule_version)
SELECT u.program, u.account, u.lot_id, u.points, u.remaining, u.held,
       coalesce(u.pending, (SELECT was.pending FROM lot was WHERE (was.program, was.account, was.lot_id) = (u.program, u.account, u.lot_id)), true),
       u.earned_at, u.available_at, u.expires_at, u.expiry_moves, u.source, u.rule_version
FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[], $8::timestamptz[], $9::timestamptz[],
            $10::timestamptz[], $11::boolean[], $12::text[], $13::int[])
  AS u(program, account, lot_id, points, remaining, held, pending, earned_at, available_at, expires_at, expiry_moves, source, rule_version)
ON CONFLICT (program, account, lot_id) DO UPDATE SET
    remaining = l.remaining + excluded.remaining, held = l.held + excluded.held, pending = excluded.pending";

const EXPIRY_MOVED: &str = "
UPDATE lot SET expires_at = greatest(lot.expires_at, u.expires_at) FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS u(program, account, expires_at)
WHERE lot.program = u.program AND lot.account = u.account AND lot.expiry_moves";

fn timestamp(at: Option<Moment>) -> Option<DateTime<Utc>> {
    at.map(Moment::timestamp)
}

pub(super) async fn write(transaction: &Rows<'_>, changes: &BalanceChanges<'_>) -> Result<(), tokio_postgres::Error> {
    if changes.is_empty() {
        return Ok(());
    }
    // Lots that were there before move first: one made in this batch has its expiry already.
    move_expiries(transaction, changes).await?;
    write_accounts(transaction, changes).await?;
    write_lots(transaction, changes).await
}

async fn write_accounts(transaction: &Rows<'_>, changes: &BalanceChanges<'_>) -> Result<(), tokio_postgres::Error> {
    let programs: Vec<&str> = changes.keys().map(|(program, _)| *program).collect();
    let accounts: Vec<&str> = changes.keys().map(|(_, account)| *account).collect();
    let statuses: Vec<Option<&str>> = changes.values().map(|change| change.status.map(Status::name)).collect();
    let opened: Vec<Option<DateTime<Utc>>> = changes.values().map(|change| timestamp(change.opened_at)).collect();
    let total = |bucket: Bucket| changes.values().map(|change| change.total(bucket)).collect::<Vec<i64>>();
    let issued: Vec<i64> = changes.values().map(|change| -change.total(Bucket::Issued)).collect();
    let owed: Vec<i64> = changes.values().map(|change| -change.total(Bucket::Owed)).collect();
    let earned: Vec<i64> = changes.values().map(|change| change.earned).collect();
    let partitions: Vec<i16> = changes.values().map(|change| i16::try_from(change.partition).unwrap_or(i16::MAX)).collect();
    let positions: Vec<i64> = changes.values().map(|change| i64::try_from(change.position).unwrap_or(i64::MAX)).collect();
    let statement = transaction.prepare(ACCOUNTS).await?;
    let buckets =
        [Bucket::Pending, Bucket::Available, Bucket::Held, Bucket::Redeemed, Bucket::Expired, Bucket::ClawedBack, Bucket::Forfeited, Bucket::Adjusted];
    let [pending, available, held, redeemed, expired, clawed_back, forfeited, adjusted] = buckets.map(total);
    let shortfall = total(Bucket::Shortfall);
    transaction
        .execute(
            &statement,
            &[
                &programs,
                &accounts,
                &statuses,
                &opened,
                &issued,
                &pending,
                &available,
                &held,
                &redeemed,
                &expired,
                &clawed_back,
                &forfeited,
                &adjusted,
                &owed,
                &shortfall,
                &earned,
                &partitions,
                &positions,
            ],
        )
        .await?;
    Ok(())
}

async fn write_lots(transaction: &Rows<'_>, changes: &BalanceChanges<'_>) -> Result<(), tokio_postgres::Error> {
    let lots: Vec<((&str, &str), i32, &LotChange)> =
        changes.iter().flat_map(|(key, change)| change.lots.iter().map(move |(lot, row)| (*key, i32::try_from(*lot).unwrap_or(i32::MAX), row))).collect();
    if lots.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = lots.iter().map(|((program, _), ..)| *program).collect();
    let accounts: Vec<&str> = lots.iter().map(|((_, account), ..)| *account).collect();
    let ids: Vec<i32> = lots.iter().map(|(_, id, _)| *id).collect();
    let points: Vec<i64> = lots.iter().map(|(.., lot)| lot.points).collect();
    let remaining: Vec<i64> = lots.iter().map(|(.., lot)| lot.remaining).collect();
    let held: Vec<i64> = lots.iter().map(|(.., lot)| lot.held).collect();
    let pending: Vec<Option<bool>> = lots.iter().map(|(.., lot)| lot.pending).collect();
    let earned: Vec<Option<DateTime<Utc>>> = lots.iter().map(|(.., lot)| timestamp(lot.earned_at)).collect();
    let available: Vec<Option<DateTime<Utc>>> = lots.iter().map(|(.., lot)| timestamp(lot.available_at)).collect();
    let expires: Vec<Option<DateTime<Utc>>> = lots.iter().map(|(.., lot)| timestamp(lot.expires_at)).collect();
    let moves: Vec<bool> = lots.iter().map(|(.., lot)| lot.expiry_moves).collect();
    let sources: Vec<&str> = lots.iter().map(|(.., lot)| lot.source.as_str()).collect();
    let versions: Vec<i32> = lots.iter().map(|(.., lot)| i32::try_from(lot.rule_version).unwrap_or(i32::MAX)).collect();
    let statement = transaction.prepare(LOTS).await?;
    transaction
        .execute(&statement, &[&programs, &accounts, &ids, &points, &remaining, &held, &pending, &earned, &available, &expires, &moves, &sources, &versions])
        .await?;
    Ok(())
}

async fn move_expiries(transaction: &Rows<'_>, changes: &BalanceChanges<'_>) -> Result<(), tokio_postgres::Error> {
    let moved: Vec<(&str, &str, DateTime<Utc>)> =
        changes.iter().filter_map(|((program, account), change)| Some((*program, *account, timestamp(change.expiry_moved)?))).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let programs: Vec<&str> = moved.iter().map(|(program, ..)| *program).collect();
    let accounts: Vec<&str> = moved.iter().map(|(_, account, _)| *account).collect();
    let expiries: Vec<DateTime<Utc>> = moved.iter().map(|(.., at)| *at).collect();
    transaction.execute(EXPIRY_MOVED, &[&programs, &accounts, &expiries]).await?;
    Ok(())
}
