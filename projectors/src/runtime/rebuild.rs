//! Rebuild: beside the old one, switched when caught up, without a moment of missing data.

use std::sync::Arc;

use event_log::EventLog;
use event_log::postgres::connect;

use super::error::{ProjectorError, failed};
use super::project::Projector;
use super::read_model::ReadModel;

/// Builds `model` anew from the log and puts it in the old one's place; `progress` hears how many records were applied.
///
/// # Errors
/// What Postgres or the log says; the old one stays in use then.
pub async fn rebuild(model: Arc<dyn ReadModel>, log: Arc<dyn EventLog>, url: &str, mut progress: impl FnMut(u64)) -> Result<u64, ProjectorError> {
    let name = model.name();
    let next = format!("{name}_next");
    let mut client = connect(url, "public").await.map_err(failed(name, "connect"))?;
    let drop_next = format!("SET client_min_messages = warning; DROP SCHEMA IF EXISTS {next} CASCADE");
    client.batch_execute(&drop_next).await.map_err(failed(name, "drop an unfinished rebuild"))?;
    let mut projector = Projector::open_in(Arc::clone(&model), Arc::clone(&log), url, &next).await?;
    let mut count = 0;
    loop {
        loop {
            let applied = projector.step().await? as u64;
            count += applied;
            progress(count);
            if applied == 0 {
                break;
            }
        }
        let transaction = client.transaction().await.map_err(failed(name, "begin"))?;
        // The old one's projector waits here, so nobody can be ahead of the new one when it takes its place.
        let locked = format!("SELECT position FROM {name}.checkpoint ORDER BY partition FOR UPDATE");
        let old = transaction.query(&locked, &[]).await.map_err(failed(name, "lock the old one"))?;
        // An old one that is ahead of the log, which has lost records, is waited for in vain.
        let ends = log.ends().await?;
        let old = old.iter().map(|row| row.get::<_, i64>(0).unsigned_abs());
        let behind = old.zip(projector.positions()).zip(ends).any(|((old, position), end)| old.min(end) > *position);
        if behind {
            continue;
        }
        let switch = format!("ALTER SCHEMA {name} RENAME TO {name}_old; ALTER SCHEMA {next} RENAME TO {name}; DROP SCHEMA {name}_old CASCADE");
        transaction.batch_execute(&switch).await.map_err(failed(name, "switch to the new one"))?;
        transaction.commit().await.map_err(failed(name, "commit the switch"))?;
        return Ok(count);
    }
}
