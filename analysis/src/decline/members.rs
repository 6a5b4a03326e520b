//! What members did, day by day.

use jiff::civil::Date;
use tokio_postgres::Client;

use crate::AnalysisError;

/// A member's days with a purchase, in order.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) account: String,
    pub(super) days: Vec<Day>,
}

/// A day with a purchase.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day {
    /// Days since 1970-01-01.
    pub(super) day: i32,
    pub(super) spend: f64,
    pub(super) categories: i32,
}

/// Days since 1970-01-01.
pub(super) fn number(date: Date) -> i32 {
    (date - Date::constant(1970, 1, 1)).get_days()
}

/// Everybody of the program, until the end of `until`.
pub(super) async fn load(client: &Client, program: &str, until: Date) -> Result<Vec<Member>, AnalysisError> {
    let sql = "SELECT d.account, (d.day - date '1970-01-01')::int, d.spend::float8, coalesce(c.categories, 0)::int
               FROM clv.purchase_day d
               LEFT JOIN (SELECT p.account, p.day, count(DISTINCT l.category) AS categories
                          FROM clv.purchase p JOIN clv.line l USING (program, account, purchase_id) WHERE p.program = $1 GROUP BY 1, 2) c
                 ON c.account = d.account AND c.day = d.day
               WHERE d.program = $1 AND d.day <= $2 ORDER BY d.account, d.day";
    let mut members: Vec<Member> = Vec::new();
    for row in client.query(sql, &[&program, &until]).await? {
        let account: &str = row.get(0);
        if members.last().is_none_or(|last| last.account != account) {
            members.push(Member { account: account.to_owned(), days: Vec::new() });
        }
        if let Some(last) = members.last_mut() {
            last.days.push(Day { day: row.get(1), spend: row.get(2), categories: row.get(3) });
        }
    }
    Ok(members)
}

impl Member {
    /// Spend of the days after `from` until the end of `to`.
    pub(super) fn spend(&self, from: i32, to: i32) -> f64 {
        // A sum of nothing would be -0.
        self.between(from, to).map(|day| day.spend).fold(0.0, |sum, spend| sum + spend)
    }

    /// The days after `from` until the end of `to`.
    pub(super) fn between(&self, from: i32, to: i32) -> impl Iterator<Item = &Day> {
        self.days.iter().filter(move |day| day.day > from && day.day <= to)
    }

    /// The half of the members it is in, by a stable hash.
    pub(super) fn half(&self) -> bool {
        blake3::hash(self.account.as_bytes()).as_bytes()[0] & 1 == 1
    }
}
