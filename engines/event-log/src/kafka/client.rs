//! What all calls to the brokers have alike: how long they may take, which of their errors pass, and how the others are named.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::LogError;

/// How long a call to the broker may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How soon the broker is asked again.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the client says by itself is for those who look for it: what matters comes back from a call.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "the kafka client says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the kafka client goes on by itself");
    }
}

impl ConsumerContext for Quiet {}

pub(super) type Reader = BaseConsumer<Quiet>;

pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> LogError {
    move |source| LogError::Unavailable { action, source: Box::new(source) }
}

pub(super) fn timed_out(action: &'static str) -> LogError {
    failed(action)(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// Runs what blocks on a thread where it may.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, LogError> + Send + 'static) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(failed("wait for the client"))?
}

/// Errors of a broker that comes back, or of a connection that is made anew.
pub(super) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, LeaderNotAvailable, NotLeaderForPartition, OperationTimedOut, Resolve};
    let passing = [AllBrokersDown, BrokerTransportFailure, LeaderNotAvailable, NotLeaderForPartition, OperationTimedOut, Resolve];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

/// Errors of a topic that is not there.
pub(super) fn is_gone(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic))
}
