//! The signs that a member's value falls, each on its own: what the state is explained with, for those who look closer.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use utoipa::ToSchema;

use super::WINDOW_DAYS;
use super::features::{Features, features};
use super::members::{Days, Member};
use super::model::Models;
use crate::AnalysisError;
use crate::clv::AsOf;

/// How far ahead expiring points and tier reviews are told of.
const AHEAD_DAYS: i32 = 60;
/// Points are idle that nobody has touched so long after they were issued.
const IDLE_DAYS: i32 = 180;
/// What was bought on two days or more in this time before the window, and not within it, is lost.
const BREADTH_DAYS: i32 = 360;
/// Spend is compared over these windows.
const SLOPES_DAYS: [i32; 3] = [28, WINDOW_DAYS, 2 * WINDOW_DAYS];
/// With fewer times between purchases there is no distribution of one's own.
const GAPS_MIN: usize = 4;

/// What warns of a member.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Signals {
    /// Probability that the member is still a customer, by the model of purchases, and no less than the probability to buy within 90 days (1 - `leaves`); none
    /// where no model could be fitted.
    pub alive: Option<f64>,
    /// The same 90 days before.
    pub alive_before: Option<f64>,
    /// The share of the member's own times between purchases that were shorter than the time since the last one; none with fewer than 4.
    pub gap_share: Option<f64>,
    /// Spend against the window before, the shortest first.
    pub spend: Vec<Slope>,
    /// Categories bought on two days or more in the 360 days before the last 90, and not since.
    pub categories_lost: Vec<String>,
    /// Channels, likewise.
    pub channels_lost: Vec<String>,
    /// Points to spend that were issued more than 180 days ago.
    pub points_idle: i64,
    /// Points that expire within 60 days.
    pub points_expiring: i64,
    /// The tier that is reviewed within 60 days.
    pub tier_at_risk: Option<String>,
    /// When it is.
    #[serde(with = "ledger_core::time::date::optional")]
    pub tier_review_on: Option<NaiveDate>,
}

/// Spend of a window and of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Slope {
    /// Days of each.
    pub days: i32,
    /// Spend of the last.
    pub last: f64,
    /// Spend of the one before.
    pub before: f64,
}

/// What the read models say of accounts beside how much they buy, by account. Points and tiers are known as they are now: a look back does without them.
pub(super) async fn around(client: &Client, program: &str, as_of: AsOf, looks_back: bool) -> Result<BTreeMap<String, Signals>, AnalysisError> {
    let mut all = BTreeMap::<String, Signals>::new();
    if !looks_back {
        points_and_tiers(client, program, as_of.day, &mut all).await?;
    }
    let categories = "clv.purchase p JOIN clv.line l USING (program, account, purchase_id)";
    for (account, lost) in lost(client, program, as_of, "l.category", categories).await? {
        all.entry(account).or_default().categories_lost = lost;
    }
    for (account, lost) in lost(client, program, as_of, "p.channel", "clv.purchase p").await? {
        all.entry(account).or_default().channels_lost = lost;
    }
    Ok(all)
}

async fn points_and_tiers(client: &Client, program: &str, day: NaiveDate, all: &mut BTreeMap<String, Signals>) -> Result<(), AnalysisError> {
    let sql = "SELECT account, sum(remaining)::bigint FROM balance.lot WHERE program = $1 AND remaining > 0 AND expires_at > $2::date AND expires_at <= $2::date + $3::int
               GROUP BY account";
    for row in client.query(sql, &[&program, &day, &AHEAD_DAYS]).await? {
        all.entry(row.get(0)).or_default().points_expiring = row.get(1);
    }
    let sql =
        "SELECT account, sum(available)::bigint FROM liability.lot WHERE program = $1 AND available > 0 AND issued_on <= $2::date - $3::int GROUP BY account";
    for row in client.query(sql, &[&program, &day, &IDLE_DAYS]).await? {
        all.entry(row.get(0)).or_default().points_idle = row.get(1);
    }
    let sql = "SELECT account, tier, (review_at AT TIME ZONE 'UTC')::date FROM tier.standing
               WHERE program = $1 AND review_at > $2::date AND review_at <= $2::date + $3::int";
    for row in client.query(sql, &[&program, &day, &AHEAD_DAYS]).await? {
        let signals = all.entry(row.get(0)).or_default();
        (signals.tier_at_risk, signals.tier_review_on) = (Some(row.get(1)), Some(row.get(2)));
    }
    Ok(())
}

/// What accounts do not buy, or where they do not buy, any more.
async fn lost(client: &Client, program: &str, as_of: AsOf, what: &str, from: &str) -> Result<Vec<(String, Vec<String>)>, AnalysisError> {
    let sql = format!(
        "SELECT account, array_agg(what ORDER BY what) FROM (
             SELECT p.account, {what} AS what FROM {from}
             WHERE p.program = $1 AND p.day <= $2 AND p.day > $2::date - $3::int - $4::int AND ($5::date IS NULL OR p.booked_on <= $5) AND {what} <> ''
             GROUP BY 1, 2 HAVING max(p.day) <= $2::date - $3::int AND count(DISTINCT p.day) > 1) lost
         GROUP BY account"
    );
    let rows = client.query(&sql, &[&program, &as_of.day, &WINDOW_DAYS, &BREADTH_DAYS, &as_of.known_at]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

impl Signals {
    /// With what the member's purchases say, as they were known at the end of `day`.
    pub(super) fn with(self, member: &Member, f: &Features, models: &Models, day: i32) -> Self {
        let days = member.at(day);
        let alive = |f: &Features| models.alive(f.history, models.probabilities(f).1);
        let before = features(&member.at(day - WINDOW_DAYS), day - WINDOW_DAYS);
        let slope = |n: i32| Slope { days: n, last: days.spend(day - n, day), before: days.spend(day - 2 * n, day - n) };
        Self {
            alive: alive(f),
            alive_before: before.as_ref().and_then(alive),
            gap_share: gap_share(&days, f.recency_days, day),
            spend: SLOPES_DAYS.map(slope).to_vec(),
            ..self
        }
    }

    /// In words, what of it speaks for a decline.
    pub(super) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Some(share) = self.gap_share.filter(|share| *share >= 0.9) {
            reasons.push(format!("longer without a purchase than {:.0} of 100 times before", 100.0 * share));
        }
        if let (Some(now), Some(before)) = (self.alive, self.alive_before)
            && before - now >= 0.2
        {
            reasons.push(format!("still a customer with {:.0} %, {WINDOW_DAYS} days ago with {:.0} %", 100.0 * now, 100.0 * before));
        }
        for (what, lost) in [("buys from", &self.categories_lost), ("comes by", &self.channels_lost)] {
            let more = lost.len().saturating_sub(3);
            let named = lost.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            match more {
                _ if lost.is_empty() => {}
                0 => reasons.push(format!("no longer {what} {named}")),
                _ => reasons.push(format!("no longer {what} {named} and {more} more")),
            }
        }
        if self.points_idle > 0 {
            reasons.push(format!("{} points lie idle for more than {IDLE_DAYS} days", self.points_idle));
        }
        if self.points_expiring > 0 {
            reasons.push(format!("{} points expire within {AHEAD_DAYS} days", self.points_expiring));
        }
        if let (Some(tier), Some(day)) = (&self.tier_at_risk, self.tier_review_on) {
            reasons.push(format!("tier {tier} is reviewed on {day}"));
        }
        reasons
    }
}

#[allow(clippy::cast_precision_loss, clippy::float_arithmetic, reason = "a share of a few gaps")]
fn gap_share(days: &Days, recency_days: i32, day: i32) -> Option<f64> {
    let known: Vec<i32> = days.between(i32::MIN, day).map(|known| known.day).collect();
    let gaps: Vec<i32> = known.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let shorter = gaps.iter().filter(|gap| **gap < recency_days).count();
    (gaps.len() >= GAPS_MIN).then(|| shorter as f64 / gaps.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::super::members::Bought;
    use super::super::model::Choice;
    use super::*;

    fn member(days: &[(i32, f64)]) -> Member {
        let bought = |(day, spend): &(i32, f64)| Bought { day: *day, spend: *spend, categories: 1, back: Box::default() };
        Member { account: "m1".into(), purchases: days.iter().map(bought).collect(), refunds: Vec::new() }
    }

    #[test]
    fn each_sign_is_told_on_its_own() {
        // Given one who came every 10 days, once after 40, and now has stayed away for 30; spend fell in the last windows.
        let member = member(&[(1000, 50.0), (1010, 50.0), (1020, 50.0), (1060, 20.0), (1070, 20.0)]);
        let f = features(&member.at(1100), 1100).expect("it has bought");
        // When the signs are read on day 1100.
        let signals = Signals { points_idle: 70, categories_lost: vec!["toys".into(), "wine".into()], ..Signals::default() };
        let signals = signals.with(&member, &f, &Models::choose(&[&member], 1100, Choice::Overdue), 1100);
        // Then the time since the last purchase stands among the member's own, and each window tells its own spend.
        assert_eq!(signals.gap_share, Some(0.75));
        let spend: Vec<(i32, f64, f64)> = signals.spend.iter().map(|slope| (slope.days, slope.last, slope.before)).collect();
        assert_eq!(format!("{spend:?}"), "[(28, 0.0, 40.0), (90, 90.0, 100.0), (180, 190.0, 0.0)]", "no minus before a zero");
        assert_eq!((signals.alive, signals.alive_before), (None, None), "no model, no probability");
        assert_eq!(signals.reasons(), ["no longer buys from toys, wine", "70 points lie idle for more than 180 days"]);
    }

    #[test]
    fn reasons_speak_of_what_is_worse_than_before() {
        let lost = ["a", "b", "c", "d", "e"].map(String::from).to_vec();
        let signals = Signals {
            alive: Some(0.4),
            alive_before: Some(0.95),
            gap_share: Some(0.97),
            channels_lost: vec!["web".into()],
            categories_lost: lost,
            ..Signals::default()
        };
        let wanted = [
            "longer without a purchase than 97 of 100 times before",
            "still a customer with 40 %, 90 days ago with 95 %",
            "no longer buys from a, b, c and 2 more",
            "no longer comes by web",
        ];
        assert_eq!(signals.reasons(), wanted);
        assert_eq!(Signals { alive: Some(0.9), alive_before: Some(0.95), gap_share: Some(0.5), ..Signals::default() }.reasons(), [""; 0]);
    }

    #[test]
    fn who_came_seldom_has_no_distribution_of_their_own() {
        let member = member(&[(1000, 50.0), (1010, 50.0), (1020, 50.0), (1060, 20.0)]);
        assert_eq!(gap_share(&member.at(1090), 30, 1090), None);
    }
}
