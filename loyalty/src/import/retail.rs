//! The Online Retail format: a row a line of an invoice.
//!
//! The rules: an invoice `C…` is a cancellation, each of its lines matched to earlier purchases; `A…` is a bad-debt adjustment, not a
//! purchase; a line without a customer, with a price of zero or less, with a quantity of the wrong sign for its invoice, or of another
//! customer than its invoice, is rejected. Identical lines are real. Times are on the program's wall clock. The till prints lines in
//! the order of their minutes, so an invoice may come again after others: what comes then is a purchase of its own, `INVOICE.2`.

use std::collections::{HashMap, VecDeque};
use std::io::Read;

use ledger_core::account::Command;
use ledger_core::account::command::{Action, Line, Purchase};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::{Moment, Zone};
use tokio::sync::mpsc;

use super::matching::Unmatched;
use super::{Item, What};

struct Row {
    line: u64,
    invoice: Id,
    sku: String,
    quantity: Amount,
    price: Amount,
    at: Moment,
    customer: Id,
}

/// Reads all rows and sends what they are; tells the number of the last line.
pub fn read(input: Box<dyn Read + Send>, zone: &Zone, currency: &str, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let mut open = Invoice { currency: currency.to_owned(), ..Invoice::default() };
    let mut seen = Seen::default();
    let mut record = csv::ByteRecord::new();
    let mut line = 1;
    loop {
        let position = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => break,
            Ok(true) => line = record.position().map_or(position, csv::Position::line),
            Err(error) => {
                send(items, position, None, What::Rejected(format!("not CSV: {error}")))?;
                continue;
            }
        }
        let invoice = String::from_utf8_lossy(record.get(0).unwrap_or_default()).into_owned();
        if invoice != open.name {
            open.close(items)?;
            seen.put(&open);
            (open.part, open.lines_seen) = seen.parts.get(&invoice).map_or((1, 0), |(part, lines)| (part + 1, *lines));
            open.name = invoice;
        }
        open.lines_seen += 1;
        match row(&record, line, zone) {
            Ok(row) if row.invoice.as_str().starts_with('C') => {
                let reference = format!("{}-{}", row.invoice, open.lines_seen);
                let unmatched = Unmatched { account: row.customer, reference, sku: row.sku, quantity: row.quantity, at: row.at };
                send(items, line, Some(row.at), What::Unmatched(unmatched))?;
            }
            Ok(row) if open.rows.first().is_some_and(|first| first.customer != row.customer) => {
                send(items, line, None, What::Rejected("another customer than the invoice's first line".into()))?;
            }
            Ok(row) => open.rows.push(row),
            Err(why) => send(items, line, None, What::Rejected(why))?,
        }
    }
    open.close(items)?;
    Ok(line)
}

fn send(items: &mpsc::Sender<Item>, line: u64, at: Option<Moment>, what: What) -> anyhow::Result<()> {
    Ok(items.blocking_send(Item { line, at, what })?)
}

fn row(record: &csv::ByteRecord, line: u64, zone: &Zone) -> Result<Row, String> {
    let field = |i: usize, name: &str| {
        let bytes = record.get(i).ok_or_else(|| format!("column {name} is missing"))?;
        std::str::from_utf8(bytes).map_err(|_| format!("column {name} is not UTF-8"))
    };
    let invoice = field(0, "Invoice")?;
    if invoice.starts_with('A') {
        return Err("a bad-debt adjustment, not a purchase".into());
    }
    let customer = field(6, "CustomerID")?.trim();
    let customer = customer.strip_suffix(".0").unwrap_or(customer);
    if customer.is_empty() {
        return Err("no customer".into());
    }
    let quantity = field(3, "Quantity")?;
    let quantity = Amount::parse(quantity).ok_or_else(|| format!("Quantity {quantity:?} is not a number"))?;
    let price = field(5, "Price")?;
    let price = Amount::parse(price).ok_or_else(|| format!("Price {price:?} is not a decimal"))?;
    if price <= Amount::ZERO {
        return Err(format!("a price of {price}"));
    }
    let cancelled = invoice.starts_with('C');
    if cancelled == (quantity > Amount::ZERO) || quantity == Amount::ZERO {
        let what = if cancelled { "a cancellation" } else { "a sale: a stock write-off" };
        return Err(format!("a quantity of {quantity} on {what}"));
    }
    let at = field(4, "InvoiceDate")?;
    Ok(Row {
        line,
        invoice: Id::parse(invoice).map_err(|error| format!("Invoice: {error}"))?,
        sku: field(1, "StockCode")?.to_owned(),
        quantity: if cancelled { Amount::ZERO.minus(quantity) } else { quantity },
        price,
        at: zone.parse_local(at).map_err(|_| format!("InvoiceDate {at:?} is not a date and time such as 2009-12-01 07:45:00"))?,
        customer: Id::parse(customer).map_err(|error| format!("CustomerID: {error}"))?,
    })
}

/// The invoice whose lines are coming in.
#[derive(Default)]
struct Invoice {
    name: String,
    currency: String,
    rows: Vec<Row>,
    /// How many times it has come, this one included.
    part: u32,
    lines_seen: u64,
}

/// How many invoices back one is known again.
const SEEN_MAX: usize = 10_000;

/// The invoices that came before: how many times, with how many lines.
#[derive(Default)]
struct Seen {
    parts: HashMap<String, (u32, u64)>,
    order: VecDeque<String>,
}

impl Seen {
    fn put(&mut self, invoice: &Invoice) {
        if self.parts.insert(invoice.name.clone(), (invoice.part, invoice.lines_seen)).is_none() {
            self.order.push_back(invoice.name.clone());
        }
        if self.order.len() > SEEN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.parts.remove(&oldest);
        }
    }
}

impl Invoice {
    fn close(&mut self, items: &mpsc::Sender<Item>) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let (at, line, account) = (first.at, last.line, first.customer.clone());
        let id = match self.part {
            1 => first.invoice.clone(),
            part => Id::parse(&format!("{}.{part}", first.invoice))?,
        };
        let lines = (1..).zip(&rows).map(|(n, row): (u32, &Row)| Line {
            line_id: Id::parse(&n.to_string()).expect("digits are an id"),
            sku: row.sku.as_str().into(),
            category: "".into(),
            quantity: row.quantity,
            unit_price: row.price,
            discount: Amount::ZERO,
            tax: Amount::ZERO,
            amount: None,
        });
        let purchase = Purchase {
            purchase_id: id.clone(),
            occurred_at: at,
            currency: self.currency.as_str().into(),
            channel: "".into(),
            store: "".into(),
            lines: lines.collect(),
            shipping: Amount::ZERO,
            origin: None,
        };
        let command = Command { id, actor: "import".into(), action: Action::Earn(purchase.into()) };
        send(items, line, Some(at), What::Command(account, command))
    }
}
