//! The projector `balance` beside a bare batched upsert of the same rows.

use std::sync::Arc;
use std::time::Instant;

use event_log::EventLog;
use event_log::postgres::PostgresLog;
use projectors::{Projector, bare_upserts, read_model};

use super::{Figure, rate, ratio};

/// Measures over the log that is in the database at `url`.
pub async fn run(url: &str) -> anyhow::Result<Vec<Figure>> {
    let log: Arc<dyn EventLog> = Arc::new(PostgresLog::open(url, 8, None).await?);
    let records = log.ends().await?.into_iter().sum();
    let model = read_model("balance").ok_or_else(|| anyhow::anyhow!("there is a balance"))?;
    let mut projector = Projector::open(model, Arc::clone(&log), url).await?;
    let begin = Instant::now();
    projector.catch_up().await?;
    let ours = rate(records, begin.elapsed().as_secs_f64());
    let bare = rate(records, bare_upserts(&*log, url).await.map_err(anyhow::Error::from_boxed)?.as_secs_f64());
    let to_bare = ratio(ours, bare);
    Ok(vec![
        Figure::new("projector balance, records", format!("{ours:.0}/s"), ""),
        Figure::new("  to a bare batched UNNEST upsert of the same rows", format!("{to_bare:.2} of {bare:.0}/s"), "0.7"),
    ])
}
