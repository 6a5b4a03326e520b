//! A projector's tables in memory: the balance read model's rows, cursors and checkpoints, changed whole or not at all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use event_log::{Partition, Position};
use projectors::{EngineError, Placed, Run, Tables, TablesChange, fold_balance};

/// A balance row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub status: &'static str,
    pub totals: Vec<i64>,
    pub earned: i64,
    pub position: u64,
    pub lots: BTreeMap<u32, LotRow>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LotRow {
    pub points: i64,
    pub remaining: i64,
    pub held: i64,
    pub pending: bool,
    pub expires_us: Option<i64>,
    pub expiry_moves: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cursor {
    pub seq: i64,
    pub poison: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data {
    pub rows: BTreeMap<String, Row>,
    pub cursors: BTreeMap<String, Cursor>,
    pub checkpoints: Vec<Position>,
}

impl Data {
    pub fn new(partitions: u16) -> Self {
        Self { checkpoints: vec![0; usize::from(partitions)], ..Self::default() }
    }

    /// As the SQL of the balance read model does it.
    fn write(&mut self, records: &[Placed]) {
        let changes = fold_balance(records);
        for ((program, account), change) in changes {
            let row = self.rows.entry(format!("{program}/{account}")).or_default();
            if let Some(at) = change.expiry_moved {
                row.lots.values_mut().filter(|lot| lot.expiry_moves).for_each(|lot| lot.expires_us = lot.expires_us.max(Some(at.as_micros())));
            }
            if let Some(status) = change.status {
                row.status = status.name();
            }
            row.totals.resize(change.totals.len(), 0);
            row.totals.iter_mut().zip(change.totals).for_each(|(total, more)| *total += more);
            row.earned += change.earned;
            row.position = change.position;
            for (id, change) in change.lots {
                let is_new = !row.lots.contains_key(&id);
                let lot = row.lots.entry(id).or_default();
                if is_new {
                    lot.points = change.points;
                    lot.expires_us = change.expires_at.map(ledger_core::time::Moment::as_micros);
                    lot.expiry_moves = change.expiry_moves;
                }
                lot.remaining += change.remaining;
                lot.held += change.held;
                lot.pending = change.pending.unwrap_or(lot.pending);
            }
        }
    }
}

/// A handle on them.
#[derive(Clone)]
pub struct MemoryTables {
    pub data: Arc<Mutex<Data>>,
    /// The next change fails as it is written.
    pub fails: Arc<AtomicBool>,
}

impl MemoryTables {
    pub fn new(partitions: u16) -> Self {
        Self { data: Arc::new(Mutex::new(Data::new(partitions))), fails: Arc::default() }
    }

    pub fn data(&self) -> Data {
        self.data.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

struct MemoryChange<'a> {
    tables: &'a MemoryTables,
    data: Data,
}

#[async_trait]
impl Tables for MemoryTables {
    async fn begin(&mut self) -> Result<Box<dyn TablesChange + '_>, EngineError> {
        Ok(Box::new(MemoryChange { data: self.data(), tables: self }))
    }

    async fn positions(&mut self) -> Result<Vec<Position>, EngineError> {
        Ok(self.data().checkpoints)
    }

    async fn mend(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

#[async_trait]
impl TablesChange for MemoryChange<'_> {
    async fn move_checkpoint(&mut self, partition: Partition, from: Position, to: Position) -> Result<bool, EngineError> {
        let checkpoint = &mut self.data.checkpoints[usize::from(partition)];
        let follows = *checkpoint == from;
        if follows {
            *checkpoint = to;
        }
        Ok(follows)
    }

    async fn move_cursors(&mut self, runs: &BTreeMap<String, Run>) -> Result<Vec<(String, String)>, EngineError> {
        let mut refused = Vec::new();
        for (account, run) in runs {
            let cursor = self.data.cursors.entry(account.clone()).or_default();
            if cursor.poison.is_none() && cursor.seq == run.first - 1 {
                cursor.seq = run.last;
            } else {
                refused.push((account.clone(), format!("record {} follows record {}", run.first, cursor.seq)));
            }
        }
        Ok(refused)
    }

    async fn stop(&mut self, poison: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError> {
        let mut stopped = Vec::new();
        for (account, why) in poison {
            let cursor = self.data.cursors.entry(account.clone()).or_default();
            if cursor.poison.is_none() {
                cursor.poison = Some(why.clone());
                stopped.push(account.clone());
            }
        }
        Ok(stopped)
    }

    async fn write(&mut self, records: &[Placed]) -> Result<(), EngineError> {
        // A moment in which the projector can be killed.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        if self.tables.fails.swap(false, Ordering::Relaxed) {
            return Err("simulated: the connection is gone".into());
        }
        self.data.write(records);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<(), EngineError> {
        *self.tables.data.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = self.data;
        Ok(())
    }
}
