//! For those who look: auditors, analysts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ledger_core::time::parse_date;

use super::{DataOptions, ServerOptions};

/// For auditors.
#[derive(Debug, Clone, Args)]
pub struct AuditOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: AuditAction,
}

/// Those who see that there is one history.
#[derive(Debug, Clone, Args)]
pub struct WitnessOptions {
    /// A witness that is asked to cosign each checkpoint (C2SP tlog-witness), as VKEY@URL: its public key, NAME+ID+KEY, and the URL before /add-checkpoint; several
    /// with commas.
    #[arg(long = "witness", env = "LOYALTY_WITNESS", value_name = "VKEY@URL", value_delimiter = ',')]
    pub witnesses: Vec<String>,
}

/// Who must have cosigned.
#[derive(Debug, Clone, Args)]
pub struct QuorumOptions {
    /// A witness that is trusted, by its public key: NAME+ID+KEY, or a file with it; several with commas.
    #[arg(long = "witness", env = "LOYALTY_AUDIT_WITNESS", value_name = "VKEY", value_delimiter = ',')]
    pub witnesses: Vec<String>,
    /// How many of the witnesses must have cosigned the checkpoint; all of them if not named.
    #[arg(long, env = "LOYALTY_AUDIT_QUORUM", requires = "witnesses")]
    pub quorum: Option<usize>,
}

/// What an auditor does.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditAction {
    /// Make a key to seal with: the secret one goes to FILE, the public one is printed.
    Key {
        /// Its name, the origin of the checkpoints, such as `loyalty.example.com/book`.
        name: String,
        /// Where the secret key goes.
        #[arg(long, env = "LOYALTY_AUDIT_KEY", default_value = "audit.key")]
        file: PathBuf,
    },
    /// Seal what the log has: trees, head, signed checkpoint.
    Checkpoint {
        /// The file of the secret key.
        #[arg(long, env = "LOYALTY_AUDIT_KEY", default_value = "audit.key")]
        key: PathBuf,
        /// Who cosigns.
        #[command(flatten)]
        witnesses: WitnessOptions,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Write the whole book with its seal into a new folder.
    Export {
        /// The folder.
        archive: PathBuf,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Verify an archive with nothing but a public key.
    Verify {
        /// The archive.
        archive: PathBuf,
        /// The public key: NAME+ID+KEY, or a file with it.
        #[arg(long, env = "LOYALTY_AUDIT_PUBLIC_KEY")]
        key: String,
        /// An earlier checkpoint, as `loyalty audit checkpoint` or a receipt gives it, that the archive must extend.
        #[arg(long, env = "LOYALTY_AUDIT_SINCE")]
        since: Option<PathBuf>,
        /// Who must have cosigned it.
        #[command(flatten)]
        quorum: QuorumOptions,
        /// A database whose read models must equal the archive's fold.
        #[arg(long, env = "LOYALTY_AUDIT_AGAINST", hide_env_values = true)]
        against: Option<String>,
    },
    /// Check a receipt with nothing but a public key.
    Prove {
        /// The receipt, as the API gives it.
        receipt: PathBuf,
        /// The public key: NAME+ID+KEY, or a file with it.
        #[arg(long, env = "LOYALTY_AUDIT_PUBLIC_KEY")]
        key: String,
        /// Who must have cosigned its checkpoint.
        #[command(flatten)]
        quorum: QuorumOptions,
    },
    /// Decide the history again under another rulebook and tell what would be different; nothing is written.
    Replay {
        /// Another rulebook, JSON.
        #[arg(long, env = "LOYALTY_RULEBOOK", requires = "since", required_unless_present = "edition_of")]
        rulebook: Option<PathBuf>,
        /// From when on it would have been in force (RFC 3339).
        #[arg(long, env = "LOYALTY_SINCE")]
        since: Option<String>,
        /// Instead of by another rulebook: decide all of this program again by the edition of this release, to see what members are due from
        /// decisions of older editions.
        #[arg(long, env = "LOYALTY_EDITION_OF", value_name = "PROGRAM", conflicts_with = "rulebook")]
        edition_of: Option<String>,
        /// Where the differences go, by account.
        #[arg(long, env = "LOYALTY_CSV")]
        csv: Option<PathBuf>,
        /// Propose the differences as adjustments at --server, and list them here for somebody else to approve.
        #[arg(long, env = "LOYALTY_CORRECT", requires = "server")]
        correct: Option<PathBuf>,
        /// Where they are proposed.
        #[command(flatten)]
        server: ServerOptions,
        /// An archive to read instead of the book.
        #[arg(long, env = "LOYALTY_ARCHIVE")]
        archive: Option<PathBuf>,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Approve the corrections that somebody else proposed by `replay --correct`.
    Approve {
        /// Their list.
        corrections: PathBuf,
        /// Where they wait.
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Tell the story of an account's balance in plain words.
    Explain {
        /// PROGRAM/ACCOUNT.
        account: String,
        /// What had happened by then (RFC 3339).
        #[arg(long, env = "LOYALTY_AT")]
        at: Option<String>,
        /// An archive to read instead of the book.
        #[arg(long, env = "LOYALTY_ARCHIVE")]
        archive: Option<PathBuf>,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// Lifetime value.
#[derive(Debug, Clone, Args)]
pub struct ClvOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: ClvAction,
}

/// What to do about lifetime value.
#[derive(Debug, Clone, Subcommand)]
pub enum ClvAction {
    /// Fit the models, check them on the last days, put the better one in force if it beats a naive forecast, and score everybody.
    Fit {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// The last day of the data, YYYY-MM-DD; that of the last purchase if not named. A fit of earlier data than those of the fit in force is kept, but
        /// does not replace it.
        #[arg(long, visible_alias = "as-of", env = "LOYALTY_UNTIL", value_parser = parse_date)]
        until: Option<chrono::NaiveDate>,
        /// Use only what was booked by the end of this day (UTC), YYYY-MM-DD; such a fit is never put in force by itself.
        #[arg(long, env = "LOYALTY_KNOWN_AT", value_parser = parse_date)]
        known_at: Option<chrono::NaiveDate>,
        /// How many days at the end the models are checked on.
        #[arg(long, env = "LOYALTY_HOLDOUT_DAYS", default_value_t = 90)]
        holdout_days: i32,
        /// Which model of buying.
        #[arg(long, env = "LOYALTY_MODEL", value_enum, default_value_t = BuyingModel::Best)]
        model: BuyingModel,
        /// Print the fit and keep nothing.
        #[arg(long, env = "LOYALTY_DRY_RUN")]
        dry_run: bool,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// List the fits that were made, and which one is in force.
    Fits {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Put an earlier fit in force again and score everybody by it. It stays until the next `clv fit`; fits on the schedule do not replace it.
    Use {
        /// The version of the fit, as `clv fits` lists it.
        fit: i32,
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// A model of buying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum BuyingModel {
    /// The one with the lower RMSE in the holdout.
    Best,
    /// BG/NBD.
    #[value(name = "bg_nbd", alias = "bg-nbd")]
    BgNbd,
    /// Pareto/NBD.
    #[value(name = "pareto_nbd", alias = "pareto-nbd")]
    ParetoNbd,
}

/// Months to close.
#[derive(Debug, Clone, Args)]
pub struct PeriodOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: PeriodAction,
}

/// What to do about months.
#[derive(Debug, Clone, Subcommand)]
pub enum PeriodAction {
    /// List the closed months and the one that waits for a second person.
    List {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// The running service.
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Propose to close a month with its figures as they stand; somebody else approves them.
    Close {
        /// The month, YYYY-MM.
        period: String,
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// The running service.
        #[command(flatten)]
        server: ServerOptions,
    },
    /// Make the figures of every closed month again, from the book and the rulebooks of then, and compare.
    Verify {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Approve the figures that somebody else proposed: the month is closed and never changes.
    Approve {
        /// The month, YYYY-MM.
        period: String,
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// The running service.
        #[command(flatten)]
        server: ServerOptions,
    },
}

/// Value decline.
#[derive(Debug, Clone, Args)]
pub struct DeclineOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: DeclineAction,
}

/// What to do about value decline.
#[derive(Debug, Clone, Subcommand)]
pub enum DeclineAction {
    /// Assess everybody: state, reasons, value at stake; transitions are kept.
    Assess {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// As of the end of this day, YYYY-MM-DD; that of the last purchase if not named. An assessment of an earlier day than the one in force is kept, but does
        /// not replace it.
        #[arg(long, env = "LOYALTY_AS_OF", value_parser = parse_date)]
        as_of: Option<chrono::NaiveDate>,
        /// Use only what was booked by the end of this day (UTC), YYYY-MM-DD; such an assessment is never put in force by itself.
        #[arg(long, env = "LOYALTY_KNOWN_AT", value_parser = parse_date)]
        known_at: Option<chrono::NaiveDate>,
        /// Which model.
        #[arg(long, env = "LOYALTY_MODEL", value_enum, default_value_t = DeclineModel::Best)]
        model: DeclineModel,
        /// Print the assessment and keep nothing.
        #[arg(long, env = "LOYALTY_DRY_RUN")]
        dry_run: bool,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// List the assessments that were made, and which one is in force.
    Assessments {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Put an earlier assessment in force again. It stays until the next `decline assess`; assessments on the schedule do not replace it.
    Use {
        /// The version of the assessment, as `decline assessments` lists it.
        assessment: i32,
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
    /// Measure how good the warnings would have been at past month ends.
    Backtest {
        /// The program.
        #[arg(long, env = "LOYALTY_PROGRAM")]
        program: String,
        /// The first month looked at.
        #[arg(long, env = "LOYALTY_FROM", value_parser = parse_date)]
        from: chrono::NaiveDate,
        /// The last day of the data; that of the last purchase if not named.
        #[arg(long, env = "LOYALTY_UNTIL", value_parser = parse_date)]
        until: Option<chrono::NaiveDate>,
        /// Where the book is.
        #[command(flatten)]
        data: DataOptions,
    },
}

/// A model of decline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeclineModel {
    /// For each probability the logistic model if it beats plain recency on the holdout, else plain recency.
    Best,
    /// The logistic model over all that is looked at; not put in force where it loses to plain recency.
    Logistic,
    /// The days since the last purchase alone.
    Recency,
    /// How overdue members are in their own times between purchases; nothing is learned.
    Overdue,
}

/// An export.
#[derive(Debug, Clone, Args)]
pub struct ExportOptions {
    /// The folder.
    pub folder: PathBuf,
    /// Where the book is.
    #[command(flatten)]
    pub data: DataOptions,
}

/// A report.
#[derive(Debug, Clone, Args)]
pub struct ReportOptions {
    /// Of what.
    #[arg(value_parser = ["clv", "decline", "fraud", "liability"])]
    pub name: String,
    /// The program.
    #[arg(long, env = "LOYALTY_PROGRAM")]
    pub program: String,
    /// Where the page with charts goes; NAME.html if not named.
    #[arg(long, env = "LOYALTY_HTML")]
    pub html: Option<PathBuf>,
    /// Where the book is.
    #[command(flatten)]
    pub data: DataOptions,
}
