//! A Kafka broker of one's own, for tests and benchmarks: one node, controller and broker in one (`KRaft`), on loopback.
//!
//! Invariants: its jars are those of `jars.txt`, byte for byte; it ends when its owner does, however that happens.

mod error;
mod jars;
pub mod testing;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use embedded_postgres::{GUARD, free_port, last_lines};

pub use error::KafkaError;
use error::io;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running broker; dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    guard: Child,
    folder: PathBuf,
    port: u16,
    inner_port: u16,
}

impl Broker {
    /// Starts a broker that lives in `folder`, on the port it had before if it is not new.
    ///
    /// # Errors
    /// [`KafkaError`], each saying what to do or what the broker said.
    pub async fn start(folder: &Path) -> Result<Self, KafkaError> {
        Self::start_behind(folder, None).await
    }

    /// As above; clients that come by [`Broker::inner_address`] are sent on to port `proxy` of this machine.
    ///
    /// # Errors
    /// As above.
    pub async fn start_behind(folder: &Path, proxy: Option<u16>) -> Result<Self, KafkaError> {
        Self::start_as(folder, proxy, &[]).await
    }

    /// Starts a broker whose new cluster has a feature at another level than its version's own, as one that was upgraded: `transaction.version=1`.
    ///
    /// # Errors
    /// As above.
    pub async fn start_with(folder: &Path, feature: &str) -> Result<Self, KafkaError> {
        Self::start_as(folder, None, &["--feature", feature]).await
    }

    async fn start_as(folder: &Path, proxy: Option<u16>, features: &[&str]) -> Result<Self, KafkaError> {
        let class_path = jars::class_path().await?;
        fs::create_dir_all(folder).map_err(io("create", folder))?;
        let settings = folder.join("server.properties");
        if !settings.exists() {
            format(folder, &settings, &class_path, proxy, features)?;
        }
        let text = fs::read_to_string(&settings).map_err(io("read", &settings))?;
        let port = port_of(&text, "listeners=PLAINTEXT://");
        let guard = launch(folder, &settings, &class_path, port).await?;
        Ok(Self { guard, folder: folder.to_owned(), port, inner_port: port_of(&text, ",PROXIED://") })
    }

    /// Where a proxy connects.
    #[must_use]
    pub fn inner_address(&self) -> String {
        format!("127.0.0.1:{}", self.inner_port)
    }

    /// Where clients connect, as `HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The broker's process, for tests that kill it.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join("broker.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            tracing::warn!(%error, "could not wait for the broker to stop");
        }
    }
}

fn java(class_path: &str) -> Command {
    let mut command = Command::new("java");
    // With a collector on both cores the broker stands still for 5 ms a time; the serial one's 15 ms are in every percentile of a benchmark.
    command.args(["-Xmx1g", "-Xms512m", "-XX:+UseParallelGC", "-cp", class_path]);
    command
}

/// The port that follows `name` and the address of this machine; 0 where there is none.
fn port_of(settings: &str, name: &str) -> u16 {
    let rest = settings.split(&format!("{name}127.0.0.1:")).nth(1).unwrap_or_default();
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|port| port.parse().ok()).unwrap_or(0)
}

fn format(folder: &Path, settings: &Path, class_path: &str, proxy: Option<u16>, features: &[&str]) -> Result<(), KafkaError> {
    let port = || free_port().map_err(io("find a port for", folder));
    let (port, controller, inner) = (port()?, port()?, port()?);
    let (inner, outer) = match proxy {
        Some(proxy) => (format!(",PROXIED://127.0.0.1:{inner}"), format!(",PROXIED://127.0.0.1:{proxy}")),
        None => (String::new(), String::new()),
    };
    let data = folder.join("data");
    let text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{inner}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}{outer}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\noffsets.topic.num.partitions=4\ntransaction.state.log.num.partitions=4\n",
        data.display()
    );
    let partial = settings.with_extension("partial");
    fs::write(&partial, text).map_err(io("write", &partial))?;
    // Any 16 bytes in base64 name a cluster; this one is alone.
    let format = ["kafka.tools.StorageTool", "format", "-t", "bG95YWx0eS1sZWRnZXItMQ", "-c"];
    let output = java(class_path).args(format).arg(&partial).args(features).output().map_err(KafkaError::Java)?;
    if !output.status.success() {
        return Err(KafkaError::Broker { output: last_lines(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat())) });
    }
    fs::rename(&partial, settings).map_err(io("rename", &partial))
}

async fn launch(folder: &Path, settings: &Path, class_path: &str, port: u16) -> Result<Child, KafkaError> {
    let log_path = folder.join("broker.log");
    let log = File::create(&log_path).map_err(io("create", &log_path))?;
    let errors = log.try_clone().map_err(io("open", &log_path))?;
    let program = java(class_path);
    let mut shell = Command::new("/bin/sh");
    // The shell that becomes the broker notes its own number first. A controlled shutdown of a lone broker takes seconds and gains nothing:
    // what was acknowledged is in its log.
    let run = format!("echo $$ > '{}'; exec \"$@\"", folder.join("broker.pid").display());
    shell
        .args(["-c", GUARD, "guard", "KILL", "/bin/sh", "-c", &run, "broker"])
        .arg(program.get_program())
        .args(program.get_args())
        .arg("kafka.Kafka")
        .arg(settings);
    shell.process_group(0).stdin(Stdio::piped()).stdout(log).stderr(errors);
    let mut guard = shell.spawn().map_err(io("start the broker in", folder))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return Ok(guard);
        }
        let ended = guard.try_wait().map_err(io("wait for the broker in", folder))?.is_some();
        if ended || Instant::now() > deadline {
            drop(guard.stdin.take());
            let _ = guard.wait();
            return Err(KafkaError::Broker { output: last_lines(&String::from_utf8_lossy(&fs::read(&log_path).unwrap_or_default())) });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
