//! Matching: goods given back without naming their purchase come from the customer's latest earlier purchases of the same article.
//!
//! A cancellation has its own price. Where a purchase has the same, goods are back. Where the purchase's is higher, it is a price
//! correction: quantity × its own price is taken off what was paid, and the goods stay. A purchase at a lower price is none of its, as no
//! more can be given back of an article than was paid for it. What no purchase holds is a refund of its own where the rulebook's
//! `return.unmatched` lets it lower what was spent. A cancellation is booked whole or not at all. Its money is rounded half up to the minor unit
//! of the currency, as that of a purchase's line is: once for all of it, so that its parts add up.

use std::sync::Arc;

use command_service::Answer;
use ledger_core::account::command::{Action, Refund, Return, Returned};
use ledger_core::account::state::PurchaseState;
use ledger_core::account::{Account, Command, EventKind};
use ledger_core::id::Id;
use ledger_core::points::{Amount, Exact};
use ledger_core::policy::gross;
use ledger_core::time::Moment;
use rust_decimal::RoundingStrategy;
use serde::{Deserialize, Serialize};

/// A line of a cancellation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cancellation {
    /// Whose.
    pub account: Id,
    /// The cancellation and the line within it.
    pub reference: String,
    /// The article.
    pub sku: String,
    /// How many are given back.
    pub quantity: Amount,
    /// At what price of one.
    pub price: Amount,
    /// When.
    pub at: Moment,
}

/// What a cancellation waits for: rows that a corrected file may have otherwise, so that it would be matched otherwise.
#[derive(Debug, Clone)]
pub enum Wait {
    /// For nothing.
    No,
    /// Where no purchase of the customer explains it: for the row of this line, which sold the same to nobody who is named.
    ForItsPurchase(u64),
    /// Whatever the book has; why, in words.
    Always(String),
}

/// By what a cancellation is planned, beside the account.
pub struct Terms {
    /// What it waits for.
    pub wait: Wait,
    /// Whether a refund of then may name no purchase.
    pub reduces_spend: bool,
    /// Those of the currency's minor unit.
    pub decimals: u32,
}

fn rounded(amount: Amount, decimals: u32) -> Amount {
    Amount(amount.0.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero).normalize())
}

fn times(quantity: Amount, price: Amount) -> Amount {
    Amount(quantity.0.saturating_mul(price.0).normalize())
}

/// An earlier purchase, and what is left of what was paid for it.
struct Candidate<'a> {
    state: &'a PurchaseState,
    worth: Amount,
}

impl Candidate<'_> {
    /// The lines of the article that are kept, whose price is as wanted.
    fn lines(&self, sku: &str, price: impl Fn(Amount) -> bool) -> impl Iterator<Item = (&Id, Amount)> {
        let purchase = self.state.purchase.lines.iter().enumerate();
        let lines = purchase.filter(move |(_, line)| line.sku == sku && price(line.unit_price));
        lines.map(|(i, line)| (&line.line_id, self.state.kept.quantity(i, line))).filter(|(_, kept)| *kept > Amount::ZERO)
    }

    fn give_back(&self, at: Moment, what: Returned) -> Return {
        Return { purchase_id: self.state.purchase.purchase_id.clone(), occurred_at: at, what, shipping: None }
    }
}

impl Cancellation {
    /// The kinds and ids of its part `part`. An earlier version ended the id in `p` where it booked a part of a cancellation.
    pub fn parts(&self, part: u32) -> Vec<(&'static str, Id)> {
        vec![("return", self.id(part, "")), ("refund", self.id(part, "")), ("return", self.id(part, "p"))]
    }

    fn id(&self, part: u32, mark: &str) -> Id {
        Id::parse(&format!("{}.{part}{mark}", self.reference)).expect("an invoice, a line and a part make an id")
    }

    fn value(&self) -> Amount {
        times(self.quantity, self.price)
    }

    /// What is paid back for `quantity` of it, once `before` were paid back: the whole is rounded, not each part.
    fn money(&self, before: Amount, quantity: Amount, decimals: u32) -> Amount {
        let until = |quantity: Amount| rounded(times(quantity, self.price), decimals);
        Amount(until(before.plus(quantity)).minus(until(before)).0.normalize())
    }

    /// The returns that it comes to, and a refund of the rest where there may be one.
    pub fn plan(&self, account: &Account, terms: &Terms) -> Result<Vec<Command>, String> {
        if let Wait::Always(why) = &terms.wait {
            return Err(why.clone());
        }
        let mut states: Vec<_> = account.purchases.iter().filter(|state| state.purchase.occurred_at <= self.at && state.return_until >= self.at).collect();
        states.sort_by_key(|state| std::cmp::Reverse((state.purchase.occurred_at, state.seq)));
        let worth = |state: &PurchaseState| gross(&state.purchase, &state.kept).and_then(Exact::to_amount).unwrap_or_default();
        let mut candidates: Vec<Candidate<'_>> = states.into_iter().map(|state| Candidate { state, worth: worth(state) }).collect();
        let mut left = self.quantity;
        let mut returns = Vec::new();
        for candidate in &mut candidates {
            returns.extend(self.goods(candidate, &mut left, terms.decimals));
        }
        for candidate in &mut candidates {
            returns.extend(self.correction(candidate, &mut left, terms.decimals));
        }
        let mut actions: Vec<Action> = returns.into_iter().map(|body| Action::Return(Arc::new(body))).collect();
        if left > Amount::ZERO {
            actions.push(Action::Refund(Box::new(self.refund(left, terms)?)));
        }
        let command = |(part, action)| Command { id: self.id(part, ""), actor: "import".into(), action };
        Ok((1..).zip(actions).map(command).collect())
    }

    /// A refund of the `left` that no purchase holds.
    fn refund(&self, left: Amount, terms: &Terms) -> Result<Refund, String> {
        if !terms.reduces_spend {
            return Err(self.missing(left));
        }
        let Self { sku, price, .. } = self;
        if let Wait::ForItsPurchase(line) = terms.wait {
            return Err(format!("waits for line {line}, which was rejected: it sells {sku} at {price}, tells no customer, and so may be what is given back"));
        }
        let amount = self.money(self.quantity.minus(left), left, terms.decimals);
        if amount == Amount::ZERO {
            return Err(format!("{left} at {price} come to less than can be paid"));
        }
        Ok(Refund { occurred_at: self.at, amount, reference: self.reference.as_str().into() })
    }

    fn missing(&self, left: Amount) -> String {
        let Self { sku, quantity, price, .. } = self;
        if left == *quantity {
            return format!("no earlier purchase of {sku} at {price} or more that could be returned, for the {quantity} given back");
        }
        format!("earlier purchases of {sku} at {price} or more hold only {} of the {quantity} given back", quantity.minus(left))
    }

    /// Goods bought at the same price, as many as are kept of the `left`.
    fn goods(&self, candidate: &mut Candidate<'_>, left: &mut Amount, decimals: u32) -> Option<Return> {
        let mut lines = Vec::new();
        let mut worth = candidate.worth;
        for (line_id, kept) in candidate.lines(&self.sku, |price| price == self.price) {
            let quantity = kept.min(*left);
            // The receipt has them rounded, and what is left of a line is a share of that.
            let exact = times(quantity, self.price);
            let value = exact.min(rounded(exact, decimals));
            // A price correction before may have given back what this line was paid with.
            if quantity > Amount::ZERO && value <= worth {
                lines.push((line_id.clone(), quantity));
                worth = worth.minus(value);
                *left = left.minus(quantity);
            }
        }
        candidate.worth = worth;
        (!lines.is_empty()).then(|| candidate.give_back(self.at, Returned::Lines(lines)))
    }

    /// Money off goods bought at a higher price, for as many as are kept of the `left`.
    fn correction(&self, candidate: &mut Candidate<'_>, left: &mut Amount, decimals: u32) -> Option<Return> {
        let kept = candidate.lines(&self.sku, |price| price > self.price).fold(Amount::ZERO, |sum, (_, kept)| sum.plus(kept));
        let quantity = kept.min(*left);
        let value = self.money(self.quantity.minus(*left), quantity, decimals);
        if value == Amount::ZERO || value > candidate.worth {
            return None;
        }
        candidate.worth = candidate.worth.minus(value);
        *left = left.minus(quantity);
        Some(candidate.give_back(self.at, Returned::Amount(value)))
    }

    /// Whether what was booked under its ids gives back what it does, in a currency of so many `decimals`.
    pub fn is_as_booked<'a>(&self, answers: impl Iterator<Item = &'a Answer>, decimals: u32) -> bool {
        let mut value = Amount::ZERO;
        let mut is_same = true;
        for event in answers.flat_map(|answer| &answer.record.events) {
            let (occurred_at, part) = match &event.kind {
                EventKind::PurchaseReturned(reversed) => {
                    let part = match &reversed.body.what {
                        Returned::Amount(amount) => *amount,
                        Returned::Lines(lines) => {
                            let part = lines.iter().fold(Amount::ZERO, |sum, (_, quantity)| sum.plus(times(*quantity, self.price)));
                            is_same &= reversed.refunded.as_ref().is_none_or(|refunded| self.explains(part.minus(refunded.goods), lines.len(), decimals));
                            part
                        }
                    };
                    (reversed.body.occurred_at, part)
                }
                EventKind::RefundBooked { body, .. } => (body.occurred_at, body.amount),
                _ => continue,
            };
            is_same &= occurred_at == self.at;
            value = value.plus(part);
        }
        // What was paid as an amount was rounded.
        is_same && self.explains(value.minus(self.value()), 1, decimals)
    }

    /// Whether rounding explains `difference` between what this price gives for goods and what was given back for them: a minor unit a line,
    /// where they don't come to whole ones.
    fn explains(&self, difference: Amount, lines: usize, decimals: u32) -> bool {
        let is_rounded = self.price.is_finer_than(decimals) || self.quantity.is_finer_than(0);
        let lines = if is_rounded { u64::try_from(lines).unwrap_or(u64::MAX) } else { 0 };
        let most = times(Amount(lines.into()), Amount::unit(decimals));
        difference <= most && Amount::ZERO.minus(difference) <= most
    }
}
