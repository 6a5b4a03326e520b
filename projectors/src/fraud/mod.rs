//! What fraud is seen by: who did what, where and on what, in a form that windows can be counted over. The rules are applied to it
//! elsewhere, since what they say depends on when they are asked.

mod project;
mod store;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/fraud");
}

pub(crate) struct Fraud;

#[async_trait]
impl ReadModel for Fraud {
    fn name(&self) -> &'static str {
        "fraud"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
