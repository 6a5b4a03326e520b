//! The same work by a Kafka Streams application (`bench/streams`), `exactly_once_v2`, on the same broker: commands in, balances and the ids seen in
//! stores, events out. It knows no rules, lots, tiers or hashes; commands and events have the size of ours.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::bare::make_topic;
use super::topics::{ACCOUNTS as FEW_ACCOUNTS, Till, answer_times};
use crate::bench::log::{ACCOUNTS, COMMANDS};
use crate::bench::rate;
use crate::bench::workload::key;

/// What a purchase of the workload takes on the wire, and the record of one.
const COMMAND_BYTES: usize = 200;
const EVENT_BYTES: usize = 400;
/// How often it commits: by default under exactly once; and as it must for short answers.
const COMMIT: Duration = Duration::from_millis(100);
const COMMIT_SOON: Duration = Duration::from_millis(10);

struct Application(Child);

impl Drop for Application {
    fn drop(&mut self) {
        // It is only measured; whatever is left of it is thrown away.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Commands a second with the stores on disk, once the first 100,000 are done.
pub async fn throughput(brokers: &str, prefix: &str, program: &Path, folder: &Path) -> anyhow::Result<f64> {
    let till = topics(brokers, prefix).await?;
    // Every account has something to redeem before the clock runs.
    for n in 0..ACCOUNTS {
        till.send(&format!("bench/m{n}"), &command(&format!("a{n}"), 50)?)?;
    }
    for n in 0..COMMANDS {
        let points = if n % 5 == 4 { -1 } else { 50 };
        till.send(&key(n, ACCOUNTS).to_string(), &command(&format!("p{n}"), points)?)?;
    }
    till.flush()?;
    let _application = start(brokers, prefix, program, folder, COMMIT)?;
    tokio::task::spawn_blocking(move || {
        let mut begin = Instant::now();
        for seen in 0..ACCOUNTS + COMMANDS {
            if seen == ACCOUNTS {
                begin = Instant::now();
            }
            till.next(id_of)?;
        }
        Ok(rate(COMMANDS, begin.elapsed().as_secs_f64()))
    })
    .await?
}

/// From a command to its committed event.
pub async fn latency(brokers: &str, prefix: &str, program: &Path, folder: &Path) -> anyhow::Result<(Duration, Duration)> {
    let till = topics(brokers, prefix).await?;
    let _application = start(brokers, prefix, program, folder, COMMIT_SOON)?;
    let make = |n| {
        let id = format!("p{n}");
        let body = command(&id, 50).expect("an id of a few digits is short");
        (key(n, FEW_ACCOUNTS).to_string(), id, body)
    };
    answer_times(till, make, id_of).await
}

async fn topics(brokers: &str, prefix: &str) -> anyhow::Result<Till> {
    make_topic(brokers, &format!("{prefix}.commands")).await?;
    make_topic(brokers, &format!("{prefix}.events")).await?;
    Till::open(brokers, prefix)
}

fn start(brokers: &str, prefix: &str, program: &Path, folder: &Path, commit: Duration) -> anyhow::Result<Application> {
    let target = program.join("target");
    anyhow::ensure!(target.join("streams-1.jar").exists(), "{} is not built; run {}", target.display(), program.join("build.sh").display());
    let class_path = format!("{0}/streams-1.jar:{0}/libraries/*", target.display());
    let mut java = Command::new("java");
    java.args(["-Xmx1g", "-cp", &class_path, "Ledger", brokers, prefix]);
    java.args([&commit.as_millis().to_string(), "2", &EVENT_BYTES.to_string()]);
    java.arg(folder.join(prefix)).arg("rocksdb").stdout(Stdio::null());
    java.spawn().map(Application).context("start the Kafka Streams application")
}

fn command(id: &str, points: i64) -> anyhow::Result<Vec<u8>> {
    let mut body = vec![u8::try_from(id.len())?];
    body.extend_from_slice(id.as_bytes());
    body.extend_from_slice(&points.to_be_bytes());
    body.resize(COMMAND_BYTES, 7);
    Ok(body)
}

fn id_of(event: &[u8]) -> anyhow::Result<String> {
    let length = usize::from(*event.first().context("an event has an id")?);
    Ok(String::from_utf8(event.get(1..=length).context("its id is whole")?.to_vec())?)
}
