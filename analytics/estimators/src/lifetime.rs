//! What a member is worth: expected purchases, month by month, times what one brings, discounted.

use crate::bgnbd::BgNbd;
use crate::history::History;
use crate::pareto_nbd::ParetoNbd;

/// So many months are looked at at once.
const YEAR: usize = 12;
/// Weeks of a month, 365.25 days a year.
pub const MONTH_WEEKS: f64 = 365.25 / 12.0 / 7.0;

/// How often members buy and when they leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Buying {
    /// By BG/NBD.
    BgNbd(BgNbd),
    /// By Pareto/NBD.
    ParetoNbd(ParetoNbd),
}

impl Buying {
    /// The probability that the member still buys.
    #[must_use]
    pub fn alive(&self, history: History) -> f64 {
        match self {
            Self::BgNbd(model) => model.alive(history),
            Self::ParetoNbd(model) => model.alive(history),
        }
    }

    /// How many purchases to expect in the next `weeks`.
    #[must_use]
    pub fn expected(&self, history: History, weeks: f64) -> f64 {
        match self {
            Self::BgNbd(model) => model.expected(history, weeks),
            Self::ParetoNbd(model) => model.expected(history, weeks),
        }
    }
}

impl Buying {
    /// How many purchases to expect in the next `weeks`, for each of them.
    fn expected_each<const N: usize>(&self, history: History, weeks: &[f64; N]) -> [f64; N] {
        match self {
            Self::BgNbd(model) => model.expected_each(history, weeks),
            Self::ParetoNbd(model) => weeks.map(|weeks| model.expected(history, weeks)),
        }
    }
}

/// How future money is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// For how many months.
    pub months: u32,
    /// What of a purchase is ours, from 0 to 1.
    pub margin: f64,
    /// By which a month later is worth less, such as 0.01.
    pub monthly_discount: f64,
}

/// What a member with this history, who spends `mean_spend` at a time, will bring.
#[must_use]
pub fn value(buying: &Buying, history: History, mean_spend: f64, terms: &Terms) -> f64 {
    let (mut before, mut value, mut discount) = (0.0, 0.0, 1.0);
    for first in (1..=terms.months).step_by(YEAR) {
        let weeks: [f64; YEAR] = std::array::from_fn(|i| f64::from(first + i as u32) * MONTH_WEEKS);
        let left = (terms.months - first) as usize + 1;
        for purchases in buying.expected_each(history, &weeks).into_iter().take(left) {
            discount /= 1.0 + terms.monthly_discount;
            value += (purchases - before) * mean_spend * discount;
            before = purchases;
        }
    }
    value * terms.margin
}
