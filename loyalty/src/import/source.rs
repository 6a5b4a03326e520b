//! The file as a stream of bytes.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use indicatif::ProgressBar;

/// The file's bytes, unpacked where it ends in `.gz`; `bar` shows how far it is read.
pub fn open(path: &Path, bar: ProgressBar) -> anyhow::Result<Box<dyn Read + Send>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = bar.wrap_read(BufReader::with_capacity(256 << 10, file));
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Box::new(BufReader::with_capacity(256 << 10, MultiGzDecoder::new(file))) } else { Box::new(file) })
}
