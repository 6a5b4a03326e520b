//! Sorting more than fits into memory: entries of a key and a value, in the order of their keys, by way of temporary files.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// How much is sorted in memory at once.
const BUFFER_BYTES: usize = 32 << 20;
/// What an entry takes beside its bytes, about.
const ENTRY_BYTES: usize = 80;
/// So many files are open at most; then they become one.
const RUNS_MAX: usize = 64;

/// A key and a value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Takes entries in any order.
pub struct Sorter {
    folder: PathBuf,
    buffer_bytes: usize,
    entries: Vec<Entry>,
    bytes: usize,
    runs: Vec<File>,
}

impl Sorter {
    /// Its temporary files lie in `folder`, without a name, so that they are gone with the process.
    pub fn new(folder: &Path) -> Self {
        Self::with_buffer(folder, BUFFER_BYTES)
    }

    fn with_buffer(folder: &Path, buffer_bytes: usize) -> Self {
        Self { folder: folder.to_owned(), buffer_bytes, entries: Vec::new(), bytes: 0, runs: Vec::new() }
    }

    /// Takes an entry.
    pub fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
        self.bytes += key.len() + value.len() + ENTRY_BYTES;
        self.entries.push((key, value));
        if self.bytes >= self.buffer_bytes {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let mut entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        entries.sort_unstable();
        let run = self.write(entries.into_iter().map(Ok))?;
        self.runs.push(run);
        if self.runs.len() >= RUNS_MAX {
            let all = Sorted::new(std::mem::take(&mut self.runs), Vec::new())?;
            let run = self.write(all)?;
            self.runs.push(run);
        }
        Ok(())
    }

    fn write(&self, entries: impl Iterator<Item = io::Result<Entry>>) -> io::Result<File> {
        let mut writer = BufWriter::with_capacity(256 << 10, tempfile::tempfile_in(&self.folder)?);
        for entry in entries {
            let (key, value) = entry?;
            for part in [&key, &value] {
                let length = u32::try_from(part.len()).map_err(|_| io::Error::other("a row of more than 4 GB"))?;
                writer.write_all(&length.to_le_bytes())?;
                writer.write_all(part)?;
            }
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(file)
    }

    /// All entries, in the order of their keys.
    pub fn sorted(mut self) -> io::Result<Sorted> {
        self.entries.sort_unstable();
        Sorted::new(self.runs, self.entries)
    }
}

/// Entries in order.
pub struct Sorted {
    runs: Vec<BufReader<File>>,
    in_memory: std::vec::IntoIter<Entry>,
    /// The next entry of each run, and of what is in memory, whose number comes after theirs.
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Sorted {
    fn new(runs: Vec<File>, in_memory: Vec<Entry>) -> io::Result<Self> {
        let runs: Vec<_> = runs.into_iter().map(|file| BufReader::with_capacity(64 << 10, file)).collect();
        let mut sorted = Self { runs, in_memory: in_memory.into_iter(), heads: BinaryHeap::new() };
        for run in 0..=sorted.runs.len() {
            sorted.refill(run)?;
        }
        Ok(sorted)
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        let entry = match self.runs.get_mut(run) {
            None => self.in_memory.next(),
            Some(reader) => {
                let is_over = reader.fill_buf()?.is_empty();
                if is_over { None } else { Some((read_part(reader)?, read_part(reader)?)) }
            }
        };
        self.heads.extend(entry.map(|entry| Reverse((entry, run))));
        Ok(())
    }
}

fn read_part(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let mut part = vec![0; usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?];
    reader.read_exact(&mut part)?;
    Ok(part)
}

impl Iterator for Sorted {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((entry, run)) = self.heads.pop()?;
        Some(self.refill(run).map(|()| entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_buffer_holds_comes_out_in_order() {
        let folder = tempfile::tempdir().unwrap();
        // A few entries a run, and more runs than may be open at once.
        let mut sorter = Sorter::with_buffer(folder.path(), 300);
        let keys = (0..1000_u64).map(|n| n * 7919 % 1000);
        for key in keys {
            sorter.push(key.to_be_bytes().to_vec(), key.to_string().into_bytes()).unwrap();
        }
        assert!(sorter.runs.len() > 1 && sorter.runs.len() <= RUNS_MAX);
        let values: Vec<String> = sorter.sorted().unwrap().map(|entry| String::from_utf8(entry.unwrap().1).unwrap()).collect();
        assert_eq!(values, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}
