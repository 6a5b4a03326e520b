//! Estimates made from the read models: fits, scores, reserves, journals. They are kept in a schema of their own, because they are not a
//! fold of the log: they tell by which data and when they were made, and are made anew, not rebuilt.
//!
//! Invariants: nothing here writes a read model or the log; every figure names the fit or the day that it is of.
#![allow(clippy::float_arithmetic, reason = "estimates; what is booked uses decimals")]

pub mod clv;
pub mod decline;
pub mod fraud;
pub mod liability;

use tokio_postgres::Client;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

mod embedded {
    refinery::embed_migrations!("../../migrations/analysis");
}

/// For the description of the API: a text that is one of `names`.
fn one_of(description: &str, names: &[&'static str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).description(Some(description)).enum_values(Some(names.iter().copied())).build()
}

/// Why there is no estimate.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// The database.
    #[error("the database refused")]
    Database(#[from] tokio_postgres::Error),
    /// The schema can't be brought up to date.
    #[error("the schema analysis can't be brought up to date")]
    Migrate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nothing to estimate from.
    #[error("program {program} has no purchases until {until}")]
    NoPurchases {
        /// Which.
        program: String,
        /// The last day looked at.
        until: chrono::NaiveDate,
    },
    /// What was asked for makes no sense.
    #[error("{field} is {value}: {expected}")]
    Invalid {
        /// Which argument.
        field: &'static str,
        /// What it was.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// What was asked for by its number is not there, or can't be used.
    #[error("{0}")]
    NotThere(String),
    /// Amounts that don't fit.
    #[error("cohort {cohort} can't be put into the journal")]
    Revenue {
        /// Of which month.
        cohort: chrono::NaiveDate,
        /// Why not.
        #[source]
        source: estimators::revenue::RevenueError,
    },
    /// Kept JSON that can't be read.
    #[error("a kept report can't be read")]
    Json(#[from] serde_json::Error),
}

/// Brings the schema up to date and connects to it.
///
/// # Errors
/// [`AnalysisError`]
pub async fn open(url: &str) -> Result<Client, AnalysisError> {
    event_log::postgres::migrate(url, "analysis", embedded::migrations::runner()).await.map_err(AnalysisError::Migrate)?;
    Ok(event_log::postgres::connect(url, "analysis").await?)
}
