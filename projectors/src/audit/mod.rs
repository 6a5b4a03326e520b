//! Who did what: every accepted command, with its place in the book and the hash of its record.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ledger_core::account::EventKind;
use ledger_core::account::command::Reason;
use ledger_core::posting::{Bucket, postings};
use ledger_schemas::{Record, hash};

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/audit");
}

const COMMANDS: &str = "
INSERT INTO command (program, account, account_seq, kind, command_id, actor, recorded_at, effective_at, rule_version, partition, position, record_hash,
                     reason, points, channel, store)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[],
                     $10::smallint[], $11::bigint[], $12::bytea[], $13::text[], $14::bigint[], $15::text[], $16::text[])";

/// The reason's code and note of what a person did; empty for the rest.
fn reason(record: &Record) -> String {
    let reason = record.events.iter().find_map(|event| match &event.kind {
        EventKind::AccountFrozen(reason)
        | EventKind::AccountUnfrozen { reason, .. }
        | EventKind::AccountClosed(reason)
        | EventKind::PointsAdded { reason, .. }
        | EventKind::PointsTaken { reason, .. } => Some(reason),
        _ => None,
    });
    reason.map_or_else(String::new, |Reason { code, note }| if note.is_empty() { code.to_string() } else { format!("{code}: {note}") })
}

/// What the member has more or less for it.
fn points(record: &Record) -> i64 {
    let mut sum = 0;
    for event in &record.events {
        postings(event, |posting| {
            if matches!(posting.bucket, Bucket::Pending | Bucket::Available | Bucket::Held | Bucket::Owed) {
                sum += posting.points;
            }
        });
    }
    sum
}

/// Channel and store of a purchase.
fn place(record: &Record) -> (&str, &str) {
    let bought = record.events.iter().find_map(|event| match &event.kind {
        EventKind::PointsEarned(earned) => Some(&earned.purchase),
        _ => None,
    });
    bought.map_or(("", ""), |purchase| (purchase.channel.as_str(), purchase.store.as_str()))
}

pub(crate) struct Audit;

#[async_trait]
impl ReadModel for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        if records.is_empty() {
            return Ok(());
        }
        let texts = |f: fn(&Placed) -> &str| records.iter().map(f).collect::<Vec<&str>>();
        let programs = texts(|placed| placed.record.key.program.as_str());
        let accounts = texts(|placed| placed.record.key.account.as_str());
        let kinds = texts(|placed| placed.record.command_kind.as_str());
        let ids = texts(|placed| placed.record.command_id.as_str());
        let actors = texts(|placed| placed.record.actor.as_str());
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let seqs: Vec<i64> = records.iter().map(|placed| number(placed.record.account_seq)).collect();
        let recorded: Vec<DateTime<Utc>> = records.iter().map(|placed| placed.record.recorded_at.timestamp()).collect();
        let effective: Vec<DateTime<Utc>> = records.iter().map(|placed| placed.record.effective_at.timestamp()).collect();
        let versions: Vec<i32> = records.iter().map(|placed| i32::try_from(placed.record.rule_version).unwrap_or(i32::MAX)).collect();
        let partitions: Vec<i16> = records.iter().map(|placed| i16::try_from(placed.partition).unwrap_or(i16::MAX)).collect();
        let positions: Vec<i64> = records.iter().map(|placed| number(placed.position)).collect();
        let hashes: Vec<Vec<u8>> = records.iter().map(|placed| hash(&placed.body).to_vec()).collect();
        let reasons: Vec<String> = records.iter().map(|placed| reason(&placed.record)).collect();
        let points: Vec<i64> = records.iter().map(|placed| points(&placed.record)).collect();
        let (channels, stores): (Vec<&str>, Vec<&str>) = records.iter().map(|placed| place(&placed.record)).unzip();
        let statement = transaction.prepare(COMMANDS).await?;
        transaction
            .execute(
                &statement,
                &[
                    &programs,
                    &accounts,
                    &seqs,
                    &kinds,
                    &ids,
                    &actors,
                    &recorded,
                    &effective,
                    &versions,
                    &partitions,
                    &positions,
                    &hashes,
                    &reasons,
                    &points,
                    &channels,
                    &stores,
                ],
            )
            .await?;
        Ok(())
    }
}
