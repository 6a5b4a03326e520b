//! Scores and standings as they are now, by the day that they are as of. They are estimates, not parts of the book: those of a day are replaced when they
//! are made anew, those of earlier days stay.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;
use tokio_postgres::{Client, Row};

use super::table::{Column, Rows, text};

/// Members' scores.
#[derive(Default)]
struct Scores {
    texts: [Vec<String>; 3],
    ints: [Vec<i32>; 4],
    doubles: [Vec<f64>; 4],
}

impl Rows for Scores {
    const SCHEMA: &'static str = "message score {
        required binary program (STRING); required binary account_id (STRING); required binary rung (STRING);
        required int32 fit_version; required int32 recency_score; required int32 frequency_score; required int32 monetary_score;
        required double alive; required double expected_purchases; required double order_value; required double lifetime_value;
    }";

    fn columns(self) -> Vec<Column> {
        let known = self.texts.into_iter().map(text).chain(self.ints.into_iter().map(Column::Int));
        known.chain(self.doubles.into_iter().map(Column::Double)).collect()
    }
}

impl Scores {
    fn add(&mut self, row: &Row) {
        self.texts.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(i)));
        self.ints.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(3 + i)));
        self.doubles.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(7 + i)));
    }
}

/// Members' standings.
#[derive(Default)]
struct Standings {
    texts: [Vec<String>; 4],
    longs: [Vec<i64>; 2],
    doubles: [Vec<f64>; 3],
}

impl Rows for Standings {
    const SCHEMA: &'static str = "message standing {
        required binary program (STRING); required binary account_id (STRING); required binary state (STRING); required binary reasons (STRING);
        required int64 recency_days; required int64 orders;
        required double falls; required double leaves; required double value_at_stake;
    }";

    fn columns(self) -> Vec<Column> {
        let known = self.texts.into_iter().map(text).chain(self.longs.into_iter().map(Column::Long));
        known.chain(self.doubles.into_iter().map(Column::Double)).collect()
    }
}

impl Standings {
    fn add(&mut self, row: &Row) {
        self.texts.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(i)));
        self.longs.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(4 + i)));
        self.doubles.iter_mut().enumerate().for_each(|(i, column)| column.push(row.get(6 + i)));
    }
}

/// Writes what there is; each program has a file of its own for a day.
pub async fn write(client: &Client, folder: &Path) -> anyhow::Result<()> {
    let sql =
        "SELECT program, account, rung, fit_version, recency_score::int, frequency_score::int, monetary_score::int, alive, expected_purchases, order_value,
                      lifetime_value, as_of FROM analysis.score ORDER BY program, account";
    let mut scores = BTreeMap::<(NaiveDate, String), Scores>::new();
    for row in client.query(sql, &[]).await? {
        scores.entry((row.get(11), row.get(0))).or_default().add(&row);
    }
    for ((day, program), rows) in scores {
        rows.write(&file(folder, "score", day, &program))?;
    }
    let sql = "SELECT program, account, state, array_to_string(reasons, '; '), recency_days::bigint, orders, falls, leaves, value_at_stake, as_of
               FROM analysis.standing ORDER BY program, account";
    let mut standings = BTreeMap::<(NaiveDate, String), Standings>::new();
    for row in client.query(sql, &[]).await? {
        standings.entry((row.get(9), row.get(0))).or_default().add(&row);
    }
    for ((day, program), rows) in standings {
        rows.write(&file(folder, "standing", day, &program))?;
    }
    Ok(())
}

/// Programs' names may hold what a file's name may not.
fn file(folder: &Path, table: &str, day: NaiveDate, program: &str) -> std::path::PathBuf {
    let name = blake3::hash(program.as_bytes()).to_hex();
    folder.join(table).join(format!("day={day}")).join(format!("{}.parquet", &name[..16]))
}
