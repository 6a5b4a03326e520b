//! The accounts in memory: those in use, with what is due of all.
//!
//! Invariant: an account that is not in memory is in the store as it stands. A checkpoint is written beside the loop, from accounts that it shares
//! with it; an account changed meanwhile is a copy from then on, and what the checkpoint writes leaves the memory only when it is written.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;

use event_log::{Partition, partition_of};
use ledger_core::account::Account;
use ledger_core::account::decide::due_at;
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::Program;
use ledger_core::time::Moment;

use crate::request::CommandKey;
use crate::store::{Changed, Checkpoint, Purchases, Reached, Store, StoreError, UsedId};

/// Keys are short and looked up several times a command.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
pub(crate) type Ids = Map<CommandKey, UsedId>;

pub(crate) struct Cached {
    account: Arc<Account>,
    /// Its purchases as the last checkpoint has them.
    written: Purchases,
    pub(crate) due: Option<Moment>,
    /// The version of the rulebook that was the last when `due` was looked up.
    due_by: u32,
    pub(crate) partition: Partition,
    dirty: bool,
    /// The checkpoint after which it was last used.
    used: u32,
}

impl Cached {
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    pub(crate) fn account_mut(&mut self) -> &mut Account {
        Arc::make_mut(&mut self.account)
    }
}

/// A checkpoint that is being written.
struct Writing {
    ids: Arc<Ids>,
    progress: Progress,
}

enum Progress {
    Thread(JoinHandle<Result<(), StoreError>>),
    /// It has been written, which is noticed later: in the simulator one thread does all there is.
    Done(Result<(), StoreError>),
}

impl Progress {
    fn is_done(&self) -> bool {
        match self {
            Self::Thread(thread) => thread.is_finished(),
            Self::Done(_) => true,
        }
    }

    fn outcome(self) -> Result<(), StoreError> {
        match self {
            Self::Thread(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Self::Done(outcome) => outcome,
        }
    }
}

pub(crate) struct Accounts {
    store: Arc<Store>,
    book: String,
    cached: Map<AccountKey, Cached>,
    /// Ids used since the last checkpoint.
    recent_ids: Ids,
    /// The room for the next ones: a table of so many is slow to grow.
    spare_ids: Ids,
    writing: Option<Writing>,
    due: BTreeMap<(Id, Partition), BTreeSet<(Moment, Id)>>,
    /// Accounts with a record that can't be read, and why: nothing is decided for them.
    stopped: BTreeMap<String, String>,
    /// Those since the last checkpoint.
    newly_stopped: Vec<(String, String)>,
    partitions: u16,
    capacity: usize,
    checkpoint: u32,
    dirty: usize,
}

impl Accounts {
    pub(crate) fn new(store: Store, book: &str, partitions: u16, capacity: usize) -> Result<Self, StoreError> {
        let mut due: BTreeMap<(Id, Partition), BTreeSet<(Moment, Id)>> = BTreeMap::new();
        for (key, at) in store.all_due()? {
            let partition = partition_of(&key.to_string(), partitions);
            due.entry((key.program, partition)).or_default().insert((at, key.account));
        }
        let stopped = store.all_stopped()?;
        let accounts = Self {
            store: Arc::new(store),
            book: book.to_owned(),
            cached: Map::default(),
            recent_ids: Ids::default(),
            spare_ids: Ids::default(),
            writing: None,
            due,
            stopped,
            newly_stopped: Vec::new(),
            partitions,
            capacity,
            checkpoint: 0,
            dirty: 0,
        };
        accounts.show_stopped();
        Ok(accounts)
    }

    /// The account, from memory or the store; a new one if it is in neither.
    pub(crate) fn get(&mut self, key: &AccountKey, program: &Program) -> Result<&mut Cached, StoreError> {
        // Looked up once: a copy of the key, which is short, takes less time than looking for it again.
        match self.cached.entry(key.clone()) {
            Entry::Occupied(found) => {
                let cached = found.into_mut();
                cached.used = self.checkpoint;
                Ok(cached)
            }
            Entry::Vacant(place) => {
                let account = self.store.account(key)?.unwrap_or_default();
                let due = due_at(&account, program);
                let partition = partition_of(&key.name(), self.partitions);
                let (written, account) = (account.purchases.clone(), Arc::new(account));
                Ok(place.insert(Cached { account, written, due, due_by: last_version(program), partition, dirty: false, used: self.checkpoint }))
            }
        }
    }

    /// Notes that the account was changed.
    pub(crate) fn changed(&mut self, key: &AccountKey, program: &Program) {
        let Some(cached) = self.cached.get_mut(key) else { return };
        if !cached.dirty {
            cached.dirty = true;
            self.dirty += 1;
        }
        let due = due_at(&cached.account, program);
        cached.due_by = last_version(program);
        if due != cached.due {
            let before = std::mem::replace(&mut cached.due, due);
            let index = self.due.entry((key.program.clone(), cached.partition)).or_default();
            if let Some(at) = before {
                index.remove(&(at, key.account.clone()));
            }
            if let Some(at) = due {
                index.insert((at, key.account.clone()));
            }
        }
    }

    /// Looks up what is due anew where a rulebook was published since: it may say otherwise.
    pub(crate) fn refresh(&mut self, key: &AccountKey, program: &Program) {
        if self.cached.get(key).is_some_and(|cached| cached.due_by != last_version(program)) {
            self.changed(key, program);
        }
    }

    /// The next account of `program` in `partition` with something due by `now`; it leaves the index until it is changed.
    pub(crate) fn pop_due(&mut self, program: &Id, partition: Partition, now: Moment) -> Option<AccountKey> {
        let index = self.due.get_mut(&(program.clone(), partition))?;
        let (at, account) = index.first()?.clone();
        if at > now {
            return None;
        }
        index.pop_first();
        let key = AccountKey { program: program.clone(), account };
        if let Some(cached) = self.cached.get_mut(&key) {
            cached.due = None;
        }
        Some(key)
    }

    /// When the next thing of `program` falls due in `partition`.
    pub(crate) fn next_due(&self, program: &Id, partition: Partition) -> Option<Moment> {
        self.due.get(&(program.clone(), partition))?.first().map(|(at, _)| *at)
    }

    /// Why nothing is decided for the account `name`, if it is stopped.
    pub(crate) fn stopped(&self, name: &str) -> Option<&String> {
        self.stopped.get(name)
    }

    /// Stops the account `name`.
    pub(crate) fn stop(&mut self, name: String, why: String) {
        self.newly_stopped.push((name.clone(), why.clone()));
        self.stopped.insert(name, why);
        self.show_stopped();
    }

    fn show_stopped(&self) {
        metrics::gauge!("loyalty_stopped_accounts").set(f64::from(u32::try_from(self.stopped.len()).unwrap_or(u32::MAX)));
    }

    pub(crate) fn used_id(&self, key: &CommandKey) -> Result<Option<UsedId>, StoreError> {
        let written = || self.writing.as_ref().and_then(|writing| writing.ids.get(key));
        match self.recent_ids.get(key).or_else(written) {
            Some(used) => Ok(Some(*used)),
            None => self.store.used_id(key),
        }
    }

    pub(crate) fn use_id(&mut self, key: CommandKey, used: UsedId) {
        self.recent_ids.insert(key, used);
    }

    /// Whether so much is unwritten that it is time for a checkpoint.
    pub(crate) fn is_full(&self) -> bool {
        // Reads alone fill the memory too, and a checkpoint is when it is emptied.
        self.dirty >= self.capacity || self.recent_ids.len() >= 4 * self.capacity || self.cached.len() >= 2 * self.capacity + 1000
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty > 0 || !self.newly_stopped.is_empty()
    }

    /// Begins to write all that changed, with how far of each partition it is the fold; waits where the checkpoint before is still being written.
    pub(crate) fn begin_checkpoint(&mut self, reached: Vec<Reached>) -> Result<(), StoreError> {
        self.end_checkpoint()?;
        let mut accounts = Vec::with_capacity(self.dirty);
        for (key, cached) in self.cached.iter_mut().filter(|(_, cached)| cached.dirty) {
            cached.dirty = false;
            let written = std::mem::replace(&mut cached.written, cached.account.purchases.clone());
            accounts.push(Changed { key: key.clone(), account: Arc::clone(&cached.account), due: cached.due, written });
        }
        self.dirty = 0;
        self.checkpoint += 1;
        let spare = std::mem::take(&mut self.spare_ids);
        let ids = Arc::new(std::mem::replace(&mut self.recent_ids, spare));
        let checkpoint = Checkpoint { accounts, ids: Arc::clone(&ids), reached, stopped: std::mem::take(&mut self.newly_stopped) };
        let (store, book) = (Arc::clone(&self.store), self.book.clone());
        let progress = if self.store.is_simulated() {
            Progress::Done(store.write(&book, checkpoint))
        } else {
            let thread = std::thread::Builder::new().name("state-store".into());
            Progress::Thread(thread.spawn(move || store.write(&book, checkpoint)).map_err(|error| self.store.failed(error))?)
        };
        self.writing = Some(Writing { ids, progress });
        Ok(())
    }

    /// Ends the checkpoint that is being written, if there is one that has been.
    pub(crate) fn look_at_checkpoint(&mut self) -> Result<(), StoreError> {
        if self.writing.as_ref().is_some_and(|writing| writing.progress.is_done()) { self.end_checkpoint() } else { Ok(()) }
    }

    /// Writes all that changed and waits until it is.
    pub(crate) fn write_checkpoint(&mut self, reached: Vec<Reached>) -> Result<(), StoreError> {
        self.begin_checkpoint(reached)?;
        self.end_checkpoint()
    }

    /// Waits for the checkpoint that is being written, and drops what was not used for long.
    fn end_checkpoint(&mut self) -> Result<(), StoreError> {
        let Some(Writing { ids, progress }) = self.writing.take() else { return Ok(()) };
        progress.outcome()?;
        self.spare_ids = Arc::try_unwrap(ids).unwrap_or_default();
        self.spare_ids.clear();
        #[allow(clippy::cast_precision_loss, reason = "a size for people")]
        metrics::gauge!("loyalty_state_store_bytes").set(self.store.disk_bytes() as f64);
        // Those not used since the checkpoint before; if that is not enough, all but the last ones used; then all that is written.
        let before = self.checkpoint.saturating_sub(2);
        for used_since in [before, self.checkpoint - 1, self.checkpoint + 1] {
            if self.cached.len() > self.capacity {
                self.cached.retain(|_, cached| cached.dirty || cached.used >= used_since);
            }
        }
        metrics::gauge!("loyalty_accounts_in_memory").set(f64::from(u32::try_from(self.cached.len()).unwrap_or(u32::MAX)));
        Ok(())
    }
}

fn last_version(program: &Program) -> u32 {
    program.latest().map_or(0, |version| version.number)
}

/// Whoever opens the store next finds nobody writing.
impl Drop for Accounts {
    fn drop(&mut self) {
        // What became of it does not matter any more: the log has it all.
        let _ = self.writing.take().map(|writing| writing.progress.outcome());
    }
}
