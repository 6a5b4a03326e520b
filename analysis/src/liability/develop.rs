//! The chain ladder over issue months, and how well it would have done.

use insight::reserve::{Redemption, ReserveError, Triangle, redemption};
use serde::Serialize;

/// How many months the back-test looks back.
const BACK_MONTHS: usize = 3;

/// What the estimate of some months ago said would be spent since, and what was: up to the age of the issue month that was the oldest then, as
/// beyond it nothing was expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackTest {
    /// How many months ago.
    pub months: usize,
    /// Points expected to be spent since, of the issue months of then.
    pub expected: f64,
    /// Points spent since, of those.
    pub actual: f64,
}

/// The ladder over `rows`, cumulative; issue months of `issued` beyond them have not begun.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
pub(super) fn develop(issued: &[i64], rows: &[Vec<i64>]) -> Result<Redemption, ReserveError> {
    // Months in which nobody spends yet develop into nothing; the triangle begins with the first in which somebody does.
    let begun = |k: usize| rows.iter().any(|row| row.len() > k + 1 && row[k] > 0);
    let begin = (0..rows.len()).find(|k| begun(*k)).unwrap_or(0);
    let known: Vec<Vec<f64>> = rows.iter().filter(|row| row.len() > begin).map(|row| row[begin..].iter().map(|n| *n as f64).collect()).collect();
    let points: Vec<f64> = issued.iter().map(|n| *n as f64).collect();
    redemption(&points, &Triangle::new(known)?)
}

pub(super) fn back_test(issued: &[i64], rows: &[Vec<i64>]) -> Option<BackTest> {
    let before: Vec<Vec<i64>> = rows.iter().filter(|row| row.len() > BACK_MONTHS).map(|row| row[..row.len() - BACK_MONTHS].to_vec()).collect();
    let then = develop(&issued[..before.len()], &before).ok()?;
    let developed = share_developed(&before)?;
    let (mut expected, mut actual) = (0.0, 0.0);
    for ((row, now), ultimate) in before.iter().zip(rows).zip(&then.ultimates) {
        let (age, later) = (row.len() - 1, (row.len() - 1 + BACK_MONTHS).min(developed.len() - 1));
        let to_come = 1.0 - developed[age];
        let share = if to_come > 0.0 { (developed[later] - developed[age]) / to_come } else { 0.0 };
        expected += (ultimate - spent(row, age)) * share;
        actual += spent(now, later) - spent(row, age);
    }
    Some(BackTest { months: BACK_MONTHS, expected, actual })
}

/// Spent by an age.
#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn spent(row: &[i64], age: usize) -> f64 {
    row.get(age).map_or(0.0, |points| *points as f64)
}

/// Of what is spent in the end, the share that is by each month.
fn share_developed(rows: &[Vec<i64>]) -> Option<Vec<f64>> {
    #[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
    let sum = |k: usize, of: usize| rows.iter().filter(|row| row.len() > of).map(|row| row[k] as f64).sum::<f64>();
    let count = rows.first()?.len();
    let mut developed = vec![1.0; count];
    for k in (0..count - 1).rev() {
        let (before, after) = (sum(k, k + 1), sum(k + 1, k + 1));
        developed[k] = if after > 0.0 { developed[k + 1] * before / after } else { 0.0 };
    }
    Some(developed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue months of 1,000 points that spend 100 a month for as long as there are months.
    fn steady(months: i64) -> Vec<Vec<i64>> {
        (1..=months).rev().map(|count| (1..=count).map(|age| 100 * age).collect()).collect()
    }

    #[test]
    fn the_back_test_compares_the_same_ages() {
        // Given issue months that go on spending beyond what could be seen three months ago.
        let rows = steady(9);
        // When the estimate of then is compared with what was spent since.
        let back = back_test(&[1000; 9], &rows).expect("nine months are enough");
        // Then each issue month is compared up to the sixth month only: 0, 1, 2 and three times 3 months of 100.
        assert_eq!(back.actual, 1200.0);
        assert!((back.expected - back.actual).abs() < 1e-6, "{back:?}");
    }
}
