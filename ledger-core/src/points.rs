//! Points, exact fractions and rounding.
//!
//! Invariants: points are whole numbers of the program's smallest unit; nothing is rounded before points are; every sum is
//! checked; no float takes part.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

/// Points, in the program's smallest unit.
pub type Points = i64;

/// The most points that one command may move; far below where sums over an account could overflow.
pub const POINTS_MAX: Points = 1_000_000_000_000;

/// An exact decimal: money, a quantity or a rate. A string in JSON, an integer and a scale in binary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub Decimal);

impl Amount {
    /// Zero.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// One.
    pub const ONE: Self = Self(Decimal::ONE);

    /// From a decimal text such as `12.50`; no exponent, no sign `+`, at most 12 digits before and 6 after the point.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
        let value = Decimal::from_str_exact(text).ok().filter(|_| plain)?;
        Self(value).in_range().then_some(Self(value))
    }

    /// From `units` and the number of decimals. Sums may lie outside the range that [`Amount::parse`] takes, so only what a decimal
    /// can't hold is `None`.
    #[must_use]
    pub fn from_wire(units: i64, scale: u32) -> Option<Self> {
        Decimal::try_from_i128_with_scale(i128::from(units), scale).ok().map(Self)
    }

    /// The units at [`Amount::scale`] decimals.
    #[must_use]
    pub fn units(self) -> i64 {
        i64::try_from(self.0.mantissa()).unwrap_or(if self.0.is_sign_negative() { i64::MIN } else { i64::MAX })
    }

    /// How many of the units' digits stand after the point.
    #[must_use]
    pub fn scale(self) -> u32 {
        self.0.scale()
    }

    /// Whether it has more decimals than `decimals`; zeros at the end are none.
    #[must_use]
    pub fn is_finer_than(self, decimals: u32) -> bool {
        let is_finer = |value: Decimal| value.scale() > decimals;
        is_finer(self.0) && is_finer(self.0.normalize())
    }

    /// The smallest amount with `decimals`: a cent for 2.
    #[must_use]
    pub fn unit(decimals: u32) -> Self {
        Self(Decimal::new(1, decimals))
    }

    /// Whether it has at most 6 decimals and lies within ± 10^12.
    #[must_use]
    pub fn in_range(self) -> bool {
        self.0.scale() <= 6 && self.0.abs() <= Decimal::from(1_000_000_000_000_i64)
    }

    /// The sum. Amounts in range can't overflow it.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference. Amounts in range can't overflow it.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<i64> for Amount {
    fn from(value: i64) -> Self {
        Self(Decimal::from(value))
    }
}

impl Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(&self.0) } else { (self.0.mantissa(), self.0.scale()).serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(AmountVisitor)
        } else {
            let (mantissa, scale) = <(i128, u32)>::deserialize(deserializer)?;
            Decimal::try_from_i128_with_scale(mantissa, scale).map(Self).map_err(D::Error::custom)
        }
    }
}

/// Takes decimals in strings and whole numbers; a float has lost its digits before we see it.
struct AmountVisitor;

impl serde::de::Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a decimal in a string, such as \"12.50\" (at most 12 digits before the point and 6 after), or a whole number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
        Amount::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Amount, E> {
        Some(Amount::from(value)).filter(|amount| amount.in_range()).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Amount, E> {
        let signed = i64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))?;
        self.visit_i64(signed)
    }
}

impl schemars::JsonSchema for Amount {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^-?[0-9]{1,12}([.][0-9]{1,6})?$",
            "description": "an exact decimal in a string, such as \"1.25\""
        })
    }
}

/// How a fraction of a point becomes whole points.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// Down.
    #[default]
    Floor,
    /// To the nearest; a half goes up.
    HalfUp,
    /// To the nearest; a half goes to the even one.
    HalfEven,
    /// Up.
    Ceiling,
}

/// An exact fraction, never negative here, with a positive denominator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exact {
    numerator: i128,
    denominator: i128,
}

/// A sum or product of a rating has more digits than 128 bits hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the amounts of the purchase are too large to rate exactly")]
pub struct TooLarge;

/// As many as a decimal's scale can be.
const POWERS_OF_TEN: [i128; 29] = {
    let mut powers = [1; 29];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.abs().max(1)
}

impl Exact {
    /// Zero.
    pub const ZERO: Self = Self { numerator: 0, denominator: 1 };

    /// One.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// The value of a decimal.
    #[must_use]
    pub fn of(amount: Amount) -> Self {
        Self { numerator: amount.0.mantissa(), denominator: POWERS_OF_TEN[usize::try_from(amount.0.scale()).unwrap_or(0)] }
    }

    fn reduced(self) -> Self {
        let g = gcd(self.numerator, self.denominator);
        Self { numerator: self.numerator / g, denominator: self.denominator / g }
    }

    fn try_times(self, other: Self) -> Option<Self> {
        Some(Self { numerator: self.numerator.checked_mul(other.numerator)?, denominator: self.denominator.checked_mul(other.denominator)? })
    }

    fn try_plus(self, other: Self) -> Option<Self> {
        if self.denominator == other.denominator {
            let numerator = self.numerator.checked_add(other.numerator)?;
            return Some(Self { numerator, denominator: self.denominator });
        }
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Some(Self { numerator: left.checked_add(right)?, denominator: self.denominator.checked_mul(other.denominator)? })
    }

    /// The product.
    ///
    /// # Errors
    /// [`TooLarge`] when even the reduced fraction overflows.
    pub fn times(self, other: Self) -> Result<Self, TooLarge> {
        // Most factors are one: a tier without a multiplier, a line without a bonus.
        if other == Self::ONE {
            return Ok(self);
        }
        self.try_times(other).or_else(|| self.reduced().try_times(other.reduced())).ok_or(TooLarge)
    }

    /// The sum.
    ///
    /// # Errors
    /// [`TooLarge`] when even the reduced fraction overflows.
    pub fn plus(self, other: Self) -> Result<Self, TooLarge> {
        if self.numerator == 0 {
            return Ok(other);
        }
        self.try_plus(other).or_else(|| self.reduced().try_plus(other.reduced())).ok_or(TooLarge)
    }

    /// The difference.
    ///
    /// # Errors
    /// [`TooLarge`] when even the reduced fraction overflows.
    pub fn minus(self, other: Self) -> Result<Self, TooLarge> {
        if other.numerator == 0 {
            return Ok(self);
        }
        self.plus(Self { numerator: other.numerator.checked_neg().ok_or(TooLarge)?, denominator: other.denominator })
    }

    /// The quotient; dividing by zero gives zero, as a rate over nothing earns nothing.
    ///
    /// # Errors
    /// [`TooLarge`] when even the reduced fraction overflows.
    pub fn over(self, other: Self) -> Result<Self, TooLarge> {
        match other.numerator {
            0 => Ok(Self::ZERO),
            n if n.is_negative() => {
                let inverse = Self { numerator: -other.denominator, denominator: -n };
                self.times(inverse)
            }
            n => self.times(Self { numerator: other.denominator, denominator: n }),
        }
    }

    /// Whether it is above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.numerator > 0
    }

    /// As many whole `unit`s as are in it.
    ///
    /// # Errors
    /// [`TooLarge`] when it has more digits than a decimal holds.
    pub fn whole_units(self, unit: Amount) -> Result<Amount, TooLarge> {
        let units = self.over(Self::of(unit))?.whole(Rounding::Floor);
        Decimal::try_from_i128_with_scale(units, 0).ok().and_then(|units| units.checked_mul(unit.0)).map(Amount).ok_or(TooLarge)
    }

    /// To 6 decimals, half even: for spend that counts towards a tier and for conditions, never on the way to points.
    ///
    /// # Errors
    /// [`TooLarge`] when it has more digits than a decimal holds.
    pub fn to_amount(self) -> Result<Amount, TooLarge> {
        self.to_decimals(6)
    }

    /// To so many decimals, half even.
    ///
    /// # Errors
    /// [`TooLarge`] when it has more digits than a decimal holds.
    pub fn to_decimals(self, decimals: u32) -> Result<Amount, TooLarge> {
        let unit = POWERS_OF_TEN.get(usize::try_from(decimals).unwrap_or(usize::MAX)).ok_or(TooLarge)?;
        let units = self.times(Self { numerator: *unit, denominator: 1 })?.whole(Rounding::HalfEven);
        Decimal::try_from_i128_with_scale(units, decimals).map(|value| Amount(value.normalize())).map_err(|_| TooLarge)
    }

    /// Whole points by `rounding`.
    ///
    /// # Errors
    /// [`TooLarge`] above [`POINTS_MAX`].
    pub fn round(self, rounding: Rounding) -> Result<Points, TooLarge> {
        i64::try_from(self.whole(rounding)).ok().filter(|points| *points <= POINTS_MAX).ok_or(TooLarge)
    }

    fn whole(self, rounding: Rounding) -> i128 {
        // Most fit 64 bits, where a division is many times faster.
        let (floor, rest) = match (i64::try_from(self.numerator), i64::try_from(self.denominator)) {
            (Ok(numerator), Ok(denominator)) => (i128::from(numerator.div_euclid(denominator)), i128::from(numerator.rem_euclid(denominator))),
            _ => (self.numerator.div_euclid(self.denominator), self.numerator.rem_euclid(self.denominator)),
        };
        // Compare rest with denominator - rest: twice the rest could overflow.
        let half = rest.cmp(&(self.denominator - rest));
        let up = match rounding {
            Rounding::Floor => false,
            Rounding::Ceiling => rest > 0,
            Rounding::HalfUp => half.is_ge(),
            Rounding::HalfEven => half.is_gt() || (half.is_eq() && floor % 2 != 0),
        };
        floor + i128::from(up)
    }
}

impl From<Points> for Exact {
    fn from(points: Points) -> Self {
        Self { numerator: i128::from(points), denominator: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Exact {
        Exact::of(Amount::parse(text).unwrap())
    }

    #[test]
    fn rounding_table() {
        use Rounding::{Ceiling, Floor, HalfEven, HalfUp};
        for (value, floor, half_up, half_even, ceiling) in [
            ("0", 0, 0, 0, 0),
            ("0.5", 0, 1, 0, 1),
            ("1.5", 1, 2, 2, 2),
            ("2.5", 2, 3, 2, 3),
            ("2.500001", 2, 3, 3, 3),
            ("2.499999", 2, 2, 2, 3),
            ("3", 3, 3, 3, 3),
        ] {
            for (mode, want) in [(Floor, floor), (HalfUp, half_up), (HalfEven, half_even), (Ceiling, ceiling)] {
                assert_eq!(exact(value).round(mode), Ok(want), "{value} {mode:?}");
            }
        }
    }

    #[test]
    fn thirds_add_up_exactly() {
        let third = exact("1").over(exact("3")).unwrap();
        let whole = third.plus(third).unwrap().plus(third).unwrap();
        assert_eq!(whole.round(Rounding::Floor), Ok(1));
    }

    #[test]
    fn what_does_not_fit_is_refused_not_wrapped() {
        let big = Exact { numerator: i128::MAX / 3, denominator: 7 };
        assert_eq!(big.times(big), Err(TooLarge));
        assert_eq!(Exact::from(POINTS_MAX + 1).round(Rounding::Floor), Err(TooLarge));
        assert!(Amount::parse("1e5").is_none());
        assert!(Amount::parse("0.1234567").is_none());
        assert!(Amount::parse("1000000000001").is_none());
    }

    #[test]
    fn an_amount_is_its_units_and_its_scale() {
        let amount = Amount::from_wire(-1250, 2).unwrap();
        assert_eq!((amount.units(), amount.scale(), amount.to_string(), format!("{amount:?}")), (-1250, 2, "-12.50".into(), "-12.50".into()));
        assert_eq!(Amount::from_wire(1, 29), None, "more decimals than a decimal has");
        assert_eq!([1, 2, 3].map(|decimals| Amount::parse("0.050").unwrap().is_finer_than(decimals)), [true, false, false]);
        assert!(!Amount::parse("0.05").unwrap().is_finer_than(2));
    }

    #[test]
    fn a_whole_number_of_json_is_an_amount() {
        let read = |json: &str| serde_json::from_str::<Amount>(json).ok();
        assert_eq!((read("12"), read("-12"), read("\"0.5\"")), (Some(Amount::from(12)), Some(Amount::from(-12)), Amount::parse("0.5")));
        assert_eq!((read("1000000000001"), read("18446744073709551615"), read("0.5")), (None, None, None));
    }

    #[test]
    fn fractions_that_grow_are_reduced_before_they_are_refused() {
        // Of 10²⁰ tenths, times 10²⁰ tenths: as they stand they have 40 digits below.
        let large = Exact { numerator: 3 * POWERS_OF_TEN[20], denominator: POWERS_OF_TEN[20] };
        assert_eq!(large.times(large).unwrap(), Exact { numerator: 9, denominator: 1 });
        let other = Exact { numerator: 3 * POWERS_OF_TEN[20], denominator: 7 * POWERS_OF_TEN[20] };
        assert_eq!(large.plus(other).unwrap(), Exact { numerator: 24, denominator: 7 });
        let negative = Exact { numerator: -3 * POWERS_OF_TEN[20], denominator: POWERS_OF_TEN[20] };
        assert_eq!(negative.times(large).unwrap(), Exact { numerator: -9, denominator: 1 });
    }

    #[test]
    fn what_is_divided_by_less_than_nothing_is_less_than_nothing() {
        let six = Exact::from(6);
        assert_eq!(six.over(Exact::from(-4)).unwrap().reduced(), Exact { numerator: -3, denominator: 2 });
        assert_eq!((six.over(Exact::ZERO), Exact::from(-6).over(Exact::from(-4)).unwrap().round(Rounding::HalfEven)), (Ok(Exact::ZERO), Ok(2)));
        assert!(six.is_positive() && !Exact::ZERO.is_positive() && !Exact::from(-1).is_positive());
    }

    #[test]
    fn whole_units_are_those_that_fit_in() {
        let units = |value: &str, unit: &str| exact(value).whole_units(Amount::parse(unit).unwrap()).unwrap().to_string();
        assert_eq!([units("0.57", "0.05"), units("0.05", "0.05"), units("0.049", "0.05")], ["0.55", "0.05", "0"]);
    }
}
