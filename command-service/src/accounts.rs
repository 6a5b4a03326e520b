//! The accounts in memory: those in use, with what is due of all.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use event_log::{Partition, partition_of};
use ledger_core::account::Account;
use ledger_core::account::decide::due_at;
use ledger_core::id::{AccountKey, Id};
use ledger_core::policy::Program;
use ledger_core::time::Moment;

use crate::request::CommandKey;
use crate::store::{Checkpoint, Store, StoreError, UsedId};

pub(crate) struct Cached {
    pub(crate) account: Account,
    pub(crate) due: Option<Moment>,
    partition: Partition,
    dirty: bool,
    /// The checkpoint after which it was last used.
    used: u32,
}

pub(crate) struct Accounts {
    store: Store,
    book: String,
    cached: HashMap<AccountKey, Cached>,
    /// Ids used since the last checkpoint.
    recent_ids: HashMap<CommandKey, UsedId>,
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
        let (cached, recent_ids, newly_stopped) = (HashMap::new(), HashMap::new(), Vec::new());
        let stopped = store.all_stopped()?;
        let accounts = Self { store, book: book.to_owned(), cached, recent_ids, due, stopped, newly_stopped, partitions, capacity, checkpoint: 0, dirty: 0 };
        accounts.show_stopped();
        Ok(accounts)
    }

    /// The account, from memory or the store; a new one if it is in neither.
    pub(crate) fn get(&mut self, key: &AccountKey, program: &Program) -> Result<&mut Cached, StoreError> {
        if !self.cached.contains_key(key) {
            let account = self.store.account(key)?.unwrap_or_default();
            let due = due_at(&account, program);
            let partition = partition_of(&key.to_string(), self.partitions);
            self.cached.insert(key.clone(), Cached { account, due, partition, dirty: false, used: self.checkpoint });
        }
        let cached = self.cached.get_mut(key).expect("inserted just above");
        cached.used = self.checkpoint;
        Ok(cached)
    }

    /// Notes that the account was changed.
    pub(crate) fn changed(&mut self, key: &AccountKey, program: &Program) {
        let Some(cached) = self.cached.get_mut(key) else { return };
        if !cached.dirty {
            cached.dirty = true;
            self.dirty += 1;
        }
        let due = due_at(&cached.account, program);
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
        match self.recent_ids.get(key) {
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

    pub(crate) fn len(&self) -> usize {
        self.cached.len()
    }

    /// Writes all that changed, with the positions it is the fold of, and drops what was not used for long.
    pub(crate) fn write_checkpoint(&mut self, positions: Vec<event_log::Position>) -> Result<(), StoreError> {
        let dirty = self.cached.iter().filter(|(_, cached)| cached.dirty);
        let accounts = dirty.map(|(key, cached)| (key, &cached.account, cached.due)).collect();
        self.store.write(&self.book, Checkpoint { accounts, ids: &self.recent_ids, positions, stopped: &self.newly_stopped })?;
        self.newly_stopped.clear();
        #[allow(clippy::cast_precision_loss, reason = "a size for people")]
        metrics::gauge!("loyalty_state_store_bytes").set(self.store.disk_bytes() as f64);
        self.recent_ids.clear();
        self.checkpoint += 1;
        self.dirty = 0;
        for cached in self.cached.values_mut() {
            cached.dirty = false;
        }
        if self.cached.len() > self.capacity {
            // Those not used since the checkpoint before; if that is not enough, all but the last ones used.
            let recent = self.checkpoint.saturating_sub(2);
            self.cached.retain(|_, cached| cached.used >= recent);
            if self.cached.len() > self.capacity {
                let last = self.checkpoint - 1;
                self.cached.retain(|_, cached| cached.used >= last);
            }
            if self.cached.len() > self.capacity {
                self.cached.clear();
            }
        }
        Ok(())
    }
}
