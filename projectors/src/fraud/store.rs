//! The rows: inserted a batch at a time, never changed.

use chrono::{DateTime, Utc};
use ledger_core::account::command::Origin;

use super::project::Signal;
use crate::runtime::Rows;

const INSERT: &str = "
INSERT INTO signal (program, account, account_seq, event, kind, at, actor, points, channel, store, cashier, till, device, card, reference, partition, position, reason)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::smallint[], $5::text[], $6::timestamptz[], $7::text[], $8::bigint[], $9::text[], $10::text[],
                     $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::smallint[], $17::bigint[], $18::text[])";

pub(super) async fn write(transaction: &Rows<'_>, signals: &[Signal<'_>]) -> Result<(), tokio_postgres::Error> {
    if signals.is_empty() {
        return Ok(());
    }
    let text = |of: for<'a> fn(&'a Signal<'_>) -> &'a str| signals.iter().map(of).collect::<Vec<&str>>();
    let origin = |of: fn(&Origin) -> &str| signals.iter().map(|signal| signal.origin.map_or("", of)).collect::<Vec<&str>>();
    let number = |of: fn(&Signal<'_>) -> u64| signals.iter().map(|signal| i64::try_from(of(signal)).unwrap_or(i64::MAX)).collect::<Vec<i64>>();
    let programs = text(|signal| signal.placed.record.key.program.as_str());
    let accounts = text(|signal| signal.placed.record.key.account.as_str());
    let (seqs, positions) = (number(|signal| signal.placed.record.account_seq), number(|signal| signal.placed.position));
    let events: Vec<i16> = signals.iter().map(|signal| signal.event).collect();
    let (kinds, actors) = (text(|signal| signal.kind), text(|signal| &signal.placed.record.actor));
    let times: Vec<DateTime<Utc>> = signals.iter().map(|signal| signal.at).collect();
    let points: Vec<i64> = signals.iter().map(|signal| signal.points).collect();
    let (channels, stores, references) = (text(|signal| signal.channel), text(|signal| signal.store), text(|signal| &signal.reference));
    let (cashiers, tills) = (origin(|origin| &origin.cashier), origin(|origin| &origin.till));
    let (devices, cards) = (origin(|origin| &origin.device), origin(|origin| &origin.card_token));
    let partitions: Vec<i16> = signals.iter().map(|signal| i16::try_from(signal.placed.partition).unwrap_or(i16::MAX)).collect();
    let statement = transaction.prepare(INSERT).await?;
    transaction
        .execute(
            &statement,
            &[
                &programs,
                &accounts,
                &seqs,
                &events,
                &kinds,
                &times,
                &actors,
                &points,
                &channels,
                &stores,
                &cashiers,
                &tills,
                &devices,
                &cards,
                &references,
                &partitions,
                &positions,
                &text(|signal| signal.reason),
            ],
        )
        .await?;
    Ok(())
}
