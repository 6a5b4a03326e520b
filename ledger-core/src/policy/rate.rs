//! Rating: what the goods of a purchase earn.
//!
//! Invariant: the result depends on the goods kept, the rulebook's version and the member's [`Facts`] at the purchase alone, so
//! rating again after returns, in whatever order they came, ends the same.
//!
//! base of a line = its charge (tax included) − tax, for the part of it that is kept; points = base × rate (the tier's own or everybody's) × bonus
//! × tier; then rounding; then the cap per purchase, in line order.

use std::collections::BTreeMap;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::condition::Scope;
use super::program::Version;
use super::rulebook::RoundPer;
use crate::account::command::{Line, Purchase, Returned};
use crate::account::event::Refunded;
use crate::currency::minor_digits;
use crate::id::Id;
use crate::points::{Amount, Exact, Points, Rounding, TooLarge};

/// What a condition or multiplier may know of the member, as it was when the purchase was rated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The name of the tier.
    pub tier: CompactString,
    /// Points earned before.
    pub lifetime_earned: Points,
    /// Purchases before.
    pub purchases: u32,
    /// Whole days since the account was opened.
    pub age_days: u32,
}

/// What of a purchase has been given back, and how its lines are charged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Quantities given back, in the order of the lines' positions, each once.
    pub returned: Vec<(u32, Amount)>,
    /// Money given back that no line was named for; it lowers every line kept in proportion.
    pub returned_amount: Amount,
    /// Of the shipping, what was given back; it takes no points.
    pub returned_shipping: Amount,
    /// To how many decimals the lines' charges are rounded; not at all, if none.
    pub decimals: Option<u32>,
}

impl Kept {
    /// All of `purchase`, its lines charged in the currency's minor unit.
    #[must_use]
    pub fn all(purchase: &Purchase) -> Self {
        Self { decimals: minor_digits(&purchase.currency), ..Self::default() }
    }

    /// The quantity of line `index` that is kept.
    #[must_use]
    pub fn quantity(&self, index: usize, line: &Line) -> Amount {
        let found = u32::try_from(index).ok().and_then(|index| self.returned.binary_search_by_key(&index, |(i, _)| *i).ok());
        found.map_or(line.quantity, |i| line.quantity.minus(self.returned[i].1))
    }

    /// Books quantities of lines as given back, all at once: one by one each would move those after it.
    pub(crate) fn give_back_lines(&mut self, quantities: BTreeMap<u32, Amount>) {
        let mut all: BTreeMap<u32, Amount> = std::mem::take(&mut self.returned).into_iter().collect();
        for (index, quantity) in quantities {
            let returned = all.entry(index).or_default();
            *returned = returned.plus(quantity);
        }
        self.returned = all.into_iter().collect();
    }

    /// What was charged for the part of line `index` that is kept: its share of the line's charge, by quantity.
    ///
    /// # Errors
    /// [`TooLarge`] when the amounts overflow.
    pub fn charge(&self, index: usize, line: &Line) -> Result<Exact, TooLarge> {
        let quantity = self.quantity(index, line);
        if self.decimals.is_some() || line.amount.is_some() {
            return share(line.charge(self.decimals), quantity, line.quantity);
        }
        let value = Exact::of(quantity).times(Exact::of(line.unit_price))?;
        value.minus(share(line.discount, quantity, line.quantity)?)
    }
}

/// A line's share of the points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinePoints {
    /// The line's position in the purchase.
    pub line: u32,
    /// Its points, caps applied.
    pub points: Points,
    /// The bonuses that held for it.
    pub bonus: Vec<Id>,
}

/// A condition that failed at run time; it gave no bonus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateFailure {
    /// The line's position in the purchase.
    pub line: u32,
    /// The bonus.
    pub bonus: Id,
    /// What CEL said.
    pub error: String,
}

/// What the goods kept earn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// Points, the cap per purchase applied.
    pub points: Points,
    /// The eligible spend, to 6 decimals (half even).
    pub spend: Amount,
    /// By line, those with points or a bonus.
    pub lines: Vec<LinePoints>,
    /// Conditions that failed.
    pub failures: Vec<RateFailure>,
}

impl Rated {
    /// Cuts the lines, the last first, until they sum to `points`.
    pub fn cap(&mut self, points: Points) {
        let mut left = points.min(self.points);
        self.points = left;
        for line in &mut self.lines {
            line.points = line.points.min(left);
            left -= line.points;
        }
    }
}

fn share(amount: Amount, kept: Amount, of: Amount) -> Result<Exact, TooLarge> {
    if kept == of { Ok(Exact::of(amount)) } else { Exact::of(amount).times(Exact::of(kept))?.over(Exact::of(of)) }
}

/// What was paid for the goods kept, tax included, shipping not.
///
/// # Errors
/// [`TooLarge`] when the amounts overflow.
pub fn gross(purchase: &Purchase, kept: &Kept) -> Result<Exact, TooLarge> {
    let mut sum = Exact::ZERO.minus(Exact::of(kept.returned_amount))?;
    for (i, line) in purchase.lines.iter().enumerate() {
        sum = sum.plus(kept.charge(i, line)?)?;
    }
    Ok(sum)
}

fn base(index: usize, line: &Line, kept: &Kept, version: &Version) -> Result<Exact, TooLarge> {
    if version.excluded.has(line) {
        return Ok(Exact::ZERO);
    }
    let base = kept.charge(index, line)?.minus(share(line.tax, kept.quantity(index, line), line.quantity)?)?;
    // A charge that was rounded down may be less than the tax in it, by a part of a cent.
    Ok(if base.is_positive() { base } else { Exact::ZERO })
}

/// The factor that money given back without a line leaves of every line: (gross − amount) ÷ gross, never below zero.
fn amount_factor(purchase: &Purchase, kept: &Kept) -> Result<Option<Exact>, TooLarge> {
    if kept.returned_amount == Amount::ZERO {
        return Ok(None);
    }
    let (left, without) = (gross(purchase, kept)?, Kept { returned_amount: Amount::ZERO, ..kept.clone() });
    if left.is_positive() { left.over(gross(purchase, &without)?).map(Some) } else { Ok(Some(Exact::ZERO)) }
}

/// What of a line is left after returns: goods by quantity, and money that was given back without a line in proportion.
pub(super) struct KeptLine {
    pub(super) quantity: Amount,
    pub(super) discount: Amount,
    pub(super) tax: Amount,
    pub(super) amount: Amount,
}

/// The line at `index` of its purchase, as far as it is kept; `left` is what money that was given back without a line leaves of it.
pub(super) fn kept_line(kept: &Kept, index: usize, line: &Line, left: Exact) -> Result<KeptLine, TooLarge> {
    let quantity = kept.quantity(index, line);
    let discount = share(line.discount, quantity, line.quantity)?;
    let tax = share(line.tax, quantity, line.quantity)?.times(left)?;
    let amount = kept.charge(index, line)?.times(left)?;
    Ok(KeptLine { quantity, discount: discount.to_amount()?, tax: tax.to_amount()?, amount: amount.to_amount()? })
}

struct Bonuses {
    factor: Exact,
    held: Vec<Id>,
}

fn bonuses(version: &Version, scope: &mut Scope<'_>, (i, index): (usize, u32), line: &Line, failures: &mut Vec<RateFailure>) -> Result<Bonuses, TooLarge> {
    let mut bonuses = Bonuses { factor: Exact::ONE, held: Vec::new() };
    for (place, condition) in version.conditions.about(line) {
        let bonus = &version.rulebook.earn.bonus[place];
        match condition.holds(scope, i, line) {
            Ok(true) => {
                bonuses.factor = bonuses.factor.times(Exact::of(bonus.multiply))?;
                bonuses.held.push(bonus.id.clone());
            }
            Ok(false) => {}
            Err(error) => failures.push(RateFailure { line: index, bonus: bonus.id.clone(), error }),
        }
    }
    Ok(bonuses)
}

/// Rates the goods of `purchase` that are `kept`.
///
/// # Errors
/// [`TooLarge`] when the amounts have more digits than can be rated exactly.
pub fn rate(purchase: &Purchase, kept: &Kept, version: &Version, facts: &Facts) -> Result<Rated, TooLarge> {
    let earn = &version.rulebook.earn;
    let shrink = amount_factor(purchase, kept)?;
    let shrunk = |exact: Exact| shrink.map_or(Ok(exact), |factor| exact.times(factor));
    let per_order = earn.round_per == RoundPer::Order;
    let tier = &version.levels()[version.level_index(&facts.tier)];
    let by = tier.base.as_ref().unwrap_or(&earn.base);
    let mut spend = Exact::ZERO;
    // Only the steps of a whole order need its spend before its lines are rated.
    if by.whole_steps && per_order {
        for (i, line) in purchase.lines.iter().enumerate() {
            spend = spend.plus(shrunk(base(i, line, kept, version)?)?)?;
        }
    }
    let mut scope = Scope::new(&version.env, purchase, kept, facts, shrink.unwrap_or(Exact::ONE));
    let multiplier = Exact::of(tier.multiplier);
    let (points, per) = (Exact::of(by.points), Exact::of(by.per));
    // Whole steps of an order: its stepped points, shared among the lines by their base.
    let per_unit = match (by.whole_steps, per_order) {
        (true, true) => Some(Exact::from(spend.over(per)?.round(Rounding::Floor)?).times(points)?.over(spend)?),
        (false, _) => Some(points.over(per)?),
        (true, false) => None,
    };
    let mut rated = Rated { points: 0, spend: Amount::ZERO, lines: Vec::with_capacity(purchase.lines.len()), failures: Vec::new() };
    let mut sum = Exact::ZERO;
    for (i, (index, line)) in (0_u32..).zip(&purchase.lines).enumerate() {
        if kept.quantity(i, line) == Amount::ZERO {
            continue;
        }
        let base = shrunk(base(i, line, kept, version)?)?;
        if !(by.whole_steps && per_order) {
            spend = spend.plus(base)?;
        }
        let bonuses = bonuses(version, &mut scope, (i, index), line, &mut rated.failures)?;
        let stepped = match per_unit {
            Some(per_unit) => base.times(per_unit)?,
            None => Exact::from(base.over(per)?.round(Rounding::Floor)?).times(points)?,
        };
        let value = stepped.times(bonuses.factor)?.times(multiplier)?;
        sum = if per_order { sum.plus(value)? } else { Exact::from(rated.points).plus(Exact::from(value.round(earn.rounding)?))? };
        let so_far = sum.round(earn.rounding)?;
        rated.lines.push(LinePoints { line: index, points: so_far - rated.points, bonus: bonuses.held });
        rated.points = so_far;
    }
    rated.spend = spend.to_amount()?;
    if let Some(cap) = earn.caps.per_purchase {
        rated.cap(cap);
    }
    Ok(rated)
}

impl Kept {
    /// Books goods given back, as `refunded` says; by older records, which don't say, as `what` does. Lines that the purchase does not have
    /// are passed over.
    pub fn give_back(&mut self, purchase: &Purchase, what: &Returned, refunded: Option<&Refunded>) {
        self.returned_shipping = refunded.map_or(self.returned_shipping, |refunded| self.returned_shipping.plus(refunded.shipping));
        match what {
            _ if refunded.is_some_and(|refunded| refunded.all_goods) => {
                self.returned = (0..).zip(&purchase.lines).map(|(index, line)| (index, line.quantity)).collect();
                self.returned_amount = Amount::ZERO;
            }
            Returned::Amount(amount) => self.returned_amount = self.returned_amount.plus(refunded.map_or(*amount, |refunded| refunded.goods)),
            Returned::Lines(lines) => {
                let place_of = purchase.places(lines.len());
                let mut quantities: BTreeMap<u32, Amount> = BTreeMap::new();
                for (line_id, quantity) in lines {
                    if let Some(index) = place_of(line_id) {
                        let sum = quantities.entry(index).or_default();
                        *sum = sum.plus(*quantity);
                    }
                }
                self.give_back_lines(quantities);
            }
        }
    }
}
