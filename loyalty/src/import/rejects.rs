//! Rejected rows: line, field and reason, as CSV in the order of the lines.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Fault;
use super::sort::Sorter;

/// The file of rejected rows. It is written at the end, as rows are rejected in another order than they stand in.
pub struct Rejects {
    path: PathBuf,
    file: File,
    rows: Sorter,
    count: u64,
}

impl Rejects {
    /// Makes the file, or empties it: what an earlier run rejected is asked for again.
    pub fn create(path: &Path, folder: &Path) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, rows: Sorter::new(folder), count: 0 })
    }

    /// Notes a rejected row.
    pub fn write(&mut self, line: u64, fault: &Fault) -> anyhow::Result<()> {
        self.count += 1;
        let value = postcard::to_stdvec(&(&fault.field, &fault.reason))?;
        Ok(self.rows.push(line.to_be_bytes().to_vec(), value)?)
    }

    /// Writes the file and tells how many rows are in it.
    pub fn finish(self) -> anyhow::Result<u64> {
        let write = || format!("can't write {}", self.path.display());
        let mut writer = csv::Writer::from_writer(self.file);
        writer.write_record(["line", "field", "reason"]).with_context(write)?;
        for entry in self.rows.sorted()? {
            let (line, value) = entry?;
            let line = line.first_chunk().map_or(0, |line| u64::from_be_bytes(*line));
            let (field, reason): (String, String) = postcard::from_bytes(&value)?;
            writer.write_record([&line.to_string(), &field, &reason]).with_context(write)?;
        }
        writer.flush().with_context(write)?;
        Ok(self.count)
    }
}
