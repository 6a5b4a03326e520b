//! What the estimates are made from: points and sales by issue month and month, as the book stood on a day.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use ledger_core::time::{first_of_month, plus_months};
use rust_decimal::Decimal;
use tokio_postgres::Client;

use crate::AnalysisError;

/// By issue month: what happened in which month, and in which month it was booked.
#[derive(Debug, Default)]
pub(super) struct Flows {
    rows: Vec<Flow>,
    sales: Vec<(NaiveDate, NaiveDate, Decimal)>,
}

#[derive(Debug)]
struct Flow {
    cohort: NaiveDate,
    happened: NaiveDate,
    booked: NaiveDate,
    points: Count,
    /// Of those, of lots that were given by hand.
    by_hand: Count,
}

pub(super) fn month(day: NaiveDate) -> NaiveDate {
    first_of_month(day)
}

pub(super) fn next(month: NaiveDate) -> NaiveDate {
    plus_months(month, 1)
}

impl Flows {
    /// All that was booked, and took effect, by the end of `until`.
    pub(super) async fn load(client: &Client, program: &str, until: NaiveDate) -> Result<Self, AnalysisError> {
        let counts =
            "(-coalesce(sum(points) FILTER (WHERE bucket = 'issued'), 0))::bigint, coalesce(sum(points) FILTER (WHERE bucket = 'redeemed'), 0)::bigint,
                      coalesce(sum(points) FILTER (WHERE bucket = 'clawed_back'), 0)::bigint,
                      coalesce(sum(points) FILTER (WHERE bucket IN ('pending', 'available', 'held')), 0)::bigint";
        let mut rows = BTreeMap::<(NaiveDate, NaiveDate, NaiveDate), (Count, Count)>::new();
        for (table, is_by_hand) in [("posting", false), ("goodwill", true)] {
            let sql = format!(
                "SELECT cohort, date_trunc('month', effective_on)::date, date_trunc('month', booked_on)::date, {counts}
                 FROM liability.{table} WHERE program = $1 AND booked_on <= $2 AND effective_on <= $2 GROUP BY 1, 2, 3"
            );
            for row in client.query(&sql, &[&program, &until]).await? {
                let count = Count { issued: row.get(3), redeemed: row.get(4), clawed_back: row.get(5), left: row.get(6) };
                let (all, by_hand) = rows.entry((row.get(0), row.get(1), row.get(2))).or_default();
                *(if is_by_hand { by_hand } else { all }) = count;
            }
        }
        let rows = rows.into_iter().map(|((cohort, happened, booked), (points, by_hand))| Flow { cohort, happened, booked, points, by_hand }).collect();
        let sql = "SELECT cohort, booked, sum(amount) FROM (
                       SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date AS cohort, date_trunc('month', booked_on)::date AS booked, spend AS amount
                       FROM clv.purchase WHERE program = $1 AND booked_on <= $2
                       UNION ALL
                       SELECT date_trunc('month', p.occurred_at AT TIME ZONE 'UTC')::date, date_trunc('month', r.booked_on)::date, -r.amount
                       FROM clv.refund r JOIN clv.purchase p USING (program, account, purchase_id) WHERE program = $1 AND r.booked_on <= $2) s
                   GROUP BY 1, 2 ORDER BY 1, 2";
        let sales = client.query(sql, &[&program, &until]).await?.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        Ok(Self { rows, sales })
    }

    /// The first issue month; none where nothing was issued.
    pub(super) fn first(&self) -> Option<NaiveDate> {
        self.rows.iter().filter(|row| row.points.issued > 0).map(|row| row.cohort).min()
    }

    /// What was known of it at the end of `period`.
    fn known(&self, period: NaiveDate) -> impl Iterator<Item = &Flow> {
        self.rows.iter().filter(move |row| row.booked <= period && row.happened <= period)
    }

    /// What became of each issue month's points, as known at the end of `period`.
    pub(super) fn points(&self, period: NaiveDate) -> BTreeMap<NaiveDate, Points> {
        let mut cohorts = BTreeMap::<NaiveDate, Points>::new();
        for row in self.known(period) {
            cohorts.entry(row.cohort).or_default().add(row);
        }
        cohorts
    }

    /// What became of each issue month's points, month by month of their age: a row an issue month from `first` to `period`.
    pub(super) fn steps(&self, first: NaiveDate, period: NaiveDate) -> Vec<Vec<Month>> {
        let months: Vec<NaiveDate> = std::iter::successors(Some(first), |month| Some(next(*month))).take_while(|month| *month <= period).collect();
        let mut all = BTreeMap::<(NaiveDate, NaiveDate), Count>::new();
        for row in self.known(period) {
            let count = all.entry((row.cohort, row.happened)).or_default();
            *count = count.plus(row.points);
        }
        let row = |i: usize| {
            let mut sum = Count::default();
            let mut month = |month: &NaiveDate| {
                let before = sum;
                sum = sum.plus(all.get(&(months[i], *month)).copied().unwrap_or_default());
                // Points of the first month are there for all of it.
                let left = if *month == months[i] { sum.granted() } else { before.left };
                Month { left, spent: sum.redeemed - before.redeemed, lost: sum.lost() - before.lost() }
            };
            months[i..].iter().map(&mut month).collect()
        };
        (0..months.len()).map(row).collect()
    }

    /// Sales of each month, net of returns, as known at the end of `period`.
    pub(super) fn sales(&self, period: NaiveDate) -> BTreeMap<NaiveDate, Decimal> {
        let mut sales = BTreeMap::<NaiveDate, Decimal>::new();
        for (month, _, amount) in self.sales.iter().filter(|(month, booked, _)| *month <= period && *booked <= period) {
            *sales.entry(*month).or_default() += amount;
        }
        sales
    }
}

/// What became of an issue month's points in one month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Month {
    /// Left when it began; of the issue month itself, given in it.
    pub(super) left: i64,
    pub(super) spent: i64,
    /// Expired, forfeited, taken by hand.
    pub(super) lost: i64,
}

/// Points of one issue month.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) issued: i64,
    pub(super) redeemed: i64,
    pub(super) clawed_back: i64,
    /// What members still have.
    pub(super) left: i64,
}

impl Count {
    fn plus(self, more: Self) -> Self {
        Self {
            issued: self.issued + more.issued,
            redeemed: self.redeemed + more.redeemed,
            clawed_back: self.clawed_back + more.clawed_back,
            left: self.left + more.left,
        }
    }

    fn without(self, part: Self) -> Self {
        Self {
            issued: self.issued - part.issued,
            redeemed: self.redeemed - part.redeemed,
            clawed_back: self.clawed_back - part.clawed_back,
            left: self.left - part.left,
        }
    }

    /// Issued and not taken back with returned goods.
    pub(super) fn granted(self) -> i64 {
        (self.issued - self.clawed_back).max(0)
    }

    /// Neither spent nor left, though not taken back with returned goods.
    pub(super) fn lost(self) -> i64 {
        self.issued - self.clawed_back - self.redeemed - self.left
    }

    /// `ultimate` as far as it can still come true: what was spent has been, and what is lost (expired, forfeited, taken by hand) will not be.
    #[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
    pub(super) fn attainable(self, ultimate: f64) -> f64 {
        ultimate.min((self.redeemed + self.left) as f64).max(self.redeemed as f64)
    }
}

/// Points of one issue month, and those of them that no sale paid for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Points {
    pub(super) all: Count,
    by_hand: Count,
}

impl Points {
    fn add(&mut self, flow: &Flow) {
        *self = Self { all: self.all.plus(flow.points), by_hand: self.by_hand.plus(flow.by_hand) };
    }

    /// Those that came with a sale.
    pub(super) fn sold(self) -> Count {
        self.all.without(self.by_hand)
    }
}
