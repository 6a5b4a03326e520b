//! The transaction in which a read model writes.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use tokio_postgres::{Statement, Transaction};

/// What the connection has made ready, by its text: every batch needs the same.
pub(super) type Statements = Mutex<HashMap<&'static str, Statement>>;

/// A transaction in which a read model writes its rows.
pub struct Rows<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) statements: &'a Statements,
}

impl<'a> Deref for Rows<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Transaction<'a> {
        &self.transaction
    }
}

impl Rows<'_> {
    /// The statement `sql`, made ready once a connection.
    ///
    /// # Errors
    /// What the database says.
    pub async fn prepare(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.transaction.prepare(sql).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }
}
