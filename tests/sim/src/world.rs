//! What is simulated: the log's engine, and the group that shares its partitions. It keeps the port's contract and misbehaves in
//! every way that the contract allows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use event_log::{Asked, Batch, Entry, LogError, NewReply, News, Partition, Position, ReplyTo, Slot, Taken};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::book::Book;
use crate::watched::Watched;

/// How many questions that were decided a group asks again of whoever takes a partition, as if it had forgotten how far it was.
const ASKED_AGAIN: u64 = 5;

/// What becomes of an append.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    FailsBefore,
    FailsAfter,
    LandsLate(u64),
}

/// Bugs of an adapter, which live here because the adapter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogBug {
    NoFence,
    LateCommitBelieved,
}

/// An append under way that will land by itself.
struct Late {
    writer: u64,
    batch: Arc<Batch>,
    at: Instant,
}

pub struct Member {
    pub node: usize,
    pub generation: u64,
    news: mpsc::UnboundedSender<News>,
    assigned: BTreeSet<Partition>,
    /// Those whose questions it is given: what was answered before is known when it has ended whoever had them.
    taken: BTreeSet<Partition>,
}

#[derive(Clone)]
struct Question {
    body: Vec<u8>,
    reply_to: ReplyTo,
}

pub struct Inner {
    pub rng: SmallRng,
    pub records: Vec<Vec<Entry>>,
    /// From when each record can be seen.
    seen_from: Vec<Vec<Instant>>,
    pub outcomes: Vec<Vec<Vec<u8>>>,
    /// With which write each record and each outcome came.
    pub record_writes: Vec<Vec<u64>>,
    pub outcome_writes: Vec<Vec<u64>>,
    writes: u64,
    pub programs: Vec<Vec<u8>>,
    pub offsets: BTreeMap<String, u64>,
    questions: Vec<Vec<Question>>,
    consumed: Vec<u64>,
    waiting_for: BTreeMap<[u8; 16], oneshot::Sender<Vec<u8>>>,
    holder: Vec<u64>,
    ended: BTreeSet<u64>,
    writers: u64,
    late: Vec<Late>,
    pub members: Vec<Member>,
    pub fates: Vec<VecDeque<Fate>>,
    pub torn: Option<u64>,
    pub unavailable_until: Instant,
    pub behind_until: Instant,
    pub lose_question: bool,
    pub repeat_question: bool,
    pub late_question_ms: u64,
    generation: u64,
    pub log_bug: Option<LogBug>,
}

/// Everything that outlives the nodes.
pub struct World {
    inner: Mutex<Inner>,
    /// How often something was appended.
    pub appended: Watched<u64>,
    rebalance: mpsc::UnboundedSender<()>,
    pub partitions: u16,
}

impl World {
    pub fn new(seed: u64, partitions: u16, nodes: usize, log_bug: Option<LogBug>) -> Arc<Self> {
        let n = usize::from(partitions);
        let now = Instant::now();
        let inner = Inner {
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
            records: vec![Vec::new(); n],
            seen_from: vec![Vec::new(); n],
            outcomes: vec![Vec::new(); n],
            record_writes: vec![Vec::new(); n],
            outcome_writes: vec![Vec::new(); n],
            writes: 0,
            programs: Vec::new(),
            offsets: BTreeMap::new(),
            questions: vec![Vec::new(); n],
            consumed: vec![0; n],
            waiting_for: BTreeMap::new(),
            holder: vec![0; n],
            ended: BTreeSet::new(),
            writers: 0,
            late: Vec::new(),
            members: Vec::new(),
            fates: vec![VecDeque::new(); nodes],
            torn: None,
            unavailable_until: now,
            behind_until: now,
            lose_question: false,
            repeat_question: false,
            late_question_ms: 0,
            generation: 0,
            log_bug,
        };
        let (rebalance, wanted) = mpsc::unbounded_channel();
        let world = Arc::new(Self { inner: Mutex::new(inner), appended: Watched::default(), rebalance, partitions });
        tokio::task::spawn_local(rebalances(Arc::clone(&world), wanted));
        world
    }

    /// All that stands on the log.
    pub fn book(&self) -> Book {
        let inner = self.inner();
        Book { records: inner.records.clone(), outcomes: inner.outcomes.clone(), programs: inner.programs.clone() }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn changed(&self) {
        self.appended.update(|n| n + 1);
    }

    pub fn new_writer(&self) -> u64 {
        let mut inner = self.inner();
        inner.writers += 1;
        inner.writers
    }

    /// Ends all other writers and gives `writer` every partition.
    pub fn acquire(&self, writer: u64) -> Vec<Position> {
        let mut inner = self.inner();
        let others: Vec<u64> = (1..writer).collect();
        for other in others {
            inner.end(other);
        }
        inner.holder.iter_mut().for_each(|holder| *holder = writer);
        drop(inner);
        self.changed();
        self.ends()
    }

    /// Gives `writer` these partitions; whoever had them appends nothing more.
    pub fn take(&self, writer: u64, node: usize, partitions: &[Partition]) -> Result<Taken, LogError> {
        let mut inner = self.inner();
        if inner.ended.contains(&writer) {
            return Err(LogError::Fenced { epoch: writer });
        }
        for partition in partitions {
            let before = inner.holder[usize::from(*partition)];
            if before != writer && before != 0 {
                inner.end(before);
            }
            inner.holder[usize::from(*partition)] = writer;
        }
        let ends = partitions.iter().map(|partition| (*partition, inner.records[usize::from(*partition)].len() as Position)).collect();
        let program_entries = inner.programs.len() as Position;
        let undecided = partitions.iter().map(|partition| (*partition, inner.consumed[usize::from(*partition)])).collect();
        let Inner { members, questions, consumed, .. } = &mut *inner;
        if let Some(member) = members.iter_mut().find(|member| member.node == node) {
            for partition in partitions.iter().filter(|partition| member.assigned.contains(partition)) {
                member.taken.insert(*partition);
                let i = usize::from(*partition);
                // As far as the group knows: some that were decided come again.
                let from = usize::try_from(consumed[i].saturating_sub(ASKED_AGAIN)).unwrap_or(usize::MAX);
                for (offset, question) in questions[i].iter().enumerate().skip(from) {
                    let _ = member.news.send(asked(*partition, offset as u64, question));
                }
            }
        }
        drop(inner);
        self.changed();
        Ok(Taken { ends, program_entries, undecided })
    }

    pub fn release(&self, writer: u64, partitions: &[Partition]) {
        let mut inner = self.inner();
        for partition in partitions {
            let holder = &mut inner.holder[usize::from(*partition)];
            if *holder == writer {
                *holder = 0;
            }
        }
    }

    pub fn ends(&self) -> Vec<Position> {
        self.inner().records.iter().map(|records| records.len() as Position).collect()
    }

    /// Up to where each partition can be seen by readers.
    pub fn seen_ends(&self) -> Vec<Position> {
        let now = Instant::now();
        let inner = self.inner();
        let behind = now < inner.behind_until;
        let seen = |seen: &Vec<Instant>| {
            let n = seen.iter().take_while(|from| **from <= now).count();
            if behind { n.saturating_sub(2) } else { n }
        };
        inner.seen_from.iter().map(|from| seen(from) as Position).collect()
    }

    pub fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        let end = self.seen_ends()[usize::from(partition)];
        let inner = self.inner();
        let start = usize::try_from(from.min(end)).unwrap_or(usize::MAX);
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let entries: Vec<Entry> = inner.records[usize::from(partition)][start..end].iter().take(max).cloned().collect();
        for (entry, expected) in entries.iter().zip(from..) {
            if entry.position != expected {
                return Err(LogError::Gap { partition, expected, found: entry.position });
            }
        }
        Ok(entries)
    }

    /// Appends as the engine would; `Ok(false)` where the writer's time is over.
    pub fn append(&self, writer: u64, batch: &Batch, torn_ms: Option<u64>) -> bool {
        let done = self.inner().append(writer, batch, torn_ms);
        self.changed();
        done
    }

    /// Lets `batch` land in a while, unless its writer is ended before.
    pub fn append_late(self: &Arc<Self>, writer: u64, batch: Arc<Batch>, ms: u64) {
        let at = Instant::now() + Duration::from_millis(ms);
        self.inner().late.push(Late { writer, batch, at });
        let world = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            let due = {
                let mut inner = world.inner();
                let i = inner.late.iter().position(|late| late.at == at && late.writer == writer);
                i.map(|i| inner.late.remove(i))
            };
            if let Some(late) = due {
                let mut inner = world.inner();
                let is_believed = inner.log_bug == Some(LogBug::LateCommitBelieved) || inner.may_append(late.writer, &late.batch);
                if is_believed {
                    inner.write(&late.batch, None);
                }
                drop(inner);
                world.changed();
            }
        });
    }

    pub fn join(&self, node: usize) -> mpsc::UnboundedReceiver<News> {
        let (news, heard) = mpsc::unbounded_channel();
        {
            let mut inner = self.inner();
            inner.generation += 1;
            let generation = inner.generation;
            inner.members.retain(|member| member.node != node);
            inner.members.push(Member { node, generation, news, assigned: BTreeSet::new(), taken: BTreeSet::new() });
        }
        let _ = self.rebalance.send(());
        heard
    }

    /// Takes `node` out of the group; it hears of it at once, later or never.
    pub fn expel(self: &Arc<Self>, node: usize, tell_after: Option<Duration>) {
        let member = {
            let mut inner = self.inner();
            let i = inner.members.iter().position(|member| member.node == node);
            i.map(|i| inner.members.remove(i))
        };
        let _ = self.rebalance.send(());
        if let (Some(member), Some(after)) = (member, tell_after) {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after).await;
                let _ = member.news.send(News::Lost);
            });
        }
    }

    pub fn want_rebalance(&self) {
        let mut inner = self.inner();
        if inner.members.len() > 1 {
            // The next in turn has the most from now on.
            inner.members.rotate_left(1);
        }
        drop(inner);
        let _ = self.rebalance.send(());
    }

    /// Asks over the log.
    pub fn ask(self: &Arc<Self>, partition: Partition, body: Vec<u8>) -> oneshot::Receiver<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = self.inner();
        let mut correlation = [0; 16];
        inner.rng.fill(&mut correlation);
        inner.waiting_for.insert(correlation, reply);
        if std::mem::take(&mut inner.lose_question) {
            return answer;
        }
        let question = Question { body, reply_to: ReplyTo { partition: 0, correlation } };
        let late = std::mem::take(&mut inner.late_question_ms);
        let again = std::mem::take(&mut inner.repeat_question);
        // A question that comes late was delivered once: one that is repeated stands twice in a row, as after a take-over.
        if late > 0 && !again {
            let (world, question) = (Arc::clone(self), question.clone());
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(late)).await;
                world.inner().deliver(partition, question);
            });
        } else {
            inner.deliver(partition, question.clone());
        }
        if again {
            inner.deliver(partition, question);
        }
        answer
    }
}

impl Inner {
    /// Ends a writer: what it has under way lands now or never.
    fn end(&mut self, writer: u64) {
        if self.log_bug != Some(LogBug::LateCommitBelieved) {
            let (late, kept): (Vec<Late>, Vec<Late>) = std::mem::take(&mut self.late).into_iter().partition(|late| late.writer == writer);
            self.late = kept;
            for late in late {
                if self.rng.random() {
                    self.append(writer, &late.batch, None);
                }
            }
        }
        self.ended.insert(writer);
        // Records of a commit that is torn are seen at the latest when its writer is ended.
        let now = Instant::now();
        self.seen_from.iter_mut().flatten().for_each(|from| *from = (*from).min(now));
    }

    fn may_append(&self, writer: u64, batch: &Batch) -> bool {
        if self.log_bug == Some(LogBug::NoFence) {
            return true;
        }
        if self.ended.contains(&writer) {
            return false;
        }
        let touched = batch.records.iter().map(|record| record.partition);
        let touched = touched.chain(batch.outcomes.iter().map(|outcome| outcome.partition)).chain(batch.consumed.iter().map(|(partition, _)| *partition));
        touched.chain((!batch.programs.is_empty()).then_some(0)).all(|partition| self.holder[usize::from(partition)] == writer)
    }

    fn append(&mut self, writer: u64, batch: &Batch, torn_ms: Option<u64>) -> bool {
        let may = self.may_append(writer, batch);
        if may {
            self.write(batch, torn_ms);
        }
        may
    }

    fn write(&mut self, batch: &Batch, torn_ms: Option<u64>) {
        let now = Instant::now();
        self.writes += 1;
        for record in &batch.records {
            let i = usize::from(record.partition);
            self.record_writes[i].push(self.writes);
            // The parts of a torn commit become visible partition by partition.
            let delay = torn_ms.filter(|_| record.partition % 2 == 1).unwrap_or_default();
            let from = self.seen_from[i].last().copied().unwrap_or(now).max(now + Duration::from_millis(delay));
            self.seen_from[i].push(from);
            self.records[i].push(Entry {
                position: record.position,
                account: record.account.clone(),
                account_seq: record.account_seq,
                body: record.body.clone(),
            });
        }
        for outcome in &batch.outcomes {
            self.outcomes[usize::from(outcome.partition)].push(outcome.body.clone());
            self.outcome_writes[usize::from(outcome.partition)].push(self.writes);
        }
        self.programs.extend(batch.programs.iter().cloned());
        for (source, position) in &batch.offsets {
            let offset = self.offsets.entry(source.clone()).or_default();
            *offset = (*offset).max(*position);
        }
        for (partition, next) in &batch.consumed {
            let consumed = &mut self.consumed[usize::from(*partition)];
            *consumed = (*consumed).max(*next);
        }
        for NewReply { to, body } in &batch.replies {
            if let Some(waiting) = self.waiting_for.remove(&to.correlation) {
                let _ = waiting.send(body.clone());
            }
        }
    }

    fn deliver(&mut self, partition: Partition, question: Question) {
        let questions = &mut self.questions[usize::from(partition)];
        questions.push(question.clone());
        let offset = questions.len() as u64 - 1;
        if let Some(member) = self.members.iter().find(|member| member.taken.contains(&partition)) {
            let _ = member.news.send(asked(partition, offset, &question));
        }
    }

    /// Which partitions each member is to have.
    fn target(&self) -> Vec<(u64, BTreeSet<Partition>)> {
        let mut target: Vec<(u64, BTreeSet<Partition>)> = self.members.iter().map(|member| (member.generation, BTreeSet::new())).collect();
        let n = target.len();
        for partition in 0..self.records.len() {
            if n > 0 {
                target[partition % n].1.insert(Partition::try_from(partition).unwrap_or(Partition::MAX));
            }
        }
        target
    }
}

fn asked(partition: Partition, offset: u64, question: &Question) -> News {
    let slot = Slot::take(&Arc::default());
    News::Asked(Asked { partition, offset, reply_to: Some(question.reply_to), body: question.body.clone(), slot })
}

/// The coordinator: takes from some, then gives to others.
async fn rebalances(world: Arc<World>, mut wanted: mpsc::UnboundedReceiver<()>) {
    while wanted.recv().await.is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        while wanted.try_recv().is_ok() {}
        let target = world.inner().target();
        let mut released = Vec::new();
        {
            let mut inner = world.inner();
            for (generation, partitions) in &target {
                let Some(member) = inner.members.iter_mut().find(|member| member.generation == *generation) else { continue };
                let gone: Vec<Partition> = member.assigned.difference(partitions).copied().collect();
                if !gone.is_empty() {
                    member.assigned.retain(|partition| partitions.contains(partition));
                    member.taken.retain(|partition| partitions.contains(partition));
                    let (done, is_done) = oneshot::channel();
                    let _ = member.news.send(News::Revoked(gone, done));
                    released.push(is_done);
                }
            }
        }
        for is_done in released {
            // Whoever does not answer in time is passed over; its lease will be taken.
            let _ = tokio::time::timeout(Duration::from_secs(3), is_done).await;
        }
        let mut inner = world.inner();
        for (generation, partitions) in &target {
            let Some(member) = inner.members.iter_mut().find(|member| member.generation == *generation) else { continue };
            let new: Vec<Partition> = partitions.difference(&member.assigned).copied().collect();
            if new.is_empty() {
                continue;
            }
            member.assigned.extend(&new);
            let _ = member.news.send(News::Assigned(new));
        }
    }
}
