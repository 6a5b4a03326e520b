//! Comma-separated values: a header, and a row a line.
//!
//! A quoted value does not go on in the next line: what an importer books has none that could, and so a quote that nobody closed costs one
//! row, not all that follow.

use std::ops::Range;

use anyhow::{Context, bail};
use ledger_core::id::Id;

use super::Fault;
use super::text::{Line, Text};

/// The columns of a file, and the row that was read last.
pub struct Table {
    names: Vec<String>,
    reader: csv_core::Reader,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    cells: usize,
    /// All of the line was split into cells.
    is_whole: bool,
    /// How many cells the line has if a quote is opened in it and not closed.
    open_cells: Option<usize>,
    /// The line and the one before it are one row: its end stands within a quoted value.
    goes_on: bool,
    /// Of the row that could not be read last.
    told: Option<Told>,
}

/// The ids that may stand in a column of a row that can't be read.
pub struct Candidates {
    pub ids: Vec<Id>,
    /// The id is surely among them.
    pub is_sure: bool,
}

/// What a row that can't be read tells of its purchase and its account.
pub struct Told {
    pub purchases: Candidates,
    pub accounts: Candidates,
    /// The accounts that may be meant if what is missing in the row is its purchase's id.
    pub accounts_alone: Vec<Id>,
}

/// A number's digits after its decimal comma, which stand in a cell of their own: nobody writes a number such as `05`.
fn is_fraction(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && is_digits(digits)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether `before,after` may be one number: with a decimal comma, or with a comma that parts thousands.
fn is_one_number(before: &str, after: &str) -> bool {
    let whole = before.strip_prefix('-').unwrap_or(before);
    let thousands = after.split_once('.').is_some_and(|(thousands, decimals)| thousands.len() == 3 && is_digits(thousands) && is_digits(decimals));
    let is_zero = [whole, after].iter().all(|part| part.bytes().all(|byte| byte == b'0'));
    is_digits(whole) && !is_fraction(whole) && (is_digits(after) || thousands) && !is_zero
}

impl Table {
    /// Reads the header.
    pub fn open(text: &mut Text) -> anyhow::Result<Self> {
        let mut table = Self {
            names: Vec::new(),
            reader: csv_core::Reader::new(),
            bytes: Vec::new(),
            ends: Vec::new(),
            cells: 0,
            is_whole: false,
            open_cells: None,
            goes_on: false,
            told: None,
        };
        let mut line = Line::default();
        if !text.read(&mut line)? {
            bail!("the file is empty: its first line should name the columns");
        }
        table.split(&line).map_err(|fault| anyhow::anyhow!("the first line should name the columns: {}", fault.reason))?;
        for cell in 0..table.cells {
            let name = std::str::from_utf8(table.bytes(cell)).context("the first line is not UTF-8")?.trim().to_owned();
            if table.names.iter().any(|before| before.eq_ignore_ascii_case(&name)) {
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
            // Empty cells, quoted or not, and the sign by which DOS ends a file, are no row.
            if line.bytes.iter().any(|byte| !matches!(byte, b',' | b' ' | b'\t' | b'"' | 0x1a)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the columns' names small, for formats that know them by their exact names.
    pub fn lower_names(&mut self) {
        self.names.iter_mut().for_each(|name| name.make_ascii_lowercase());
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

    /// Whether each value of the row stands in the column that it belongs to.
    pub fn is_aligned(&self) -> bool {
        self.is_whole && self.cells == self.names.len()
    }

    /// What a row that can't be read tells of its purchase and its account, which stand in these columns; `read` takes an account's cell. A
    /// line that goes on where the one before it broke off tells what that one does.
    pub fn told(&mut self, purchase: usize, account: usize, read: impl Fn(&str) -> Option<Id>) -> &Told {
        let before = self.told.take().filter(|_| self.goes_on);
        let told = before.unwrap_or_else(|| Told {
            purchases: self.candidates(purchase, |text| Id::parse(text).ok()),
            accounts: self.candidates(account, &read),
            accounts_alone: self.candidates_without(purchase, account, &read),
        });
        self.told.insert(told)
    }

    /// The ids that may belong into `column`, as `read` reads them: where values are too many or too few, the row may be shifted.
    ///
    /// Where values are too few, the column's own may be the one that is missing. Only the first column is trusted then: it is where files
    /// have what a row belongs to.
    fn candidates(&self, column: usize, read: impl Fn(&str) -> Option<Id>) -> Candidates {
        let found = self.found(self.places(column), read);
        let begins_right = column == 0 && found.first().is_some_and(Option::is_some);
        let is_told = begins_right || (self.cells >= self.names.len() && found.iter().all(Option::is_some));
        Candidates { ids: found.into_iter().flatten().collect(), is_sure: self.is_whole && is_told }
    }

    /// The ids that may belong into `column` if what is missing in the row is the value of the column `lost`, which stands before it.
    fn candidates_without(&self, lost: usize, column: usize, read: impl Fn(&str) -> Option<Id>) -> Vec<Id> {
        if self.cells >= self.names.len() || lost >= column {
            return Vec::new();
        }
        let places = self.places(column);
        self.found(places.start..column.min(places.end), read).into_iter().flatten().collect()
    }

    /// The cells in which the value of `column` may stand.
    fn places(&self, column: usize) -> Range<usize> {
        let (cells, names) = (self.cells, self.names.len());
        let first = column.saturating_sub(names.saturating_sub(cells));
        let last = column + cells.saturating_sub(names);
        first.min(cells)..(last + 1).min(cells)
    }

    fn found(&self, cells: Range<usize>, read: impl Fn(&str) -> Option<Id>) -> Vec<Option<Id>> {
        cells.map(|cell| std::str::from_utf8(self.bytes(cell)).ok().and_then(&read)).collect()
    }

    /// Whether `column` holds numbers.
    fn is_amount(&self, column: usize) -> bool {
        let name = self.names[column].to_ascii_lowercase();
        ["quantity", "price", "discount", "tax", "amount", "shipping"].iter().any(|end| name.ends_with(end))
    }

    /// What is wrong where a number's decimals seem to stand in `column`, and the number itself in the column before, in a row that lacks a
    /// value further on and so has as many as it should.
    pub fn shifted(&self, column: usize) -> Option<Fault> {
        let (name, text) = (&self.names[column], self.cell(column));
        if !is_fraction(text) {
            return None;
        }
        let before = column.checked_sub(1).filter(|before| self.is_amount(*before) && is_one_number(self.cell(*before), text));
        before.map(|before| {
            let number = format!("{},{text}", self.cell(before));
            let advice = format!("if {number:?} is one number, write it with a point for its decimals and no comma");
            Fault::new(&self.names[before], format!("{advice}; if {text:?} is the {name}, write it without zeros before it"))
        })
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
        self.is_whole = read == text.len() && !line.is_cut;
        let quotes = text.iter().filter(|byte| **byte == b'"').count();
        let before = std::mem::replace(&mut self.open_cells, (quotes % 2 == 1).then_some(self.cells));
        self.goes_on = quotes % 2 == 1 && before.is_some_and(|before| before + self.cells == self.names.len() + 1);
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
        let numbers: Vec<(usize, String)> = (0..self.names.len()).filter_map(|column| Some((column, self.halves(column)?))).collect();
        // Prices are what has decimals most often.
        let likely = numbers.iter().find(|(column, _)| self.names[*column].to_ascii_lowercase().ends_with("price")).or(numbers.first());
        let Some((column, number)) = likely else {
            return Fault::new("", format!("{count}: a value that has a comma in it must stand in quotes"));
        };
        let others: String = numbers.iter().filter(|(other, _)| other != column).map(|(_, other)| format!(" (or {other:?})")).collect();
        Fault::new(&self.names[*column], format!("{count}: if {number:?}{others} is one number, write it with a point for its decimals and no comma"))
    }

    /// The number that begins in `column` of a row with too many values, if a comma parts it into two, and if the other columns have what they
    /// may have when it is put together.
    fn halves(&self, column: usize) -> Option<String> {
        let text = |cell: usize| std::str::from_utf8(self.bytes(cell)).unwrap_or_default();
        let (before, after) = (text(column), text(column + 1));
        if !self.is_amount(column) || !is_one_number(before, after) {
            return None;
        }
        // Where several values are too many, the other columns are shifted anyway.
        let is_one_too_many = self.cells == self.names.len() + 1;
        let place = |other: usize| if other > column { other + 1 } else { other };
        let mut others = (0..self.names.len()).filter(|other| *other != column && self.is_amount(*other));
        if is_one_too_many && others.any(|other| is_fraction(text(place(other)).split('.').next().unwrap_or_default())) {
            return None;
        }
        Some(format!("{before},{after}"))
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

    /// With the number of columns that files of purchases have.
    fn quantities(line: &[u8]) -> (String, String) {
        let fault = table("id,account,quantity,unit_price,discount,tax\n", line).1.unwrap_err();
        (fault.field, fault.reason)
    }

    #[test]
    fn a_decimal_comma_is_blamed_on_the_number_that_has_it() {
        let (field, reason) = quantities(b"p1,a1,1,5,2.50,0,0");
        assert!(field == "quantity" && reason.contains(r#""1,5" is one number"#), "{reason}");
        let (field, reason) = quantities(b"p1,a1,1,12,05,0,0");
        assert!(field == "unit_price" && reason.contains(r#""12,05" is one number"#), "{reason}");
        let (field, reason) = quantities(b"p1,a1,1,1,000.50,0,0");
        assert!(field == "unit_price" && reason.contains(r#""1,000.50" is one number"#), "{reason}");
        let (field, reason) = quantities(b"p1,a1,1,5,250,0,0");
        assert!(field == "unit_price" && reason.contains(r#"if "5,250" (or "1,5")"#), "it can't be told: {reason}");
    }

    #[test]
    fn decimals_in_a_column_of_their_own_are_seen_though_the_count_is_right() {
        let shifted = |line: &[u8], column: usize| {
            let (table, read) = table("id,account,quantity,unit_price,discount,tax\n", line);
            read.unwrap();
            table.shifted(column).map(|fault| (fault.field, fault.reason))
        };
        let (field, reason) = shifted(b"p1,a1,1,12,05,0", 4).unwrap();
        assert!(field == "unit_price" && reason.contains(r#""12,05""#), "{reason}");
        assert_eq!(shifted(b"p1,a1,007,12,5,0", 2), None, "no number stands before it");
        for whole in ["0", "0.5", "10", "", "-1"] {
            assert_eq!(shifted(format!("p1,a1,1,12,{whole},0").as_bytes(), 4), None, "{whole}");
        }
    }

    /// What a line tells of the first and of the second column, and whether it surely does.
    fn told(line: &[u8]) -> [(Vec<String>, bool); 2] {
        let (mut table, _) = table("id,account,price\n", line);
        let Told { purchases, accounts, .. } = table.told(0, 1, |text| Id::parse(text).ok());
        [purchases, accounts].map(|found| (found.ids.iter().map(ToString::to_string).collect(), found.is_sure))
    }

    fn ids(ids: &[&str], is_sure: bool) -> (Vec<String>, bool) {
        (ids.iter().map(ToString::to_string).collect(), is_sure)
    }

    #[test]
    fn where_a_row_may_have_shifted_each_place_is_a_candidate() {
        assert_eq!(told(b"p1,x,a1,3"), [ids(&["p1", "x"], true), ids(&["x", "a1"], true)]);
        assert_eq!(told(b"p1,a1,x"), [ids(&["p1"], true), ids(&["a1"], true)]);
        assert_eq!(told(b"p1,a 1,x"), [ids(&["p1"], true), ids(&[], false)]);
        assert_eq!(told(b"p1 ,a1,x"), [ids(&[], false), ids(&["a1"], true)]);
        assert_eq!(told(b"p1"), [ids(&["p1"], true), ids(&["p1"], false)], "the account may be what is missing");
        assert_eq!(told(b"p1,a1,x\rp2,a2,x"), [ids(&["p1"], false), ids(&["a1"], false)], "two rows in one");
        let (mut table, _) = table("id,account,price\n", b"a1,3");
        let alone = &table.told(0, 1, |text| Id::parse(text).ok()).accounts_alone;
        assert_eq!(*alone, [Id::parse("a1").unwrap()], "the id may be what is missing");
    }

    #[test]
    fn a_line_that_goes_on_where_a_quote_was_left_open_is_of_the_same_row() {
        let (mut table, read) = table("id,account,name,price\n", b"p1,a1,\"GIFT");
        read.unwrap_err();
        let id = |text: &str| Id::parse(text).ok();
        assert!(table.told(0, 1, id).purchases.is_sure);
        let mut next = |bytes: &[u8]| {
            table.read(&Line { number: 3, bytes: bytes.to_vec(), is_cut: false }).unwrap_err();
            let told = table.told(0, 1, id);
            (told.purchases.ids.clone(), told.purchases.is_sure)
        };
        assert_eq!(next(b"RED \",3"), (vec![Id::parse("p1").unwrap()], true));
        assert_eq!(next(b"RED \",3"), (vec![], false), "no quote was left open before it");
    }

    #[test]
    fn a_header_that_can_not_be_one_is_refused() {
        let open = |text: &str| {
            Table::open(&mut Text::new(Box::new(std::io::Cursor::new(text.as_bytes().to_vec())), Encoding::Utf8)).map(|_| ()).unwrap_err().to_string()
        };
        assert!(open("a;b;c\n").contains("separate them by commas"));
        assert!(open("a,b,a\n").contains("twice"));
        assert!(open("a,b,A\n").contains("twice"));
        assert!(open("").contains("empty"));
    }
}
