//! What the report on decline shows.

use analytics::decline::{STATES, Standing, assessments, by_trend};
use chrono::NaiveDate;
use event_log::EventLog;
use tokio_postgres::{Client, Row};

use super::Section;
use super::sections::ROWS_MAX;
use super::words::{decimals, estimated, grouped};
use crate::decline::rulebook;

/// The states of those whose value falls or has fallen, unless the last 90 days brought more than the 90 before: they may leave, but nothing has fallen.
const DECLINING: [&str; 4] = ["slipping", "fallen", "at_risk", "lost"];

pub async fn sections(client: &Client, log: &dyn EventLog, program: &str) -> anyhow::Result<Vec<Section>> {
    let currency = rulebook(log, program).await?.currency;
    let decimals = decimals(&currency);
    let sql =
        "SELECT state, count(*), sum(value_at_stake), max(as_of) FROM analysis.standing WHERE program = $1 GROUP BY state ORDER BY array_position($2, state)";
    let states = client.query(sql, &[&program, &STATES.as_slice()]).await?;
    let state = |row: &Row| vec![row.get(0), grouped(row.get(1)), estimated(row.get(2), decimals)];
    let as_of = states.iter().filter_map(|row| row.get::<_, Option<NaiveDate>>(3)).max();
    let is_assessed = as_of.is_some();
    let falling = by_trend(client, program, &DECLINING, false, ROWS_MAX).await?;
    let rising = by_trend(client, program, &DECLINING, true, ROWS_MAX).await?;
    let member = |s: &Standing| vec![s.account_id.clone(), s.state.clone(), estimated(s.value_at_stake, decimals), s.reasons.join("; ")];
    let as_of = as_of.map_or_else(String::new, |day| format!(" at the end of {day}"));
    let how = format!("Nobody has been assessed yet: `loyalty decline assess --program {program}` says who buys less, why, and what is at stake.");
    let [nobody_falls, nobody_rose] = ["Nobody's value falls.", "Nobody."].map(|nobody| if is_assessed { nobody.to_owned() } else { how.clone() });
    let why = assessments(client, program, 1)
        .await?
        .first()
        .filter(|last| !last.in_force)
        .map(|last| format!("The last assessment, {} as of {}, is not the one in force: {}.", last.version, last.as_of, last.why));
    Ok(vec![
        Section {
            heading: format!("Value at stake by state{as_of}, in {currency}"),
            columns: vec!["state", "members", "value at stake"],
            rows: states.iter().map(state).collect(),
            bars: states.iter().map(|row| (row.get(0), row.get(2))).collect(),
            note: why.filter(|_| is_assessed),
            when_empty: Some(how),
        },
        Section {
            heading: format!("Whose value falls or has fallen, the most at stake first, in {currency}"),
            columns: vec!["account", "state", "value at stake", "why"],
            rows: falling.iter().map(member).collect(),
            when_empty: Some(nobody_falls),
            ..Section::default()
        },
        Section {
            heading: format!("Who is expected to spend less or nothing, though the last 90 days brought more than the 90 before, in {currency}"),
            columns: vec!["account", "state", "value at stake", "why"],
            rows: rising.iter().map(member).collect(),
            when_empty: Some(nobody_rose),
            ..Section::default()
        },
    ])
}
