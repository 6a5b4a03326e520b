//! The topic of purchases, and what intake keeps: simulated, both as misbehaving as their contracts allow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use api::AliasKey;
use async_trait::async_trait;
use event_log::Position;
use intake::{Claimable, Early, EngineError, Known, Mark, Message, Place, Refused, Source, Store, Unmatched};
use ledger_core::account::{Command, EventKind};
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_schemas::Record;
use rand::Rng;

use crate::watched::Watched;
use crate::world::World;

pub const NAME: &str = "purchases";

/// The key that names are hashed with.
pub fn aliases() -> AliasKey {
    AliasKey::from([7; 32])
}

/// A message that waits for its account, or a return that waits for its purchase.
#[derive(Clone)]
struct Waiting {
    /// None where it names its account.
    alias: Option<Alias>,
    mark: Option<Mark>,
    /// The purchase, and the code with which it was refused.
    awaits: Option<(Id, String)>,
    program: Id,
    command: Command,
    account: Option<Id>,
    outcome: Option<String>,
    /// How many rulebooks there were when it was claimed.
    rulebooks: usize,
}

#[derive(Default)]
struct Inner {
    messages: Vec<Message>,
    /// Before which all are done with.
    committed: usize,
    rejected: BTreeMap<Place, String>,
    waiting: BTreeMap<Place, Waiting>,
    /// Where messages went, by what they are known by wherever they are published; none for those that wait.
    marks: BTreeMap<Mark, Option<Id>>,
    /// Nothing more is claimed but what is in hand.
    holds: bool,
    rulebooks: usize,
    /// The next call fails.
    fails: bool,
    /// Which reader claims: one at a time.
    claims: Option<u64>,
    readers: u64,
}

/// What became of a message.
pub enum Became {
    Rejected(String),
    /// It waits, or was claimed later.
    Waits,
    /// It is a return that was refused with this code, and waits for its purchase, or was claimed later.
    Early(String),
    Booked,
}

/// One that was claimed: for whom, with which outcome, and how many rulebooks there were.
pub struct Claim {
    pub place: Place,
    pub account: Id,
    pub outcome: String,
    pub rulebooks: usize,
}

pub struct Topic {
    inner: Mutex<Inner>,
    changed: Watched<u64>,
}

impl Topic {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), changed: Watched::default() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn publish(&self, kind: &str, body: Vec<u8>) -> Place {
        let mut inner = self.inner();
        let offset = i64::try_from(inner.messages.len()).expect("a run has few messages");
        let place = Place { topic: NAME.into(), partition: 0, offset };
        inner.messages.push(Message { place: place.clone(), headers: vec![("message-type".into(), kind.as_bytes().to_vec())], body });
        drop(inner);
        self.changed.update(|n| n + 1);
        place
    }

    /// Waits until intake is done with a message.
    pub async fn done(&self, place: &Place) -> Became {
        self.changed.wait_for(|_| self.inner().committed > index(place)).await;
        let inner = self.inner();
        match inner.rejected.get(place) {
            Some(code) => Became::Rejected(code.clone()),
            None => match inner.waiting.get(place) {
                Some(Waiting { awaits: Some((_, code)), .. }) => Became::Early(code.clone()),
                Some(_) => Became::Waits,
                None => Became::Booked,
            },
        }
    }

    pub fn fail_once(&self) {
        self.inner().fails = true;
    }

    /// Whether nothing is claimed any more, from now on.
    pub fn hold(&self) -> bool {
        let mut inner = self.inner();
        inner.holds = true;
        inner.waiting.values().all(|waiting| waiting.account.is_none() || waiting.awaits.is_some() || waiting.outcome.is_some())
    }

    pub fn let_go(&self, rulebooks: usize) {
        let mut inner = self.inner();
        (inner.holds, inner.rulebooks) = (false, rulebooks);
    }

    pub fn claims(&self) -> Vec<Claim> {
        let inner = self.inner();
        let claim = |(place, waiting): (&Place, &Waiting)| {
            let Waiting { account, outcome, rulebooks, .. } = waiting.clone();
            Some(Claim { place: place.clone(), account: account?, outcome: outcome?, rulebooks })
        };
        inner.waiting.iter().filter_map(claim).collect()
    }

    /// Where a message went that names its account otherwise.
    pub fn matched(&self, mark: &Mark) -> Option<Id> {
        self.inner().marks.get(mark).cloned().flatten()
    }

    pub fn rejected(&self) -> BTreeMap<Place, String> {
        self.inner().rejected.clone()
    }

    /// Something that waits and could be booked.
    pub fn unclaimed(&self, world: &World) -> Option<Place> {
        let waiting: Vec<(Place, Waiting)> = self.inner().waiting.clone().into_iter().filter(|(_, waiting)| waiting.outcome.is_none()).collect();
        waiting.into_iter().find(|(_, waiting)| waiting.may_be_booked(world)).map(|(place, _)| place)
    }
}

impl Waiting {
    fn may_be_booked(&self, world: &World) -> bool {
        match (&self.awaits, &self.account, self.alias) {
            (Some((purchase, _)), Some(account), _) => has_purchase(world, &AccountKey { program: self.program.clone(), account: account.clone() }, purchase),
            (None, _, Some(alias)) => accounts(world, alias).len() == 1,
            _ => false,
        }
    }
}

fn index(place: &Place) -> usize {
    usize::try_from(place.offset).expect("offsets begin with 0")
}

/// Who has this name, as far as the book is seen.
fn accounts(world: &World, alias: Alias) -> BTreeSet<AccountKey> {
    let ends = world.seen_ends();
    let inner = world.inner();
    let mut accounts = BTreeSet::new();
    for (records, end) in inner.records.iter().zip(ends) {
        for entry in records.iter().take_while(|entry| entry.position < end as Position) {
            let Ok(record) = Record::decode(&entry.body) else { continue };
            for event in &record.events {
                match &event.kind {
                    EventKind::AliasAdded(added) if *added == alias => drop(accounts.insert(record.key.clone())),
                    EventKind::AliasRemoved(removed) if *removed == alias => drop(accounts.remove(&record.key)),
                    _ => {}
                }
            }
        }
    }
    accounts
}

/// Whether the account has this purchase, as far as the book is seen.
fn has_purchase(world: &World, key: &AccountKey, purchase: &Id) -> bool {
    let ends = world.seen_ends();
    let inner = world.inner();
    inner.records.iter().zip(ends).any(|(records, end)| {
        let seen = records.iter().take_while(|entry| entry.position < end as Position).filter_map(|entry| Record::decode(&entry.body).ok());
        seen.filter(|record| record.key == *key).flat_map(|record| record.events).any(|event| match &event.kind {
            EventKind::PointsEarned(earned) => earned.purchase.purchase_id == *purchase,
            _ => false,
        })
    })
}

/// A connection, with the lock that goes with it.
struct Connection {
    topic: Arc<Topic>,
    id: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut inner = self.topic.inner();
        inner.claims = inner.claims.filter(|id| *id != self.id);
    }
}

/// A process that reads the topic and keeps what it can't book.
#[derive(Clone)]
pub struct Reader {
    topic: Arc<Topic>,
    world: Arc<World>,
    position: usize,
    connection: Arc<Connection>,
}

impl Reader {
    pub fn new(topic: &Arc<Topic>, world: &Arc<World>) -> Self {
        let mut inner = topic.inner();
        inner.readers += 1;
        let connection = Arc::new(Connection { topic: Arc::clone(topic), id: inner.readers });
        Self { position: inner.committed, topic: Arc::clone(topic), world: Arc::clone(world), connection }
    }

    /// Every call takes its time, and fails where it is to.
    async fn call(&self) -> Result<MutexGuard<'_, Inner>, EngineError> {
        let us = self.world.inner().rng.random_range(10..3000);
        tokio::time::sleep(Duration::from_micros(us)).await;
        let mut inner = self.topic.inner();
        if std::mem::take(&mut inner.fails) { Err("simulated: the connection is gone".into()) } else { Ok(inner) }
    }
}

#[async_trait]
impl Source for Reader {
    async fn next(&mut self) -> Result<Vec<Message>, EngineError> {
        self.topic.changed.wait_for(|_| self.topic.inner().messages.len() > self.position).await;
        let count = self.world.inner().rng.random_range(1..6);
        let messages: Vec<Message> = self.topic.inner().messages.iter().skip(self.position).take(count).cloned().collect();
        self.position += messages.len();
        Ok(messages)
    }

    async fn commit(&mut self, messages: &[Place]) -> Result<(), EngineError> {
        let next = messages.iter().map(|place| index(place) + 1).max().unwrap_or_default();
        // What happens before it is done makes everything come again.
        let ms = self.world.inner().rng.random_range(0..400);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let mut inner = self.call().await?;
        inner.committed = inner.committed.max(next);
        drop(inner);
        self.topic.changed.update(|n| n + 1);
        Ok(())
    }
}

#[async_trait]
impl Store for Reader {
    async fn known(&self, places: &[Place]) -> Result<BTreeMap<Place, Known>, EngineError> {
        let inner = self.call().await?;
        let is_kept = |place: &&Place| inner.rejected.contains_key(place) || inner.waiting.contains_key(place);
        Ok(places.iter().filter(is_kept).map(|place| (place.clone(), Known::Kept)).collect())
    }

    async fn give(&self, messages: &BTreeMap<Mark, Id>) -> Result<BTreeMap<Mark, Id>, EngineError> {
        let mut inner = self.call().await?;
        let mut give = |(mark, account): (&Mark, &Id)| {
            let given = inner.marks.entry(*mark).or_insert_with(|| Some(account.clone()));
            Some((*mark, given.clone()?))
        };
        Ok(messages.iter().filter_map(&mut give).collect())
    }

    async fn accounts(&self, program: &Id, alias: Alias) -> Result<Vec<Id>, EngineError> {
        drop(self.call().await?);
        Ok(accounts(&self.world, alias).into_iter().filter(|key| key.program == *program).map(|key| key.account).collect())
    }

    async fn keep_unmatched(&self, unmatched: &Unmatched<'_>) -> Result<Option<Id>, EngineError> {
        let Unmatched { place, mark, program, alias, command, .. } = unmatched;
        let waiting = Waiting {
            alias: Some(*alias),
            mark: Some(*mark),
            awaits: None,
            program: (*program).clone(),
            command: (*command).clone(),
            account: None,
            outcome: None,
            rulebooks: 0,
        };
        let mut inner = self.call().await?;
        let given = inner.marks.entry(*mark).or_default().clone();
        if given.is_none() {
            inner.waiting.entry((*place).clone()).or_insert(waiting);
        }
        Ok(given)
    }

    async fn keep_early(&self, early: &Early<'_>) -> Result<(), EngineError> {
        let Early { place, key, command, purchase, refused } = early;
        let waiting = Waiting {
            alias: None,
            mark: None,
            awaits: None,
            program: key.program.clone(),
            command: (*command).clone(),
            account: Some(key.account.clone()),
            outcome: None,
            rulebooks: 0,
        };
        let mut inner = self.call().await?;
        let waiting = inner.waiting.entry((*place).clone()).or_insert(waiting);
        if waiting.outcome.is_none() {
            waiting.awaits = Some(((*purchase).clone(), refused.code.clone()));
        }
        Ok(())
    }

    async fn keep_rejected(&self, message: &Message, code: &str, _: &str) -> Result<(), EngineError> {
        self.call().await?.rejected.entry(message.place.clone()).or_insert_with(|| code.to_owned());
        Ok(())
    }

    async fn claimable(&self) -> Result<Vec<Claimable>, EngineError> {
        let mut inner = self.call().await?;
        if *inner.claims.get_or_insert(self.connection.id) != self.connection.id {
            return Ok(Vec::new());
        }
        let Inner { holds, waiting, marks, .. } = &mut *inner;
        let mut claimable = Vec::new();
        for (place, waiting) in waiting.iter_mut().filter(|(_, waiting)| waiting.outcome.is_none()) {
            let awaited = waiting.awaits.is_some();
            if awaited && (*holds || !waiting.may_be_booked(&self.world)) {
                continue;
            }
            if let (None, Some(alias), false) = (&waiting.account, waiting.alias, *holds) {
                let found = accounts(&self.world, alias);
                let own = found.first().filter(|_| found.len() == 1).map(|key| key.account.clone());
                let mark = waiting.mark.and_then(|mark| marks.get_mut(&mark));
                waiting.account = own.map(|own| mark.map_or(own.clone(), |mark| mark.get_or_insert(own).clone()));
            }
            if let Some(account) = &waiting.account {
                let key = AccountKey { program: waiting.program.clone(), account: account.clone() };
                claimable.push(Claimable { place: place.clone(), key, command: waiting.command.clone(), awaited });
            }
        }
        Ok(claimable)
    }

    async fn claimed(&self, place: &Place, refused: Option<&Refused>) -> Result<(), EngineError> {
        let mut inner = self.call().await?;
        let rulebooks = inner.rulebooks;
        if let Some(waiting) = inner.waiting.get_mut(place).filter(|waiting| waiting.outcome.is_none()) {
            let outcome = refused.map_or("accepted", |refused| &refused.code);
            (waiting.outcome, waiting.rulebooks) = (Some(outcome.to_owned()), rulebooks);
        }
        Ok(())
    }

    async fn done(&self, _: &[Place]) -> Result<(), EngineError> {
        Ok(())
    }

    async fn open_count(&self) -> Result<i64, EngineError> {
        let open = self.call().await?.waiting.values().filter(|waiting| waiting.outcome.is_none()).count();
        Ok(i64::try_from(open)?)
    }
}
