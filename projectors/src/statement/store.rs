//! The rows: inserted a batch at a time, never changed.

use chrono::{DateTime, Utc};

use super::project::{Delta, Movement};
use crate::runtime::Rows;

const INSERT: &str = "
INSERT INTO movement (program, account, account_seq, event, effective_at, recorded_at, kind, reference, reason, actor, rule_version, points,
                      available_delta, pending_delta, held_delta, owed_delta, earned_delta, available, pending, held, owed, lots)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::timestamptz[], $6::timestamptz[], $7::text[], $8::text[], $9::text[],
                     $10::text[], $11::int[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[],
                     $18::bigint[], $19::bigint[], $20::bigint[], $21::bigint[], $22::jsonb[])";

pub(super) async fn write(transaction: &Rows<'_>, rows: &[Movement<'_>]) -> Result<(), tokio_postgres::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Movement<'_>) -> String| rows.iter().map(of).collect::<Vec<String>>();
    let time = |of: fn(&Movement<'_>) -> DateTime<Utc>| rows.iter().map(of).collect::<Vec<DateTime<Utc>>>();
    let delta = |of: fn(&Delta) -> i64| rows.iter().map(|row| of(&row.delta)).collect::<Vec<i64>>();
    let after = |of: fn(&Delta) -> i64| rows.iter().map(|row| of(&row.balance)).collect::<Vec<i64>>();
    let seqs: Vec<i64> = rows.iter().map(|row| i64::try_from(row.record.account_seq).unwrap_or(i64::MAX)).collect();
    let events: Vec<i16> = rows.iter().map(|row| row.event).collect();
    let kinds: Vec<&str> = rows.iter().map(|row| row.kind).collect();
    let versions: Vec<i32> = rows.iter().map(|row| i32::try_from(row.record.rule_version).unwrap_or(i32::MAX)).collect();
    let points: Vec<i64> = rows.iter().map(|row| row.points).collect();
    let lots: Vec<&serde_json::Value> = rows.iter().map(|row| &row.lots).collect();
    let statement = transaction.prepare(INSERT).await?;
    transaction
        .execute(
            &statement,
            &[
                &text(|row| row.record.key.program.to_string()),
                &text(|row| row.record.key.account.to_string()),
                &seqs,
                &events,
                &time(|row| row.effective_at),
                &time(|row| row.recorded_at),
                &kinds,
                &text(|row| row.reference.clone()),
                &text(|row| row.reason.clone()),
                &text(|row| row.record.actor.to_string()),
                &versions,
                &points,
                &delta(|delta| delta.available),
                &delta(|delta| delta.pending),
                &delta(|delta| delta.held),
                &delta(|delta| delta.owed),
                &delta(|delta| delta.earned),
                &after(|balance| balance.available),
                &after(|balance| balance.pending),
                &after(|balance| balance.held),
                &after(|balance| balance.owed),
                &lots,
            ],
        )
        .await?;
    Ok(())
}
