//! The log on Kafka: records on `<prefix>.events`, outcomes, rulebooks and offsets each on a topic of their own, a batch in one transaction.
//!
//! Invariants: a record's position is not its offset (transaction markers leave gaps in those) but stands in its header and goes 0, 1, 2 …
//! within its partition, as on every other log, so a book keeps its positions when it moves; every reader reads `read_committed` and checks
//! that no position is missing; a partition has one writer, named by its lease (`transactions`), whoever took it last.
//!
//! What is asked over the log stands on `<prefix>.commands`, whose consumer group shares the partitions out; answers on `<prefix>.replies`.
//! How far it was read, and who has each partition, stands on `<prefix>.progress`: a group's own offsets are forgotten a week after its last member.

mod alter;
mod asker;
mod client;
mod fetch;
mod log;
mod member;
mod message;
mod options;
mod producer;
mod progress;
mod record_batch;
mod standing;
mod tail;
mod topics;
mod transactions;
mod wire;
mod writer;

pub use log::KafkaLog;
pub use options::KafkaOptions;
