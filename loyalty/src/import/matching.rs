//! Matching: goods given back without naming their purchase come from the customer's latest earlier purchases of the same article.

use std::sync::Arc;

use command_service::Planned;
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
    /// The command for part `part`, giving back `body`.
    pub fn command(&self, part: usize, body: Return) -> Command {
        let id = Id::parse(&format!("{}.{part}", self.reference)).expect("an invoice, a line and a part make an id");
        Command { id, actor: "import".into(), action: Action::Return(Arc::new(body)) }
    }

    /// Stands for the first part where only its id matters.
    pub fn first_guess(&self) -> Return {
        Return { purchase_id: self.account.clone(), occurred_at: self.at, what: Returned::Amount(self.quantity) }
    }

    /// From the latest earlier purchase backwards, a return of each until all is found.
    pub fn plan(&self, account: &Account) -> Planned {
        let mut planned = Planned::default();
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
                let body = Return { purchase_id: state.purchase.purchase_id.clone(), occurred_at: self.at, what: Returned::Lines(lines) };
                planned.commands.push(self.command(planned.commands.len() + 1, body));
            }
            if left == Amount::ZERO {
                return planned;
            }
        }
        let of = if left == self.quantity { String::new() } else { format!(" {left} of") };
        planned.rejected = Some(format!("no earlier purchase of {} for{of} the {} given back", self.sku, self.quantity));
        planned
    }
}
