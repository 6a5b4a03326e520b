//! Numbers as people read them: digits in groups of three, money with its decimals, shares in per cent.

use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};

pub use analytics::liability::decimals;

pub use crate::summary::grouped;

/// Money, rounded to `decimals`.
pub fn money(amount: Decimal, decimals: u32) -> String {
    let text = format!("{:.*}", decimals as usize, amount.round_dp(decimals).abs());
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let whole = whole.parse::<i64>().map_or_else(|_| whole.to_owned(), grouped);
    let sign = if amount.round_dp(decimals) < Decimal::ZERO { "-" } else { "" };
    rest.map_or_else(|| format!("{sign}{whole}"), |rest| format!("{sign}{whole}.{rest}"))
}

/// An estimate of money.
pub fn estimated(amount: f64, decimals: u32) -> String {
    Decimal::from_f64(amount).map_or_else(|| "unknown".into(), |amount| money(amount, decimals))
}

/// An estimate of points, whole ones.
pub fn points(estimate: f64) -> String {
    estimate.round().to_i64().map_or_else(|| "unknown".into(), grouped)
}

/// A share in per cent.
#[allow(clippy::float_arithmetic, reason = "a share, shown in per cent")]
pub fn per_cent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_groups_and_decimals() {
        let amount = |text: &str| text.parse::<Decimal>().expect("a number");
        assert_eq!(money(amount("1234567.5"), 2), "1,234,567.50");
        assert_eq!(money(amount("-1500"), 0), "-1,500");
        assert_eq!(money(amount("-0.001"), 2), "0.00");
        assert_eq!((estimated(12.345_6, 2), points(278_608.6), per_cent(0.00324)), ("12.35".into(), "278,609".into(), "0.3 %".into()));
    }
}
