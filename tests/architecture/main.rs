//! What ARCHITECTURE.md says of the code, checked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::float_arithmetic, reason = "a test may")]

mod modules;

use std::path::{Path, PathBuf};

/// Members of the workspace whose modules still form cycles. Each is to be cleared and taken off; none is to be added.
const WITH_CYCLES: [&str; 7] = ["ledger-core", "command-service", "transparency", "analytics/jobs", "gateway/api", "loyalty", "tests/sim"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The workspace members that `member` depends on, tests aside.
fn dependencies(member: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split(['.', ' ', '=']).next()).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn dependencies_point_one_way() {
    // Each may use those before it only.
    let order = [
        "ledger-core",
        "engines/telemetry",
        "schemas",
        "engines/event-log",
        "engines/embedded-postgres",
        "command-service",
        "projectors",
        "transparency",
        "analytics/estimators",
        "analytics/jobs",
        "gateway/api",
        "gateway/intake",
        "loyalty",
    ];
    let package = |folder: &str| match folder {
        "schemas" => "ledger-schemas".to_owned(),
        "analytics/jobs" => "analytics".to_owned(),
        _ => folder.rsplit('/').next().unwrap_or_default().to_owned(),
    };
    for (i, member) in order.iter().enumerate() {
        let uses = dependencies(member);
        for later in &order[i..] {
            assert!(!uses.contains(&package(later)), "{member} must not depend on {later}");
        }
    }
    assert!(!dependencies("command-service").contains(&"projectors".to_owned()));
    assert!(!dependencies("projectors").contains(&"command-service".to_owned()));
}

#[test]
fn the_core_is_pure() {
    let allowed = ["cel", "chrono", "compact_str", "rust_decimal", "schemars", "serde", "serde_json", "thiserror"];
    for dependency in dependencies("ledger-core") {
        assert!(allowed.contains(&dependency.as_str()), "ledger-core uses {dependency}: does it read a clock, draw lots or do IO?");
    }
    for file in sources(&root().join("ledger-core/src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        for impure in ["async fn", ".await", "std::fs", "std::net", "std::env", "SystemTime", "Instant::now", "Utc::now", "Local::now", "thread::", "rand::"] {
            assert!(!text.contains(impure), "{} holds {impure}", file.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn modules_form_no_cycles() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    let with_cycles: Vec<(&str, Vec<String>)> = members.iter().map(|member| (*member, modules::cycles(&root().join(member).join("src")))).collect();
    for (member, cycles) in &with_cycles {
        match WITH_CYCLES.contains(member) {
            true => assert!(!cycles.is_empty(), "{member} has no cycles any more: take it off WITH_CYCLES"),
            false => assert!(cycles.is_empty(), "modules of {member} depend on each other in a circle:\n{}", cycles.join("\n")),
        }
    }
    assert!(WITH_CYCLES.iter().all(|member| members.contains(member)), "{WITH_CYCLES:?} are members of the workspace");
}

#[test]
fn files_stay_under_500_lines() {
    for member in ["ledger-core", "schemas", "engines", "command-service", "projectors", "transparency", "analytics", "gateway", "loyalty", "tests"] {
        for file in sources(&root().join(member)) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines", file.display());
        }
    }
}

#[test]
fn documents_name_what_is_there() {
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for folder in [
        "ledger-core/",
        "schemas/",
        "engines/",
        "command-service/",
        "projectors/",
        "transparency/",
        "analytics/",
        "gateway/",
        "loyalty/",
        "migrations/",
        "tests/",
    ] {
        assert!(architecture.contains(folder), "ARCHITECTURE.md does not name {folder}");
    }
    // Between backticks, and of a folder of the workspace: short paths go on from the one before.
    let mut named = 0;
    for path in architecture.split('`').skip(1).step_by(2).filter(|path| path.contains('/') && !path.contains(['<', ' ', '*', '|'])) {
        let first = path.split('/').next().unwrap_or_default();
        if root().join(first).is_dir() {
            assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
            named += 1;
        }
    }
    assert!(named > 50, "{named} paths are named");
}
