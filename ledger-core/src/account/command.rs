//! What can be asked of an account. Invariant: a command that passed [`Command::check`] is well formed; whether it is granted is
//! for decide.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use compact_str::CompactString;
use rust_decimal::RoundingStrategy;
use serde::{Deserialize, Serialize};

use crate::currency::minor_digits;
use crate::id::{Alias, Id};
use crate::points::{Amount, POINTS_MAX, Points};
use crate::policy::Invalid;
use crate::text::{VISIBLE_LINES, hidden, hidden_in_lines};
use crate::time::Moment;

/// The most lines that one purchase may have.
pub const LINES_MAX: usize = 5000;

/// A request to one account.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The idempotency key, within the program and the kind of action.
    pub id: Id,
    /// Who asks: the name of an API key, an import, the clock.
    pub actor: CompactString,
    /// What is asked.
    pub action: Action,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open the account.
    Open,
    /// Make a pending account active.
    Activate,
    /// Stop earning and redeeming.
    Freeze(Reason),
    /// Undo a freeze.
    Unfreeze(Reason),
    /// End the account.
    Close(Reason),
    /// Give points for a purchase.
    Earn(Arc<Purchase>),
    /// Spend points at once.
    Redeem {
        /// How many.
        points: Points,
        /// When, if it is told later than it occurred, as by a till that was offline.
        occurred_at: Option<Moment>,
    },
    /// Set points aside until they are captured, released or the hold lapses.
    Hold {
        /// How many.
        points: Points,
        /// After how many minutes the hold lapses; the rulebook's time if none.
        minutes: Option<u32>,
        /// When, if it is told later than it occurred.
        occurred_at: Option<Moment>,
    },
    /// Spend held points, whole or in part.
    Capture {
        /// The redemption that holds them.
        redemption: Id,
        /// How many; all that are still held if none.
        points: Option<Points>,
    },
    /// Give held points back.
    Release {
        /// The redemption that holds them.
        redemption: Id,
    },
    /// Give spent points back.
    ReturnRedemption {
        /// The redemption that spent them.
        redemption: Id,
        /// How many; all that were not given back yet if none.
        points: Option<Points>,
    },
    /// Give goods back.
    Return(Arc<Return>),
    /// Give money back for a purchase that the book does not have.
    Refund(Box<Refund>),
    /// Change the balance by hand.
    Adjust {
        /// Up or down; not 0.
        points: Points,
        /// Why.
        reason: Reason,
    },
    /// Ask for a change of the balance by hand, which somebody else must approve.
    Propose {
        /// Up or down; not 0.
        points: Points,
        /// Why.
        reason: Reason,
    },
    /// Do what somebody else proposed.
    Approve {
        /// Which.
        proposal: Id,
    },
    /// Let a proposal go: its maker takes it back, or somebody refuses it.
    Decline {
        /// Which.
        proposal: Id,
        /// Why.
        reason: Reason,
    },
    /// Let the account be found by another name.
    AddAlias(Alias),
    /// Let it be found by that name no more.
    RemoveAlias(Alias),
    /// Do what has fallen due by the clock: points that mature or expire, holds that lapse, tiers to review.
    Expire,
}

impl Action {
    /// The name of the kind, as in metrics, outcomes and idempotency keys.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Activate => "activate",
            Self::Freeze(_) => "freeze",
            Self::Unfreeze(_) => "unfreeze",
            Self::Close(_) => "close",
            Self::Earn(_) => "purchase",
            Self::Redeem { .. } | Self::Hold { .. } => "redemption",
            Self::Capture { .. } => "capture",
            Self::Release { .. } => "release",
            Self::ReturnRedemption { .. } => "redemption_return",
            Self::Return(_) => "return",
            Self::Refund(_) => "refund",
            Self::Adjust { .. } => "adjustment",
            Self::Propose { .. } => "proposal",
            Self::Approve { .. } => "approval",
            Self::Decline { .. } => "proposal_decline",
            Self::AddAlias(_) => "alias",
            Self::RemoveAlias(_) => "alias_removal",
            Self::Expire => "expire",
        }
    }
}

/// Why somebody did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A code of the program's own.
    pub code: CompactString,
    /// Free text; no personal data belongs here.
    pub note: String,
}

/// A purchase, as the shop published it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Purchase {
    /// Its id.
    pub purchase_id: Id,
    /// When it was made.
    pub occurred_at: Moment,
    /// ISO 4217 code.
    pub currency: CompactString,
    /// Such as `store` or `web`.
    pub channel: CompactString,
    /// Which store.
    pub store: CompactString,
    /// What was bought.
    pub lines: Vec<Line>,
    /// What was paid for shipping; it earns nothing.
    pub shipping: Amount,
    /// By whom and on what it was taken, where the shop tells; it earns nothing, but fraud is seen by it.
    pub origin: Option<Box<Origin>>,
}

/// By whom and on what a purchase was taken: opaque names of the shop's own, each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The member of staff.
    pub cashier: CompactString,
    /// The till.
    pub till: CompactString,
    /// The member's device.
    pub device: CompactString,
    /// A token of the card that was paid with; never its number.
    pub card_token: CompactString,
}

/// A line of a purchase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Its id within the purchase.
    pub line_id: Id,
    /// Stock-keeping unit.
    pub sku: CompactString,
    /// Category of goods.
    pub category: CompactString,
    /// How many, or how much.
    pub quantity: Amount,
    /// The price of one, tax included.
    pub unit_price: Amount,
    /// What was taken off the line.
    pub discount: Amount,
    /// The tax contained in the line after discount.
    pub tax: Amount,
    /// What the receipt says was charged for the line, tax included; it replaces quantity × price − discount.
    pub amount: Option<Amount>,
}

/// Goods given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Return {
    /// The purchase they came from.
    pub purchase_id: Id,
    /// When they were given back.
    pub occurred_at: Moment,
    /// What was given back.
    pub what: Returned,
    /// What of the shipping was given back: of an amount, the part that is not for goods; with lines, beside them. If it is left out, an
    /// amount is for the goods first and then for the shipping.
    pub shipping: Option<Amount>,
}

/// What was given back of a purchase.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Returned {
    /// Quantities of lines, by line id.
    Lines(Vec<(Id, Amount)>),
    /// A sum of money, no line named; shipping is part of it.
    Amount(Amount),
}

/// Money given back for a purchase that the book does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    /// When it was given back.
    pub occurred_at: Moment,
    /// How much.
    pub amount: Amount,
    /// What the shop refers to, such as the line of a cancellation; may be empty.
    pub reference: CompactString,
}

impl Command {
    /// Checks the form.
    ///
    /// # Errors
    /// The first field that is wrong, with what would be right.
    pub fn check(&self) -> Result<(), Invalid> {
        match &self.action {
            Action::Earn(purchase) => purchase.check(),
            Action::Return(body) => body.check(),
            Action::Refund(body) => body.check(),
            Action::Redeem { points, .. } => check_points(*points),
            Action::Capture { points, .. } | Action::ReturnRedemption { points, .. } => points.map_or(Ok(()), check_points),
            Action::Hold { points, minutes, .. } => {
                check_points(*points)?;
                match minutes {
                    Some(minutes) if !(1..=527_040).contains(minutes) => Err(Invalid::new("/hold_minutes", minutes, "1 to 527040 minutes (366 days)")),
                    _ => Ok(()),
                }
            }
            Action::Adjust { points, reason } | Action::Propose { points, reason } => {
                if *points == 0 || points.unsigned_abs() > POINTS_MAX.unsigned_abs() {
                    return Err(Invalid::new("/points", points, "a whole number of points, not 0"));
                }
                reason.check()
            }
            Action::Freeze(reason) | Action::Unfreeze(reason) | Action::Close(reason) | Action::Decline { reason, .. } => reason.check(),
            Action::Open | Action::Activate | Action::Expire | Action::Release { .. } | Action::Approve { .. } => Ok(()),
            Action::AddAlias(_) | Action::RemoveAlias(_) => Ok(()),
        }
    }
}

fn check_points(points: Points) -> Result<(), Invalid> {
    if (1..=POINTS_MAX).contains(&points) { Ok(()) } else { Err(Invalid::new("/points", points, "a whole number of points, 1 or more")) }
}

fn check_label(pointer: impl Display, label: &str) -> Result<(), Invalid> {
    if label.len() <= 64 && hidden(label).is_none() {
        return Ok(());
    }
    let start: String = label.chars().take(80).collect();
    Err(Invalid::new(pointer.to_string(), format!("{start:?}"), "at most 64 bytes without control characters or others that can't be seen"))
}

fn check_amount(pointer: impl Display, amount: Amount, positive: bool) -> Result<(), Invalid> {
    check_unsigned(pointer, amount, positive, "")
}

/// As above; `instead` tells those who used a sign to take something off where it belongs.
fn check_unsigned(pointer: impl Display, amount: Amount, positive: bool, instead: &str) -> Result<(), Invalid> {
    let least = amount > Amount::ZERO || (!positive && amount == Amount::ZERO);
    if least && amount.in_range() {
        return Ok(());
    }
    let expected = if positive { "a decimal above 0" } else { "a decimal, 0 or more" };
    let instead = if amount < Amount::ZERO { instead } else { "" };
    Err(Invalid::new(pointer.to_string(), amount, format!("{expected}, with at most 6 decimals{instead}")))
}

/// Money that changes hands has no more decimals than the currency's minor unit.
fn check_paid(pointer: impl Display, amount: Amount, currency: &str) -> Result<(), Invalid> {
    // Most are whole, and need no look at the table.
    let decimals = if amount.scale() == 0 { None } else { minor_digits(currency) };
    match decimals.filter(|decimals| amount.is_finer_than(*decimals)) {
        Some(decimals) => Err(Invalid::new(pointer.to_string(), amount, format!("an amount that can be paid in {currency}: at most {decimals} decimals"))),
        None => Ok(()),
    }
}

impl Reason {
    fn check(&self) -> Result<(), Invalid> {
        if self.code.is_empty() {
            return Err(Invalid::new("/reason_code", "\"\"", "a reason code of 1 to 64 characters"));
        }
        check_label("/reason_code", &self.code)?;
        if self.note.len() > 1000 {
            return Err(Invalid::new("/note", format!("{} bytes", self.note.len()), "at most 1000 bytes"));
        }
        if let Some(character) = hidden_in_lines(&self.note) {
            return Err(Invalid::new("/note", format!("{character:?}"), VISIBLE_LINES));
        }
        Ok(())
    }
}

impl Purchase {
    /// What was charged for its goods, after discounts; each line rounded to `decimals`, if any.
    #[must_use]
    pub fn charge(&self, decimals: Option<u32>) -> Amount {
        self.lines.iter().fold(Amount::ZERO, |sum, line| sum.plus(line.charge(decimals)))
    }

    /// Where lines stand, by their ids. To find `count` of many is to make an index first: one look for each goes through all lines.
    pub(crate) fn places(&self, count: usize) -> impl Fn(&Id) -> Option<u32> {
        const FEW: usize = 16;
        let places = || (0_u32..).zip(self.lines.iter().map(|line| &line.line_id));
        let index: Option<BTreeMap<&Id, u32>> = (count > FEW).then(|| places().map(|(place, id)| (id, place)).collect());
        move |id| match &index {
            Some(index) => index.get(id).copied(),
            None => places().find(|(_, other)| *other == id).map(|(place, _)| place),
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        if self.currency.len() != 3 || !self.currency.bytes().all(|b| b.is_ascii_uppercase()) {
            return Err(Invalid::new("/currency", format!("{:?}", self.currency), "an ISO 4217 code of three capital letters"));
        }
        check_label("/channel", &self.channel)?;
        check_label("/store", &self.store)?;
        check_amount("/shipping", self.shipping, false)?;
        check_paid("/shipping", self.shipping, &self.currency)?;
        if let Some(origin) = &self.origin {
            let labels = [("cashier", &origin.cashier), ("till", &origin.till), ("device", &origin.device), ("card_token", &origin.card_token)];
            labels.into_iter().try_for_each(|(name, label)| check_label(format_args!("/{name}"), label))?;
        }
        if self.lines.is_empty() || self.lines.len() > LINES_MAX {
            return Err(Invalid::new("/lines", format!("{} lines", self.lines.len()), format!("1 to {LINES_MAX} lines")));
        }
        for (i, line) in self.lines.iter().enumerate() {
            line.check(i, &self.currency)?;
        }
        if self.lines.len() == 1 {
            return Ok(());
        }
        let mut ids: Vec<&Id> = self.lines.iter().map(|line| &line.line_id).collect();
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Invalid::new("/lines", format!("line_id {:?} twice", pair[0]), "a line_id of its own for each line")),
            None => Ok(()),
        }
    }

    /// A purchase with a line, to try conditions on.
    pub(crate) fn sample() -> Self {
        let id = Id::parse("sample").expect("six letters are an id");
        let line = Line {
            line_id: id.clone(),
            sku: CompactString::const_new("sku"),
            category: CompactString::const_new("category"),
            quantity: Amount::ONE,
            unit_price: Amount::ONE,
            discount: Amount::ZERO,
            tax: Amount::ZERO,
            amount: None,
        };
        Self {
            purchase_id: id,
            occurred_at: Moment::default(),
            currency: CompactString::const_new("XXX"),
            channel: CompactString::const_new("web"),
            store: CompactString::const_new("store"),
            lines: vec![line],
            shipping: Amount::ZERO,
            origin: None,
        }
    }
}

impl Line {
    /// Quantity × price. Lines are in range (12 digits before the point, 6 after, each), and so is the sum of 5,000 of their products in a
    /// decimal's 28 digits, but for its last decimals, which a saturating product rounds.
    fn value(&self) -> Amount {
        Amount(self.quantity.0.saturating_mul(self.unit_price.0))
    }

    /// What was charged for it, tax included: its `amount`; else quantity × price − discount, rounded half up to `decimals` as on a receipt,
    /// or not at all if there are none.
    #[must_use]
    pub fn charge(&self, decimals: Option<u32>) -> Amount {
        let value = || self.value().minus(self.discount);
        match (self.amount, decimals) {
            (Some(amount), _) => amount,
            (None, Some(decimals)) => Amount(value().0.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero)),
            (None, None) => value(),
        }
    }

    fn check(&self, i: usize, currency: &str) -> Result<(), Invalid> {
        const OFF: &str = "; what is taken off the bill goes into the discount of its lines";
        const BACK: &str = "; goods that come back are a return, and what is taken off the bill goes into the discount of its lines";
        check_label(format_args!("/lines/{i}/sku"), &self.sku)?;
        check_label(format_args!("/lines/{i}/category"), &self.category)?;
        check_unsigned(format_args!("/lines/{i}/quantity"), self.quantity, true, BACK)?;
        check_unsigned(format_args!("/lines/{i}/unit_price"), self.unit_price, false, OFF)?;
        check_unsigned(format_args!("/lines/{i}/discount"), self.discount, false, "; a discount is what is taken off the line, without a sign")?;
        check_amount(format_args!("/lines/{i}/tax"), self.tax, false)?;
        let charge = self.value().minus(self.discount);
        if let Some(amount) = self.amount {
            let pointer = format!("/lines/{i}/amount");
            check_unsigned(&pointer, amount, false, OFF)?;
            check_paid(&pointer, amount, currency)?;
            let decimals = minor_digits(currency);
            let (off, unit) = (amount.minus(charge), Amount::unit(decimals.unwrap_or(6)));
            if off > unit || Amount::ZERO.minus(off) > unit {
                let right = Self { amount: None, ..self.clone() }.charge(decimals);
                let expected = format!("{right}, or {unit} more or less: quantity × unit_price − discount = {}", Amount(charge.0.normalize()));
                return Err(Invalid::new(pointer, amount, expected));
            }
        }
        if charge < Amount::ZERO && self.amount.is_none() {
            let expected = format!("at most quantity × unit_price = {}", Amount(self.value().0.normalize()));
            return Err(Invalid::new(format!("/lines/{i}/discount"), self.discount, expected));
        }
        // What was charged is rounded, and so is the tax on a receipt.
        let charged = charge.max(self.charge(minor_digits(currency)));
        if self.tax > charged {
            let expected = format!("at most what was charged for the line, {}", Amount(charged.0.normalize()));
            return Err(Invalid::new(format!("/lines/{i}/tax"), self.tax, expected));
        }
        Ok(())
    }
}

impl Refund {
    fn check(&self) -> Result<(), Invalid> {
        check_amount("/amount", self.amount, true)?;
        check_label("/reference", &self.reference)
    }
}

impl Return {
    fn check(&self) -> Result<(), Invalid> {
        self.shipping.map_or(Ok(()), |shipping| check_amount("/shipping", shipping, false))?;
        match &self.what {
            Returned::Amount(amount) => {
                check_amount("/amount", *amount, true)?;
                match self.shipping.filter(|shipping| shipping > amount) {
                    Some(shipping) => Err(Invalid::new("/shipping", shipping, format!("at most the amount of {amount}, of which it is part"))),
                    None => Ok(()),
                }
            }
            Returned::Lines(lines) if lines.is_empty() || lines.len() > LINES_MAX => {
                Err(Invalid::new("/lines", format!("{} lines", lines.len()), format!("1 to {LINES_MAX} lines, or an amount")))
            }
            Returned::Lines(lines) => {
                lines.iter().enumerate().try_for_each(|(i, (_, quantity))| check_amount(format_args!("/lines/{i}/quantity"), *quantity, true))
            }
        }
    }
}
