//! Why intake can't go on.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What an engine says: a topic or the tables, real or simulated.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// Why intake can't go on.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The topic.
    #[error("the topic of purchases can't be read")]
    Kafka(#[from] KafkaError),
    /// The broker refuses to make the topic.
    #[error("the broker refuses topic {topic}")]
    Topic {
        /// Which.
        topic: String,
        /// Why.
        #[source]
        source: RDKafkaErrorCode,
    },
    /// The registry.
    #[error("the schema registry does not answer")]
    Registry(#[from] reqwest::Error),
    /// The database.
    #[error("the database of unmatched and rejected messages can't be reached")]
    Postgres(#[from] tokio_postgres::Error),
    /// What reads or keeps messages.
    #[error("a message can't be read, kept or done with")]
    Engine(#[source] EngineError),
    /// The schema.
    #[error("the schema intake can't be brought up to date")]
    Migrate(#[from] Box<refinery::Error>),
}
