//! Checkpoints cosigned by witnesses that are not ours: litewitness, as its operators run it.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

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
async fn engines() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("torchwood-0.6.1");
    if !folder.join("ready").exists() {
        let of = |name: &str| format!("filippo.io/torchwood/cmd/{name}@v0.6.1");
        made(Command::new("go").args(["install", &of("litewitness"), &of("witnessctl")]).env("GOBIN", &folder), GO).await;
        std::fs::write(folder.join("ready"), "").unwrap();
    }
    folder
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
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(std::fs::copy(entry.path(), target).unwrap()) }
    }
}

#[tokio::test]
async fn checkpoints_are_cosigned_whoever_of_the_witnesses_is_there_and_a_second_history_is_not() {
    embedded_postgres::use_ring();
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let key = file("audit.key");
    let public = said(&["audit", "key", ORIGIN, "--file", &key]).await.trim().to_owned();
    let (one, mut two) = (Witness::start("w1.example").await, Witness::start("w2.example").await);
    for witness in [&one, &two] {
        witness.knows(&public).await;
    }
    let keys = (one.key.clone(), two.key.clone());
    two.stop().await;

    // One is there, one is not: it is sealed, and told once.
    let told = file("told");
    let sealing = ["--audit-key", &key, "--seal-seconds", "1", "--witness", &one.flag(), "--witness", &two.flag()];
    let mut command = loyalty(&[&["up", "--listen", "127.0.0.1:0"][..], &sealing].concat(), data.path());
    command.stderr(std::fs::File::create(&told).unwrap());
    let up = Up::run(command).await;
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0.as_u16(), 201);
    let path = file("receipt.json");
    let answer = sell(&up, "p1").await;
    receipt(&up, "p1", &answer, &[&one]).await;
    let answer = sell(&up, "p2").await;
    let first = receipt(&up, "p2", &answer, &[&one]).await;
    std::fs::write(&path, first.to_string()).unwrap();
    let asked = ["audit", "prove", &path, "--key", &public, "--witness", &keys.0, "--witness", &keys.1];
    let why = refused(&asked).await;
    assert!(why.contains("the checkpoint has 1 of the 2 cosignatures that are asked for: w2.example did not cosign it"), "{why}");
    let proven = said(&[&asked[..], &["--quorum", "1"]].concat()).await;
    assert!(proven.contains("purchase p2 of shop/m1 stands in book") && proven.contains("cosigned by w1.example at "), "{proven}");
    assert!(!said(&asked[..5]).await.contains("cosigned"), "who asks for none is told of none");
    let metric = async |name: &str, value: u8| {
        let line = format!("loyalty_witness_cosigned{{witness=\"{name}\"}} {value}");
        let text = up.send(reqwest::Method::GET, "/metrics", None).await.unwrap().text().await.unwrap();
        assert!(text.contains(&line), "{line}: {text}");
    };
    metric("w1.example", 1).await;
    metric("w2.example", 0).await;

    // Once it is back, it cosigns the same checkpoint, since nothing came after it, and the next one from there.
    two.go_on().await;
    let second = receipt(&up, "p2", &answer, &[&one, &two]).await;
    let checkpoint = |receipt: &Value| receipt["sealed"]["checkpoint"].as_str().unwrap().to_owned();
    assert!(checkpoint(&second).starts_with(&checkpoint(&first)), "{second}");
    let answer = sell(&up, "p3").await;
    std::fs::write(&path, receipt(&up, "p3", &answer, &[&one, &two]).await.to_string()).unwrap();
    assert!(said(&asked).await.contains("cosigned by w2.example at "));
    metric("w2.example", 1).await;
    up.stop().await;
    let told = std::fs::read_to_string(&told).unwrap();
    assert_eq!(told.matches("the checkpoint has no cosignature of this witness").count(), 1, "{told}");

    // An archive has the cosignatures of its last checkpoint.
    let archive = file("archive");
    run(&["audit", "export", &archive], data.path()).await;
    let verify = ["audit", "verify", &archive, "--key", &public, "--witness", &keys.0, "--witness", &keys.1];
    let verified = said(&verify).await;
    assert!(verified.contains("cosigned by w1.example at ") && verified.contains("cosigned by w2.example at "), "{verified}");
    assert!(said(&verify[..5]).await.contains("archive verified"));
    let stranger = Witness::start("w3.example").await;
    let why = refused(&[&verify[..], &["--witness", &stranger.key]].concat()).await;
    assert!(why.contains("has 2 of the 3 cosignatures that are asked for: w3.example did not cosign it"), "{why}");

    // A process that was just started learns from each witness how far it is. One that does not know the log says so.
    let seal = data.path().join("seal");
    copy(&seal, &files.path().join("older"));
    let up = Up::start(data.path(), &[]).await;
    sell(&up, "p4").await;
    up.stop().await;
    let checkpoint = ["audit", "checkpoint", "--key", &key, "--witness", &one.flag(), "--witness", &two.flag(), "--witness", &stranger.flag()];
    let sealed = run(&checkpoint, data.path()).await;
    assert!(sealed.contains("cosigned by 2 of 3 witnesses") && sealed.contains("it does not know the log \"test.example/book\""), "{sealed}");

    // Sealed anew from an older copy, the same book is another history: no witness cosigns it.
    std::fs::remove_dir_all(&seal).unwrap();
    copy(&files.path().join("older"), &seal);
    let forked = run(&checkpoint, data.path()).await;
    assert!(forked.contains("cosigned by 0 of 3 witnesses"), "{forked}");
    assert_eq!(forked.matches("it knows another history of this log").count(), 2, "{forked}");
    let archive = text(&files.path().join("forked")).to_owned();
    run(&["audit", "export", &archive], data.path()).await;
    assert!(said(&["audit", "verify", &archive, "--key", &public]).await.contains("archive verified"), "alone, it can't be told");
    let why = refused(&["audit", "verify", &archive, "--key", &public, "--witness", &keys.0, "--witness", &keys.1, "--quorum", "1"]).await;
    assert!(why.contains("has 0 of the 1 cosignatures that are asked for: w1.example, w2.example did not cosign it"), "{why}");
}
