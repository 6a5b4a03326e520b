//! The processes: a broker, a Postgres behind a proxy that keeps its address, command services, projectors, an API.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use embedded_kafka::Broker;
use embedded_postgres::Server;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::load::Load;
use crate::proxy::Proxy;

const LOYALTY: &str = env!("CARGO_BIN_EXE_loyalty");
const PROJECTORS: [&str; 3] = ["balance", "statement", "all"];

/// Numbers that look random and come from a seed.
pub struct Lots(pub u64);

impl Lots {
    /// Below `bound`.
    pub fn draw(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

pub async fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().await.unwrap().success(), "kill -{name} {pid}");
}

struct Service {
    child: Child,
    address: String,
}

pub struct Site {
    folder: tempfile::TempDir,
    broker: Option<Broker>,
    postgres: Option<Server>,
    database: Proxy,
    database_url: String,
    /// Between the second command service and the broker.
    pub proxy: Proxy,
    services: Vec<Option<Service>>,
    projectors: Vec<Child>,
    api: Option<Service>,
    client: reqwest::Client,
}

impl Site {
    pub async fn new() -> Self {
        embedded_postgres::use_ring();
        let folder = tempfile::Builder::new().prefix("loyalty-storm-").tempdir().unwrap();
        let (proxy, database) = (Proxy::new().await, Proxy::new().await);
        let broker = Broker::start_behind(&folder.path().join("kafka"), Some(proxy.port)).await.unwrap();
        proxy.lead_to(&broker.inner_address());
        let postgres = Server::start(&folder.path().join("postgres")).await.unwrap();
        let (credentials, place) = postgres.url().rsplit_once('@').unwrap();
        let database_url = format!("{credentials}@127.0.0.1:{}/postgres", database.port);
        database.lead_to(place.split_once('/').unwrap().0);
        let (broker, postgres) = (Some(broker), Some(postgres));
        let client = reqwest::Client::new();
        let mut site = Self { folder, broker, postgres, database, database_url, proxy, services: vec![None, None], projectors: Vec::new(), api: None, client };
        site.api = Some(site.serve(&["serve", "api"], "api", 0).await);
        for n in 0..2 {
            site.start_service(n).await;
        }
        for name in PROJECTORS {
            let projector = site.project(name);
            site.projectors.push(projector);
        }
        site.shared().await;
        let rules = json!({"program": "shop", "mode": "sandbox", "currency": "GBP", "time_zone": "UTC", "effective_from": "2010-01-01T00:00:00Z",
            "earn": {"base": {"points": "1", "per": "1.00"}}, "redeem": {"value": {"points": 100, "amount": "1.00"}}});
        let url = format!("{}/v1/programs/shop/rulebook", site.api_address());
        site.client.put(url).json(&rules).send().await.unwrap().error_for_status().unwrap();
        site
    }

    pub fn api_address(&self) -> String {
        self.api.as_ref().unwrap().address.clone()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// A command of the binary; the second command service comes through the proxy.
    fn command(&self, part: &[&str], name: &str, n: usize) -> Command {
        let broker = self.broker.as_ref().unwrap();
        let brokers = if n == 1 { format!("127.0.0.1:{}", self.proxy.port) } else { broker.address() };
        let mut command = Command::new(LOYALTY);
        let log = File::options().create(true).append(true).open(self.log(name)).unwrap();
        command.args(part).args(["--kafka", &brokers, "--kafka-session-seconds", "6", "--database-url", &self.database_url]);
        command.arg("--data").arg(self.folder.path().join(name)).env("LOYALTY_LOG", "info").stderr(log).kill_on_drop(true);
        command
    }

    async fn serve(&self, part: &[&str], name: &str, n: usize) -> Service {
        let mut command = self.command(part, name, n);
        let mut child = command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = async { lines.next_line().await.unwrap() };
        let line = tokio::time::timeout(Duration::from_secs(60), listening).await.expect("it listens within a minute");
        if let Some(address) = line.and_then(|line| line.strip_prefix("listening on ").map(str::to_owned)) {
            return Service { child, address };
        }
        panic!("{name} ended before it listened: {}", self.last_words(name));
    }

    fn last_words(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn project(&self, name: &str) -> Child {
        self.command(&["serve", "projector", name], name, 0).stdout(Stdio::null()).spawn().unwrap()
    }

    pub fn service_pid(&self, n: usize) -> u32 {
        self.services[n].as_ref().unwrap().child.id().unwrap()
    }

    pub async fn start_service(&mut self, n: usize) {
        self.services[n] = Some(self.serve(&["serve", "command-service"], &format!("service-{n}"), n).await);
    }

    pub async fn kill_service(&mut self, n: usize) {
        self.services[n].take().unwrap().child.kill().await.unwrap();
    }

    pub async fn stop_service(&mut self, n: usize) {
        let mut service = self.services[n].take().unwrap();
        signal("TERM", service.child.id().unwrap()).await;
        let status = service.child.wait().await.unwrap();
        assert!(status.success(), "it ends well: {}", self.last_words(&format!("service-{n}")));
    }

    pub async fn restart_projector(&mut self, n: usize) {
        self.projectors[n].kill().await.unwrap();
        self.projectors[n] = self.project(PROJECTORS[n]);
    }

    pub async fn restart_broker(&mut self) {
        let broker = self.broker.take().unwrap();
        signal("KILL", broker.pid().unwrap()).await;
        drop(broker);
        self.broker = Some(Broker::start_behind(&self.folder.path().join("kafka"), None).await.unwrap());
    }

    pub async fn restart_postgres(&mut self) {
        let postgres = self.postgres.take().unwrap();
        let file = postgres.log_file().with_file_name("data").join("postmaster.pid");
        let pid = std::fs::read_to_string(file).unwrap().lines().next().unwrap().parse().unwrap();
        signal("KILL", pid).await;
        self.until("the API says that it is not ready", async || self.readiness().await == 503).await;
        drop(postgres);
        let postgres = Server::start(&self.folder.path().join("postgres")).await.unwrap();
        let (_, place) = postgres.url().rsplit_once('@').unwrap();
        self.database.lead_to(place.split_once('/').unwrap().0);
        self.postgres = Some(postgres);
        self.until("the API is ready again", async || self.readiness().await == 204).await;
    }

    async fn readiness(&self) -> u16 {
        let ready = self.client.get(format!("{}/health/ready", self.api_address())).send().await;
        ready.map_or(0, |response| response.status().as_u16())
    }

    /// Runs service `n` where no file may grow beyond a few kilobytes, until it gives up and says why.
    pub async fn fill_disk_of(&mut self, n: usize, load: &Load) {
        let name = format!("service-{n}");
        let plain = self.command(&["serve", "command-service", "--listen", "127.0.0.1:0"], &name, n);
        let mut limited = Command::new("bash");
        // The signal that would kill it is ignored, so that writing fails as on a full disk.
        limited.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "limited"]).arg(plain.as_std().get_program()).args(plain.as_std().get_args());
        limited.envs(plain.as_std().get_envs().filter_map(|(key, value)| Some((key, value?)))).kill_on_drop(true);
        let said = self.folder.path().join("limited.log");
        // Its words go through a pipe: a file could not take them either.
        let mut child = limited.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut words = String::new();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ended = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                words.push_str(&line);
                words.push('\n');
            }
            child.wait().await.unwrap()
        };
        let (status, ()) = tokio::join!(ended, load.some(AFTER_ALL));
        std::fs::write(said, &words).unwrap();
        assert!(!status.success() && words.contains("state store"), "{words}");
    }

    async fn owned(&self, n: usize) -> u32 {
        let Some(service) = &self.services[n] else { return 0 };
        let Ok(response) = self.client.get(format!("{}/metrics", service.address)).send().await else { return 0 };
        let text = response.text().await.unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("loyalty_partitions_owned ")).map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until service `n` decides `count` partitions.
    pub async fn owns(&self, n: usize, count: u32) {
        self.until(&format!("service {n} has {count} partitions"), async || self.owned(n).await == count).await;
    }

    /// Waits until the two services share all partitions.
    pub async fn shared(&self) {
        self.until("both share the partitions", async || {
            let (one, two) = (self.owned(0).await, self.owned(1).await);
            one + two == 8 && one > 0 && two > 0
        })
        .await;
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let wait = async {
            while !holds().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(120), wait).await.is_err() {
            panic!("not within two minutes: {what}\n{}\n{}", self.last_words("service-0"), self.last_words("service-1"));
        }
    }

    /// Verifies the book and all read models; tells how many records there are.
    pub async fn verified_records(&self) -> usize {
        let output = self.command(&["verify"], "verify", 0).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}: {said}{}", output.status, String::from_utf8_lossy(&output.stderr));
        let count = said.lines().find_map(|line| line.strip_prefix("book verified: ")?.strip_suffix(" records"));
        count.expect("it tells how many").parse().unwrap()
    }

    pub async fn stop(mut self) {
        for n in 0..2 {
            self.stop_service(n).await;
        }
    }
}

/// How many commands the other service takes while one has no disk.
const AFTER_ALL: usize = 30;
