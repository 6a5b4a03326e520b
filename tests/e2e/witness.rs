//! Checkpoints cosigned by witnesses that are not ours: litewitness, as its operators run it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::OnceCell;

use crate::audit::{refused, said, text};
use crate::support::{Up, loyalty, purchase, rulebook, run};

const P: &str = "/v1/programs/shop";
const ORIGIN: &str = "test.example/book";
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const GO: &str = "the test needs Go 1.24 or later, by which litewitness is fetched (https://go.dev/dl)";
const SSH: &str = "the test needs OpenSSH, whose agent keeps the witness's key (Debian: apt-get install openssh-client)";

async fn made(command: &mut Command, needs: &str) -> String {
    let outcome: std::io::Result<Output> = command.output().await;
    assert!(outcome.as_ref().is_ok_and(|output| output.status.success()), "{command:?}: {outcome:?}: {needs}");
    String::from_utf8(outcome.unwrap().stdout).unwrap()
}

/// The folder of litewitness and witnessctl, under target/.
async fn engines() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let fetch = async || {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("torchwood-0.6.1");
        if !folder.join("ready").exists() {
            let of = |name: &str| format!("filippo.io/torchwood/cmd/{name}@v0.6.1");
            made(Command::new("go").args(["install", &of("litewitness"), &of("witnessctl")]).env("GOBIN", &folder), GO).await;
            std::fs::write(folder.join("ready"), "").unwrap();
        }
        folder
    };
    FOLDER.get_or_init(fetch).await
}

/// A witness, whose database and key outlive its process.
struct Witness {
    name: &'static str,
    folder: TempDir,
    address: String,
    fingerprint: String,
    /// As it tells it.
    key: String,
    process: Option<Child>,
    _agent: Child,
}

impl Witness {
    async fn start(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        made(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key), SSH).await;
        let told = made(Command::new("ssh-keygen").arg("-lf").arg(&key), SSH).await;
        let fingerprint = told.split(' ').nth(1).unwrap().to_owned();
        let socket = folder.path().join("agent");
        let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::piped()).kill_on_drop(true).spawn().expect(SSH);
        // It tells of its socket once that is there.
        let mut lines = BufReader::new(agent.stdout.take().unwrap()).lines();
        while !lines.next_line().await.unwrap().expect(SSH).starts_with("echo Agent pid") {}
        made(Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket), SSH).await;
        // It takes no port of its own choice.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut witness = Self { name, folder, address, fingerprint, key: String::new(), process: None, _agent: agent };
        witness.go_on().await;
        witness
    }

    /// Runs it and waits until it answers.
    async fn go_on(&mut self) {
        let mut command = Command::new(engines().await.join("litewitness"));
        command.arg("-db").arg(self.folder.path().join("db")).arg("-ssh-agent").arg(self.folder.path().join("agent"));
        command.args(["-name", self.name, "-key", &self.fingerprint, "-listen", &self.address]).stderr(Stdio::null()).kill_on_drop(true);
        self.process = Some(command.spawn().unwrap());
        let page = loop {
            if let Ok(response) = reqwest::get(format!("http://{}/", self.address)).await {
                break response.text().await.unwrap();
            }
            assert!(self.process.as_mut().unwrap().try_wait().unwrap().is_none(), "{} ended", self.name);
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        self.key = page.lines().find(|line| line.starts_with(&format!("{}+", self.name))).unwrap_or_else(|| panic!("{page}")).to_owned();
    }

    async fn stop(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    /// Makes it cosign what `key` signs.
    async fn knows(&self, key: &str) {
        for arguments in [&["add-log", "-origin", ORIGIN][..], &["add-key", "-origin", ORIGIN, "-key", key]] {
            let mut command = Command::new(engines().await.join("witnessctl"));
            made(command.args(&arguments[..1]).arg("-db").arg(self.folder.path().join("db")).args(&arguments[1..]), GO).await;
        }
    }

    /// As the sealer is told of it.
    fn flag(&self) -> String {
        format!("{}@http://{}", self.key, self.address)
    }
}

/// A receipt whose checkpoint all of `witnesses` cosigned.
async fn receipt(up: &Up, id: &str, answer: &Value, witnesses: &[&Witness]) -> Value {
    loop {
        let receipt = up.read(&format!("{P}/accounts/m1/receipts/{id}"), answer).await;
        let checkpoint = receipt["sealed"]["checkpoint"].as_str().unwrap_or_default();
        if !checkpoint.is_empty() && witnesses.iter().all(|witness| checkpoint.contains(&format!("— {} ", witness.name))) {
            return receipt;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

async fn sell(up: &Up, id: &str) -> Value {
    let (status, answer) = up.post(&format!("{P}/purchases"), purchase(id, "m1", "2010-01-01T00:00:00Z", "A", "50.00")).await;
    assert_eq!(status.as_u16(), 201, "{answer}");
    answer
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A book to be sealed, and two witnesses that know its log.
struct Site {
    data: TempDir,
    files: TempDir,
    /// The file of the secret key, and the public one.
    key: (String, String),
    one: Witness,
    two: Witness,
}

impl Site {
    async fn new() -> Self {
        embedded_postgres::use_ring();
        let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = text(&files.path().join("audit.key")).to_owned();
        let public = said(&["audit", "key", ORIGIN, "--file", &secret]).await.trim().to_owned();
        let (one, two) = (Witness::start("w1.example").await, Witness::start("w2.example").await);
        for witness in [&one, &two] {
            witness.knows(&public).await;
        }
        Self { data, files, key: (secret, public), one, two }
    }

    fn file(&self, name: &str) -> String {
        text(&self.files.path().join(name)).to_owned()
    }

    /// `loyalty audit WHAT FILE`, which asks for the cosignatures of both.
    fn asks(&self, what: &str, file: &str) -> Vec<String> {
        let (public, one, two) = (&*self.key.1, &*self.one.key, &*self.two.key);
        ["audit", what, file, "--key", public, "--witness", one, "--witness", two].map(str::to_owned).to_vec()
    }

    async fn sell(&self, id: &str) {
        let up = Up::start(self.data.path(), &[]).await;
        if id == "p1" {
            assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0.as_u16(), 201);
        }
        sell(&up, id).await;
        up.stop().await;
    }
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn checkpoints_are_cosigned_by_those_of_the_witnesses_that_are_there() {
    let mut site = Site::new().await;
    site.two.stop().await;

    // One is there, one is not: it is sealed, and told once.
    let told = site.file("told");
    let flags = [site.one.flag(), site.two.flag()];
    let sealing = ["up", "--listen", "127.0.0.1:0", "--audit-key", &site.key.0, "--seal-seconds", "1", "--witness", &flags[0], "--witness", &flags[1]];
    let mut command = loyalty(&sealing, site.data.path());
    command.stderr(std::fs::File::create(&told).unwrap());
    let up = Up::run(command).await;
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0.as_u16(), 201);
    let answer = sell(&up, "p1").await;
    receipt(&up, "p1", &answer, &[&site.one]).await;
    let answer = sell(&up, "p2").await;
    let first = receipt(&up, "p2", &answer, &[&site.one]).await;
    let path = site.file("receipt.json");
    std::fs::write(&path, first.to_string()).unwrap();
    let asks = site.asks("prove", &path);
    let asks = strs(&asks);
    let why = refused(&asks).await;
    assert!(why.contains("the checkpoint has 1 of the 2 cosignatures that are asked for: w2.example did not cosign it"), "{why}");
    let proven = said(&[&asks[..], &["--quorum", "1"]].concat()).await;
    assert!(proven.contains("purchase p2 of shop/m1 stands in book") && proven.contains("cosigned by w1.example at "), "{proven}");
    assert!(!said(&asks[..5]).await.contains("cosigned"), "who asks for none is told of none");
    let metric = async |name: &str, value: u8| {
        let line = format!("loyalty_witness_cosigned{{witness=\"{name}\"}} {value}");
        let text = up.send(reqwest::Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
        assert!(text.contains(&line), "{line}: {text}");
    };
    metric("w1.example", 1).await;
    metric("w2.example", 0).await;

    // Once it is back, it cosigns the same checkpoint, since nothing came after it, and the next one from there.
    site.two.go_on().await;
    let second = receipt(&up, "p2", &answer, &[&site.one, &site.two]).await;
    let checkpoint = |receipt: &Value| receipt["sealed"]["checkpoint"].as_str().unwrap().to_owned();
    assert!(checkpoint(&second).starts_with(&checkpoint(&first)), "{second}");
    let answer = sell(&up, "p3").await;
    std::fs::write(&path, receipt(&up, "p3", &answer, &[&site.one, &site.two]).await.to_string()).unwrap();
    assert!(said(&asks).await.contains("cosigned by w2.example at "));
    metric("w2.example", 1).await;
    up.stop().await;
    let told = std::fs::read_to_string(&told).unwrap();
    assert_eq!(told.matches("the checkpoint has no cosignature of this witness").count(), 1, "{told}");
}

#[tokio::test]
async fn a_second_history_is_not_cosigned_though_the_same_key_signs_it() {
    let (site, stranger) = (Site::new().await, Witness::start("w3.example").await);
    let flags = [site.one.flag(), site.two.flag(), stranger.flag()];
    let checkpoint = ["audit", "checkpoint", "--key", &site.key.0, "--witness", &flags[0], "--witness", &flags[1], "--witness", &flags[2]];
    site.sell("p1").await;
    let sealed = run(&checkpoint, site.data.path()).await;
    assert!(sealed.contains("cosigned by 2 of 3 witnesses") && sealed.contains("it does not know the log \"test.example/book\""), "{sealed}");

    // An archive has the cosignatures of its last checkpoint.
    let archive = site.file("archive");
    run(&["audit", "export", &archive], site.data.path()).await;
    let asks = site.asks("verify", &archive);
    let asks = strs(&asks);
    let verified = said(&asks).await;
    assert!(verified.contains("cosigned by w1.example at ") && verified.contains("cosigned by w2.example at "), "{verified}");
    assert!(said(&asks[..5]).await.contains("archive verified"));
    let why = refused(&[&asks[..], &["--witness", &stranger.key]].concat()).await;
    assert!(why.contains("has 2 of the 3 cosignatures that are asked for: w3.example did not cosign it"), "{why}");

    // A process that was just started learns from each witness how far it is.
    let (seal, older) = (site.data.path().join("seal"), site.files.path().join("older"));
    copy(&seal, &older);
    site.sell("p2").await;
    let sealed = run(&checkpoint, site.data.path()).await;
    assert!(sealed.contains("cosigned by 2 of 3 witnesses"), "{sealed}");

    // Sealed anew from an older copy, the same book is another history.
    std::fs::remove_dir_all(&seal).unwrap();
    copy(&older, &seal);
    let forked = run(&checkpoint, site.data.path()).await;
    assert!(forked.contains("cosigned by 0 of 3 witnesses"), "{forked}");
    assert_eq!(forked.matches("it knows another history of this log").count(), 2, "{forked}");
    let archive = site.file("forked");
    run(&["audit", "export", &archive], site.data.path()).await;
    let asks = site.asks("verify", &archive);
    let asks = strs(&asks);
    assert!(said(&asks[..5]).await.contains("archive verified"), "alone, it can't be told");
    let why = refused(&[&asks[..], &["--quorum", "1"]].concat()).await;
    assert!(why.contains("has 0 of the 1 cosignatures that are asked for: w1.example, w2.example did not cosign it"), "{why}");
}
