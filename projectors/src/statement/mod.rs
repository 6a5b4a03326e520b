//! Every movement, with its lots, the reason in words and the balance after it.

mod project;
mod store;
pub(crate) mod words;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/statement");
}

pub(crate) struct Statement;

#[async_trait]
impl ReadModel for Statement {
    fn name(&self) -> &'static str {
        "statement"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
