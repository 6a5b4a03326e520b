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
use crate::group::{Member, rebalances};
use crate::plan::Plan;
use crate::sizes;
use crate::visible::Visible;
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
    /// Where a partition ends is told while markers are outstanding: as far as readers see.
    EndBelievedEarly,
}

/// An append under way that will land by itself.
struct Late {
    writer: u64,
    batch: Arc<Batch>,
    at: Instant,
}

#[derive(Clone)]
struct Question {
    body: Vec<u8>,
    reply_to: ReplyTo,
}

pub struct Inner {
    pub rng: SmallRng,
    pub records: Vec<Vec<Entry>>,
    /// What readers see of each partition's records, and of the program stream, which comes after them.
    visible: Visible,
    /// Until when markers are late, and by how many milliseconds at most.
    pub markers_late: (Instant, u64),
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
    pub generation: u64,
    pub log_bug: Option<LogBug>,
}

/// Everything that outlives the nodes.
pub struct World {
    inner: Mutex<Inner>,
    /// How often something was appended.
    pub appended: Watched<u64>,
    pub rebalance: mpsc::UnboundedSender<()>,
    pub partitions: u16,
    /// The largest message that it takes.
    message_bytes: usize,
}

impl World {
    pub fn new(plan: &Plan, log_bug: Option<LogBug>) -> Arc<Self> {
        let Plan { seed, partitions, nodes, .. } = *plan;
        let n = usize::from(partitions);
        let now = Instant::now();
        let inner = Inner {
            rng: SmallRng::seed_from_u64(seed ^ 0x5eed),
            records: vec![Vec::new(); n],
            visible: Visible::new(n + 1),
            markers_late: (now, 0),
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
        let world = Arc::new(Self { inner: Mutex::new(inner), appended: Watched::default(), rebalance, partitions, message_bytes: sizes::message_bytes(plan) });
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

    /// Names `writer` as the holder of these partitions and ends whoever was.
    pub fn lease(&self, writer: u64, partitions: &[Partition]) -> Result<(), LogError> {
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
        drop(inner);
        self.changed();
        Ok(())
    }

    /// Whether it is known where these partitions end, and the program stream with the first of all.
    pub fn are_decided(&self, partitions: &[Partition]) -> bool {
        let inner = self.inner();
        if inner.log_bug == Some(LogBug::EndBelievedEarly) {
            return true;
        }
        let programs = partitions.contains(&0).then_some(inner.records.len());
        partitions.iter().map(|partition| usize::from(*partition)).chain(programs).all(|i| inner.visible.is_decided(i))
    }

    /// Tells `writer` where the partitions end that it holds, and gives it what is asked there.
    pub fn take(&self, writer: u64, node: usize, partitions: &[Partition]) -> Result<Taken, LogError> {
        let mut inner = self.inner();
        if inner.ended.contains(&writer) || partitions.iter().any(|partition| inner.holder[usize::from(*partition)] != writer) {
            return Err(LogError::Fenced { epoch: writer });
        }
        let ends = partitions.iter().map(|partition| (*partition, inner.visible.end(usize::from(*partition)) as Position)).collect();
        let program_entries = inner.visible.end(inner.records.len()) as Position;
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
        let inner = self.inner();
        let behind = if Instant::now() < inner.behind_until { 2 } else { 0 };
        (0..inner.records.len()).map(|i| inner.visible.end(i).saturating_sub(behind) as Position).collect()
    }

    /// How many entries of the program stream can be seen by readers.
    pub fn seen_programs(&self) -> usize {
        let inner = self.inner();
        inner.visible.end(inner.records.len())
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

    /// Whether each of the batch's messages is one that the log takes.
    pub fn takes(&self, batch: &Batch) -> bool {
        let records = batch.records.iter().map(|record| &record.body);
        let others = batch.outcomes.iter().map(|outcome| &outcome.body).chain(batch.replies.iter().map(|reply| &reply.body));
        records.chain(others).chain(&batch.programs).all(|body| body.len() <= self.message_bytes)
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
                    inner.write(late.writer, &late.batch, None);
                }
                drop(inner);
                world.changed();
            }
        });
    }

    /// Asks over the log.
    pub fn ask(self: &Arc<Self>, partition: Partition, body: Vec<u8>) -> Result<oneshot::Receiver<Vec<u8>>, LogError> {
        if body.len() > self.message_bytes {
            return Err(too_large("ask"));
        }
        let (reply, answer) = oneshot::channel();
        let mut inner = self.inner();
        let mut correlation = [0; 16];
        inner.rng.fill(&mut correlation);
        inner.waiting_for.insert(correlation, reply);
        if std::mem::take(&mut inner.lose_question) {
            return Ok(answer);
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
        Ok(answer)
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
        self.visible.decide(writer);
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
            self.write(writer, batch, torn_ms);
        }
        may
    }

    /// From when what is written now can be seen, by partition, and in the program stream.
    fn seen_from(&mut self, torn_ms: Option<u64>) -> Vec<Instant> {
        let (now, programs) = (Instant::now(), self.records.len());
        let (late_until, late_ms) = self.markers_late;
        let mut delay_ms = |i: usize| match torn_ms {
            _ if now < late_until => self.rng.random_range(0..=late_ms),
            // The parts of a torn commit become visible partition by partition.
            Some(ms) if i % 2 == 1 && i < programs => ms,
            _ => 0,
        };
        (0..=programs).map(|i| now + Duration::from_millis(delay_ms(i))).collect()
    }

    fn write(&mut self, writer: u64, batch: &Batch, torn_ms: Option<u64>) {
        let seen_from = self.seen_from(torn_ms);
        self.writes += 1;
        for record in &batch.records {
            let i = usize::from(record.partition);
            self.record_writes[i].push(self.writes);
            self.visible.add(i, seen_from[i], writer);
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
        let programs = self.records.len();
        batch.programs.iter().for_each(|_| self.visible.add(programs, seen_from[programs], writer));
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
}

fn asked(partition: Partition, offset: u64, question: &Question) -> News {
    let slot = Slot::take(&Arc::default());
    News::Asked(Asked { partition, offset, reply_to: Some(question.reply_to), body: question.body.clone(), slot })
}

/// As a broker says of a message that is larger than its topic takes; it says so each time.
pub fn too_large(action: &'static str) -> LogError {
    LogError::Unavailable { action, source: "simulated: the message is too large".into() }
}
