//! What every account has, with its lots.

mod project;
mod store;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use event_log::EventLog;
use event_log::postgres::{connect, migrate};
use ledger_schemas::Record;
use tokio_postgres::Transaction;

use crate::runtime::{Placed, ReadModel};

pub use project::{BalanceChange, BalanceChanges, LotChange, fold as fold_balance};

mod embedded {
    refinery::embed_migrations!("../migrations/balance");
}

pub(crate) struct Balance;

/// For `loyalty bench`: how long the bare upserts of the rows of the whole log take, everything before them done beforehand.
///
/// # Errors
/// What the log or Postgres says.
pub async fn bare_upserts(log: &dyn EventLog, url: &str) -> Result<Duration, Box<dyn std::error::Error + Send + Sync>> {
    let schema = "balance_bare";
    migrate(url, schema, embedded::migrations::runner()).await?;
    let mut client = connect(url, schema).await?;
    let mut time = Duration::ZERO;
    for partition in 0..log.partitions() {
        let mut from = 0;
        loop {
            let entries = log.read(partition, from, crate::runtime::BATCH_MAX).await?;
            let Some(last) = entries.last() else { break };
            from = last.position + 1;
            let mut records = Vec::with_capacity(entries.len());
            for entry in entries {
                records.push(Placed { partition, position: entry.position, record: Record::decode(&entry.body)?, body: entry.body });
            }
            let changes = project::fold(&records);
            let begin = Instant::now();
            let transaction = client.transaction().await?;
            store::write(&transaction, &changes).await?;
            transaction.commit().await?;
            time += begin.elapsed();
        }
    }
    client.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
    Ok(time)
}

#[async_trait]
impl ReadModel for Balance {
    fn name(&self) -> &'static str {
        "balance"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Transaction<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
