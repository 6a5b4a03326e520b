//! The Online Retail format: a row a line of an invoice.
//!
//! The rules: an invoice `C…` is a cancellation, each of its lines matched to earlier purchases; `A…` is a bad-debt adjustment, not a
//! purchase. Those and rows with a price of zero are readable and not for the ledger: they are rejected and left out of their invoice. Any
//! other row that is rejected holds back its invoice, and the customer's cancellations that follow, as they could be matched to another
//! purchase than they belong to; of every customer, if the row's can't be told. A row without a customer is somebody's who is no member: of the
//! cancellations after it, it holds back those of the same article and price that no purchase of their own customer explains.
//!
//! Identical rows are real. Times are on the program's wall clock, and what happens is booked in the order of time, then of lines.
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
use super::matching::{Cancellation, Wait};
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

/// What is done in the order of time.
#[derive(Serialize, Deserialize)]
enum Step {
    /// With the part of its invoice before it, where there is one.
    Purchase(Id, Purchase, Vec<u64>, Option<Box<Purchase>>),
    Cancellation(Cancellation, u64),
    /// From here on the customer's cancellations wait for a corrected file.
    Hold(Id),
    /// From here on all cancellations do: the row may be any customer's.
    HoldAll,
    /// Goods were sold, of an article at a price, to nobody who is named.
    Nameless(String, Amount),
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
                grouper.row(&invoice, &customer, number, &Some(row))?;
                continue;
            }
            Parsed::Aside(fault) => (fault, true),
            Parsed::Unreadable(fault) => (fault, false),
        };
        steps.reject(number, fault)?;
        let told = table.told(columns.invoice, columns.customer, |text| Id::parse(plain(text)).ok());
        let is_cancellation = match (&told.purchases.ids[..], &told.accounts.ids[..]) {
            ([invoice], [customer]) if told.purchases.is_sure && told.accounts.is_sure && invoice.as_str().starts_with('C') => {
                grouper.row(invoice, customer, number, &None)?;
                true
            }
            _ => false,
        };
        if is_aside {
            continue;
        }
        if !is_cancellation {
            grouper.unreadable(number, told)?;
        }
        let mut holds: Vec<Step> = told.accounts.ids.iter().cloned().map(Step::Hold).collect();
        if !told.accounts.is_sure {
            holds.extend(columns.of_nobody(&table));
        }
        let at = columns.time(&table, zone);
        holds.iter().try_for_each(|step| steps.put(at, number, step))?;
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

    /// What a row whose customer can't be told holds back.
    fn of_nobody(&self, table: &Table) -> Option<Step> {
        if !table.is_aligned() || !plain(table.cell(self.customer)).is_empty() {
            return Some(Step::HoldAll);
        }
        // Shops sell to people without a name all day, and nobody will ever correct those rows.
        match (Amount::parse(table.cell(self.quantity)), Amount::parse(table.cell(self.price))) {
            (Some(quantity), Some(price)) if quantity <= Amount::ZERO || price <= Amount::ZERO => None,
            (Some(_), Some(price)) => Some(Step::Nameless(table.cell(self.sku).to_owned(), price)),
            _ => Some(Step::HoldAll),
        }
    }

    /// When the row happened, if it tells; else it counts as the earliest of all.
    fn time(&self, table: &Table, zone: &Zone) -> Option<Moment> {
        if table.is_aligned() { zone.parse_local(table.cell(self.at)).ok() } else { None }
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
            let number = |column| match table.shifted(column) {
                Some(fault) => Err(fault),
                None => Amount::parse(table.cell(column)).ok_or_else(|| fault(column, format!("{:?} is not a decimal", table.cell(column)))),
            };
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
        if row.price == Amount::ZERO {
            return Parsed::Aside(fault(self.price, "a price of 0: nothing was paid".into()));
        }
        if row.price < Amount::ZERO {
            return Parsed::Unreadable(fault(self.price, format!("a price of {}", row.price)));
        }
        let cancelled = invoice.as_str().starts_with('C');
        if cancelled == (row.quantity > Amount::ZERO) || row.quantity == Amount::ZERO {
            let what = if cancelled { "a cancellation" } else { "a sale: goods given back stand on an invoice C…" };
            return Parsed::Unreadable(fault(self.quantity, format!("a quantity of {} on {what}", row.quantity)));
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

    /// To be done at a moment, or before all others.
    fn put(&mut self, at: Option<Moment>, line: u64, step: &Step) -> anyhow::Result<()> {
        let mut key = at.map_or(i64::MIN, Moment::as_micros).to_be_bytes();
        // Bytes have no sign: with the first bit turned over, those of a moment before 1970 are the lesser ones.
        key[0] ^= 0x80;
        Ok(self.sorter.push([key, line.to_be_bytes()].concat(), postcard::to_stdvec(step)?)?)
    }

    /// Takes the rows of one invoice and customer.
    fn take(&mut self, grouped: Grouped<Counted>, currency: &str) -> anyhow::Result<()> {
        let (invoice, customer, rows) = match grouped {
            Grouped::Purchase(invoice, customer, rows) => (invoice, customer, rows),
            Grouped::HeldBack(customer, line, row, fault) => {
                // What is no row of a cancellation was rejected when it was read.
                let Some(row) = row else { return Ok(()) };
                return self.reject(line, fault).and_then(|()| self.put(Some(row.at), line, &Step::Hold(customer)));
            }
        };
        if invoice.as_str().starts_with('C') {
            for (place, (line, row)) in (1..).zip(rows) {
                if let Some(Row { sku, quantity, price, at }) = row {
                    let reference = format!("{invoice}-{place}");
                    let cancellation = Cancellation { account: customer.clone(), reference, sku, quantity, price, at };
                    self.put(Some(at), line, &Step::Cancellation(cancellation, line))?;
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
        let mut latest: Option<Moment> = None;
        let mut before = None;
        for (part, (at, rows)) in (1..).zip(times) {
            // Parts are numbered as they stand in the file, and none is booked before the one that it follows.
            latest = latest.max(Some(at));
            let id = if part == 1 { Ok(invoice.clone()) } else { Id::parse(&format!("{invoice}.{part}")) };
            let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
            let purchase = purchase(id?, at, currency, rows);
            self.put(latest, lines[0], &Step::Purchase(customer.clone(), purchase.clone(), lines, before.replace(Box::new(purchase))))?;
        }
        Ok(())
    }

    /// Sends all, in the order of time.
    fn send(self) -> anyhow::Result<()> {
        let mut held = Held::default();
        for entry in self.sorter.sorted()? {
            let (key, step) = entry?;
            let line = key.last_chunk().map_or(0, |line| u64::from_be_bytes(*line));
            let ask = match postcard::from_bytes(&step)? {
                Step::Purchase(account, purchase, rows, None) => Ask::purchase(account, purchase, rows),
                Step::Purchase(account, purchase, rows, Some(before)) => Ask::part(account, *before, purchase, rows),
                Step::Cancellation(cancellation, line) => {
                    let wait = held.wait(&cancellation);
                    Ask { rows: vec![line], at: Some(cancellation.at), what: What::Cancellation(cancellation, wait) }
                }
                hold => {
                    held.put(hold, line);
                    continue;
                }
            };
            self.items.blocking_send(Item::Ask(ask))?;
        }
        Ok(())
    }
}

/// Which cancellations wait for a corrected file, and by which line.
#[derive(Default)]
struct Held {
    customers: HashMap<Id, u64>,
    all: Option<u64>,
    nameless: HashMap<(String, Amount), u64>,
}

impl Held {
    fn put(&mut self, step: Step, line: u64) {
        match step {
            Step::Hold(customer) => {
                self.customers.entry(customer).or_insert(line);
            }
            Step::HoldAll => {
                self.all.get_or_insert(line);
            }
            Step::Nameless(sku, price) => {
                self.nameless.entry((sku, price)).or_insert(line);
            }
            Step::Purchase(..) | Step::Cancellation(..) => {}
        }
    }

    fn wait(&self, cancellation: &Cancellation) -> Wait {
        if let Some(line) = self.customers.get(&cancellation.account) {
            return Wait::Always(format!("waits for a row of the same customer that was rejected: line {line}"));
        }
        if let Some(line) = self.all {
            return Wait::Always(format!("waits for line {line}, which was rejected and does not tell its customer, so it may be this one's"));
        }
        match self.nameless.get(&(cancellation.sku.clone(), cancellation.price)) {
            Some(line) => Wait::ForItsPurchase(*line),
            None => Wait::No,
        }
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
