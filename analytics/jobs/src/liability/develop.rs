//! The chain ladder over issue months, and how well it would have done.

use estimators::reserve::{Redemption, ReserveError, Triangle, open_redemption, redemption};
use estimators::run_off::Step;
use estimators::tail::tail;
use serde::Serialize;
use utoipa::ToSchema;

/// How many months the back-test looks back.
const BACK_MONTHS: usize = 3;

/// What the estimate of some months ago said would be spent since, and what was: up to the age of the issue month that was the oldest then, as
/// beyond it nothing was expected.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BackTest {
    /// How many months ago.
    pub months: usize,
    /// Points expected to be spent since, of the issue months of then.
    pub expected: f64,
    /// Points spent since, of those.
    pub actual: f64,
}

/// The ladder over `rows`, cumulative, up to the age of the oldest issue month; issue months of `issued` beyond them have not begun.
fn develop(issued: &[i64], rows: &[Vec<i64>]) -> Result<Redemption, ReserveError> {
    let (points, triangle) = triangle(issued, rows)?;
    redemption(&points, &triangle)
}

/// The same, and beyond that age where the oldest issue month still has points to spend. `fates` are what became of the points of each, month by month, as
/// far as `rows` go.
pub(super) fn develop_beyond(issued: &[i64], rows: &[Vec<i64>], fates: &[Vec<Step>]) -> Result<Redemption, ReserveError> {
    let (points, triangle) = triangle(issued, rows)?;
    // Why a ladder alone can't be made comes first.
    let closed = redemption(&points, &triangle)?;
    let left = fates.first().and_then(|steps| steps.last()).map_or(0.0, |last| last.left - last.spent - last.lost);
    if left <= 0.0 {
        return Ok(closed);
    }
    open_redemption(&points, &triangle, left, tail(fates).ok_or(ReserveError::NoTail)?)
}

#[allow(clippy::cast_precision_loss, reason = "points far below 2^53")]
fn triangle(issued: &[i64], rows: &[Vec<i64>]) -> Result<(Vec<f64>, Triangle), ReserveError> {
    // Months in which nobody spends yet develop into nothing; the triangle begins with the first in which somebody does.
    let begun = |k: usize| rows.iter().any(|row| row.len() > k + 1 && row[k] > 0);
    let begin = (0..rows.len()).find(|k| begun(*k)).unwrap_or(0);
    let known: Vec<Vec<f64>> = rows.iter().filter(|row| row.len() > begin).map(|row| row[begin..].iter().map(|n| *n as f64).collect()).collect();
    Ok((issued.iter().map(|n| *n as f64).collect(), Triangle::new(known)?))
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

    /// Of 1,000 points, what `spent` spends of them month by month of their age: cumulative rows and fates of issue months, the oldest of which has seen all.
    fn book(spent: &[i64]) -> (Vec<i64>, Vec<Vec<i64>>, Vec<Vec<Step>>) {
        let (mut sum, mut row, mut fates) = (0, Vec::new(), Vec::new());
        for points in spent {
            fates.push(Step { left: (1000 - sum) as f64, spent: *points as f64, lost: 0.0, elapsed: 1.0 });
            sum += points;
            row.push(sum);
        }
        let lengths = || (1..=spent.len()).rev();
        (vec![1000; spent.len()], lengths().map(|n| row[..n].to_vec()).collect(), lengths().map(|n| fates[..n].to_vec()).collect())
    }

    #[test]
    fn nothing_is_certain_while_the_oldest_month_has_points_to_spend() {
        // Given points that never expire and are spent slowly, for three months and for a year: nothing says how that ends.
        for months in [3, 12] {
            let (issued, rows, fates) = book(&vec![30; months]);
            assert_eq!(develop(&issued, &rows).map(|certain| certain.standard_errors[0]), Ok(0.0), "what the ladder alone says");
            assert_eq!(develop_beyond(&issued, &rows, &fates), Err(ReserveError::NoTail), "{months}");
        }
        // Given that spending fades: then some more will be spent of what is left, and how much is not certain.
        let (issued, rows, fates) = book(&[0, 120, 90, 65, 50, 36, 27, 20, 15, 11, 8, 6]);
        let all = develop_beyond(&issued, &rows, &fates).expect("it fades");
        assert!(all.ultimates[0] > 450.0 && all.ultimates[0] < 500.0, "448 are spent, and 6 a month on the decline: {all:?}");
        assert!(all.standard_errors[0] > 0.9 * (all.ultimates[0] - 448.0), "{all:?}");
        // Given that nothing was spent for half a year: nothing more is expected, which is no certainty.
        let (issued, rows, fates) = book(&[0, 300, 100, 0, 0, 0, 0, 0, 0]);
        let all = develop_beyond(&issued, &rows, &fates).expect("it has ended");
        assert!((all.ultimates[0] - 400.0).abs() < 1e-9 && all.standard_errors[0] > 1.0, "{all:?}");
        // Given that all others expired: nothing is left to be uncertain of.
        let (issued, rows, mut fates) = book(&[0, 300, 100, 0]);
        fates[0][3].lost = 600.0;
        assert_eq!(develop_beyond(&issued, &rows, &fates), develop(&issued, &rows));
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
