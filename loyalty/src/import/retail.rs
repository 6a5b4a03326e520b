//! The Online Retail format: a row a line of an invoice.
//!
//! The rules: an invoice `C…` is a cancellation, each of its lines matched to earlier purchases; `A…` is a bad-debt adjustment, not a
//! purchase. Rows that are readable and not for the ledger are rejected and left out of their invoice: those with a price of zero or less, or
//! with a quantity of the wrong sign. Any other row that is rejected holds back its invoice, and the customer's cancellations that follow,
//! as they could be matched to another purchase than they belong to. Identical rows are real. Times are on the program's wall clock.
//! Rows of one invoice and customer with one time are one purchase, wherever they stand; those with another time are `INVOICE.2`. A part of
//! an invoice is booked only where the part before it is as the book has it: where it isn't, the same goods may be in the book already, under
//! another part's id.

use std::collections::HashMap;
use std::path::Path;

use ledger_core::account::command::{Line, Purchase};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use ledger_core::time::{Moment, Zone};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::group::{Grouped, Grouper};
use super::matching::Cancellation;
use super::sort::Sorter;
use super::table::Table;
use super::text::{self, Text};
use super::{Ask, Fault, Item, What};

/// What is left of an id's 64 characters is for the numbers of lines and parts.
const INVOICE_MAX: usize = 40;

/// Where the columns are.
struct Columns {
    invoice: usize,
    sku: usize,
    quantity: usize,
    at: usize,
    price: usize,
    customer: usize,
}

/// A row that is for the ledger.
#[derive(Serialize, Deserialize)]
struct Row {
    sku: String,
    quantity: Amount,
    price: Amount,
    at: Moment,
}

/// A row of a cancellation that is none still counts: its place is in the ids of those after it.
type Counted = Option<Row>;

enum Parsed {
    Row(Id, Id, Row),
    /// Readable, and not for the ledger.
    Aside(Fault),
    Unreadable(Fault),
}

/// What is done in the order of the file.
#[derive(Serialize, Deserialize)]
enum Step {
    /// With the part of its invoice before it, where there is one.
    Purchase(Id, Purchase, Vec<u64>, Option<Box<Purchase>>),
    Cancellation(Cancellation, u64),
    /// From here on the customer's cancellations wait for a corrected file.
    Hold(Id),
}

/// Reads all rows and sends what they are; tells how many there are.
pub fn read(text: &mut Text, zone: &Zone, currency: &str, folder: &Path, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let mut table = Table::open(text)?;
    let columns = Columns::of(&table)?;
    let mut grouper: Grouper<Counted> = Grouper::new(folder);
    let mut steps = Steps { sorter: Sorter::new(folder), items };
    let (mut line, mut rows) = (text::Line::default(), 0);
    while Table::next_line(text, &mut line)? {
        rows += 1;
        let number = line.number;
        let parsed = table.read(&line).map_or_else(Parsed::Unreadable, |()| columns.row(&table, zone));
        let (fault, is_aside) = match parsed {
            Parsed::Row(invoice, customer, row) => {
                grouper.row(invoice, customer, number, &Some(row))?;
                continue;
            }
            Parsed::Aside(fault) => (fault, true),
            Parsed::Unreadable(fault) => (fault, false),
        };
        let invoices: Vec<Id> = table.candidates(columns.invoice).filter_map(|text| Id::parse(text).ok()).collect();
        let customers: Vec<Id> = table.candidates(columns.customer).filter_map(|text| Id::parse(plain(text)).ok()).collect();
        steps.reject(number, fault)?;
        if !is_aside {
            customers.iter().try_for_each(|customer| steps.put(number, &Step::Hold(customer.clone())))?;
        }
        match (&invoices[..], &customers[..]) {
            ([invoice], [customer]) if invoice.as_str().starts_with('C') => grouper.row(invoice.clone(), customer.clone(), number, &None)?,
            _ if is_aside => {}
            _ => grouper.unreadable(number, &invoices, &customers)?,
        }
    }
    grouper.groups(|grouped| steps.take(grouped, currency))?;
    steps.send()?;
    Ok(rows)
}

/// A number that a spreadsheet made a decimal of.
fn plain(text: &str) -> &str {
    let text = text.trim();
    text.strip_suffix(".0").unwrap_or(text)
}

impl Columns {
    fn of(table: &Table) -> anyhow::Result<Self> {
        Ok(Self {
            invoice: table.column(&["Invoice", "InvoiceNo"])?,
            sku: table.column(&["StockCode"])?,
            quantity: table.column(&["Quantity"])?,
            at: table.column(&["InvoiceDate"])?,
            price: table.column(&["Price", "UnitPrice"])?,
            customer: table.column(&["CustomerID"])?,
        })
    }

    fn row(&self, table: &Table, zone: &Zone) -> Parsed {
        let fault = |column: usize, reason: String| Fault::new(&table.names()[column], reason);
        if table.cell(self.invoice).starts_with('A') {
            return Parsed::Aside(fault(self.invoice, "a bad-debt adjustment, not a purchase".into()));
        }
        let read = || {
            let invoice = Id::parse(table.cell(self.invoice)).map_err(|error| fault(self.invoice, error.to_string()))?;
            if invoice.as_str().len() > INVOICE_MAX {
                return Err(fault(self.invoice, format!("it is longer than {INVOICE_MAX} characters")));
            }
            if plain(table.cell(self.customer)).is_empty() {
                return Err(fault(self.customer, "no customer".into()));
            }
            let customer = Id::parse(plain(table.cell(self.customer))).map_err(|error| fault(self.customer, error.to_string()))?;
            let number = |column| Amount::parse(table.cell(column)).ok_or_else(|| fault(column, format!("{:?} is not a decimal", table.cell(column))));
            let (quantity, price) = (number(self.quantity)?, number(self.price)?);
            let at = zone.parse_local(table.cell(self.at));
            let at = at.map_err(|_| fault(self.at, format!("{:?} is not a date and time such as 2009-12-01 07:45:00", table.cell(self.at))))?;
            let sku = table.cell(self.sku).to_owned();
            if sku.len() > 64 || sku.chars().any(char::is_control) {
                return Err(fault(self.sku, "it is longer than 64 bytes or has control characters".into()));
            }
            Ok((invoice, customer, Row { sku, quantity, price, at }))
        };
        let (invoice, customer, mut row) = match read() {
            Ok(row) => row,
            Err(fault) => return Parsed::Unreadable(fault),
        };
        if row.price <= Amount::ZERO {
            return Parsed::Aside(fault(self.price, format!("a price of {}", row.price)));
        }
        let cancelled = invoice.as_str().starts_with('C');
        if cancelled == (row.quantity > Amount::ZERO) || row.quantity == Amount::ZERO {
            let what = if cancelled { "a cancellation" } else { "a sale: a stock write-off" };
            return Parsed::Aside(fault(self.quantity, format!("a quantity of {} on {what}", row.quantity)));
        }
        if cancelled {
            row.quantity = Amount::ZERO.minus(row.quantity);
        }
        Parsed::Row(invoice, customer, row)
    }
}

/// What is to be done, until it is known in which order.
struct Steps<'a> {
    sorter: Sorter,
    items: &'a mpsc::Sender<Item>,
}

impl Steps<'_> {
    fn reject(&self, line: u64, fault: Fault) -> anyhow::Result<()> {
        Ok(self.items.blocking_send(Item::Rejected(line, fault))?)
    }

    fn put(&mut self, line: u64, step: &Step) -> anyhow::Result<()> {
        Ok(self.sorter.push(line.to_be_bytes().to_vec(), postcard::to_stdvec(step)?)?)
    }

    /// Takes the rows of one invoice and customer.
    fn take(&mut self, grouped: Grouped<Counted>, currency: &str) -> anyhow::Result<()> {
        let (invoice, customer, rows) = match grouped {
            Grouped::Purchase(invoice, customer, rows) => (invoice, customer, rows),
            Grouped::HeldBack(customer, line, row, fault) => {
                // What is no row of a cancellation was rejected when it was read.
                return if row.is_some() { self.reject(line, fault).and_then(|()| self.put(line, &Step::Hold(customer))) } else { Ok(()) };
            }
        };
        if invoice.as_str().starts_with('C') {
            for (place, (line, row)) in (1..).zip(rows) {
                if let Some(Row { sku, quantity, price, at }) = row {
                    let reference = format!("{invoice}-{place}");
                    self.put(line, &Step::Cancellation(Cancellation { account: customer.clone(), reference, sku, quantity, price, at }, line))?;
                }
            }
            return Ok(());
        }
        let mut times: Vec<(Moment, Vec<(u64, Row)>)> = Vec::new();
        for (line, row) in rows.into_iter().filter_map(|(line, row)| Some((line, row?))) {
            match times.iter_mut().find(|(at, _)| *at == row.at) {
                Some((_, rows)) => rows.push((line, row)),
                None => times.push((row.at, vec![(line, row)])),
            }
        }
        let mut before = None;
        for (part, (at, rows)) in (1..).zip(times) {
            let id = if part == 1 { Ok(invoice.clone()) } else { Id::parse(&format!("{invoice}.{part}")) };
            let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
            let purchase = purchase(id?, at, currency, rows);
            self.put(lines[0], &Step::Purchase(customer.clone(), purchase.clone(), lines, before.replace(Box::new(purchase))))?;
        }
        Ok(())
    }

    /// Sends all, in the order of the file.
    fn send(self) -> anyhow::Result<()> {
        let mut held: HashMap<Id, u64> = HashMap::new();
        for entry in self.sorter.sorted()? {
            let (key, step) = entry?;
            let line = key.first_chunk().map_or(0, |line| u64::from_be_bytes(*line));
            let item = match postcard::from_bytes(&step)? {
                Step::Purchase(account, purchase, rows, None) => Item::Ask(Ask::purchase(account, purchase, rows)),
                Step::Purchase(account, purchase, rows, Some(before)) => Item::Ask(Ask::part(account, *before, purchase, rows)),
                Step::Cancellation(cancellation, line) => match held.get(&cancellation.account) {
                    Some(by) => Item::Rejected(line, Fault::new("", format!("waits for a row of the same customer that was rejected: line {by}"))),
                    None => Item::Ask(Ask { rows: vec![line], at: Some(cancellation.at), what: What::Cancellation(cancellation) }),
                },
                Step::Hold(customer) => {
                    held.entry(customer).or_insert(line);
                    continue;
                }
            };
            self.items.blocking_send(item)?;
        }
        Ok(())
    }
}

fn purchase(purchase_id: Id, occurred_at: Moment, currency: &str, rows: Vec<(u64, Row)>) -> Purchase {
    let lines = (1..).zip(rows).map(|(n, (_, row)): (u32, _)| Line {
        line_id: Id::parse(&n.to_string()).expect("digits are an id"),
        sku: row.sku.into(),
        category: "".into(),
        quantity: row.quantity,
        unit_price: row.price,
        discount: Amount::ZERO,
        tax: Amount::ZERO,
        amount: None,
    });
    Purchase {
        purchase_id,
        occurred_at,
        currency: currency.into(),
        channel: "".into(),
        store: "".into(),
        lines: lines.collect(),
        shipping: Amount::ZERO,
        origin: None,
    }
}
