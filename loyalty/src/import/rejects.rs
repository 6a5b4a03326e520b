//! Rejected lines: line number and reason, as CSV.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The file of rejected lines.
pub struct Rejects {
    path: PathBuf,
    writer: csv::Writer<File>,
    count: u64,
}

impl Rejects {
    /// Opens `path`; what an earlier run wrote up to line `done` is kept, the rest is written again.
    pub fn open(path: &Path, done: u64) -> anyhow::Result<Self> {
        let mut kept = Vec::new();
        if done > 0 && path.exists() {
            let mut reader = csv::Reader::from_path(path).with_context(|| format!("can't read {}", path.display()))?;
            for row in reader.records() {
                // A line that was cut off by a kill is written again if it is still to come.
                let Ok(row) = row else { continue };
                if row.get(0).and_then(|line| line.parse::<u64>().ok()).is_some_and(|line| line <= done) {
                    kept.push(row);
                }
            }
        }
        let mut writer = csv::Writer::from_path(path).with_context(|| format!("can't write {}", path.display()))?;
        writer.write_record(["line", "reason"])?;
        for row in &kept {
            writer.write_record(row)?;
        }
        Ok(Self { path: path.to_owned(), writer, count: kept.len() as u64 })
    }

    /// Notes a rejected line.
    pub fn write(&mut self, line: u64, reason: &str) -> anyhow::Result<()> {
        self.count += 1;
        self.writer.write_record([line.to_string().as_str(), reason]).with_context(|| format!("can't write {}", self.path.display()))
    }

    /// Writes all out and tells how many there are.
    pub fn finish(&mut self) -> anyhow::Result<u64> {
        self.writer.flush().with_context(|| format!("can't write {}", self.path.display()))?;
        Ok(self.count)
    }
}
