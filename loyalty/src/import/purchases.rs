//! The ledger's own formats: a row a line of a purchase, or a JSON body of the API a line.

use std::path::Path;

use api::read_command;
use compact_str::CompactString;
use ledger_core::account::command::{Action, Origin, Purchase};
use ledger_core::id::Id;
use ledger_core::points::Amount;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::group::{Grouped, Grouper};
use super::sort::Sorter;
use super::table::Table;
use super::text::{Line, Text};
use super::{Ask, Fault, Item, What};

const LINE_FIELDS: &[&str] = &["line_id", "sku", "category", "quantity", "unit_price", "discount", "tax", "amount"];
const PURCHASE_FIELDS: &[&str] =
    &["purchase_id", "account_id", "occurred_at", "currency", "channel", "store", "shipping", "cashier", "till", "device", "card_token"];
const AMOUNT_FIELDS: &[&str] = &["quantity", "unit_price", "discount", "tax", "amount", "shipping"];

/// A row as a purchase with one line; with more once the rows of its purchase are put together.
#[derive(Serialize, Deserialize)]
struct Row {
    purchase: Purchase,
    /// The cell of the shipping is not empty: zero is said, not left open.
    says_shipping: bool,
}

fn reject(items: &mpsc::Sender<Item>, line: u64, fault: Fault) -> anyhow::Result<()> {
    Ok(items.blocking_send(Item::Rejected(line, fault))?)
}

/// Reads JSON lines; tells how many there are.
pub fn read_jsonl(text: &mut Text, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let (mut line, mut rows) = (Line::default(), 0);
    while text.read(&mut line)? {
        rows += 1;
        match json_line(&line) {
            Ok(ask) => items.blocking_send(Item::Ask(ask))?,
            Err(fault) => reject(items, line.number, fault)?,
        }
    }
    Ok(rows)
}

fn json_line(line: &Line) -> Result<Ask, Fault> {
    if line.is_cut {
        return Err(Fault::new("", "the line is longer than 8 MiB"));
    }
    if std::str::from_utf8(&line.bytes).is_err() {
        let document = serde_json::from_str(&String::from_utf8_lossy(&line.bytes)).unwrap_or_default();
        let field = damaged(&document).unwrap_or_default();
        return Err(Fault::new(field.trim_start_matches('/'), "it is not UTF-8; name the file's encoding by --encoding, such as windows-1252"));
    }
    let (account, command) = read_command(&line.bytes, "import").map_err(|invalid| Fault::of(&invalid))?;
    let at = match &command.action {
        Action::Earn(purchase) => Some(purchase.occurred_at),
        Action::Return(body) => Some(body.occurred_at),
        Action::Refund(body) => Some(body.occurred_at),
        _ => None,
    };
    Ok(Ask { rows: vec![line.number], at, what: What::Command(account, command) })
}

/// The pointer to the first text of `value` that had other bytes than UTF-8.
fn damaged(value: &Value) -> Option<String> {
    let below = |name: String, value: &Value| damaged(value).map(|rest| format!("/{name}{rest}"));
    match value {
        Value::String(text) => text.contains(char::REPLACEMENT_CHARACTER).then(String::new),
        Value::Array(values) => values.iter().enumerate().find_map(|(i, value)| below(i.to_string(), value)),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| below(name.clone(), value)),
        _ => None,
    }
}

/// Reads rows, those of a purchase anywhere in the file; tells how many there are. Temporary files lie in `folder`.
pub fn read_csv(text: &mut Text, folder: &Path, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let mut table = Table::open(text)?;
    table.lower_names();
    if let Some(unknown) = table.names().iter().find(|name| ![LINE_FIELDS, PURCHASE_FIELDS].concat().contains(&name.as_str())) {
        anyhow::bail!("the first line names a column {unknown:?}; the columns are {}", [PURCHASE_FIELDS, LINE_FIELDS].concat().join(", "));
    }
    let (purchase_id, account_id) = (table.column(&["purchase_id"])?, table.column(&["account_id"])?);
    let mut grouper: Grouper<Row> = Grouper::new(folder);
    let (mut line, mut rows) = (Line::default(), 0);
    while Table::next_line(text, &mut line)? {
        rows += 1;
        match table.read(&line).and_then(|()| row(&table)) {
            Ok((account, row)) => grouper.row(&row.purchase.purchase_id, &account, line.number, &row)?,
            Err(fault) => {
                grouper.unreadable(line.number, table.told(purchase_id, account_id, |text| Id::parse(text).ok()))?;
                reject(items, line.number, fault)?;
            }
        }
    }
    // In the order of their first rows, as the clock may follow them.
    let mut queue = Sorter::new(folder);
    grouper.groups(|grouped| match grouped {
        Grouped::HeldBack(_, line, _, fault) => reject(items, line, fault),
        Grouped::Purchase(_, account, rows) => {
            let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
            match join(rows) {
                Ok(purchase) => Ok(queue.push(lines[0].to_be_bytes().to_vec(), postcard::to_stdvec(&(account, purchase, lines))?)?),
                Err((bad, fault)) => {
                    reject(items, bad, fault)?;
                    lines.into_iter().filter(|line| *line != bad).try_for_each(|line| reject(items, line, Fault::beside(bad)))
                }
            }
        }
    })?;
    for entry in queue.sorted()? {
        let (account, purchase, rows): (Id, Purchase, Vec<u64>) = postcard::from_bytes(&entry?.1)?;
        items.blocking_send(Item::Ask(Ask::purchase(account, purchase, rows)))?;
    }
    Ok(rows)
}

/// Whose the row is, and what it says.
fn row(table: &Table) -> Result<(Id, Row), Fault> {
    let (mut line, mut purchase) = (Map::new(), Map::new());
    for (column, name) in table.names().iter().enumerate() {
        let value = table.cell(column);
        if let Some(fault) = table.shifted(column).filter(|_| AMOUNT_FIELDS.contains(&name.as_str())) {
            return Err(fault);
        }
        if !value.is_empty() {
            let fields = if LINE_FIELDS.contains(&name.as_str()) { &mut line } else { &mut purchase };
            fields.insert(name.clone(), json!(value));
        }
    }
    let says_shipping = purchase.contains_key("shipping");
    purchase.insert("lines".into(), json!([line]));
    let invalid = |invalid: &_| Fault::of(invalid).of_row().1;
    let (account, command) = read_command(Value::Object(purchase).to_string().as_bytes(), "import").map_err(|error| invalid(&error))?;
    command.check().map_err(|error| invalid(&error))?;
    match command.action {
        Action::Earn(purchase) => Ok((account, Row { purchase: Purchase::clone(&purchase), says_shipping })),
        _ => Err(Fault::new("", "the row is no line of a purchase")),
    }
}

/// The rows of a purchase as one, or which of them is wrong.
fn join(rows: Vec<(u64, Row)>) -> Result<Purchase, (u64, Fault)> {
    let lines: Vec<u64> = rows.iter().map(|(line, _)| *line).collect();
    let mut rows = rows.into_iter();
    let (first, mut whole) = rows.next().ok_or_else(|| (0, Fault::new("", "a purchase without rows")))?;
    for (line, row) in rows {
        if let Err(field) = agree(&mut whole, &row) {
            return Err((line, Fault::new(field, format!("it differs from line {first}, which is of the same purchase"))));
        }
        for part in row.purchase.lines {
            if let Some(other) = whole.purchase.lines.iter().position(|before| before.line_id == part.line_id) {
                return Err((line, Fault::new("line_id", format!("line {} of the file has it too, in the same purchase", lines[other]))));
            }
            whole.purchase.lines.push(part);
        }
    }
    Ok(whole.purchase)
}

/// Takes from `row` what earlier rows left open; what they say otherwise is an error, with the field's name.
fn agree(whole: &mut Row, row: &Row) -> Result<(), &'static str> {
    let (Row { purchase, says_shipping }, Row { purchase: row, says_shipping: row_says_shipping }) = (whole, row);
    if purchase.occurred_at != row.occurred_at {
        return Err("occurred_at");
    }
    if purchase.currency != row.currency {
        return Err("currency");
    }
    // Many tills write a purchase's shipping on its first row, and 0 on the others.
    let says = |says: bool, shipping: Amount| says && shipping > Amount::ZERO;
    if says(*row_says_shipping, row.shipping) && says(*says_shipping, purchase.shipping) && row.shipping != purchase.shipping {
        return Err("shipping");
    }
    if says(*row_says_shipping, row.shipping) {
        (purchase.shipping, *says_shipping) = (row.shipping, true);
    }
    agree_text("channel", &mut purchase.channel, &row.channel)?;
    agree_text("store", &mut purchase.store, &row.store)?;
    let Some(other) = &row.origin else { return Ok(()) };
    let Origin { cashier, till, device, card_token } = &mut **purchase.origin.get_or_insert_default();
    agree_text("cashier", cashier, &other.cashier)?;
    agree_text("till", till, &other.till)?;
    agree_text("device", device, &other.device)?;
    agree_text("card_token", card_token, &other.card_token)
}

fn agree_text(field: &'static str, text: &mut CompactString, other: &CompactString) -> Result<(), &'static str> {
    if text.is_empty() {
        text.clone_from(other);
    }
    if other.is_empty() || text == other { Ok(()) } else { Err(field) }
}
