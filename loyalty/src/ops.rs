//! For those who run it: publish, projectors, rebuild, verify, keys, documents.

use std::sync::Arc;

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use command_service::{ProgramState, Programs};
use event_log::EventLog;
use ledger_core::id::Id;
use projectors::{Projector, ProjectorError, ReadModel, Refusals, lags, read_model, read_models};

use crate::args::{DataOptions, KeyOptions, ProgramAction, ProgramOptions, RebuildOptions, SchemaOptions};
use crate::node::{Database, Node, Role, open_log};

/// `loyalty program publish`.
pub async fn program(options: ProgramOptions) -> anyhow::Result<()> {
    let ProgramAction::Publish { file, server, data } = options.action;
    let rulebook = std::fs::read(&file).with_context(|| format!("can't read {}", file.display()))?;
    let document: serde_json::Value = serde_json::from_slice(&rulebook).with_context(|| format!("{} is not JSON", file.display()))?;
    let program = document.get("program").and_then(serde_json::Value::as_str).unwrap_or_default();
    let program = Id::parse(program).with_context(|| format!("{}: /program", file.display()))?;
    if let Some(base) = &server.server {
        let url = format!("{}/v1/programs/{program}/rulebook", base.trim_end_matches('/'));
        // The bytes of the file: the rulebook's hash is theirs.
        let request = reqwest::Client::new().put(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(rulebook);
        let response = server.with_key(request).send().await?;
        let (status, body) = (response.status(), response.text().await?);
        if !status.is_success() {
            bail!("{status}: {body}");
        }
        println!("{body}");
        return Ok(());
    }
    let node = Node::start(&data, Role::ALONE).await.context("is the service running? Then publish with --server URL")?;
    let published = node.service.publish(program.clone(), rulebook, "cli".into()).await;
    node.stop().await?;
    match published {
        Ok((version, new)) => println!("program {program}: rulebook version {version}{}", if new { " published" } else { ", published before" }),
        Err(command_service::Refusal::Invalid(invalid)) => {
            let words: Vec<String> = invalid.iter().map(ToString::to_string).collect();
            bail!("{} is refused:\n  {}", file.display(), words.join("\n  "));
        }
        Err(refusal) => return Err(refusal.into()),
    }
    Ok(())
}

pub async fn open(options: &DataOptions) -> anyhow::Result<(Database, Arc<dyn EventLog>)> {
    let database = Database::join(options).await?;
    let log = open_log(options, &database).await?;
    Ok((database, log))
}

/// The program `name` as it stands on the log.
pub async fn program_state(log: &dyn EventLog, name: &str) -> anyhow::Result<ProgramState> {
    let id = Id::parse(name).context("--program")?;
    Programs::load(log).await?.by_id.remove(&id).with_context(|| format!("there is no program {name}"))
}

/// As [`open`], with read models that have what is on the log where no service brings them up to date.
pub async fn open_caught_up(options: &DataOptions) -> anyhow::Result<(Database, Arc<dyn EventLog>)> {
    let (database, log) = open(options).await?;
    if let Database::Own(_) = &database {
        for model in read_models() {
            Projector::open(model, Arc::clone(&log), database.url()).await?.catch_up().await?;
        }
    }
    // Who follows the refused commands looks once a second, and may have been stopped before.
    match Refusals::open(Arc::clone(&log), database.url()).await?.catch_up().await {
        Ok(_) | Err(ProjectorError::Overtaken { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok((database, log))
}

/// `loyalty projectors`.
pub async fn projectors(options: DataOptions) -> anyhow::Result<()> {
    let (database, log) = open(&options).await?;
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(vec!["projector", "position", "lag", "stopped accounts"]);
    for model in read_models() {
        let health = lags(&*model, &*log, database.url()).await?;
        let position: u64 = health.lags.iter().map(|lag| lag.position).sum();
        let lag: u64 = health.lags.iter().map(|lag| lag.lag).sum();
        table.add_row([model.name().to_owned(), position.to_string(), lag.to_string(), health.poison.len().to_string()]);
        for (account, why) in health.poison {
            eprintln!("{}: {account} is stopped: {why}", model.name());
        }
    }
    println!("{table}");
    Ok(())
}

pub fn find(name: &str) -> anyhow::Result<Arc<dyn ReadModel>> {
    let names = || read_models().iter().map(|model| model.name()).collect::<Vec<_>>().join(", ");
    read_model(name).with_context(|| format!("there is no read model {name:?}; there are {}", names()))
}

/// `loyalty rebuild`.
pub async fn rebuild(options: RebuildOptions) -> anyhow::Result<()> {
    let model = find(&options.name)?;
    let (database, log) = open(&options.data).await?;
    let bar = indicatif::ProgressBar::new_spinner();
    let count = projectors::rebuild(model, log, database.url(), |count| bar.set_position(count)).await?;
    bar.finish_and_clear();
    println!("{} rebuilt from {count} records", options.name);
    Ok(())
}

/// `loyalty verify`.
pub async fn verify(options: DataOptions) -> anyhow::Result<()> {
    let (database, log) = open_caught_up(&options).await?;
    let check = crate::verify::all(log, database.url()).await?;
    println!("book verified: {} records", check.records);
    println!("accounts: {}, refused commands: {}", check.accounts, check.outcomes);
    Ok(())
}

/// `loyalty key`.
pub fn key(options: &KeyOptions) -> anyhow::Result<()> {
    let mut seed = [0_u8; 32];
    std::fs::File::open("/dev/urandom").and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed))?;
    let key = format!("ll_{}", blake3::hash(&seed).to_hex());
    eprintln!("the key, shown once: {key}");
    println!("{}", serde_json::json!({"name": options.name, "hash": api::hash_key(&key), "scopes": [options.scope]}));
    Ok(())
}

/// `loyalty schema`.
pub fn schema(options: &SchemaOptions) -> anyhow::Result<()> {
    let text = match options.name.as_str() {
        "rulebook" => serde_json::to_string_pretty(&ledger_core::policy::json_schema())?,
        _ => serde_json::to_string_pretty(&api::openapi())?,
    };
    println!("{text}");
    Ok(())
}
