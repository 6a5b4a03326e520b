//! Money over every way in: what a receipt says was charged, and how a refund divides between goods and shipping.

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Up, postgres, rulebook, run};

const P: &str = "/v1/programs/shop";
const AT: &str = "2010-03-01T12:00:00Z";

fn rules() -> Value {
    let mut rules = rulebook();
    (rules["earn"]["pending_days"], rules["return"]) = (json!(0), json!({"window_days": 365}));
    rules
}

/// Lines: id, quantity, price, and what the receipt says.
fn bought(id: &str, lines: &[(&str, &str, &str, Option<&str>)], shipping: &str) -> Value {
    let line = |(line, quantity, price, amount): &(&str, &str, &str, Option<&str>)| {
        let mut line = json!({"line_id": line, "sku": "A", "quantity": quantity, "unit_price": price});
        if let Some(amount) = amount {
            line["amount"] = json!(amount);
        }
        line
    };
    json!({"purchase_id": id, "account_id": "m1", "occurred_at": AT, "currency": "GBP", "shipping": shipping, "lines": lines.iter().map(line).collect::<Vec<_>>()})
}

fn refund(id: &str, purchase: &str, amount: &str) -> Value {
    json!({"return_id": id, "account_id": "m1", "purchase_id": purchase, "occurred_at": AT, "amount": amount})
}

#[tokio::test]
async fn over_rest_and_in_what_is_read_of_it() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    up.put(&format!("{P}/rulebook"), rules()).await;
    up.put(&format!("{P}/clock"), json!({"now": AT})).await;
    let buy = async |body: Value| up.post(&format!("{P}/purchases"), body).await.1["points"]["earned"].clone();
    assert_eq!(buy(bought("p1", &[("1", "0.5", "1.99", None)], "0")).await, 1, "1.00 on the receipt");
    assert_eq!(buy(bought("p2", &[("1", "0.5", "1.99", Some("0.99"))], "0")).await, 0);
    let (status, wrong) = up.post(&format!("{P}/purchases"), bought("p3", &[("1", "0.5", "1.99", Some("0.98"))], "0")).await;
    let why = "/lines/0/amount: 0.98 is wrong: 1.00, or 0.01 more or less: quantity × unit_price − discount = 0.995";
    assert_eq!((status, &wrong["detail"]), (StatusCode::BAD_REQUEST, &json!(why)));
    let (status, negative) = up.post(&format!("{P}/purchases"), bought("p3", &[("1", "1", "-10.00", None)], "0")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(negative["detail"].as_str().unwrap().contains("discount"), "{negative}");

    assert_eq!(buy(bought("p4", &[("1", "1", "40.00", None)], "5.00")).await, 40);
    let mut shipping = refund("r1", "p4", "2.00");
    shipping["shipping"] = json!("2.00");
    assert_eq!(up.post(&format!("{P}/returns"), shipping).await.1["points"], json!({"clawed_back": 0}));
    let (status, over) = up.post(&format!("{P}/simulate/returns"), refund("r2", "p4", "43.02")).await;
    let why = "43.02 is refunded, 3.00 of it for shipping, but only 40 of the goods and 3.00 of the shipping are left";
    assert_eq!((status.as_u16(), &over["code"], &over["detail"]), (422, &json!("return_exceeds_purchase"), &json!(why)));
    let (status, fine) = up.post(&format!("{P}/returns"), refund("r2", "p4", "0.005")).await;
    assert_eq!((status.as_u16(), &fine["code"]), (422, &json!("amount_too_fine")));
    let (status, back) = up.post(&format!("{P}/returns"), refund("r2", "p4", "43.01")).await;
    assert_eq!((status, &back["points"]["clawed_back"]), (StatusCode::CREATED, &json!(40)), "{back}");

    let statement = up.read(&format!("{P}/accounts/m1/statement"), &back).await;
    assert_eq!(statement["items"][0]["reason"], "return r2: 43.01 of purchase p4, 3 for shipping");
    let clv = up.read(&format!("{P}/accounts/m1/clv"), &back).await;
    assert_eq!((&clv["orders"], &clv["spend"]), (&json!(2), &json!(1.99)), "1.00 and 0.99, and nothing of what came back: {clv}");
    up.stop().await;
    assert!(run(&["verify"], data.path()).await.contains("book verified"));
}

#[tokio::test]
async fn without_a_purchase_it_is_less_than_nothing_spent() {
    let data = TempDir::new().unwrap();
    let up = Up::start(data.path(), &[]).await;
    let mut rules = rules();
    rules["return"] = json!({"unmatched": "reduce_spend"});
    up.put(&format!("{P}/rulebook"), rules).await;
    up.put(&format!("{P}/clock"), json!({"now": AT})).await;
    // Given a member of whom the book has a refund of 1.00, and no purchase.
    let body = json!({"refund_id": "f1", "account_id": "m9", "occurred_at": AT, "amount": "1.00"});
    let (status, answer) = up.post(&format!("{P}/refunds"), body).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    // Then it has spent 1.00 less than nothing, over REST and for analysts, and no day with a purchase.
    let clv = up.read(&format!("{P}/accounts/m9/clv"), &answer).await;
    assert_eq!((&clv["spend"], &clv["orders"], &clv["age_days"]), (&json!(-1.0), &json!(0), &json!(null)), "{clv}");
    assert_eq!((&clv["forecast"], &clv["why_no_forecast"]), (&json!(null), &json!("nothing was bought and kept by 2010-03-01")), "{clv}");
    let before = up.read(&format!("{P}/accounts/m9/clv?as_of=2010-02-28"), &answer).await;
    assert_eq!(before["spend"], 0.0, "{before}");
    let sql = "SELECT concat_ws(' ', account, repeats, orders, spend, first_day, order_value) FROM clv.member";
    let rows = postgres(data.path()).await.query(sql, &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>(), ["m9 0 0 -1"]);
    up.stop().await;
    let page = data.path().join("page.html");
    let report = run(&["report", "clv", "--program", "shop", "--html", page.to_str().unwrap()], data.path()).await;
    assert!(report.contains("m9") && report.contains("-1.00"), "{report}");
}

#[tokio::test]
async fn in_files() {
    let data = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    run(&["program", "publish", &file("rules.json", &rules().to_string())], data.path()).await;
    let head = "purchase_id,account_id,occurred_at,currency,line_id,sku,quantity,unit_price,amount\n";
    let rows = format!("{head}p1,m1,{AT},GBP,1,A,0.5,3.99,2.00\np2,m1,{AT},GBP,1,A,0.5,3.99,\np3,m1,{AT},GBP,1,A,0.5,3.99,1.99\n");
    let lines = [bought("p4", &[("1", "0.5", "3.99", Some("1.99"))], "5.00"), refund("r4", "p4", "6.99")];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for (name, text, format) in [("p.csv", &rows, "purchases-csv"), ("p.jsonl", &lines, "purchases-jsonl")] {
        run(&["import", &file(name, text), "--program", "shop", "--format", format, "--drive-clock"], data.path()).await;
    }
    let up = Up::start(data.path(), &[]).await;
    let (_, account) = up.get(&format!("{P}/accounts/m1")).await;
    assert_eq!(account["balance"], json!({"available": 5, "pending": 0, "held": 0, "owed": 0, "lifetime_earned": 6}), "2, 2, 1, and 1 given back");
    let (_, bare) = up.get(&format!("{P}/accounts/m1/clv")).await;
    assert_eq!(bare["spend"], 5.99, "{bare}");
    up.stop().await;
}
