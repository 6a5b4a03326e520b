//! Altering a topic's settings: those that are named, and no others. The client library can only set all of them at once.

use kafka_protocol::error::ParseResponseErrorCode as _;
use kafka_protocol::messages::IncrementalAlterConfigsRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::protocol::StrBytes;

use super::client::failed;
use super::options::KafkaOptions;
use super::wire::{Connection, WireError};
use crate::LogError;

/// Which version of the request is spoken; Kafka 4.0 has it.
const VERSION: i16 = 1;
/// What is altered is a topic.
const TOPIC: i8 = 2;

/// Sets these settings of `topic`.
pub(super) fn alter(options: &KafkaOptions, topic: &str, settings: &[(&str, &str)]) -> Result<(), LogError> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    // The operation 0 sets, which is the default.
    let setting = |(name, value): &(&str, &str)| AlterableConfig::default().with_name(text(name)).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text(topic));
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.with_configs(settings.iter().map(setting).collect())]);
    let client = text(&options.client_id());
    let call = || -> Result<_, WireError> {
        let mut last = None;
        for address in options.brokers.split(',').map(str::trim) {
            match Connection::open(address, &client) {
                Ok(mut connection) => return connection.call(VERSION, &request),
                Err(error) => last = Some(error),
            }
        }
        let none = || WireError::Connect { address: options.brokers.clone(), source: std::io::ErrorKind::InvalidInput.into() };
        Err(last.unwrap_or_else(none))
    };
    let answer = call().map_err(failed("alter a topic"))?;
    match answer.responses.iter().find_map(|response| response.error_code.err()) {
        Some(code) => Err(failed("alter a topic")(code)),
        None => Ok(()),
    }
}
