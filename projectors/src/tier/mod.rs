//! The tier of every account: level, history, next review, and what counts towards it.

mod project;
mod store;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/tier");
}

pub(crate) struct Tier;

#[async_trait]
impl ReadModel for Tier {
    fn name(&self) -> &'static str {
        "tier"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
