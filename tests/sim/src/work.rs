//! From a step of the plan to a command for the service, and to the deed that the model does.

use std::sync::Arc;

use ledger_core::account::Command;
use ledger_core::account::command::{Action, Line, Purchase, Reason, Refund, Return, Returned};
use ledger_core::id::{AccountKey, Alias, Id};
use ledger_core::points::Amount;
use ledger_core::time::Moment;
use ledger_schemas::v1;
use prost::Message;

use crate::model::Deed;
use crate::plan::{Ask, BackSpec, LineSpec, Plan, What};
use crate::topic::aliases;

fn id(text: &str) -> Id {
    Id::parse(text).expect("letters and digits")
}

fn moment(us: i64) -> Moment {
    Moment::from_micros(us).expect("a moment of this century")
}

fn amount(units: i64, scale: u32) -> Amount {
    Amount::from_wire(units, scale).expect("a small decimal")
}

fn name(step: usize) -> String {
    format!("c{step}")
}

/// What the plan's step `number` asks, as it was drawn; none where that step was left out.
fn ask_of(plan: &Plan, number: usize) -> Option<&Ask> {
    plan.steps.iter().find(|step| step.number == number).and_then(|step| match &step.what {
        What::Ask { ask, .. } => Some(ask),
        _ => None,
    })
}

/// The command of step `number`, and what it means; none where it repeats a step that was left out.
pub fn command(plan: &Plan, number: usize) -> Option<(Command, Deed)> {
    match ask_of(plan, number)? {
        Ask::Again { of } => command(plan, *of),
        Ask::Changed { of } => changed(ask_of(plan, *of)?).and_then(|ask| made(&ask, *of)),
        ask => made(ask, number),
    }
}

fn card(n: u8) -> String {
    format!("4000-{n}")
}

pub fn alias(card_number: u8) -> Alias {
    aliases().alias(&id("shop"), "card", &card(card_number))
}

/// The command as a shop publishes it, and the type of that; none if shops publish no such. It names its account by a card if one is given.
pub fn message(key: &AccountKey, command: &Command, card_number: Option<u8>) -> Option<(&'static str, Vec<u8>)> {
    let wire = |amount: Amount| Some(v1::Amount { units: amount.units(), scale: amount.scale() });
    let (program, card) = (key.program.to_string(), card_number.map(card).unwrap_or_default());
    let account_id = if card_number.is_none() { key.account.to_string() } else { String::new() };
    match &command.action {
        Action::Earn(purchase) => {
            let line = |line: &Line| v1::Line {
                line_id: line.line_id.to_string(),
                sku: line.sku.to_string(),
                category: line.category.to_string(),
                quantity: wire(line.quantity),
                unit_price: wire(line.unit_price),
                discount: wire(line.discount),
                tax: wire(line.tax),
                amount: line.amount.and_then(wire),
            };
            let message = v1::Purchase {
                purchase_id: purchase.purchase_id.to_string(),
                occurred_at_us: purchase.occurred_at.as_micros(),
                currency: purchase.currency.to_string(),
                channel: purchase.channel.to_string(),
                store: purchase.store.to_string(),
                lines: purchase.lines.iter().map(line).collect(),
                shipping: wire(purchase.shipping),
                program,
                account_id,
                card,
                ..v1::Purchase::default()
            };
            Some(("loyalty.v1.Purchase", message.encode_to_vec()))
        }
        Action::Return(back) => {
            let (lines, amount) = match &back.what {
                Returned::Lines(lines) => (lines.as_slice(), None),
                Returned::Amount(amount) => (&[][..], wire(*amount)),
            };
            let line = |(line, quantity): &(Id, Amount)| v1::ReturnLine { line_id: line.to_string(), quantity: wire(*quantity) };
            let message = v1::PurchaseReturn {
                purchase_id: back.purchase_id.to_string(),
                occurred_at_us: back.occurred_at.as_micros(),
                lines: lines.iter().map(line).collect(),
                amount,
                shipping: back.shipping.and_then(wire),
                return_id: command.id.to_string(),
                program,
                account_id,
                card,
                ..v1::PurchaseReturn::default()
            };
            Some(("loyalty.v1.PurchaseReturn", message.encode_to_vec()))
        }
        _ => None,
    }
}

/// The same kind with other content.
fn changed(ask: &Ask) -> Option<Ask> {
    let mut ask = ask.clone();
    match &mut ask {
        Ask::Earn { lines, .. } => (lines[0].price, lines[0].amount) = (lines[0].price + 100, None),
        Ask::Redeem { points, .. } | Ask::Hold { points, .. } | Ask::Adjust { points } | Ask::Propose { points } => *points += 1000,
        Ask::Capture { points, .. } | Ask::Undo { points, .. } => *points = Some(points.unwrap_or(0) + 1000),
        Ask::Return { occurred_us, .. } => *occurred_us += 1,
        Ask::Refund { amount, .. } => *amount += 10,
        _ => return None,
    }
    Some(ask)
}

fn made(ask: &Ask, number: usize) -> Option<(Command, Deed)> {
    let own = name(number);
    let reason = || Reason { code: "sim".into(), note: String::new() };
    let redemption = |of: &usize| id(&name(*of));
    // Two people, so that some approve what they have proposed themselves.
    let actor = ["anna", "ben"][number % 2];
    let (action, deed) = match ask.clone() {
        Ask::Open => (Action::Open, Deed::Open),
        Ask::Activate => (Action::Activate, Deed::Activate),
        Ask::Freeze => (Action::Freeze(reason()), Deed::Freeze),
        Ask::Unfreeze => (Action::Unfreeze(reason()), Deed::Unfreeze),
        Ask::Close => (Action::Close(reason()), Deed::Close),
        Ask::Earn { occurred_us, lines, currency, shipping } => {
            let mut purchase = purchase(&own, occurred_us, &lines, currency);
            purchase.shipping = amount(shipping, 2);
            (Action::Earn(Arc::new(purchase)), Deed::Earn { id: own.clone(), occurred_us, lines, currency, shipping })
        }
        Ask::Redeem { points, occurred_us } => {
            (Action::Redeem { points, occurred_at: occurred_us.map(moment) }, Deed::Redeem { id: own.clone(), points, occurred_us })
        }
        Ask::Hold { points, minutes, occurred_us } => {
            let action = Action::Hold { points, minutes: Some(minutes), occurred_at: occurred_us.map(moment) };
            (action, Deed::Hold { id: own.clone(), points, minutes, occurred_us })
        }
        Ask::Capture { of, points } => (Action::Capture { redemption: redemption(&of), points }, Deed::Capture { redemption: name(of), points }),
        Ask::Release { of } => (Action::Release { redemption: redemption(&of) }, Deed::Release { redemption: name(of) }),
        Ask::Undo { of, points } => (Action::ReturnRedemption { redemption: redemption(&of), points }, Deed::Undo { redemption: name(of), points }),
        Ask::Return { of, occurred_us, back } => {
            let (what, shipping) = match &back {
                BackSpec::Lines(lines, shipping) => {
                    (Returned::Lines(lines.iter().map(|(i, quantity)| (id(&format!("l{i}")), amount(*quantity, 3))).collect()), *shipping)
                }
                BackSpec::Money(money, shipping) => (Returned::Amount(amount(*money, 2)), *shipping),
            };
            let shipping = shipping.map(|shipping| amount(shipping, 2));
            let body = Return { purchase_id: id(&name(of)), occurred_at: moment(occurred_us), what, shipping };
            (Action::Return(Arc::new(body)), Deed::Return { purchase: name(of), occurred_us, back })
        }
        Ask::Refund { occurred_us, amount: thousandths } => {
            let body = Refund { occurred_at: moment(occurred_us), amount: amount(thousandths, 3), reference: "receipt".into() };
            (Action::Refund(Box::new(body)), Deed::Refund { occurred_us, thousandths })
        }
        Ask::Adjust { points } => (Action::Adjust { points, reason: reason() }, Deed::Adjust { points }),
        Ask::Propose { points } => (Action::Propose { points, reason: reason() }, Deed::Propose { id: own.clone(), maker: actor, points }),
        Ask::Approve { of } => (Action::Approve { proposal: redemption(&of) }, Deed::Approve { proposal: name(of), checker: actor }),
        Ask::Decline { of } => (Action::Decline { proposal: redemption(&of), reason: reason() }, Deed::Decline { proposal: name(of) }),
        Ask::AddAlias(n) => (Action::AddAlias(alias(n)), Deed::AddAlias(n)),
        Ask::RemoveAlias(n) => (Action::RemoveAlias(alias(n)), Deed::RemoveAlias(n)),
        Ask::Again { .. } | Ask::Changed { .. } => return None,
    };
    Some((Command { id: id(&own), actor: actor.into(), action }, deed))
}

fn purchase(name: &str, occurred_us: i64, lines: &[LineSpec], currency: &str) -> Purchase {
    let line = |(i, line): (usize, &LineSpec)| Line {
        line_id: id(&format!("l{i}")),
        sku: line.sku.into(),
        category: line.category.into(),
        quantity: amount(line.quantity, 3),
        unit_price: amount(line.price, 2),
        discount: amount(line.discount, 2),
        tax: amount(line.tax, 2),
        amount: line.amount.map(|charged| amount(charged, 2)),
    };
    Purchase {
        purchase_id: id(name),
        occurred_at: moment(occurred_us),
        currency: currency.into(),
        channel: "web".into(),
        store: "s1".into(),
        lines: lines.iter().enumerate().map(line).collect(),
        shipping: Amount::ZERO,
        origin: None,
    }
}
