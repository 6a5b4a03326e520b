//! The log on one Postgres: records, outcomes, program entries, offsets and the fence commit together, in one round trip.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use refinery::Runner;
use tokio::sync::{Mutex, watch};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use crate::{Batch, Crash, Entry, EventLog, LogError, Partition, Position, Writer, is_beyond};

mod embedded {
    refinery::embed_migrations!("../../migrations/log");
}

/// The schema that holds the book.
pub const SCHEMA: &str = "log";
/// How often a reader looks for what another process appended; its own process tells it at once.
const POLL: Duration = Duration::from_millis(50);
const FENCE: &str = "SELECT fence($1, $2, $3, $4, $5, $6)";
const RECORDS: &str = "INSERT INTO record (partition, position, account, account_seq, body)
                       SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[])";
const OUTCOMES: &str = "INSERT INTO outcome (partition, position, body) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])";
const PROGRAMS: &str = "INSERT INTO program (position, body)
                        SELECT $1::bigint + n - 1, body FROM unnest($2::bytea[]) WITH ORDINALITY AS b(body, n)";
const OFFSETS: &str = "INSERT INTO source_offset AS o (source, position) SELECT * FROM unnest($1::text[], $2::bigint[])
                       ON CONFLICT (source) DO UPDATE SET position = greatest(o.position, excluded.position)";

fn failed<E: std::error::Error + Send + Sync + 'static>(action: &'static str) -> impl Fn(E) -> LogError {
    move |source| LogError::Unavailable { action, source: Box::new(source) }
}

/// Connects to `url` with `search_path` set to `schema`.
///
/// # Errors
/// What Postgres or the network says.
pub async fn connect(url: &str, schema: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config: tokio_postgres::Config = url.parse()?;
    config.options(format!("-c search_path={schema}")).application_name(format!("loyalty {schema}"));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to postgres ended");
        }
    });
    Ok(client)
}

/// Creates `schema` if it is not there and brings it up to date; two at once wait for each other.
///
/// # Errors
/// What Postgres or a migration says.
pub async fn migrate(url: &str, schema: &str, runner: Runner) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut client = connect(url, schema).await?;
    client.batch_execute("SELECT pg_advisory_lock(7106)").await?;
    client.batch_execute(&format!("SET client_min_messages = warning; CREATE SCHEMA IF NOT EXISTS {schema}")).await?;
    runner.run_async(&mut client).await?;
    client.batch_execute("SELECT pg_advisory_unlock(7106)").await?;
    Ok(())
}

/// The log on Postgres.
pub struct PostgresLog {
    url: String,
    partitions: u16,
    book_id: String,
    reader: Mutex<Client>,
    appended: watch::Sender<u64>,
}

struct PostgresWriter {
    client: Client,
    statements: Statements,
    epoch: u64,
    next: Vec<Position>,
    next_outcome: Vec<Position>,
    next_program: Position,
    appended: watch::Sender<u64>,
    crash: Option<Crash>,
}

/// The statements of an append.
struct Statements {
    begin: Statement,
    fence: Statement,
    records: Statement,
    outcomes: Statement,
    programs: Statement,
    offsets: Statement,
    commit: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            begin: client.prepare("BEGIN").await?,
            fence: client.prepare(FENCE).await?,
            records: client.prepare(RECORDS).await?,
            outcomes: client.prepare(OUTCOMES).await?,
            programs: client.prepare(PROGRAMS).await?,
            offsets: client.prepare(OFFSETS).await?,
            commit: client.prepare("COMMIT").await?,
        })
    }
}

impl PostgresLog {
    /// Opens the log in the database at `url`, making it with `partitions` partitions if it is new; `book_id` is that of a book that
    /// moves here.
    ///
    /// # Errors
    /// [`LogError::Partitions`] or [`LogError::OtherBook`] where it was made with another number or for another book; [`LogError::Lost`]; what Postgres says.
    pub async fn open(url: &str, partitions: u16, book_id: Option<&str>) -> Result<Self, LogError> {
        let runner = embedded::migrations::runner();
        let action = "bring the log's schema up to date";
        migrate(url, SCHEMA, runner).await.map_err(|source| LogError::Unavailable { action, source })?;
        let client = connect(url, SCHEMA).await.map_err(failed("connect"))?;
        let asked = i16::try_from(partitions).map_err(failed("number of partitions"))?;
        let made = "WITH new AS (INSERT INTO book (partitions, id) VALUES ($1, coalesce($2::text::uuid, gen_random_uuid()))
                                 ON CONFLICT DO NOTHING RETURNING partitions)
                    INSERT INTO partition (id) SELECT generate_series(0, partitions - 1) FROM new";
        client.execute(made, &[&asked, &book_id]).await.map_err(failed("make the partitions"))?;
        let book = client.query_one("SELECT partitions, id::text FROM book", &[]).await.map_err(failed("read the partitions"))?;
        let (found, found_id): (i16, String) = (book.get(0), book.get(1));
        if found != asked {
            return Err(LogError::Partitions { found: found.unsigned_abs(), asked: partitions });
        }
        if let Some(asked) = book_id.filter(|asked| *asked != found_id) {
            return Err(LogError::OtherBook { found: found_id, asked: asked.to_owned() });
        }
        let lost = "SELECT id, next_position, last FROM partition CROSS JOIN LATERAL (
                        SELECT coalesce(max(position) + 1, 0) AS last FROM record WHERE record.partition = partition.id) r WHERE next_position <> last";
        if let Some(row) = client.query_opt(&format!("{lost} LIMIT 1"), &[]).await.map_err(failed("look at the ends of the partitions"))? {
            let (partition, expected, found) = (row.get::<_, i16>(0).unsigned_abs(), number(row.get(1)), number(row.get(2)));
            return Err(LogError::Lost { partition, found, expected });
        }
        Ok(Self { url: url.to_owned(), partitions, book_id: found_id, reader: Mutex::new(client), appended: watch::Sender::new(0) })
    }

    /// Runs a query, on a new connection where the old one is gone.
    async fn query(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<tokio_postgres::Row>, LogError> {
        let mut reader = self.reader.lock().await;
        if reader.is_closed() {
            *reader = connect(&self.url, SCHEMA).await.map_err(failed("connect"))?;
        }
        let statement = reader.prepare_typed(sql, &[]).await.map_err(failed("prepare a read"))?;
        reader.query(&statement, params).await.map_err(failed("read"))
    }
}

fn number(value: i64) -> u64 {
    value.unsigned_abs()
}

fn sql_number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn sql_partition(partition: Partition) -> i16 {
    i16::try_from(partition).unwrap_or(i16::MAX)
}

#[async_trait]
impl EventLog for PostgresLog {
    fn book_id(&self) -> &str {
        &self.book_id
    }

    fn partitions(&self) -> u16 {
        self.partitions
    }

    async fn acquire(&self, owner: &str) -> Result<Box<dyn Writer>, LogError> {
        let client = connect(&self.url, SCHEMA).await.map_err(failed("connect"))?;
        let statements = Statements::prepare(&client).await.map_err(failed("prepare the append"))?;
        // The row locks make this wait for an append of the old writer that is still under way.
        let taken = "WITH highest AS (SELECT max(epoch) + 1 AS epoch FROM partition)
                     UPDATE partition SET epoch = highest.epoch, owner = $1 FROM highest RETURNING id, partition.epoch, next_position, next_outcome";
        let rows = client.query(taken, &[&owner]).await.map_err(failed("take over"))?;
        let n = usize::from(self.partitions);
        let (mut epoch, mut next, mut next_outcome) = (0, vec![0; n], vec![0; n]);
        for row in rows {
            let id = usize::from(row.get::<_, i16>(0).unsigned_abs());
            epoch = number(row.get(1));
            (next[id], next_outcome[id]) = (number(row.get(2)), number(row.get(3)));
        }
        let programs = client.query_one("SELECT coalesce(max(position) + 1, 0) FROM program", &[]).await.map_err(failed("read the programs"))?;
        let next_program = number(programs.get(0));
        Ok(Box::new(PostgresWriter { client, statements, epoch, next, next_outcome, next_program, appended: self.appended.clone(), crash: None }))
    }

    async fn read(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Entry>, LogError> {
        let sql = "SELECT position, account, account_seq, body FROM record WHERE partition = $1 AND position >= $2 ORDER BY position LIMIT $3";
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = self.query(sql, &[&sql_partition(partition), &sql_number(from), &limit]).await?;
        let entry = |row: &tokio_postgres::Row| Entry { position: number(row.get(0)), account: row.get(1), account_seq: number(row.get(2)), body: row.get(3) };
        Ok(rows.iter().map(entry).collect())
    }

    async fn read_outcomes(&self, partition: Partition, from: Position, max: usize) -> Result<Vec<Vec<u8>>, LogError> {
        let sql = "SELECT body FROM outcome WHERE partition = $1 AND position >= $2 ORDER BY position LIMIT $3";
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = self.query(sql, &[&sql_partition(partition), &sql_number(from), &limit]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn read_programs(&self, from: Position) -> Result<Vec<Vec<u8>>, LogError> {
        let rows = self.query("SELECT body FROM program WHERE position >= $1 ORDER BY position", &[&sql_number(from)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn ends(&self) -> Result<Vec<Position>, LogError> {
        let rows = self.query("SELECT next_position FROM partition ORDER BY id", &[]).await?;
        Ok(rows.iter().map(|row| number(row.get(0))).collect())
    }

    async fn offsets(&self) -> Result<BTreeMap<String, u64>, LogError> {
        let rows = self.query("SELECT source, position FROM source_offset", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), number(row.get(1)))).collect())
    }

    async fn wait_beyond(&self, ends: &[Position], patience: Duration) -> Result<bool, LogError> {
        let deadline = tokio::time::Instant::now() + patience;
        let mut appended = self.appended.subscribe();
        loop {
            if is_beyond(&self.ends().await?, ends) {
                return Ok(true);
            }
            let next_look = deadline.min(tokio::time::Instant::now() + POLL);
            let _ = tokio::time::timeout_at(next_look, appended.changed()).await;
            if tokio::time::Instant::now() >= deadline {
                return Ok(is_beyond(&self.ends().await?, ends));
            }
        }
    }
}

/// A batch as the arrays that the SQL function takes.
struct Columns<'a> {
    partitions: Vec<i16>,
    positions: Vec<i64>,
    accounts: Vec<&'a str>,
    account_seqs: Vec<i64>,
    bodies: Vec<&'a [u8]>,
    outcome_partitions: Vec<i16>,
    outcome_positions: Vec<i64>,
    outcome_bodies: Vec<&'a [u8]>,
}

async fn unless<E>(skip: bool, statement: impl Future<Output = Result<u64, E>>) -> Result<u64, E> {
    if skip { Ok(0) } else { statement.await }
}

impl PostgresWriter {
    fn columns<'a>(&self, batch: &'a Batch) -> (Columns<'a>, Vec<Position>) {
        let mut next_outcome = self.next_outcome.clone();
        let mut outcome_position = |partition: Partition| {
            let next = &mut next_outcome[usize::from(partition)];
            *next += 1;
            sql_number(*next - 1)
        };
        let columns = Columns {
            partitions: batch.records.iter().map(|record| sql_partition(record.partition)).collect(),
            positions: batch.records.iter().map(|record| sql_number(record.position)).collect(),
            accounts: batch.records.iter().map(|record| record.account.as_str()).collect(),
            account_seqs: batch.records.iter().map(|record| sql_number(record.account_seq)).collect(),
            bodies: batch.records.iter().map(|record| record.body.as_slice()).collect(),
            outcome_partitions: batch.outcomes.iter().map(|outcome| sql_partition(outcome.partition)).collect(),
            outcome_positions: batch.outcomes.iter().map(|outcome| outcome_position(outcome.partition)).collect(),
            outcome_bodies: batch.outcomes.iter().map(|outcome| outcome.body.as_slice()).collect(),
        };
        (columns, next_outcome)
    }

    async fn commit(&mut self, batch: &Batch) -> Result<(), LogError> {
        let next = batch.next_after(&self.next).ok_or(LogError::Fenced { epoch: self.epoch })?;
        let (columns, next_outcome) = self.columns(batch);
        // Every partition is fenced with every batch: a batch of program entries or offsets alone has no other fence.
        let ids: Vec<i16> = (0..self.next.len()).map(|id| i16::try_from(id).unwrap_or(i16::MAX)).collect();
        let sql = |positions: &[Position]| positions.iter().map(|position| sql_number(*position)).collect::<Vec<i64>>();
        let (firsts, nexts, first_outcomes, next_outcomes) = (sql(&self.next), sql(&next), sql(&self.next_outcome), sql(&next_outcome));
        let programs: Vec<&[u8]> = batch.programs.iter().map(Vec::as_slice).collect();
        let sources: Vec<&str> = batch.offsets.iter().map(|(source, _)| source.as_str()).collect();
        let source_positions: Vec<i64> = batch.offsets.iter().map(|(_, position)| sql_number(*position)).collect();
        let (epoch, first_program) = (sql_number(self.epoch), sql_number(self.next_program));
        let (client, statements) = (&self.client, &self.statements);
        let fence: [&(dyn ToSql + Sync); 6] = [&epoch, &ids, &firsts, &nexts, &first_outcomes, &next_outcomes];
        let records: [&(dyn ToSql + Sync); 5] = [&columns.partitions, &columns.positions, &columns.accounts, &columns.account_seqs, &columns.bodies];
        let outcomes: [&(dyn ToSql + Sync); 3] = [&columns.outcome_partitions, &columns.outcome_positions, &columns.outcome_bodies];
        let program_entries: [&(dyn ToSql + Sync); 2] = [&first_program, &programs];
        let offsets: [&(dyn ToSql + Sync); 2] = [&sources, &source_positions];
        // All of it is sent in one go, in this order; whatever fails makes the rest fail and the COMMIT a rollback.
        let appended = tokio::try_join!(
            biased;
            client.execute(&statements.begin, &[]),
            client.execute(&statements.fence, &fence),
            client.execute(&statements.records, &records),
            unless(batch.outcomes.is_empty(), client.execute(&statements.outcomes, &outcomes)),
            unless(batch.programs.is_empty(), client.execute(&statements.programs, &program_entries)),
            unless(batch.offsets.is_empty(), client.execute(&statements.offsets, &offsets)),
            client.execute(&statements.commit, &[]),
        );
        appended.map_err(|error| match error.code() {
            Some(code) if code.code() == "LL001" => LogError::Fenced { epoch: self.epoch },
            _ => failed("append")(error),
        })?;
        (self.next, self.next_outcome) = (next, next_outcome);
        self.next_program += batch.programs.len() as Position;
        Ok(())
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    fn next_position(&self, partition: Partition) -> Position {
        self.next[usize::from(partition)]
    }

    async fn append(&mut self, batch: Arc<Batch>) -> Result<(), LogError> {
        if self.crash == Some(Crash::BeforeCommit) {
            return Err(LogError::Crashed(Crash::BeforeCommit));
        }
        self.commit(&batch).await?;
        self.appended.send_modify(|n| *n += 1);
        match self.crash {
            Some(crash) => Err(LogError::Crashed(crash)),
            None => Ok(()),
        }
    }

    fn crash_next(&mut self, crash: Crash) {
        self.crash = Some(crash);
    }
}
