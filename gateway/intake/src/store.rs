//! What is kept: unmatched and rejected messages, each at its place in the topic, so that reading it twice keeps it once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_schemas::{Ask, What};
use tokio_postgres::{Client, NoTls};

use crate::error::{EngineError, IntakeError};
use crate::mask::{Masked, mask};
use crate::message::ACTOR;
use crate::source::{Message, Place};

mod embedded {
    refinery::embed_migrations!("../../migrations/intake");
}

/// Keeps it where nobody gave it to an account before.
const UNMATCHED: &str = "
WITH decided AS (
    INSERT INTO intake.mark AS m (mark) VALUES ($10) ON CONFLICT (mark) DO UPDATE SET account = m.account RETURNING account
), kept AS (
    INSERT INTO intake.unmatched (topic, partition, position, program, alias, kind, command_id, ask, reason, mark)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 FROM decided WHERE account IS NULL ON CONFLICT DO NOTHING
)
SELECT account FROM decided";

/// Keeps a return until its purchase is booked; one that waited for its account waits on. Nobody claims it meanwhile, also no process of an older version.
const AWAITING: &str = "
INSERT INTO intake.unmatched AS u (topic, partition, position, program, kind, command_id, ask, reason, account, awaits)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (topic, partition, position) DO UPDATE SET awaits = excluded.awaits, reason = excluded.reason, claimed_by = NULL WHERE u.claimed_at IS NULL";

const REJECTED: &str = "
INSERT INTO intake.rejected (topic, partition, position, body, code, reason, program) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";

const FIND: &str = "SELECT alias, account FROM alias.alias WHERE program = $1 AND alias = ANY($2)";

const KNOWN: &str = "
SELECT k.topic, k.partition, k.position, k.account
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, position)
JOIN (SELECT topic, partition, position, NULL AS account FROM intake.unmatched
      UNION ALL SELECT topic, partition, position, NULL FROM intake.rejected
      UNION ALL SELECT topic, partition, position, account FROM intake.matched) k USING (topic, partition, position)";

const MARKED: &str = "
INSERT INTO intake.mark AS m (mark, account) SELECT * FROM unnest($1::bytea[], $2::text[]) AS u(mark, account) ORDER BY 1
ON CONFLICT (mark) DO UPDATE SET account = m.account RETURNING mark, account";

/// Gives each to its account before it is booked for it, so that it goes to no other when this ends in the middle. Returns that wait for their
/// purchase are there once it is seen in the book.
const CLAIMABLE: &str = "
WITH found AS (
    SELECT u.topic, u.partition, u.position, coalesce(min(m.account), min(a.account)) AS account
    FROM intake.unmatched u JOIN alias.alias a ON a.program = u.program AND a.alias = u.alias LEFT JOIN intake.mark m ON m.mark = u.mark
    WHERE u.claimed_at IS NULL AND u.account IS NULL GROUP BY 1, 2, 3 HAVING count(*) = 1 ORDER BY 1, 2, 3 LIMIT 200
), reserved AS (
    UPDATE intake.unmatched u SET account = f.account, claimed_by = $1 FROM found f
    WHERE (u.topic, u.partition, u.position) = (f.topic, f.partition, f.position) AND u.account IS NULL
    RETURNING u.topic, u.partition, u.position, u.ask, u.account, u.mark
), marked AS (
    UPDATE intake.mark m SET account = r.account FROM reserved r WHERE m.mark = r.mark AND m.account IS NULL
)
SELECT topic, partition, position, ask, account, false FROM reserved
UNION ALL SELECT topic, partition, position, ask, account, false FROM intake.unmatched
    WHERE claimed_at IS NULL AND account IS NOT NULL AND claimed_by = $1 AND awaits IS NULL
UNION ALL SELECT u.topic, u.partition, u.position, u.ask, u.account, true FROM intake.unmatched u
    WHERE u.claimed_at IS NULL AND u.awaits IS NOT NULL AND EXISTS (SELECT FROM fraud.signal s
        WHERE s.program = u.program AND s.reference = u.awaits AND s.reference <> '' AND s.kind = 'earn' AND s.account = u.account)
ORDER BY 1, 2, 3";

/// What was refused is listed with what was rejected; of what waited the body is the question as it is kept, without the name of its account.
const CLAIMED: &str = "
WITH done AS (
    UPDATE intake.unmatched SET claimed_at = now(), outcome = $4
    WHERE topic = $1 AND partition = $2 AND position = $3 AND claimed_at IS NULL RETURNING topic, partition, position, ask, program
)
INSERT INTO intake.rejected (topic, partition, position, body, code, reason, program)
SELECT topic, partition, position, ask, $4, $5, program FROM done WHERE $5::text IS NOT NULL ON CONFLICT DO NOTHING";

const DONE: &str = "
INSERT INTO intake.position (topic, partition, next)
SELECT topic, partition, max(position) + 1 FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, position) GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (topic, partition) DO UPDATE SET next = excluded.next";

/// Gives up what waited for longer than a purchase takes to come. Not sooner where another account has a purchase of that id: ids are an account's own,
/// and what the fraud read model does not know yet may be in the book or on its way.
const GIVE_UP: &str = "
WITH late AS (
    SELECT topic, partition, position, program, account, awaits, reason FROM intake.unmatched
    WHERE claimed_at IS NULL AND (account IS NULL OR awaits IS NOT NULL) AND received_at < now() - make_interval(days => $1::int)
), hopeless AS (
    SELECT u.topic, u.partition, u.position,
        CASE WHEN u.awaits IS NULL THEN 'account_not_found' WHEN min(s.account) IS NULL THEN 'purchase_not_found'
            ELSE 'purchase_of_another_account' END AS code,
        'waited ' || $1::int || ' days: ' || CASE WHEN min(s.account) IS NULL THEN u.reason
            ELSE 'purchase ' || u.awaits || ' belongs to account ' || min(s.account) || ', not to ' || u.account END AS reason
    FROM late u LEFT JOIN fraud.signal s ON s.program = u.program AND s.reference = u.awaits AND s.reference <> '' AND s.kind = 'earn'
    GROUP BY 1, 2, 3, u.awaits, u.account, u.reason HAVING coalesce(bool_and(s.account <> u.account), true)
), done AS (
    UPDATE intake.unmatched u SET claimed_at = now(), outcome = h.code FROM hopeless h
    WHERE (u.topic, u.partition, u.position) = (h.topic, h.partition, h.position) AND u.claimed_at IS NULL
    RETURNING u.topic, u.partition, u.position, u.ask, h.code, h.reason, u.program
)
INSERT INTO intake.rejected (topic, partition, position, body, code, reason, program) SELECT * FROM done ON CONFLICT DO NOTHING";

/// What nobody needs any more. A message that is read again goes where its mark says.
const FORGET: &str = "
WITH done AS (DELETE FROM intake.unmatched WHERE claimed_at < now() - make_interval(days => $1::int))
DELETE FROM intake.rejected WHERE received_at < now() - make_interval(days => $1::int)";

/// How many days a message waits for its account, and a return for its purchase; and how many days what was done or rejected is kept.
const WAITS_DAYS: i32 = 90;

/// What a message that names its account by a card or a member is known by, wherever and however often it is published: a hash of its program, the
/// kind and id of what it asks, and the name.
pub type Mark = [u8; 16];

/// Something that waited and can be booked now.
#[derive(Debug, Clone)]
pub struct Claimable {
    /// Where it stands.
    pub place: Place,
    /// The account.
    pub key: AccountKey,
    /// What is asked of it.
    pub command: Command,
    /// It waited for a purchase, which is in the book by now.
    pub awaited: bool,
}

/// A message whose account is not known.
#[derive(Debug, Clone)]
pub struct Unmatched<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// What it is known by.
    pub mark: Mark,
    /// The program.
    pub program: &'a Id,
    /// How it names its account.
    pub alias: Alias,
    /// What it asks.
    pub command: &'a Command,
    /// Why it waits, in words.
    pub reason: &'a str,
}

/// A return that came before its purchase.
#[derive(Debug, Clone)]
pub struct Early<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// Its account.
    pub key: &'a AccountKey,
    /// What it asks.
    pub command: &'a Command,
    /// Of what it is a return.
    pub purchase: &'a Id,
    /// Why it waits.
    pub refused: &'a Refused,
}

/// Why something was refused for good.
#[derive(Debug, Clone)]
pub struct Refused {
    /// A stable code.
    pub code: String,
    /// In words.
    pub words: String,
}

/// What is known of a message that came before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is kept, unmatched or rejected: what becomes of it is not decided here any more.
    Kept,
    /// It went to this account.
    Matched(Id),
}

/// Where messages are kept, each once however often it comes.
#[async_trait]
pub trait Store: Send + Sync {
    /// What is known of those of `places` that came before.
    ///
    /// # Errors
    /// What the engine says.
    async fn known(&self, places: &[Place]) -> Result<BTreeMap<Place, Known>, EngineError>;

    /// Gives messages to accounts, unless they went to others before; tells where each goes, but for those that wait.
    ///
    /// # Errors
    /// What the engine says.
    async fn give(&self, messages: &BTreeMap<Mark, Id>) -> Result<BTreeMap<Mark, Id>, EngineError>;

    /// The accounts that have `alias`.
    ///
    /// # Errors
    /// What the engine says.
    async fn accounts(&self, program: &Id, alias: Alias) -> Result<Vec<Id>, EngineError>;

    /// Keeps a message until its account is known; where it went to one before, tells which, and keeps nothing.
    ///
    /// # Errors
    /// What the engine says.
    async fn keep_unmatched(&self, unmatched: &Unmatched<'_>) -> Result<Option<Id>, EngineError>;

    /// Keeps a return until its purchase is in the book.
    ///
    /// # Errors
    /// What the engine says.
    async fn keep_early(&self, early: &Early<'_>) -> Result<(), EngineError>;

    /// Keeps a message that can't be read or was refused for good, with a stable code and the reason in words.
    ///
    /// # Errors
    /// What the engine says.
    async fn keep_rejected(&self, message: &Message, code: &str, reason: &str) -> Result<(), EngineError>;

    /// What waits and can be booked by now, in the order of the topic; from now on each is its account's.
    ///
    /// # Errors
    /// What the engine says.
    async fn claimable(&self) -> Result<Vec<Claimable>, EngineError>;

    /// Says what became of one of those: it was accepted, or why not.
    ///
    /// # Errors
    /// What the engine says.
    async fn claimed(&self, place: &Place, refused: Option<&Refused>) -> Result<(), EngineError>;

    /// Keeps how far the topic was read: up to after these, in each of their partitions.
    ///
    /// # Errors
    /// What the engine says.
    async fn done(&self, places: &[Place]) -> Result<(), EngineError>;

    /// How many wait; what waits in vain is rejected by the way.
    ///
    /// # Errors
    /// What the engine says.
    async fn open_count(&self) -> Result<i64, EngineError>;
}

/// Brings the schema `intake` up to date.
///
/// # Errors
/// What Postgres says.
pub async fn migrate(url: &str) -> Result<(), IntakeError> {
    let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let connection = tokio::spawn(connection);
    client.batch_execute("SELECT pg_advisory_lock(hashtext('intake')); CREATE SCHEMA IF NOT EXISTS intake; SET search_path TO intake").await?;
    embedded::migrations::runner().run_async(&mut client).await.map_err(Box::new)?;
    drop(client);
    let _ = connection.await;
    Ok(())
}

/// One connection claims at a time, so that what one was refused another is not granted.
const LOCK: &str = "SELECT pg_try_advisory_lock(hashtext('intake claims'))";

/// The tables of the schema `intake`, and those of the aliases.
pub(crate) struct Tables {
    client: Client,
    /// Whether this connection claims, which it does to its end.
    claims: AtomicBool,
}

impl Tables {
    pub(crate) async fn open(url: &str) -> Result<Self, IntakeError> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the database ended");
            }
        });
        Ok(Self { client, claims: AtomicBool::new(false) })
    }

    /// How far each partition of `topic` was read: where the next message is.
    pub(crate) async fn positions(&self, topic: &str) -> Result<BTreeMap<i32, i64>, tokio_postgres::Error> {
        let rows = self.client.query("SELECT partition, next FROM intake.position WHERE topic = $1", &[&topic]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

fn place(row: &tokio_postgres::Row) -> Place {
    Place { topic: row.get(0), partition: row.get(1), offset: row.get(2) }
}

/// A command as it is kept while it waits.
fn ask(key: &AccountKey, command: &Command) -> Vec<u8> {
    Ask { program_entries: 0, what: What::Command(key.clone(), command.clone()) }.encode()
}

fn columns<'a>(places: impl Iterator<Item = &'a Place>) -> (Vec<&'a str>, Vec<i32>, Vec<i64>) {
    places.map(|place| (place.topic.as_str(), place.partition, place.offset)).collect()
}

#[async_trait]
impl Store for Tables {
    async fn known(&self, places: &[Place]) -> Result<BTreeMap<Place, Known>, EngineError> {
        let (topics, partitions, positions) = columns(places.iter());
        let rows = self.client.query(KNOWN, &[&topics, &partitions, &positions]).await?;
        let known = |row: &tokio_postgres::Row| {
            Some((place(row), row.get::<_, Option<&str>>(3).map_or(Some(Known::Kept), |id| Id::parse(id).ok().map(Known::Matched))?))
        };
        Ok(rows.iter().filter_map(known).collect())
    }

    async fn give(&self, messages: &BTreeMap<Mark, Id>) -> Result<BTreeMap<Mark, Id>, EngineError> {
        let marks: Vec<&[u8]> = messages.keys().map(Mark::as_slice).collect();
        let accounts: Vec<&str> = messages.values().map(Id::as_str).collect();
        let rows = self.client.query(MARKED, &[&marks, &accounts]).await?;
        let given = |row: &tokio_postgres::Row| Some((row.get::<_, &[u8]>(0).try_into().ok()?, Id::parse(row.get::<_, Option<&str>>(1)?).ok()?));
        Ok(rows.iter().filter_map(given).collect())
    }

    async fn accounts(&self, program: &Id, alias: Alias) -> Result<Vec<Id>, EngineError> {
        let rows = self.client.query(FIND, &[&program.as_str(), &vec![alias.0.as_slice()]]).await?;
        Ok(rows.iter().filter_map(|row| Id::parse(row.get(1)).ok()).collect())
    }

    async fn keep_unmatched(&self, unmatched: &Unmatched<'_>) -> Result<Option<Id>, EngineError> {
        let Unmatched { place: Place { topic, partition, offset }, mark, program, alias, command, reason } = unmatched;
        // Of no account yet: any id will do.
        let key = AccountKey { program: (*program).clone(), account: command.id.clone() };
        let (kind, id, ask) = (command.action.kind(), command.id.as_str(), ask(&key, command));
        let (alias, mark) = (alias.0.as_slice(), mark.as_slice());
        let row = self.client.query_one(UNMATCHED, &[topic, partition, offset, &program.as_str(), &alias, &kind, &id, &ask, reason, &mark]).await?;
        Ok(row.get::<_, Option<&str>>(0).and_then(|account| Id::parse(account).ok()))
    }

    async fn keep_early(&self, early: &Early<'_>) -> Result<(), EngineError> {
        let Early { place: Place { topic, partition, offset }, key, command, purchase, refused } = early;
        let (program, account, purchase) = (key.program.as_str(), key.account.as_str(), purchase.as_str());
        let (kind, id, ask) = (command.action.kind(), command.id.as_str(), ask(key, command));
        self.client.execute(AWAITING, &[topic, partition, offset, &program, &kind, &id, &ask, &refused.words, &account, &purchase]).await?;
        Ok(())
    }

    async fn keep_rejected(&self, message: &Message, code: &str, reason: &str) -> Result<(), EngineError> {
        let Message { place: Place { topic, partition, offset }, body, .. } = message;
        let Masked { body, reason, program } = mask(body, reason);
        let program = program.as_ref().map(Id::as_str);
        self.client.execute(REJECTED, &[topic, partition, offset, &body, &code, &reason, &program]).await?;
        Ok(())
    }

    async fn claimable(&self) -> Result<Vec<Claimable>, EngineError> {
        if !self.claims.load(Ordering::Relaxed) {
            let is_free: bool = self.client.query_one(LOCK, &[]).await?.get(0);
            self.claims.store(is_free, Ordering::Relaxed);
            if !is_free {
                return Ok(Vec::new());
            }
        }
        let rows = self.client.query(CLAIMABLE, &[&ACTOR]).await?;
        let claimable = |row: &tokio_postgres::Row| {
            let place = place(row);
            let What::Command(key, command) = Ask::decode(row.get(3)).ok()?.what else { return None };
            Some(Claimable { place, key: AccountKey { account: Id::parse(row.get(4)).ok()?, ..key }, command, awaited: row.get(5) })
        };
        Ok(rows.iter().filter_map(claimable).collect())
    }

    async fn claimed(&self, place: &Place, refused: Option<&Refused>) -> Result<(), EngineError> {
        let Place { topic, partition, offset } = place;
        let (outcome, words) = (refused.map_or("accepted", |refused| &refused.code), refused.map(|refused| &refused.words));
        self.client.execute(CLAIMED, &[topic, partition, offset, &outcome, &words]).await?;
        Ok(())
    }

    async fn done(&self, places: &[Place]) -> Result<(), EngineError> {
        let (topics, partitions, positions) = columns(places.iter());
        self.client.execute(DONE, &[&topics, &partitions, &positions]).await?;
        Ok(())
    }

    async fn open_count(&self) -> Result<i64, EngineError> {
        if self.claims.load(Ordering::Relaxed) {
            self.client.execute(GIVE_UP, &[&WAITS_DAYS]).await?;
            self.client.execute(FORGET, &[&WAITS_DAYS]).await?;
        }
        Ok(self.client.query_one("SELECT count(*) FROM intake.unmatched WHERE claimed_at IS NULL", &[]).await?.get(0))
    }
}
