//! What a read model is to the runtime.

use async_trait::async_trait;
use event_log::{Partition, Position};
use ledger_schemas::Record;

use super::rows::Rows;

/// A record with its place.
pub struct Placed {
    /// Its partition.
    pub partition: Partition,
    /// Its position.
    pub position: Position,
    /// Its bytes as they are stored.
    pub body: Vec<u8>,
    /// What it says.
    pub record: Record,
}

/// A read model: how records become rows.
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// Its name, which is its schema's.
    fn name(&self) -> &'static str;

    /// Its tables.
    fn migrations(&self) -> refinery::Runner;

    /// Folds `records`, in order and without gap for each account, into the rows.
    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error>;
}
