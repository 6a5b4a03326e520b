//! Files that nobody meant: every reader comes to their end, and what it sends are commands or reasons, line by line.

use std::io::Cursor;

use ledger_core::time::Zone;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::{Item, What, purchases, retail};

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

/// What `read` makes of the bytes.
fn items(bytes: Vec<u8>, read: impl FnOnce(Box<Cursor<Vec<u8>>>, &mpsc::Sender<Item>) -> anyhow::Result<u64>) -> Result<Vec<Item>, TestCaseError> {
    let (items, mut sent) = mpsc::channel(1000);
    // A header that can't be read ends the import in words before its first line.
    if let Err(error) = read(Box::new(Cursor::new(bytes)), &items) {
        prop_assert!(!error.to_string().is_empty());
    }
    drop(items);
    let all: Vec<Item> = std::iter::from_fn(|| sent.blocking_recv()).collect();
    for item in &all {
        if let What::Rejected(why) = &item.what {
            prop_assert!(!why.is_empty());
        }
    }
    Ok(all)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn retail_files_come_to_their_end(bytes in mangled(RETAIL)) {
        let zone = Zone::parse("Europe/London").expect("it is a zone");
        items(bytes, |input, to| retail::read(input, &zone, "GBP", to))?;
    }

    #[test]
    fn rows_of_purchases_come_to_their_end(bytes in mangled(CSV)) {
        items(bytes, |input, to| purchases::read_csv(input, to))?;
    }

    #[test]
    fn every_json_line_is_a_command_or_a_reason(bytes in mangled(JSONL)) {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
        prop_assert_eq!(items(bytes, |input, to| purchases::read_jsonl(input, to))?.len(), lines);
    }
}
