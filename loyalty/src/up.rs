//! `loyalty up`: serve.

use anyhow::{Context, bail};
use api::{ApiState, Keys, router};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::UpOptions;
use crate::node::Node;

const SECONDS_BUCKETS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];
const RECORDS_BUCKETS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0];

/// Runs until it is told to stop.
pub async fn run(options: UpOptions) -> anyhow::Result<()> {
    check(&options)?;
    let metrics = metrics()?;
    let node = Node::start(&options.data, options.queue_max, !options.without_projectors).await?;
    serve(node, &options, metrics, |_| {}).await
}

/// Collects metrics from here on.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS_BUCKETS)?;
    Ok(builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), RECORDS_BUCKETS)?.install_recorder()?)
}

/// Refuses an address that others can reach without keys.
pub fn check(options: &UpOptions) -> anyhow::Result<()> {
    if !options.listen.ip().is_loopback() && options.api_keys.is_none() {
        bail!("--listen {} can be reached by others: give --api-keys FILE (see `loyalty key`), or listen on loopback", options.listen);
    }
    Ok(())
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
pub async fn serve(node: Node, options: &UpOptions, metrics: PrometheusHandle, listening: impl FnOnce(&str)) -> anyhow::Result<()> {
    let keys = options.api_keys.as_deref().map(Keys::read).transpose()?;
    let state = ApiState::new(node.service.clone(), node.log.clone(), node.url(), keys, metrics)?;
    let listener = TcpListener::bind(options.listen).await.with_context(|| format!("can't listen on {}", options.listen))?;
    let address = format!("http://{}", listener.local_addr()?);
    println!("listening on {address}");
    listening(&address);
    let told = told()?;
    let failed = async {
        while !node.has_failed() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        served = axum::serve(listener, router(state)).with_graceful_shutdown(told) => served?,
        () = failed => {}
    }
    node.stop().await
}
