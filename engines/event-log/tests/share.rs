//! Several share one log on Kafka: partitions move, nothing is written twice, whoever lost them writes no more.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event_log::kafka::{KafkaLog, KafkaOptions};
use event_log::{Asked, Batch, EventLog, LogError, NewRecord, NewReply, News, Partition, ReplyTo, Writer};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use tokio::sync::mpsc::UnboundedReceiver;

const PARTITIONS: u16 = 4;

async fn open(prefix: &str) -> KafkaLog {
    let brokers = embedded_kafka::testing::broker().await;
    let options = KafkaOptions { brokers, prefix: prefix.into(), replication: 1, session_timeout: Duration::from_secs(6) };
    KafkaLog::open(options, PARTITIONS, None).await.unwrap()
}

struct Member {
    writer: Box<dyn Writer>,
    news: UnboundedReceiver<News>,
    owned: BTreeSet<Partition>,
    /// Where the questions of each go on.
    undecided: BTreeMap<Partition, u64>,
}

impl Member {
    async fn join(log: &KafkaLog) -> Self {
        let (writer, news) = log.join("test").await.unwrap();
        Self { writer, news, owned: BTreeSet::new(), undecided: BTreeMap::new() }
    }

    async fn append(&mut self, partition: Partition) -> Result<(), LogError> {
        let position = self.writer.next_position(partition);
        let record = NewRecord { partition, position, account: format!("p/{partition}"), account_seq: position + 1, body: vec![7] };
        self.writer.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await
    }

    /// Hears one piece of news and does what it says, appending a last record to what it loses.
    async fn hear(&mut self) {
        match self.news.recv().await.unwrap() {
            News::Assigned(partitions) => {
                self.undecided.extend(self.writer.take(&partitions).await.unwrap().undecided);
                self.owned.extend(partitions);
            }
            News::Revoked(partitions, done) => {
                for partition in &partitions {
                    self.append(*partition).await.expect("what is in hand is finished");
                    self.owned.remove(partition);
                }
                self.writer.release(&partitions).await.unwrap();
                done.send(()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn count(log: &KafkaLog) -> u64 {
    log.ends().await.unwrap().iter().sum()
}

/// Waits until `expected` records are there and reads all, which checks that positions go 0, 1, 2 ….
async fn all_there(log: &KafkaLog, expected: u64) {
    while count(log).await < expected {
        let ends = log.ends().await.unwrap();
        assert!(log.wait_beyond(&ends, Duration::from_secs(20)).await.unwrap(), "{} of {expected}", count(log).await);
    }
    let mut read = 0;
    for partition in 0..PARTITIONS {
        read += log.read(partition, 0, 1000).await.unwrap().len() as u64;
    }
    assert_eq!(read, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_between_members_and_back() {
    let (one, two) = (open("moving").await, open("moving").await);
    let mut first = Member::join(&one).await;
    first.hear().await;
    assert_eq!(first.owned.len(), 4, "who is alone has all");
    for partition in 0..PARTITIONS {
        first.append(partition).await.unwrap();
    }
    let mut second = Member::join(&two).await;
    while second.owned.len() < 2 {
        tokio::select! { () = first.hear() => {}, () = second.hear() => {} }
    }
    assert_eq!((first.owned.len(), second.owned.len()), (2, 2));
    assert!(first.owned.is_disjoint(&second.owned));
    all_there(&one, 4 + 2).await;
    for member in [&mut first, &mut second] {
        for partition in member.owned.clone() {
            member.append(partition).await.unwrap();
        }
    }
    all_there(&two, 6 + 4).await;

    // The second leaves without a word, its writer still in hand.
    let Member { writer, news, owned, undecided } = second;
    drop(news);
    while first.owned.len() < 4 {
        first.hear().await;
    }
    let mut zombie = Member { writer, news: first.news, owned, undecided };
    let mut refused = 0;
    for partition in zombie.owned.clone() {
        refused += u16::from(zombie.append(partition).await.is_err());
    }
    assert_eq!(refused, 2, "whoever lost them writes no more");
    first.news = zombie.news;
    for partition in 0..PARTITIONS {
        first.append(partition).await.unwrap();
    }
    all_there(&one, 10 + 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_the_whole_log_is_refused_while_others_share_it_and_fences_them_after() {
    let log = open("whole").await;
    let mut member = Member::join(&log).await;
    member.hear().await;
    member.append(0).await.unwrap();
    let refused = log.acquire("import").await.err().unwrap();
    assert!(matches!(refused, LogError::Shared { members: 1 }), "{refused}");
    drop(member.news);
    let mut alone = log.acquire("import").await.unwrap();
    let (mut old, position) = (member.writer, alone.next_position(0));
    assert_eq!(position, 1);
    let record = |position| NewRecord { partition: 0, position, account: "p/0".into(), account_seq: position + 1, body: vec![7] };
    let batch = Arc::new(Batch { records: vec![record(1)], ..Batch::default() });
    assert!(matches!(old.append(Arc::clone(&batch)).await, Err(LogError::Fenced { .. })));
    alone.append(batch).await.unwrap();
    all_there(&log, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_whoever_has_the_partition() {
    let log = open("asking").await;
    let asker = log.asker().await.unwrap().unwrap();
    let mut member = Member::join(&log).await;
    member.hear().await;
    let patience = Duration::from_secs(20);
    let ask = asker.ask(3, "p/3", b"how much?", patience);
    let answer = async {
        let Some(News::Asked(asked)) = member.news.recv().await else { panic!("a question comes") };
        assert_eq!((asked.partition, asked.body.as_slice()), (3, &b"how much?"[..]));
        let reply = NewReply { to: asked.reply_to.unwrap(), body: b"enough".to_vec() };
        // An answer for another asker on the same partition is passed over.
        let stray = NewReply { to: ReplyTo { correlation: [1; 16], ..reply.to }, body: b"stray".to_vec() };
        let batch = Batch { replies: vec![stray, reply], consumed: vec![(3, asked.offset + 1)], ..Batch::default() };
        member.writer.append(Arc::new(batch)).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask, answer);
    assert_eq!(answer.unwrap().unwrap(), b"enough");
    let unanswered = asker.ask(2, "p/2", b"anybody?", Duration::from_millis(50)).await.unwrap();
    assert_eq!(unanswered, None);

    // What was asked and not answered comes again to whoever is next; what was answered doesn't.
    drop(member);
    let mut next = Member::join(&log).await;
    next.hear().await;
    let Some(News::Asked(asked)) = next.news.recv().await else { panic!("a question comes") };
    assert_eq!((asked.partition, asked.body.as_slice()), (2, &b"anybody?"[..]));
}

/// Makes the broker forget what it knows of the group, as it does a week after the last member has gone.
async fn forget(group: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", embedded_kafka::testing::broker().await).create().unwrap();
    // The last member may still be leaving.
    while admin.delete_groups(&[group], &AdminOptions::new()).await.unwrap().iter().any(Result::is_err) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn asked(member: &mut Member) -> Asked {
    let Some(News::Asked(asked)) = member.news.recv().await else { panic!("a question comes") };
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_stays_so_when_the_group_is_forgotten() {
    let log = open("forgotten").await;
    let asker = log.asker().await.unwrap().unwrap();
    let mut member = Member::join(&log).await;
    member.hear().await;
    for question in [b"one", b"two"] {
        let (ask, answer) = (asker.ask(3, "p/3", question, Duration::from_secs(20)), async {
            let asked = asked(&mut member).await;
            let reply = NewReply { to: asked.reply_to.unwrap(), body: b"no".to_vec() };
            let batch = Batch { replies: vec![reply], consumed: vec![(3, asked.offset + 1)], ..Batch::default() };
            member.writer.append(Arc::new(batch)).await.unwrap();
        });
        assert_eq!(tokio::join!(ask, answer).0.unwrap().unwrap(), b"no");
    }
    member.append(3).await.unwrap();
    // It goes without giving its partitions up, and is forgotten with its lease.
    let Member { writer: mut old, news, .. } = member;
    drop(news);
    forget("forgotten.commands").await;
    let mut next = Member::join(&log).await;
    next.hear().await;
    assert_eq!((next.undecided[&3], next.undecided[&2]), (2, 0), "both questions are decided");
    let record = NewRecord { partition: 3, position: 1, account: "p/3".into(), account_seq: 2, body: vec![7] };
    let late = old.append(Arc::new(Batch { records: vec![record], ..Batch::default() })).await;
    assert!(matches!(late, Err(LogError::Fenced { .. })), "whoever had the lease writes no more: {late:?}");
    next.append(3).await.unwrap();

    // Who is alone keeps what it finds.
    drop(next);
    forget("forgotten.commands").await;
    drop(log.acquire("import").await.unwrap());
    forget("forgotten.commands").await;
    let mut last = Member::join(&log).await;
    last.hear().await;
    assert_eq!(last.undecided[&3], 2);
}

/// A book of before has its progress in the group alone.
#[tokio::test(flavor = "multi_thread")]
async fn progress_is_taken_over_from_the_group_at_the_first_start() {
    let log = open("migrated").await;
    let asker = log.asker().await.unwrap().unwrap();
    let unanswered = asker.ask(1, "p/1", b"anybody?", Duration::from_millis(50)).await.unwrap();
    assert_eq!(unanswered, None);
    let mut config = ClientConfig::new();
    let consumer: rdkafka::consumer::BaseConsumer =
        config.set("bootstrap.servers", embedded_kafka::testing::broker().await).set("group.id", "migrated.commands").create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("migrated.commands", 1, rdkafka::Offset::Offset(1)).unwrap();
    tokio::task::spawn_blocking(move || rdkafka::consumer::Consumer::commit(&consumer, &list, rdkafka::consumer::CommitMode::Sync).unwrap()).await.unwrap();
    let mut first = Member::join(&log).await;
    first.hear().await;
    assert_eq!(first.undecided[&1], 1);
    drop(first);
    forget("migrated.commands").await;
    let mut next = Member::join(&log).await;
    next.hear().await;
    assert_eq!(next.undecided[&1], 1, "it is the log's own now");
}
