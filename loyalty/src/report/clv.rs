//! What the report on lifetime value shows.

use analytics::clv::{Fit, in_force, list};
use chrono::NaiveDate;
use event_log::EventLog;
use rust_decimal::Decimal;
use tokio_postgres::{Client, Row};

use super::Section;
use super::sections::ROWS_MAX;
use super::words::{decimals, estimated, grouped, money, per_cent};
use crate::decline::rulebook;

pub async fn sections(client: &Client, log: &dyn EventLog, program: &str) -> anyhow::Result<Vec<Section>> {
    let currency = rulebook(log, program).await?.currency;
    let fit = in_force(client, program).await?;
    let last = list(client, program, i32::MAX, 1).await?.into_iter().next();
    let mut sections = vec![about(fit.as_ref(), last.as_ref(), program)];
    if fit.is_some() {
        sections.extend(scores(client, program, &currency).await?);
    }
    sections.push(bought(client, program, &currency).await?);
    Ok(sections)
}

/// The fit in force, or how to get one.
fn about(fit: Option<&Fit>, last: Option<&Fit>, program: &str) -> Section {
    let row = |fit: &Fit| {
        let model = fit.buying.as_ref().map_or("", |buying| buying.model.as_str());
        vec![fit.version.to_string(), model.to_owned(), fit.until.to_string(), grouped(i64::try_from(fit.members).unwrap_or(i64::MAX)), fit.why.clone()]
    };
    let how = format!("`loyalty clv fit --program {program}` makes one and scores all members");
    let when_empty = match last {
        Some(fit) => format!("No fit is in force. Fit {}, of data until {}, was not put in force: {}. {how}.", fit.version, fit.until, fit.why),
        None => format!("No fit has been made yet: {how}."),
    };
    Section {
        heading: "The fit in force".into(),
        columns: vec!["fit", "model", "data until", "members", "why"],
        rows: fit.map(row).into_iter().collect(),
        when_empty: Some(when_empty),
        ..Section::default()
    }
}

/// What members are expected to bring.
async fn scores(client: &Client, program: &str, currency: &str) -> anyhow::Result<Vec<Section>> {
    let decimals = decimals(currency);
    let sql = "SELECT rung, count(*), avg(lifetime_value), sum(lifetime_value) FROM analysis.score WHERE program = $1 GROUP BY rung ORDER BY 4 DESC";
    let rungs = client.query(sql, &[&program]).await?;
    let row = |row: &Row| vec![row.get(0), grouped(row.get(1)), estimated(row.get(2), decimals), estimated(row.get(3), decimals)];
    let sql = "SELECT account, lifetime_value, alive, expected_purchases, order_value, rung, as_of FROM analysis.score WHERE program = $1
               ORDER BY lifetime_value DESC, account LIMIT $2";
    let best = client.query(sql, &[&program, &ROWS_MAX]).await?;
    let member = |row: &Row| {
        let (purchases, value) = (format!("{:.1}", row.get::<_, f64>(3)), estimated(row.get(4), decimals));
        vec![row.get(0), estimated(row.get(1), decimals), per_cent(row.get(2)), purchases, value, row.get(5)]
    };
    let as_of = best.first().map_or_else(String::new, |row| format!(", as of {}", row.get::<_, NaiveDate>(6)));
    let when_empty = Some(format!("No member is scored: `loyalty clv fit --program {program}` does it."));
    Ok(vec![
        Section {
            heading: format!("Lifetime value by rung, in {currency}{as_of}"),
            columns: vec!["rung", "members", "mean", "sum"],
            rows: rungs.iter().map(row).collect(),
            bars: rungs.iter().map(|row| (row.get(0), row.get(3))).collect(),
            when_empty: when_empty.clone(),
            ..Section::default()
        },
        Section {
            heading: format!("The most valuable members, in {currency}{as_of}"),
            columns: vec!["account", "lifetime value", "alive", "expected purchases", "order value", "rung"],
            rows: best.iter().map(member).collect(),
            when_empty,
            ..Section::default()
        },
    ])
}

/// Facts, which need no fit.
async fn bought(client: &Client, program: &str, currency: &str) -> anyhow::Result<Section> {
    let sql = "SELECT account, orders, spend, first_day, last_day FROM clv.member WHERE program = $1 ORDER BY spend DESC, account LIMIT $2";
    let members = client.query(sql, &[&program, &ROWS_MAX]).await?;
    let decimals = decimals(currency);
    let member = |row: &Row| {
        // A member of whom there are refunds only has no day.
        let day = |i: usize| row.get::<_, Option<NaiveDate>>(i).map_or_else(String::new, |day| day.to_string());
        vec![row.get(0), grouped(row.get(1)), money(row.get::<_, Decimal>(2), decimals), day(3), day(4)]
    };
    Ok(Section {
        heading: format!("Who has spent most so far, in {currency}"),
        columns: vec!["account", "orders", "spend", "first purchase", "last purchase"],
        rows: members.iter().map(member).collect(),
        when_empty: Some(format!("No purchases yet: `loyalty import FILE --program {program}` or POST /v1/programs/{program}/purchases.")),
        ..Section::default()
    })
}
