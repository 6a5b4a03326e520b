//! The API's description in use: a validator reads it, and clients in Python and TypeScript are generated from it, compiled, and buy, return, redeem and read.
//!
//! The tools are those of `tests/clients`, in the versions named there; they are installed once, beside the other engines of the tests.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::support::{Up, rulebook};

const P: &str = "/v1/programs/shop";
const PYTHON: &str = "Python 3.11 or later with venv is needed (Debian: apt-get install python3-venv)";
const NODE: &str = "Node.js 20 or later with npm is needed (Debian: apt-get install nodejs npm)";

fn clients(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/clients").join(language)
}

/// Runs `command` to its end and gives what it printed.
async fn run(command: &mut Command, hint: &str) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap_or_else(|error| panic!("{hint}: {error}"));
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed; {hint}\n{said}{errors}");
    said.into_owned()
}

/// The folder of tools that `pins` names in their versions; made by `install` where it is not there yet.
async fn tools(language: &str, pins: &Path, install: impl AsyncFnOnce(&Path)) -> PathBuf {
    let version = blake3::hash(&std::fs::read(pins).unwrap()).to_hex();
    let folder = embedded_postgres::cache().join(format!("clients-{language}-{}", &version[..12]));
    if !folder.exists() {
        // Two processes may install at once: each its own, and one puts it in place whole.
        let partial = folder.with_extension(format!("{}.partial", std::process::id()));
        std::fs::create_dir_all(&partial).unwrap();
        install(&partial).await;
        if std::fs::rename(&partial, &folder).is_err() {
            std::fs::remove_dir_all(&partial).unwrap();
        }
    }
    folder
}

/// A Python with the validator and the generator.
async fn python() -> PathBuf {
    static TOOLS: OnceCell<PathBuf> = OnceCell::const_new();
    let pins = clients("python").join("requirements.txt");
    let install = async |folder: &Path| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder), PYTHON).await;
        run(Command::new(folder.join("bin/python")).args(["-m", "pip", "install", "--quiet", "--no-deps", "--requirement"]).arg(&pins), PYTHON).await;
    };
    TOOLS.get_or_init(async || tools("python", &pins, install).await).await.join("bin/python")
}

/// The `node_modules` with the generator, the client and the compiler.
async fn node_modules() -> PathBuf {
    let lock = clients("typescript").join("package-lock.json");
    let install = async |folder: &Path| {
        for name in ["package.json", "package-lock.json"] {
            std::fs::copy(clients("typescript").join(name), folder.join(name)).unwrap();
        }
        run(Command::new("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder), NODE).await;
    };
    tools("typescript", &lock, install).await.join("node_modules")
}

/// A service with a key for tills and one for those who publish rulebooks.
async fn shop(data: &Path) -> Up {
    let keys = data.join("keys.json");
    let key = |name: &str, scope: &str| json!({"name": name, "hash": api::hash_key(name), "scopes": [scope]});
    std::fs::write(&keys, json!([key("till", "write"), key("office", "admin")]).to_string()).unwrap();
    let mut up = Up::start(data, &["--api-keys", keys.to_str().unwrap()]).await;
    up.key = Some("office".into());
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    assert_eq!(up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await.0, StatusCode::OK);
    up
}

/// The description as the service gives it to everybody, in a file.
async fn description(up: &Up, folder: &Path) -> PathBuf {
    let response = reqwest::get(format!("{}/openapi.json", up.address)).await.unwrap();
    let file = folder.join("openapi.json");
    std::fs::write(&file, response.bytes().await.unwrap()).unwrap();
    file
}

/// What every client is told: it buys for 300.00, gives half of it back and redeems 100.
fn told() -> Value {
    json!({"earned": 300, "clawed_back": 150, "redeemed": 100, "event": "points_redeemed", "refused": "insufficient_points", "unknown": "unauthorized",
        "status": "active", "qualifying": 150, "since": "2010-02-01T12:00:00Z", "available": 50, "sum": 0,
        "buckets": ["available", "clawed_back", "issued", "redeemed"]})
}

#[tokio::test]
async fn a_validator_accepts_the_description() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let file = description(&up, data.path()).await;
    run(Command::new(python().await).args(["-m", "openapi_spec_validator", "--schema", "3.1"]).arg(file), "the description is not valid").await;
    up.stop().await;
}

#[tokio::test]
async fn a_client_in_python_buys_returns_redeems_and_reads() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let (file, python) = (description(&up, data.path()).await, python().await);
    let generate = ["-m", "openapi_python_client", "generate", "--meta", "none", "--fail-on-warning", "--path"];
    let path = format!("{}:{}", python.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let mut generator = Command::new(&python);
    generator.args(generate).arg(file).arg("--output-path").arg(data.path().join("loyalty_client")).env("PATH", path);
    run(&mut generator, "the description is of no use to the generator").await;
    std::fs::copy(clients("python").join("shop.py"), data.path().join("shop.py")).unwrap();
    let mut client = Command::new(&python);
    client.arg(data.path().join("shop.py")).args([&up.address, "till", "py"]);
    let said = run(&mut client, "the client failed").await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), told());
    up.stop().await;
}

#[tokio::test]
async fn a_client_in_typescript_buys_returns_redeems_and_reads() {
    let data = tempfile::tempdir().unwrap();
    let up = shop(data.path()).await;
    let (file, modules) = (description(&up, data.path()).await, node_modules().await);
    std::os::unix::fs::symlink(&modules, data.path().join("node_modules")).unwrap();
    for name in ["package.json", "tsconfig.json", "shop.ts"] {
        std::fs::copy(clients("typescript").join(name), data.path().join(name)).unwrap();
    }
    let node = |script: &str| {
        let mut command = Command::new("node");
        command.arg(script).current_dir(data.path());
        command
    };
    let mut generator = node("node_modules/openapi-typescript/bin/cli.js");
    run(generator.arg(file).args(["--output", "api.d.ts"]), "the description is of no use to the generator").await;
    run(&mut node("node_modules/typescript/bin/tsc"), "the client does not compile").await;
    let said = run(node("out/shop.js").args([&up.address, "till", "ts"]), "the client failed").await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), told());
    up.stop().await;
}
