//! The wire format only grows: what a field's number and type were, they are.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::PathBuf;

#[test]
fn a_fields_number_and_type_never_change() {
    let files = protox::compile(["proto/loyalty/v1/ask.proto", "proto/loyalty/v1/book.proto"], ["proto"]).unwrap();
    let mut now = BTreeSet::new();
    for message in files.file.iter().flat_map(|file| &file.message_type) {
        for field in &message.field {
            let kind = match field.type_name() {
                "" => format!("{:?}", field.r#type()),
                name => name.to_owned(),
            };
            now.insert(format!("{}.{} = {} {kind} {:?}", message.name(), field.name(), field.number(), field.label()));
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1/fields.txt");
    let before: BTreeSet<String> = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    let gone: Vec<&String> = before.difference(&now).collect();
    assert!(gone.is_empty(), "these fields were changed or removed, and may not be: {gone:#?}");
    let all = now.iter().map(|line| format!("{line}\n")).collect::<String>();
    if before != now && std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &all).unwrap();
    } else {
        assert_eq!(before, now, "fields were added: note them with GOLDEN=write");
    }
}
