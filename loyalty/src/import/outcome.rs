//! What came of what was asked, row by row.

use std::collections::{HashMap, VecDeque};

use anyhow::Context;
use command_service::{Refusal, SourceOutcome};
use ledger_core::account::Rejection;
use ledger_core::account::command::{Action, Returned};
use ledger_core::id::Id;
use ledger_core::points::Amount;

use super::matching::{Cancellation, Wait};
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
    /// The highest tag that was heard of.
    heard: u64,
    purchases: Purchases,
}

/// What the purchases of a file come to that has cancellations, which depend on it.
#[derive(Default)]
struct Purchases {
    /// The tag of each account's latest; of those that were heard of, some.
    latest: HashMap<Id, u64>,
    /// The line of each account's first that was refused.
    refused: HashMap<Id, u64>,
}

/// So many accounts' latest purchases are kept before those that were heard of are forgotten.
const LATEST_MAX: usize = 50_000;

struct Waiting {
    tag: u64,
    rows: Vec<u64>,
    asked: Asked,
    heard: Vec<SourceOutcome>,
}

enum Asked {
    /// Whose.
    Purchase(Id),
    /// By this amount, or by lines.
    Return(Option<Amount>),
    Refund,
    Cancellation {
        cancellation: Cancellation,
        /// It is refused whatever the book has.
        waits: bool,
    },
}

impl Tally {
    pub fn new(format: Format, decimals: u32, rejects: Rejects) -> Self {
        Self { format, decimals, rejects, imported: Imported::default(), waiting: VecDeque::new(), heard: 0, purchases: Purchases::default() }
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
            What::Cancellation(cancellation, wait) => Asked::Cancellation { cancellation: cancellation.clone(), waits: matches!(wait, Wait::Always(_)) },
            What::Command(account, command) | What::After(account, _, command) => match &command.action {
                Action::Return(body) => Asked::Return(if let Returned::Amount(amount) = body.what { Some(amount) } else { None }),
                Action::Refund(_) => Asked::Refund,
                _ => Asked::Purchase(account.clone()),
            },
        };
        if let (Asked::Purchase(account), Format::OnlineRetail) = (&asked, self.format) {
            self.purchases.expect(account, tag, self.heard);
        }
        self.waiting.push_back(Waiting { tag, rows: ask.rows.clone(), asked, heard: Vec::new() });
    }

    /// Takes an outcome. They come in the order of their tags; one tag may have several.
    pub fn hear(&mut self, tag: u64, outcome: SourceOutcome) -> anyhow::Result<()> {
        while self.waiting.front().is_some_and(|waiting| waiting.tag < tag) {
            self.judge()?;
        }
        self.heard = tag;
        if let Some(waiting) = self.waiting.front_mut() {
            if self.format == Format::OnlineRetail
                && let (Err(refusal), Asked::Purchase(account), Some(line)) = (&outcome, &waiting.asked, waiting.rows.first())
                // An invoice that is in the book as it was before is one that cancellations can be matched with.
                && refusal.code() != "id_reused"
            {
                self.purchases.refused.entry(account.clone()).or_insert(*line);
            }
            waiting.heard.push(outcome);
        }
        Ok(())
    }

    /// Whether a purchase of `account` was not heard of yet.
    pub fn awaits_purchase(&self, account: &Id) -> bool {
        self.purchases.latest.get(account).is_some_and(|tag| *tag > self.heard)
    }

    /// The line of the first purchase of `account` that was refused, of those that were heard of.
    pub fn refused_purchase(&self, account: &Id) -> Option<u64> {
        self.purchases.refused.get(account).copied()
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
        if let (Asked::Cancellation { cancellation, .. }, 0) = (&asked, new)
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
        let (row, mut fault) = match refusal {
            Refusal::Invalid(invalid) => {
                let fault = invalid.first().map_or_else(|| Fault::new("", "its form is wrong"), Fault::of);
                if self.format == Format::PurchasesJsonl { (None, fault) } else { fault.of_row() }
            }
            refusal => (None, Fault::new(self.field(asked, &refusal), refusal.to_string())),
        };
        if self.format == Format::OnlineRetail {
            fault.field = retail_column(&fault.field).to_owned();
        }
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
            (_, Asked::Purchase(_) | Asked::Cancellation { .. }) => ["purchase_id", "occurred_at", "account_id"],
        };
        match refusal.code() {
            // No field of the row is wrong: another row is.
            _ if matches!(asked, Asked::Cancellation { waits: true, .. }) => "",
            "id_reused" | "refund_unmatched" => id,
            "no_rulebook_in_force" | "occurred_in_future" | "return_before_purchase" | "outside_return_window" => at,
            "currency_mismatch" => "currency",
            "purchase_not_found" => "purchase_id",
            "line_not_found" | "return_exceeds_purchase" | "amount_too_large" | "too_many_conditions" => "lines",
            "account_full" | "account_not_found" | "account_closed" | "account_frozen" | "account_pending" | "account_stopped" => account,
            "malformed" if matches!(asked, Asked::Cancellation { .. }) => "Quantity",
            _ => "",
        }
    }
}

impl Purchases {
    fn expect(&mut self, account: &Id, tag: u64, heard: u64) {
        if self.latest.len() >= LATEST_MAX {
            self.latest.retain(|_, tag| *tag > heard);
        }
        self.latest.insert(account.clone(), tag);
    }
}

/// The column of the Online Retail format that a field of the API is made of.
fn retail_column(field: &str) -> &str {
    match field {
        "unit_price" => "Price",
        "quantity" | "amount" | "lines" => "Quantity",
        "sku" => "StockCode",
        "occurred_at" => "InvoiceDate",
        other => other,
    }
}

/// Which of the amounts of a return or refund is refused.
fn field_of_money(asked: &Asked, rejection: &Rejection) -> Option<&'static str> {
    match (rejection, asked) {
        (Rejection::AmountTooFine { .. }, Asked::Refund | Asked::Cancellation { .. }) => Some("amount"),
        (Rejection::AmountTooFine { amount, .. }, Asked::Return(asked)) => Some(if *asked == Some(*amount) { "amount" } else { "shipping" }),
        (Rejection::RefundExceedsPurchase { shipping, shipping_left, .. }, Asked::Return(_)) => {
            Some(if shipping > shipping_left { "shipping" } else { "amount" })
        }
        _ => None,
    }
}
