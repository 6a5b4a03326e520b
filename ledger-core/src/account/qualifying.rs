//! What purchases count towards a tier, in every unit that a rulebook may qualify by, so that a rulebook that qualifies by another unit than
//! the one before it counts the same purchases, and never points as money.

use serde::{Deserialize, Serialize};

use super::command::Purchase;
use crate::points::{Amount, Points};
use crate::policy::QualifyBy;

/// An amount of qualification, in each unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Qualifying {
    /// Points earned.
    pub points: Points,
    /// Eligible spend, in the program's currency.
    pub spend: Amount,
    /// Purchases.
    pub purchases: i64,
}

impl Qualifying {
    /// What a record of edition 1 counts, which states one amount and not in which unit. As spend it counts no more than the goods cost.
    #[must_use]
    pub fn of_first_edition(stated: Amount, points: Points, purchase: &Purchase) -> Self {
        Self { points, spend: stated.min(purchase.charge(None)), purchases: 1 }
    }

    /// What a tier of edition 1 was reached by: the stated amount, in whichever unit it was.
    #[must_use]
    pub fn of_first_edition_tier(stated: Amount) -> Self {
        let whole = i64::try_from(stated.0.trunc().mantissa()).unwrap_or(i64::MAX);
        Self { points: whole, spend: stated, purchases: whole }
    }

    /// The amount in the unit that a rulebook qualifies by.
    #[must_use]
    pub fn by(&self, unit: QualifyBy) -> Amount {
        match unit {
            QualifyBy::Points => Amount::from(self.points),
            QualifyBy::Spend => self.spend,
            QualifyBy::Purchases => Amount::from(self.purchases),
        }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { points: self.points + other.points, spend: self.spend.plus(other.spend), purchases: self.purchases + other.purchases }
    }

    /// The difference.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { points: self.points - other.points, spend: self.spend.minus(other.spend), purchases: self.purchases - other.purchases }
    }

    /// The lesser in each unit.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { points: self.points.min(other.points), spend: self.spend.min(other.spend), purchases: self.purchases.min(other.purchases) }
    }
}
