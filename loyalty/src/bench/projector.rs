//! The projectors, each beside a bare batched write of the same rows: what a batch of theirs wrote, written again by one statement a table.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event_log::EventLog;
use event_log::postgres::{PostgresLog, connect};
use projectors::{Projector, read_models};
use tokio_postgres::Client;

use super::{Figure, rate, ratio};

/// So many records are enough to tell.
const RECORDS: u64 = 200_000;

/// Measures over the log that is in the database at `url`.
pub async fn run(url: &str) -> anyhow::Result<Vec<Figure>> {
    let log: Arc<dyn EventLog> = Arc::new(PostgresLog::open(url, 8, None).await?);
    let mut figures = Vec::new();
    for model in read_models() {
        let name = model.name();
        let mut projector = Projector::open(model, Arc::clone(&log), url).await?;
        let mut rows = Rows::open(url, name).await?;
        let (mut records, mut time) = (0, Duration::ZERO);
        while records < RECORDS {
            let since = rows.now().await?;
            let begin = Instant::now();
            let count = projector.step().await?;
            time += begin.elapsed();
            if count == 0 {
                break;
            }
            records += count as u64;
            rows.keep_since(since).await?;
        }
        let ours = rate(records, time.as_secs_f64());
        figures.push(Figure::new(&format!("projector {name}, records"), format!("{ours:.0}/s"), ""));
        let Some(bare) = rows.write_again().await? else { continue };
        let bare = rate(records, bare.as_secs_f64());
        let target = if name == "balance" { "0.7" } else { "0.6" };
        figures.push(Figure::new("  to a bare batched write of the same rows", format!("{:.2} of {bare:.0}/s", ratio(ours, bare)), target));
    }
    Ok(figures)
}

/// What a read model's transactions wrote.
struct Rows {
    client: Client,
    schema: &'static str,
    tables: Vec<RowsOf>,
}

struct RowsOf {
    name: String,
    columns: String,
    /// What follows a bare insert, so that it changes rows that are there.
    upsert: String,
}

impl Rows {
    async fn open(url: &str, schema: &'static str) -> anyhow::Result<Self> {
        let client = connect(url, schema).await?;
        client.batch_execute("DROP SCHEMA IF EXISTS kept CASCADE; DROP SCHEMA IF EXISTS bare CASCADE; CREATE SCHEMA kept; CREATE SCHEMA bare").await?;
        let sql = "SELECT c.table_name::text, string_agg(quote_ident(c.column_name), ', ' ORDER BY c.ordinal_position),
                          coalesce('ON CONFLICT (' || string_agg(quote_ident(c.column_name), ', ' ORDER BY k.n) FILTER (WHERE k.n IS NOT NULL) || ') DO UPDATE SET '
                              || string_agg(format('%1$I = excluded.%1$I', c.column_name), ', ') FILTER (WHERE k.n IS NULL), '')
                   FROM information_schema.columns c
                   LEFT JOIN (SELECT i.indrelid, a.attname, array_position(i.indkey::int2[], a.attnum) AS n FROM pg_index i
                              JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) WHERE i.indisprimary) k
                     ON k.indrelid = format('%I.%I', c.table_schema, c.table_name)::regclass AND k.attname = c.column_name
                   WHERE c.table_schema = $1 AND c.table_name NOT IN ('checkpoint', 'cursor', 'refinery_schema_history')
                     AND c.table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = $1)
                   GROUP BY 1 ORDER BY 1";
        let tables = client.query(sql, &[&schema]).await?;
        let tables: Vec<RowsOf> = tables.iter().map(|row| RowsOf { name: row.get(0), columns: row.get(1), upsert: row.get(2) }).collect();
        for RowsOf { name, .. } in &tables {
            let sql = format!(
                "CREATE UNLOGGED TABLE kept.{name} AS SELECT 0::bigint AS batch, * FROM {schema}.{name} LIMIT 0; CREATE INDEX ON kept.{name} (batch);
                 CREATE TABLE bare.{name} (LIKE {schema}.{name} INCLUDING ALL)"
            );
            client.batch_execute(&sql).await?;
        }
        Ok(Self { client, schema, tables })
    }

    /// A transaction's number, lower than those that begin later.
    async fn now(&self) -> anyhow::Result<i64> {
        Ok(self.client.query_one("SELECT pg_current_xact_id()::text::bigint", &[]).await?.get(0))
    }

    /// Keeps what was written after transaction `since`, by transaction.
    async fn keep_since(&mut self, since: i64) -> anyhow::Result<()> {
        for RowsOf { name, .. } in &self.tables {
            let sql = format!("INSERT INTO kept.{name} SELECT xmin::text::bigint, * FROM {}.{name} WHERE xmin::text::bigint > $1", self.schema);
            self.client.execute(&sql, &[&since]).await?;
        }
        Ok(())
    }

    /// Writes it all into empty tables that are alike; tells how long that takes, if there is anything.
    async fn write_again(self) -> anyhow::Result<Option<Duration>> {
        let all = self.tables.iter().map(|table| format!("SELECT batch FROM kept.{}", table.name)).collect::<Vec<_>>().join(" UNION ALL ");
        let batches: Vec<i64> =
            self.client.query(&format!("SELECT DISTINCT batch FROM ({all}) b ORDER BY 1"), &[]).await?.iter().map(|row| row.get(0)).collect();
        if batches.is_empty() {
            return Ok(None);
        }
        let mut statements = Vec::new();
        for RowsOf { name, columns, upsert } in &self.tables {
            let sql = format!("INSERT INTO bare.{name} ({columns}) SELECT {columns} FROM kept.{name} WHERE batch = $1 {upsert}");
            statements.push(self.client.prepare(&sql).await?);
        }
        self.client.batch_execute("ANALYZE").await?;
        let mut client = self.client;
        let begin = Instant::now();
        for batch in batches {
            let transaction = client.transaction().await?;
            for statement in &statements {
                transaction.execute(statement, &[&batch]).await?;
            }
            transaction.commit().await?;
        }
        Ok(Some(begin.elapsed()))
    }
}
