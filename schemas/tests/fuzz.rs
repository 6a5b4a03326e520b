//! Bytes that nobody wrote: they are refused in words, or read as what they say, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may")]

use ledger_schemas::{Archived, ArchivedRecords, Ask, Outcome, ProgramEntry, Published, Record, encode_outcome, encode_program_entry, encode_record, v1};
use proptest::prelude::*;
use prost::Message as _;

fn golden(name: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with(name));
    files.sort();
    let bytes = |path: &std::path::PathBuf| {
        let hex: String = std::fs::read_to_string(path).unwrap().chars().filter(char::is_ascii_hexdigit).collect();
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    files.iter().map(bytes).collect()
}

/// Golden bytes with some changed, left out, put in or cut off; or any bytes.
fn mangled(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, any::<u8>());
    let edited = (prop::sample::select(golden(name)), prop::collection::vec(edit, 0..4)).prop_map(|(mut bytes, edits)| {
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
    });
    prop_oneof![8 => edited, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_that_is_read_is_written_alike(bytes in mangled("record")) {
        if let Ok(record) = Record::decode(&bytes) {
            let mut again = Vec::new();
            encode_record(&record, &mut again);
            prop_assert_eq!(Record::decode(&again).unwrap(), record);
            let generated = v1::Record::decode(&*bytes);
            prop_assert!(generated.is_ok(), "the generated types refuse what is read here: {generated:?}");
        }
    }

    #[test]
    fn an_archives_records_are_read_and_written_as_by_the_generated_types(
        entries in prop::collection::vec((any::<u64>(), "[a-zé]{0,9}", 0..9_u64, prop::collection::vec(any::<u8>(), 0..200)), 0..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let (mut bytes, mut generated) = (Vec::new(), Vec::new());
        for (position, account, account_seq, body) in entries {
            Archived { position, account: &account, account_seq, body: &body }.encode(&mut bytes);
            v1::ArchivedRecord { position, account, account_seq, body }.encode_length_delimited(&mut generated).unwrap();
        }
        prop_assert_eq!(&bytes, &generated);
        for (at, byte) in edits {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let mut rest = bytes.as_slice();
        for read in ArchivedRecords(&bytes) {
            let generated = v1::ArchivedRecord::decode_length_delimited(&mut rest);
            match read {
                Ok(Archived { position, account, account_seq, body }) => {
                    let read = v1::ArchivedRecord { position, account: account.into(), account_seq, body: body.into() };
                    prop_assert_eq!(generated.unwrap(), read);
                }
                Err(_) => return Ok(()),
            }
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn an_outcome_that_is_read_is_written_alike(bytes in mangled("outcome")) {
        if let Ok(outcome) = Outcome::decode(&bytes) {
            prop_assert_eq!(Outcome::decode(&encode_outcome(&outcome)).unwrap(), outcome);
        }
    }

    #[test]
    fn an_entry_of_the_program_stream_that_is_read_is_written_alike(bytes in mangled("program")) {
        if let Ok(entry) = ProgramEntry::decode(&bytes) {
            prop_assert_eq!(ProgramEntry::decode(&encode_program_entry(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn questions_and_what_shops_publish_are_read_or_refused(bytes in prop_oneof![mangled("content"), mangled("outcome")]) {
        let _ = Ask::decode(&bytes);
        for name in ["loyalty.v1.Purchase", "loyalty.v1.PurchaseReturn"] {
            let _ = Published::decode(name, &bytes);
        }
    }
}
