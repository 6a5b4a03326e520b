//! The records of an archive, read and written where they lie: an audit goes over them by the million.

use crate::decode_error::{DecodeError, Decoded};
use crate::read::Fields;
use crate::wire::Wire;

/// The length of most takes two bytes.
const LENGTH_BYTES: usize = 2;

/// A record as it stood on the log, in an archive: `ArchivedRecord` with its length before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived<'a> {
    /// Its place in its partition.
    pub position: u64,
    /// `PROGRAM/ACCOUNT`.
    pub account: &'a str,
    /// 1, 2, 3 … within the account.
    pub account_seq: u64,
    /// Its bytes.
    pub body: &'a [u8],
}

impl<'a> Archived<'a> {
    /// Writes it behind what `into` has.
    pub fn encode(&self, into: &mut Vec<u8>) {
        Wire(into).delimited(LENGTH_BYTES, |wire| {
            wire.uint(1, self.position);
            wire.text(2, self.account);
            wire.uint(3, self.account_seq);
            wire.bytes(4, self.body);
        });
    }

    fn decode(bytes: &'a [u8]) -> Decoded<Self> {
        let (mut record, mut fields) = (Self { position: 0, account: "", account_seq: 0, body: &[] }, Fields(bytes));
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => record.position = value.uint()?,
                2 => record.account = value.text()?,
                3 => record.account_seq = value.uint()?,
                4 => record.body = value.bytes()?,
                _ => {}
            }
        }
        Ok(record)
    }
}

/// Records, one behind the other; nothing after one that can't be read.
pub struct ArchivedRecords<'a>(pub &'a [u8]);

impl<'a> Iterator for ArchivedRecords<'a> {
    type Item = Result<Archived<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = Fields(self.0);
        let record = rest.delimited().map_err(DecodeError::from).and_then(Archived::decode);
        self.0 = if record.is_ok() { rest.0 } else { &[] };
        Some(record)
    }
}
