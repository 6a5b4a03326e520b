//! The same history under the same rules ends in the same book, whichever way it comes: by REST, as JSON lines, as a table, as a shop's invoices.
//! The rules change four times in it, in caps, conditions, tiers, expiry, rounding and waiting times.

use std::path::Path;

use ledger_core::time::Moment;
use serde_json::{Value, json};

use super::support::{Up, loyalty, postgres, run};

/// Moments are seconds since the first of January 2010.
const START_S: i64 = 1_262_304_000;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

/// Numbers that look drawn by lot and are the same each time (a linear congruential generator, Knuth's MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).cast_signed() % sides
    }
}

fn moment(second: i64) -> String {
    Moment::from_micros((START_S + second) * 1_000_000).unwrap().to_string()
}

/// The rules in force from each quarter on. Each changes whatever the one before it said.
fn rulebooks(program: &str) -> [Value; 5] {
    let tiers = |by: &str, window: &str, downgrade: &str, at: [i64; 2]| {
        json!({"qualify_by": by, "window": window, "downgrade": downgrade, "levels": [
            {"name": "member", "at": "0"}, {"name": "silver", "at": at[0].to_string(), "multiplier": "1.25"},
            {"name": "gold", "at": at[1].to_string(), "multiplier": "1.5", "base": {"points": "3", "per": "2.00"}}]})
    };
    let bonus = |id: &str, when: &str, multiply: &str| json!({"id": id, "when": when, "multiply": multiply});
    let book = |day: i64, earn: Value, expiry: Value, tiers: Value| {
        json!({"program": program, "mode": "sandbox", "currency": "GBP", "time_zone": "UTC", "effective_from": moment(day * DAY_S), "earn": earn, "expiry": expiry,
            "redeem": {"value": {"points": 100, "amount": "1.00"}}, "return": {"unmatched": "reduce_spend", "on_shortfall": if day % 2 == 0 { "negative" } else { "clamp" }}, "tiers": tiers})
    };
    [
        book(
            0,
            json!({"base": {"points": "1", "per": "1.00"}, "pending_days": 14, "bonus": [bonus("dozens", "line.quantity >= 10.0", "5")]}),
            json!({"mode": "rolling", "months": 6}),
            tiers("points", "rolling_12_months", "one_level", [500, 2_000]),
        ),
        book(
            91,
            json!({"base": {"points": "7", "per": "5.00"}, "rounding": "half_up", "round_per": "line", "caps": {"per_purchase": 300, "per_day": 400, "per_member": 2_500},
                "bonus": [bonus("cheap", "line.unit_price < 2.0", "0.5"), bonus("large", "purchase.total >= 60.0", "2")]}),
            json!({"mode": "calendar", "period": "quarter", "grace_days": 10}),
            tiers("spend", "calendar_year", "to_level", [200, 700]),
        ),
        book(
            182,
            json!({"base": {"points": "2", "per": "3.00", "whole_steps": true}, "pending_days": 3, "caps": {"per_day": 90, "per_member": 2_600},
                "bonus": [bonus("lamps", "line.sku == 'S1' || line.sku == 'S4'", "3")]}),
            json!({"mode": "inactivity", "days": 45}),
            tiers("purchases", "rolling_12_months", "one_level", [6, 15]),
        ),
        book(
            273,
            json!({"base": {"points": "1", "per": "0.50"}, "rounding": "ceiling", "round_per": "line", "exclude": {"skus": ["S2"]}, "bonus": [bonus("few", "purchase.line_count < 3", "1.1")]}),
            json!({"mode": "fixed_date", "date": "2011-02-01"}),
            tiers("spend", "lifetime", "never", [400, 900]),
        ),
        book(
            365,
            json!({"base": {"points": "1", "per": "1.00"}, "rounding": "half_even", "pending_days": 30, "caps": {"per_purchase": 75}}),
            json!({"mode": "never"}),
            tiers("points", "calendar_year", "to_level", [300, 1_000]),
        ),
    ]
}

/// What the till sends: to which path, and what.
type Sent = (&'static str, Value);

/// What all ways can tell: purchases, in the order of time, of five members in fifteen months.
fn purchases(dice: &mut Dice, is_retail: bool) -> Vec<Value> {
    let mut second = 0;
    let purchase = |n: i64| {
        second += dice.roll(8 * DAY_S) + 60;
        let lines: Vec<Value> = (1..=1 + dice.roll(3))
            .map(|line| {
                // Each line has a price of its own, so that a cancellation's article and price tell it.
                let price = format!("{}.{:02}", 1 + n / 10 * dice.roll(2) + dice.roll(4), (n * 3 + line) % 100);
                let mut body =
                    json!({"line_id": line.to_string(), "sku": format!("S{}", dice.roll(6)), "quantity": (1 + dice.roll(12)).to_string(), "unit_price": price});
                if !is_retail {
                    body["category"] = json!(["home", "garden"][usize::try_from(dice.roll(2)).unwrap()]);
                    body["discount"] = json!(format!("0.{:02}", dice.roll(100)));
                    body["tax"] = json!(format!("0.{:02}", dice.roll(20)));
                }
                body
            })
            .collect();
        let mut body = json!({"purchase_id": (500_000 + n).to_string(), "account_id": (17_000 + dice.roll(5)).to_string(), "occurred_at": moment(second),
            "currency": "GBP", "lines": lines});
        if !is_retail {
            body["shipping"] = json!(format!("{}.95", dice.roll(5)));
            (body["channel"], body["store"]) = (json!("web"), json!("s1"));
        }
        body
    };
    (1..=100).map(purchase).collect()
}

fn second(body: &Value) -> i64 {
    Moment::parse(body["occurred_at"].as_str().unwrap()).unwrap().as_micros() / 1_000_000 - START_S
}

/// A third of the purchases are given back in part within the month after, in the order of time with the purchases.
fn with_returns(dice: &mut Dice, bought: &[Value], is_retail: bool) -> Vec<Sent> {
    let mut sent: Vec<Sent> = bought.iter().map(|body| ("purchases", body.clone())).collect();
    for (n, body) in bought.iter().enumerate().filter(|(n, _)| n % 3 == 1) {
        let line = &body["lines"][0];
        let most: i64 = line["quantity"].as_str().unwrap().parse().unwrap();
        let quantity = if n % 2 == 0 { most } else { 1 + dice.roll(most) };
        let at = moment(second(body) + HOUR_S + dice.roll(30 * DAY_S));
        let mut back = json!({"return_id": format!("C{n}"), "account_id": body["account_id"], "purchase_id": body["purchase_id"], "occurred_at": at});
        if !is_retail && n % 5 == 0 {
            back["amount"] = json!(format!("0.{:02}", 10 + dice.roll(80)));
        } else {
            back["lines"] = json!([{"line_id": line["line_id"], "quantity": quantity.to_string()}]);
        }
        sent.push(("returns", back));
        if !is_retail && n % 4 == 0 {
            let refund = json!({"refund_id": format!("F{n}"), "account_id": body["account_id"], "occurred_at": at, "amount": "19.99", "reference": "old"});
            sent.push(("refunds", refund));
        }
    }
    sent.sort_by_key(|(_, body)| second(body));
    sent
}

/// The history as a till sends it, the program's clock driven as `--drive-clock` does.
async fn send(up: &Up, program: &str, sent: &[Sent]) {
    for (path, body) in sent {
        let (status, answer) = up.put(&format!("/v1/programs/{program}/clock"), json!({"now": body["occurred_at"]})).await;
        assert_eq!(status, 200, "{answer}");
        let (status, answer) = up.post(&format!("/v1/programs/{program}/{path}"), body.clone()).await;
        assert!(status.is_success(), "{body}: {answer}");
    }
}

fn as_jsonl(sent: &[Sent]) -> String {
    sent.iter().map(|(_, body)| format!("{body}\n")).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn as_csv(sent: &[Sent]) -> String {
    const PURCHASE: [&str; 7] = ["purchase_id", "account_id", "occurred_at", "currency", "channel", "store", "shipping"];
    const LINE: [&str; 7] = ["line_id", "sku", "category", "quantity", "unit_price", "discount", "tax"];
    let mut rows = format!("{},{}\n", PURCHASE.join(","), LINE.join(","));
    for (_, body) in sent {
        for line in body["lines"].as_array().unwrap() {
            let cells: Vec<&str> = PURCHASE.iter().map(|name| text(&body[name])).chain(LINE.iter().map(|name| text(&line[name]))).collect();
            rows += &format!("{}\n", cells.join(","));
        }
    }
    rows
}

fn as_invoices(sent: &[Sent]) -> String {
    let mut rows = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n".to_owned();
    let line_of = |purchase: &str| &sent.iter().find(|(_, body)| text(&body["purchase_id"]) == purchase && !body["currency"].is_null()).unwrap().1["lines"][0];
    for (path, body) in sent {
        let (invoice, sign) = if *path == "returns" { ("return_id", "-") } else { ("purchase_id", "") };
        let at = text(&body["occurred_at"]).replace('T', " ");
        for line in body["lines"].as_array().unwrap() {
            let goods = if *path == "returns" { line_of(text(&body["purchase_id"])) } else { line };
            let (sku, price) = (text(&goods["sku"]), text(&goods["unit_price"]));
            rows += &format!(
                "{},{sku},A GIFT,{sign}{},{},{price},{}.0,Norway\n",
                text(&body[invoice]),
                text(&line["quantity"]),
                at.trim_end_matches('Z'),
                text(&body["account_id"])
            );
        }
    }
    rows
}

/// Imports a file, all of whose rows are booked.
async fn import(data: &Path, program: &str, format: &str, rows: &str) {
    let file = data.join(program);
    std::fs::write(&file, rows).unwrap();
    let output = loyalty(&["import", file.to_str().unwrap(), "--program", program, "--format", format, "--drive-clock"], data).output().await.unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

/// All that the read models tell of a program's members, but for where it stands on the log, when it was told, and the names of what came by other ways.
async fn told(client: &tokio_postgres::Client, program: &str) -> Vec<String> {
    let sql = "
        SELECT 'balance ' || (account, status, opened_at, issued, pending, available, held, redeemed, expired, clawed_back, forfeited, owed, shortfall, lifetime_earned)::text
          FROM balance.balance WHERE program = $1
        UNION ALL SELECT 'lot ' || (account, lot_id, points, remaining, held, pending, earned_at, available_at, expires_at, rule_version)::text FROM balance.lot WHERE program = $1
        UNION ALL SELECT 'tier ' || (account, tier, since, review_at)::text FROM tier.standing WHERE program = $1
        UNION ALL SELECT 'move ' || (account, at, from_tier, to_tier, cause, trim_scale(qualifying))::text FROM tier.move WHERE program = $1
        UNION ALL SELECT 'movement ' || (account, row_number() OVER (PARTITION BY account ORDER BY account_seq, event), effective_at, kind, rule_version, points, available, pending, owed)::text
          FROM statement.movement WHERE program = $1
        UNION ALL SELECT 'member ' || (account, trim_scale(spend))::text FROM clv.member WHERE program = $1
        ORDER BY 1";
    client.query(sql, &[&program]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// What is in one and not in the other.
fn difference(left: &[String], right: &[String]) -> Vec<String> {
    let only =
        |these: &[String], those: &[String], mark: &str| these.iter().filter(|row| !those.contains(row)).map(|row| format!("{mark} {row}")).collect::<Vec<_>>();
    [only(left, right, "-"), only(right, left, "+")].concat()
}

#[tokio::test]
async fn every_way_books_the_same() {
    let data = tempfile::tempdir().unwrap();
    let (mut dice, mut retail_dice) = (Dice(1), Dice(2));
    let bought = purchases(&mut dice, false);
    let shop: Vec<Sent> = bought.iter().map(|body| ("purchases", body.clone())).collect();
    let returned = with_returns(&mut dice, &bought, false);
    let invoices = purchases(&mut retail_dice, true);
    let cancelled = with_returns(&mut retail_dice, &invoices, true);

    let up = Up::start(data.path(), &[]).await;
    for program in ["till", "till-returns", "till-invoices", "table", "lines", "invoices"] {
        for rulebook in rulebooks(program) {
            let (status, answer) = up.put(&format!("/v1/programs/{program}/rulebook"), rulebook).await;
            assert!(status.is_success(), "{answer}");
        }
    }
    tokio::join!(send(&up, "till", &shop), send(&up, "till-returns", &returned), send(&up, "till-invoices", &cancelled));
    up.stop().await;
    import(data.path(), "table", "purchases-csv", &as_csv(&shop)).await;
    import(data.path(), "lines", "purchases-jsonl", &as_jsonl(&returned)).await;
    import(data.path(), "invoices", "online-retail", &as_invoices(&cancelled)).await;

    let up = Up::start(data.path(), &[]).await;
    // What falls due by the end has been booked by every way.
    for program in ["till", "till-returns", "till-invoices", "table", "lines", "invoices"] {
        let (status, answer) = up.put(&format!("/v1/programs/{program}/clock"), json!({"now": "2011-06-01T00:00:00Z"})).await;
        assert_eq!(status, 200, "{answer}");
    }
    up.settle().await;
    let client = postgres(data.path()).await;
    for (till, other) in [("till", "table"), ("till-returns", "lines"), ("till-invoices", "invoices")] {
        let (expected, found) = (told(&client, till).await, told(&client, other).await);
        assert!(expected.len() > 300, "the history is told: {} rows", expected.len());
        assert_eq!(difference(&expected, &found), Vec::<String>::new(), "{other} is as {till}");
    }
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
}
