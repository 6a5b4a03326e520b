//! Rejected rows: line, field and reason, as CSV in the order of the lines.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Fault;
use super::sort::Sorter;

/// The file of rejected rows. It is written at the end, as rows are rejected in another order than they stand in. A run that comes to no end
/// leaves what an earlier one wrote.
pub struct Rejects {
    path: PathBuf,
    file: File,
    made: Made,
    rows: Sorter,
    count: u64,
}

/// The path of a file that this run made, which goes with it if it comes to no end.
struct Made(Option<PathBuf>);

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Rejects {
    /// Opens the file at `path`, so that one which can't be written is told before anything is booked; what is in it stays until the end.
    pub fn open(path: &Path, folder: &Path) -> anyhow::Result<Self> {
        let is_new = std::fs::symlink_metadata(path).is_err();
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| format!("can't write {}", path.display()))?;
        let made = Made(is_new.then(|| path.to_owned()));
        Ok(Self { path: path.to_owned(), file, made, rows: Sorter::new(folder), count: 0 })
    }

    /// Notes a rejected row.
    pub fn write(&mut self, line: u64, fault: &Fault) -> anyhow::Result<()> {
        self.count += 1;
        let value = postcard::to_stdvec(&(&fault.field, &fault.reason))?;
        Ok(self.rows.push(line.to_be_bytes().to_vec(), value)?)
    }

    /// Writes the file and tells how many rows are in it.
    pub fn finish(self) -> anyhow::Result<u64> {
        let Self { path, file, mut made, rows, count } = self;
        let write = || format!("can't write {}", path.display());
        let rows = rows.sorted()?;
        // A terminal or a pipe has no length.
        if file.metadata().with_context(write)?.is_file() {
            file.set_len(0).with_context(write)?;
        }
        let mut writer = csv::Writer::from_writer(file);
        writer.write_record(["line", "field", "reason"]).with_context(write)?;
        for entry in rows {
            let (line, value) = entry?;
            let line = line.first_chunk().map_or(0, |line| u64::from_be_bytes(*line));
            let (field, reason): (String, String) = postcard::from_bytes(&value)?;
            writer.write_record([&line.to_string(), &field, &reason]).with_context(write)?;
        }
        writer.flush().with_context(write)?;
        made.0 = None;
        Ok(count)
    }
}
