//! What the points owe, end to end: postings that sum to zero, periods that roll forward, and the revenue journal of IFRS 15.

use std::path::Path;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{Up, purchase, rulebook, run};

/// A point a unit of money, worth one; nothing is pending and nothing expires.
pub fn points_worth_one(expected: &str, from: &str) -> Value {
    let mut rules = rulebook();
    (rules["earn"], rules["expiry"]) = (json!({"base": {"points": "0.1", "per": "1"}}), json!({"mode": "never"}));
    rules["redeem"] = json!({"minimum": 1, "value": {"points": 1, "amount": "1.00"}});
    rules["insight"] = json!({"expected_redemption": expected});
    rules["effective_from"] = json!(from);
    rules
}

pub async fn clock(up: &Up, now: &str) {
    let (status, answer) = up.put("/v1/programs/shop/clock", json!({"now": now})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

async fn redeem(up: &Up, id: &str, account: &str, points: i64) -> Value {
    let body = json!({"redemption_id": id, "account_id": account, "points": points});
    let (status, answer) = up.post("/v1/programs/shop/redemptions", body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    seen(up, &answer).await;
    answer
}

/// Waits until the read models have `answer`; each account is in a partition of its own.
pub async fn seen(up: &Up, answer: &Value) {
    up.read("/v1/programs/shop/liability/trial-balance", answer).await;
    up.read("/v1/programs/shop/liability/expiry-forecast", answer).await;
}

/// Debits and credits by account over the year's months; each month balances.
async fn year(up: &Up, year: u32) -> (i64, i64) {
    let (mut deferred, mut recognised) = (0, 0);
    for month in 1..=12 {
        let (status, journal) = up.get(&format!("/v1/programs/shop/liability/journal?period={year}-{month:02}")).await;
        assert_eq!(status, StatusCode::OK, "{journal}");
        let amount = |entry: &Value, side: &str| entry[side].as_str().unwrap().parse::<f64>().unwrap();
        let entries = journal["entries"].as_array().unwrap();
        let sum = |side: &str| entries.iter().map(|entry| amount(entry, side)).sum::<f64>();
        assert!((sum("debit") - sum("credit")).abs() < 1e-9, "{journal}");
        for entry in entries {
            let net = (amount(entry, "credit") - amount(entry, "debit")).round() as i64;
            match entry["account"].as_str().unwrap() {
                "revenue_goods" => deferred -= net,
                "revenue_points" => recognised += net,
                _ => {}
            }
        }
    }
    (deferred, recognised)
}

#[tokio::test]
async fn example_52_of_ifrs_15_through_the_ledger() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("0.95", "2020-01-01T00:00:00Z");
    // Yen have no decimals, as the example's units have none.
    rules["currency"] = json!("JPY");
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules.clone()).await.0, StatusCode::CREATED);
    clock(&up, "2020-03-10T00:00:00Z").await;
    let mut sale = purchase("sale", "a", "2020-03-10T00:00:00Z", "x", "100000");
    (sale["currency"], sale["shipping"]) = (json!("JPY"), json!("0"));
    assert_eq!(up.post("/v1/programs/shop/purchases", sale).await.0, StatusCode::CREATED);
    clock(&up, "2020-11-01T00:00:00Z").await;
    let answer = redeem(&up, "r1", "a", 4_500).await;
    up.read("/v1/programs/shop/liability/trial-balance", &answer).await;
    assert_eq!(year(&up, 2020).await, (8_676, 4_110));
    // The next year expects 9,700 to be spent in all, and 8,500 have been.
    (rules["insight"], rules["effective_from"]) = (json!({"expected_redemption": "0.97"}), json!("2021-01-01T00:00:00Z"));
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    clock(&up, "2021-12-31T00:00:00Z").await;
    let answer = redeem(&up, "r2", "a", 4_000).await;
    up.read("/v1/programs/shop/liability/trial-balance", &answer).await;
    assert_eq!(year(&up, 2021).await, (0, 3_493));
    // The year before stays as it was closed.
    assert_eq!(year(&up, 2020).await, (8_676, 4_110));
    let (_, journal) = up.get("/v1/programs/shop/liability/journal?period=2021-12").await;
    assert_eq!(journal["contract_liability"], "1073");
    let response = up.send(reqwest::Method::GET, "/v1/programs/shop/liability/journal?period=2020-03&format=csv", None).await.unwrap();
    let text = response.text().await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "period,cohort,account,debit,credit,currency,memo");
    assert_eq!(lines[1], "2020-03,2020-03,revenue_goods,8676,0,JPY,\"deferred for points given\"");
    assert_eq!(lines[2], "2020-03,2020-03,contract_liability,0,8676,JPY,\"deferred for points given\"");
    up.stop().await;
}

#[tokio::test]
async fn what_has_expired_is_revenue_and_a_sale_that_comes_back_whole_defers_nothing() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("0.95", "2020-01-01T00:00:00Z");
    rules["expiry"] = json!({"mode": "rolling", "months": 2});
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    for (id, account, at) in [("p1", "a", "2020-01-10T00:00:00Z"), ("p2", "b", "2020-02-10T00:00:00Z")] {
        clock(&up, at).await;
        let mut sale = purchase(id, account, at, "x", "10000");
        sale["shipping"] = json!("0");
        assert_eq!(up.post("/v1/programs/shop/purchases", sale).await.0, StatusCode::CREATED);
    }
    clock(&up, "2020-03-01T00:00:00Z").await;
    let back = json!({"return_id": "t1", "account_id": "b", "purchase_id": "p2", "occurred_at": "2020-03-01T00:00:00Z", "amount": "10000.00"});
    let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    // On which a's points expire.
    clock(&up, "2020-03-10T00:00:00Z").await;
    clock(&up, "2020-12-31T00:00:00Z").await;
    let sale = purchase("p3", "a", "2020-12-31T00:00:00Z", "x", "1");
    let (_, answer) = up.post("/v1/programs/shop/purchases", sale).await;
    seen(&up, &answer).await;
    let (_, breakage) = up.get("/v1/programs/shop/liability/breakage?as_of=2020-11-30").await;
    assert_eq!(breakage["cohorts"][0]["ultimate"], 0.0, "{breakage}");
    // 950 of 10,950 parts of 10,000.00, and as much in February, which March takes back.
    assert_eq!(year(&up, 2020).await, (868, 868));
    let (_, february) = up.get("/v1/programs/shop/liability/journal?period=2020-02").await;
    let (_, march) = up.get("/v1/programs/shop/liability/journal?period=2020-03").await;
    assert_eq!((&february["entries"][0]["debit"], &march["entries"][3]["credit"]), (&json!("867.58"), &json!("867.58")), "{february} {march}");
    let (_, november) = up.get("/v1/programs/shop/liability/journal?period=2020-11").await;
    assert_eq!(november["contract_liability"], "0.00", "{november}");
    up.stop().await;
}

#[tokio::test]
async fn a_period_rolls_forward_and_the_book_sums_to_zero() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    assert_eq!(up.put("/v1/programs/shop/rulebook", rulebook()).await.0, StatusCode::CREATED);
    clock(&up, "2010-01-10T00:00:00Z").await;
    up.post("/v1/programs/shop/purchases", purchase("p1", "a", "2010-01-10T00:00:00Z", "x", "1200")).await;
    up.post("/v1/programs/shop/purchases", purchase("p2", "b", "2010-01-10T00:00:00Z", "x", "300")).await;
    clock(&up, "2010-02-05T00:00:00Z").await;
    redeem(&up, "r1", "a", 500).await;
    let back = json!({"return_id": "t1", "account_id": "b", "purchase_id": "p2", "occurred_at": "2010-02-05T00:00:00Z", "amount": "100.00"});
    let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let base = "/v1/programs/shop/liability";
    seen(&up, &answer).await;
    let balance = up.read(&format!("{base}/trial-balance"), &answer).await;
    assert_eq!((&balance["sum"], &balance["liability_points"]), (&json!(0), &json!(900)), "{balance}");
    assert!(balance["buckets"].as_array().unwrap().contains(&json!({"bucket": "redeemed", "points": 500})), "{balance}");
    let (_, then) = up.get(&format!("{base}/trial-balance?as_of=2010-01-31&basis=effective")).await;
    assert_eq!((&then["sum"], &then["liability_points"]), (&json!(0), &json!(1500)), "{then}");
    // An account that nobody touched since has not matured in the book yet, only by the clock; redeeming has matured a's.
    let (_, rolled) = up.get(&format!("{base}/roll-forward?from=2010-02-01&to=2010-02-28")).await;
    let total = &rolled["total"];
    let wanted = json!({"group": null, "opening": 1500, "issued": 0, "matured": 1500, "redeemed": -500, "expired": 0, "clawed_back": -100, "adjusted": 0,
        "forfeited": 0, "closing": 900});
    assert_eq!(*total, wanted);
    let money = &rolled["money"];
    assert_eq!((&money["currency"], &money["total"]["opening"], &money["total"]["redeemed"]), (&json!("GBP"), &json!("15"), &json!("-5")), "{money}");
    assert_eq!((&money["total"]["group"], &money["rows"][0]["closing"]), (&Value::Null, &json!("9")), "{money}");
    let (_, tiers) = up.get(&format!("{base}/roll-forward?from=2010-01-01&to=2010-02-28&by=tier")).await;
    let closing = |name: &str| tiers["rows"].as_array().unwrap().iter().find(|row| row["group"] == name).map(|row| row["closing"].clone());
    assert_eq!(closing("member"), Some(json!(1400)), "points count under the tier that the member had: {tiers}");
    let (_, cohorts) = up.get(&format!("{base}/roll-forward?from=2010-01-01&to=2010-02-28&by=cohort")).await;
    assert_eq!((&cohorts["rows"][0]["group"], &cohorts["rows"][0]["closing"]), (&json!("2010-01"), &json!(900)));
    let (_, lots) = up.get(&format!("{base}/lots?limit=1")).await;
    assert_eq!(lots["items"][0], json!({"account_id": "a", "lot_id": 1, "issued_on": "2010-01-10", "points": 1200, "pending": 0, "available": 700, "held": 0}));
    let (_, lots) = up.get(&format!("{base}/lots?cursor={}", lots["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&lots["items"][0]["account_id"], &lots["items"][0]["available"]), (&json!("b"), &json!(200)));
    let (_, expiring) = up.get(&format!("{base}/expiry-forecast")).await;
    assert_eq!(expiring["items"], json!([{"day": "2011-01-10", "points": 900}]));
    for (path, field) in [
        ("trial-balance?basis=both", "basis"),
        ("roll-forward?from=2010-02-01&to=2010-01-01", "to"),
        ("journal?period=May", "period"),
        ("expiry-forecast?months=0", "months"),
        ("roll-forward?from=2010-01-01&to=2010-02-01&by=shoe", "by"),
    ] {
        let (status, problem) = up.get(&format!("{base}/{path}")).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
}

#[tokio::test]
async fn what_a_brand_pays_for_is_told_by_period_and_as_owed() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("1", "2020-01-01T00:00:00Z");
    rules["earn"] = json!({"base": {"points": "1", "per": "1"}, "bonus": [
        {"id": "tea-x3", "when": "line.sku == 'tea'", "multiply": "3", "paid_by": "acme"},
        {"id": "milk-x2", "when": "line.sku == 'milk'", "multiply": "2", "paid_by": "zeta"},
    ]});
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    let sell = async |id: &str, account: &str, at: &str, lines: Value| {
        clock(&up, at).await;
        let mut sale = purchase(id, account, at, "x", "1");
        (sale["lines"], sale["shipping"]) = (lines, json!("0"));
        let (status, answer) = up.post("/v1/programs/shop/purchases", sale).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer
    };
    let line = |id: &str, sku: &str, price: &str| json!({"line_id": id, "sku": sku, "category": "food", "quantity": 1, "unit_price": price});
    // Given 300 points for tea and 100 for the rest in January, and 100 for milk in February.
    sell("p1", "a", "2020-01-10T00:00:00Z", json!([line("1", "tea", "100"), line("2", "x", "100")])).await;
    let answer = sell("p2", "b", "2020-02-10T00:00:00Z", json!([line("1", "milk", "50")])).await;
    seen(&up, &answer).await;
    // When half of January's points are spent, and the milk is returned.
    redeem(&up, "r1", "a", 200).await;
    let back =
        json!({"return_id": "t1", "account_id": "b", "purchase_id": "p2", "occurred_at": "2020-02-10T00:00:00Z", "lines": [{"line_id": "1", "quantity": 1}]});
    let (status, answer) = up.post("/v1/programs/shop/returns", back).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    seen(&up, &answer).await;
    // Then acme pays for the 200 more on tea, of which half is still owed, and zeta for nothing any more.
    let base = "/v1/programs/shop/liability";
    let payer = |name: Value, issued: i64, clawed_back: i64, liability: i64| json!({"payer": name, "issued": issued, "clawed_back": clawed_back, "liability": liability});
    let year = up.read(&format!("{base}/payers?from=2020-01-01&to=2020-12-31"), &answer).await;
    assert_eq!(year["payers"], json!([payer(json!("acme"), 200, 0, 100), payer(json!("zeta"), 50, -50, 0), payer(Value::Null, 250, -50, 100)]), "{year}");
    let money = &year["money"];
    assert_eq!((&money["currency"], &money["payers"][0]["liability"], &money["payers"][0]["payer"]), (&json!("GBP"), &json!("100"), &json!("acme")), "{year}");
    let (_, january) = up.get(&format!("{base}/payers?from=2020-01-01&to=2020-01-31")).await;
    assert_eq!(january["payers"], json!([payer(json!("acme"), 200, 0, 100), payer(json!("zeta"), 0, 0, 0), payer(Value::Null, 200, 0, 100)]), "{january}");
    let (_, total) = up.get(&format!("{base}/roll-forward?from=2020-01-01&to=2020-12-31")).await;
    assert_eq!((&total["total"]["issued"], &total["total"]["closing"]), (&json!(500), &json!(200)), "payers and the program pay for all: {total}");
    // When the tea is returned, whose points are not all there any more.
    let back =
        json!({"return_id": "t2", "account_id": "a", "purchase_id": "p1", "occurred_at": "2020-02-10T00:00:00Z", "lines": [{"line_id": "1", "quantity": 1}]});
    let (_, answer) = up.post("/v1/programs/shop/returns", back).await;
    seen(&up, &answer).await;
    // Then the program bears what could not be taken back.
    let year = up.read(&format!("{base}/payers?from=2020-01-01&to=2020-12-31"), &answer).await;
    assert_eq!(year["payers"][0], payer(json!("acme"), 200, -200, 0), "{year}");
    assert_eq!(year["payers"][2], payer(Value::Null, 250, -50, 0), "{year}");
    let (status, problem) = up.get(&format!("{base}/payers?from=2020-02-01&to=2020-01-01")).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (StatusCode::BAD_REQUEST, &json!("to")), "{problem}");
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
    let page = data.path().join("liability.html");
    let report = run(&["report", "liability", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    let page = std::fs::read_to_string(page).unwrap();
    assert!(report.contains("Who pays, since") && page.contains("<td>acme</td>"), "{report}");
}

#[tokio::test]
async fn goodwill_defers_no_revenue() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("1", "2026-01-01T00:00:00Z");
    rules["earn"] = json!({"base": {"points": "1", "per": "1"}});
    rules["redeem"] = json!({"minimum": 1, "value": {"points": 100, "amount": "1.00"}});
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    // Given a sale of 1,000.00 with 1,000 points, which are worth 10.00, and 100,000 points by hand.
    clock(&up, "2026-01-10T00:00:00Z").await;
    let mut sale = purchase("p1", "a", "2026-01-10T00:00:00Z", "x", "1000");
    sale["shipping"] = json!("0");
    assert_eq!(up.post("/v1/programs/shop/purchases", sale).await.0, StatusCode::CREATED);
    let gift = json!({"adjustment_id": "g1", "account_id": "a", "points": 100_000, "reason_code": "goodwill"});
    let (status, answer) = up.post("/v1/programs/shop/adjustments", gift).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    clock(&up, "2026-02-10T00:00:00Z").await;
    seen(&up, &answer).await;
    // Then the sale's price is shared with its own points only: 1,000.00 × 10.00 / 1,010.00.
    let (_, journal) = up.get("/v1/programs/shop/liability/journal?period=2026-01").await;
    assert_eq!((&journal["contract_liability"], &journal["entries"][0]["debit"]), (&json!("9.90"), &json!("9.90")), "{journal}");
    // Half of the sale's points is spent, which are the older ones: half of what was deferred is revenue.
    let answer = redeem(&up, "r1", "a", 500).await;
    seen(&up, &answer).await;
    let february = async || up.get("/v1/programs/shop/liability/journal?period=2026-02").await.1;
    let journal = february().await;
    assert_eq!((&journal["contract_liability"], &journal["entries"][0]["debit"]), (&json!("4.95"), &json!("4.95")), "{journal}");
    // All of them and some of the others: all of it is, and spending what was given by hand is none.
    let answer = redeem(&up, "r2", "a", 20_500).await;
    seen(&up, &answer).await;
    let journal = february().await;
    assert_eq!((&journal["contract_liability"], &journal["entries"][0]["debit"]), (&json!("0.00"), &json!("9.90")), "{journal}");
    up.stop().await;
}

/// Each of 12 months gives 1,000 points; of those a tenth is spent after one month, two tenths after two, a tenth after three.
async fn a_year_of_points(data: &Path) -> Up {
    let up = Up::start(data, &[]).await;
    let mut rules = points_worth_one("1", "2020-01-01T00:00:00Z");
    rules["insight"] = json!({});
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    for month in 1_u32..=12 {
        clock(&up, &format!("2020-{month:02}-10T00:00:00Z")).await;
        for (age, points) in [(1, 100), (2, 200), (3, 100)] {
            if month > age {
                redeem(&up, &format!("r{age}"), &format!("m{}", month - age), points).await;
            }
        }
        let sale = purchase(&format!("p{month}"), &format!("m{month}"), &format!("2020-{month:02}-10T00:00:00Z"), "x", "10000");
        let (status, answer) = up.post("/v1/programs/shop/purchases", sale).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        seen(&up, &answer).await;
    }
    up
}

#[tokio::test]
async fn breakage_is_found_from_what_earlier_months_did() {
    let data = TempDir::new().unwrap();
    let up = a_year_of_points(data.path()).await;
    let (_, breakage) = up.get("/v1/programs/shop/liability/breakage").await;
    assert_eq!(breakage["method"], "chain_ladder", "{breakage}");
    let near = |value: &Value, wanted: f64| assert!((value.as_f64().unwrap() - wanted).abs() < 1e-6, "{value} is not {wanted}: {breakage}");
    near(&breakage["ultimate_redemption_rate"], 0.4);
    for cohort in breakage["cohorts"].as_array().unwrap() {
        near(&cohort["ultimate"], 400.0);
    }
    // The oldest month has 600 points left, of which none was spent for long: that none will be is not certain.
    let error = breakage["cohorts"][0]["standard_error"].as_f64().unwrap();
    assert!(error > 1.0 && error < 20.0, "{breakage}");
    near(&breakage["back_test"]["expected"], breakage["back_test"]["actual"].as_f64().unwrap());
    assert_eq!(breakage["back_test"]["actual"], 800.0);
    // December is not over, so nothing is learned from it: not on its first day either, on which nobody has spent yet.
    assert_eq!((&breakage["period"], &breakage["complete_until"]), (&json!("2020-12-01"), &json!("2020-11-30")), "{breakage}");
    let (_, first) = up.get("/v1/programs/shop/liability/breakage?as_of=2020-12-01").await;
    near(&first["ultimate_redemption_rate"], 0.4);
    let (_, over) = up.get("/v1/programs/shop/liability/breakage?as_of=2020-11-30").await;
    assert_eq!((&over["period"], &over["complete_until"]), (&json!("2020-11-01"), &json!("2020-11-30")), "{over}");
    up.stop().await;
}

#[tokio::test]
async fn slow_spending_of_points_that_never_expire_is_no_breakage() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("1", "2020-01-01T00:00:00Z");
    rules["insight"] = json!({});
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    // Given four months of 1,000 points each, of which 30 are spent in each month after.
    for month in 1_u32..=5 {
        clock(&up, &format!("2020-{month:02}-10T00:00:00Z")).await;
        for old in 1..month {
            redeem(&up, &format!("r{month}"), &format!("m{old}"), 30).await;
        }
        if month < 5 {
            let mut sale = purchase(&format!("p{month}"), &format!("m{month}"), &format!("2020-{month:02}-10T00:00:00Z"), "x", "10000");
            sale["shipping"] = json!("0");
            let (status, answer) = up.post("/v1/programs/shop/purchases", sale).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            seen(&up, &answer).await;
        }
    }
    // Then nothing says yet how many will never be spent: at most all are, and no error is claimed to be known.
    let (_, breakage) = up.get("/v1/programs/shop/liability/breakage?as_of=2020-04-30").await;
    let method = breakage["method"].as_str().unwrap();
    assert!(method.starts_with("taken to be all: the oldest cohort still has points to spend"), "{breakage}");
    assert_eq!((&breakage["ultimate_redemption_rate"], &breakage["standard_error"]), (&json!(1.0), &Value::Null), "{breakage}");
    // Then only what was spent is revenue: of 4 × 909.09 deferred, 9, 6 and 3 per cent of the first three.
    let (_, journal) = up.get("/v1/programs/shop/liability/journal?period=2020-04").await;
    assert_eq!(journal["contract_liability"], "3472.72", "{journal}");
    up.stop().await;
    let page = data.path().join("page.html");
    let report = run(&["report", "liability", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    assert!(report.contains("at most 100.0 %"), "{report}");
}

#[tokio::test]
async fn points_that_expire_are_not_expected_to_be_spent_where_few_ever_are() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("1", "2020-01-01T00:00:00Z");
    (rules["insight"], rules["expiry"]) = (json!({}), json!({"mode": "rolling", "months": 3}));
    assert_eq!(up.put("/v1/programs/shop/rulebook", rules).await.0, StatusCode::CREATED);
    // Given eight months of 1,000 points each, all of which expire after three; two members spend 100 each of the last ones.
    for month in 1_u32..=8 {
        let at = format!("2020-{month:02}-10T00:00:00Z");
        clock(&up, &at).await;
        for old in 1..month {
            // Whoever is looked at has their points expire.
            let mut nothing = purchase(&format!("n{month}"), &format!("m{old}"), &at, "x", "0.01");
            nothing["shipping"] = json!("0");
            up.post("/v1/programs/shop/purchases", nothing).await;
        }
        let mut sale = purchase(&format!("p{month}"), &format!("m{month}"), &at, "x", "10000");
        sale["shipping"] = json!("0");
        let (status, answer) = up.post("/v1/programs/shop/purchases", sale).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
    redeem(&up, "r7", "m7", 100).await;
    let answer = redeem(&up, "r8", "m8", 100).await;
    seen(&up, &answer).await;
    // Then what ran off tells: no chain ladder, and no claim that all will be spent, nor that anything is certain.
    let (_, breakage) = up.get("/v1/programs/shop/liability/breakage").await;
    assert_eq!(breakage["method"], "run_off", "{breakage}");
    let rate = breakage["ultimate_redemption_rate"].as_f64().unwrap();
    assert!((0.025..0.2).contains(&rate) && breakage["standard_error"].as_f64().unwrap() > 0.0, "{breakage}");
    assert_eq!((&breakage["cohorts"][0]["lost"], &breakage["cohorts"][0]["ultimate"]), (&json!(1000), &json!(0.0)), "{breakage}");
    up.stop().await;
    let page = data.path().join("page.html");
    let report = run(&["report", "liability", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    assert!(report.contains("By how points ran off") && report.contains("8,000") && report.contains("in points and in GBP"), "{report}");
}

#[tokio::test]
async fn a_budget_tells_what_it_cost_by_rule_and_raises_an_alert_before_it_is_spent() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = points_worth_one("1", "2010-01-01T00:00:00Z");
    rules["earn"] = json!({"base": {"points": "0.1", "per": "1"}, "bonus": [{"id": "double-tea", "when": "line.category == 'tea'", "multiply": "2"}]});
    rules["insight"] = json!({"margin": "0.5", "budget": [
        {"from": "2010-02-01", "until": "2010-02-28", "planned": "1000"},
        {"from": "2010-03-01", "until": "2010-03-31", "planned": "400"},
    ]});
    let (status, answer) = up.put("/v1/programs/shop/rulebook", rules.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    let path = "/v1/programs/shop/liability/budget";
    let buy = async |id: &str, day: &str, category: &str, price: &str| {
        let at = format!("2010-02-{day}T12:00:00Z");
        clock(&up, &at).await;
        let mut body = purchase(id, "a", &at, "x", price);
        (body["lines"][0]["category"], body["shipping"]) = (json!(category), json!("0"));
        let (_, answer) = up.post("/v1/programs/shop/purchases", body).await;
        up.read("/v1/programs/shop/liability/trial-balance", &answer).await;
    };
    buy("p1", "01", "milk", "2000").await;
    buy("p2", "08", "tea", "1000").await;
    let (_, view) = up.get(path).await;
    let february = &view["periods"][0];
    assert_eq!(
        (&view["currency"], &february["actual"], &february["used"], &february["is_alert"]),
        (&json!("GBP"), &json!("400"), &json!("0.4"), &json!(false))
    );
    // 400 in 8 days, 20 days to go.
    assert_eq!((&february["forecast"], &february["variance"], &february["spent_on"]), (&json!("1400"), &json!("-400"), &json!("2010-02-20")), "{view}");
    let share = |name: &str, cost: &str, sales: &str, back: &str| json!({"name": name, "cost": cost, "sales": sales, "return_on_cost": back});
    assert_eq!(february["rules"], json!([share("base", "200", "2000", "5"), share("double-tea", "200", "1000", "2.5")]), "{view}");
    assert_eq!(february["tiers"], json!([share("member", "400", "3000", "3.75")]), "{view}");
    assert_eq!(
        (&view["periods"][1]["actual"], &view["periods"][1]["forecast"], &view["periods"][1]["spent_on"]),
        (&json!("0"), &json!("1550"), &json!("2010-03-08"))
    );
    assert_eq!(view["alerts"], json!([]));

    buy("p3", "10", "tea", "2250").await;
    let alert = loop {
        let (_, view) = up.get(path).await;
        if let Some(alert) = view["alerts"].as_array().unwrap().first() {
            break alert.clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(alert, json!({"from": "2010-02-01", "raised_on": "2010-02-10", "planned": "1000", "actual": "850", "spent_on": "2010-02-12"}));

    // What goes back costs nothing, in the rule that gave it; the plan was overspent by then.
    buy("p4", "12", "milk", "2000").await;
    clock(&up, "2010-02-20T00:00:00Z").await;
    let back = json!({"return_id": "t1", "account_id": "a", "purchase_id": "p3", "occurred_at": "2010-02-20T00:00:00Z", "amount": "2250.00"});
    let (_, answer) = up.post("/v1/programs/shop/returns", back).await;
    up.read("/v1/programs/shop/liability/trial-balance", &answer).await;
    let (_, view) = up.get(path).await;
    assert_eq!((&view["periods"][0]["actual"], &view["periods"][0]["spent_on"]), (&json!("600"), &json!(null)), "{view}");
    assert_eq!(view["periods"][0]["rules"][1], share("double-tea", "200", "3250", "8.125"));
    let (_, then) = up.get(&format!("{path}?as_of=2010-02-12")).await;
    assert_eq!((&then["periods"][0]["actual"], &then["periods"][0]["spent_on"]), (&json!("1050"), &json!("2010-02-12")), "{then}");
    assert_eq!(view["alerts"].as_array().unwrap().len(), 1, "once a period");

    rules["insight"]["budget"] = json!([{"from": "2010-02-10", "until": "2010-02-01", "planned": "0", "alert_at": "1.5"}, {"from": "2010-01-01", "until": "2010-03-01", "planned": "1"}]);
    let (status, problem) = up.put("/v1/programs/shop/rulebook", rules).await;
    let pointers: Vec<&str> = problem["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(pointers, ["/insight/budget/0/until", "/insight/budget/0/planned", "/insight/budget/0/alert_at", "/insight/budget/1/from"]);
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
    let page = data.path().join("page.html");
    let report = run(&["report", "liability", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    assert!(report.contains("Budget, in GBP") && report.contains("double-tea"), "{report}");
}
