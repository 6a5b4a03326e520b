//! Revenue deferral as in IFRS 15 (B39 to B43, illustrative example 52): a sale that gives points is two promises, and the price is
//! shared between them by their stand-alone prices; what was deferred becomes revenue as points are spent, by the share of those that
//! are expected to be spent in all.
//!
//! Invariants: exact decimals; each amount is rounded once, half away from zero, and what is left is the difference, so parts sum to the whole.

use rust_decimal::{Decimal, RoundingStrategy};

/// A sale's price, shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Revenue now.
    pub goods: Decimal,
    /// Deferred until points are spent.
    pub points: Decimal,
}

/// Why nothing can be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevenueError {
    /// A number is too large, or there is nothing to divide by.
    #[error("the amounts are out of range")]
    Range,
}

fn round(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero)
}

/// Shares `price`, for goods that alone cost `goods`, with points that alone are worth `points`: their number that is expected to be spent, times
/// the value of one. `decimals` are the currency's.
///
/// # Errors
/// [`RevenueError`]
pub fn allocate(price: Decimal, goods: Decimal, points: Decimal, decimals: u32) -> Result<Allocation, RevenueError> {
    let both = goods.checked_add(points).filter(|both| *both > Decimal::ZERO).ok_or(RevenueError::Range)?;
    let for_points = price.checked_mul(points).and_then(|product| product.checked_div(both)).ok_or(RevenueError::Range)?;
    let points = round(for_points, decimals);
    Ok(Allocation { goods: price - points, points })
}

/// What of `deferred` becomes revenue, beyond `recognised`, when `spent` points of those `expected` to be spent in all have been.
///
/// # Errors
/// [`RevenueError`]
pub fn recognise(deferred: Decimal, recognised: Decimal, spent: Decimal, expected: Decimal, decimals: u32) -> Result<Decimal, RevenueError> {
    if spent >= expected {
        return Ok(deferred - recognised);
    }
    let due = deferred.checked_mul(spent).and_then(|product| product.checked_div(expected)).ok_or(RevenueError::Range)?;
    Ok(round(due, decimals) - recognised)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(value: i64) -> Decimal {
        Decimal::from(value)
    }

    #[test]
    fn example_52() {
        let allocation = allocate(d(100_000), d(100_000), d(9_500), 0).unwrap();
        assert_eq!(allocation, Allocation { goods: d(91_324), points: d(8_676) });
        let first = recognise(allocation.points, d(0), d(4_500), d(9_500), 0).unwrap();
        assert_eq!(first, d(4_110));
        let second = recognise(allocation.points, first, d(8_500), d(9_700), 0).unwrap();
        assert_eq!(second, d(3_493));
        assert_eq!(allocation.points - first - second, d(1_073));
    }

    #[test]
    fn parts_sum_to_the_whole_and_no_more_than_all_is_recognised() {
        let allocation = allocate("10.01".parse().unwrap(), d(10), "0.07".parse().unwrap(), 2).unwrap();
        assert_eq!(allocation.goods + allocation.points, "10.01".parse().unwrap());
        assert_eq!(recognise(d(100), d(40), d(120), d(100), 2), Ok(d(60)));
        // A lower estimate can't be: more were spent than expected before; a higher one takes revenue back.
        assert_eq!(recognise(d(100), d(50), d(40), d(100), 2), Ok(d(-10)));
    }

    #[test]
    fn nothing_to_share_between_is_refused() {
        assert_eq!(allocate(d(1), d(0), d(0), 2), Err(RevenueError::Range));
        assert_eq!(allocate(Decimal::MAX, d(1), Decimal::MAX, 2), Err(RevenueError::Range));
    }
}
