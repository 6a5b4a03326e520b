//! Questions about the past, over histories made at random: what was told at a moment is what the book later says was known then; the pages of
//! a statement make the whole, whatever their size; what is told of the future comes about if nothing else happens.

use ledger_core::time::{MINUTE_US, Moment};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::support::{Up, postgres, purchase, rulebook};

const P: &str = "/v1/programs/shop";
const HISTORIES: usize = 6;
const ACCOUNTS: [&str; 2] = ["a", "b"];
/// Of a movement or a balance, what is not an echo of the question.
const BUCKETS: [&str; 4] = ["pending", "available", "held", "lifetime_earned"];

#[derive(Debug, Clone)]
enum Step {
    Wait { hours: i64 },
    Buy { account: usize, hours_late: i64, price: u32 },
    Redeem { account: usize, points: i64, hold: bool, hours_late: i64 },
    GiveBack { account: usize, purchase: usize, share: u32 },
    Adjust { account: usize, points: i64 },
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let account = 0..ACCOUNTS.len();
    prop_oneof![
        3 => prop_oneof![1_i64..72, 1_i64..2400].prop_map(|hours| Step::Wait { hours }),
        4 => (account.clone(), prop_oneof![Just(0_i64), 1_i64..600], 1_u32..2000).prop_map(|(account, hours_late, price)| Step::Buy { account, hours_late, price }),
        2 => (account.clone(), 100_i64..900, any::<bool>(), prop_oneof![Just(0_i64), 1_i64..60])
            .prop_map(|(account, points, hold, hours_late)| Step::Redeem { account, points, hold, hours_late }),
        2 => (account.clone(), 0_usize..8, 1_u32..=100).prop_map(|(account, purchase, share)| Step::GiveBack { account, purchase, share }),
        1 => (account, prop_oneof![-300_i64..0, 1_i64..300]).prop_map(|(account, points)| Step::Adjust { account, points }),
        3 => Just(Step::Look),
    ]
}

/// What was told once: the question, to which it must be told again.
struct Told {
    question: String,
    answer: Value,
}

fn after(at: Moment, hours: i64) -> Moment {
    at.plus_micros(hours * 60 * MINUTE_US)
}

struct History<'a> {
    up: &'a Up,
    program: String,
    now: Moment,
    /// By account: id and price.
    purchases: [Vec<(String, u32)>; 2],
    /// Whether the account is there.
    is_open: [bool; 2],
    looks: Vec<Moment>,
    told: Vec<Told>,
}

fn only(names: &[&str], answer: &Value) -> Value {
    names.iter().map(|name| ((*name).to_owned(), answer[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

fn references(statement: &Value) -> Value {
    statement["items"].as_array().unwrap().iter().map(|item| only(&["kind", "reference", "lots"], item)).collect()
}

impl History<'_> {
    fn path(&self, account: usize) -> String {
        format!("/v1/programs/{}/accounts/{}", self.program, ACCOUNTS[account])
    }

    async fn wait(&mut self, hours: i64) {
        self.now = after(self.now, hours);
        let (status, answer) = self.up.put(&format!("/v1/programs/{}/clock", self.program), json!({"now": self.now.to_string()})).await;
        assert_eq!(status.as_u16(), 200, "{answer}");
        self.up.settle().await;
    }

    async fn send(&mut self, account: usize, path: &str, body: Value) -> bool {
        let (status, answer) = self.up.post(&format!("/v1/programs/{}/{path}", self.program), body).await;
        if status.is_success() {
            self.up.read(&format!("{}/statement?limit=1", self.path(account)), &answer).await;
            self.is_open[account] = true;
        }
        status.is_success()
    }

    async fn act(&mut self, n: usize, step: Step) {
        let name = |account: usize| ACCOUNTS[account];
        match step {
            Step::Wait { hours } => self.wait(hours).await,
            Step::Buy { account, hours_late, price } => {
                let at = after(self.now, -hours_late);
                let body = purchase(&format!("p{n}"), name(account), &at.to_string(), "A", &format!("{price}.00"));
                if self.send(account, "purchases", body).await {
                    self.purchases[account].push((format!("p{n}"), price));
                }
            }
            Step::Redeem { account, points, hold, hours_late } => {
                let mut body = json!({"redemption_id": format!("r{n}"), "account_id": name(account), "points": points, "hold": hold});
                if hours_late > 0 {
                    body["occurred_at"] = json!(after(self.now, -hours_late).to_string());
                }
                self.send(account, "redemptions", body).await;
            }
            Step::GiveBack { account, purchase, share } => {
                let Some((id, price)) = self.purchases[account].get(purchase).cloned() else { return };
                let amount = format!("{}.{:02}", price * share / 100, price * share % 100);
                let body = json!({"return_id": format!("t{n}"), "account_id": name(account), "purchase_id": id, "occurred_at": self.now.to_string(), "amount": amount});
                self.send(account, "returns", body).await;
            }
            Step::Adjust { account, points } => {
                let body = json!({"adjustment_id": format!("j{n}"), "account_id": name(account), "points": points, "reason_code": "goodwill"});
                self.send(account, "adjustments", body).await;
            }
            Step::Look => self.look().await,
        }
    }

    /// Asks about now and about the moments it has looked at before; then time goes on, so that nothing more is booked at this one.
    async fn look(&mut self) {
        self.up.settle().await;
        self.looks.push(self.now);
        let known_at = self.now;
        for account in (0..ACCOUNTS.len()).filter(|account| self.is_open[*account]) {
            for as_of in self.looks.iter().rev().take(4) {
                for (what, of) in [("balance", BUCKETS.as_slice()), ("tier", &["tier", "since", "cause", "qualifying"])] {
                    let question = format!("{}/{what}?as_of={as_of}", self.path(account));
                    let (status, answer) = self.up.get(&question).await;
                    assert!(matches!(status.as_u16(), 200 | 404), "{question}: {answer}");
                    self.told.push(Told { question: format!("{question}&known_at={known_at}"), answer: only(of, &answer) });
                }
                let question = format!("{}/statement?limit=500&as_of={as_of}", self.path(account));
                let (_, answer) = self.up.get(&question).await;
                self.told.push(Told { question: format!("{question}&known_at={known_at}"), answer: references(&answer) });
            }
        }
        self.wait(1).await;
    }

    async fn check_told(&self) {
        for Told { question, answer } in &self.told {
            let (status, again) = self.up.get(question).await;
            assert!(matches!(status.as_u16(), 200 | 404), "{question}: {again}");
            let again = if again.get("items").is_some() { references(&again) } else { only(&keys(answer), &again) };
            assert_eq!(again, *answer, "what the book said: {question}");
        }
    }

    async fn check_pages(&self, account: usize, limit: usize) {
        let path = format!("{}/statement", self.path(account));
        let (_, whole) = self.up.get(&format!("{path}?limit=500")).await;
        let (mut cursor, mut paged) = (String::new(), Vec::new());
        loop {
            let (status, page) = self.up.get(&format!("{path}?limit={limit}{cursor}")).await;
            assert_eq!(status.as_u16(), 200, "{page}");
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            paged.extend(items.clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(json!(paged), whole["items"], "pages of {limit} make the whole");
    }

    /// What is told of the days to come is what is there when they have come.
    async fn check_ahead(&mut self) {
        for hours in [1, 200, 2000, 5000, 9000] {
            let ahead = after(self.now, hours);
            let mut expected = Vec::new();
            for account in (0..ACCOUNTS.len()).filter(|account| self.is_open[*account]) {
                let question = format!("{}/balance?as_of={ahead}", self.path(account));
                expected.push((account, self.up.get(&question).await.1));
            }
            self.wait(hours).await;
            for (account, ahead) in expected {
                let (_, now) = self.up.get(&format!("{}/balance", self.path(account))).await;
                assert_eq!(only(&BUCKETS, &now), only(&BUCKETS, &ahead), "account {} at {}", ACCOUNTS[account], self.now);
            }
        }
    }
}

fn keys(answer: &Value) -> Vec<&str> {
    answer.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn what_was_told_is_told_again_page_by_page_and_comes_about() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut runner = TestRunner::deterministic();
    for n in 0..HISTORIES {
        let (steps, limit) = (prop::collection::vec(step(), 40..60), 1_usize..9).new_tree(&mut runner).unwrap().current();
        let mut rules = rulebook();
        rules["program"] = json!(format!("shop{n}"));
        rules["expiry"] = [json!({"mode": "rolling", "months": 4}), json!({"mode": "never"}), json!({"mode": "inactivity", "months": 3})][n % 3].clone();
        rules["redeem"]["offline_minutes"] = json!(2880 * (n % 2));
        let (status, answer) = up.put(&format!("/v1/programs/shop{n}/rulebook"), rules).await;
        assert_eq!(status.as_u16(), 201, "{answer}");
        let now = Moment::parse("2010-03-01T12:00:00Z").unwrap();
        let program = format!("shop{n}");
        let mut history = History { up: &up, program, now, purchases: Default::default(), is_open: [false; 2], looks: Vec::new(), told: Vec::new() };
        history.wait(0).await;
        for (n, step) in steps.into_iter().enumerate() {
            history.act(n, step).await;
        }
        assert!(!history.told.is_empty());
        history.check_told().await;
        for account in (0..ACCOUNTS.len()).filter(|account| history.is_open[*account]) {
            history.check_pages(account, limit).await;
        }
        history.check_ahead().await;
        // Still, when months have gone by.
        history.check_told().await;
    }
    up.stop().await;
}

/// Whether the account is there, is asked of another read model than what is read.
#[tokio::test]
async fn an_account_whose_balance_is_not_written_yet_is_waited_for() {
    let data = tempfile::tempdir().unwrap();
    let up = Up::start(data.path(), &[]).await;
    up.put(&format!("{P}/rulebook"), rulebook()).await;
    up.put(&format!("{P}/clock"), json!({"now": "2010-03-01T12:00:00Z"})).await;
    let mut client = postgres(data.path()).await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE balance.balance IN EXCLUSIVE MODE").await.unwrap();
    let (_, answer) = up.post(&format!("{P}/purchases"), purchase("p1", "m1", "2010-03-01T12:00:00Z", "A", "10.00")).await;
    let position = answer["position"].as_str().unwrap();
    let reads = ["tier", "clv", "statement"].map(|what| format!("{P}/accounts/m1/{what}"));
    let [tier, clv, statement] = reads.each_ref().map(|path| format!("{path}?min_position={position}"));
    let told = tokio::join!(up.get(&tier), up.get(&clv), up.get(&statement));
    for (status, problem) in [told.0, told.1, told.2] {
        assert_eq!((status.as_u16(), &problem["code"]), (503, &json!("not_yet_visible")), "{problem}");
    }
    held.commit().await.unwrap();
    for path in reads {
        up.read(&path, &answer).await;
    }
    up.stop().await;
}
