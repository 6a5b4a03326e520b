//! The service as its callers see it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use compact_str::CompactString;
use event_log::{EventLog, LogError, Partition, Position};
use ledger_core::account::{Account, Command};
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::{Invalid, Program};
use ledger_core::time::Moment;
use ledger_schemas::Fingerprint;
use tokio::sync::{mpsc, oneshot, watch};

use crate::admit::{NO_STEP, admit, is_path_step};
use crate::closings::ClosingStep;
use crate::commit::SEEN_WITHIN;
use crate::engine::{Engine, EngineError};
use crate::limits::Limits;
use crate::programs::{Programs, ProgramsError};
use crate::remote::Remote;
use crate::request::{Answer, Refusal, Reply, Request, SourceOutcome};
use crate::state::StatePlace;

/// How often a process that decides nothing looks for new rulebooks.
const LOOK_AROUND: Duration = Duration::from_millis(50);

/// How the service runs.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Where the state store is.
    pub state: StatePlace,
    /// The name under which the log's partitions are taken over.
    pub owner: String,
    /// How many accounts stay in memory, more or less.
    pub accounts_in_memory: usize,
    /// How many requests may wait; more are refused.
    pub queue_max: usize,
    /// With whom the partitions are shared.
    pub share: Share,
    /// How long another process may take to answer.
    pub answer_within: Duration,
    /// How large what is made may be.
    pub limits: Limits,
}

/// With whom the partitions of a log are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// With nobody: all are taken, whoever had them.
    Alone,
    /// With others; what they book is followed, so that their partitions can be taken over at once (a warm stand-by).
    Follows,
    /// With others; a partition that is assigned is read when it comes.
    Cold,
}

/// Why the service can't start or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The loop ended.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The program stream.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// Nobody else can have its partitions.
    #[error("this log can't be shared between processes; a log on Kafka can")]
    NotShared,
    /// Its thread can't be made, or it broke down.
    #[error("the command service's thread failed: {0}")]
    Thread(String),
}

/// An account as it stands, staged changes included.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The account.
    pub account: Account,
    /// Its program's rules.
    pub program: Arc<Program>,
    /// The program's time.
    pub now: Moment,
}

/// A handle on the service; clones share it.
#[derive(Clone)]
pub struct Service {
    /// To the loop in this process, if there is one.
    requests: Option<mpsc::Sender<Request>>,
    /// The partitions that the loop decides.
    owned: watch::Receiver<BTreeSet<Partition>>,
    programs: watch::Receiver<Arc<Programs>>,
    /// To those who have the other partitions, where the log is shared.
    remote: Option<Arc<Remote>>,
}

/// The service's loop, not running yet.
pub struct Loop(Engine);

impl Loop {
    /// Runs until it is stopped or can't go on; `ready` hears when it serves for the first time.
    ///
    /// # Errors
    /// Why it can't go on.
    pub async fn run(self, ready: oneshot::Sender<()>) -> Result<(), ServiceError> {
        Ok(self.0.run(ready).await?)
    }
}

/// The service's thread.
pub struct Running {
    thread: JoinHandle<Result<(), ServiceError>>,
}

impl Running {
    /// Waits until the loop has ended.
    ///
    /// # Errors
    /// Why it ended, unless it was stopped.
    pub fn join(self) -> Result<(), ServiceError> {
        match self.thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => Err(ServiceError::Thread(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".into()))),
        }
    }

    /// Whether the loop has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

impl Service {
    /// Serves when it has caught up. `now` is the clock of live programs.
    ///
    /// # Errors
    /// Why it can't.
    pub async fn start(log: Arc<dyn EventLog>, config: ServiceConfig, now: Arc<dyn Fn() -> Moment + Send + Sync>) -> Result<(Self, Running), ServiceError> {
        let (service, running) = Self::open(log, config, now).await?;
        // A thread of its own: deciding is work, and must not hold up those who wait for sockets.
        let builder = std::thread::Builder::new().name("command-service".into());
        let runtime = tokio::runtime::Handle::current();
        let (ready, is_ready) = oneshot::channel();
        let thread = builder.spawn(move || runtime.block_on(running.run(ready))).map_err(|e| ServiceError::Thread(e.to_string()))?;
        let running = Running { thread };
        if is_ready.await.is_err() {
            running.join()?;
            return Err(ServiceError::Thread("it ended before it was ready".into()));
        }
        Ok((service, running))
    }

    /// The service and its loop, which is to be run by the caller.
    ///
    /// # Errors
    /// Where the log can't be asked over.
    pub async fn open(log: Arc<dyn EventLog>, config: ServiceConfig, now: Arc<dyn Fn() -> Moment + Send + Sync>) -> Result<(Self, Loop), ServiceError> {
        let remote = if config.share == Share::Alone { None } else { Remote::open(&log, config.answer_within, config.limits).await? };
        let (requests, receiver) = mpsc::channel(config.queue_max);
        let (programs, watched) = watch::channel(Arc::default());
        let (owns, owned) = watch::channel(BTreeSet::new());
        let engine = Engine { log, config, requests: receiver, waiting: Vec::new(), programs, owned: owns, now };
        Ok((Self { requests: Some(requests), owned, programs: watched, remote: remote.map(Arc::new) }, Loop(engine)))
    }

    /// Decides nothing here: asks those who have the partitions, waiting for an answer at most `answer_within`.
    ///
    /// # Errors
    /// Where the log can't be shared, or not be read.
    pub async fn elsewhere(log: Arc<dyn EventLog>, answer_within: Duration) -> Result<Self, ServiceError> {
        let remote = Remote::open(&log, answer_within, Limits::default()).await?.ok_or(ServiceError::NotShared)?;
        let mut latest = Programs::load(&*log).await?;
        let (programs, watched) = watch::channel(Arc::new(latest.clone()));
        tokio::spawn(async move {
            while !programs.is_closed() {
                match latest.follow(&*log).await {
                    Ok(true) => drop(programs.send_replace(Arc::new(latest.clone()))),
                    Ok(false) => tokio::time::sleep(LOOK_AROUND).await,
                    Err(error) => {
                        tracing::error!(%error, "the program stream can't be followed; this process knows no newer rulebooks");
                        return;
                    }
                }
            }
        });
        let (_, owned) = watch::channel(BTreeSet::new());
        Ok(Self { requests: None, owned, programs: watched, remote: Some(Arc::new(remote)) })
    }

    /// Who has `partition`, where that is another process.
    fn elsewhere_of(&self, partition: impl FnOnce(&Remote) -> Partition) -> Option<&Remote> {
        self.remote.as_deref().filter(|remote| !self.owned.borrow().contains(&partition(remote)))
    }

    fn entries(&self) -> Position {
        self.programs.borrow().entries
    }

    /// Decides and books `command`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] at once when too much waits, else whatever was decided.
    pub async fn submit(&self, key: AccountKey, command: Command) -> Result<Answer, Refusal> {
        if let Some(remote) = self.elsewhere_of(|remote| remote.partition(&key)) {
            return remote.command(key, command, self.entries()).await;
        }
        let (reply, answer) = oneshot::channel();
        let again = self.remote.as_ref().map(|remote| (remote, key.clone(), command.clone()));
        let request = Request::Command { asked: admit(key, command), reply: Reply::One(reply) };
        let Some(requests) = &self.requests else { return Err(Refusal::OutcomeUnknown) };
        requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Busy,
            mpsc::error::TrySendError::Closed(_) => Refusal::OutcomeUnknown,
        })?;
        match (answer.await.unwrap_or(Err(Refusal::OutcomeUnknown)), again) {
            // The partition went to another process just now.
            (Err(Refusal::NotHere), Some((remote, key, command))) => remote.command(key, command, self.entries()).await,
            (outcome, _) => outcome,
        }
    }

    async fn send(&self, request: Request) {
        // A loop that ended drops the request and with it the reply's sender, which the caller sees.
        if let Some(requests) = &self.requests {
            let _ = requests.send(request).await;
        }
    }

    /// Publishes a rulebook; tells its version, and whether it is new.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] with everything that is wrong with it.
    pub async fn publish(&self, program: Id, rulebook: Vec<u8>, actor: CompactString) -> Result<(u32, bool), Refusal> {
        if is_path_step(&program) {
            return Err(Refusal::Invalid(vec![Invalid::new("/program", program, NO_STEP)]));
        }
        if let Some(remote) = self.elsewhere_of(|_| 0) {
            let (version, is_new, entries) = remote.publish(program, rulebook, actor, self.entries()).await?;
            self.seen(entries).await;
            return Ok((version, is_new));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Publish { program, rulebook, actor, reply }).await;
        answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// Waits until this process knows the program stream up to `entries`.
    async fn seen(&self, entries: Position) {
        let mut programs = self.programs.clone();
        let _ = tokio::time::timeout(SEEN_WITHIN, programs.wait_for(|programs| programs.entries >= entries)).await;
    }

    /// Proposes to close a month, in place of any proposal that waits, or closes it with the figures that somebody else proposed.
    ///
    /// # Errors
    /// [`Refusal::Period`]
    pub async fn closing(&self, program: Id, step: ClosingStep, actor: CompactString) -> Result<(), Refusal> {
        if let Some(remote) = self.elsewhere_of(|_| 0) {
            let entries = remote.closing(program, step, actor, self.entries()).await?;
            self.seen(entries).await;
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Closing { program, step, actor, reply }).await;
        answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// Names the key by which the book's aliases are hashed, unless it is named.
    ///
    /// # Errors
    /// [`Refusal::OtherAliasKey`] where another key is named.
    pub async fn name_alias_key(&self, fingerprint: Fingerprint, actor: CompactString) -> Result<(), Refusal> {
        match self.programs.borrow().alias_key {
            Some(named) if named == fingerprint => return Ok(()),
            Some(_) => return Err(Refusal::OtherAliasKey),
            None => {}
        }
        if let Some(remote) = self.elsewhere_of(|_| 0) {
            let entries = remote.name_alias_key(fingerprint, actor, self.entries()).await?;
            self.seen(entries).await;
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::NameAliasKey { fingerprint, actor, reply }).await;
        answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// Sets a sandbox's clock; all that falls due by then is done before this answers.
    ///
    /// # Errors
    /// [`Refusal::Clock`] for a live program or a step back.
    pub async fn set_clock(&self, program: Id, now: Moment, actor: CompactString) -> Result<(), Refusal> {
        if let Some(remote) = self.elsewhere_of(|_| 0) {
            let entries = remote.set_clock(program.clone(), now, actor, self.entries()).await?;
            self.seen(entries).await;
        } else {
            let (reply, answer) = oneshot::channel();
            self.send(Request::SetClock { program: program.clone(), now, actor, reply }).await;
            answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))?;
        }
        let Some(remote) = self.remote.as_deref() else { return Ok(()) };
        for partition in 0..remote.partitions() {
            if !self.owned.borrow().contains(&partition) {
                remote.settle(partition, program.clone(), self.entries()).await?;
            }
        }
        Ok(())
    }

    /// Sets a sandbox's clock before what is sent next, without waiting until it is on the log.
    pub async fn drive_clock(&self, program: Id, now: Moment, actor: CompactString) {
        let (reply, _) = oneshot::channel();
        self.send(Request::SetClock { program, now, actor, reply }).await;
    }

    /// The account as it stands; none if there is no such program. Of its purchases, which may be large, there is only the one that is named
    /// (as far as another process has the account).
    ///
    /// # Errors
    /// Where another process has it and does not answer.
    pub async fn snapshot(&self, key: AccountKey, purchase: Option<Id>) -> Result<Option<Snapshot>, Refusal> {
        if let Some(remote) = self.elsewhere_of(|remote| remote.partition(&key)) {
            let program = key.program.clone();
            let (account, now) = match remote.snapshot(key, purchase, self.entries()).await {
                Err(Refusal::ProgramNotFound(_)) => return Ok(None),
                outcome => outcome?,
            };
            let state = self.programs.borrow().by_id.get(&program).cloned();
            return Ok(state.map(|state| Snapshot { account, program: state.program, now }));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Snapshot { key, reply }).await;
        answer.await.unwrap_or(Err(Refusal::OutcomeUnknown))
    }

    /// Returns when all that was asked before is on the log.
    pub async fn flush(&self) {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Flush { reply }).await;
        let _ = answer.await;
    }

    /// Ends the loop when all that was asked before is on the log and in the state store.
    pub async fn stop(&self) {
        self.send(Request::Stop).await;
    }

    /// Whether the loop still takes requests.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.requests.as_ref().is_none_or(|requests| !requests.is_closed())
    }

    /// The programs as they stand.
    #[must_use]
    pub fn programs(&self) -> Arc<Programs> {
        self.programs.borrow().clone()
    }

    /// A source of many commands: they wait for room instead of being refused.
    #[must_use]
    pub fn source(&self) -> (Source, Outcomes) {
        let (outcomes, received) = mpsc::unbounded_channel();
        (Source { service: self.clone(), outcomes }, received)
    }
}

/// What came of a source's commands, by the tag each was sent with, in the order they were sent.
pub type Outcomes = mpsc::UnboundedReceiver<(u64, SourceOutcome)>;

/// Where many commands come from, such as a file.
pub struct Source {
    service: Service,
    outcomes: mpsc::UnboundedSender<(u64, SourceOutcome)>,
}

impl Source {
    /// Sends `command`; its outcome comes under `tag`.
    pub async fn send(&self, tag: u64, key: AccountKey, command: Command) {
        let reply = Reply::Many(self.outcomes.clone(), tag);
        self.service.send(Request::Command { asked: admit(key, command), reply }).await;
    }

    /// Sends `command`, which is booked only where `before`, a command for the same account, was booked just as it is here. It is refused
    /// otherwise, which `why` explains.
    pub async fn send_after(&self, tag: u64, key: AccountKey, before: Command, command: Command, why: String) {
        let reply = Reply::Many(self.outcomes.clone(), tag);
        // What is of a wrong form was never booked.
        let before = admit(key.clone(), before).ok().map(|before| (before.id, before.content));
        self.service.send(Request::After { before, asked: Box::new(admit(key, command)), why, reply }).await;
    }

    /// Lets `plan` make commands from the account's state, or tell why there are none. Where its first part was booked before, under one of the
    /// kinds and ids that `parts` gives for part 1, all parts that were are read back instead. Each has its outcome under `tag`.
    pub async fn plan(
        &self,
        tag: u64,
        key: AccountKey,
        parts: impl Fn(u32) -> Vec<(&'static str, Id)> + Send + 'static,
        plan: impl FnOnce(&Account) -> Result<Vec<Command>, String> + Send + 'static,
    ) {
        let reply = Reply::Many(self.outcomes.clone(), tag);
        self.service.send(Request::Plan { key, parts: Box::new(parts), plan: Box::new(plan), reply }).await;
    }
}
