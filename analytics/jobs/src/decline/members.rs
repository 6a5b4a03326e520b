//! What members did, day by day, as it was known on a day.

use std::collections::HashMap;

use chrono::NaiveDate;
use tokio_postgres::{Client, Row};

use crate::AnalysisError;
use crate::clv::AsOf;

/// Of a purchase nothing was kept if it is less than this; money has six decimals.
const NOTHING: f64 = 5e-7;

/// A member's purchases, with what was given back and when.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) account: String,
    /// In the order of their days.
    pub(super) purchases: Vec<Bought>,
    /// Refunds of purchases that the book does not have, by day: they lower spend and are no visit.
    pub(super) refunds: Vec<(i32, f64)>,
}

/// A purchase.
#[derive(Debug, Clone)]
pub(super) struct Bought {
    /// Days since 1970-01-01.
    pub(super) day: i32,
    pub(super) spend: f64,
    /// Of all purchases of its day.
    pub(super) categories: i32,
    /// What was given back, by day.
    pub(super) back: Box<[(i32, f64)]>,
}

/// A member's days with a purchase of which something was kept, in order, and refunds by day, as they were known on some day.
#[derive(Debug, Clone)]
pub(super) struct Days {
    bought: Vec<Day>,
    refunds: Vec<(i32, f64)>,
}

/// A day with a purchase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Day {
    /// Days since 1970-01-01.
    pub(super) day: i32,
    pub(super) spend: f64,
    pub(super) categories: i32,
}

/// Days since 1970-01-01.
pub(super) fn number(date: NaiveDate) -> i32 {
    date.to_epoch_days()
}

const PURCHASES: &str = "
SELECT p.account, (p.day - date '1970-01-01')::int, p.spend::float8, coalesce(c.categories, 0)::int,
       coalesce(r.days, '{}'), coalesce(r.amounts, '{}')
FROM clv.purchase p
LEFT JOIN (SELECT p.account, p.day, count(DISTINCT l.category) AS categories
           FROM clv.purchase p JOIN clv.line l USING (program, account, purchase_id) WHERE p.program = $1 GROUP BY 1, 2) c
  ON c.account = p.account AND c.day = p.day
LEFT JOIN (SELECT account, purchase_id, array_agg((returned_on - date '1970-01-01')::int ORDER BY account_seq) AS days,
                  array_agg(amount::float8 ORDER BY account_seq) AS amounts
           FROM clv.refund WHERE program = $1 AND returned_on <= $2 AND ($3::date IS NULL OR booked_on <= $3) GROUP BY 1, 2) r
  ON r.account = p.account AND r.purchase_id = p.purchase_id
WHERE p.program = $1 AND p.day <= $2 AND ($3::date IS NULL OR p.booked_on <= $3) ORDER BY p.account, p.day, p.purchase_id";

const REFUNDS: &str = "
SELECT account, (returned_on - date '1970-01-01')::int, amount::float8 FROM clv.unmatched_refund
WHERE program = $1 AND returned_on <= $2 AND ($3::date IS NULL OR booked_on <= $3) ORDER BY account, returned_on, refund_id";

/// Everybody of the program who had bought something by then. Who has refunds only has no purchases to lose, and is not looked at.
pub(super) async fn load(client: &Client, program: &str, as_of: AsOf) -> Result<Vec<Member>, AnalysisError> {
    let mut members: Vec<Member> = Vec::new();
    let bought = |row: &Row| {
        let back = row.get::<_, Vec<i32>>(4).into_iter().zip(row.get::<_, Vec<f64>>(5)).collect();
        Bought { day: row.get(1), spend: row.get(2), categories: row.get(3), back }
    };
    for row in client.query(PURCHASES, &[&program, &as_of.day, &as_of.known_at]).await? {
        let account: &str = row.get(0);
        match members.last_mut().filter(|last| last.account == account) {
            Some(last) => last.purchases.push(bought(&row)),
            None => members.push(Member { account: account.to_owned(), purchases: vec![bought(&row)], refunds: Vec::new() }),
        }
    }
    let places: HashMap<String, usize> = members.iter().enumerate().map(|(i, member)| (member.account.clone(), i)).collect();
    for row in client.query(REFUNDS, &[&program, &as_of.day, &as_of.known_at]).await? {
        if let Some(i) = places.get(row.get::<_, &str>(0)) {
            members[*i].refunds.push((row.get(1), row.get(2)));
        }
    }
    Ok(members)
}

impl Bought {
    /// What had been kept of it by the end of `day`; none where that is nothing, though something was paid.
    fn kept(&self, day: i32) -> Option<f64> {
        let back: f64 = self.back.iter().filter(|(returned, _)| *returned <= day).map(|(_, amount)| amount).sum();
        let kept = self.spend - back;
        (back <= 0.0 || kept > NOTHING).then_some(kept)
    }
}

impl Member {
    /// As it was known at the end of `day`: later purchases and returns are not.
    pub(super) fn at(&self, day: i32) -> Days {
        let mut days: Vec<Day> = Vec::new();
        for bought in self.purchases.iter().take_while(|bought| bought.day <= day) {
            let Some(kept) = bought.kept(day) else { continue };
            match days.last_mut().filter(|last| last.day == bought.day) {
                Some(last) => last.spend += kept,
                None => days.push(Day { day: bought.day, spend: kept, categories: bought.categories }),
            }
        }
        Days { bought: days, refunds: self.refunds.iter().copied().filter(|(returned, _)| *returned <= day).collect() }
    }

    /// The half of the members it is in, by a stable hash.
    pub(super) fn half(&self) -> bool {
        blake3::hash(self.account.as_bytes()).as_bytes()[0] & 1 == 1
    }
}

impl Days {
    /// Spend of the days after `from` until the end of `to`, less the refunds of these days: below zero where more was given back.
    pub(super) fn spend(&self, from: i32, to: i32) -> f64 {
        // A sum of nothing would be -0.
        let spent = self.between(from, to).map(|day| day.spend).fold(0.0, |sum, spend| sum + spend);
        self.refunds.iter().filter(|(day, _)| *day > from && *day <= to).fold(spent, |spent, (_, amount)| spent - amount)
    }

    /// The days with a purchase after `from` until the end of `to`.
    pub(super) fn between(&self, from: i32, to: i32) -> impl Iterator<Item = &Day> {
        self.bought.iter().filter(move |day| day.day > from && day.day <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_return_is_not_known() {
        let bought = |day, spend, back: &[(i32, f64)]| Bought { day, spend, categories: 1, back: back.into() };
        let purchases = vec![bought(10, 30.0, &[(15, 10.0), (20, 20.0)]), bought(10, 5.0, &[]), bought(12, 7.0, &[(30, 7.0)]), bought(40, 1.0, &[])];
        let member = Member { account: "a".into(), purchases, refunds: Vec::new() };
        let at = |day: i32| member.at(day).bought.iter().map(|day| (day.day, day.spend)).collect::<Vec<_>>();
        assert_eq!(at(9), []);
        assert_eq!(at(12), [(10, 35.0), (12, 7.0)]);
        assert_eq!(at(15), [(10, 25.0), (12, 7.0)]);
        assert_eq!(at(29), [(10, 5.0), (12, 7.0)]);
        assert_eq!(at(40), [(10, 5.0), (40, 1.0)], "a day of which nothing was kept is none");
    }

    #[test]
    fn a_refund_lowers_spend_and_is_no_visit() {
        // Given two purchases, and two refunds of purchases that the book does not have.
        let bought = |day, spend| Bought { day, spend, categories: 1, back: Box::default() };
        let member = Member { account: "a".into(), purchases: vec![bought(10, 30.0), bought(40, 5.0)], refunds: vec![(20, 8.0), (50, 9.0)] };
        // Then each lowers what was spent in a window that holds it, once it is known.
        let days = member.at(60);
        assert_eq!((days.spend(0, 19), days.spend(0, 20), days.spend(20, 60)), (30.0, 22.0, -4.0));
        assert_eq!(member.at(49).spend(20, 60), 5.0, "a later refund is not known");
        // Then neither is a day on which the member came.
        assert_eq!(days.between(0, 60).map(|day| day.day).collect::<Vec<i32>>(), [10, 40]);
    }
}
