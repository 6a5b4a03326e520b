//! What every account has, with its lots.

mod project;
mod store;

use async_trait::async_trait;

use crate::runtime::{Placed, ReadModel, Rows};

pub use project::{BalanceChange, BalanceChanges, LotChange, fold as fold_balance};

mod embedded {
    refinery::embed_migrations!("../migrations/balance");
}

pub(crate) struct Balance;

#[async_trait]
impl ReadModel for Balance {
    fn name(&self) -> &'static str {
        "balance"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        store::write(transaction, &project::fold(records)).await
    }
}
