//! The command line. Every flag has an environment form.

mod analysts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::{AliasKey, AliasKeyError};
use clap::{Args, Parser, Subcommand, ValueEnum};
use command_service::Share;
use event_log::kafka::KafkaOptions;
use tracing_subscriber::EnvFilter;

pub use analysts::{
    AuditAction, AuditOptions, BuyingModel, ClvAction, ClvOptions, DeclineAction, DeclineModel, DeclineOptions, ExportOptions, PeriodAction, PeriodOptions,
    QuorumOptions, ReportOptions, WitnessOptions,
};

/// An event-sourced loyalty ledger.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    /// How to write the log: for people or as JSON lines.
    #[arg(long, global = true, env = "LOYALTY_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// What to log, such as `info` or `command_service=debug`.
    #[arg(long, global = true, env = "LOYALTY_LOG", default_value = "warn")]
    pub log: String,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to write the log.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: the command service, the projectors and the API in one process.
    Up(UpOptions),
    /// Serve one part in a process of its own.
    Serve(ServeOptions),
    /// Import a real shop's purchases, verify the book, show it, and serve.
    Demo(DemoOptions),
    /// Import a file of purchases; running it again changes nothing, and books what was corrected. Ends with 2 if rows were rejected, with 1 if it failed.
    Import(ImportOptions),
    /// Publish a rulebook.
    Program(ProgramOptions),
    /// Show how far each projector is behind.
    Projectors(DataOptions),
    /// Build a read model anew beside the old one and switch.
    Rebuild(RebuildOptions),
    /// Move a book of an older edition to the one that this release decides by (docs/upgrading.md); every process must be stopped.
    Upgrade(DataOptions),
    /// Verify the book: sequence, hash chain, postings, and read models against a fresh fold.
    Verify(DataOptions),
    /// Move the log to another engine.
    Log(LogOptions),
    /// Seal, prove, archive, verify and replay the book.
    Audit(AuditOptions),
    /// Estimate what members are worth.
    Clv(ClvOptions),
    /// See whose value falls before they leave.
    Decline(DeclineOptions),
    /// Close months of the revenue journal, by two people.
    Period(PeriodOptions),
    /// Print a report, and write it as a page with charts.
    Report(ReportOptions),
    /// Write the book as Parquet files, by day; run again, it goes on where it was.
    Export(ExportOptions),
    /// Measure, as ratios to the raw engine in the same run.
    Bench(BenchOptions),
    /// Make an API key: prints the key and its line for the key file.
    Key(KeyOptions),
    /// Print a generated document.
    Schema(SchemaOptions),
}

/// Where the book is.
#[derive(Debug, Clone, Args)]
pub struct DataOptions {
    /// The data folder: the embedded Postgres and the state store.
    #[arg(long, env = "LOYALTY_DATA", default_value = "loyalty-data")]
    pub data: PathBuf,
    /// An existing Postgres instead of the embedded one.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The Kafka that the log is on, as HOST:PORT,HOST:PORT; without it the log is in Postgres.
    #[arg(long, env = "LOYALTY_KAFKA")]
    pub kafka: Option<String>,
    /// What the names of the log's topics begin with.
    #[arg(long, env = "LOYALTY_KAFKA_PREFIX", default_value = "loyalty")]
    pub kafka_prefix: String,
    /// How many brokers keep each record of a new log.
    #[arg(long, env = "LOYALTY_KAFKA_REPLICATION", default_value_t = 1)]
    pub kafka_replication: u16,
    /// How long a command service may be silent before its partitions go to others.
    #[arg(long, env = "LOYALTY_KAFKA_SESSION_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(6..=300))]
    pub kafka_session_seconds: u64,
    /// How long another process may take to answer, before the outcome is told to be unknown.
    #[arg(long, env = "LOYALTY_ANSWER_SECONDS", default_value_t = 10)]
    pub answer_seconds: u64,
    /// The file with the key of the aliases' hashes, the same for all processes; alias.key in the data folder if not named, made where missing.
    #[arg(long, env = "LOYALTY_ALIAS_KEY_FILE")]
    pub alias_key_file: Option<PathBuf>,
    /// The folder of the book's seal: trees, heads, signed checkpoint; `seal` in the data folder if not named.
    #[arg(long, env = "LOYALTY_SEAL")]
    pub seal: Option<PathBuf>,
    /// How many partitions a new log gets; it can't change.
    #[arg(long, env = "LOYALTY_PARTITIONS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub partitions: u16,
    /// How many accounts stay in memory, more or less.
    #[arg(long, env = "LOYALTY_ACCOUNTS_IN_MEMORY", default_value_t = 100_000)]
    pub accounts_in_memory: usize,
}

impl DataOptions {
    /// The folder of the book's seal.
    pub fn seal_folder(&self) -> PathBuf {
        self.seal.clone().unwrap_or_else(|| self.data.join("seal"))
    }

    /// The key of the aliases' hashes.
    pub fn alias_key(&self) -> Result<AliasKey, AliasKeyError> {
        let file = self.alias_key_file.clone().unwrap_or_else(|| self.data.join("alias.key"));
        AliasKey::read_or_make(&file)
    }

    /// The log on Kafka at `brokers` under `prefix`.
    pub fn kafka_log(&self, brokers: &str, prefix: &str) -> KafkaOptions {
        let session_timeout = Duration::from_secs(self.kafka_session_seconds);
        KafkaOptions { brokers: brokers.to_owned(), prefix: prefix.to_owned(), replication: self.kafka_replication, session_timeout }
    }
}

/// The API.
#[derive(Debug, Clone, Args)]
pub struct ApiOptions {
    /// The address of the API. Another than loopback needs --api-keys.
    #[arg(long, env = "LOYALTY_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// A JSON file of API keys, as `loyalty key` prints them.
    #[arg(long, env = "LOYALTY_API_KEYS")]
    pub api_keys: Option<PathBuf>,
    /// An address under which the API is known, such as `https://loyalty.example.org`; several with commas. It answers to localhost and to IP addresses besides.
    #[arg(long, env = "LOYALTY_PUBLIC_URL", value_delimiter = ',')]
    pub public_url: Vec<String>,
}

/// Serving.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// Where the book is.
    #[command(flatten)]
    pub data: DataOptions,
    /// Who may ask it what.
    #[command(flatten)]
    pub api: ApiOptions,
    /// Where purchases are taken in.
    #[command(flatten)]
    pub intake: IntakeOptions,
    /// The file of the secret key to seal the book with, as `loyalty audit key` makes it; without it the book is not sealed.
    #[arg(long, env = "LOYALTY_AUDIT_KEY")]
    pub audit_key: Option<PathBuf>,
    /// How many seconds lie between two checkpoints.
    #[arg(long, env = "LOYALTY_SEAL_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub seal_seconds: u64,
    /// Who cosigns.
    #[command(flatten)]
    pub witnesses: WitnessOptions,
    /// Every so many hours, fit lifetime value and assess decline for every program; never if not named.
    #[arg(long, env = "LOYALTY_ESTIMATE_HOURS", value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub estimate_hours: Option<u64>,
    /// Leave the read models to `loyalty serve projector`.
    #[arg(long, env = "LOYALTY_WITHOUT_PROJECTORS")]
    pub without_projectors: bool,
    /// How the partitions are decided.
    #[command(flatten)]
    pub deciding: DecidingOptions,
}

/// Taking purchases in from a topic.
#[derive(Debug, Clone, Args)]
pub struct IntakeOptions {
    /// The topic on which shops publish purchases and returns; PREFIX.purchases if not named. Needs --kafka.
    #[arg(long, env = "LOYALTY_INTAKE_TOPIC")]
    pub intake_topic: Option<String>,
    /// A schema registry, for messages in Confluent's wire format.
    #[arg(long, env = "LOYALTY_SCHEMA_REGISTRY")]
    pub schema_registry: Option<String>,
}

/// Deciding.
#[derive(Debug, Clone, Copy, Args)]
pub struct DecidingOptions {
    /// How many commands may wait; more are answered 429.
    #[arg(long, env = "LOYALTY_QUEUE_MAX", default_value_t = 10_000)]
    pub queue_max: usize,
    /// Don't follow what other command services book: less work, but a partition that comes here is read only then.
    #[arg(long, env = "LOYALTY_WITHOUT_STAND_BY")]
    pub without_stand_by: bool,
}

impl DecidingOptions {
    /// With whom the partitions are shared.
    pub fn share(self) -> Share {
        if self.without_stand_by { Share::Cold } else { Share::Follows }
    }
}

/// A part to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeOptions {
    /// Which.
    #[command(subcommand)]
    pub part: Part,
}

/// A part that runs in a process of its own.
#[derive(Debug, Clone, Subcommand)]
pub enum Part {
    /// Decide commands; of several at once, each has a share of the partitions. Needs --kafka, no database.
    CommandService {
        /// The address of health and metrics.
        #[arg(long, env = "LOYALTY_LISTEN", default_value = "127.0.0.1:8081")]
        listen: SocketAddr,
        /// How the partitions are decided.
        #[command(flatten)]
        deciding: DecidingOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Answer over REST; commands go over the log to whoever has the account. Needs --kafka.
    Api {
        /// Who may ask it what.
        #[command(flatten)]
        api: ApiOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Take purchases in from a topic; of several at once, each has a share of it. Needs --kafka.
    Intake {
        /// The address of health and metrics.
        #[arg(long, env = "LOYALTY_LISTEN", default_value = "127.0.0.1:8082")]
        listen: SocketAddr,
        /// From where.
        #[command(flatten)]
        intake: IntakeOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Apply the fraud rules to what the read models say; of several at once, one does. Needs --kafka.
    Fraud {
        /// The address of health and metrics.
        #[arg(long, env = "LOYALTY_LISTEN", default_value = "127.0.0.1:8083")]
        listen: SocketAddr,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Seal the book on a schedule; of several at once over one seal, one does. Needs --kafka, no database.
    Seal {
        /// The address of health and metrics.
        #[arg(long, env = "LOYALTY_LISTEN", default_value = "127.0.0.1:8084")]
        listen: SocketAddr,
        /// The file of the secret key, as `loyalty audit key` makes it.
        #[arg(long, env = "LOYALTY_AUDIT_KEY")]
        audit_key: PathBuf,
        /// How many seconds lie between two checkpoints.
        #[arg(long, env = "LOYALTY_SEAL_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seal_seconds: u64,
        /// Who cosigns.
        #[command(flatten)]
        witnesses: WitnessOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Bring read models up to date; of several processes with the same one, each record is applied by one.
    Projector {
        /// The read models: alias, audit, balance, clv, fraud, liability, refusal, statement, tier, or all.
        #[arg(required = true)]
        names: Vec<String>,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// The demo.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Serving.
    #[command(flatten)]
    pub up: UpOptions,
    /// End after the summary instead of serving.
    #[arg(long, env = "LOYALTY_EXIT")]
    pub exit: bool,
}

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Online Retail (UCI): Invoice, StockCode, Description, Quantity, InvoiceDate, Price, CustomerID, Country.
    OnlineRetail,
    /// A row a line of a purchase, with the API's field names as columns.
    PurchasesCsv,
    /// A JSON body of the API a line: purchases and returns.
    PurchasesJsonl,
}

/// How a file's characters are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    #[value(name = "utf-8")]
    Utf8,
    /// Windows' code page for Western Europe.
    #[value(name = "windows-1252")]
    Windows1252,
    /// Windows' code page for Vietnamese.
    #[value(name = "windows-1258")]
    Windows1258,
}

/// Importing.
#[derive(Debug, Clone, Args)]
pub struct ImportOptions {
    /// The file; `.gz` is unpacked on the way.
    pub file: PathBuf,
    /// The program.
    #[arg(long, env = "LOYALTY_PROGRAM")]
    pub program: String,
    /// The file's format.
    #[arg(long, env = "LOYALTY_FORMAT")]
    pub format: Format,
    /// How the file's characters are written.
    #[arg(long, env = "LOYALTY_ENCODING", default_value = "utf-8")]
    pub encoding: Encoding,
    /// Let a sandbox program's clock follow the file's times.
    #[arg(long, env = "LOYALTY_DRIVE_CLOCK")]
    pub drive_clock: bool,
    /// Where rejected rows go, with line, field and reason; FILE.rejected.csv if not named.
    #[arg(long, env = "LOYALTY_REJECTED")]
    pub rejected: Option<PathBuf>,
    /// Where the book is.
    #[command(flatten)]
    pub data: DataOptions,
}

/// Rulebooks.
#[derive(Debug, Clone, Args)]
pub struct ProgramOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: ProgramAction,
}

/// What to do with a rulebook.
#[derive(Debug, Clone, Subcommand)]
pub enum ProgramAction {
    /// Publish FILE as the next version of the program that it names.
    Publish {
        /// The rulebook, JSON.
        file: PathBuf,
        /// Where it is published; without it the book in --data is opened.
        #[command(flatten)]
        server: ServerOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// A running service.
#[derive(Debug, Clone, Args)]
pub struct ServerOptions {
    /// The API of a running service.
    #[arg(long, env = "LOYALTY_SERVER")]
    pub server: Option<String>,
    /// The API key for --server.
    #[arg(long, env = "LOYALTY_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

impl ServerOptions {
    /// The request with the key, if there is one.
    pub fn with_key(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.api_key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

/// Rebuilding.
#[derive(Debug, Clone, Args)]
pub struct RebuildOptions {
    /// The read model: alias, audit, balance, clv, fraud, liability, statement or tier.
    pub name: String,
    /// Where the book is.
    #[command(flatten)]
    pub data: DataOptions,
}

/// The log.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: LogAction,
}

/// What to do with the log.
#[derive(Debug, Clone, Subcommand)]
pub enum LogAction {
    /// Copy the whole book to another engine and verify it there; then it is written there and no more where it was.
    Copy {
        /// Where it is: `postgres` (that of --data or DATABASE_URL), `postgres://…`, `kafka://HOST:PORT[,HOST:PORT]/PREFIX` or `archive:FOLDER`.
        #[arg(long, env = "LOYALTY_COPY_FROM", hide_env_values = true)]
        from: String,
        /// Where it goes, named likewise; not an archive.
        #[arg(long, env = "LOYALTY_COPY_TO", hide_env_values = true)]
        to: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// Measuring.
#[derive(Debug, Clone, Args)]
pub struct BenchOptions {
    /// Only the parts whose name holds this.
    #[arg(long, env = "LOYALTY_BENCH_ONLY")]
    pub only: Option<String>,
    /// Measure the log on Kafka: on the broker at HOST:PORT, or, without one, on a broker of its own (needs Java 17).
    #[arg(long, env = "LOYALTY_BENCH_KAFKA", num_args = 0..=1, default_missing_value = "")]
    pub kafka: Option<String>,
    /// Measure a Kafka Streams application beside it: the folder that it was built in (`bench/streams/build.sh`).
    #[arg(long, env = "LOYALTY_BENCH_STREAMS")]
    pub streams: Option<PathBuf>,
    /// The Online Retail file for the import; that part is left out without it.
    #[arg(long, env = "LOYALTY_BENCH_FILE")]
    pub file: Option<PathBuf>,
    /// The labelled payments for the fraud rules; that part is left out without it.
    #[arg(long, env = "LOYALTY_BENCH_LABELLED")]
    pub labelled: Option<PathBuf>,
}

/// A key to make.
#[derive(Debug, Clone, Args)]
pub struct KeyOptions {
    /// Its name, under which its commands are booked.
    pub name: String,
    /// read, write (with read) or admin (with all).
    #[arg(long, env = "LOYALTY_KEY_SCOPE", value_parser = ["read", "write", "admin"], default_value = "write")]
    pub scope: String,
}

/// A document to print.
#[derive(Debug, Clone, Args)]
pub struct SchemaOptions {
    /// Which.
    #[arg(value_parser = ["rulebook", "openapi"])]
    pub name: String,
}

/// Sets logging up, on standard error.
pub fn log(arguments: &Arguments) {
    let filter = EnvFilter::try_new(&arguments.log).unwrap_or_else(|_| EnvFilter::new("warn"));
    // What can't be written has nobody to be told to; the subscriber would panic.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    match arguments.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
