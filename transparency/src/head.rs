//! A head: how far each stream had come, and what its root was then.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ledger_core::time::Moment;
use tlog_tiles::Hash;

use crate::AuditError;

/// A size and a root.
pub(crate) type Reached = (u64, Hash);

/// How far the book had come.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The book's id.
    pub book: String,
    /// When, by the clock of who sealed it.
    pub at: Moment,
    /// By partition.
    pub(crate) records: Vec<Reached>,
    /// By partition.
    pub(crate) outcomes: Vec<Reached>,
    pub(crate) programs: Reached,
}

pub(crate) fn encode(hash: &Hash) -> String {
    BASE64_STANDARD.encode(hash.0)
}

pub(crate) fn decode(text: &str) -> Option<Hash> {
    BASE64_STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}

impl Head {
    /// How many records it covers.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        self.records.iter().map(|(size, _)| size).sum()
    }

    /// How many records of `partition` it covers.
    pub(crate) fn covers(&self, partition: u16) -> u64 {
        self.records.get(usize::from(partition)).map_or(0, |(size, _)| *size)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("loyalty head v1\nbook {}\nat {}\n", self.book, self.at);
        for (name, streams) in [("records", &self.records), ("outcomes", &self.outcomes)] {
            for (partition, (size, root)) in streams.iter().enumerate() {
                let _ = writeln!(text, "{name} {partition} {size} {}", encode(root));
            }
        }
        let _ = writeln!(text, "programs 0 {} {}", self.programs.0, encode(&self.programs.1));
        text
    }

    pub(crate) fn parse(text: &str) -> Result<Self, AuditError> {
        let wrong = || AuditError::Wrong(format!("this is no head of a loyalty book: {:?}", text.chars().take(80).collect::<String>()));
        let mut lines = text.lines();
        lines.next().filter(|line| *line == "loyalty head v1").ok_or_else(wrong)?;
        let book = lines.next().and_then(|line| line.strip_prefix("book ")).ok_or_else(wrong)?.to_owned();
        let at = lines.next().and_then(|line| line.strip_prefix("at ")).and_then(|at| Moment::parse(at).ok()).ok_or_else(wrong)?;
        let mut head = Self { book, at, records: Vec::new(), outcomes: Vec::new(), programs: (0, tlog_tiles::EMPTY_HASH) };
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [name, partition, size, root] = words[..] else { return Err(wrong()) };
            let reached = (size.parse().map_err(|_| wrong())?, decode(root).ok_or_else(wrong)?);
            let partition: usize = partition.parse().map_err(|_| wrong())?;
            match name {
                "records" if partition == head.records.len() => head.records.push(reached),
                "outcomes" if partition == head.outcomes.len() => head.outcomes.push(reached),
                "programs" => head.programs = reached,
                _ => return Err(wrong()),
            }
        }
        Ok(head)
    }
}
