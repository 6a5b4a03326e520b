//! The file as a stream of bytes, and its name as a source.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

use crate::args::Format;

/// How much of a file tells it from others.
const SAMPLE_BYTES: u64 = 64 << 10;

/// The name under which the file's offset is booked: of what it is, not where it lies, so a file that was moved or renamed is known
/// again, and one that was written on goes on.
pub fn name(path: &Path, program: &str, format: Format) -> anyhow::Result<String> {
    let mut sample = Vec::new();
    File::open(path).with_context(|| format!("can't read {}", path.display()))?.take(SAMPLE_BYTES).read_to_end(&mut sample)?;
    Ok(format!("import:{program}:{format:?}:{}", blake3::hash(&sample).to_hex()))
}

/// The file's bytes, unpacked where it ends in `.gz`; `bar` shows how far it is read.
pub fn open(path: &Path, bar: ProgressBar) -> anyhow::Result<Box<dyn Read + Send>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = bar.wrap_read(BufReader::with_capacity(256 << 10, file));
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(file))) } else { Box::new(file) })
}
