//! From the read model to histories, as of a day.

use chrono::NaiveDate;
use estimators::History;
use estimators::gamma_gamma::Spend;
use ledger_core::time::LAST_DATE;
use serde::Serialize;
use tokio_postgres::{Client, Row};
use utoipa::ToSchema;

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

/// As of when the book is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The end of this day: nothing that was bought or given back later counts.
    pub day: NaiveDate,
    /// Only what was booked by the end of this day (UTC); all if none.
    pub known_at: Option<NaiveDate>,
}

impl AsOf {
    /// At the end of `day`, by all that is known now.
    #[must_use]
    pub fn day(day: NaiveDate) -> Self {
        Self { day, known_at: None }
    }
}

/// Days with purchases of `$1` until `$3` of which something was kept, of the account `$4` if any. What came back after the day `$2` is not known of the
/// days until then; of later days, what came back by `$3` is. Only what was booked by `$5`, if any.
pub(super) const DAYS: &str = "
WITH given_back AS (
    SELECT p.account, p.purchase_id, sum(r.amount) AS amount FROM clv.refund r JOIN clv.purchase p USING (program, account, purchase_id)
    WHERE program = $1 AND ($4::text IS NULL OR account = $4) AND r.returned_on <= CASE WHEN p.day <= $2 THEN $2::date ELSE $3::date END
      AND ($5::date IS NULL OR r.booked_on <= $5)
    GROUP BY 1, 2),
days AS (
    SELECT account, day, count(*) AS orders, sum(spend - coalesce(amount, 0)) AS spend
    FROM clv.purchase LEFT JOIN given_back USING (account, purchase_id)
    WHERE program = $1 AND day <= $3 AND ($4::text IS NULL OR account = $4) AND ($5::date IS NULL OR booked_on <= $5)
      AND (coalesce(amount, 0) = 0 OR amount < spend)
    GROUP BY account, day)";

const MEMBERS: &str = "
SELECT account, (count(*) FILTER (WHERE known) - 1)::int, (max(day) FILTER (WHERE known) - min(day))::int, ($2::date - min(day))::int,
       coalesce(avg(spend) FILTER (WHERE known AND day > first), 0)::float8, (sum(orders) FILTER (WHERE known))::int,
       (sum(spend) FILTER (WHERE known)
        - coalesce((SELECT sum(u.amount) FROM clv.unmatched_refund u WHERE u.program = $1 AND u.account = d.account AND u.returned_on <= $2
                    AND ($5::date IS NULL OR u.booked_on <= $5)), 0))::float8,
       (count(*) FILTER (WHERE NOT known))::int, coalesce(sum(spend) FILTER (WHERE NOT known), 0)::float8
FROM (SELECT account, day, orders, spend, day <= $2 AS known, min(day) OVER (PARTITION BY account) AS first FROM days) d
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

/// Who had bought by then, by account, and what followed until `until`.
pub(super) async fn members(client: &Client, program: &str, as_of: AsOf, until: NaiveDate) -> Result<Vec<Member>, AnalysisError> {
    let rows = client.query(&format!("{DAYS}{MEMBERS}"), &[&program, &as_of.day, &until, &None::<&str>, &as_of.known_at]).await?;
    let mut members: Vec<Member> = rows.iter().map(read).collect();
    members.sort_by(|one, other| one.account.cmp(&other.account));
    Ok(members)
}

/// The days of the program's first and last purchase until `as_of`; none where there is none.
pub(super) async fn span(client: &Client, program: &str, as_of: AsOf) -> Result<Option<(NaiveDate, NaiveDate)>, AnalysisError> {
    let sql = format!("{DAYS} SELECT min(day), max(day) FROM days");
    let row = client.query_one(&sql, &[&program, &as_of.day, &as_of.day, &None::<&str>, &as_of.known_at]).await?;
    Ok(row.get::<_, Option<NaiveDate>>(0).zip(row.get(1)))
}

/// The day of the program's last purchase, of what was booked by the end of `known_at`, or of all if none.
///
/// # Errors
/// What the database says.
pub async fn last_day(client: &Client, program: &str, known_at: Option<NaiveDate>) -> Result<Option<NaiveDate>, AnalysisError> {
    Ok(span(client, program, AsOf { day: LAST_DATE, known_at }).await?.map(|(_, last)| last))
}

/// A category that a member bought from. Spend is told before returns: a return by amount names no line, so it can't be taken off a category.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct CategoryShare {
    /// The category.
    pub name: String,
    /// Orders of which it was part.
    pub orders: i64,
    /// What was paid for its lines, whatever came back of them.
    pub gross_spend: f64,
}

/// A channel that a member bought from.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ChannelShare {
    /// The channel.
    pub name: String,
    /// Orders by it.
    pub orders: i64,
    /// Spend, net of returns.
    pub spend: f64,
}

/// The ten categories and the ten channels on which a member spent most by then.
///
/// # Errors
/// What the database says.
pub async fn shares(client: &Client, program: &str, account: &str, as_of: AsOf) -> Result<(Vec<CategoryShare>, Vec<ChannelShare>), AnalysisError> {
    let categories = "SELECT l.category, count(DISTINCT p.purchase_id), sum(l.spend)::float8 FROM clv.purchase p JOIN clv.line l USING (program, account, purchase_id)
                      WHERE p.program = $1 AND p.account = $2 AND p.day <= $3 AND ($4::date IS NULL OR p.booked_on <= $4) GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10";
    let channels = "SELECT channel, count(*), sum(spend - coalesce(amount, 0))::float8 FROM clv.purchase p LEFT JOIN (
                        SELECT purchase_id, sum(amount) AS amount FROM clv.refund
                        WHERE program = $1 AND account = $2 AND returned_on <= $3 AND ($4::date IS NULL OR booked_on <= $4) GROUP BY 1) r USING (purchase_id)
                    WHERE program = $1 AND account = $2 AND day <= $3 AND ($4::date IS NULL OR booked_on <= $4) GROUP BY 1 ORDER BY 3 DESC, 1 LIMIT 10";
    let AsOf { day, known_at } = as_of;
    let category = |row: &Row| CategoryShare { name: row.get(0), orders: row.get(1), gross_spend: row.get(2) };
    let channel = |row: &Row| ChannelShare { name: row.get(0), orders: row.get(1), spend: row.get(2) };
    let categories = client.query(categories, &[&program, &account, &day, &known_at]).await?.iter().map(category).collect();
    let channels = client.query(channels, &[&program, &account, &day, &known_at]).await?.iter().map(channel).collect();
    Ok((categories, channels))
}

/// Refunds by then of purchases that the book does not have: what a member has spent is less by them, also of one who has bought nothing on the book.
///
/// # Errors
/// What the database says.
pub async fn refunded(client: &Client, program: &str, account: &str, as_of: AsOf) -> Result<f64, AnalysisError> {
    let sql = "SELECT coalesce(sum(amount), 0)::float8 FROM clv.unmatched_refund
               WHERE program = $1 AND account = $2 AND returned_on <= $3 AND ($4::date IS NULL OR booked_on <= $4)";
    Ok(client.query_one(sql, &[&program, &account, &as_of.day, &as_of.known_at]).await?.get(0))
}

/// One member; none who had bought nothing by then.
///
/// # Errors
/// What the database says.
pub async fn member(client: &Client, program: &str, account: &str, as_of: AsOf) -> Result<Option<Member>, AnalysisError> {
    let row = client.query_opt(&format!("{DAYS}{MEMBERS}"), &[&program, &as_of.day, &as_of.day, &Some(account), &as_of.known_at]).await?;
    Ok(row.as_ref().map(read))
}
