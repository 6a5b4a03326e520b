//! `loyalty bench`: ratios to the raw engine, in one run. The REST figures come from `bench/rest.sh`, with a load generator that exists.

mod audit;
mod core;
mod fraud;
mod import;
mod insight;
mod kafka;
mod labelled;
mod log;
mod projector;
mod workload;
mod worst;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use comfy_table::{Table, presets};
use command_service::{Limits, ServiceConfig, Share, StatePlace};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::args::BenchOptions;

/// A row of the table.
pub struct Figure {
    name: String,
    value: String,
    target: String,
}

impl Figure {
    fn new(name: &str, value: String, target: &str) -> Self {
        Self { name: name.into(), value, target: target.into() }
    }
}

/// A command service that is measured, alone with its log unless the measurement says otherwise.
fn service_config(folder: PathBuf) -> ServiceConfig {
    ServiceConfig {
        state: StatePlace::Folder(folder),
        owner: "bench".into(),
        accounts_in_memory: 200_000,
        queue_max: 1000,
        share: Share::Alone,
        answer_within: Duration::from_secs(10),
        limits: Limits::default(),
    }
}

/// Starts a process of ours and waits until it listens; tells where.
async fn listening(mut command: Command) -> anyhow::Result<(Child, String)> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("it was asked for")?).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.strip_prefix("listening on ") {
            return Ok((child, address.to_owned()));
        }
    }
    anyhow::bail!("the process ended before it listened")
}

/// Per second, for people.
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}

/// One figure to another, for people.
#[allow(clippy::float_arithmetic, reason = "a ratio for people")]
fn ratio(one: f64, other: f64) -> f64 {
    one / other.max(1e-9)
}

/// Runs the parts and prints the table.
pub async fn run(options: BenchOptions) -> anyhow::Result<()> {
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut figures = Vec::new();
    // First, as the peak of the process' memory is one of its figures.
    if let Some(file) = options.file.as_deref().filter(|_| wanted("import")) {
        figures.extend(import::run(file).await?);
    }
    if let Some(broker) = options.kafka.as_deref() {
        figures.extend(kafka::run(broker, options.streams.as_deref(), wanted).await?);
    }
    if options.kafka.is_none() && wanted("core") {
        figures.extend(core::run()?);
    }
    if options.kafka.is_none() && wanted("worst") {
        figures.extend(worst::run()?);
    }
    if options.kafka.is_none() && wanted("insight") {
        figures.extend(insight::run()?);
    }
    if options.kafka.is_none() && wanted("fraud") {
        figures.extend(fraud::run(tempfile::tempdir()?.path()).await?);
    }
    if let Some(file) = options.labelled.as_deref().filter(|_| wanted("labelled")) {
        figures.extend(labelled::run(file, tempfile::tempdir()?.path()).await?);
    }
    if options.kafka.is_none() && (wanted("log") || wanted("projector") || wanted("audit")) {
        let folder = tempfile::tempdir()?;
        let server = embedded_postgres::Server::start(folder.path()).await?;
        figures.extend(log::run(server.url(), folder.path()).await?);
        figures.extend(audit::run(server.url(), folder.path()).await?);
        figures.extend(projector::run(server.url()).await?);
    }
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(vec!["what", "reached", "to reach"]);
    for figure in figures {
        table.add_row([figure.name, figure.value, figure.target]);
    }
    println!("{table}");
    Ok(())
}
