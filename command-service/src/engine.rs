//! The loop: takes what waits, decides it, stages it; keeps the state store behind the log; starts over when the log fails.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::{EventLog, LogError};
use ledger_core::id::Id;
use ledger_core::time::Moment;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::book::{Book, Group, Staged};
use crate::commit;
use crate::programs::Programs;
use crate::recover::{RecoverError, recover};
use crate::request::{Refusal, Request};
use crate::service::{ServiceConfig, Snapshot};

/// How many requests one group takes; with all that they bring, a batch stays at a few megabytes.
const GROUP_MAX: usize = 4096;
/// How many accounts' due work one group takes.
const DUE_MAX: usize = 2048;
/// How long changes wait for the state store when there are few.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// How long to wait before the log is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Another process has taken the log over.
    #[error("another process writes this log now; this one has stopped")]
    Fenced,
    /// The state can't be made from the log, and trying again would not help.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}

pub(crate) struct Engine {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: ServiceConfig,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Taken from the queue, not decided yet.
    pub(crate) waiting: Vec<Request>,
    pub(crate) programs: watch::Sender<Arc<Programs>>,
    pub(crate) now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

struct Committer {
    groups: mpsc::Sender<Group>,
    task: JoinHandle<Result<(), LogError>>,
}

#[derive(Clone, Copy)]
enum End {
    Stopped,
    LogFailed,
}

impl Engine {
    /// Runs until it is stopped or can't go on; `ready` hears when it serves for the first time.
    pub(crate) async fn run(mut self, ready: oneshot::Sender<()>) -> Result<(), EngineError> {
        let mut ready = Some(ready);
        loop {
            let (mut book, committer) = match self.start().await {
                Ok(started) => started,
                // Only where it served before is the log's silence taken for a passing fault.
                Err(RecoverError::Log(error)) if ready.is_none() => {
                    tracing::error!(%error, "the log can't be read; trying again");
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            self.programs.send_replace(Arc::new(book.programs.clone()));
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            let end = self.serve(&mut book, &committer).await?;
            let Committer { groups, task } = committer;
            drop(groups);
            match (end, task.await) {
                (End::Stopped, Ok(Ok(()))) => {
                    book.accounts.write_checkpoint(book.next.clone()).map_err(RecoverError::from)?;
                    return Ok(());
                }
                (_, Ok(Err(LogError::Fenced { .. }))) => return Err(EngineError::Fenced),
                (_, Ok(Err(error))) => tracing::error!(%error, "an append failed; the state is read anew from the log"),
                (_, outcome) => tracing::error!(?outcome, "the committer ended; the state is read anew from the log"),
            }
            if matches!(end, End::Stopped) {
                return Ok(());
            }
        }
    }

    async fn start(&self) -> Result<(Book, Committer), RecoverError> {
        let writer = self.log.acquire(&self.config.owner).await?;
        let folder: PathBuf = self.config.folder.clone();
        let book = recover(&*self.log, &*writer, &folder, self.config.accounts_in_memory).await?;
        let (groups, staged) = mpsc::channel(1);
        let task = tokio::spawn(commit::run(staged, writer, Arc::clone(&self.log)));
        Ok((book, Committer { groups, task }))
    }

    async fn serve(&mut self, book: &mut Book, committer: &Committer) -> Result<End, EngineError> {
        let mut last_checkpoint = Instant::now();
        let mut more_due = true;
        loop {
            let Ok(permit) = committer.groups.reserve().await else { return Ok(End::LogFailed) };
            if self.waiting.is_empty() {
                // What is due is looked at before waiting, so the wait never outlasts it.
                let idle = if more_due { Duration::ZERO } else { self.until_due(book) };
                let idle = if book.accounts.is_dirty() { idle.min(CHECKPOINT_EVERY) } else { idle };
                tokio::select! {
                    biased;
                    () = committer.groups.closed() => {}
                    _ = tokio::time::timeout(idle, self.requests.recv_many(&mut self.waiting, GROUP_MAX)) => {}
                }
            }
            if committer.groups.is_closed() {
                // What waits is decided when the state is read anew.
                return Ok(End::LogFailed);
            }
            let mut stop = self.requests.is_closed() && self.waiting.is_empty();
            let mut waiting = std::mem::take(&mut self.waiting);
            for request in waiting.drain(..) {
                stop |= self.handle(book, request).map_err(RecoverError::from)?;
            }
            // Empty again; its room is kept for the next group.
            self.waiting = waiting;
            more_due = self.due_work(book).map_err(RecoverError::from)?;
            let mut group = std::mem::take(&mut book.group);
            group.seal((self.now)());
            if group.is_empty() {
                drop(permit);
            } else {
                permit.send(group);
            }
            if stop {
                return Ok(End::Stopped);
            }
            let rested = book.accounts.is_dirty() && last_checkpoint.elapsed() >= CHECKPOINT_EVERY;
            if book.accounts.is_full() || rested {
                if !on_the_log(committer).await {
                    return Ok(End::LogFailed);
                }
                book.accounts.write_checkpoint(book.next.clone()).map_err(RecoverError::from)?;
                metrics::gauge!("loyalty_accounts_in_memory").set(f64::from(u32::try_from(book.accounts.len()).unwrap_or(u32::MAX)));
                last_checkpoint = Instant::now();
            }
        }
    }

    fn handle(&self, book: &mut Book, request: Request) -> Result<bool, crate::store::StoreError> {
        let now = (self.now)();
        match request {
            Request::Command { key, command, source, reply } => book.command(key, command, source, reply, now)?,
            Request::Plan { key, firsts, plan, source, reply } => book.plan(key, firsts, plan, source, reply, now)?,
            Request::Unusable { why, source, reply } => book.unusable(why, source, reply),
            Request::Publish { program, rulebook, actor, reply } => {
                let outcome = book.publish(&program, rulebook, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                when_on_the_log(book, reply, outcome);
            }
            Request::SetClock { program, now: set, actor, reply } => {
                let outcome = book.set_clock(&program, set, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                while outcome.is_ok() && book.due_work(&program, DUE_MAX, now)? {}
                when_on_the_log(book, reply, outcome);
            }
            Request::Snapshot { key, reply } => {
                let _ = reply.send(self.snapshot(book, &key, now)?);
            }
            Request::Flush { reply } => book.group.staged.push(Staged::Run(Box::new(move |_| {
                let _ = reply.send(());
            }))),
            Request::Stop => return Ok(true),
        }
        Ok(false)
    }

    fn snapshot(&self, book: &mut Book, key: &ledger_core::id::AccountKey, now: Moment) -> Result<Option<Snapshot>, crate::store::StoreError> {
        let Some((program, now)) = book.program(&key.program, now) else { return Ok(None) };
        let account = book.accounts.get(key, &program)?.account.clone();
        Ok(Some(Snapshot { account, program, now }))
    }

    fn due_work(&self, book: &mut Book) -> Result<bool, crate::store::StoreError> {
        let now = (self.now)();
        let programs: Vec<Id> = book.programs.0.keys().cloned().collect();
        let mut more = false;
        for program in programs {
            more |= book.due_work(&program, DUE_MAX, now)?;
        }
        Ok(more)
    }

    /// How long nothing falls due in any live program; sandboxes wait for their callers.
    fn until_due(&self, book: &Book) -> Duration {
        let now = (self.now)();
        let live = book.programs.0.iter().filter(|(_, state)| !state.program.is_sandbox());
        let next = live.filter_map(|(id, _)| book.accounts.next_due(id)).min();
        let us = next.map_or(3_600_000_000, |at| at.as_micros() - now.as_micros());
        Duration::from_micros(u64::try_from(us).unwrap_or(0).min(3_600_000_000))
    }
}

/// Waits until all that is staged is on the log; false if the log failed.
async fn on_the_log(committer: &Committer) -> bool {
    let (done, heard) = oneshot::channel();
    let mut group = Group::default();
    group.staged.push(Staged::Run(Box::new(move |ok| {
        let _ = done.send(ok);
    })));
    committer.groups.send(group).await.is_ok() && heard.await.unwrap_or(false)
}

fn when_on_the_log<T: Send + 'static>(book: &mut Book, reply: oneshot::Sender<Result<T, Refusal>>, outcome: Result<T, Refusal>) {
    let answer = move |ok: bool| {
        let outcome = if ok { outcome } else { Err(Refusal::OutcomeUnknown) };
        let _ = reply.send(outcome);
    };
    book.group.staged.push(Staged::Run(Box::new(answer)));
}
