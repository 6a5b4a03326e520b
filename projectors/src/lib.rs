//! Read models: each one is fold(log), on its own: own schema, own checkpoint, rebuilt alone.
//!
//! A new read model is a folder here, a folder under `migrations/` and a line in [`read_models`].

mod alias;
mod audit;
mod balance;
mod clv;
mod fraud;
mod liability;
mod refusal;
mod runtime;
mod statement;
mod tier;

use std::sync::Arc;

pub use balance::{BalanceChange, BalanceChanges, LotChange, fold_balance};
pub use refusal::{Refusals, verify_refusals};
pub use runtime::{EngineError, Health, Lag, Placed, Projector, ProjectorError, ReadModel, Run, Tables, TablesChange, Verified, lags, rebuild, verify};
pub use statement::words::{KINDS, kind, reason};

/// All read models.
#[must_use]
pub fn read_models() -> Vec<Arc<dyn ReadModel>> {
    vec![
        Arc::new(alias::Aliases),
        Arc::new(audit::Audit),
        Arc::new(balance::Balance),
        Arc::new(clv::Clv),
        Arc::new(fraud::Fraud),
        Arc::new(liability::Liability),
        Arc::new(statement::Statement),
        Arc::new(tier::Tier),
    ]
}

/// The read model with this name.
#[must_use]
pub fn read_model(name: &str) -> Option<Arc<dyn ReadModel>> {
    read_models().into_iter().find(|model| model.name() == name)
}
