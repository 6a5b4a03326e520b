//! Nothing that is accepted may stop anything: whatever the API takes goes over the log into every read model, and can be read there. What it does not
//! take it refuses by name. The commands are made at random, always the same: all verbs, with texts, numbers and moments that nobody would send.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use ledger_core::id::Id;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::hostile::{SURROGATE, amount, id, moment, note, points, text};
use crate::limits::large;
use crate::support::{Up, run};

/// Each program's clock goes so far before its commands.
const CLOCKS: [&str; 5] = ["2010-01-01T00:00:00Z", "2010-03-01T12:00:00Z", "2012-02-29T12:00:00Z", "2299-12-31T23:59:59.999999Z", "2300-01-01T00:00:00Z"];
/// How many commands each program gets between.
const COMMANDS: usize = 36;
const ACCOUNTS: usize = 5;
const KEYS: [&str; 2] = ["maker", "checker"];

/// A request: who asks for what.
#[derive(Debug, Clone)]
struct Ask {
    verb: &'static str,
    method: Method,
    path: String,
    body: Value,
    key: &'static str,
}

fn account() -> impl Strategy<Value = String> {
    prop_oneof![5 => Just(0), 2 => Just(1), 1 => 2..ACCOUNTS].prop_map(account_name)
}

fn account_name(n: usize) -> String {
    if n == 0 { "a".repeat(64) } else { format!("m:{n}") }
}

fn line() -> impl Strategy<Value = Value> {
    let off = || prop_oneof![9 => Just(json!("0")), 1 => amount()];
    let stated = prop_oneof![9 => Just(Value::Null), 1 => amount()];
    (id("line"), text(), text(), amount(), amount(), off(), off(), stated).prop_map(|(line_id, sku, category, quantity, unit_price, discount, tax, amount)| {
        json!({"line_id": line_id, "sku": sku, "category": category, "quantity": quantity, "unit_price": unit_price, "discount": discount, "tax": tax, "amount": amount})
    })
}

fn purchase() -> BoxedStrategy<(String, Value)> {
    let currency = prop_oneof![19 => Just("GBP"), 1 => prop::sample::select(vec!["JPY", "XXX", "gbp", "\u{ffff}", ""])];
    let origin = (text(), text(), text(), text());
    let head = (id("P"), account(), moment(&CLOCKS), currency, text(), text(), prop_oneof![4 => Just(json!("0")), 1 => amount()]);
    (head, origin, prop::collection::vec(line(), 0..4))
        .prop_map(|((purchase_id, account_id, occurred_at, currency, channel, store, shipping), (cashier, till, device, card_token), lines)| {
            let body = json!({"purchase_id": purchase_id, "account_id": account_id, "occurred_at": occurred_at, "currency": currency, "channel": channel,
                "store": store, "cashier": cashier, "till": till, "device": device, "card_token": card_token, "shipping": shipping, "lines": lines});
            ("purchases".to_owned(), body)
        })
        .boxed()
}

/// A body with fields that may be left out.
fn without_nulls(body: Value) -> Value {
    let Value::Object(fields) = body else { return body };
    Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect())
}

fn given_back() -> BoxedStrategy<(String, Value)> {
    let lines = prop::collection::vec((id("line"), amount()), 0..4)
        .prop_map(|lines| lines.into_iter().map(|(line_id, quantity)| json!({"line_id": line_id, "quantity": quantity})).collect::<Value>());
    let what = prop_oneof![lines.prop_map(|lines| (lines, Value::Null)), amount().prop_map(|amount| (Value::Null, amount))];
    (id("R"), account(), id("P"), moment(&CLOCKS), what, prop::option::weighted(0.1, amount()))
        .prop_map(|(return_id, account_id, purchase_id, occurred_at, (lines, amount), shipping)| {
            let body = json!({"return_id": return_id, "account_id": account_id, "purchase_id": purchase_id, "occurred_at": occurred_at,
                "lines": lines, "amount": amount, "shipping": shipping});
            ("returns".to_owned(), without_nulls(body))
        })
        .boxed()
}

fn refund() -> BoxedStrategy<(String, Value)> {
    (id("F"), account(), moment(&CLOCKS), amount(), text())
        .prop_map(|(refund_id, account_id, occurred_at, amount, reference)| {
            let body = json!({"refund_id": refund_id, "account_id": account_id, "occurred_at": occurred_at, "amount": amount, "reference": reference});
            ("refunds".to_owned(), body)
        })
        .boxed()
}

fn redemption(hold: bool) -> BoxedStrategy<(String, Value)> {
    let minutes = prop::option::weighted(0.2, prop::sample::select(vec![1_u64, 527_040, 527_041, 0, u64::from(u32::MAX), u64::MAX]));
    (id("S"), account(), points(), minutes, prop::option::weighted(0.2, moment(&CLOCKS)))
        .prop_map(move |(redemption_id, account_id, points, minutes, occurred_at)| {
            let minutes = minutes.filter(|_| hold);
            let body = json!({"redemption_id": redemption_id, "account_id": account_id, "points": points, "hold": hold, "hold_minutes": minutes, "occurred_at": occurred_at});
            ("redemptions".to_owned(), without_nulls(body))
        })
        .boxed()
}

/// What is done with a redemption: capture, release or return.
fn of_redemption(step: &'static str) -> BoxedStrategy<(String, Value)> {
    (0..4_usize, account(), prop::option::of(points()), id("C"))
        .prop_map(move |(n, account_id, points, own)| {
            let body = match step {
                "capture" => json!({"account_id": account_id, "points": points, "capture_id": own}),
                "release" => json!({"account_id": account_id}),
                _ => json!({"account_id": account_id, "points": points, "return_id": own}),
            };
            (format!("redemptions/S-{n}/{step}"), without_nulls(body))
        })
        .boxed()
}

fn by_hand(path: &'static str, name: &'static str, kind: &'static str) -> BoxedStrategy<(String, Value)> {
    (id(kind), account(), points(), text(), note())
        .prop_map(move |(id, account_id, points, reason_code, note)| {
            (path.to_owned(), json!({name: id, "account_id": account_id, "points": points, "reason_code": reason_code, "note": note}))
        })
        .boxed()
}

fn of_proposal(step: &'static str) -> BoxedStrategy<(String, Value)> {
    (0..4_usize, account(), text(), note())
        .prop_map(move |(n, account_id, reason_code, note)| {
            let body =
                if step == "approve" { json!({"account_id": account_id}) } else { json!({"account_id": account_id, "reason_code": reason_code, "note": note}) };
            (format!("proposals/Q-{n}/{step}"), body)
        })
        .boxed()
}

/// A step in an account's life, or another name for it.
fn of_account(step: &'static str) -> BoxedStrategy<(String, Value)> {
    // The first account stays, so that there is always one to ask.
    let who = match step {
        "close" => 3..ACCOUNTS,
        "freeze" | "unfreeze" => 1..3,
        _ => 0..ACCOUNTS,
    };
    (who, text(), note(), prop::option::of(id("L")), prop::sample::select(vec!["card", "member", "\u{ffff}"]))
        .prop_map(move |(n, text, note, command_id, kind)| {
            let body = match step {
                "aliases" | "aliases/remove" => json!({"kind": kind, "value": text, "command_id": command_id}),
                "activate" => json!({}),
                _ => json!({"reason_code": text, "note": note, "command_id": command_id}),
            };
            (format!("accounts/{}/{step}", account_name(n)), without_nulls(body))
        })
        .boxed()
}

/// Rulebooks that say something that nobody means, in one place.
fn rulebook(program: &str) -> BoxedStrategy<(String, Value)> {
    let program = program.to_owned();
    let conditions = ["line.sku.startsWith('\u{ffff}') || 1 / account.purchases > 0", "true", "[1].all(x, true)", "line.sku == '\u{1b}'", "1 + "];
    let when =
        prop_oneof![text(), Just("(".repeat(900)), Just(vec!["1"; 400].join("+") + " > 0"), prop::sample::select(conditions.to_vec()).prop_map(str::to_owned)];
    (0..7_usize, text(), when, amount(), points(), moment(&CLOCKS), prop::sample::select(vec![0_u32, 3650, 3651, u32::MAX]))
        .prop_map(move |(place, text, when, amount, points, moment, days)| {
            let mut rules = plain(&program);
            rules["effective_from"] = "2299-12-31T23:59:59.999999Z".into();
            match place {
                0 => rules["effective_from"] = moment,
                1 => rules["earn"]["pending_days"] = days.into(),
                2 => rules["earn"]["base"]["per"] = amount,
                3 => rules["redeem"]["minimum"] = points,
                4 => rules["earn"]["bonus"] = json!([{"id": "b", "when": when, "multiply": amount}]),
                5 => {
                    rules["insight"] =
                        json!({"ladder": [{"name": text}], "actions": [{"id": text, "what": text, "cost": amount, "uplift": "0.1", "when": when}]})
                }
                _ => {
                    let rule = json!({"id": text, "version": 1, "severity": "low", "on": ["earn"], "by": "till", "when": when, "explanation": text});
                    rules["fraud"] = json!({"staff": {text.clone(): text}, "rules": [rule]});
                }
            }
            ("rulebook".to_owned(), rules)
        })
        .boxed()
}

fn report() -> BoxedStrategy<(String, Value)> {
    (prop_oneof![id("P"), text()], prop::option::of(prop_oneof![account(), text()]), prop::option::of(text()), note())
        .prop_map(|(reference, account_id, kind, note)| {
            ("fraud/reports".to_owned(), without_nulls(json!({"reference": reference, "account_id": account_id, "kind": kind, "note": note})))
        })
        .boxed()
}

/// How often something is sent, its name, and to which path which body.
type Verb = (usize, &'static str, BoxedStrategy<(String, Value)>);

/// All that may be sent to `program`.
fn verbs(program: &str) -> Vec<Verb> {
    let opened = prop_oneof![account(), id("O")].prop_map(|account| ("accounts".to_owned(), json!({"account_id": account}))).boxed();
    let simulated = prop_oneof![purchase(), given_back(), redemption(false)].prop_map(|(path, body)| (format!("simulate/{path}"), body)).boxed();
    vec![
        (10, "earn", purchase()),
        (1, "open", opened),
        (4, "redeem", redemption(false)),
        (3, "hold", redemption(true)),
        (3, "capture", of_redemption("capture")),
        (2, "release", of_redemption("release")),
        (2, "return a redemption", of_redemption("return")),
        (4, "return", given_back()),
        (2, "refund", refund()),
        (3, "adjust", by_hand("adjustments", "adjustment_id", "J")),
        (3, "propose", by_hand("proposals", "proposal_id", "Q")),
        (3, "approve", of_proposal("approve")),
        (1, "decline", of_proposal("decline")),
        (2, "alias", of_account("aliases")),
        (1, "remove an alias", of_account("aliases/remove")),
        (2, "activate", of_account("activate")),
        (1, "freeze", of_account("freeze")),
        (2, "unfreeze", of_account("unfreeze")),
        (1, "close", of_account("close")),
        (1, "publish", rulebook(program)),
        (1, "report", report()),
        (2, "simulate", simulated),
    ]
}

fn plain(program: &str) -> Value {
    json!({"program": program, "mode": "sandbox", "currency": "GBP", "time_zone": "Europe/London", "effective_from": "2009-01-01T00:00:00Z",
        "earn": {"base": {"points": "1", "per": "1.00"}}, "redeem": {"value": {"points": 100, "amount": "1.00"}, "offline_minutes": 10080},
        "return": {"unmatched": "reduce_spend"}})
}

/// Programs whose first rulebooks say the most that they may.
fn programs() -> Vec<Value> {
    let when = |n: usize| if n < 8 { "line.quantity >= 1.0" } else { "line.sku == '\u{ffff}' && line.quantity >= 1.0" };
    let bonus = |n: usize| json!({"id": format!("{n:b>64}"), "when": when(n), "multiply": "1.5", "paid_by": format!("{n:p>64}")});
    let fails = json!({"id": "fails", "when": "1 / (account.purchases - account.purchases) > 0 || line.sku + 'x' == line.category", "multiply": "1000"});
    let level =
        |n: usize| json!({"name": format!("{}{n}", "\u{ffff}".repeat(20)), "at": n, "multiplier": "1000", "base": {"points": "1000000", "per": "0.000001"}});
    let changes = [
        json!({"adjust": {"approval_from_points": 1_000_000_000_000_i64}, "return": {"on_shortfall": "negative", "unmatched": "reduce_spend"},
            "tiers": {"qualify_by": "spend", "window": "rolling_12_months", "levels": [{"name": "'", "at": 0}, {"name": "ﷺ", "at": "0.000001", "multiplier": "0"}]}}),
        json!({"earn": {"base": {"points": "1000000", "per": "0.000001"}, "caps": {"per_purchase": 1_000_000_000_000_i64, "per_day": 1_000_000_000_000_i64}, "rounding": "ceiling"},
            "redeem": {"value": {"points": 1, "amount": "1000000000000.00"}}}),
        json!({"accounts": {"inactive_after": {"days": 1}}, "earn": {"base": {"points": "1", "per": "1"}, "round_per": "line", "pending_days": 3650},
            "expiry": {"mode": "inactivity", "days": 1}, "return": {"window_days": 36500}}),
        json!({"earn": {"base": {"points": "0.000001", "per": "1000000"}, "bonus": (0..40).map(bonus).chain([fails]).collect::<Vec<_>>(), "rounding": "half_up"}}),
        json!({"expiry": {"mode": "fixed_date", "date": "2299-12-31"}, "redeem": {"value": {"points": 1_000_000_000_000_i64, "amount": "0.01"}, "offline_minutes": 10080},
            "tiers": {"qualify_by": "points", "window": "calendar_year", "downgrade": "to_level", "levels": (0..100).map(level).collect::<Vec<_>>()}}),
        json!({"effective_from": "1900-01-01T00:00:00Z", "time_zone": "Pacific/Apia", "expiry": {"mode": "calendar", "period": "month", "grace_days": 3650},
            "accounts": {"on_close": "keep"}, "earn": {"base": {"points": "3", "per": "0.01", "whole_steps": true}, "rounding": "half_even", "caps": {"per_member": 500}}}),
        json!({"accounts": {"activation_required": true, "on_close": "refuse"}, "expiry": {"mode": "rolling", "months": 1200}, "return": {"window_days": 0},
            "redeem": {"minimum": 2, "multiple_of": 2, "value": {"points": 3, "amount": "0"}, "hold_minutes": 527_040}, "adjust": {"approval_from_points": 1}}),
    ];
    let name = |n: usize| if n == 0 { "p".repeat(64) } else { format!("p:{n}") };
    let book = |(n, changes): (usize, Value)| {
        let mut rules = plain(&name(n));
        changes.as_object().unwrap().iter().for_each(|(key, value)| rules[key] = value.clone());
        rules
    };
    changes.into_iter().enumerate().map(book).collect()
}

#[derive(Clone)]
struct Till {
    address: String,
    client: reqwest::Client,
}

impl Till {
    /// Asks, and holds the answer to what every answer must be.
    async fn ask(&self, ask: &Ask) -> (u16, Value) {
        let text = ask.body.to_string().replace(SURROGATE, "\\ud800");
        let request = self.client.request(ask.method.clone(), format!("{}{}", self.address, ask.path)).bearer_auth(ask.key);
        let response = request.header("Content-Type", "application/json").body(text.clone()).send().await.unwrap();
        let (status, told) = (response.status().as_u16(), response.text().await.unwrap());
        let answer: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told} for {text}"));
        let is_problem = answer["code"].is_string() && (answer["code"] != "malformed" || answer["errors"][0]["pointer"].is_string());
        assert!((200..300).contains(&status) || ((400..500).contains(&status) && status != 429 && is_problem), "{status} {answer} for {} {text}", ask.path);
        (status, answer)
    }

    async fn put(&self, path: String, body: Value) -> u16 {
        self.ask(&Ask { verb: "put", method: Method::PUT, path, body, key: KEYS[0] }).await.0
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let response = self.client.get(format!("{}{path}", self.address)).bearer_auth(KEYS[0]).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }
}

/// What became of the commands of one program.
#[derive(Default)]
struct Became {
    /// By verb, how many were accepted, and how many refused.
    counts: BTreeMap<&'static str, (usize, usize)>,
    /// Accounts of which something was booked.
    accounts: BTreeSet<String>,
}

/// Sends the commands of one program, in turn.
async fn lives(till: Till, rules: Value, asks: Vec<Vec<Ask>>) -> Became {
    let program = rules["program"].as_str().unwrap().to_owned();
    let path = |rest: &str| format!("/v1/programs/{program}/{rest}");
    assert_eq!(till.put(path("rulebook"), rules).await, 201);
    let mut became = Became::default();
    let (method, key, body) = (Method::POST, KEYS[0], large("L", &account_name(0)));
    let largest = Ask { verb: "earn", method, path: path("purchases"), body, key };
    for (clock, asks) in CLOCKS.iter().zip(asks) {
        assert_eq!(till.put(path("clock"), json!({"now": clock})).await, 200);
        let first = (*clock == CLOCKS[0]).then_some(&largest);
        for ask in asks.iter().chain(first) {
            let (status, answer) = till.ask(ask).await;
            let counts = became.counts.entry(ask.verb).or_default();
            *(if status < 300 { &mut counts.0 } else { &mut counts.1 }) += 1;
            if status == 201 && answer["position"].is_string() {
                became.accounts.insert(answer["account_id"].as_str().unwrap().to_owned());
            }
        }
    }
    became
}

/// What may follow a command, so that commands meet: what was held is captured or released, what was bought comes back.
fn then(ask: &Ask, is_first: bool) -> Option<Ask> {
    let (base, body) = (ask.path.rsplit_once('/')?.0, &ask.body);
    let named = |field: &str| body[field].as_str().filter(|id| Id::parse(id).is_ok_and(|id| !matches!(id.as_str(), "." | ".."))).map(str::to_owned);
    let about = json!({"account_id": body["account_id"]});
    let (verb, path, body) = match (ask.verb, is_first) {
        ("hold", true) => ("capture", format!("{base}/redemptions/{}/capture", named("redemption_id")?), about),
        ("hold", false) => ("release", format!("{base}/redemptions/{}/release", named("redemption_id")?), about),
        ("redeem", true) => {
            let back = json!({"account_id": body["account_id"], "return_id": body["redemption_id"]});
            ("return a redemption", format!("{base}/redemptions/{}/return", named("redemption_id")?), back)
        }
        ("propose", true) => ("approve", format!("{base}/proposals/{}/approve", named("proposal_id")?), about),
        ("propose", false) => {
            let why = json!({"account_id": body["account_id"], "reason_code": body["reason_code"], "note": body["note"]});
            ("decline", format!("{base}/proposals/{}/decline", named("proposal_id")?), why)
        }
        ("earn", true) => {
            let line = &body["lines"][0];
            let lines = json!([{"line_id": line["line_id"], "quantity": line["quantity"]}]);
            let (purchase, account, at) = (&body["purchase_id"], &body["account_id"], &body["occurred_at"]);
            let back = json!({"return_id": purchase, "account_id": account, "purchase_id": purchase, "occurred_at": at, "lines": lines});
            ("return", format!("{base}/returns"), back)
        }
        ("alias", true) => ("remove an alias", format!("{}/remove", ask.path), json!({"kind": body["kind"], "value": body["value"]})),
        ("freeze", true) => ("unfreeze", format!("{base}/unfreeze"), json!({"reason_code": "x"})),
        _ => return None,
    };
    let other = KEYS[usize::from(ask.key == KEYS[0])];
    Some(Ask { verb, method: Method::POST, path, body, key: other })
}

fn made(program: &str, runner: &mut TestRunner) -> Vec<Vec<Ask>> {
    let all = verbs(program);
    let weights: Vec<(u32, usize)> = all.iter().enumerate().map(|(i, (weight, ..))| (u32::try_from(*weight).unwrap(), i)).collect();
    let pick = prop::strategy::Union::new_weighted(weights.into_iter().map(|(weight, i)| (weight, Just(i).boxed())).collect());
    let mut one = || {
        let (_, verb, strategy) = &all[pick.new_tree(runner).unwrap().current()];
        let (rest, body) = strategy.new_tree(runner).unwrap().current();
        let method = if *verb == "publish" { Method::PUT } else { Method::POST };
        let key = KEYS[usize::from(any::<bool>().new_tree(runner).unwrap().current())];
        Ask { verb, method, path: format!("/v1/programs/{program}/{rest}"), body, key }
    };
    let mut some = || (0..COMMANDS).map(|n| (one(), n % 2 == 0)).flat_map(|(ask, is_first)| [Some(ask.clone()), then(&ask, is_first)]).flatten().collect();
    CLOCKS.iter().map(|_| some()).collect()
}

/// Waits until every read model has all that is on the log; none may have stopped an account.
async fn caught_up(till: &Till) {
    let all = async { while !is_caught_up(till).await {} };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the read models go on");
}

async fn is_caught_up(till: &Till) -> bool {
    let (status, health) = till.get("/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")), "{health}");
    let lags: Vec<&Value> = health["projectors"].as_array().unwrap().iter().flat_map(|model| model["lags"].as_array().unwrap()).collect();
    !lags.is_empty() && lags.iter().all(|lag| lag["lag"] == 0)
}

async fn everything_can_be_read(till: &Till, program: &str, accounts: &BTreeSet<String>) {
    for account in accounts {
        for read in
            ["", "/balance", "/balance?as_of=2300-01-01T00:00:00Z", "/lots", "/statement?limit=500", "/explain", "/tier", "/clv", "/aliases", "/proposals"]
        {
            let (status, answer) = till.get(&format!("/v1/programs/{program}/accounts/{account}{read}")).await;
            assert_eq!(status, 200, "{program} {account}{read}: {answer}");
        }
    }
    let of_program =
        ["trial-balance", "roll-forward?from=1900-01-01&to=2300-01-01", "payers?from=1900-01-01&to=2300-01-01", "lots", "budget", "expiry-forecast"];
    let liability = of_program.iter().map(|read| format!("liability/{read}"));
    let others = ["audit/commands", "audit/refusals", "fraud/cases", "fraud/rules", "clv/cohorts", "rulebook"].into_iter().map(str::to_owned);
    for read in liability.chain(others) {
        let (status, answer) = till.get(&format!("/v1/programs/{program}/{read}")).await;
        assert!(status < 500, "{program} {read}: {status} {answer}");
    }
}

async fn started(data: &Path) -> (Up, Till) {
    let file = data.join("keys.json");
    // Who asks is written down with each command.
    let key = |name: &str| json!({"name": format!("{name} '\u{ffff}\u{10ffff}"), "hash": api::hash_key(name), "scopes": ["admin"]});
    std::fs::write(&file, json!(KEYS.map(key)).to_string()).unwrap();
    let up = Up::start(data, &["--api-keys", file.to_str().unwrap()]).await;
    let till = Till { address: up.address.clone(), client: reqwest::Client::new() };
    (up, till)
}

#[tokio::test]
async fn whatever_is_accepted_goes_into_every_read_model_and_stops_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (up, till) = started(data.path()).await;
    let mut runner = TestRunner::deterministic();
    let mut tills = JoinSet::new();
    for rules in programs() {
        let program = rules["program"].as_str().unwrap().to_owned();
        let asks = made(&program, &mut runner);
        let till = till.clone();
        tills.spawn(async move { (program, lives(till, rules, asks).await) });
    }
    let all: BTreeMap<String, Became> = tills.join_all().await.into_iter().collect();
    caught_up(&till).await;
    for (program, became) in &all {
        everything_can_be_read(&till, program, &became.accounts).await;
    }
    // Something of every kind was done, and something refused; what can be reported depends on how far the read model is.
    for (_, verb, _) in verbs("any").into_iter().filter(|(_, verb, _)| *verb != "report") {
        let counts = all.values().filter_map(|became| became.counts.get(verb));
        let (accepted, refused) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        assert!(accepted > 0 && refused > 0, "{verb}: {accepted} accepted, {refused} refused");
    }
    caught_up(&till).await;
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
}
