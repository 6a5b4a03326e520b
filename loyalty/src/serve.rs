//! `loyalty serve`: one part in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use projectors::{Projector, Refusals, read_models};
use tokio::task::JoinHandle;

use crate::args::{DataOptions, Part, ServeOptions};
use crate::door::{ApiDoor, Door, Sealing};
use crate::node::{Models, Node, Role};
use crate::ops::{find, open};
use crate::up;

/// How often those that project are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Runs until it is told to stop.
pub async fn run(options: ServeOptions) -> anyhow::Result<()> {
    match options.part {
        Part::CommandService { listen, deciding, data } => {
            let door = Door::at(listen)?;
            let metrics = up::metrics()?;
            let role = Role { share: Some(deciding.share()), queue_max: deciding.queue_max, models: Models::None };
            let node = Node::start(&data, role).await?;
            serve_ops(node, door, metrics).await
        }
        Part::Api { api, data } => {
            let door = ApiDoor::at(&api, &data)?;
            let metrics = up::metrics()?;
            let role = Role { share: None, queue_max: 0, models: Models::Reads };
            let node = Node::start(&data, role).await?;
            up::serve(node, &data, door, metrics, |_| {}).await
        }
        Part::Intake { listen, intake, data } => {
            let door = Door::at(listen)?;
            data.alias_key()?;
            let metrics = up::metrics()?;
            let role = Role { share: None, queue_max: 0, models: Models::Reads };
            let mut node = Node::start(&data, role).await?;
            if let Err(error) = node.take_in(&data, &intake).await {
                node.stop().await?;
                return Err(error);
            }
            serve_ops(node, door, metrics).await
        }
        Part::Fraud { listen, data } => {
            let door = Door::at(listen)?;
            let role = Role { share: None, queue_max: 0, models: Models::Reads };
            let metrics = up::metrics()?;
            let mut node = Node::start(&data, role).await?;
            node.watch();
            serve_ops(node, door, metrics).await
        }
        Part::Seal { listen, audit_key, seal_seconds, witnesses, data } => {
            let door = Door::at(listen)?;
            let sealing = Sealing::with(&audit_key, data.seal_folder(), &witnesses)?;
            let metrics = up::metrics()?;
            let role = Role { share: None, queue_max: 0, models: Models::None };
            let mut node = Node::start(&data, role).await?;
            if let Err(error) = node.require_sealed(&sealing).await {
                node.stop().await?;
                return Err(error);
            }
            node.seal(sealing, Duration::from_secs(seal_seconds));
            serve_ops(node, door, metrics).await
        }
        Part::Projector { names, data } => projectors(&names, &data).await,
    }
}

/// Health and metrics alone, until it is told to stop.
async fn serve_ops(node: Node, door: Door, metrics: PrometheusHandle) -> anyhow::Result<()> {
    let router = api::ops_router(node.service.clone(), node.log.clone(), metrics);
    up::serve_router(node, door, router, |_| {}).await
}

async fn projectors(names: &[String], data: &DataOptions) -> anyhow::Result<()> {
    let all = names == ["all"];
    let named = names.iter().filter(|name| *name != "refusal");
    let models = if all { read_models() } else { named.map(|name| find(name)).collect::<Result<_, _>>()? };
    telemetry::install("loyalty projector")?;
    let told = up::told()?;
    let (database, log) = open(data).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = Vec::new();
    for model in models {
        println!("projecting {}", model.name());
        let projector = Projector::open(model, Arc::clone(&log), database.url()).await?;
        running.push(tokio::spawn(projector.run(stopped.clone())));
    }
    if all || names.iter().any(|name| name == "refusal") {
        println!("projecting refusal");
        running.push(tokio::spawn(Refusals::open(log, database.url()).await?.run(stopped)));
    }
    let failed = async {
        while !running.iter().any(JoinHandle::is_finished) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = failed => {}
    }
    stop.send_replace(true);
    let mut ended = Ok(());
    for projector in running {
        ended = ended.and(projector.await);
    }
    ended.context("a projector failed")
}
