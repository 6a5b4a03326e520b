//! Files that nobody meant: every reader comes to their end, and what it sends are commands or reasons, line by line.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::Path;

use ledger_core::time::Zone;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::text::Text;
use super::{Item, purchases, retail};
use crate::args::Encoding;

const RETAIL: &str = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,CustomerID,Country\n\
    489523,84879,BIRD,800,2009-12-01 11:46:00,1.45,12931.0,United Kingdom\nC489530,72803A,CANDLE,-1,2009-12-01 11:56:00,4.25,14748.0,United Kingdom\n";
const CSV: &str = "purchase_id,account_id,occurred_at,currency,channel,store,line_id,sku,category,quantity,unit_price,discount,tax\n\
    p1,m1,2010-01-01T00:00:00Z,GBP,web,s1,1,A,c,1,2.50,0,0\np1,m1,2010-01-01T00:00:00Z,GBP,web,s1,2,B,c,3,1,0,0\n";
const JSONL: &str = "{\"purchase_id\":\"p1\",\"account_id\":\"m1\",\"occurred_at\":\"2010-01-01T00:00:00Z\",\"currency\":\"GBP\",\"channel\":\"web\",\"store\":\"s1\",\
    \"lines\":[{\"line_id\":\"1\",\"sku\":\"A\",\"category\":\"c\",\"quantity\":1,\"unit_price\":\"2.50\"}]}\n";

fn mangled(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'-'), Just(b'9'), any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, byte), 0..5).prop_map(move |edits| {
        let mut bytes = text.as_bytes().repeat(2);
        for (at, kind, byte) in edits {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 if !bytes.is_empty() => drop(bytes.remove(at)),
                2 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

/// Every row that `read` counted is part of what it sent, once.
fn each_row_once(bytes: Vec<u8>, read: impl FnOnce(&mut Text, &Path, &mpsc::Sender<Item>) -> anyhow::Result<u64>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let (items, mut sent) = mpsc::channel(1000);
    let mut text = Text::new(Box::new(Cursor::new(bytes)), Encoding::Utf8);
    let read = read(&mut text, folder.path(), &items);
    drop(items);
    let mut lines = BTreeSet::new();
    let mut count = 0;
    for item in std::iter::from_fn(|| sent.blocking_recv()) {
        let rows = match item {
            Item::Ask(ask) => ask.rows,
            Item::Rejected(line, fault) => {
                prop_assert!(!fault.reason.is_empty());
                vec![line]
            }
        };
        count += u64::try_from(rows.len()).unwrap_or(u64::MAX);
        lines.extend(rows);
    }
    match read {
        Ok(rows) => prop_assert_eq!((count, lines.len()), (rows, usize::try_from(rows).unwrap_or(usize::MAX))),
        // A header that can't be read ends the import in words before its first row.
        Err(error) => prop_assert!(!error.to_string().is_empty() && count == 0),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn retail_files_come_to_their_end(bytes in mangled(RETAIL)) {
        let zone = Zone::parse("Europe/London").expect("it is a zone");
        each_row_once(bytes, |text, folder, to| retail::read(text, &zone, "GBP", folder, to))?;
    }

    #[test]
    fn rows_of_purchases_come_to_their_end(bytes in mangled(CSV)) {
        each_row_once(bytes, purchases::read_csv)?;
    }

    #[test]
    fn every_json_line_is_a_command_or_a_reason(bytes in mangled(JSONL)) {
        each_row_once(bytes, |text, _, to| purchases::read_jsonl(text, to))?;
    }
}
