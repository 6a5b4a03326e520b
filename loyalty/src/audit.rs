//! `loyalty audit`: what an auditor does alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use api::real_now;
use event_log::EventLog;
use indicatif::{ProgressBar, ProgressStyle};
use ledger_core::time::Moment;
use ledger_schemas::Record;
use transparency::{ArchiveLog, Key, Quorum, Receipt, Sealer, Witnesses, make_key};

use crate::args::{AuditAction, DataOptions, QuorumOptions, WitnessOptions};
use crate::node::Database;
use crate::objects::{Here, Place};
use crate::ops::open;
use crate::{correct, replay};

pub async fn run(action: AuditAction) -> anyhow::Result<()> {
    match action {
        AuditAction::Key { name, file } => key(&name, &file),
        AuditAction::Checkpoint { key, witnesses: named, data } => checkpoint(&key, witnesses(&named)?, &data).await,
        AuditAction::Export { archive, data } => export(&archive, &data).await,
        AuditAction::Verify { archive, key, since, quorum, against } => verify(&archive, &key, since.as_deref(), &quorum, against).await,
        AuditAction::Prove { receipt, key, quorum } => prove(&receipt, &key, &quorum),
        AuditAction::Replay { rulebook, since, edition_of, csv, correct, server, archive, data } => {
            let asked = correct::Basis::read(rulebook.as_deref(), since.as_deref(), edition_of.as_deref())?;
            let book = Book::open(archive.as_deref(), &data).await?;
            let replayed = replay::run(book.log, asked.what_if.clone()).await?;
            if let Some(path) = csv {
                replay::write(&replayed, &path)?;
            }
            match correct {
                Some(file) => correct::propose(&server, &asked, &replayed.differences, &file).await,
                None => Ok(()),
            }
        }
        AuditAction::Approve { corrections, server } => correct::approve(&server, &corrections).await,
        AuditAction::Explain { account, at, archive, data } => {
            let book = Book::open(archive.as_deref(), &data).await?;
            explain(&*book.log, &account, at.as_deref()).await
        }
    }
}

/// The log of an archive or of the book in use, with the database that it needs.
struct Book {
    log: Arc<dyn EventLog>,
    _database: Option<Database>,
    _archive: Option<Here>,
}

impl Book {
    async fn open(archive: Option<&Path>, data: &DataOptions) -> anyhow::Result<Self> {
        if let Some(archive) = archive {
            let archive = Here::of(archive).await?;
            return Ok(Self { log: Arc::new(ArchiveLog::open(&archive.folder)?), _database: None, _archive: Some(archive) });
        }
        let (database, log) = open(data).await?;
        Ok(Self { log, _database: Some(database), _archive: None })
    }
}

pub fn bar(length: u64, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len}, {per_sec}, {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())).with_message(what.to_owned())
}

fn key(name: &str, file: &Path) -> anyhow::Result<()> {
    ensure!(!file.exists(), "{} is there already; a key is never written over", file.display());
    let (secret, public) = make_key(name);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut written = options.open(file).with_context(|| format!("can't make {}", file.display()))?;
    std::io::Write::write_all(&mut written, secret.as_bytes())?;
    eprintln!("the secret key is in {}; the public one, to give to everybody:", file.display());
    println!("{public}");
    Ok(())
}

/// The secret key in the file `key`.
pub fn secret(key: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(key).with_context(|| format!("can't read the key {}: `loyalty audit key NAME` makes one", key.display()))
}

/// Those that are asked to cosign.
pub fn witnesses(options: &WitnessOptions) -> anyhow::Result<Witnesses> {
    embedded_postgres::use_ring();
    Witnesses::parse(&options.witnesses).context("--witness")
}

async fn checkpoint(key: &Path, mut witnesses: Witnesses, data: &DataOptions) -> anyhow::Result<()> {
    let folder = data.seal_folder();
    let sealer = Sealer::open(&folder, &secret(key)?)?;
    let (_database, log) = open(data).await?;
    let (head, is_new) = sealer.seal(&*log, real_now()).await?;
    let what = if is_new { "sealed" } else { "sealed before" };
    println!("{} records {what} at {} in {}", head.record_count(), head.at, folder.display());
    if witnesses.count() > 0 {
        let cosigned = sealer.cosign(&mut witnesses).await?;
        println!("cosigned by {cosigned} of {} witnesses", witnesses.count());
    }
    Ok(())
}

async fn export(archive: &Path, data: &DataOptions) -> anyhow::Result<()> {
    let seal = data.seal_folder();
    let (_database, log) = open(data).await?;
    let bar = bar(log.ends().await?.iter().sum(), "archiving");
    let has_seal = seal.join("checkpoint").exists();
    let (place, local) = (Place::of(archive)?, tempfile::tempdir()?);
    let folder = if place.is_some() { local.path() } else { archive };
    let records = transparency::export(&*log, folder, has_seal.then_some(seal.as_path()), |count| bar.set_position(count)).await?;
    if let Some(place) = place {
        place.upload(folder).await?;
    }
    bar.finish_and_clear();
    println!("{records} records archived in {}", archive.display());
    if !has_seal {
        eprintln!("the archive has no seal: `loyalty audit checkpoint` first, and it can be verified by others");
    }
    Ok(())
}

/// The key itself, or what is in the file with it.
fn key_text(text: &str) -> anyhow::Result<String> {
    if Path::new(text).is_file() { std::fs::read_to_string(text).with_context(|| format!("can't read {text}")) } else { Ok(text.to_owned()) }
}

fn public_key(text: &str) -> anyhow::Result<Key> {
    Ok(Key::parse(&key_text(text)?)?)
}

/// Who must have cosigned; none where nobody is named.
fn quorum(options: &QuorumOptions) -> anyhow::Result<Option<Quorum>> {
    let keys: Vec<String> = options.witnesses.iter().map(|key| key_text(key)).collect::<anyhow::Result<_>>()?;
    let quorum = (!keys.is_empty()).then(|| Quorum::of(&keys, options.quorum)).transpose();
    quorum.context("--witness, --quorum")
}

fn tell_cosigned(cosigned: &[(String, Moment)]) {
    for (witness, at) in cosigned {
        println!("cosigned by {witness} at {at}");
    }
}

async fn verify(folder: &Path, key: &str, since: Option<&Path>, witnesses: &QuorumOptions, against: Option<String>) -> anyhow::Result<()> {
    let (key, quorum) = (public_key(key)?, quorum(witnesses)?);
    let here = Here::of(folder).await?;
    let archive = ArchiveLog::open(&here.folder)?;
    if let Some(since) = since {
        let note = std::fs::read(since).with_context(|| format!("can't read {}", since.display()))?;
        let heads = transparency::extends(&archive, &key, &note).context("--since")?;
        println!("the archive extends the checkpoint of {} heads in {}", heads, since.display());
    }
    let cosigned = quorum.map_or(Ok(Vec::new()), |quorum| transparency::cosigned(&archive, &quorum));
    let bar = bar(archive.ends().await?.iter().sum(), "verifying");
    let begin = Instant::now();
    let shown = bar.clone();
    let (archive, verified) = tokio::task::spawn_blocking(move || {
        let verified = transparency::verify(&archive, &key, &|count| shown.set_position(count));
        (archive, verified)
    })
    .await?;
    let (verified, seconds) = (verified?, begin.elapsed().as_secs_f64());
    bar.finish_and_clear();
    let mut findings = verified.findings;
    findings.extend(cosigned.as_ref().err().map(ToString::to_string));
    if let Some(url) = against {
        let archive: Arc<dyn EventLog> = Arc::new(archive);
        for model in projectors::read_models() {
            let compared = projectors::verify(model, Arc::clone(&archive), &url).await?;
            findings.extend(compared.differences.iter().map(|difference| format!("read model {}: {difference}", compared.projector)));
        }
        let compared = projectors::verify_refusals(archive, &url).await?;
        findings.extend(compared.differences.iter().map(|difference| format!("refused commands: {difference}")));
    }
    if !findings.is_empty() {
        bail!("the archive does not verify:\n  {}", findings.join("\n  "));
    }
    println!("archive verified: {} records of {} accounts, {} refused commands, in {seconds:.1} s", verified.records, verified.accounts, verified.outcomes);
    let older: u64 = verified.older_editions.values().sum();
    let again = verified.records - older;
    println!("sealed: {} records, by {} checkpoints; {again} decisions were made again and are the same", verified.sealed, verified.heads);
    tell_cosigned(&cosigned.unwrap_or_default());
    for (edition, records) in &verified.older_editions {
        let release = ledger_core::edition::releases(*edition).unwrap_or("unknown");
        println!("not decided again: {records} records of edition {edition}; release {release} can do that, all else of them is verified");
    }
    let unsealed = [
        (verified.records.saturating_sub(verified.sealed), "records"),
        (verified.unsealed_outcomes, "refused commands"),
        (verified.unsealed_programs, "entries of the program stream"),
    ];
    let unsealed: Vec<String> = unsealed.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if !unsealed.is_empty() {
        println!("not sealed yet when this was archived: the last {}", unsealed.join(", "));
    }
    Ok(())
}

fn prove(receipt: &Path, key: &str, witnesses: &QuorumOptions) -> anyhow::Result<()> {
    let quorum = quorum(witnesses)?;
    let text = std::fs::read_to_string(receipt).with_context(|| format!("can't read {}", receipt.display()))?;
    let receipt: Receipt = serde_json::from_str(&text).with_context(|| format!("{} is not a receipt", receipt.display()))?;
    let (record, head) = receipt.check(&public_key(key)?)?;
    let cosigned = match (quorum, &receipt.sealed) {
        (Some(quorum), Some(sealed)) => quorum.check(sealed.checkpoint.as_bytes())?,
        _ => Vec::new(),
    };
    println!("{} {} of {} stands in book {}", record.command_kind, record.command_id, record.key, head.book);
    println!("at position {} of partition {}, sealed {} among {} records", receipt.position, receipt.partition, head.at, head.record_count());
    tell_cosigned(&cosigned);
    Ok(())
}

async fn explain(log: &dyn EventLog, account: &str, at: Option<&str>) -> anyhow::Result<()> {
    let at = at.map(|at| Moment::parse(at).with_context(|| format!("--at {at:?}"))).transpose()?;
    let partition = event_log::partition_of(account, log.partitions());
    let (mut next, mut told) = (0, 0);
    loop {
        let entries = log.read(partition, next, 5000).await?;
        let Some(last) = entries.last() else { break };
        next = last.position + 1;
        for entry in entries.iter().filter(|entry| entry.account == account) {
            let record = Record::decode(&entry.body).with_context(|| format!("position {}", entry.position))?;
            if at.is_some_and(|at| record.recorded_at > at) {
                continue;
            }
            told += 1;
            tell(&record);
        }
    }
    ensure!(told > 0, "the book has nothing of {account:?} by then; accounts are named PROGRAM/ACCOUNT");
    Ok(())
}

fn tell(record: &Record) {
    let late = if record.effective_at < record.recorded_at { format!(", booked {}", record.recorded_at) } else { String::new() };
    println!("{}  {} {} by {}{late}, rules of version {}", record.effective_at, record.command_kind, record.command_id, record.actor, record.rule_version);
    for event in &record.events {
        println!("      {}: {}", projectors::kind(&event.kind), projectors::reason(&event.kind));
    }
    let has = &record.balance;
    let owed = if has.owed > 0 { format!(", {} owed", has.owed) } else { String::new() };
    println!("      then: {} available, {} pending, {} held{owed}", has.available, has.pending, has.held);
}
