//! A file as lines of UTF-8, whatever it was written in.

use std::io::{BufRead, BufReader, Read};

use anyhow::bail;
use encoding_rs::{UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, WINDOWS_1258};
use unicode_normalization::UnicodeNormalization;

use crate::args::Encoding;

/// A longer line is no row.
const LINE_MAX_BYTES: u64 = 8 << 20;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line of the file.
#[derive(Default)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Its bytes, without the line's end; UTF-8 unless the file is not.
    pub bytes: Vec<u8>,
    /// Only its beginning is here.
    pub is_cut: bool,
}

/// Lines that are not blank, one after the other.
pub struct Text {
    reader: BufReader<Box<dyn Read + Send>>,
    encoding: Encoding,
    number: u64,
}

impl Text {
    /// Of `input`, in `encoding`.
    pub fn new(input: Box<dyn Read + Send>, encoding: Encoding) -> Self {
        Self { reader: BufReader::with_capacity(256 << 10, input), encoding, number: 0 }
    }

    /// Reads the next line that is not blank into `line`; false at the end.
    pub fn read(&mut self, line: &mut Line) -> anyhow::Result<bool> {
        loop {
            line.bytes.clear();
            if self.reader.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line.bytes)? == 0 {
                return Ok(false);
            }
            self.number += 1;
            line.number = self.number;
            line.is_cut = line.bytes.last() != Some(&b'\n') && self.skip_line()?;
            while let Some(b'\n' | b'\r') = line.bytes.last() {
                line.bytes.pop();
            }
            if self.number == 1 {
                self.check_first(&line.bytes)?;
            }
            // Files that were put together from several have one in their middle, too.
            if self.encoding == Encoding::Utf8 && line.bytes.starts_with(BYTE_ORDER_MARK) {
                line.bytes.drain(..BYTE_ORDER_MARK.len());
            }
            if !line.bytes.trim_ascii().is_empty() {
                self.decode(&mut line.bytes);
                return Ok(true);
            }
        }
    }

    /// Passes over what is left of a line; tells whether there was anything.
    fn skip_line(&mut self) -> anyhow::Result<bool> {
        let mut skipped = false;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(buffer.len(), |end| end + 1);
            skipped |= length > 0;
            self.reader.consume(length);
            if end.is_some() || length == 0 {
                return Ok(skipped);
            }
        }
    }

    fn check_first(&self, line: &[u8]) -> anyhow::Result<()> {
        match encoding_rs::Encoding::for_bom(line) {
            Some((found, _)) if found == UTF_8 && self.encoding != Encoding::Utf8 => {
                bail!("the file begins with the byte order mark of UTF-8; leave --encoding out")
            }
            Some((found, _)) if found == UTF_16LE || found == UTF_16BE => bail!("the file is {}; save it as UTF-8", found.name()),
            _ if line.contains(&0) => bail!("the file's first line has NUL bytes, as UTF-16 has; save it as UTF-8"),
            _ => Ok(()),
        }
    }

    fn decode(&self, bytes: &mut Vec<u8>) {
        if bytes.is_ascii() {
            return;
        }
        match self.encoding {
            Encoding::Utf8 => {}
            Encoding::Windows1252 => *bytes = WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned().into_bytes(),
            // It writes the tone of a Vietnamese letter as a character of its own; rulebooks name goods as keyboards write them, in one.
            Encoding::Windows1258 => *bytes = WINDOWS_1258.decode_without_bom_handling(bytes).0.nfc().collect::<String>().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &[u8], encoding: Encoding) -> anyhow::Result<Vec<(u64, String)>> {
        let mut text = Text::new(Box::new(std::io::Cursor::new(bytes.to_vec())), encoding);
        let (mut line, mut lines) = (Line::default(), Vec::new());
        while text.read(&mut line)? {
            lines.push((line.number, String::from_utf8_lossy(&line.bytes).into_owned()));
        }
        Ok(lines)
    }

    fn all(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
        expected.iter().map(|(number, text)| (*number, (*text).to_owned())).collect()
    }

    #[test]
    fn byte_order_marks_are_no_text() {
        assert_eq!(lines(b"\xef\xbb\xbfa\r\n\n\xef\xbb\xbfb", Encoding::Utf8).unwrap(), all(&[(1, "a"), (3, "b")]));
        assert!(lines(b"\xff\xfea\0", Encoding::Utf8).unwrap_err().to_string().contains("UTF-16LE"));
        assert!(lines(b"\xfe\xff\0a", Encoding::Utf8).unwrap_err().to_string().contains("UTF-16BE"));
        assert!(lines(b"a\0b\0", Encoding::Windows1252).unwrap_err().to_string().contains("UTF-16"));
        assert!(lines(b"\xef\xbb\xbfa", Encoding::Windows1252).unwrap_err().to_string().contains("leave --encoding out"));
    }

    #[test]
    fn windows_files_are_read_as_they_were_written() {
        assert_eq!(lines(b"Caf\xe9 \x80", Encoding::Windows1252).unwrap(), all(&[(1, "Café €")]));
        // "Sữa" and "Việt" as Windows-1258 has them: ư and a combining tilde, ê and a combining dot below.
        assert_eq!(lines(b"S\xfd\xdea", Encoding::Windows1258).unwrap(), all(&[(1, "Sữa")]));
        assert_eq!(lines(b"Vi\xea\xf2t", Encoding::Windows1258).unwrap(), all(&[(1, "Việt")]));
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_next_one_read() {
        let mut bytes = vec![b'x'; 9 << 20];
        bytes.extend_from_slice(b"\nnext\n");
        let read = lines(&bytes, Encoding::Utf8).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[1], (2, "next".to_owned()));
    }
}
