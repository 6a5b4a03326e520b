//! What is wrong with the flags is told in one line, before anything is started; what is printed may be left unread.

use std::path::Path;
use std::process::{Output, Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Up, loyalty, run};

async fn ended(arguments: &[&str], data: &Path) -> Output {
    loyalty(arguments, data).output().await.unwrap()
}

/// The one line that a command is refused with.
async fn line(arguments: &[&str], data: &Path) -> String {
    let Output { status, stderr, .. } = ended(arguments, data).await;
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
    assert!(!data.join("postgres").exists(), "{arguments:?}: nothing was started");
    said
}

#[tokio::test]
async fn a_wrong_flag_is_told_in_one_line_before_anything_starts() {
    let (data, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let data = data.path();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for part in [&["up"][..], &["demo"], &["serve", "api", "--kafka", "127.0.0.1:1"], &["serve", "command-service", "--kafka", "127.0.0.1:1"]] {
        let said = line(&[part, &["--listen", &address]].concat(), data).await;
        assert!(said.contains(&format!("can't listen on {address}; --listen names another address")), "{said}");
    }
    let here = &["up", "--listen", "127.0.0.1:0"][..];
    let (keys, hash, alias) = (file("keys", "no JSON"), file("hash", r#"[{"name": "till", "hash": "x", "scopes": ["read"]}]"#), file("alias", "x"));
    let (nothing, a_file) = (files.path().join("nothing").display().to_string(), file("file", "").clone() + "/data");
    for (flags, words) in [
        (["--api-keys", &*keys], "is not a JSON list of"),
        (["--api-keys", &hash], "is not 64 hexadecimal digits"),
        (["--api-keys", &nothing], "can't be read"),
        (["--alias-key-file", &alias], "64 hexadecimal digits are expected"),
        (["--audit-key", &keys], "the key"),
        (["--audit-key", &nothing], "can't read the key"),
        (["--witness", "w1.example+00000000+BAAA@http://w1.example"], "name the key to seal with (--audit-key), too"),
        (["--database-url", "postgres://u:secret@127.0.0.1:1/d"], "the database at 127.0.0.1:1 can't be reached"),
        (["--database-url", "no url"], "--database-url (DATABASE_URL) is wrong"),
        (["--listen", "0.0.0.0:0"], "give --api-keys FILE"),
    ] {
        let arguments = if flags[0] == "--listen" { ["up", flags[0], flags[1]].to_vec() } else { [here, &flags].concat() };
        let said = line(&arguments, data).await;
        assert!(said.contains(words) && !said.contains("secret"), "{flags:?}: {said}");
    }
    let said = line(here, Path::new(&a_file)).await;
    assert!(said.contains("can't make the data folder"), "{said}");
}

#[tokio::test]
async fn wrong_usage_ends_with_1_as_2_means_rejected_rows() {
    let wrong = [&["nothing"][..], &["import"], &["import", "f.csv", "--format", "xlsx", "--program", "shop"], &["verify", "--nothing"]];
    let right = [&["--help"][..], &["--version"], &["import", "--help"]];
    for (arguments, code) in wrong.iter().map(|wrong| (wrong, 1)).chain(right.iter().map(|right| (right, 0))) {
        let output = Command::new(env!("CARGO_BIN_EXE_loyalty")).args(*arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let (said, silent) = if code == 0 { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
        assert!(!said.is_empty() && silent.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn who_stops_reading_ends_nothing() {
    let data: TempDir = tempfile::tempdir().unwrap();
    // Nobody reads either output from the beginning.
    for (arguments, code) in [(["schema", "rulebook"], 0), (["schema", "openapi"], 0), (["key", "till"], 0), (["schema", "nothing"], 1)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loyalty"));
        let mut child = child.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{arguments:?}");
    }
    let up = Up::start(data.path(), &["--log", "trace"]).await;
    // Its standard output is closed by now.
    assert_eq!(up.get("/health").await.0.as_u16(), 200);
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
}
