//! A refund: how its money divides between goods and shipping, and what is kept of the goods after it.
//!
//! Shops round every line of a receipt and every refund, so the last refund of a purchase may exceed what is left by a cent, or by half a cent
//! a line: it gives all goods back, and what earned points leaves none behind.

use std::collections::BTreeMap;

use crate::account::command::{Purchase, Return, Returned};
use crate::account::event::Refunded;
use crate::account::rejection::Rejection;
use crate::account::state::PurchaseState;
use crate::currency::minor_digits;
use crate::id::Id;
use crate::points::{Amount, Exact, TooLarge};
use crate::policy::{Kept, gross};

/// What of a purchase is not given back yet.
struct Left<'a> {
    purchase: &'a Purchase,
    kept: &'a Kept,
    goods: Exact,
    shipping: Amount,
    /// The decimals of the smallest amount that can be paid.
    decimals: u32,
}

/// What is kept after the return, and what it gives back.
pub(super) fn divide(state: &PurchaseState, body: &Return) -> Result<(Kept, Refunded), Rejection> {
    let (purchase, kept) = (&*state.purchase, &state.kept);
    let goods = gross(purchase, kept).map_err(too_large)?;
    let decimals = minor_digits(&purchase.currency).unwrap_or(6);
    let left = Left { purchase, kept, goods, shipping: purchase.shipping.minus(kept.returned_shipping), decimals };
    let refunded = match &body.what {
        Returned::Lines(lines) => left.lines(lines, body.shipping)?,
        Returned::Amount(amount) => left.amount(*amount, body.shipping)?,
    };
    left.check_payable(body)?;
    let mut kept = kept.clone();
    kept.give_back(purchase, &body.what, Some(&refunded));
    Ok((kept, refunded))
}

fn too_large(_: TooLarge) -> Rejection {
    Rejection::AmountTooLarge
}

/// As a record has it, without zeros at the end, so that what was simulated reads like what then happened.
fn refunded(goods: Amount, shipping: Amount, all_goods: bool) -> Refunded {
    Refunded { goods: Amount(goods.0.normalize()), shipping: Amount(shipping.0.normalize()), all_goods }
}

fn money(goods: Exact) -> Result<Amount, Rejection> {
    goods.to_amount().map_err(too_large)
}

impl Left<'_> {
    fn lines(&self, lines: &[(Id, Amount)], shipping: Option<Amount>) -> Result<Refunded, Rejection> {
        let mut quantities: BTreeMap<u32, Amount> = BTreeMap::new();
        let place_of = self.purchase.places(lines.len());
        for (line_id, returned) in lines {
            let Some(index) = place_of(line_id) else {
                return Err(Rejection::LineNotFound { purchase_id: self.purchase.purchase_id.clone(), line_id: line_id.clone() });
            };
            let place = index as usize;
            let sum = quantities.entry(index).or_default();
            let left = self.kept.quantity(place, &self.purchase.lines[place]).minus(*sum);
            if *returned > left {
                return Err(Rejection::ReturnExceedsPurchase { returned: *returned, kept: left });
            }
            *sum = sum.plus(*returned);
        }
        let mut kept = self.kept.clone();
        kept.give_back_lines(quantities);
        let after = gross(self.purchase, &kept).map_err(too_large)?;
        let (before, rest) = (money(self.goods)?, money(after)?);
        // The goods can't come to less than nothing, unless money was given back for them before.
        if self.exceeds(Exact::ZERO.minus(after).map_err(too_large)?)? {
            return Err(Rejection::ReturnExceedsPurchase { returned: before.minus(rest), kept: before });
        }
        let shipping = shipping.unwrap_or(Amount::ZERO);
        if shipping > self.shipping {
            return Err(self.refused(shipping, shipping));
        }
        let all_goods = kept.returned_amount > Amount::ZERO && self.is_too_little(after)?;
        Ok(refunded(if all_goods { before } else { before.minus(rest) }, shipping, all_goods))
    }

    fn amount(&self, amount: Amount, named: Option<Amount>) -> Result<Refunded, Rejection> {
        let over = Exact::of(amount).minus(self.goods).map_err(too_large)?;
        let shipping = match named {
            Some(shipping) => shipping,
            None if over.is_positive() => over.whole_units(Amount::unit(self.decimals)).map_err(too_large)?.min(self.shipping),
            None => Amount::ZERO,
        };
        let goods = amount.minus(shipping);
        let excess = Exact::of(goods).minus(self.goods).map_err(too_large)?;
        let any_left = self.goods.is_positive() || (named.is_none() && shipping > Amount::ZERO);
        if shipping > self.shipping || self.exceeds(excess)? || (excess.is_positive() && !any_left) {
            return Err(self.refused(amount, shipping));
        }
        let short = self.goods.minus(Exact::of(goods)).map_err(too_large)?;
        let all_goods = goods > Amount::ZERO && self.is_too_little(short)?;
        Ok(refunded(if all_goods { money(self.goods)? } else { goods }, shipping, all_goods))
    }

    /// Whether `rest` is less than half of what can be paid, so that nobody can ask for it.
    fn is_too_little(&self, rest: Exact) -> Result<bool, Rejection> {
        let half = Exact::of(Amount::unit(self.decimals)).over(Exact::from(2));
        Ok(half.and_then(|half| half.minus(rest)).map_err(too_large)?.is_positive())
    }

    /// Whether `excess` over what is left is more than rounding explains: a minor unit, or half of one for each line that is kept.
    fn exceeds(&self, excess: Exact) -> Result<bool, Rejection> {
        let lines = self.purchase.lines.iter().enumerate().filter(|(i, line)| self.kept.quantity(*i, line) > Amount::ZERO).count();
        let halves = Exact::from(i64::try_from(lines.max(2)).unwrap_or(i64::MAX));
        let most = Exact::of(Amount::unit(self.decimals)).times(halves).and_then(|most| most.over(Exact::from(2)));
        let beyond = most.and_then(|most| excess.minus(most)).map_err(too_large)?;
        Ok(beyond.is_positive())
    }

    fn refused(&self, refunded: Amount, shipping: Amount) -> Rejection {
        let refused = |goods_left| Rejection::RefundExceedsPurchase { refunded, shipping, goods_left, shipping_left: self.shipping };
        money(self.goods).map_or_else(|error| error, refused)
    }

    /// Money is given back in what can be paid; where the currency has no minor unit, that is any amount.
    fn check_payable(&self, body: &Return) -> Result<(), Rejection> {
        let amount = if let Returned::Amount(amount) = body.what { Some(amount) } else { None };
        match amount.into_iter().chain(body.shipping).find(|amount| amount.is_finer_than(self.decimals)) {
            Some(amount) => Err(Rejection::AmountTooFine { amount, currency: self.purchase.currency.to_string(), decimals: self.decimals }),
            None => Ok(()),
        }
    }
}
