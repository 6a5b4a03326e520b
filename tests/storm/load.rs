//! Tills that send until they are answered, and remember.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

const TILLS: usize = 6;

/// Ids differ from one load to the next.
static LOADS: AtomicU64 = AtomicU64::new(0);

struct Seen {
    answers: Vec<(Value, Value)>,
    last: Instant,
    longest: Duration,
}

pub struct Load {
    address: String,
    seen: Arc<Mutex<Seen>>,
    count: watch::Receiver<usize>,
    stop: Arc<AtomicBool>,
    tills: JoinSet<()>,
}

fn purchase(id: &str, account: &str) -> Value {
    json!({"purchase_id": id, "account_id": account, "occurred_at": "2010-01-01T00:00:00Z", "currency": "GBP",
        "lines": [{"line_id": "1", "sku": "A", "quantity": 1, "unit_price": "10.00"}]})
}

/// Sends until there is an answer, as a till does.
async fn insist(client: &reqwest::Client, url: &str, body: &Value) -> Value {
    loop {
        let sent = client.post(url).json(body).timeout(Duration::from_secs(15)).send().await;
        if let Ok(response) = sent {
            if response.status().is_success() {
                return response.json().await.unwrap();
            }
            assert!(matches!(response.status().as_u16(), 429 | 503), "{}", response.text().await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Load {
    pub async fn start(address: &str) -> Self {
        let load = LOADS.fetch_add(1, Ordering::Relaxed);
        let (count, counted) = watch::channel(0);
        let seen = Arc::new(Mutex::new(Seen { answers: Vec::new(), last: Instant::now(), longest: Duration::ZERO }));
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(count));
        let mut tills = JoinSet::new();
        for till in 0..TILLS {
            let (seen, stop, count, url) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&count), format!("{address}/v1/programs/shop/purchases"));
            tills.spawn(async move {
                let client = reqwest::Client::new();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = purchase(&format!("P{load}-{till}-{n}"), &format!("m{till}-{}", n % 11));
                    let answer = insist(&client, &url, &body).await;
                    let mut seen = seen.lock().unwrap();
                    let pause = seen.last.elapsed();
                    seen.longest = seen.longest.max(pause);
                    seen.last = Instant::now();
                    seen.answers.push((body, answer));
                    count.send_replace(seen.answers.len());
                }
            });
        }
        Self { address: address.to_owned(), seen, count: counted, stop, tills }
    }

    /// Waits until `more` are acknowledged.
    pub async fn some(&self, more: usize) {
        let mut count = self.count.clone();
        let enough = *count.borrow() + more;
        let waited = tokio::time::timeout(Duration::from_secs(120), count.wait_for(|count| *count >= enough)).await;
        waited.expect("commands go on within two minutes").unwrap();
    }

    pub fn forget_pauses(&self) {
        self.seen.lock().unwrap().longest = Duration::ZERO;
    }

    /// Between one acknowledged command and the next, of all tills together.
    pub fn longest_pause(&self) -> Duration {
        self.seen.lock().unwrap().longest
    }

    /// Stops when what is under way is answered; gives all bodies with their first answers.
    pub async fn rest(&mut self) -> Vec<(Value, Value)> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(till) = self.tills.join_next().await {
            till.unwrap();
        }
        std::mem::take(&mut self.seen.lock().unwrap().answers)
    }

    /// How many of `acknowledged` don't get their first answer when they are sent again.
    pub async fn lost(&self, acknowledged: &[(Value, Value)]) -> usize {
        let url = format!("{}/v1/programs/shop/purchases", self.address);
        let mut tasks = JoinSet::new();
        for chunk in acknowledged.chunks(acknowledged.len().div_ceil(8).max(1)) {
            let (chunk, url) = (chunk.to_vec(), url.clone());
            tasks.spawn(async move {
                let (client, mut lost) = (reqwest::Client::new(), 0);
                for (body, first) in chunk {
                    lost += usize::from(insist(&client, &url, &body).await != first);
                }
                lost
            });
        }
        tasks.join_all().await.into_iter().sum()
    }
}
