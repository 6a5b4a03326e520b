//! Matching: goods given back without naming their purchase come from the customer's latest earlier purchases of the same article.

use std::sync::Arc;

use command_service::{Firsts, Planned};
use ledger_core::account::command::{Action, Return, Returned};
use ledger_core::account::{Account, Command};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::Moment;

/// A line of a cancellation.
#[derive(Debug, Clone)]
pub struct Unmatched {
    /// Whose.
    pub account: Id,
    /// The cancellation and the line within it.
    pub reference: String,
    /// The article.
    pub sku: String,
    /// How many are given back.
    pub quantity: Amount,
    /// When.
    pub at: Moment,
}

impl Unmatched {
    /// The command for part `part`, giving back `body`. Where not all is found, the ids say so, so that a second run knows it too.
    fn command(&self, part: usize, whole: bool, body: Return) -> Command {
        let mark = if whole { "" } else { "p" };
        let id = Id::parse(&format!("{}.{part}{mark}", self.reference)).expect("an invoice, a line and a part make an id");
        Command { id, actor: "import".into(), action: Action::Return(Arc::new(body)) }
    }

    /// With which commands the plan may begin, and what of it is then rejected; only their ids matter.
    pub fn firsts(&self) -> Firsts {
        let body = || Return { purchase_id: self.account.clone(), occurred_at: self.at, what: Returned::Amount(self.quantity), shipping: None };
        vec![(self.command(1, true, body()), None), (self.command(1, false, body()), Some(self.only_a_part()))]
    }

    fn only_a_part(&self) -> String {
        format!("earlier purchases of {} hold only a part of the {} given back", self.sku, self.quantity)
    }

    /// From the latest earlier purchase backwards, a return of each until all is found.
    pub fn plan(&self, account: &Account) -> Planned {
        let mut bodies = Vec::new();
        let mut left = self.quantity;
        let mut purchases: Vec<_> = account.purchases.iter().filter(|state| state.purchase.occurred_at <= self.at && state.return_until >= self.at).collect();
        purchases.sort_by_key(|state| std::cmp::Reverse((state.purchase.occurred_at, state.seq)));
        for state in purchases {
            let mut lines = Vec::new();
            for (i, line) in state.purchase.lines.iter().enumerate().filter(|(_, line)| line.sku == self.sku) {
                let quantity = state.kept.quantity(i, line).min(left);
                if quantity > Amount::ZERO {
                    lines.push((line.line_id.clone(), quantity));
                    left = left.minus(quantity);
                }
            }
            if !lines.is_empty() {
                let body = Return { purchase_id: state.purchase.purchase_id.clone(), occurred_at: self.at, what: Returned::Lines(lines), shipping: None };
                bodies.push(body);
            }
        }
        let whole = left == Amount::ZERO;
        let rejected = match bodies.len() {
            _ if whole => None,
            0 => Some(format!("no earlier purchase of {} for the {} given back", self.sku, self.quantity)),
            _ => Some(self.only_a_part()),
        };
        let commands = (1..).zip(bodies).map(|(part, body)| self.command(part, whole, body)).collect();
        Planned { commands, rejected }
    }
}
