//! Where the brokers are and how they are spoken to.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::client::{Quiet, Reader, failed};
use crate::LogError;

/// Where the log is.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The brokers, as `HOST:PORT,HOST:PORT`.
    pub brokers: String,
    /// What the topics' names begin with.
    pub prefix: String,
    /// How many brokers keep each partition of a new topic.
    pub replication: u16,
    /// How long a member may be silent before its partitions go to others.
    pub session_timeout: Duration,
}

impl KafkaOptions {
    pub(super) fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(super) fn client_id(&self) -> String {
        format!("{}-ledger", self.prefix)
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", self.client_id());
        config
    }

    /// A consumer that is told what to read and commits nothing.
    pub(super) fn consumer(&self) -> Result<Reader, LogError> {
        // The client asks for a group even where none is joined.
        self.consumer_of(&self.topic("readers"), "read_committed")
    }

    /// As above, where `group` matters: for its offsets.
    pub(super) fn consumer_of(&self, group: &str, isolation: &str) -> Result<Reader, LogError> {
        let mut config = self.client();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "16384")
            // Where nothing is fetched, because it is written here, this alone tells that a topic is gone.
            .set("topic.metadata.refresh.interval.ms", "2000")
            .set("fetch.wait.max.ms", "20");
        config.create_with_context(Quiet).map_err(failed("connect a consumer"))
    }
}
