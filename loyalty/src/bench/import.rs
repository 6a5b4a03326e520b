//! A file through the whole import.

use std::path::Path;

use super::Figure;
use crate::args::{DataOptions, Encoding, Format, ImportOptions};
use crate::node::{Node, Role};

/// Imports `file` (Online Retail) into a book of its own.
pub async fn run(file: &Path) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let data = DataOptions {
        seal: None,
        data: folder.path().to_owned(),
        database_url: None,
        kafka: None,
        kafka_prefix: String::new(),
        kafka_replication: 1,
        kafka_session_seconds: 10,
        answer_seconds: 10,
        alias_key_file: None,
        partitions: 8,
        accounts_in_memory: 100_000,
    };
    let node = Node::start(&data, Role::ALONE).await?;
    let program = ledger_core::id::Id::parse("shop")?;
    let rules = include_bytes!("../../../data/demo-program.json");
    node.service.publish(program, rules.to_vec(), "bench".into()).await.map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let options = ImportOptions {
        file: file.to_owned(),
        program: "shop".into(),
        format: Format::OnlineRetail,
        encoding: Encoding::Utf8,
        drive_clock: true,
        rejected: Some(folder.path().join("rejected.csv")),
        data,
    };
    let imported = crate::import::import(&node.service, &options).await?;
    node.stop().await?;
    let memory = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().to_owned();
    Ok(vec![
        Figure::new("import of Online Retail 2009-2010 (525,461 lines)", format!("{:.1} s", imported.seconds), "45 s"),
        Figure::new("  peak memory of this process", peak, "600 MB"),
    ])
}
