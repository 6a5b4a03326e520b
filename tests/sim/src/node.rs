//! A node's own: its view of the log, its state store, its clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use command_service::{Change, Pair, Space, State, StateError, StateHome};
use event_log::{Asker, Batch, Crash, Entry, EventLog, LogError, News, Partition, Position, Taken, Writer};
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::watched::Watched;
use crate::world::{Fate, World, too_large};

/// How long whoever takes a partition waits to learn where it ends; markers may be later than that.
const DECIDED_WITHIN: Duration = Duration::from_secs(2);

/// The log as one process sees it, until that process is killed.
#[derive(Clone)]
pub struct NodeLog {
    pub world: Arc<World>,
    /// Which node; none for readers that nothing befalls.
    pub node: Option<usize>,
    pub alive: Arc<AtomicBool>,
    pub paused: Arc<Watched<bool>>,
}

impl NodeLog {
    /// What is killed stops where it stands; what is paused goes on later.
    async fn gate(&self, up_to_us: u64) -> Result<(), LogError> {
        let us = if up_to_us > 0 { self.world.inner().rng.random_range(0..up_to_us) } else { 0 };
        if us > 0 {
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
        self.paused.wait_for(|paused| !paused).await;
        if !self.alive.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.node.is_some() && Instant::now() < self.world.inner().unavailable_until {
            tokio::time::sleep(Duration::from_millis(50)).await;
            return Err(unavailable("read"));
        }
        Ok(())
    }
}

fn unavailable(action: &'static str) -> LogError {
    LogError::Unavailable { action, source: "simulated".into() }
}

#[async_trait]
impl EventLog for NodeLog {
    fn book_id(&self) -> &str {
        "sim"
    }

    fn partitions(&self) -> u16 {
        self.world.partitions
    }

    async fn acquire(&self, _owner: &str) -> Result<Box<dyn Writer>, LogError> {
        self.gate(2000).await?;
        let id = self.world.new_writer();
        let next = self.world.acquire(id);
        Ok(Box::new(NodeWriter::new(self, id, next)))
    }

    async fn join(&self, _owner: &str) -> Result<(Box<dyn Writer>, mpsc::UnboundedReceiver<News>), LogError> {
        self.gate(2000).await?;
        let id = self.world.new_writer();
        let news = self.world.join(self.node.unwrap_or_default());
        Ok((Box::new(NodeWriter::new(self, id, self.world.ends())), news))
    }

    async fn asker(&self) -> Result<Option<Arc<dyn Asker>>, LogError> {
        Ok(Some(Arc::new(self.clone())))
    }

    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        self.gate(50).await?;
        self.world.read(partition, from, max)
    }

    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let start = usize::try_from(from).unwrap_or(usize::MAX);
        Ok(self.world.inner().outcomes[usize::from(partition)].iter().skip(start).take(max).cloned().collect())
    }

    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        self.gate(0).await?;
        let (start, end) = (usize::try_from(from).unwrap_or(usize::MAX), self.world.seen_programs());
        Ok(self.world.inner().programs.iter().take(end).skip(start).cloned().collect())
    }

    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        self.gate(0).await?;
        Ok(self.world.seen_ends())
    }

    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        Ok(self.world.inner().offsets.clone())
    }

    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        self.gate(0).await?;
        let deadline = Instant::now() + patience;
        loop {
            let appended = self.world.appended.get();
            if self.world.seen_ends().iter().zip(ends).any(|(end, before)| end > before) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            // What was appended may be seen later than it is told of.
            let again = deadline.min(Instant::now() + Duration::from_millis(100));
            let _ = tokio::time::timeout_at(again, self.world.appended.wait_for(|n| n != appended)).await;
        }
    }
}

#[async_trait]
impl Asker for NodeLog {
    async fn ask(&self, partition: Partition, _key: &str, body: &[u8], patience: Duration) -> Result<Option<Vec<u8>>, LogError> {
        self.gate(2000).await?;
        let answer = self.world.ask(partition, body.to_vec())?;
        Ok(tokio::time::timeout(patience, answer).await.ok().and_then(Result::ok))
    }
}

struct NodeWriter {
    log: NodeLog,
    id: u64,
    next: Vec<Position>,
    before_end: Arc<dyn Fn() + Send + Sync>,
}

impl NodeWriter {
    fn new(log: &NodeLog, id: u64, next: Vec<Position>) -> Self {
        Self { log: log.clone(), id, next, before_end: Arc::new(|| {}) }
    }
}

#[async_trait]
impl Writer for NodeWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.next[usize::from(partition)]
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        self.log.gate(4000).await?;
        let world = &self.log.world;
        let fate = self.log.node.and_then(|node| world.inner().fates[node].pop_front());
        let torn = world.inner().torn.take();
        // The next batch is made while this one ends, whichever way.
        (self.before_end)();
        self.log.gate(2000).await?;
        if !world.takes(&batch) {
            return Err(too_large("append"));
        }
        match fate {
            Some(Fate::FailsBefore) => return Err(unavailable("append")),
            Some(Fate::LandsLate(ms)) => {
                world.append_late(self.id, batch, ms);
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.log.gate(0).await?;
                return Err(unavailable("append"));
            }
            Some(Fate::FailsAfter) | None => {}
        }
        if !world.append(self.id, &batch, torn) {
            return Err(LogError::Fenced { epoch: self.id });
        }
        self.log.gate(2000).await?;
        match fate {
            Some(Fate::FailsAfter) => Err(unavailable("append")),
            _ => Ok(()),
        }
    }

    fn before_ends(&mut self, tell: Arc<dyn Fn() + Send + Sync>) {
        self.before_end = tell;
    }

    async fn take(&mut self, partitions: &[Partition]) -> Result<Taken, LogError> {
        self.log.gate(4000).await?;
        let world = &self.log.world;
        world.lease(self.id, partitions)?;
        // Whoever released them had ended its transactions, whose markers may be outstanding still.
        let deadline = Instant::now() + DECIDED_WITHIN;
        while !world.are_decided(partitions) {
            if Instant::now() >= deadline {
                return Err(unavailable("wait until what stands in a partition is decided"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.log.gate(0).await?;
        }
        world.take(self.id, self.log.node.unwrap_or_default(), partitions)
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<(), LogError> {
        self.log.gate(1000).await?;
        self.log.world.release(self.id, partitions);
        Ok(())
    }

    fn crash_next(&mut self, _crash: Crash) {}
}

type Spaces = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// A state store's engine in memory, which outlives the process and can be damaged or full.
#[derive(Clone, Default)]
pub struct Disk {
    spaces: Arc<Mutex<Spaces>>,
    pub is_damaged: Arc<AtomicBool>,
    pub is_full: Arc<AtomicBool>,
}

impl Disk {
    fn spaces(&self) -> std::sync::MutexGuard<'_, Spaces> {
        self.spaces.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn sound(&self) -> Result<(), StateError> {
        if self.is_damaged.load(Ordering::Relaxed) { Err(StateError::Damaged { place: "sim".into(), source: "checksum".into() }) } else { Ok(()) }
    }
}

impl StateHome for Disk {
    fn open(&self) -> Result<Box<dyn State>, StateError> {
        self.sound()?;
        Ok(Box::new(self.clone()))
    }

    fn wipe(&self) {
        self.spaces().clear();
        self.is_damaged.store(false, Ordering::Relaxed);
    }
}

impl State for Disk {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.sound()?;
        Ok(self.spaces().get(&(space, key.to_vec())).cloned())
    }

    fn under(&self, space: Space, prefix: &[u8]) -> Result<Vec<Pair>, StateError> {
        self.sound()?;
        let spaces = self.spaces();
        let from = spaces.range((space, prefix.to_vec())..);
        let found = from.take_while(|((other, key), _)| *other == space && key.starts_with(prefix));
        Ok(found.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn write(&self, changes: &mut dyn Iterator<Item = Change>) -> Result<(), StateError> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(StateError::Failed { place: "sim".into(), source: "no space left".into() });
        }
        let mut spaces = self.spaces();
        for (space, key, value) in changes {
            match value {
                Some(value) => drop(spaces.insert((space, key), value)),
                None => drop(spaces.remove(&(space, key))),
            }
        }
        Ok(())
    }

    fn disk_bytes(&self) -> u64 {
        0
    }
}

/// A clock that its node believes in. It stands still between the plan's steps, so that what falls due at a moment meets that very moment.
#[derive(Clone)]
pub struct Clock {
    pub base_us: Arc<AtomicI64>,
    pub skew_us: Arc<AtomicI64>,
}

impl Clock {
    pub fn now_us(&self) -> i64 {
        self.base_us.load(Ordering::Relaxed) + self.skew_us.load(Ordering::Relaxed)
    }
}
