//! What is owed to members: every posting by day, tier and issue month, and every lot.

mod known;
mod project;
mod store;
mod sums;
mod unnest;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/liability");
}

pub(crate) struct Liability;

#[async_trait]
impl ReadModel for Liability {
    fn name(&self) -> &'static str {
        "liability"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
