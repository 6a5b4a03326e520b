//! The loop: a batch of messages, their accounts, their commands, what is kept, and then how far it has read.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use api::AliasKey;
use command_service::{Refusal, Service};
use compact_str::CompactString;
use futures_util::future::join_all;
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Id};
use ledger_schemas::{Published, Whose};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use tokio::sync::watch;
use traces::{Part, Trace};

use crate::message::{self, ACTOR};
use crate::registry::Registry;
use crate::store::{Place, Store};

/// How many messages are taken at a time.
const BATCH_MAX: usize = 500;
/// How long a batch waits for more.
const GATHER: Duration = Duration::from_millis(5);
/// How often what waits is looked through.
const CLAIM_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Where purchases come from.
#[derive(Debug, Clone)]
pub struct IntakeOptions {
    /// The brokers, as `HOST:PORT,HOST:PORT`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The consumer group; all processes of one ledger share it.
    pub group: String,
    /// With how many partitions and copies the topic is made where it is not there.
    pub partitions: u16,
    /// How many brokers keep each message.
    pub replication: u16,
}

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
    #[error("the database of unmatched and rejected messages failed")]
    Postgres(#[from] tokio_postgres::Error),
    /// The schema.
    #[error("the schema intake can't be brought up to date")]
    Migrate(#[from] Box<refinery::Error>),
}

/// Reads the topic.
pub struct Intake {
    options: IntakeOptions,
    service: Service,
    url: String,
    aliases: AliasKey,
    registry: Option<Registry>,
}

/// A message that was read, with whose it is.
struct Read {
    place: Place,
    body: Vec<u8>,
    key: AccountKey,
    command: Command,
}

impl Intake {
    /// Commands go to `service`, what is kept into the database at `url`.
    #[must_use]
    pub fn new(options: IntakeOptions, service: Service, url: &str, aliases: AliasKey, registry: Option<Registry>) -> Self {
        Self { options, service, url: url.to_owned(), aliases, registry }
    }

    /// Makes the topic where it is not there.
    ///
    /// # Errors
    /// What the broker says.
    pub async fn make_topic(&self) -> Result<(), IntakeError> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &self.options.brokers).create()?;
        let topic = self.options.topic.clone();
        let copies = TopicReplication::Fixed(i32::from(self.options.replication));
        let made = NewTopic::new(&topic, i32::from(self.options.partitions), copies).set("retention.ms", "2592000000");
        for outcome in admin.create_topics(&[made], &AdminOptions::new()).await? {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, source)) => return Err(IntakeError::Topic { topic, source }),
            }
        }
        Ok(())
    }

    /// Reads until `stop` says so; what fails is tried again from what was committed.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let outcome = tokio::select! {
                outcome = self.read_on() => outcome,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            if let Err(error) = outcome {
                tracing::error!(error = &error as &dyn std::error::Error, "intake failed; it goes on from what it has committed");
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn read_on(&self) -> Result<(), IntakeError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.options.brokers)
            .set("group.id", &self.options.group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let consumer: StreamConsumer = config.create()?;
        consumer.subscribe(&[&self.options.topic])?;
        let store = Store::open(&self.url).await?;
        let mut claim = tokio::time::interval(CLAIM_EVERY);
        loop {
            tokio::select! {
                first = consumer.recv() => {
                    let mut batch = vec![first?];
                    while batch.len() < BATCH_MAX {
                        match tokio::time::timeout(GATHER, consumer.recv()).await {
                            Ok(message) => batch.push(message?),
                            Err(_) => break,
                        }
                    }
                    self.take(&batch, &store).await?;
                    commit(&consumer, &batch)?;
                }
                _ = claim.tick() => self.claim(&store).await?,
            }
        }
    }

    async fn take(&self, batch: &[BorrowedMessage<'_>], store: &Store) -> Result<(), IntakeError> {
        let mut accounts: BTreeMap<AccountKey, Vec<Read>> = BTreeMap::new();
        for message in batch {
            let place = Place { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
            match message::read(message, self.registry.as_ref()).await? {
                Ok(published) => {
                    let command = Command { id: published.id.clone(), actor: CompactString::const_new(ACTOR), action: published.action.clone() };
                    if let Some(key) = self.find(&published, &command, &place, store).await? {
                        let body = message.payload().unwrap_or_default().to_vec();
                        accounts.entry(key.clone()).or_default().push(Read { place, body, key, command });
                    }
                }
                Err(wrong) => {
                    store.keep_rejected(&place, message.payload().unwrap_or_default(), wrong.code, &wrong.reason).await?;
                    count("rejected");
                }
            }
        }
        // One account's in their order, all accounts at once.
        let all = join_all(accounts.into_values().map(|reads| self.submit_all(reads, store))).await;
        all.into_iter().collect()
    }

    /// The account; none where nobody is known under that name, or more than one, so that it is kept.
    async fn find(&self, published: &Published, command: &Command, place: &Place, store: &Store) -> Result<Option<AccountKey>, IntakeError> {
        let (kind, name) = match &published.whose {
            Whose::Account(account) => return Ok(Some(AccountKey { program: published.program.clone(), account: account.clone() })),
            Whose::Named(kind, name) => (*kind, name),
        };
        let alias = self.aliases.alias(&published.program, kind, name);
        let mut found = store.accounts(&published.program, alias).await?;
        if found.len() == 1 {
            return Ok(found.pop().map(|account| AccountKey { program: published.program.clone(), account }));
        }
        let reason = if found.is_empty() { format!("no account has this {kind}") } else { format!("{} accounts have this {kind}", found.len()) };
        store.keep_unmatched(place, alias, &published.program, command, &reason).await?;
        count("unmatched");
        Ok(None)
    }

    async fn submit_all(&self, reads: Vec<Read>, store: &Store) -> Result<(), IntakeError> {
        for Read { place, body, key, command } in reads {
            match self.insist(key, command).await {
                Ok(()) => count("accepted"),
                Err(refused) => {
                    store.keep_rejected(&place, &body, &refused.code, &refused.words).await?;
                    count("refused");
                }
            }
        }
        Ok(())
    }

    /// Sends until it is booked or refused for good.
    async fn insist(&self, key: AccountKey, command: Command) -> Result<(), Refused> {
        let trace = traces::is_on().then(|| (Trace::of(&key, command.action.kind(), &command.id), SystemTime::now()));
        let outcome = self.submit(key, command).await;
        if let Some((trace, begin)) = trace {
            let part = if outcome.as_ref().is_ok_and(|is_new| *is_new) { Part::Request } else { Part::Again };
            trace.span(part, "intake".to_owned(), begin, outcome.as_ref().err().map(|refused| refused.words.clone()));
        }
        outcome.map(|_| ())
    }

    async fn submit(&self, key: AccountKey, command: Command) -> Result<bool, Refused> {
        loop {
            match self.service.submit(key.clone(), command.clone()).await {
                Ok(answer) => return Ok(!answer.replayed),
                Err(Refusal::Busy | Refusal::OutcomeUnknown | Refusal::NoAnswer(_) | Refusal::NotHere) => tokio::time::sleep(RETRY_AFTER).await,
                Err(refusal) => return Err(Refused { code: refusal.code().to_owned(), words: refusal.to_string() }),
            }
        }
    }

    /// Books what waited and whose account is known by now.
    async fn claim(&self, store: &Store) -> Result<(), IntakeError> {
        for claimable in store.claimable().await? {
            let account: Id = claimable.key.account.clone();
            let outcome = match self.insist(claimable.key, claimable.command).await {
                Ok(()) => "accepted".to_owned(),
                Err(refused) => refused.code,
            };
            store.claimed(&claimable.place, ACTOR, &account, &outcome).await?;
        }
        let open = u32::try_from(store.open_count().await?).unwrap_or(u32::MAX);
        metrics::gauge!("loyalty_intake_unmatched").set(f64::from(open));
        Ok(())
    }
}

struct Refused {
    code: String,
    words: String,
}

fn count(outcome: &'static str) {
    metrics::counter!("loyalty_intake_messages_total", "outcome" => outcome).increment(1);
}

fn commit(consumer: &StreamConsumer, batch: &[BorrowedMessage<'_>]) -> Result<(), IntakeError> {
    let mut list = TopicPartitionList::new();
    let mut next = BTreeMap::new();
    for message in batch {
        next.insert((message.topic(), message.partition()), message.offset() + 1);
    }
    for ((topic, partition), offset) in next {
        list.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    match consumer.commit(&list, CommitMode::Sync) {
        // Others have the partition now and read it again, which books nothing twice.
        Err(KafkaError::ConsumerCommit(code)) => {
            tracing::info!(%code, "others go on with what was read here");
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}
