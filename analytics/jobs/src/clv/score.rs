//! What each member is worth, by a fit.

use chrono::NaiveDate;
use estimators::gamma_gamma::GammaGamma;
use estimators::lifetime::{MONTH_WEEKS, Terms, value};
use ledger_core::policy::{InsightRules, Rung};
use ledger_core::time::plus_days;
use rayon::prelude::*;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;
use tokio_postgres::Client;

use super::fit::{BuyingFit, Fit, SpendFit};
use super::history::{AsOf, DAYS, Member, members};
use crate::AnalysisError;

const CHUNK: usize = 10_000;

/// What a member is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// By which fit.
    pub fit_version: i32,
    /// Probability that the member still buys.
    pub alive: f64,
    /// Days with a purchase to expect in the weeks asked for.
    pub expected_purchases: f64,
    /// What such a day's purchases come to.
    pub order_value: f64,
    /// Discounted margin within the rulebook's horizon.
    pub lifetime_value: f64,
}

/// A fit's models; none if it is not in force.
fn models(fit: &Fit) -> Option<(&BuyingFit, &SpendFit)> {
    fit.buying.as_ref().zip(fit.spend.as_ref())
}

/// What `member` is worth by `fit`; purchases are those of the next `weeks`, or of the rulebook's horizon.
#[must_use]
pub fn score_one(fit: &Fit, member: &Member, rules: &InsightRules, weeks: Option<f64>) -> Option<Score> {
    let (buying, spend) = models(fit)?;
    let (buying, spend) = (buying.buying(), GammaGamma::from(spend.parameters));
    let weeks = weeks.unwrap_or(f64::from(rules.horizon_months) * MONTH_WEEKS);
    let order_value = spend.mean_spend(member.spend);
    let double = |amount: Decimal| amount.to_f64().unwrap_or(f64::NAN);
    let terms = Terms { months: rules.horizon_months, margin: double(rules.margin.0), monthly_discount: double(rules.monthly_discount.0) };
    Some(Score {
        fit_version: fit.version,
        alive: buying.alive(member.history),
        expected_purchases: buying.expected(member.history, weeks),
        order_value,
        lifetime_value: value(&buying, member.history, order_value, &terms),
    })
}

/// 1 to 5 by the share of `values` below each; who is alike scores alike.
fn fifths(values: &[f64]) -> Vec<i16> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let score = |value: &f64| {
        let below = sorted.partition_point(|other| other < value);
        i16::try_from(1 + 5 * below / sorted.len()).unwrap_or(5)
    };
    values.iter().map(score).collect()
}

/// The highest rung on which each of `members` stands then; accounts without a purchase stand on the lowest and are not told of.
async fn rungs<'a>(client: &Client, program: &str, as_of: AsOf, ladder: &'a [Rung], members: &[Member]) -> Result<Vec<&'a str>, AnalysisError> {
    let lowest = ladder.first().map_or("", |rung| rung.name.as_str());
    let mut stands = vec![lowest; members.len()];
    // Spend is net of refunds of the same days, also of those of purchases that the book does not have.
    let sql = format!(
        "{DAYS} SELECT account FROM days WHERE $6::date IS NULL OR day > $6 GROUP BY account
         HAVING sum(orders) >= $7::bigint AND sum(spend) - coalesce((SELECT sum(u.amount) FROM clv.unmatched_refund u
             WHERE u.program = $1 AND u.account = days.account AND u.returned_on <= $3 AND ($6::date IS NULL OR u.returned_on > $6)
               AND ($5::date IS NULL OR u.booked_on <= $5)), 0) >= $8::numeric"
    );
    let AsOf { day, known_at } = as_of;
    for rung in ladder.iter().skip(1) {
        let since = rung.within_days.map(|days| plus_days(day, -i64::from(days)));
        let (orders, spend) = (i64::from(rung.orders), rung.spend.0);
        for row in client.query(&sql, &[&program, &day, &day, &None::<&str>, &known_at, &since, &orders, &spend]).await? {
            let account: &str = row.get(0);
            if let Ok(i) = members.binary_search_by(|member| member.account.as_str().cmp(account)) {
                stands[i] = &rung.name;
            }
        }
    }
    Ok(stands)
}

/// A member's score, and where it stands among the others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scored {
    /// The account.
    pub account: String,
    /// Rung of the ladder.
    pub rung: String,
    /// Recency, frequency, monetary value: 1 to 5 each.
    pub rfm: [i16; 3],
    /// By the fit; none without one.
    pub score: Option<Score>,
}

/// Where everybody stands as of then, by account, with the score by `fit`, if there is one; purchases are those of the next `weeks`, or of the rulebook's
/// horizon. Nothing is kept.
///
/// # Errors
/// [`AnalysisError`]
pub async fn scored(
    client: &Client,
    program: &str,
    fit: Option<&Fit>,
    rules: &InsightRules,
    as_of: AsOf,
    weeks: Option<f64>,
) -> Result<Vec<Scored>, AnalysisError> {
    let members = members(client, program, as_of, as_of.day).await?;
    let rungs = rungs(client, program, as_of, &rules.ladder, &members).await?;
    let column = |of: fn(&Member) -> f64| fifths(&members.iter().map(of).collect::<Vec<f64>>());
    let recency = column(|member| -f64::from(member.history.age_days - member.history.recency_days));
    let (frequency, monetary) = (column(|member| f64::from(member.orders)), column(|member| member.total));
    let one = |(i, member): (usize, &Member)| {
        let rfm = [recency[i], frequency[i], monetary[i]];
        let score = fit.and_then(|fit| score_one(fit, member, rules, weeks));
        Scored { account: member.account.clone(), rung: rungs[i].to_owned(), rfm, score }
    };
    Ok(members.par_iter().enumerate().map(one).collect())
}

/// Scores everybody as of the end of `day` by `fit`, and keeps the scores; tells how many.
///
/// # Errors
/// [`AnalysisError`]
pub async fn score_all(client: &mut Client, program: &str, fit: &Fit, rules: &InsightRules, day: NaiveDate) -> Result<u64, AnalysisError> {
    let scores = scored(client, program, Some(fit), rules, AsOf::day(day), None).await?;
    let scores: Vec<(&Scored, &Score)> = scores.iter().filter_map(|one| Some((one, one.score.as_ref()?))).collect();
    let transaction = client.transaction().await?;
    transaction.execute("DELETE FROM score WHERE program = $1", &[&program]).await?;
    let sql = "INSERT INTO score SELECT $1, u.account, $2, $3, u.rung, u.recency, u.frequency, u.monetary, u.alive, u.expected, u.order_value, u.value
               FROM unnest($4::text[], $5::text[], $6::smallint[], $7::smallint[], $8::smallint[], $9::float8[], $10::float8[], $11::float8[], $12::float8[])
                 AS u(account, rung, recency, frequency, monetary, alive, expected, order_value, value)";
    let statement = transaction.prepare(sql).await?;
    for chunk in scores.chunks(CHUNK) {
        let accounts: Vec<&str> = chunk.iter().map(|(one, _)| one.account.as_str()).collect();
        let rungs: Vec<&str> = chunk.iter().map(|(one, _)| one.rung.as_str()).collect();
        let [recency, frequency, monetary] = [0, 1, 2].map(|i: usize| chunk.iter().map(|(one, _)| one.rfm[i]).collect::<Vec<i16>>());
        let fields: [fn(&Score) -> f64; 4] = [|s| s.alive, |s| s.expected_purchases, |s| s.order_value, |s| s.lifetime_value];
        let [alive, expected, order_value, value] = fields.map(|field| chunk.iter().map(|(_, score)| field(score)).collect::<Vec<f64>>());
        transaction
            .execute(&statement, &[&program, &day, &fit.version, &accounts, &rungs, &recency, &frequency, &monetary, &alive, &expected, &order_value, &value])
            .await?;
    }
    transaction.commit().await?;
    Ok(scores.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::fifths;

    #[test]
    fn who_is_alike_scores_alike() {
        assert_eq!(fifths(&[1.0, 2.0, 3.0, 4.0, 5.0]), [1, 2, 3, 4, 5]);
        assert_eq!(fifths(&[7.0, 7.0, 7.0, 7.0, 9.0]), [1, 1, 1, 1, 5]);
        assert_eq!(fifths(&[]), Vec::<i16>::new());
    }
}
