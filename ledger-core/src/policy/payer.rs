//! Who pays: a bonus may name somebody else than the program, such as a brand, for the points that it adds.
//!
//! Invariants: what payers pay is never more than the points; without a payer in the rulebook nothing is computed; the program pays the rest.

use std::collections::BTreeMap;

use super::program::Version;
use super::rate::LinePoints;
use super::rulebook::Bonus;
use crate::account::event::LotId;
use crate::id::Id;
use crate::points::{Amount, Exact, Points, Rounding, TooLarge};

/// Points of a lot that somebody else than the program pays for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The lot.
    pub lot: LotId,
    /// Who.
    pub payer: Id,
    /// How many points.
    pub points: Points,
}

/// Who pays for how many of the points of `lines`, which are in `lot`; by payer.
///
/// Bonuses multiply, so what they add together is shared by what each would add alone: of a line's points P under the factors
/// m₁, m₂ … above 1, whose product is F, the payer of mᵢ pays P × (F − 1)/F × (mᵢ − 1)/Σ(m − 1). Each payer's sum over the purchase is
/// rounded down.
///
/// # Errors
/// [`TooLarge`] when the factors have more digits than can be shared exactly.
pub fn paid_by(lot: LotId, lines: &[LinePoints], version: &Version) -> Result<Vec<Paid>, TooLarge> {
    if !version.has_payers() {
        return Ok(Vec::new());
    }
    let rules = &version.rulebook.earn.bonus;
    let mut by_bonuses: BTreeMap<&[Id], Points> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.bonus.is_empty()) {
        *by_bonuses.entry(&line.bonus).or_default() += line.points;
    }
    let mut by_payer: BTreeMap<&Id, Exact> = BTreeMap::new();
    for (held, points) in by_bonuses {
        let more: Vec<&Bonus> = rules.iter().filter(|bonus| bonus.multiply > Amount::ONE && held.contains(&bonus.id)).collect();
        let alone = |bonus: &Bonus| Exact::of(bonus.multiply).minus(Exact::ONE);
        let factor = more.iter().try_fold(Exact::ONE, |factor, bonus| factor.times(Exact::of(bonus.multiply)))?;
        let whole = more.iter().try_fold(Exact::ZERO, |sum, bonus| sum.plus(alone(bonus)?))?;
        for bonus in more {
            let Some(payer) = &bonus.paid_by else { continue };
            let added = Exact::from(points).times(factor.minus(Exact::ONE)?.over(factor)?)?;
            let sum = by_payer.entry(payer).or_insert(Exact::ZERO);
            *sum = sum.plus(added.times(alone(bonus)?.over(whole)?)?)?;
        }
    }
    let mut paid = Vec::with_capacity(by_payer.len());
    for (payer, exact) in by_payer {
        let points = exact.round(Rounding::Floor)?;
        if points != 0 {
            paid.push(Paid { lot, payer: payer.clone(), points });
        }
    }
    Ok(paid)
}

/// What is paid less (or, negative, more) after a return than before it, by payer, also those for whom nothing changed.
#[must_use]
pub fn paid_less(before: &[Paid], after: &[Paid]) -> Vec<Paid> {
    let mut less: BTreeMap<(LotId, &Id), Points> = BTreeMap::new();
    for (sign, all) in [(1, before), (-1, after)] {
        for paid in all {
            *less.entry((paid.lot, &paid.payer)).or_default() += sign * paid.points;
        }
    }
    less.into_iter().map(|((lot, payer), points)| Paid { lot, payer: payer.clone(), points }).collect()
}
