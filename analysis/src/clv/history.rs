//! From the read model to histories.

use insight::History;
use insight::gamma_gamma::Spend;
use jiff::civil::Date;
use serde::Serialize;
use tokio_postgres::{Client, Row};

use crate::AnalysisError;

/// A member, as of the end of a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The account.
    pub account: String,
    /// How often and how lately.
    pub history: History,
    /// What was spent by day after the first such day.
    pub spend: Spend,
    /// Orders ever.
    pub orders: u32,
    /// Spend ever, net of returns.
    pub total: f64,
    /// Days with a purchase after it, and until the end of the holdout.
    pub later_purchases: u32,
    /// What was spent on those.
    pub later_spend: f64,
}

/// A purchase's day stands with what was kept of it as far as is known now, also where that came back after `$2`.
const MEMBERS: &str = "
SELECT account, (count(*) FILTER (WHERE known) - 1)::int, (max(day) FILTER (WHERE known) - min(day))::int, ($2::date - min(day))::int,
       coalesce(avg(spend) FILTER (WHERE known AND day > first), 0)::float8, (sum(orders) FILTER (WHERE known))::int, (sum(spend) FILTER (WHERE known))::float8,
       (count(*) FILTER (WHERE NOT known))::int, coalesce(sum(spend) FILTER (WHERE NOT known), 0)::float8
FROM (SELECT account, day, orders, spend, day <= $2 AS known, min(day) OVER (PARTITION BY account) AS first
      FROM clv.purchase_day WHERE program = $1 AND day <= $3 AND ($4::text IS NULL OR account = $4)) d
WHERE first <= $2 GROUP BY account ORDER BY account";

fn read(row: &Row) -> Member {
    let count = |i: usize| row.get::<_, i32>(i).unsigned_abs();
    let history = History { repeats: count(1), recency_days: count(2), age_days: count(3) };
    Member {
        account: row.get(0),
        history,
        spend: Spend { purchases: history.repeats, mean: row.get(4) },
        orders: count(5),
        total: row.get(6),
        later_purchases: count(7),
        later_spend: row.get(8),
    }
}

/// Who had bought by `day`, and what followed until `until`.
pub(super) async fn members(client: &Client, program: &str, day: Date, until: Date) -> Result<Vec<Member>, AnalysisError> {
    let rows = client.query(MEMBERS, &[&program, &day, &until, &None::<&str>]).await?;
    Ok(rows.iter().map(read).collect())
}

/// What a member bought most, by one of its sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The category, or the channel.
    pub name: String,
    /// Orders of which it was part.
    pub orders: i64,
    /// Spend; of categories, before returns.
    pub spend: f64,
}

/// The ten categories and the ten channels on which a member spent most by `day`.
///
/// # Errors
/// What the database says.
pub async fn shares(client: &Client, program: &str, account: &str, day: Date) -> Result<(Vec<Share>, Vec<Share>), AnalysisError> {
    let categories =
        "SELECT l.category, count(DISTINCT p.purchase_id), sum(l.spend)::float8 FROM clv.purchase p JOIN clv.line l USING (program, account, purchase_id)
                      WHERE p.program = $1 AND p.account = $2 AND p.day <= $3 GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10";
    let channels = "SELECT channel, count(*), sum(spend - returned)::float8 FROM clv.purchase
                    WHERE program = $1 AND account = $2 AND day <= $3 GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10";
    let share = |row: &Row| Share { name: row.get(0), orders: row.get(1), spend: row.get(2) };
    let of = async |sql: &str| Ok::<_, AnalysisError>(client.query(sql, &[&program, &account, &day]).await?.iter().map(share).collect());
    Ok((of(categories).await?, of(channels).await?))
}

/// One member; none who had bought nothing by `day`.
///
/// # Errors
/// What the database says.
pub async fn member(client: &Client, program: &str, account: &str, day: Date) -> Result<Option<Member>, AnalysisError> {
    let row = client.query_opt(MEMBERS, &[&program, &day, &day, &Some(account)]).await?;
    Ok(row.as_ref().map(read))
}
