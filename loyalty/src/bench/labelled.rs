//! Fraud rules on a labelled stream of payments (Le Borgne et al., *Reproducible Machine Learning for Credit Card Fraud Detection*, 2022): tills are its
//! terminals, accounts its customers. What was fraud is reported a week later; beside the rules, a logistic regression with as many alerts.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context;
use chrono::{Datelike, NaiveDate, Timelike};
use estimators::logistic::{auc, fit};
use event_log::postgres::connect;
use futures_util::{StreamExt, TryStreamExt, stream};
use ledger_core::time::{DAY_US, Moment, Zone, plus_days, utc_date};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::fraud::start;
use super::{Figure, ratio};

/// The published protocol's week of the test; what it is learned from ends a week before.
const TEST: (NaiveDate, NaiveDate) = (august(8), august(14));
const DELAY_DAYS: i64 = 7;
const AT_ONCE: usize = 64;

const fn august(day: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2018, 8, day).expect("August has 31 days")
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "TRANSACTION_ID")]
    id: String,
    #[serde(rename = "TX_DATETIME", deserialize_with = "utc")]
    at: Moment,
    #[serde(rename = "CUSTOMER_ID")]
    customer: String,
    #[serde(rename = "TERMINAL_ID")]
    terminal: String,
    #[serde(rename = "TX_AMOUNT")]
    amount: rust_decimal::Decimal,
    #[serde(rename = "TX_FRAUD")]
    is_fraud: u8,
}

/// The data name no zone.
fn utc<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
    static UTC: LazyLock<Zone> = LazyLock::new(|| Zone::parse("UTC").expect("UTC is in the zone database"));
    UTC.parse_local(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn days_before(at: Moment, days: i64) -> Moment {
    at.plus_micros(-days * DAY_US)
}

impl Row {
    fn day(&self) -> NaiveDate {
        utc_date(self.at)
    }

    fn is_fraud(&self) -> bool {
        self.is_fraud == 1
    }

    fn is_tested(&self) -> bool {
        (TEST.0..=TEST.1).contains(&self.day())
    }

    fn pounds(&self) -> f64 {
        self.amount.try_into().unwrap_or(f64::NAN)
    }
}

/// Measures with `file` in `folder`.
pub async fn run(file: &Path, folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let reader = crate::import::source::open(file, indicatif::ProgressBar::hidden())?;
    let rows: Vec<Row> = csv::Reader::from_reader(reader).into_deserialize().collect::<Result<_, _>>().with_context(|| file.display().to_string())?;
    let site = start(folder).await?;
    let shop =
        Shop { http: reqwest::Client::new(), base: format!("{}/v1/programs/cards", site.address), database: connect(site.database(), "analysis").await? };
    // What an honest payment never was, as far as is known when the test begins.
    let known = |row: &&Row| row.day() < plus_days(TEST.0, -DELAY_DAYS);
    let usual_max = rows.iter().filter(known).filter(|row| !row.is_fraud()).map(|row| row.amount).max().context("payments before the test")?;
    shop.open((usual_max * rust_decimal::Decimal::ONE_HUNDRED).trunc().to_string()).await?;
    let mut days: BTreeMap<NaiveDate, Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| days.entry(row.day()).or_default().push(row));
    for (day, payments) in &days {
        let reported = days.get(&plus_days(*day, -DELAY_DAYS)).into_iter().flatten().filter(|row| row.is_fraud());
        shop.post_all("fraud/reports", reported.map(|row| json!({"reference": row.id}))).await?;
        shop.post_all("purchases", payments.iter().map(|row| purchase(row))).await?;
        shop.all_is_looked_at().await?;
    }
    let found = shop.found().await?;
    let tested: Vec<&Row> = rows.iter().filter(|row| row.is_tested()).collect();
    let ours: Vec<f64> = tested.iter().map(|row| found.get(&row.id).copied().unwrap_or(0.0)).collect();
    let alerts = ours.iter().filter(|score| **score > 0.0).count();
    let theirs = logistic(&rows, &tested)?;
    let mut figures = Vec::new();
    for (name, scores) in [("the rules", ours), ("a logistic regression", theirs)] {
        figures.extend(judge(name, &tested, &scores, alerts)?);
    }
    Ok(figures)
}

/// Of the `alerts` payments with the highest scores, how many are fraud, and of all fraud how much that is.
#[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
fn judge(name: &str, tested: &[&Row], scores: &[f64], alerts: usize) -> anyhow::Result<Vec<Figure>> {
    let outcomes: Vec<bool> = tested.iter().map(|row| row.is_fraud()).collect();
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let right = order.iter().take(alerts).filter(|i| outcomes[**i]).count();
    let all = outcomes.iter().filter(|is_fraud| **is_fraud).count();
    let part = |of: usize| ratio(right as f64, of as f64);
    let area = auc(scores, &outcomes).context("payments of both kinds")?;
    Ok(vec![
        Figure::new(&format!("{} payments, {all} of them fraud, {name}: ROC-AUC", tested.len()), format!("{area:.3}"), "0.76 tree, 0.87 logistic"),
        Figure::new(&format!("  {alerts} alerts: precision, recall"), format!("{:.2}, {:.2}", part(alerts), part(all)), ""),
    ])
}

fn purchase(row: &Row) -> Value {
    json!({"purchase_id": row.id, "account_id": format!("c{}", row.customer), "occurred_at": row.at.to_string(), "currency": "EUR", "channel": "store",
        "till": format!("t{}", row.terminal),
        "lines": [{"line_id": "1", "sku": "payment", "category": "any", "quantity": 1, "unit_price": row.amount.round_dp(2).to_string()}]})
}

/// The rules: above what is usual for anybody, a till where three payments were fraud, three times what the member's payments are.
fn rulebook(usual_max: &str) -> Value {
    let rule = |id: &str, severity: &str, window: Value, when: &str| {
        let windows = if window.is_null() { json!({}) } else { json!({"it": window}) };
        json!({"id": id, "version": 1, "severity": severity, "on": ["earn"], "by": "reference", "windows": windows, "when": when, "explanation": id})
    };
    let window = |by: &str, days: u32, measure: &str| json!({"kinds": ["earn"], "by": by, "minutes": days * 1440, "measure": measure});
    json!({"program": "cards", "mode": "sandbox", "currency": "EUR", "time_zone": "UTC", "effective_from": "2018-01-01T00:00:00Z",
    "earn": {"base": {"points": "100", "per": "1.00"}}, "expiry": {"mode": "rolling", "months": 12},
    "redeem": {"minimum": 1, "value": {"points": 100, "amount": "1.00"}}, "tiers": {"levels": [{"name": "member", "at": 0}]},
    "fraud": {"rules": [
        rule("large", "critical", Value::Null, &format!("signal.points > {usual_max}")),
        rule("till_of_fraud", "high", window("till", 28, "confirmed"), "window.it >= 3"),
        rule("unlike_before", "medium", window("account", 28, "own_percent"), "window.it >= 300"),
    ]}})
}

struct Shop {
    http: reqwest::Client,
    base: String,
    database: Client,
}

impl Shop {
    async fn open(&self, usual_max: String) -> anyhow::Result<()> {
        for (path, body) in [("rulebook", rulebook(&usual_max)), ("clock", json!({"now": "2018-08-16T00:00:00Z"}))] {
            let answer = self.http.put(format!("{}/{path}", self.base)).json(&body).send().await?;
            anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.text().await?);
        }
        Ok(())
    }

    async fn post_all(&self, path: &str, bodies: impl Iterator<Item = Value>) -> anyhow::Result<()> {
        let post = async |body: Value| {
            let answer = self.http.post(format!("{}/{path}", self.base)).json(&body).send().await?;
            anyhow::ensure!(answer.status().is_success(), "{path}: {}", answer.text().await?);
            Ok(())
        };
        stream::iter(bodies).map(post).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Waits until every rule has seen every record.
    async fn all_is_looked_at(&self) -> anyhow::Result<()> {
        let sql = "SELECT (SELECT sum(position) FROM fraud.checkpoint) = (SELECT count(*) FROM log.record) AND NOT EXISTS (
                       SELECT FROM fraud.checkpoint c LEFT JOIN watched w ON w.stream = 'signal' AND w.partition = c.partition WHERE c.position > coalesce(w.position, 0))";
        while !self.database.query_one(sql, &[]).await?.get::<_, bool>(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// By payment, the highest priority of its cases.
    async fn found(&self) -> anyhow::Result<HashMap<String, f64>> {
        let cases = analytics::fraud::cases(&self.database, "cards", Some("open"), None, 0, i64::MAX).await?;
        let mut found = HashMap::new();
        for case in cases {
            let highest = found.entry(case.subject).or_insert(0.0);
            *highest = case.priority.max(*highest);
        }
        Ok(found)
    }
}

/// The usual features (amount, weekend, night, the customer's count and mean of 1, 7 and 30 days, the terminal's count and share of fraud of as many days
/// that ended a week before), learned from the week before the test, although half of its labels come later than that.
#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "estimates, not money")]
fn logistic(rows: &[Row], tested: &[&Row]) -> anyhow::Result<Vec<f64>> {
    let mut of_customer: HashMap<&str, Vec<&Row>> = HashMap::new();
    let mut of_terminal: HashMap<&str, Vec<&Row>> = HashMap::new();
    for row in rows {
        of_customer.entry(&row.customer).or_default().push(row);
        of_terminal.entry(&row.terminal).or_default().push(row);
    }
    let features = |row: &Row| {
        let (night, weekend) = (row.at.timestamp().hour() <= 6, row.day().weekday().number_from_monday() >= 6);
        let mut all = vec![row.pounds(), f64::from(u8::from(night)), f64::from(u8::from(weekend))];
        for days in [1, 7, 30] {
            let within = |other: &&&Row, ended: i64| other.at <= days_before(row.at, ended) && other.at > days_before(row.at, ended + days);
            let own: Vec<f64> = of_customer[&*row.customer].iter().filter(|other| within(other, 0)).map(|other| other.pounds()).collect();
            let there: Vec<&&Row> = of_terminal[&*row.terminal].iter().filter(|other| within(other, DELAY_DAYS)).collect();
            let frauds = there.iter().filter(|other| other.is_fraud()).count();
            let (own_count, there_count) = (own.len() as f64, there.len() as f64);
            all.extend([own_count, own.iter().sum::<f64>() / own_count.max(1.0), there_count, frauds as f64 / there_count.max(1.0)]);
        }
        all
    };
    let before: Vec<&Row> = rows.iter().filter(|row| row.day() < TEST.0 && row.day() >= plus_days(TEST.0, -7)).collect();
    let model = fit(&before.iter().map(|row| features(row)).collect::<Vec<_>>(), &before.iter().map(|row| row.is_fraud()).collect::<Vec<_>>())?;
    Ok(tested.iter().map(|row| model.probability(&features(row))).collect())
}
