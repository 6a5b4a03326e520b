//! Who gets in: by route and scope, from which page, how many at once; and who may look into the folders.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Up, loyalty, purchase, rulebook};

const P: &str = "/v1/programs/shop";

/// A service with a key for each scope, named after it.
async fn with_keys(data: &Path, more: &[&str]) -> Up {
    let keys = data.join("keys.json");
    let key = |scope: &str| json!({"name": scope, "hash": api::hash_key(scope), "scopes": [scope]});
    std::fs::write(&keys, json!([key("read"), key("write"), key("admin")]).to_string()).unwrap();
    let flags: Vec<&str> = ["--api-keys", keys.to_str().unwrap()].into_iter().chain(more.iter().copied()).collect();
    let mut up = Up::start(data, &flags).await;
    up.key = Some("admin".into());
    assert_eq!(up.put(&format!("{P}/rulebook"), rulebook()).await.0, StatusCode::CREATED);
    up
}

/// The scopes as docs/operating.md tells them.
fn scope_of(method: &Method, template: &str) -> Option<&'static str> {
    match *method {
        Method::GET => Some("read"),
        Method::PUT => Some("admin"),
        Method::POST if template.contains("/simulate/") => Some("read"),
        Method::POST => Some("write"),
        _ => None,
    }
}

#[tokio::test]
async fn every_route_takes_its_scope_whatever_its_path_names() {
    let data = tempfile::tempdir().unwrap();
    let mut up = with_keys(data.path(), &[]).await;
    let (_, document) = up.get("/openapi.json").await;
    let mut tried = 0;
    for (template, known) in document["paths"].as_object().unwrap() {
        let open = template.starts_with("/health") || template == "/problems/{code}";
        for name in ["simulate", "health"] {
            let path: String = template.split('/').map(|step| if step.starts_with('{') { name } else { step }).collect::<Vec<_>>().join("/");
            for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let wanted = scope_of(&method, template);
                for (rank, key) in [None, Some("read"), Some("write"), Some("admin")].into_iter().enumerate() {
                    up.key = key.map(str::to_owned);
                    let status = up.send(method.clone(), &path, Some(&json!({}))).await.unwrap().status();
                    let needed = wanted.map(|scope| ["", "read", "write", "admin"].iter().position(|known| *known == scope).unwrap());
                    let is_known = known.get(method.as_str().to_lowercase()).is_some();
                    let passes = needed.is_some_and(|needed| rank >= needed);
                    let told = format!("{method} {path} with the key {key:?}: {status}");
                    match (open && is_known, passes, key) {
                        (true, ..) => assert!(!matches!(status.as_u16(), 401 | 403), "{told}"),
                        (_, false, None) => assert!(matches!(status.as_u16(), 401 | 403 | 405), "{told}"),
                        (_, false, Some(_)) => assert!(matches!(status.as_u16(), 403 | 405), "{told}"),
                        (_, true, _) if is_known => assert!(!matches!(status.as_u16(), 401 | 403 | 405), "{told}"),
                        (_, true, _) => assert_eq!(status, 405, "{told}"),
                    }
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 2000, "{tried}");
    up.stop().await;
}

#[tokio::test]
async fn a_proposal_named_simulate_takes_the_scope_of_any_other() {
    let data = tempfile::tempdir().unwrap();
    let mut up = with_keys(data.path(), &[]).await;
    up.key = Some("write".into());
    up.post(&format!("{P}/accounts"), json!({"account_id": "m1"})).await;
    let proposal = json!({"proposal_id": "simulate", "account_id": "m1", "points": 100_000, "reason_code": "goodwill"});
    assert_eq!(up.post(&format!("{P}/proposals"), proposal).await.0, StatusCode::CREATED);
    up.key = Some("read".into());
    let (status, answer) = up.post(&format!("{P}/proposals/simulate/approve"), json!({"account_id": "m1"})).await;
    assert_eq!((status, &answer["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    up.key = None;
    let (status, health) = up.get("/health").await;
    assert_eq!((status, &health["status"], &health["projectors"][0]["poison"]), (StatusCode::OK, &json!("ok"), &json!([])));
    up.stop().await;
}

/// A request as a page of somebody else would have a browser send it.
async fn from_a_page(up: &Up, headers: &[(&str, &str)], body: &str) -> (StatusCode, Value) {
    let mut request = reqwest::Client::new().post(format!("{}{P}/purchases", up.address)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_web_page_of_somebody_else_cannot_write() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &["--public-url", "https://loyalty.example.org"]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    let body = purchase("P1", "m1", "2010-01-01T00:00:00Z", "A", "10.00").to_string();
    let json_type = ("content-type", "application/json");
    let tried = [
        (vec![("content-type", "text/plain")], 415, "unsupported_media_type"),
        (vec![("content-type", "application/x-www-form-urlencoded")], 415, "unsupported_media_type"),
        (vec![], 415, "unsupported_media_type"),
        (vec![json_type, ("origin", "http://evil.example")], 403, "origin_refused"),
        (vec![json_type, ("origin", "null")], 403, "origin_refused"),
        (vec![json_type, ("host", "evil.example")], 421, "host_not_served"),
        (vec![json_type, ("host", "evil.example"), ("origin", "http://evil.example")], 421, "host_not_served"),
    ];
    for (headers, status, code) in tried {
        let (told, problem) = from_a_page(&up, &headers, &body).await;
        assert_eq!((told.as_u16(), &problem["code"]), (status, &json!(code)), "{headers:?}: {problem}");
    }
    let (status, answer) = from_a_page(&up, &[json_type, ("host", "loyalty.example.org"), ("origin", "https://loyalty.example.org")], &body).await;
    assert_eq!((status, &answer["balance"]["pending"]), (StatusCode::CREATED, &json!(10)), "nothing was booked before: {answer}");
    up.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let (status, problem) = from_a_page(&up, &[("content-type", "application/json")], &" ".repeat((4 << 20) + 1)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")), "{problem}");
    up.stop().await;
}

async fn connect_from(local: [u8; 4], to: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((local, 0).into()).unwrap();
    socket.connect(to.strip_prefix("http://").unwrap().parse().unwrap()).await.unwrap()
}

async fn ask(connection: &mut TcpStream) -> String {
    connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 64];
    let count = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn half_requests_of_one_peer_keep_nobody_out() {
    rlimit::increase_nofile_limit(16_384).unwrap();
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut silent = connect_from([127, 0, 0, 4], &up.address).await;
    let mut preface = connect_from([127, 0, 0, 4], &up.address).await;
    preface.write_all(b"PRI * HT").await.unwrap();
    let mut slow = Vec::new();
    for _ in 0..1500 {
        let mut connection = connect_from([127, 0, 0, 2], &up.address).await;
        connection.write_all(b"GET /health/live HTTP/1.1\r\nhost: loc").await.unwrap();
        slow.push(connection);
    }
    let mut served = Vec::new();
    for _ in 0..2200 {
        let mut connection = connect_from([127, 0, 0, 1], &up.address).await;
        assert_eq!(ask(&mut connection).await, "HTTP/1.1 204 No Content");
        served.push(connection);
    }
    // The peer takes what places are left, and no more.
    let mut refused = 0;
    for _ in 0..1000 {
        let mut connection = connect_from([127, 0, 0, 2], &up.address).await;
        let _ = connection.write_all(b"GET").await;
        let mut answer = [0; 12];
        if let Ok(Ok(count)) = tokio::time::timeout(Duration::from_millis(1), connection.read(&mut answer)).await {
            assert!(count == 0 || &answer[..count] == b"HTTP/1.1 503", "{answer:?}");
            refused += 1;
        }
        slow.push(connection);
    }
    assert!(refused > 0, "all places were given away");
    // Who said nothing whole within its time is gone, and its place is free.
    let mut rest = Vec::new();
    slow[0].read_to_end(&mut rest).await.unwrap();
    silent.read_to_end(&mut rest).await.unwrap();
    preface.read_to_end(&mut rest).await.unwrap();
    for connection in &mut served[..10] {
        drop(connection.shutdown().await);
    }
    assert_eq!(ask(&mut connect_from([127, 0, 0, 3], &up.address).await).await, "HTTP/1.1 204 No Content");
    up.stop().await;
}

#[tokio::test]
async fn nobody_else_may_look_into_the_folders() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("book");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let up = Up::start(&folder, &[]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder) & 0o066, mode(&folder.join("state"))), (0, 0o700), "{:o}", mode(&folder));
    up.stop().await;
}

#[tokio::test]
async fn an_address_that_is_none_is_told_at_once() {
    let data = tempfile::tempdir().unwrap();
    let output = loyalty(&["up", "--listen", "127.0.0.1:0", "--public-url", "loyalty.example.org"], data.path()).output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(r#""loyalty.example.org" is no address of a service"#), "{told}");
}

/// Two keys would give one card two names, of which a shop's message finds one.
#[tokio::test]
async fn a_second_key_of_aliases_is_refused() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let url = embedded_postgres::testing::database("aliases").await;
    let up = Up::start(first.path(), &["--database-url", &url]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    up.post(&format!("{P}/accounts"), json!({"account_id": "m1"})).await;
    let card = json!({"kind": "card", "value": "4711"});
    let (status, answer) = up.post(&format!("{P}/accounts/m1/aliases"), card.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    up.stop().await;
    let refused = loyalty(&["up", "--listen", "127.0.0.1:0", "--database-url", &url], second.path()).output().await.unwrap();
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("the book's aliases are hashed by another key") && why.contains("--alias-key-file"), "{why}");
    let key = first.path().join("alias.key");
    let up = Up::start(second.path(), &["--database-url", &url, "--alias-key-file", key.to_str().unwrap()]).await;
    assert_eq!(up.post(&format!("{P}/accounts/m1/aliases"), card).await.1["code"], "alias_exists");
    up.stop().await;
}
