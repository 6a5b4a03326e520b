//! The loop: takes what waits, decides it, stages it; keeps the state store behind the log; starts over when the log fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use event_log::{Asked, EventLog, LogError, News, Partition, Position};
use ledger_core::id::Id;
use ledger_core::time::Moment;
use ledger_schemas::Ask;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::book::Book;
use crate::commit::{self, Work};
use crate::group::{Group, Staged, when_on_the_log};
use crate::programs::Programs;
use crate::recover::{RecoverError, catch_up, follow, recover};
use crate::request::{Refusal, Request};
use crate::service::{ServiceConfig, Share, Snapshot};
use crate::store::StoreError;

/// How many requests one group takes. Under load a group is this large: a transaction costs the same for few and for many.
const GROUP_MAX: usize = 8192;
/// So many must wait before a group is made while another is on its way to the log. A smaller one would gain nothing by being early, and what
/// comes after it would wait for both.
const AHEAD_MIN: usize = 512;
/// How many accounts' due work one group takes.
pub(crate) const DUE_MAX: usize = 2048;
/// How long changes wait for the state store when there are few.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);
/// How long to wait before the log is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often a quiet loop looks what others have booked.
const LOOK_AROUND: Duration = Duration::from_millis(100);
/// How long a question waits for the rulebooks that its asker had seen.
const PROGRAMS_WITHIN: Duration = Duration::from_secs(2);

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

impl EngineError {
    fn is_damage(&self) -> bool {
        matches!(self, Self::Recover(RecoverError::Store(error)) if error.is_damage())
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Recover(error.into())
    }
}

pub(crate) struct Engine {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: ServiceConfig,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Taken from the queue, not decided yet.
    pub(crate) waiting: Vec<Request>,
    pub(crate) programs: watch::Sender<Arc<Programs>>,
    pub(crate) owned: watch::Sender<BTreeSet<Partition>>,
    pub(crate) now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

/// From one reading of the log to the next failure.
struct Session {
    book: Book,
    works: mpsc::Sender<Work>,
    /// Groups that are on the log, emptied.
    done: mpsc::Receiver<Group>,
    /// Groups that were handed over and are not on the log yet.
    in_hand: TaskTracker,
    committer: JoinHandle<Result<(), LogError>>,
    news: mpsc::UnboundedReceiver<News>,
    /// Heard, not done yet.
    heard: Option<News>,
    /// Of partitions taken: the first question that is not decided yet.
    undecided: BTreeMap<Partition, u64>,
    /// Whether more news can come.
    is_shared: bool,
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
        let mut told = String::new();
        loop {
            let mut session = match self.start().await {
                Ok(session) => {
                    told.clear();
                    session
                }
                // Only where it served before is the log's silence taken for a passing fault.
                Err(RecoverError::Log(error)) if ready.is_none() => {
                    // Said again only when it is something else.
                    let why = error.to_string();
                    if why != told {
                        tracing::error!(error = &error as &dyn std::error::Error, "the log can't be read; trying again");
                        told = why;
                    }
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) => {
                    self.mend(error.into())?;
                    continue;
                }
            };
            self.show(&session.book);
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            let mut damage = None;
            let end = match self.serve(&mut session).await {
                Ok(end) => end,
                Err(EngineError::Recover(RecoverError::Log(error))) => {
                    tracing::error!(%error, "the log can't be read; the state is read anew");
                    End::LogFailed
                }
                Err(error) if error.is_damage() => {
                    damage = Some(error);
                    End::LogFailed
                }
                Err(error) => return Err(error),
            };
            let Session { mut book, works, committer, is_shared, news, .. } = session;
            drop(works);
            let committed = committer.await;
            // What others may take from here on is not asked for here any more.
            drop(news);
            if is_shared {
                self.owned.send_replace(BTreeSet::new());
            }
            match (end, committed) {
                (End::Stopped, Ok(Ok(()))) => return Ok(book.accounts.write_checkpoint(book.reached.clone())?),
                (_, Ok(Err(LogError::Fenced { .. }))) if !is_shared => return Err(EngineError::Fenced),
                (_, Ok(Err(error))) => tracing::error!(error = &error as &dyn std::error::Error, "an append failed; the state is read anew from the log"),
                (_, Ok(Ok(()))) if damage.is_some() => {}
                (_, Ok(Ok(()))) => tracing::warn!("the partitions are others' now; joining them anew"),
                (_, outcome) => tracing::error!(?outcome, "the committer ended; the state is read anew from the log"),
            }
            drop(book);
            match damage {
                Some(error) => self.mend(error)?,
                None if matches!(end, End::Stopped) => return Ok(()),
                None => {}
            }
        }
    }

    /// A damaged state store, which nobody has open, is thrown away; with any other error the loop ends.
    fn mend(&self, error: EngineError) -> Result<(), EngineError> {
        if !error.is_damage() {
            return Err(error);
        }
        tracing::error!(error = &error as &dyn std::error::Error, "the state store is damaged");
        Ok(self.config.state.wipe().map_err(StoreError::from)?)
    }

    async fn start(&self) -> Result<Session, RecoverError> {
        let (log, config) = (&*self.log, &self.config);
        let is_shared = config.share != Share::Alone;
        // Who is alone ends whoever wrote before it reads; partitions that are shared are taken when they are assigned.
        let alone = if is_shared { None } else { Some(log.acquire(&config.owner).await?) };
        let mut book = recover(log, &config.state, config.accounts_in_memory, config.limits, config.share != Share::Cold).await?;
        let (writer, news) = match alone {
            None => log.join(&config.owner).await?,
            Some(writer) => {
                for partition in 0..log.partitions() {
                    catch_up(&mut book, log, partition, writer.next_position(partition)).await?;
                    book.owned.insert(partition);
                }
                (writer, mpsc::unbounded_channel().1)
            }
        };
        let (works, to_do) = mpsc::channel(1);
        // One is filled while another is appended.
        let (emptied, done) = mpsc::channel(2);
        let committer = tokio::spawn(commit::run(to_do, emptied, writer, Arc::clone(&self.log)));
        let in_hand = TaskTracker::new();
        // Closed, it tells whenever it is empty.
        in_hand.close();
        Ok(Session { book, works, done, in_hand, committer, news, heard: None, undecided: BTreeMap::new(), is_shared })
    }

    /// Shows others what is decided here, and by which rules.
    fn show(&self, book: &Book) {
        self.programs.send_replace(Arc::new(book.programs.clone()));
        self.owned.send_replace(book.owned.clone());
        metrics::gauge!("loyalty_partitions_owned").set(f64::from(u32::try_from(book.owned.len()).unwrap_or(u32::MAX)));
    }

    async fn serve(&mut self, session: &mut Session) -> Result<End, EngineError> {
        let mut last_checkpoint = Instant::now();
        let mut more_due = true;
        let works = session.works.clone();
        loop {
            if self.requests.len() + session.news.len() < AHEAD_MIN {
                session.in_hand.wait().await;
            }
            let Ok(permit) = works.reserve().await else { return Ok(End::LogFailed) };
            if self.waiting.is_empty() {
                // What is due is looked at before waiting, so the wait never outlasts it.
                let idle = if more_due { Duration::ZERO } else { self.until_due(&session.book) };
                self.wait(session, idle).await;
            }
            if works.is_closed() {
                // What waits is decided when the state is read anew.
                return Ok(End::LogFailed);
            }
            if session.is_shared {
                self.look_around(&mut session.book).await?;
            }
            let stop = self.answer(&mut session.book)?;
            let change = self.hear(session).await?;
            more_due = self.due_work(&mut session.book)?;
            let group = session.book.seal((self.now)(), || session.done.try_recv().unwrap_or_default());
            match group {
                Some(group) => permit.send(Work::Append(Box::new(group), Some(session.in_hand.token()))),
                None => drop(permit),
            }
            if stop {
                self.give_up_all(session).await;
                return Ok(End::Stopped);
            }
            if let Some(change) = change
                && !self.change(session, change).await?
            {
                return Ok(End::LogFailed);
            }
            let book = &mut session.book;
            book.accounts.look_at_checkpoint()?;
            let rested = book.accounts.is_dirty() && last_checkpoint.elapsed() >= CHECKPOINT_EVERY;
            if book.accounts.is_full() || rested {
                if !on_the_log(&works).await {
                    return Ok(End::LogFailed);
                }
                book.accounts.begin_checkpoint(book.reached.clone())?;
                last_checkpoint = Instant::now();
            }
        }
    }

    /// Does what waits, as far as the group takes it. Whether to stop then.
    fn answer(&mut self, book: &mut Book) -> Result<bool, EngineError> {
        let mut stop = self.requests.is_closed() && self.waiting.is_empty();
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut requests = waiting.drain(..);
        while (stop || !book.group.is_full())
            && let Some(request) = requests.next()
        {
            stop |= self.handle(book, request)?;
        }
        let rest: Vec<_> = requests.collect();
        // Its room is kept for the next group.
        waiting.extend(rest);
        self.waiting = waiting;
        Ok(stop)
    }

    /// Waits at most `idle` for something to do.
    async fn wait(&mut self, session: &mut Session, idle: Duration) {
        let idle = if session.book.accounts.is_dirty() { idle.min(CHECKPOINT_EVERY) } else { idle };
        let idle = if session.is_shared { idle.min(LOOK_AROUND) } else { idle };
        tokio::select! {
            biased;
            () = session.works.closed() => {}
            // Whoever told the news has ended: what is owned here, nobody knows.
            news = session.news.recv(), if session.is_shared && session.heard.is_none() => session.heard = Some(news.unwrap_or(News::Lost)),
            _ = tokio::time::timeout(idle, self.requests.recv_many(&mut self.waiting, GROUP_MAX)) => {}
        }
    }

    /// Decides what is asked over the log, up to a change of the partitions, which it gives back.
    async fn hear(&self, session: &mut Session) -> Result<Option<News>, EngineError> {
        for _ in 0..GROUP_MAX {
            if session.book.group.is_full() {
                break;
            }
            let Some(news) = session.heard.take().or_else(|| session.news.try_recv().ok()) else { break };
            match news {
                // It was decided before, and comes again where the group's offsets were forgotten.
                News::Asked(asked) if session.undecided.get(&asked.partition).is_some_and(|undecided| asked.offset < *undecided) => {}
                News::Asked(asked) => self.asked(&mut session.book, &asked).await?,
                change => return Ok(Some(change)),
            }
        }
        Ok(None)
    }

    async fn asked(&self, book: &mut Book, asked: &Asked) -> Result<(), EngineError> {
        let ask = match Ask::decode(&asked.body) {
            Ok(ask) => ask,
            Err(error) => {
                book.unreadable(asked, error.to_string());
                return Ok(());
            }
        };
        self.see_programs(book, ask.program_entries).await?;
        book.asked(asked, ask, (self.now)())?;
        self.programs.send_if_modified(|programs| {
            let is_news = programs.entries != book.programs.entries;
            if is_news {
                *programs = Arc::new(book.programs.clone());
            }
            is_news
        });
        Ok(())
    }

    /// Waits until the program stream is here up to `entries`, which somebody has seen.
    async fn see_programs(&self, book: &mut Book, entries: Position) -> Result<(), EngineError> {
        let deadline = Instant::now() + PROGRAMS_WITHIN;
        while book.programs.entries < entries && Instant::now() < deadline {
            if !book.programs.follow(&*self.log).await.map_err(RecoverError::from)? {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// Takes or releases partitions; false where the log must be read anew.
    async fn change(&self, session: &mut Session, change: News) -> Result<bool, EngineError> {
        let Session { book, works, undecided, .. } = session;
        match change {
            News::Assigned(partitions) => {
                let begin = Instant::now();
                let (done, taken) = oneshot::channel();
                if works.send(Work::Take(partitions.clone(), done)).await.is_err() {
                    return Ok(false);
                }
                let Ok(taken) = taken.await else { return Ok(false) };
                self.see_programs(book, taken.program_entries).await?;
                undecided.extend(taken.undecided);
                let mut records = 0;
                for (partition, end) in taken.ends {
                    match catch_up(book, &*self.log, partition, end).await {
                        Ok(count) => records += count,
                        Err(RecoverError::Log(error)) => {
                            tracing::error!(%error, partition, "a partition that was assigned can't be read");
                            return Ok(false);
                        }
                        Err(error) => return Err(error.into()),
                    }
                    book.owned.insert(partition);
                }
                tracing::info!(?partitions, records, seconds = begin.elapsed().as_secs_f32(), "partitions taken");
                metrics::histogram!("loyalty_takeover_seconds").record(begin.elapsed());
            }
            News::Revoked(partitions, done) => {
                let (released, is_released) = oneshot::channel();
                if works.send(Work::Release(partitions.clone(), released)).await.is_err() || is_released.await.is_err() {
                    return Ok(false);
                }
                book.owned.retain(|partition| !partitions.contains(partition));
                tracing::info!(?partitions, "partitions released");
                let _ = done.send(());
            }
            News::Lost => return Ok(false),
            News::Asked(_) => {}
        }
        self.show(book);
        Ok(true)
    }

    /// Gives up all partitions, so that others need not wait for them.
    async fn give_up_all(&self, session: &mut Session) {
        let partitions: Vec<Partition> = session.book.owned.iter().copied().collect();
        if session.is_shared && !partitions.is_empty() {
            let (released, is_released) = oneshot::channel();
            // Where this fails others find out by themselves.
            if session.works.send(Work::Release(partitions, released)).await.is_ok() {
                let _ = is_released.await;
            }
        }
    }

    /// Folds what others have booked: rulebooks, and records of partitions that may come here one day.
    async fn look_around(&self, book: &mut Book) -> Result<(), EngineError> {
        let log = &*self.log;
        if book.programs.follow(log).await.map_err(RecoverError::from)? {
            book.programs.require_edition().map_err(RecoverError::from)?;
            self.programs.send_replace(Arc::new(book.programs.clone()));
        }
        if self.config.share != Share::Follows || book.owned.len() == book.reached.len() {
            return Ok(());
        }
        let ends = log.ends().await.map_err(RecoverError::from)?;
        for (partition, end) in (0..).zip(ends) {
            if !book.owned.contains(&partition) && book.reached[usize::from(partition)].next < end {
                follow(book, log, partition).await?;
            }
        }
        Ok(())
    }

    fn handle(&self, book: &mut Book, request: Request) -> Result<bool, StoreError> {
        let now = (self.now)();
        match request {
            Request::Command { asked, reply } => book.command(asked, reply, now)?,
            Request::After { before, asked, why, reply } => book.after(before, *asked, why, reply, now)?,
            Request::Plan { key, parts, plan, reply } => book.plan(key, parts, plan, reply, now)?,
            Request::Publish { program, rulebook, actor, reply } => {
                let outcome = book.publish(&program, rulebook, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                when_on_the_log(&mut book.group, reply, outcome);
            }
            Request::Closing { program, step, actor, reply } => {
                let outcome = book.closing(&program, step, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                when_on_the_log(&mut book.group, reply, outcome);
            }
            Request::NameAliasKey { fingerprint, actor, reply } => {
                let outcome = book.name_alias_key(fingerprint, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                when_on_the_log(&mut book.group, reply, outcome);
            }
            Request::SetClock { program, now: set, actor, reply } => {
                let outcome = book.set_clock(&program, set, actor, now);
                self.programs.send_replace(Arc::new(book.programs.clone()));
                while outcome.is_ok() && book.due_work(&program, DUE_MAX, now)? {}
                when_on_the_log(&mut book.group, reply, outcome);
            }
            Request::Snapshot { key, reply } => {
                let name = key.to_string();
                let snapshot = match book.accounts.stopped(&name) {
                    _ if !book.is_here(&name) => Err(Refusal::NotHere),
                    Some(why) => Err(Refusal::Stopped(why.clone())),
                    None => Ok(self.snapshot(book, &key, now)?),
                };
                let _ = reply.send(snapshot);
            }
            Request::Flush { reply } => book.group.staged.push(Staged::Run(Box::new(move |_| {
                let _ = reply.send(());
            }))),
            Request::Stop => return Ok(true),
        }
        Ok(false)
    }

    fn snapshot(&self, book: &mut Book, key: &ledger_core::id::AccountKey, now: Moment) -> Result<Option<Snapshot>, StoreError> {
        let Some((program, now)) = book.program(&key.program, now) else { return Ok(None) };
        let now = book.no_earlier(key, &program, now)?;
        let account = book.accounts.get(key, &program)?.account().clone();
        Ok(Some(Snapshot { account, program, now }))
    }

    fn due_work(&self, book: &mut Book) -> Result<bool, StoreError> {
        let now = (self.now)();
        let programs: Vec<Id> = book.programs.by_id.keys().cloned().collect();
        let mut more = false;
        for program in programs {
            more |= book.due_work(&program, DUE_MAX, now)?;
        }
        Ok(more)
    }

    /// How long nothing falls due in any live program; sandboxes wait for their callers.
    fn until_due(&self, book: &Book) -> Duration {
        let now = (self.now)();
        let live = book.programs.by_id.iter().filter(|(_, state)| !state.program.is_sandbox());
        let next = live.flat_map(|(id, _)| book.owned.iter().filter_map(|partition| book.accounts.next_due(id, *partition))).min();
        let us = next.map_or(3_600_000_000, |at| at.as_micros() - now.as_micros());
        Duration::from_micros(u64::try_from(us).unwrap_or(0).min(3_600_000_000))
    }
}

/// Waits until all that is staged is on the log; false if the log failed.
async fn on_the_log(works: &mpsc::Sender<Work>) -> bool {
    let (done, heard) = oneshot::channel();
    let mut group = Group::default();
    group.staged.push(Staged::Run(Box::new(move |ok| {
        let _ = done.send(ok);
    })));
    works.send(Work::Append(Box::new(group), None)).await.is_ok() && heard.await.unwrap_or(false)
}
