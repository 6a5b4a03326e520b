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
    /// Opens `path` and tells up to which line it is complete: rows are written in the order of their lines, so up to its last whole
    /// row. What an earlier run wrote up to line `done` is kept.
    pub fn open(path: &Path, done: u64) -> anyhow::Result<(Self, u64)> {
        let text = if done > 0 { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
        // A row that was cut off by a kill is written again.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut kept = Vec::new();
        let mut told = 0;
        for row in csv::Reader::from_reader(whole.as_bytes()).records() {
            let row = row.with_context(|| format!("can't read {}", path.display()))?;
            let line = row.get(0).and_then(|line| line.parse::<u64>().ok());
            if let Some(line) = line.filter(|line| *line <= done) {
                told = line;
                kept.push(row);
            }
        }
        // Two rows of one line may have been parted by the kill: that line is told again.
        let last = kept.iter().rposition(|row| row.get(0) != Some(told.to_string().as_str())).map_or(0, |i| i + 1);
        kept.truncate(last);
        let mut writer = csv::Writer::from_path(path).with_context(|| format!("can't write {}", path.display()))?;
        writer.write_record(["line", "reason"])?;
        for row in &kept {
            writer.write_record(row)?;
        }
        Ok((Self { path: path.to_owned(), writer, count: kept.len() as u64 }, told.saturating_sub(1)))
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
