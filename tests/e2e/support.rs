//! A running `loyalty`, and a client for it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub fn loyalty(arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loyalty"));
    command.args(arguments).arg("--data").arg(data).env_remove("DATABASE_URL").kill_on_drop(true);
    command
}

/// Runs a command to its end and gives its output.
pub async fn run(arguments: &[&str], data: &Path) -> String {
    let output = loyalty(arguments, data).output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

pub struct Up {
    pub child: Child,
    pub address: String,
    client: reqwest::Client,
    pub key: Option<String>,
}

impl Up {
    /// Starts `loyalty up` and waits until it listens.
    pub async fn start(data: &Path, more: &[&str]) -> Self {
        Self::serve(&["up"], data, more).await
    }

    /// Starts a part and waits until it listens.
    pub async fn serve(part: &[&str], data: &Path, more: &[&str]) -> Self {
        embedded_postgres::use_ring();
        let listen = if more.contains(&"--listen") { vec![] } else { vec!["--listen", "127.0.0.1:0"] };
        let arguments: Vec<&str> = part.iter().copied().chain(listen).chain(more.iter().copied()).collect();
        Self::run(loyalty(&arguments, data)).await
    }

    /// Runs `command` and waits until it listens.
    pub async fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next_line().await.unwrap().expect("it listens before it ends");
            if let Some(address) = line.strip_prefix("listening on ") {
                return Self { child, address: address.to_owned(), client: reqwest::Client::new(), key: None };
            }
        }
    }

    pub async fn send(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.request(method, format!("{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        request.send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.send(reqwest::Method::POST, path, Some(&body)).await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    pub async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let response = self.send(reqwest::Method::PUT, path, Some(&body)).await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send(reqwest::Method::GET, path, None).await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    /// A read that has seen what `answer` answered.
    pub async fn read(&self, path: &str, answer: &Value) -> Value {
        let separator = if path.contains('?') { '&' } else { '?' };
        let (status, body) = self.get(&format!("{path}{separator}min_position={}", answer["position"].as_str().unwrap())).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        body
    }

    /// Waits until the read models have all that is on the log, such as what fell due, which the clock has booked.
    pub async fn settle(&self) {
        let is_behind = |model: &Value| model["lags"].as_array().unwrap().iter().any(|lag| lag["lag"] != 0);
        while self.get("/health").await.1["projectors"].as_array().unwrap().iter().any(is_behind) {
            tokio::task::yield_now().await;
        }
    }

    /// Stops it as an operator would, and waits.
    pub async fn stop(mut self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").arg(pid).status().await.unwrap().success());
        assert!(self.child.wait().await.unwrap().success(), "it ends well");
    }

    /// Kills it as a power cut would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Sends until there is an answer, as a till does.
pub async fn insist(address: &str, body: &Value) -> Value {
    let client = reqwest::Client::new();
    loop {
        let sent = client.request(reqwest::Method::POST, format!("{address}/v1/programs/shop/purchases")).json(body).send().await;
        if let Ok(response) = sent {
            if response.status().is_success() {
                return response.json().await.unwrap();
            }
            assert!(matches!(response.status().as_u16(), 429 | 503), "{}", response.text().await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends all that `tills` sent once more, and counts what got its first answer.
pub async fn ask_again(address: &str, tills: tokio::task::JoinSet<Vec<(Value, Value)>>) -> usize {
    let mut count = 0;
    for (body, first) in tills.join_all().await.into_iter().flatten() {
        count += usize::from(insist(address, &body).await == first);
    }
    count
}

/// A connection to the running Postgres of `data`.
pub async fn postgres(data: &Path) -> tokio_postgres::Client {
    let url = embedded_postgres::Server::running(&data.join("postgres")).unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

pub fn rulebook() -> Value {
    json!({"program": "shop", "mode": "sandbox", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2010-01-01T00:00:00Z",
        "earn": {"base": {"points": "1", "per": "1.00"}, "pending_days": 14,
            "bonus": [{"id": "mugs-x2", "when": "line.sku == '21212' && purchase.total >= 50.0", "multiply": "2"}]},
        "expiry": {"mode": "rolling", "months": 12},
        "redeem": {"minimum": 100, "value": {"points": 100, "amount": "1.00"}},
        "tiers": {"qualify_by": "points", "window": "rolling_12_months", "levels": [
            {"name": "member", "at": 0}, {"name": "silver", "at": 1000, "multiplier": "1.25"}, {"name": "gold", "at": 5000, "multiplier": "1.5"}]}})
}

pub fn purchase(id: &str, account: &str, at: &str, sku: &str, price: &str) -> Value {
    json!({"purchase_id": id, "account_id": account, "occurred_at": at, "currency": "GBP", "channel": "web", "store": "s1",
        "lines": [{"line_id": "1", "sku": sku, "category": "home", "quantity": 1, "unit_price": price, "discount": "0", "tax": "0"}], "shipping": "4.95"})
}
