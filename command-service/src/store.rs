//! The state store: accounts, ids ever used and what is due, in an embedded key-value store beside the log.
//!
//! Invariant: what it holds is the fold of the log up to the positions that it holds, written in one atomic batch. It can be thrown
//! away at any time; the log makes it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use event_log::{Partition, Position};
use ledger_core::account::Account;
use ledger_core::account::state::PurchaseState;
use ledger_core::id::{AccountKey, Id};
use ledger_core::planted::{Bug, is_planted};
use ledger_core::time::Moment;
use ledger_schemas::{Hash, SCHEMA_VERSION};
use serde::{Deserialize, Serialize};

use crate::accounts::Ids;
use crate::request::CommandKey;
use crate::state::{Change, Space, State, StateError, StatePlace};

/// Changed when the form of what is stored changes: an older store is thrown away. So is one of a version that could not read what this one can.
fn format() -> String {
    format!("12, schema {SCHEMA_VERSION}")
}

/// Why the store can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store's engine.
    #[error(transparent)]
    State(#[from] StateError),
    /// What is stored is not what was written.
    #[error("the state store holds something unreadable at {key}")]
    Corrupt {
        /// Where.
        key: String,
        /// Why.
        #[source]
        source: postcard::Error,
    },
}

impl StoreError {
    /// Whether what is there is worth nothing, so that it must be made anew.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::State(StateError::Damaged { .. }))
    }
}

/// An id that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedId {
    pub(crate) content: Hash,
    pub(crate) partition: Partition,
    pub(crate) position: Position,
}

impl UsedId {
    fn to_bytes(self) -> [u8; 42] {
        let mut bytes = [0; 42];
        bytes[..32].copy_from_slice(&self.content);
        bytes[32..34].copy_from_slice(&self.partition.to_be_bytes());
        bytes[34..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (content, rest) = bytes.split_first_chunk::<32>()?;
        let (partition, rest) = rest.split_first_chunk::<2>()?;
        let position = rest.try_into().ok()?;
        Some(Self { content: *content, partition: u16::from_be_bytes(*partition), position: u64::from_be_bytes(position) })
    }
}

/// How far a partition was folded.
#[derive(Serialize, Deserialize, Default, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reached {
    /// The position of the record that comes next.
    pub(crate) next: Position,
    /// The hash of the record before it: a log that has another there is not the one that was folded.
    pub(crate) last: Hash,
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq)]
struct Header {
    format: String,
    book: String,
    reached: Vec<Reached>,
}

const HEADER: &[u8] = b"header";
const STOPPED: &[u8] = b"stopped/";

impl Header {
    fn change(&self) -> Change {
        let bytes = postcard::to_stdvec(self).expect("a header always serializes");
        (Space::Meta, HEADER.to_vec(), Some(bytes))
    }
}

pub(crate) struct Store {
    place: StatePlace,
    state: Box<dyn State>,
}

/// What one checkpoint writes.
pub(crate) struct Checkpoint {
    pub(crate) accounts: Vec<Changed>,
    pub(crate) ids: Arc<Ids>,
    pub(crate) reached: Vec<Reached>,
    /// Accounts that were stopped, and why.
    pub(crate) stopped: Vec<(String, String)>,
}

/// An account that changed.
pub(crate) struct Changed {
    pub(crate) key: AccountKey,
    pub(crate) account: Arc<Account>,
    pub(crate) due: Option<Moment>,
    /// Its purchases as they are in the store: most of an account, and nearly all of them stay as they are.
    pub(crate) written: Purchases,
}

pub(crate) type Purchases = Vec<Arc<PurchaseState>>;

impl Changed {
    fn changes(self) -> impl Iterator<Item = Change> {
        let name = self.key.name();
        let bytes = postcard::to_stdvec(&*self.account).expect("an account always serializes");
        let due = (Space::Due, name.clone().into_bytes(), self.due.map(|at| at.as_micros().to_be_bytes().to_vec()));
        let purchases = purchase_changes(&name, &self.written, &self.account.purchases);
        [due, (Space::Accounts, name.into_bytes(), Some(bytes))].into_iter().chain(purchases)
    }
}

/// The key of what the record `seq` booked for the account `name`; ids have no zero byte.
fn purchase_key(name: &str, seq: u64) -> Vec<u8> {
    [name.as_bytes(), &[0], &seq.to_be_bytes()].concat()
}

/// From the purchases that are in the store to those that are; both in the order of their records.
fn purchase_changes(name: &str, written: &[Arc<PurchaseState>], now: &[Arc<PurchaseState>]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut written = written.iter().peekable();
    for state in now {
        while let Some(gone) = written.next_if(|old| old.seq < state.seq) {
            changes.push((Space::Purchases, purchase_key(name, gone.seq), None));
        }
        if written.next_if(|old| old.seq == state.seq).is_none_or(|old| !Arc::ptr_eq(old, state)) {
            let bytes = postcard::to_stdvec(&**state).expect("a purchase always serializes");
            changes.push((Space::Purchases, purchase_key(name, state.seq), Some(bytes)));
        }
    }
    changes.extend(written.map(|gone| (Space::Purchases, purchase_key(name, gone.seq), None)));
    changes
}

impl Store {
    /// Opens the store in `place` and tells up to where it has folded the book; a store that is damaged, or of another book or form, is made anew.
    pub(crate) fn open(place: &StatePlace, book: &str, partitions: u16) -> Result<(Self, Vec<Reached>), StoreError> {
        let opened = place.open().map(|state| Self { place: place.clone(), state }).map_err(StoreError::from);
        let read = opened.and_then(|store| Ok((store.header()?, store)));
        let store = match read {
            Ok((header, store)) if header.format == format() && header.book == book && header.reached.len() == usize::from(partitions) => {
                return Ok((store, header.reached));
            }
            Ok((header, store)) if header == Header::default() => store,
            Ok((_, store)) => store.wipe()?,
            Err(error) if error.is_damage() => {
                place.wipe()?;
                Self { place: place.clone(), state: place.open()? }
            }
            Err(error) => return Err(error),
        };
        let reached = vec![Reached::default(); usize::from(partitions)];
        let header = Header { format: format(), book: book.into(), reached: reached.clone() };
        store.state.write(&mut std::iter::once(header.change()))?;
        Ok((store, reached))
    }

    /// The store anew, empty.
    pub(crate) fn wipe(self) -> Result<Self, StoreError> {
        let Self { place, state } = self;
        drop(state);
        place.wipe()?;
        Ok(Self { state: place.open()?, place })
    }

    fn header(&self) -> Result<Header, StoreError> {
        let bytes = self.state.get(Space::Meta, HEADER)?;
        // A header that can't be read is of another form.
        Ok(bytes.and_then(|bytes| postcard::from_bytes(&bytes).ok()).unwrap_or_default())
    }

    pub(crate) fn account(&self, key: &AccountKey) -> Result<Option<Account>, StoreError> {
        let key = key.name();
        let Some(bytes) = self.state.get(Space::Accounts, key.as_bytes())? else { return Ok(None) };
        let corrupt = |source| StoreError::Corrupt { key: key.clone(), source };
        let mut account: Account = postcard::from_bytes(&bytes).map_err(corrupt)?;
        for (_, bytes) in self.state.under(Space::Purchases, &[key.as_bytes(), &[0]].concat())? {
            account.purchases.push(Arc::new(postcard::from_bytes(&bytes).map_err(corrupt)?));
        }
        Ok(Some(account))
    }

    pub(crate) fn used_id(&self, key: &CommandKey) -> Result<Option<UsedId>, StoreError> {
        Ok(self.state.get(Space::Ids, key)?.and_then(|bytes| UsedId::from_bytes(&bytes)))
    }

    /// All accounts with something due, and when.
    pub(crate) fn all_due(&self) -> Result<Vec<(AccountKey, Moment)>, StoreError> {
        let mut all = Vec::new();
        for (key, value) in self.state.under(Space::Due, &[])? {
            let key = std::str::from_utf8(&key).ok().and_then(|key| key.split_once('/'));
            let key = key.and_then(|(program, account)| Some(AccountKey { program: Id::parse(program).ok()?, account: Id::parse(account).ok()? }));
            let at = value.as_slice().try_into().ok().and_then(|bytes| Moment::from_micros(i64::from_be_bytes(bytes)));
            all.extend(key.zip(at));
        }
        Ok(all)
    }

    /// All accounts that were stopped, and why.
    pub(crate) fn all_stopped(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = self.state.under(Space::Meta, STOPPED)?;
        Ok(all.iter().filter_map(|(key, why)| Some((text(key.strip_prefix(STOPPED)?), text(why)))).collect())
    }

    /// Whether one thread does all there is, in an order that a seed gives.
    pub(crate) fn is_simulated(&self) -> bool {
        matches!(self.place, StatePlace::Home(_))
    }

    /// The error where no thread can be had for it.
    pub(crate) fn failed(&self, error: std::io::Error) -> StoreError {
        StateError::Failed { place: self.place.name(), source: Box::new(error) }.into()
    }

    /// What it takes on disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.state.disk_bytes()
    }

    pub(crate) fn write(&self, book: &str, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let Checkpoint { mut accounts, ids, reached, stopped } = checkpoint;
        let header = Header { format: format(), book: book.into(), reached }.change();
        let ids = ids.iter().filter(|_| !is_planted(Bug::DedupForgottenAtRestart));
        let mut ids: Vec<(&CommandKey, &UsedId)> = ids.collect();
        // In the order of their keys each goes where the one before it went, which the processor has at hand; else most of the time is spent looking.
        accounts.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        ids.sort_unstable_by_key(|(key, _)| **key);
        let ids = ids.into_iter().map(|(key, used)| (Space::Ids, key.to_vec(), Some(used.to_bytes().to_vec())));
        let stopped = stopped.into_iter().map(|(name, why)| (Space::Meta, [STOPPED, name.as_bytes()].concat(), Some(why.into_bytes())));
        let mut changes = accounts.into_iter().flat_map(Changed::changes).chain(ids).chain(stopped).chain([header]);
        Ok(self.state.write(&mut changes)?)
    }
}
