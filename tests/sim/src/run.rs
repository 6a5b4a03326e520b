//! One run: nodes, tills and a projector in one thread under simulated time, driven through a plan.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use command_service::{Answer, Service, ServiceConfig, Share, StatePlace};
use event_log::{Entry, EventLog, LogError, Partition, Position, Writer};
use intake::{Intake, Place};
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Id};
use ledger_core::time::Moment;
use ledger_schemas::v1;
use projectors::Projector;
use prost::Message;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::book::Book;
use crate::check;
use crate::model::Deed;
use crate::node::{Clock, Disk, NodeLog};
use crate::plan::{Plan, What};
use crate::sizes;
use crate::tables::MemoryTables;
use crate::topic::{self, Became, Reader, Topic};
use crate::watched::Watched;
use crate::world::{LogBug, World};

/// How long a till waits for one answer.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// How long all of it may take after everything is whole again.
const DRAIN: Duration = Duration::from_secs(900);

/// What a till was told, for good.
#[derive(Clone)]
pub struct Answered {
    pub step: usize,
    pub account: usize,
    pub command: Command,
    pub deed: Deed,
    /// The answer; an error's code.
    pub outcome: Result<Answer, String>,
    /// Of an error: when it was decided, and with which write, if the log tells.
    pub refused: Option<Refused>,
    /// How many versions of the rulebook had been published.
    pub rulebooks: usize,
    /// It came over the topic of purchases.
    pub is_published: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub at_us: i64,
    pub write: u64,
}

impl Answered {
    /// Which record of its account tells of it.
    pub fn seq(&self) -> Option<u64> {
        self.outcome.as_ref().ok().map(|answer| answer.record.account_seq)
    }
}

/// What was published for whoever has a card, and what became of it at first.
pub struct ByCard {
    pub step: usize,
    pub place: Place,
    pub mark: intake::Mark,
    pub command: Command,
    pub deed: Deed,
    pub became: Became,
    pub rulebooks: usize,
}

pub struct Node {
    pub disk: Disk,
    pub clock: Clock,
    pub pause: Arc<Watched<bool>>,
    pub alive: Arc<AtomicBool>,
    pub service: Option<Service>,
    pub task: Option<JoinHandle<()>>,
}

/// The whole shop.
pub struct Site {
    pub plan: Plan,
    pub world: Arc<World>,
    pub nodes: Mutex<Vec<Node>>,
    pub answered: Mutex<Vec<Answered>>,
    /// What was seen to be wrong on the way.
    pub wrong: Mutex<Findings>,
    /// Why a node ended, each time.
    pub ends: Mutex<Vec<String>>,
    pub base_us: Arc<AtomicI64>,
    /// The rulebooks, as they were published.
    pub published: Mutex<Vec<serde_json::Value>>,
    pub tables: MemoryTables,
    pub unreadable: Mutex<Option<(Partition, Position)>>,
    pub want_unreadable: AtomicBool,
    pub kill_projector: AtomicBool,
    /// Asked, not answered yet.
    pub pending: AtomicI64,
    pub projector_pause: Watched<bool>,
    pub topic: Arc<Topic>,
    pub kill_intake: Watched<u64>,
    pub by_card: Mutex<Vec<ByCard>>,
    pub unreadable_messages: Mutex<Vec<Place>>,
}

pub fn key(account: usize) -> AccountKey {
    let id = |text: &str| Id::parse(text).expect("letters and digits");
    AccountKey { program: id("shop"), account: id(&format!("a{account}")) }
}

/// What was found wrong; nothing if all is well.
pub type Findings = Vec<String>;

/// What a run covered: kinds of events, each under the faults that had happened by then.
#[derive(Default)]
pub struct Outcome {
    pub findings: Findings,
    pub commands: usize,
    /// A hash of the whole log, in hexadecimal.
    pub records: String,
    /// The log.
    pub book: Book,
    /// The book in words where something was found, a line a record.
    pub told: Vec<String>,
    pub covered: std::collections::BTreeSet<(usize, usize)>,
    /// What it met of [`sizes::REFUSALS`], and whether a record was nearly too large.
    pub sizes: [bool; 3],
}

/// Runs `plan` from beginning to end.
pub fn run(plan: &Plan, log_bug: Option<LogBug>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let site = Site::open(plan.clone(), log_bug);
        site.drive().await
    })
}

impl Site {
    fn open(plan: Plan, log_bug: Option<LogBug>) -> Arc<Self> {
        let world = World::new(&plan, log_bug);
        let base_us = Arc::new(AtomicI64::new(plan.begin_us));
        let node = |_| Node {
            disk: Disk::default(),
            clock: Clock { base_us: Arc::clone(&base_us), skew_us: Arc::default() },
            pause: Arc::default(),
            alive: Arc::default(),
            service: None,
            task: None,
        };
        let nodes = Mutex::new((0..plan.nodes).map(node).collect());
        let tables = MemoryTables::new(plan.partitions);
        Arc::new(Self {
            plan,
            world,
            nodes,
            answered: Mutex::default(),
            wrong: Mutex::default(),
            ends: Mutex::default(),
            base_us,
            published: Mutex::default(),
            tables,
            unreadable: Mutex::default(),
            want_unreadable: AtomicBool::new(false),
            kill_projector: AtomicBool::new(false),
            pending: AtomicI64::new(0),
            projector_pause: Watched::default(),
            topic: Topic::new(),
            kill_intake: Watched::default(),
            by_card: Mutex::default(),
            unreadable_messages: Mutex::default(),
        })
    }

    pub fn with_node<T>(&self, node: usize, f: impl FnOnce(&mut Node) -> T) -> T {
        f(&mut self.nodes.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[node])
    }

    /// Starts a node, and again whenever it ends by itself.
    pub fn start(self: &Arc<Self>, node: usize) {
        let alive = Arc::new(AtomicBool::new(true));
        let (log, state, clock) = self.with_node(node, |own| {
            own.alive = Arc::clone(&alive);
            let log = NodeLog { world: Arc::clone(&self.world), node: Some(node), alive: Arc::clone(&alive), paused: Arc::clone(&own.pause) };
            (log, own.disk.clone(), own.clock.clone())
        });
        let share = match (self.plan.shared, self.plan.follows) {
            (false, _) => Share::Alone,
            (true, true) => Share::Follows,
            (true, false) => Share::Cold,
        };
        let config = ServiceConfig {
            state: StatePlace::Home(Arc::new(state)),
            owner: format!("node{node}"),
            accounts_in_memory: self.plan.accounts_in_memory,
            queue_max: 50,
            share,
            answer_within: PATIENCE,
            limits: sizes::limits(&self.plan),
        };
        let site = Arc::clone(self);
        let task = tokio::task::spawn_local(async move {
            loop {
                let now = clock.clone();
                let now = Arc::new(move || Moment::from_micros(now.now_us()).expect("a moment of this century"));
                let opened = Service::open(Arc::new(log.clone()), config.clone(), now).await;
                let Ok((service, running)) = opened else { return };
                let (ready, is_ready) = tokio::sync::oneshot::channel();
                let (shown, alive) = (Arc::clone(&site), Arc::clone(&log.alive));
                tokio::task::spawn_local(async move {
                    if is_ready.await.is_ok() && alive.load(Ordering::Relaxed) {
                        shown.with_node(node, |own| own.service = Some(service));
                    }
                });
                let ended = running.run(ready).await;
                site.with_node(node, |own| own.service = None);
                let Err(error) = ended else { return };
                site.ends.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(format!("node {node}: {error}"));
                // Somebody starts it again, and has made room on its disk by then.
                tokio::time::sleep(Duration::from_millis(700)).await;
                site.with_node(node, |own| own.disk.is_full.store(false, Ordering::Relaxed));
            }
        });
        self.with_node(node, |own| own.task = Some(task));
    }

    /// Kills a node where it stands.
    pub fn kill(&self, node: usize) {
        self.with_node(node, |own| {
            own.alive.store(false, Ordering::Relaxed);
            own.service = None;
            if let Some(task) = own.task.take() {
                task.abort();
            }
        });
    }

    async fn drive(self: Arc<Self>) -> Outcome {
        for node in 0..self.plan.nodes {
            self.start(node);
        }
        let projector = tokio::task::spawn_local(Arc::clone(&self).project());
        let intake = tokio::task::spawn_local(Arc::clone(&self).take_in());
        let mut faults = Vec::new();
        let findings = match tokio::time::timeout(DRAIN, self.steps(&mut faults)).await {
            Ok(()) => check::all(&self).await,
            Err(_) => vec![format!("stuck: after {} s not all is answered; nodes ended with {:?}", DRAIN.as_secs(), self.ends.lock())],
        };
        projector.abort();
        intake.abort();
        let told = if findings.is_empty() { Vec::new() } else { check::tell(&self) };
        let answered = self.answered();
        let covered = check::covered(&answered, &faults);
        let records = check::fingerprint(&self);
        let sizes = sizes::met(&self, &answered);
        let book = self.world.book();
        Outcome { findings, commands: answered.len(), covered, sizes, told, records, book }
    }

    /// All steps of the plan, then the end of all faults; returns when everything is answered.
    async fn steps(self: &Arc<Self>, faults: &mut Vec<(usize, usize)>) {
        self.publish(0).await;
        let mut tills = Vec::new();
        let mut queues = Vec::new();
        for account in 0..self.plan.accounts {
            let (queue, steps) = mpsc::unbounded_channel();
            queues.push(queue);
            tills.push(tokio::task::spawn_local(Arc::clone(self).till(account, steps)));
        }
        for step in &self.plan.steps {
            tokio::time::sleep(Duration::from_millis(step.pause_ms)).await;
            match &step.what {
                What::Wait { us } => {
                    self.base_us.fetch_add(*us, Ordering::Relaxed);
                }
                What::Ask { account, .. } => {
                    self.pending.fetch_add(1, Ordering::Relaxed);
                    let _ = queues[*account].send(step.number);
                }
                What::Publish(version) => {
                    self.quiet().await;
                    self.publish(*version).await;
                }
                What::Fault(fault) => {
                    faults.push((fault.kind(), self.answered().len()));
                    self.befall(*fault);
                }
            }
        }
        drop(queues);
        self.end(tills).await;
    }

    pub fn answered(&self) -> Vec<Answered> {
        self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Everything is mended, and everything that was asked is answered.
    async fn end(self: &Arc<Self>, tills: Vec<JoinHandle<()>>) {
        for node in 0..self.plan.nodes {
            self.with_node(node, |own| {
                own.pause.update(|_| false);
                own.clock.skew_us.store(0, Ordering::Relaxed);
                own.disk.is_full.store(false, Ordering::Relaxed);
            });
        }
        self.projector_pause.update(|_| false);
        {
            let mut inner = self.world.inner();
            inner.fates.iter_mut().for_each(std::collections::VecDeque::clear);
            (inner.unavailable_until, inner.behind_until, inner.torn) = (Instant::now(), Instant::now(), None);
            inner.markers_late.0 = Instant::now();
        }
        for till in tills {
            let _ = till.await;
        }
        // Who was expelled without knowing hears of it.
        tokio::time::sleep(Duration::from_secs(15)).await;
        while self.topic.unclaimed(&self.world).is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until nobody waits for an answer and nothing is being claimed.
    async fn quiet(&self) {
        while self.pending.load(Ordering::Relaxed) > 0 || !self.topic.hold() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Publishes a rulebook and waits until every node that runs knows it.
    async fn publish(&self, version: usize) {
        let rulebook = self.plan.rulebooks[version].to_string().into_bytes();
        let program = Id::parse("shop").expect("letters");
        let services = || -> Vec<Service> { (0..self.plan.nodes).filter_map(|node| self.with_node(node, |own| own.service.clone())).collect() };
        'published: loop {
            for service in services() {
                let published = service.publish(program.clone(), rulebook.clone(), "sim".into());
                if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, published).await {
                    break 'published;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let entries = self.world.inner().programs.len() as u64;
        while services().iter().any(|service| service.programs().entries < entries) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut published = self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        published.push(self.plan.rulebooks[version].clone());
        self.topic.let_go(published.len());
    }

    /// The balance read model's projector; it is started again whenever it is killed.
    async fn project(self: Arc<Self>) {
        let log = Arc::new(ProjectorLog { site: Arc::clone(&self), log: self.reader() });
        loop {
            self.projector_pause.wait_for(|paused| !paused).await;
            let lanes: Vec<Box<dyn projectors::Tables>> = vec![Box::new(self.tables.clone()), Box::new(self.tables.clone())];
            // One lane writes at a time: two would need rows of their own.
            let lanes = lanes.into_iter().take(1).collect();
            let Ok(mut projector) = Projector::over("balance", log.clone(), lanes).await else { continue };
            while !self.kill_projector.swap(false, Ordering::Relaxed) && !self.projector_pause.get() {
                // Killed at any moment, if it is to be.
                let us = self.world.inner().rng.random_range(500..20_000);
                let step = tokio::time::timeout(Duration::from_micros(us), projector.step()).await;
                match step {
                    Ok(Ok(0)) => tokio::time::sleep(Duration::from_millis(10)).await,
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => break,
                }
            }
        }
    }

    /// Intake, in the process of some node: it ends with that and is started again, here or elsewhere.
    pub async fn take_in(self: Arc<Self>) {
        let mut kills = self.kill_intake.get();
        loop {
            let node = self.world.inner().rng.random_range(0..self.plan.nodes);
            if let Some(service) = self.with_node(node, |own| own.service.clone()) {
                let intake = Intake::new(service.clone(), topic::aliases(), None);
                let mut source = Reader::new(&self.topic, &self.world);
                let store = source.clone();
                let ended = async {
                    while service.is_running() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                };
                tokio::select! {
                    biased;
                    _ = intake.read_on(&mut source, &store) => {}
                    () = self.kill_intake.wait_for(|n| n != kills) => kills = self.kill_intake.get(),
                    () = ended => {}
                }
            }
            let ms = self.world.inner().rng.random_range(1..300);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    /// The log for one to whom nothing happens.
    pub fn reader(&self) -> NodeLog {
        NodeLog { world: Arc::clone(&self.world), node: None, alive: Arc::new(AtomicBool::new(true)), paused: Arc::default() }
    }
}

/// The log as the projector reads it: one record of it may be unreadable.
struct ProjectorLog {
    site: Arc<Site>,
    log: NodeLog,
}

#[async_trait::async_trait]
impl EventLog for ProjectorLog {
    fn book_id(&self) -> &str {
        self.log.book_id()
    }
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }
    async fn acquire(&self, owner: &str) -> Result<Box<dyn Writer>, LogError> {
        self.log.acquire(owner).await
    }
    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        let mut entries = self.log.read(partition, from, max).await?;
        let mut unreadable = self.site.unreadable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(entry) = entries.first().filter(|_| self.site.want_unreadable.swap(false, Ordering::Relaxed)) {
            unreadable.get_or_insert((partition, entry.position));
        }
        if let Some(entry) = entries.iter_mut().find(|entry| *unreadable == Some((partition, entry.position))) {
            // A record of a schema that this projector does not know.
            entry.body = v1::Record { schema_version: 99, ..v1::Record::default() }.encode_to_vec();
        }
        Ok(entries)
    }
    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        self.log.read_outcomes(partition, from, max).await
    }
    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        self.log.read_programs(from).await
    }
    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        self.log.ends().await
    }
    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        self.log.offsets().await
    }
    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        self.log.wait_beyond(ends, patience).await
    }
}
