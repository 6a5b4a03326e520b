//! What came of what was asked, row by row.

use std::collections::VecDeque;

use anyhow::Context;
use command_service::{Refusal, SourceOutcome};
use ledger_core::account::Rejection;
use ledger_core::account::command::{Action, Returned};
use ledger_core::points::Amount;

use super::matching::Cancellation;
use super::rejects::Rejects;
use super::{Ask, Fault, Imported, What};
use crate::args::Format;

/// Counts rows, and writes down those that are rejected.
pub struct Tally {
    format: Format,
    /// Those of the currency's minor unit.
    decimals: u32,
    rejects: Rejects,
    imported: Imported,
    /// What has not been heard of to its end, in the order it was asked.
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    tag: u64,
    rows: Vec<u64>,
    asked: Asked,
    heard: Vec<SourceOutcome>,
}

enum Asked {
    Purchase,
    /// By this amount, or by lines.
    Return(Option<Amount>),
    Refund,
    Cancellation(Cancellation),
}

impl Tally {
    pub fn new(format: Format, decimals: u32, rejects: Rejects) -> Self {
        Self { format, decimals, rejects, imported: Imported::default(), waiting: VecDeque::new() }
    }

    /// Rows rejected so far.
    pub fn rejected(&self) -> u64 {
        self.imported.rejected
    }

    pub fn reject(&mut self, line: u64, fault: &Fault) -> anyhow::Result<()> {
        self.imported.rejected += 1;
        self.rejects.write(line, fault)
    }

    /// Notes what is asked under `tag`, which is higher than those before.
    pub fn expect(&mut self, tag: u64, ask: &Ask) {
        let asked = match &ask.what {
            What::Cancellation(cancellation) => Asked::Cancellation(cancellation.clone()),
            What::Command(_, command) | What::After(_, _, command) => match &command.action {
                Action::Return(body) => Asked::Return(if let Returned::Amount(amount) = body.what { Some(amount) } else { None }),
                Action::Refund(_) => Asked::Refund,
                _ => Asked::Purchase,
            },
        };
        self.waiting.push_back(Waiting { tag, rows: ask.rows.clone(), asked, heard: Vec::new() });
    }

    /// Takes an outcome. They come in the order of their tags; one tag may have several.
    pub fn hear(&mut self, tag: u64, outcome: SourceOutcome) -> anyhow::Result<()> {
        while self.waiting.front().is_some_and(|waiting| waiting.tag < tag) {
            self.judge()?;
        }
        if let Some(waiting) = self.waiting.front_mut() {
            waiting.heard.push(outcome);
        }
        Ok(())
    }

    /// Counts what is left, and writes the rejected rows.
    pub fn finish(mut self, rows: u64) -> anyhow::Result<Imported> {
        while !self.waiting.is_empty() {
            self.judge()?;
        }
        self.imported.rows = rows;
        self.imported.rejected = self.rejects.finish()?;
        Ok(self.imported)
    }

    /// Tells what became of the rows of the first that waits: one of booked, booked before and rejected.
    fn judge(&mut self) -> anyhow::Result<()> {
        let Some(Waiting { rows, asked, heard, .. }) = self.waiting.pop_front() else { return Ok(()) };
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        let mut answers = Vec::new();
        for outcome in heard {
            match outcome {
                Ok(answer) => answers.extend(answer),
                Err(refusal) if refusal.is_passing() => return Err(refusal).context("run the import again: what was booked is known by its id"),
                Err(refusal) => return self.refused(&rows, &asked, refusal),
            }
        }
        let new = answers.iter().filter(|answer| !answer.replayed).count();
        if let (Asked::Cancellation(cancellation), 0) = (&asked, new)
            && !cancellation.is_as_booked(answers.iter(), self.decimals)
        {
            let fault = Fault::new("Quantity", format!("{} was booked before with another quantity, price or time", cancellation.reference));
            return rows.iter().try_for_each(|line| self.reject(*line, &fault));
        }
        self.imported.commands += u64::try_from(new).unwrap_or(u64::MAX);
        *(if new > 0 { &mut self.imported.booked } else { &mut self.imported.before }) += count;
        Ok(())
    }

    fn refused(&mut self, rows: &[u64], asked: &Asked, refusal: Refusal) -> anyhow::Result<()> {
        let (row, fault) = match refusal {
            Refusal::Invalid(invalid) => {
                let fault = invalid.first().map_or_else(|| Fault::new("", "its form is wrong"), Fault::of);
                if self.format == Format::PurchasesJsonl { (None, fault) } else { fault.of_row() }
            }
            refusal => (None, Fault::new(self.field(asked, &refusal), refusal.to_string())),
        };
        let bad = row.and_then(|row| rows.get(row)).copied();
        for line in rows {
            match bad.filter(|bad| bad != line) {
                Some(bad) => self.reject(*line, &Fault::beside(bad))?,
                None => self.reject(*line, &fault)?,
            }
        }
        Ok(())
    }

    /// The field that a refusal is about.
    fn field(&self, asked: &Asked, refusal: &Refusal) -> &'static str {
        if let Refusal::Rejected(rejection) = refusal
            && let Some(field) = field_of_money(asked, rejection)
        {
            return field;
        }
        let [id, at, account] = match (self.format, asked) {
            (Format::OnlineRetail, _) => ["Invoice", "InvoiceDate", "CustomerID"],
            (_, Asked::Return(_)) => ["return_id", "occurred_at", "account_id"],
            (_, Asked::Refund) => ["refund_id", "occurred_at", "account_id"],
            (_, Asked::Purchase | Asked::Cancellation(_)) => ["purchase_id", "occurred_at", "account_id"],
        };
        match refusal.code() {
            "id_reused" => id,
            "no_rulebook_in_force" | "occurred_in_future" | "return_before_purchase" | "outside_return_window" => at,
            "currency_mismatch" => "currency",
            "purchase_not_found" => "purchase_id",
            "line_not_found" | "return_exceeds_purchase" => "lines",
            "account_not_found" | "account_closed" | "account_frozen" | "account_pending" | "account_stopped" => account,
            "malformed" if matches!(asked, Asked::Cancellation(_)) => "Quantity",
            _ => "",
        }
    }
}

/// Which of the amounts of a return or refund is refused.
fn field_of_money(asked: &Asked, rejection: &Rejection) -> Option<&'static str> {
    match (rejection, asked) {
        (Rejection::AmountTooFine { .. }, Asked::Refund) => Some("amount"),
        (Rejection::AmountTooFine { amount, .. }, Asked::Return(asked)) => Some(if *asked == Some(*amount) { "amount" } else { "shipping" }),
        (Rejection::RefundExceedsPurchase { shipping, shipping_left, .. }, Asked::Return(_)) => {
            Some(if shipping > shipping_left { "shipping" } else { "amount" })
        }
        _ => None,
    }
}
