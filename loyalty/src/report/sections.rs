//! What the report on fraud shows.

use analytics::fraud;
use event_log::EventLog;
use rust_decimal::prelude::ToPrimitive;
use tokio_postgres::Client;

use super::Section;
use crate::ops::program_state;

/// Rows of a list of members or cases.
pub const ROWS_MAX: i64 = 20;

pub async fn fraud(client: &Client, log: &dyn EventLog, program: &str) -> anyhow::Result<Vec<Section>> {
    // One that is not there has no cases either, and that would be told.
    program_state(log, program).await?;
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
    let how = format!(
        "No rule has found anything yet. The rules look at what is booked while `loyalty up` or `loyalty serve fraud` runs; GET /v1/programs/{program}/fraud/rules lists them."
    );
    Ok(vec![
        Section {
            heading: "Cases by rule".into(),
            columns: vec!["rule", "open", "confirmed", "dismissed"],
            rows: records.iter().map(row).collect(),
            bars,
            when_empty: Some(how.clone()),
            ..Section::default()
        },
        Section {
            heading: "The worst cases".into(),
            columns: vec!["case", "severity", "state", "about", "priority", "why"],
            rows: cases.iter().map(case).collect(),
            when_empty: Some(how),
            ..Section::default()
        },
    ])
}
