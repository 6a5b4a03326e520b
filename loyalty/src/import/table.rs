//! Comma-separated values: a header, and a row a line.
//!
//! A quoted value does not go on in the next line: what an importer books has none that could, and so a quote that nobody closed costs one
//! row, not all that follow.

use anyhow::{Context, bail};

use super::Fault;
use super::text::{Line, Text};

/// The columns of a file, and the row that was read last.
pub struct Table {
    names: Vec<String>,
    reader: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    cells: usize,
}

impl Table {
    /// Reads the header.
    pub fn open(text: &mut Text) -> anyhow::Result<Self> {
        let mut table = Self { names: Vec::new(), reader: csv_core::Reader::new(), bytes: Vec::new(), ends: Vec::new(), cells: 0 };
        let mut line = Line::default();
        if !text.read(&mut line)? {
            bail!("the file is empty: its first line should name the columns");
        }
        table.split(&line).map_err(|fault| anyhow::anyhow!("the first line should name the columns: {}", fault.reason))?;
        for cell in 0..table.cells {
            let name = std::str::from_utf8(table.bytes(cell)).context("the first line is not UTF-8")?.trim().to_owned();
            if table.names.contains(&name) {
                bail!("the first line should name the columns, each once; it has {name:?} twice");
            }
            table.names.push(name);
        }
        if let [name] = &table.names[..]
            && let Some(separator) = name.chars().find(|c| matches!(c, ';' | '\t' | '|'))
        {
            bail!("the columns are separated by {separator:?}; separate them by commas");
        }
        Ok(table)
    }

    /// Reads the next line that has a value into `line`; false at the end. Spreadsheets end with rows of commas alone.
    pub fn next_line(text: &mut Text, line: &mut Line) -> anyhow::Result<bool> {
        while text.read(line)? {
            if line.bytes.iter().any(|byte| !matches!(byte, b',' | b' ' | b'\t')) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The columns' names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Which column has one of these names.
    pub fn column(&self, names: &[&str]) -> anyhow::Result<usize> {
        let plain = |name: &str| name.chars().filter(|c| !matches!(c, ' ' | '_')).collect::<String>().to_lowercase();
        let found = self.names.iter().position(|name| names.iter().any(|wanted| plain(wanted) == plain(name)));
        found.with_context(|| format!("the first line names no column {}; it names {}", names[0], self.names.join(", ")))
    }

    /// Reads a row. Where it fails, [`Self::candidates`] still tells what may stand in a column.
    pub fn read(&mut self, line: &Line) -> Result<(), Fault> {
        self.split(line)?;
        if self.cells != self.names.len() {
            return Err(self.miscounted());
        }
        match (0..self.cells).find(|cell| std::str::from_utf8(self.bytes(*cell)).is_err()) {
            Some(cell) => Err(Fault::new(&self.names[cell], "it is not UTF-8; name the file's encoding by --encoding, such as windows-1252")),
            None => Ok(()),
        }
    }

    /// What stands in `column` of a row that was read.
    pub fn cell(&self, column: usize) -> &str {
        // A row that was read is UTF-8 and has as many cells as there are columns.
        std::str::from_utf8(self.bytes(column)).unwrap_or_default()
    }

    /// What may stand in `column`, where values too many or too few may have shifted the row.
    pub fn candidates(&self, column: usize) -> impl Iterator<Item = &str> {
        let (cells, names) = (self.cells, self.names.len());
        let first = column.saturating_sub(names.saturating_sub(cells));
        let last = column + cells.saturating_sub(names);
        (first..=last).filter(move |cell| *cell < cells).filter_map(|cell| std::str::from_utf8(self.bytes(cell)).ok())
    }

    fn bytes(&self, cell: usize) -> &[u8] {
        let begin = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.bytes[begin..self.ends[cell]]
    }

    fn split(&mut self, line: &Line) -> Result<(), Fault> {
        let text = &line.bytes[..];
        self.reader.reset();
        // A row is no longer than its line, and has a cell more than commas.
        self.bytes.resize(self.bytes.len().max(text.len() + 1), 0);
        let cells = text.iter().filter(|byte| **byte == b',').count() + 2;
        self.ends.resize(self.ends.len().max(cells), 0);
        let (result, read, written, ended) = self.reader.read_record(text, &mut self.bytes, &mut self.ends);
        self.cells = ended;
        if result == csv_core::ReadRecordResult::InputEmpty {
            self.cells += self.reader.read_record(&[], &mut self.bytes[written..], &mut self.ends[ended..]).3;
        }
        let quotes = text.iter().filter(|byte| **byte == b'"').count();
        if line.is_cut {
            return Err(Fault::new("", "the line is longer than 8 MiB"));
        }
        if read < text.len() {
            return Err(Fault::new("", "a carriage return stands within the line"));
        }
        if quotes % 2 == 1 {
            return Err(Fault::new("", "a quote is opened and not closed on this line"));
        }
        Ok(())
    }

    fn miscounted(&self) -> Fault {
        let count = format!("{} values, the first line names {} columns", self.cells, self.names.len());
        if self.cells < self.names.len() {
            return Fault::new("", format!("{count}: a value or a separator is missing, or a line end stands within a value"));
        }
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let halves = |cell: usize| {
            let (before, after) = (std::str::from_utf8(self.bytes(cell)).ok()?, std::str::from_utf8(self.bytes(cell + 1)).ok()?);
            let is_number = digits(before.strip_prefix('-').unwrap_or(before)) && after.split('.').all(digits);
            is_number.then(|| format!("{before},{after}"))
        };
        // Prices are what has decimals most often.
        let is_price = |cell: &usize| self.names[*cell].to_lowercase().ends_with("price");
        let cells = || 0..self.names.len().min(self.cells - 1);
        let found = cells().filter(is_price).chain(cells()).find_map(|cell| Some((cell, halves(cell)?)));
        match found {
            Some((cell, number)) => {
                Fault::new(&self.names[cell], format!("{count}: if {number:?} is one number, write it with a point for its decimals and no comma"))
            }
            None => Fault::new("", format!("{count}: a value that has a comma in it must stand in quotes")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Encoding;

    fn table(text: &str, line: &[u8]) -> (Table, Result<(), Fault>) {
        let mut text = Text::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), Encoding::Utf8);
        let mut table = Table::open(&mut text).unwrap();
        let read = table.read(&Line { number: 2, bytes: line.to_vec(), is_cut: false });
        (table, read)
    }

    #[test]
    fn a_row_has_its_cells() {
        let (table, read) = table("a,b,c\n", br#"1,"x ""y"", z","#);
        read.unwrap();
        assert_eq!([table.cell(0), table.cell(1), table.cell(2)], ["1", r#"x "y", z"#, ""]);
    }

    #[test]
    fn what_is_wrong_with_a_row_is_named() {
        let fault = |line: &[u8]| {
            let fault = table("id,quantity,unit_price,tax\n", line).1.unwrap_err();
            (fault.field, fault.reason)
        };
        let (field, reason) = fault(b"p1,1,12,05,0");
        assert_eq!(field, "unit_price");
        assert!(reason.contains(r#"5 values, the first line names 4 columns: if "12,05" is one number"#), "{reason}");
        assert!(fault(b"p,q,x,y,z").1.contains("must stand in quotes"));
        assert!(fault(b"p1,1,12").1.contains("missing"));
        assert!(fault(b"p1,\"1,12,05").1.contains("not closed"));
        assert_eq!(fault(b"p1,1,Caf\xe9,0").0, "unit_price");
    }

    #[test]
    fn where_a_row_may_have_shifted_each_place_is_a_candidate() {
        let (table, _) = table("id,account,price\n", b"p1,x,a1,3");
        assert_eq!(table.candidates(1).collect::<Vec<_>>(), ["x", "a1"]);
        assert_eq!(table.candidates(0).collect::<Vec<_>>(), ["p1", "x"]);
    }

    #[test]
    fn a_header_that_can_not_be_one_is_refused() {
        let open = |text: &str| {
            Table::open(&mut Text::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), Encoding::Utf8)).map(|_| ()).unwrap_err().to_string()
        };
        assert!(open("a;b;c\n").contains("separate them by commas"));
        assert!(open("a,b,a\n").contains("twice"));
        assert!(open("").contains("empty"));
    }
}
