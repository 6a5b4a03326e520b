//! What members bought and gave back, purchase by purchase: what lifetime value is estimated from.

mod project;
mod store;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/clv");
}

pub(crate) struct Clv;

#[async_trait]
impl ReadModel for Clv {
    fn name(&self) -> &'static str {
        "clv"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
