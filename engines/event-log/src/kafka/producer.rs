//! A transactional producer that says no more to the broker than the log needs: all partitions in one request, then the offsets, then the end.
//!
//! The client library sends one partition a request and asks again 20 ms after it was told to wait; a group of commands touches all
//! partitions and is due at once. The broker's second version of transactions (KIP-890, Kafka 4.0) adds a partition to a transaction when it
//! is first written to, and gives a new epoch with every end, so that nothing late can get into the next transaction.
//!
//! Invariants: numbers within a partition begin at 0 with every epoch, so each epoch makes one transaction; whatever fails leaves the
//! producer unfit until [`Producer::renew`] has ended what it had begun.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::{ParseResponseErrorCode as _, ResponseError};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, EndTxnRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, MetadataRequest, ProduceRequest, ProducerId, TopicName,
    TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::client::{LOOK_AGAIN, PATIENCE};
use super::options::KafkaOptions;
use super::record_batch::{RecordBatch, numbered};
use super::standing::Membership;
use super::wire::{Connection, WireError};
use crate::{Partition, Position};

/// Of each request the version that the ledger speaks; Kafka 4.0 has them all.
mod version {
    pub(super) const API_VERSIONS: i16 = 3;
    pub(super) const METADATA: i16 = 12;
    pub(super) const FIND_COORDINATOR: i16 = 4;
    pub(super) const INIT_PRODUCER_ID: i16 = 5;
    pub(super) const PRODUCE: i16 = 12;
    pub(super) const TXN_OFFSET_COMMIT: i16 = 5;
    pub(super) const END_TXN: i16 = 5;
}

const TRANSACTION_TIMEOUT_MS: i32 = 60_000;
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
/// How soon a broker that asked for patience is asked again: the last transaction's markers are written within a millisecond or two.
const AGAIN: Duration = Duration::from_micros(500);
/// Brokers hang up on who says nothing for ten minutes, those behind some networks sooner, and one that hangs up on a commit leaves its outcome
/// unknown: who was silent for longer than this connects anew before it begins.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// What a topic takes by default, which some of ours have; a larger record goes alone, to topics that take it.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// What is around a record's key and value: lengths, deltas and headers, as variable-length integers of at most 10 bytes each.
const AROUND_BYTES: usize = 128;

/// A transaction need not wait until the markers of the last one are written if it is another producer's.
const TURNS: usize = 2;

const TRANSACTION_KEY: i8 = 1;
const GROUP_KEY: i8 = 0;

#[derive(Debug, thiserror::Error)]
pub(super) enum ProducerError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the broker refuses to {action}: {code}")]
    Refused { action: &'static str, code: ResponseError },
    #[error(
        "broker {address} has transactions of version {found}, the ledger needs version 2: Kafka 4.0 or later, \
         and `kafka-features.sh upgrade --feature transaction.version=2` where it was upgraded from an older one"
    )]
    Old { address: String, found: i16 },
    #[error("topic {topic} is not there: if it was deleted, restore it, or begin a new book under another prefix")]
    NoTopic { topic: String },
    #[error("topic {topic} has no partition {partition}")]
    NoPartition { topic: String, partition: Partition },
}

impl ProducerError {
    fn code(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Another one has the transactional id.
    pub(super) fn is_fenced(&self) -> bool {
        matches!(self.code(), Some(ResponseError::ProducerFenced | ResponseError::InvalidProducerEpoch))
    }

    /// The group has gone on without this member.
    pub(super) fn is_of_the_group(&self) -> bool {
        use ResponseError::{IllegalGeneration, RebalanceInProgress, UnknownMemberId};
        matches!(self.code(), Some(IllegalGeneration | RebalanceInProgress | UnknownMemberId))
    }

    /// A broker that comes back, or another that takes its place, may say yes.
    pub(super) fn is_passing(&self) -> bool {
        let refused = self.code().is_some_and(|code| code.is_retriable() || code == ResponseError::TransactionAbortable);
        // A topic that was made just now is not known everywhere at once.
        refused || is_patience(self.code()) || matches!(self, Self::NoTopic { .. } | Self::Wire(WireError::Connect { .. } | WireError::Lost { .. }))
    }
}

fn is_patience(code: Option<ResponseError>) -> bool {
    matches!(code, Some(ResponseError::ConcurrentTransactions | ResponseError::CoordinatorLoadInProgress))
}

fn accepted(action: &'static str, code: i16) -> Result<(), ProducerError> {
    code.err().map_or(Ok(()), |code| Err(ProducerError::Refused { action, code }))
}

/// Asks again while the broker asks for patience.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, ProducerError>) -> Result<T, ProducerError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error) if is_patience(error.code()) && Instant::now() < deadline => std::thread::sleep(AGAIN),
            outcome => return outcome,
        }
    }
}

/// What goes to one partition in one request.
struct Part {
    topic: StrBytes,
    partition: Partition,
    batch: Bytes,
    records: i64,
}

/// The offset after what was written, by topic and partition.
pub(super) type Written = BTreeMap<(String, Partition), i64>;

/// What is to be written, by topic and partition: in batches as large as the broker takes them.
pub(super) struct Messages<'a> {
    batches: BTreeMap<(&'a str, Partition), Vec<RecordBatch>>,
    timestamp_ms: i64,
    /// For batches to come.
    room: Vec<BytesMut>,
}

impl<'a> Messages<'a> {
    /// Adds a message, with its position and its number within the account.
    pub(super) fn push(&mut self, topic: &'a str, partition: Partition, key: &[u8], value: &[u8], place: (Position, u64)) {
        let batches = self.batches.entry((topic, partition)).or_default();
        match batches.last_mut() {
            Some(last) if last.len() + AROUND_BYTES + key.len() + value.len() <= BATCH_BYTES_MAX => last.push(key, value, place),
            _ => {
                let mut batch = RecordBatch::new(self.room.pop().unwrap_or_default(), self.timestamp_ms);
                batch.push(key, value, place);
                batches.push(batch);
            }
        }
    }
}

fn produce(id: &TransactionalId, parts: Vec<Part>) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for Part { topic, partition, batch, .. } in parts {
        let data = PartitionProduceData::default().with_index(i32::from(partition)).with_records(Some(batch));
        match topics.last_mut().filter(|last| last.name.0 == topic) {
            Some(last) => last.partition_data.push(data),
            None => topics.push(TopicProduceData::default().with_name(TopicName(topic)).with_partition_data(vec![data])),
        }
    }
    ProduceRequest::default().with_transactional_id(Some(id.clone())).with_acks(-1).with_timeout_ms(PRODUCE_TIMEOUT_MS).with_topic_data(topics)
}

/// How far a group has read a topic, each partition's next offset with what is written beside it, as the member that `standing` tells.
pub(super) struct Offsets<'a> {
    pub(super) topic: &'a str,
    pub(super) offsets: Vec<(Partition, i64, &'a str)>,
    pub(super) standing: &'a Membership,
}

impl Offsets<'_> {
    fn request(&self, session: &Session, group: &StrBytes) -> TxnOffsetCommitRequest {
        let partition = |(partition, offset, beside): &(Partition, i64, &str)| {
            TxnOffsetCommitRequestPartition::default()
                .with_partition_index(i32::from(*partition))
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text(beside)))
        };
        let partitions = self.offsets.iter().map(partition).collect();
        TxnOffsetCommitRequest::default()
            .with_transactional_id(session.id.clone())
            .with_group_id(GroupId(group.clone()))
            .with_producer_id(session.producer)
            .with_producer_epoch(session.epoch)
            .with_generation_id(self.standing.generation)
            .with_member_id(text(&self.standing.member))
            .with_topics(vec![TxnOffsetCommitRequestTopic::default().with_name(TopicName(text(self.topic))).with_partitions(partitions)])
    }
}

/// A transactional id, and where it stands with its coordinator.
struct Session {
    id: TransactionalId,
    coordinator: Connection,
    producer: ProducerId,
    epoch: i16,
    /// When it last spoke.
    spoke: Instant,
}

/// Connections to the brokers that matter.
struct Cluster {
    any: Connection,
    group: Connection,
    /// By broker.
    leaders: BTreeMap<i32, Connection>,
    /// Who leads a partition.
    led: BTreeMap<String, BTreeMap<Partition, i32>>,
}

pub(super) struct Producer {
    bootstrap: String,
    client: StrBytes,
    group: StrBytes,
    topics: Vec<String>,
    cluster: Cluster,
    /// The first one makes the next transaction.
    sessions: VecDeque<Session>,
    /// Of batches that were sent.
    room: Vec<BytesMut>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Connects to the first broker that answers.
fn any(bootstrap: &str, client: &StrBytes) -> Result<Connection, ProducerError> {
    let mut last = None;
    for address in bootstrap.split(',').map(str::trim) {
        match Connection::open(address, client) {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    let none = || WireError::Connect { address: bootstrap.to_owned(), source: std::io::ErrorKind::InvalidInput.into() };
    Err(last.unwrap_or_else(none).into())
}

fn require_version(connection: &mut Connection) -> Result<(), ProducerError> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("loyalty"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let answer = connection.call(version::API_VERSIONS, &request)?;
    let found = answer.finalized_features.iter().find(|feature| &*feature.name == "transaction.version");
    let found = found.map_or(0, |feature| feature.max_version_level);
    if found < 2 { Err(ProducerError::Old { address: connection.address().to_owned(), found }) } else { Ok(()) }
}

fn coordinator(connection: &mut Connection, client: &StrBytes, kind: i8, key: &StrBytes) -> Result<Connection, ProducerError> {
    let request = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![key.clone()]);
    let answer = connection.call(version::FIND_COORDINATOR, &request)?;
    let found = answer.coordinators.into_iter().next();
    let found = found.ok_or(ProducerError::Refused { action: "name a coordinator", code: ResponseError::CoordinatorNotAvailable })?;
    accepted("name a coordinator", found.error_code)?;
    Ok(Connection::open(&format!("{}:{}", found.host.as_str(), found.port), client)?)
}

impl Cluster {
    fn connect(bootstrap: &str, client: &StrBytes, group: &StrBytes, topics: &[String]) -> Result<Self, ProducerError> {
        let mut connection = any(bootstrap, client)?;
        require_version(&mut connection)?;
        let topics = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))))).collect();
        let answer = connection.call(version::METADATA, &MetadataRequest::default().with_topics(Some(topics)))?;
        let mut led: BTreeMap<String, BTreeMap<Partition, i32>> = BTreeMap::new();
        for topic in &answer.topics {
            let name = topic.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
            if topic.error_code.err() == Some(ResponseError::UnknownTopicOrPartition) {
                return Err(ProducerError::NoTopic { topic: name });
            }
            accepted("tell where a topic is", topic.error_code)?;
            let leaders = led.entry(name).or_default();
            for partition in &topic.partitions {
                accepted("name the leader of a partition", partition.error_code)?;
                leaders.insert(Partition::try_from(partition.partition_index).unwrap_or_default(), partition.leader_id.0);
            }
        }
        let mut leaders = BTreeMap::new();
        for broker in answer.brokers.iter().filter(|broker| led.values().flat_map(BTreeMap::values).any(|leader| *leader == broker.node_id.0)) {
            leaders.insert(broker.node_id.0, Connection::open(&format!("{}:{}", broker.host.as_str(), broker.port), client)?);
        }
        let group = coordinator(&mut connection, client, GROUP_KEY, group)?;
        Ok(Self { any: connection, group, leaders, led })
    }

    fn leader(&mut self, leader: i32) -> Result<&mut Connection, ProducerError> {
        let gone = ProducerError::Refused { action: "name the leader of a partition", code: ResponseError::LeaderNotAvailable };
        self.leaders.get_mut(&leader).ok_or(gone)
    }
}

impl Session {
    fn start(any: &mut Connection, client: &StrBytes, id: TransactionalId) -> Result<Self, ProducerError> {
        let coordinator = coordinator(any, client, TRANSACTION_KEY, &id.0)?;
        let mut session = Self { id, coordinator, producer: ProducerId(-1), epoch: -1, spoke: Instant::now() };
        session.init()?;
        Ok(session)
    }

    fn renew(&mut self, any: &mut Connection, client: &StrBytes) -> Result<(), ProducerError> {
        self.coordinator = coordinator(any, client, TRANSACTION_KEY, &self.id.0)?;
        self.init()
    }

    fn init(&mut self) -> Result<(), ProducerError> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
            .with_producer_id(self.producer)
            .with_producer_epoch(self.epoch);
        let answer = patiently(|| {
            let answer = self.coordinator.call(version::INIT_PRODUCER_ID, &request)?;
            accepted("take a transactional id", answer.error_code)?;
            Ok(answer)
        })?;
        (self.producer, self.epoch, self.spoke) = (answer.producer_id, answer.producer_epoch, Instant::now());
        Ok(())
    }
}

impl Producer {
    /// Takes the transactional ids of `holder`: whoever had them is fenced, and what was begun with them is ended. It writes to `topics` and
    /// moves the offsets of `group`.
    pub(super) fn start(options: &KafkaOptions, holder: &str, group: &str, topics: Vec<String>) -> Result<Self, ProducerError> {
        let (bootstrap, client, group) = (options.brokers.clone(), text(&options.client_id()), text(group));
        let connect = || {
            let mut cluster = Cluster::connect(&bootstrap, &client, &group, &topics)?;
            let session = |turn| Session::start(&mut cluster.any, &client, TransactionalId(StrBytes::from_string(format!("{holder}.{turn}"))));
            let sessions = (0..TURNS).map(session).collect::<Result<_, _>>()?;
            Ok((cluster, sessions))
        };
        let (cluster, sessions) = until_there(connect)?;
        Ok(Self { bootstrap, client, group, topics, cluster, sessions, room: Vec::new() })
    }

    /// Connects anew and ends what was begun, unless another has its ids by now.
    pub(super) fn renew(&mut self) -> Result<(), ProducerError> {
        until_there(|| {
            self.cluster = Cluster::connect(&self.bootstrap, &self.client, &self.group, &self.topics)?;
            self.sessions.iter_mut().try_for_each(|session| session.renew(&mut self.cluster.any, &self.client))
        })
    }

    /// Nothing to be written yet.
    pub(super) fn messages<'a>(&mut self) -> Messages<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        Messages { batches: BTreeMap::new(), timestamp_ms, room: std::mem::take(&mut self.room) }
    }

    /// Writes messages, in their order within each partition, and moves the group's offsets where there are any.
    pub(super) fn send(&mut self, messages: Messages<'_>, offsets: Option<&Offsets<'_>>) -> Result<Written, ProducerError> {
        if self.sessions[0].spoke.elapsed() > SILENT_MAX {
            self.renew()?;
        }
        let session = &self.sessions[0];
        self.room = messages.room;
        let mut requests: BTreeMap<(usize, i32), Vec<Part>> = BTreeMap::new();
        for ((topic, partition), batches) in messages.batches {
            let leader = self.cluster.led.get(topic).and_then(|leaders| leaders.get(&partition)).copied();
            let leader = leader.ok_or_else(|| ProducerError::NoPartition { topic: topic.to_owned(), partition })?;
            let name = text(topic);
            // A request takes one batch of a partition.
            for (round, (batch, records)) in numbered(batches, session.producer.0, session.epoch).enumerate() {
                requests.entry((round, leader)).or_default().push(Part { topic: name.clone(), partition, batch, records });
            }
        }
        let (mut asked, mut written) = (Vec::new(), Written::new());
        for ((_, leader), parts) in requests {
            asked.push((leader, parts.iter().map(|part| ((part.topic.to_string(), part.partition), part.records)).collect::<BTreeMap<_, _>>()));
            let batches: Vec<Bytes> = parts.iter().map(|part| part.batch.clone()).collect();
            self.cluster.leader(leader)?.send(version::PRODUCE, &produce(&session.id, parts))?;
            // They are sent; the next ones are made in their room.
            self.room.extend(batches.into_iter().filter_map(|batch| batch.try_into_mut().ok()));
        }
        for (leader, sent) in asked {
            let answer = self.cluster.leader(leader)?.receive::<ProduceRequest>(version::PRODUCE)?;
            let found = answer.responses.iter().flat_map(|topic| topic.partition_responses.iter().map(|partition| (&topic.name.0, partition)));
            for (topic, partition) in found {
                accepted("append", partition.error_code)?;
                let place = (topic.to_string(), Partition::try_from(partition.index).unwrap_or_default());
                let records = sent.get(&place).copied().unwrap_or_default();
                written.insert(place, partition.base_offset + records);
            }
        }
        // Not before the answers: who adds to a transaction while another adds to it is told to wait, for 20 ms.
        let Some(request) = offsets.map(|offsets| offsets.request(session, &self.group)) else { return Ok(written) };
        patiently(|| {
            let answer = self.cluster.group.call(version::TXN_OFFSET_COMMIT, &request)?;
            let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
            codes.try_for_each(|code| accepted("move the group's offsets", code))
        })?;
        Ok(written)
    }

    /// Commits the transaction. Where this fails, nobody knows whether it did.
    pub(super) fn commit(&mut self) -> Result<(), ProducerError> {
        let session = &mut self.sessions[0];
        let request = EndTxnRequest::default()
            .with_transactional_id(session.id.clone())
            .with_producer_id(session.producer)
            .with_producer_epoch(session.epoch)
            .with_committed(true);
        let answer = patiently(|| {
            let answer = session.coordinator.call(version::END_TXN, &request)?;
            accepted("commit", answer.error_code)?;
            Ok(answer)
        })?;
        (session.producer, session.epoch, session.spoke) = (answer.producer_id, answer.producer_epoch, Instant::now());
        self.sessions.rotate_left(1);
        Ok(())
    }
}

/// Tries again while brokers are away.
fn until_there<T>(mut connect: impl FnMut() -> Result<T, ProducerError>) -> Result<T, ProducerError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match connect() {
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                tracing::debug!(%error, "the brokers are looked for again");
                std::thread::sleep(LOOK_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    fn messages(bodies: &[usize]) -> Vec<RecordBatch> {
        let mut messages = Messages { batches: BTreeMap::new(), timestamp_ms: 5, room: Vec::new() };
        for (position, length) in (0..).zip(bodies) {
            messages.push("events", 0, b"p/a", &vec![7; *length], (position, position + 1));
        }
        messages.batches.remove(&("events", 0)).unwrap()
    }

    #[test]
    fn a_batch_holds_what_is_allowed_and_a_larger_record_goes_alone() {
        let records = |bodies: &[usize]| messages(bodies).iter().map(RecordBatch::records).collect::<Vec<_>>();
        assert_eq!(records(&[BATCH_BYTES_MAX / 3; 7]), [2, 2, 2, 1], "with what is around them");
        assert_eq!(records(&[BATCH_BYTES_MAX / 4; 7]), [3, 3, 1]);
        assert_eq!(records(&[BATCH_BYTES_MAX / 2, BATCH_BYTES_MAX / 2 - 160]), [1, 1], "what is around them counts");
        assert!(messages(&[100; 20_000]).iter().all(|batch| batch.len() <= BATCH_BYTES_MAX));
        assert_eq!(records(&[10, BATCH_BYTES_MAX + 1, 10]), [1, 1, 1]);
    }

    #[tokio::test]
    async fn a_broker_that_hung_up_meanwhile_leaves_no_outcome_unknown() {
        let brokers = embedded_kafka::testing::broker().await;
        let options = KafkaOptions { brokers, prefix: "silent".into(), replication: 1, session_timeout: Duration::from_secs(6) };
        super::super::topics::ensure(&options, 1).await.unwrap();
        let topic = options.topic(super::super::topics::EVENTS);
        let run = move || {
            let mut producer = Producer::start(&options, "silent", &options.topic("commands"), vec![topic.clone()]).unwrap();
            for position in 0..3 {
                for session in &mut producer.sessions {
                    session.coordinator.hang_up().unwrap();
                    session.spoke = session.spoke.checked_sub(SILENT_MAX * 2).unwrap();
                }
                let mut messages = producer.messages();
                messages.push(&topic, 0, b"p/a", b"x", (position, position + 1));
                producer.send(messages, None).unwrap();
                producer.commit().unwrap();
            }
        };
        tokio::task::spawn_blocking(run).await.unwrap();
    }
}
