//! What is kept: unmatched and rejected messages, each at its place in the topic, so that reading it twice keeps it once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_schemas::{Ask, What};
use tokio_postgres::{Client, NoTls};

use crate::message::ACTOR;
use crate::run::{EngineError, IntakeError};
use crate::source::{Message, Place};

mod embedded {
    refinery::embed_migrations!("../migrations/intake");
}

/// Keeps it where nobody gave it to an account before.
const UNMATCHED: &str = "
WITH decided AS (
    INSERT INTO intake.matched AS m (topic, partition, position) VALUES ($1, $2, $3)
    ON CONFLICT (topic, partition, position) DO UPDATE SET account = m.account RETURNING account
), kept AS (
    INSERT INTO intake.unmatched (topic, partition, position, program, alias, kind, command_id, ask, reason)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 FROM decided WHERE account IS NULL ON CONFLICT DO NOTHING
)
SELECT account FROM decided";

const REJECTED: &str = "
INSERT INTO intake.rejected (topic, partition, position, body, code, reason) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

const FIND: &str = "SELECT alias, account FROM alias.alias WHERE program = $1 AND alias = ANY($2)";

const KNOWN: &str = "
SELECT k.topic, k.partition, k.position, k.account
FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, position)
JOIN (SELECT topic, partition, position, NULL AS account FROM intake.unmatched
      UNION ALL SELECT topic, partition, position, NULL FROM intake.rejected
      UNION ALL SELECT topic, partition, position, account FROM intake.matched) k USING (topic, partition, position)";

const MATCHED: &str = "
INSERT INTO intake.matched AS m (topic, partition, position, account)
SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) AS u(topic, partition, position, account) ORDER BY 1, 2, 3
ON CONFLICT (topic, partition, position) DO UPDATE SET account = m.account RETURNING topic, partition, position, account";

const FORGET: &str = "DELETE FROM intake.matched WHERE matched_at < now() - interval '1 day'";

/// Gives each to its account before it is booked for it, so that it goes to no other when this ends in the middle.
const CLAIMABLE: &str = "
WITH found AS (
    SELECT u.topic, u.partition, u.position, min(a.account) AS account
    FROM intake.unmatched u JOIN alias.alias a ON a.program = u.program AND a.alias = u.alias
    WHERE u.claimed_at IS NULL AND u.account IS NULL GROUP BY 1, 2, 3 HAVING count(*) = 1 ORDER BY 1, 2, 3 LIMIT 200
), reserved AS (
    UPDATE intake.unmatched u SET account = f.account, claimed_by = $1 FROM found f
    WHERE (u.topic, u.partition, u.position) = (f.topic, f.partition, f.position) AND u.account IS NULL
    RETURNING u.topic, u.partition, u.position, u.ask, u.account
)
SELECT * FROM reserved
UNION ALL SELECT topic, partition, position, ask, account FROM intake.unmatched WHERE claimed_at IS NULL AND account IS NOT NULL AND claimed_by = $1
ORDER BY 1, 2, 3";

const CLAIMED: &str = "
UPDATE intake.unmatched SET claimed_at = now(), outcome = $4
WHERE topic = $1 AND partition = $2 AND position = $3 AND claimed_at IS NULL";

/// Something that waited and whose account is known now.
#[derive(Debug, Clone)]
pub struct Claimable {
    /// Where it stands.
    pub place: Place,
    /// The account.
    pub key: AccountKey,
    /// What is asked of it.
    pub command: Command,
}

/// A message whose account is not known.
#[derive(Debug, Clone)]
pub struct Unmatched<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// The program.
    pub program: &'a Id,
    /// How it names its account.
    pub alias: Alias,
    /// What it asks.
    pub command: &'a Command,
    /// Why it waits, in words.
    pub reason: &'a str,
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

    /// Gives messages to accounts, unless they went to others before; tells where each goes, but for those that are kept.
    ///
    /// # Errors
    /// What the engine says.
    async fn give(&self, messages: &BTreeMap<Place, Id>) -> Result<BTreeMap<Place, Id>, EngineError>;

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

    /// Keeps a message that can't be read or was refused for good, with a stable code and the reason in words.
    ///
    /// # Errors
    /// What the engine says.
    async fn keep_rejected(&self, message: &Message, code: &str, reason: &str) -> Result<(), EngineError>;

    /// What waits and whose account is known by now, in the order of the topic; from now on each is that account's.
    ///
    /// # Errors
    /// What the engine says.
    async fn claimable(&self) -> Result<Vec<Claimable>, EngineError>;

    /// Says what became of one of those: `accepted` or the code it was refused with.
    ///
    /// # Errors
    /// What the engine says.
    async fn claimed(&self, place: &Place, outcome: &str) -> Result<(), EngineError>;

    /// How many wait to be claimed; what need not be known any more is forgotten by the way.
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
}

fn place(row: &tokio_postgres::Row) -> Place {
    Place { topic: row.get(0), partition: row.get(1), offset: row.get(2) }
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

    async fn give(&self, messages: &BTreeMap<Place, Id>) -> Result<BTreeMap<Place, Id>, EngineError> {
        let (topics, partitions, positions) = columns(messages.keys());
        let accounts: Vec<&str> = messages.values().map(Id::as_str).collect();
        let rows = self.client.query(MATCHED, &[&topics, &partitions, &positions, &accounts]).await?;
        Ok(rows.iter().filter_map(|row| Some((place(row), Id::parse(row.get::<_, Option<&str>>(3)?).ok()?))).collect())
    }

    async fn accounts(&self, program: &Id, alias: Alias) -> Result<Vec<Id>, EngineError> {
        let rows = self.client.query(FIND, &[&program.as_str(), &vec![alias.0.as_slice()]]).await?;
        Ok(rows.iter().filter_map(|row| Id::parse(row.get(1)).ok()).collect())
    }

    async fn keep_unmatched(&self, unmatched: &Unmatched<'_>) -> Result<Option<Id>, EngineError> {
        let Unmatched { place: Place { topic, partition, offset }, program, alias, command, reason } = unmatched;
        // Of no account yet: any id will do.
        let key = AccountKey { program: (*program).clone(), account: command.id.clone() };
        let (kind, id) = (command.action.kind(), command.id.to_string());
        let ask = Ask { program_entries: 0, what: What::Command(key, (*command).clone()) }.encode();
        let row = self.client.query_one(UNMATCHED, &[topic, partition, offset, &program.as_str(), &alias.0.as_slice(), &kind, &id, &ask, reason]).await?;
        Ok(row.get::<_, Option<&str>>(0).and_then(|account| Id::parse(account).ok()))
    }

    async fn keep_rejected(&self, message: &Message, code: &str, reason: &str) -> Result<(), EngineError> {
        let Message { place: Place { topic, partition, offset }, body, .. } = message;
        self.client.execute(REJECTED, &[topic, partition, offset, body, &code, &reason]).await?;
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
            Some(Claimable { place, key: AccountKey { account: Id::parse(row.get(4)).ok()?, ..key }, command })
        };
        Ok(rows.iter().filter_map(claimable).collect())
    }

    async fn claimed(&self, place: &Place, outcome: &str) -> Result<(), EngineError> {
        let Place { topic, partition, offset } = place;
        self.client.execute(CLAIMED, &[topic, partition, offset, &outcome]).await?;
        Ok(())
    }

    async fn open_count(&self) -> Result<i64, EngineError> {
        self.client.execute(FORGET, &[]).await?;
        Ok(self.client.query_one("SELECT count(*) FROM intake.unmatched WHERE claimed_at IS NULL", &[]).await?.get(0))
    }
}
