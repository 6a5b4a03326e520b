//! Who did what: every accepted command, with its place in the book and the hash of its record.

use async_trait::async_trait;
use jiff::Timestamp;
use ledger_schemas::hash;
use tokio_postgres::Transaction;

use crate::runtime::{Placed, ReadModel};

mod embedded {
    refinery::embed_migrations!("../migrations/audit");
}

const COMMANDS: &str = "
INSERT INTO command (program, account, account_seq, kind, command_id, actor, recorded_at, effective_at, rule_version, partition, position, record_hash)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[], $9::int[],
                     $10::smallint[], $11::bigint[], $12::bytea[])";

pub(crate) struct Audit;

#[async_trait]
impl ReadModel for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Transaction<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
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
        let recorded: Vec<Timestamp> = records.iter().map(|placed| placed.record.recorded_at.timestamp()).collect();
        let effective: Vec<Timestamp> = records.iter().map(|placed| placed.record.effective_at.timestamp()).collect();
        let versions: Vec<i32> = records.iter().map(|placed| i32::try_from(placed.record.rule_version).unwrap_or(i32::MAX)).collect();
        let partitions: Vec<i16> = records.iter().map(|placed| i16::try_from(placed.partition).unwrap_or(i16::MAX)).collect();
        let positions: Vec<i64> = records.iter().map(|placed| number(placed.position)).collect();
        let hashes: Vec<Vec<u8>> = records.iter().map(|placed| hash(&placed.body).to_vec()).collect();
        let statement = transaction.prepare(COMMANDS).await?;
        transaction
            .execute(&statement, &[&programs, &accounts, &seqs, &kinds, &ids, &actors, &recorded, &effective, &versions, &partitions, &positions, &hashes])
            .await?;
        Ok(())
    }
}
