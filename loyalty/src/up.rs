//! `loyalty up`: serve.

use std::time::Duration;

use anyhow::ensure;
use api::{ApiState, router};
use axum::Router;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{DataOptions, UpOptions};
use crate::connections;
use crate::door::{ApiDoor, Door, Sealing};
use crate::node::{Models, Node, Role};

const SECONDS_BUCKETS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
const RECORDS_BUCKETS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// Runs until it is told to stop.
pub async fn run(options: UpOptions) -> anyhow::Result<()> {
    let door = ApiDoor::at(&options.api, &options.data)?;
    let sealing = options.audit_key.as_ref().map(|key| Sealing::with(key, options.data.seal_folder(), &options.witnesses)).transpose()?;
    ensure!(sealing.is_some() || options.witnesses.witnesses.is_empty(), "--witness cosigns what is sealed: name the key to seal with (--audit-key), too");
    let metrics = metrics()?;
    let models = if options.without_projectors { Models::Reads } else { Models::Projects };
    let role = Role { share: Some(options.deciding.share()), queue_max: options.deciding.queue_max, models };
    let mut node = Node::start(&options.data, role).await?;
    if options.data.kafka.is_some()
        && let Err(error) = node.take_in(&options.data, &options.intake).await
    {
        node.stop().await?;
        return Err(error);
    }
    node.watch();
    if let Some(hours) = options.estimate_hours {
        node.estimate(Duration::from_secs(hours * 3600));
    }
    if let Some(sealing) = sealing {
        if let Err(error) = node.require_sealed(&sealing).await {
            node.stop().await?;
            return Err(error);
        }
        node.seal(sealing, Duration::from_secs(options.seal_seconds));
    }
    serve(node, &options.data, door, metrics, |_| {}).await
}

/// Collects metrics from here on.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    telemetry::install("loyalty")?;
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?;
    Ok(builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), RECORDS_BUCKETS)?.install_recorder()?)
}

/// Ends with SIGINT or SIGTERM, which are heard from now on.
pub fn told() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Serves `node` until SIGINT or SIGTERM; `listening` is told the address.
pub async fn serve(node: Node, data: &DataOptions, at: ApiDoor, metrics: PrometheusHandle, listening: impl FnOnce(&str)) -> anyhow::Result<()> {
    let ApiDoor { door, keys, aliases, urls } = at;
    if let Err(error) = node.require_alias_key(&aliases).await {
        node.stop().await?;
        return Err(error);
    }
    let state = ApiState::new(node.service.clone(), node.log.clone(), node.url(), keys, aliases, metrics, data.seal_folder())?;
    serve_router(node, door, router(state, urls), listening).await
}

/// Serves `router` until SIGINT or SIGTERM or until the node fails.
pub async fn serve_router(node: Node, door: Door, router: Router, listening: impl FnOnce(&str)) -> anyhow::Result<()> {
    let listener = match door.open() {
        Ok(listener) => listener,
        Err(error) => {
            node.stop().await?;
            return Err(error);
        }
    };
    let address = format!("http://{}", listener.local_addr()?);
    println!("listening on {address}");
    listening(&address);
    connections::allow_files();
    let told = told()?;
    let failed = async {
        while !node.has_failed() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = connections::serve(listener, router, told) => {}
        () = failed => {}
    }
    node.stop().await
}
