//! The ledger's own formats: a row a line of a purchase, or a JSON body of the API a line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use api::read_command;
use ledger_core::account::command::Action;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{Item, What};

const LINE_FIELDS: &[&str] = &["line_id", "sku", "category", "quantity", "unit_price", "discount", "tax", "amount"];
/// A longer line is no purchase.
const LINE_MAX_BYTES: u64 = 8 << 20;

fn item(line: u64, json: &[u8]) -> Item {
    match read_command(json, "import") {
        Ok((account, command)) => {
            let at = match &command.action {
                Action::Earn(purchase) => Some(purchase.occurred_at),
                Action::Return(body) => Some(body.occurred_at),
                _ => None,
            };
            Item { line, at, what: What::Command(account, command) }
        }
        Err(why) => Item { line, at: None, what: What::Rejected(why) },
    }
}

/// Reads JSON lines; tells the number of the last.
pub fn read_jsonl(input: Box<dyn Read + Send>, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let mut reader = BufReader::new(input);
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        bytes.clear();
        if reader.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(line);
        }
        line += 1;
        if !bytes.trim_ascii().is_empty() {
            items.blocking_send(item(line, &bytes))?;
        }
    }
}

/// Reads rows, those of one purchase one after the other; tells the number of the last.
pub fn read_csv(input: Box<dyn Read + Send>, items: &mpsc::Sender<Item>) -> anyhow::Result<u64> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
    let headers = reader.headers()?.clone();
    let mut open: Option<(u64, Map<String, Value>)> = None;
    let mut last = 1;
    for row in reader.records() {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = error.position().map_or(last + 1, csv::Position::line);
                items.blocking_send(Item { line, at: None, what: What::Rejected(format!("not CSV: {error}")) })?;
                continue;
            }
        };
        last = row.position().map_or(last + 1, csv::Position::line);
        let fields: BTreeMap<&str, &str> = headers.iter().zip(row.iter()).filter(|(_, value)| !value.is_empty()).collect();
        let pick = |wanted: bool| -> Map<String, Value> {
            let is_line = |name: &str| LINE_FIELDS.contains(&name);
            fields.iter().filter(|(name, _)| is_line(name) == wanted).map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
        };
        let (line, mut purchase) = (Value::Object(pick(true)), pick(false));
        match &mut open {
            Some((end, before)) if before.get("purchase_id") == purchase.get("purchase_id") => {
                *end = last;
                if let Some(Value::Array(lines)) = before.get_mut("lines") {
                    lines.push(line);
                }
            }
            _ => {
                close(open.take(), items)?;
                purchase.insert("lines".into(), json!([line]));
                open = Some((last, purchase));
            }
        }
    }
    close(open, items)?;
    Ok(last)
}

fn close(open: Option<(u64, Map<String, Value>)>, items: &mpsc::Sender<Item>) -> anyhow::Result<()> {
    if let Some((line, purchase)) = open {
        items.blocking_send(item(line, &serde_json::to_vec(&purchase)?))?;
    }
    Ok(())
}
