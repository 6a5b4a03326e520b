//! Whatever is changed in an archive is noticed: each file, each field of its manifest, and what is put beside them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::path::{Path, PathBuf};

use event_log::EventLog;
use serde_json::{Value, json};
use transparency::{ArchiveLog, Key, export, verify};

/// A book that release 0.1 archived, with the schemas of then and with partial tiles that were superseded.
fn earlier() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/books/edition-1")
}

/// All that is found, or why it can't be read.
fn findings(archive: &Path) -> Vec<String> {
    let key = Key::parse(&std::fs::read_to_string(earlier().with_extension("pub")).unwrap()).unwrap();
    let verified = ArchiveLog::open(archive).and_then(|archive| verify(&archive, &key, &|_| {}));
    match verified {
        Ok(verified) => verified.findings,
        Err(error) => vec![std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))],
    }
}

fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() { all.extend(names(&entry.path(), &format!("{name}/"))) } else { all.push(name) }
    }
    all.sort();
    all
}

/// The book as release 0.1 archived it, and as this one does.
async fn archives(folder: &Path) -> [PathBuf; 2] {
    let [old, new] = ["old", "new"].map(|name| folder.join(name));
    for name in names(&earlier(), "") {
        std::fs::create_dir_all(old.join(&name).parent().unwrap()).unwrap();
        std::fs::copy(earlier().join(&name), old.join(&name)).unwrap();
    }
    export(&ArchiveLog::open(&old).unwrap(), &new, Some(&old.join("seal")), |_| {}).await.unwrap();
    [old, new]
}

/// Whether a finding names the file, or what it is part of: the tree or stream, a record's partition, the checkpoint.
fn is_named(findings: &[String], name: &str) -> bool {
    let parts: Vec<&str> = name.strip_prefix("seal/").unwrap_or(name).split('/').collect();
    let places = match parts[..] {
        ["checkpoint"] => vec!["the checkpoint".to_owned()],
        ["tile", "entries", ..] => vec!["the heads in seal/tile/entries".to_owned()],
        [stream @ ("records" | "outcomes" | "programs"), partition, ..] => {
            vec![format!("{stream}/{partition}"), format!("partition {} ", partition.parse::<u16>().unwrap())]
        }
        _ => Vec::new(),
    };
    findings.iter().any(|finding| finding.contains(name) || places.iter().any(|place| finding.contains(place)))
}

/// What a packed file unpacks to, with its last byte changed.
fn changed(name: &str, bytes: &[u8]) -> Vec<u8> {
    let is_packed = Path::new(name).extension().is_some_and(|end| end == "zst");
    let mut plain = if is_packed { zstd::decode_all(bytes).unwrap() } else { bytes.to_vec() };
    *plain.last_mut().unwrap() ^= 1;
    if is_packed { zstd::encode_all(plain.as_slice(), 3).unwrap() } else { plain }
}

#[tokio::test]
async fn each_file_that_is_altered_cut_lengthened_or_taken_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for archive in archives(folder.path()).await {
        assert_eq!(findings(&archive), Vec::<String>::new());
        let all = names(&archive, "");
        assert!(all.len() > 20, "{all:?}");
        for name in all {
            let path = archive.join(&name);
            let bytes = std::fs::read(&path).unwrap();
            // Old archives have partial tiles that their checkpoint does not need: they may be missing, but not be others.
            let is_superseded = archive.ends_with("old") && !folder.path().join("new").join(&name).exists();
            std::fs::remove_file(&path).unwrap();
            let found = findings(&archive);
            assert!(if is_superseded { found.is_empty() } else { is_named(&found, &name) }, "{name} taken out: {found:?}");
            let longer = [&bytes[..], b" \n;"].concat();
            for (how, altered) in
                [("altered", changed(&name, &bytes)), ("cut", bytes[..bytes.len() - 1].to_vec()), ("emptied", Vec::new()), ("lengthened", longer)]
            {
                // Space after JSON says nothing.
                if (name == "manifest.json") && how == "lengthened" {
                    continue;
                }
                std::fs::write(&path, altered).unwrap();
                let found = findings(&archive);
                assert!(is_named(&found, &name), "{name} {how}: {found:?}");
            }
            std::fs::write(&path, bytes).unwrap();
        }
        assert_eq!(findings(&archive), Vec::<String>::new());
    }
}

#[tokio::test]
async fn each_field_of_the_manifest_that_is_altered_or_taken_out_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [_, archive] = archives(folder.path()).await;
    let path = archive.join("manifest.json");
    let honest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let told = |manifest: &Value| {
        std::fs::write(&path, manifest.to_string()).unwrap();
        findings(&archive)
    };
    for (field, value) in honest.as_object().unwrap() {
        let mut without = honest.clone();
        without.as_object_mut().unwrap().remove(field);
        let found = told(&without);
        assert!(found.iter().any(|finding| finding.contains("manifest.json") && finding.contains(field)), "without {field}: {found:?}");
        let mut others = Vec::new();
        let number = |value: &Value, by: i64| json!(value.as_i64().unwrap().checked_add(by).unwrap());
        match value {
            Value::String(text) => others.push(json!(format!("{text}x"))),
            Value::Number(_) => others.extend([number(value, 1), number(value, -1)]),
            Value::Array(items) => {
                for (n, item) in items.iter().enumerate() {
                    let changed =
                        |to: Value| json!(items.iter().enumerate().map(|(m, item)| if m == n { to.clone() } else { item.clone() }).collect::<Vec<_>>());
                    others.extend([changed(number(item, 1)), changed(number(item, 20_000)), changed(json!(u64::MAX))]);
                    if item != 0 {
                        others.push(changed(number(item, -1)));
                    }
                }
            }
            // The one that nothing reads, as nothing vouches for it.
            _ => assert_eq!(field, "offsets"),
        }
        for other in others {
            let mut altered = honest.clone();
            altered[field] = other;
            let found = told(&altered);
            assert!(found.iter().any(|finding| finding.contains("manifest.json")), "{field} {}: {found:?}", altered[field]);
        }
    }
    let mut moved = honest.clone();
    moved["offsets"] = json!({"book moves": 1, "purchases/0": 1_000_000});
    assert_eq!(told(&moved), Vec::<String>::new());
    assert!(ArchiveLog::open(&archive).unwrap().offsets().await.unwrap().is_empty(), "what is not read does no harm");
    let mut more = honest.clone();
    more["note"] = json!("more");
    assert!(told(&more).iter().any(|finding| finding.contains("manifest.json") && finding.contains("note")));
    // A partition that is left out with all its files, or one more.
    for by in [-1, 1] {
        let mut other = honest.clone();
        for field in ["records", "outcomes"] {
            let counts = other[field].as_array_mut().unwrap();
            if by < 0 { assert!(counts.pop().is_some()) } else { counts.push(json!(0)) }
        }
        let found = told(&other);
        assert!(found.iter().any(|finding| finding.contains("the seal is of 8 partitions, manifest.json of")), "{found:?}");
    }
}

#[tokio::test]
async fn what_is_put_into_an_archive_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let [_, archive] = archives(folder.path()).await;
    let strange = [
        "README",
        "records/000/0000000000.txt",
        "records/009/0000000000.zst",
        "programs/000/0000020000.zst",
        "schemas/more.proto",
        "seal/checkpoint.new",
        "seal/tile/0/000",
        "seal/tile/0/001.p/1",
        "seal/tile/1/000.p/1",
        "seal/tile/entries/000.p/200",
        "seal/records/003/tile/0/000.p/5",
        "seal/records/003/tile/entries/000.p/1",
        "seal/records/009/tile/0/000.p/1",
    ];
    for name in strange {
        let path = archive.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, [0; 32]).unwrap();
        let found = findings(&archive);
        assert!(found.len() == 1 && found[0].contains(name) && found[0].contains("nothing vouches for it"), "{name}: {found:?}");
        std::fs::remove_file(path).unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", archive.join("records/000.zst")).unwrap();
    let found = findings(&archive);
    assert!(found[0].contains("records/000.zst is neither a file nor a folder"), "{found:?}");
}
