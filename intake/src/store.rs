//! What is kept: unmatched and rejected messages, each at its place in the topic, so that reading it twice keeps it once.

use ledger_core::account::Command;
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_schemas::{Ask, What};
use tokio_postgres::{Client, NoTls};

use crate::run::IntakeError;

mod embedded {
    refinery::embed_migrations!("../migrations/intake");
}

const UNMATCHED: &str = "
INSERT INTO intake.unmatched (topic, partition, position, program, alias, kind, command_id, ask, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";

const REJECTED: &str = "
INSERT INTO intake.rejected (topic, partition, position, body, code, reason) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";

const FIND: &str = "SELECT alias, account FROM alias.alias WHERE program = $1 AND alias = ANY($2)";

const CLAIMABLE: &str = "
SELECT u.topic, u.partition, u.position, u.ask, min(a.account)
FROM intake.unmatched u JOIN alias.alias a ON a.program = u.program AND a.alias = u.alias
WHERE u.claimed_at IS NULL GROUP BY u.topic, u.partition, u.position, u.ask HAVING count(*) = 1
ORDER BY u.topic, u.partition, u.position LIMIT 200";

const CLAIMED: &str = "
UPDATE intake.unmatched SET claimed_at = now(), claimed_by = $4, account = $5, outcome = $6
WHERE topic = $1 AND partition = $2 AND position = $3 AND claimed_at IS NULL";

/// Where a message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Something that waited and whose account is known now.
pub(crate) struct Claimable {
    pub(crate) place: Place,
    pub(crate) key: AccountKey,
    pub(crate) command: Command,
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

pub(crate) struct Store(Client);

impl Store {
    pub(crate) async fn open(url: &str) -> Result<Self, IntakeError> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the database ended");
            }
        });
        Ok(Self(client))
    }

    /// The accounts that have `alias`.
    pub(crate) async fn accounts(&self, program: &Id, alias: Alias) -> Result<Vec<Id>, IntakeError> {
        let rows = self.0.query(FIND, &[&program.as_str(), &vec![alias.0.as_slice()]]).await?;
        Ok(rows.iter().filter_map(|row| Id::parse(row.get(1)).ok()).collect())
    }

    pub(crate) async fn keep_unmatched(&self, place: &Place, alias: Alias, program: &Id, command: &Command, reason: &str) -> Result<(), IntakeError> {
        // Of no account yet: any id will do.
        let key = AccountKey { program: program.clone(), account: command.id.clone() };
        let (kind, id) = (command.action.kind(), command.id.to_string());
        let ask = Ask { program_entries: 0, what: What::Command(key, command.clone()) }.encode();
        let Place { topic, partition, offset } = place;
        self.0.execute(UNMATCHED, &[topic, partition, offset, &program.as_str(), &alias.0.as_slice(), &kind, &id, &ask, &reason]).await?;
        Ok(())
    }

    pub(crate) async fn keep_rejected(&self, place: &Place, body: &[u8], code: &str, reason: &str) -> Result<(), IntakeError> {
        let Place { topic, partition, offset } = place;
        self.0.execute(REJECTED, &[topic, partition, offset, &body, &code, &reason]).await?;
        Ok(())
    }

    pub(crate) async fn claimable(&self) -> Result<Vec<Claimable>, IntakeError> {
        let rows = self.0.query(CLAIMABLE, &[]).await?;
        let claimable = |row: &tokio_postgres::Row| {
            let place = Place { topic: row.get(0), partition: row.get(1), offset: row.get(2) };
            let What::Command(key, command) = Ask::decode(row.get(3)).ok()?.what else { return None };
            Some(Claimable { place, key: AccountKey { account: Id::parse(row.get(4)).ok()?, ..key }, command })
        };
        Ok(rows.iter().filter_map(claimable).collect())
    }

    pub(crate) async fn claimed(&self, place: &Place, by: &str, account: &Id, outcome: &str) -> Result<(), IntakeError> {
        let Place { topic, partition, offset } = place;
        self.0.execute(CLAIMED, &[topic, partition, offset, &by, &account.as_str(), &outcome]).await?;
        Ok(())
    }

    /// How many wait to be claimed.
    pub(crate) async fn open_count(&self) -> Result<i64, IntakeError> {
        Ok(self.0.query_one("SELECT count(*) FROM intake.unmatched WHERE claimed_at IS NULL", &[]).await?.get(0))
    }
}
