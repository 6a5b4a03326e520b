//! A share of the partitions: the consumer group over the commands, and what it hears.
//!
//! Invariant: while the group takes a partition away, its owner is asked to finish with it first (cooperative rebalancing); the group goes on
//! when the owner says so or is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use tokio::sync::{mpsc, oneshot};

use super::client::{LOOK_AGAIN, PATIENCE, Quiet, failed, is_passing};
use super::options::KafkaOptions;
use super::standing::{Membership, Standing};
use super::{message, topics};
use crate::{Asked, LogError, News, Partition, Slot};

/// How soon the thread sees that nobody listens any more.
const LOOK: Duration = Duration::from_millis(50);
/// How much may wait; beyond it the broker keeps what comes.
const WAITING_MAX: usize = 20_000;

struct Member {
    news: mpsc::UnboundedSender<News>,
    standing: Arc<Standing>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().filter_map(|element| Partition::try_from(element.partition()).ok()).collect()
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        metrics::counter!("loyalty_rebalances_total").increment(1);
        if consumer.assignment_lost() {
            self.standing.set(None);
            let _ = self.news.send(News::Lost);
            return;
        }
        // The group is a generation further already; what is in hand is finished in it.
        self.standing.set(Membership::of(consumer));
        let (done, is_done) = oneshot::channel();
        if self.news.send(News::Revoked(partitions(list), done)).is_ok() {
            // Dropped where the owner is gone.
            let _ = is_done.blocking_recv();
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                self.standing.set(Membership::of(consumer));
                metrics::counter!("loyalty_rebalances_total").increment(1);
                if list.count() > 0 {
                    let _ = self.news.send(News::Assigned(partitions(list)));
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::error!(%error, "the group's partitions can't be shared out; the client tries again"),
        }
    }
}

/// What a member hears, and its thread.
type Joined = (mpsc::UnboundedReceiver<News>, JoinHandle<()>);

/// Joins the group; the thread leaves it when the receiver is dropped.
pub(super) fn join(options: &KafkaOptions, standing: Arc<Standing>) -> Result<Joined, LogError> {
    let (news, heard) = mpsc::unbounded_channel();
    let session = options.session_timeout;
    let mut config = options.client();
    config
        .set("group.id", options.topic(topics::COMMANDS))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("session.timeout.ms", session.as_millis().to_string())
        .set("heartbeat.interval.ms", (session.as_millis() / 5).to_string())
        .set("queued.max.messages.kbytes", "16384")
        // While something waits here, more is not asked for at once: else each question that comes alone is an answer of the broker to itself, and
        // at 2,000 a second those took a tenth to a fifth of two cores, and all that follows waited longer for them than the questions do now.
        .set("queued.min.messages", "1")
        .set("fetch.queue.backoff.ms", "1");
    let consumer: BaseConsumer<Member> = config.create_with_context(Member { news, standing }).map_err(failed("connect a consumer"))?;
    consumer.subscribe(&[&options.topic(topics::COMMANDS)]).map_err(failed("join the group"))?;
    let thread = std::thread::Builder::new().name("kafka-commands".into());
    let thread = thread.spawn(move || run(&consumer)).map_err(failed("start a thread"))?;
    Ok((heard, thread))
}

/// Refuses where the group has members. Who has written its leases and finds nobody is alone: whoever joins later reads them. One that died is
/// waited for until the group calls it dead.
pub(super) fn require_nobody(options: &KafkaOptions) -> Result<(), LogError> {
    let (consumer, group) = (options.consumer()?, options.topic(topics::COMMANDS));
    let deadline = Instant::now() + options.session_timeout + Duration::from_secs(2);
    loop {
        let found = consumer.fetch_group_list(Some(&group), PATIENCE).map_err(failed("look who shares the log"))?;
        let members = found.groups().iter().map(|group| group.members().len()).sum();
        if members == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(LogError::Shared { members });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn run(consumer: &BaseConsumer<Member>) {
    let (waiting, mut is_paused) = (Arc::new(AtomicUsize::new(0)), false);
    let Member { news, standing } = &**consumer.context();
    while !news.is_closed() {
        let too_many = waiting.load(Ordering::Relaxed) > if is_paused { WAITING_MAX / 2 } else { WAITING_MAX };
        if too_many || is_paused {
            is_paused = too_many;
            pause(consumer, is_paused);
        }
        match consumer.poll(LOOK) {
            None => {}
            Some(Ok(message)) => {
                let (partition, offset) = (Partition::try_from(message.partition()), u64::try_from(message.offset()));
                let (Ok(partition), Ok(offset)) = (partition, offset) else { continue };
                let reply_to = message::question(&message);
                let body = message.payload().unwrap_or_default().to_vec();
                let _ = news.send(News::Asked(Asked { partition, offset, reply_to, body, slot: Slot::take(&waiting) }));
            }
            Some(Err(error)) if is_passing(&error) => tracing::debug!(%error, "the client goes on by itself"),
            Some(Err(error)) => tracing::error!(%error, "commands can't be read; trying again"),
        }
        if standing.is_stale() && !consumer.assignment_lost() {
            standing.set(Membership::of(consumer));
        }
    }
}

/// Newly assigned partitions are not paused, so this is said again as long as it holds.
fn pause(consumer: &BaseConsumer<Member>, is_paused: bool) {
    let outcome = consumer.assignment().and_then(|all| if is_paused { consumer.pause(&all) } else { consumer.resume(&all) });
    if let Err(error) = outcome {
        tracing::warn!(%error, is_paused, "reading commands can't be paused or resumed");
    }
}
