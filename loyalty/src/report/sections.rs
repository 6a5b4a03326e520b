//! What the reports on decline and fraud show.

use analysis::{decline, fraud};
use rust_decimal::prelude::ToPrimitive;
use tokio_postgres::Client;

use super::Section;

/// Rows of a list of members or cases.
pub const ROWS_MAX: i64 = 20;

pub async fn decline(client: &Client, program: &str) -> anyhow::Result<Vec<Section>> {
    let sql = "SELECT state, count(*), sum(value_at_stake) FROM analysis.standing WHERE program = $1 GROUP BY state
               ORDER BY array_position(ARRAY['growing', 'steady', 'slipping', 'at_risk', 'lost'], state)";
    let states = client.query(sql, &[&program]).await?;
    let state = |row: &tokio_postgres::Row| vec![row.get::<_, String>(0), row.get::<_, i64>(1).to_string(), format!("{:.2}", row.get::<_, f64>(2))];
    let members = decline::list(client, program, None, None, ROWS_MAX).await?;
    let member = |s: &decline::Standing| vec![s.account_id.clone(), s.state.clone(), format!("{:.2}", s.value_at_stake), s.reasons.join("; ")];
    let bars = states.iter().map(|row| (row.get(0), row.get(2))).collect();
    Ok(vec![
        Section {
            heading: "Value at stake by state".into(),
            columns: vec!["state", "members", "value at stake"],
            rows: states.iter().map(state).collect(),
            bars,
            ..Section::default()
        },
        Section {
            heading: "The most at stake".into(),
            columns: vec!["account", "state", "value at stake", "why"],
            rows: members.iter().map(member).collect(),
            ..Section::default()
        },
    ])
}

pub async fn fraud(client: &Client, program: &str) -> anyhow::Result<Vec<Section>> {
    let records = fraud::records(client, program).await?;
    let row = |r: &fraud::RuleRecord| vec![r.rule.clone(), r.open.to_string(), r.confirmed.to_string(), r.dismissed.to_string()];
    let total = |r: &fraud::RuleRecord| (r.open + r.confirmed + r.dismissed).to_f64().unwrap_or(0.0);
    let bars = records.iter().map(|record| (record.rule.clone(), total(record))).collect();
    let cases = fraud::cases(client, program, None, None, 0, ROWS_MAX).await?;
    let case = |c: &fraud::Case| {
        vec![
            c.case_id.clone(),
            c.severity.clone(),
            c.state.clone(),
            format!("{} {}", c.subject_kind, c.subject),
            format!("{:.0}", c.priority),
            c.explanation.clone(),
        ]
    };
    Ok(vec![
        Section {
            heading: "Cases by rule".into(),
            columns: vec!["rule", "open", "confirmed", "dismissed"],
            rows: records.iter().map(row).collect(),
            bars,
            ..Section::default()
        },
        Section {
            heading: "The worst cases".into(),
            columns: vec!["case", "severity", "state", "about", "priority", "why"],
            rows: cases.iter().map(case).collect(),
            ..Section::default()
        },
    ])
}
