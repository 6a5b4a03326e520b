//! By which other names accounts can be found.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ledger_core::account::EventKind;
use ledger_core::id::{AccountKey, Alias};

use crate::runtime::{Placed, ReadModel, Rows};

mod embedded {
    refinery::embed_migrations!("../migrations/alias");
}

const ADD: &str = "
INSERT INTO alias (program, account, alias, added_at) SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[])
ON CONFLICT (program, alias, account) DO UPDATE SET added_at = excluded.added_at";

const REMOVE: &str = "
DELETE FROM alias a USING unnest($1::text[], $2::text[], $3::bytea[]) AS u(program, account, alias)
WHERE a.program = u.program AND a.account = u.account AND a.alias = u.alias";

pub(crate) struct Aliases;

/// What becomes of each: since when it is there, or none where it is removed.
type Changes<'a> = BTreeMap<(&'a AccountKey, Alias), Option<DateTime<Utc>>>;

fn fold(records: &[Placed]) -> Changes<'_> {
    let mut changes = Changes::new();
    for record in records.iter().map(|placed| &placed.record) {
        for event in &record.events {
            match &event.kind {
                EventKind::AliasAdded(alias) => drop(changes.insert((&record.key, *alias), Some(event.at.timestamp()))),
                EventKind::AliasRemoved(alias) => drop(changes.insert((&record.key, *alias), None)),
                _ => {}
            }
        }
    }
    changes
}

#[async_trait]
impl ReadModel for Aliases {
    fn name(&self) -> &'static str {
        "alias"
    }

    fn migrations(&self) -> refinery::Runner {
        embedded::migrations::runner()
    }

    async fn apply(&self, transaction: &Rows<'_>, records: &[Placed]) -> Result<(), tokio_postgres::Error> {
        let changes = fold(records);
        for (sql, is_there) in [(ADD, true), (REMOVE, false)] {
            let (mut programs, mut accounts, mut aliases, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for ((key, alias), at) in changes.iter().filter(|(_, at)| at.is_some() == is_there) {
                programs.push(key.program.as_str());
                accounts.push(key.account.as_str());
                aliases.push(alias.0.as_slice());
                times.extend(*at);
            }
            if programs.is_empty() {
                continue;
            }
            if is_there {
                transaction.execute(sql, &[&programs, &accounts, &aliases, &times]).await?;
            } else {
                transaction.execute(sql, &[&programs, &accounts, &aliases]).await?;
            }
        }
        Ok(())
    }
}
