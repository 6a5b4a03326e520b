//! What a message of the log's topics looks like: the key is the account's, the value is the entry's bytes as they are, and the header
//! `place` holds its position and its number within the account, 8 bytes each, the highest first.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};

use crate::{Entry, LogError, Position, ReplyTo};

pub(super) const PLACE: &str = "place";

/// A message that was read.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) position: Position,
    pub(super) account_seq: u64,
    pub(super) key: String,
    pub(super) body: Vec<u8>,
}

pub(super) fn place(position: Position, account_seq: u64) -> [u8; 16] {
    (u128::from(position) << 64 | u128::from(account_seq)).to_be_bytes()
}

/// The headers of an entry.
pub(super) fn headers(position: Position, account_seq: u64) -> OwnedHeaders {
    let place = place(position, account_seq);
    OwnedHeaders::new_with_capacity(1).insert(Header { key: PLACE, value: Some(&place) })
}

impl Message {
    pub(super) fn read(message: &BorrowedMessage<'_>) -> Result<Self, LogError> {
        let place = || {
            let header = message.headers()?.iter().find(|header| header.key == PLACE)?;
            let (position, account_seq) = header.value?.split_first_chunk::<8>()?;
            Some((u64::from_be_bytes(*position), u64::from_be_bytes(account_seq.try_into().ok()?)))
        };
        let foreign = || LogError::Foreign { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
        let (position, account_seq) = place().ok_or_else(foreign)?;
        Ok(Self {
            partition: message.partition(),
            offset: message.offset(),
            position,
            account_seq,
            key: message.key().and_then(|key| std::str::from_utf8(key).ok()).ok_or_else(foreign)?.to_owned(),
            body: message.payload().unwrap_or_default().to_vec(),
        })
    }

    pub(super) fn into_entry(self) -> Entry {
        Entry { position: self.position, account: self.key, account_seq: self.account_seq, body: self.body }
    }
}

/// Whom to answer: 2 bytes of partition and 16 of the asker's mark.
const REPLY_TO: &str = "reply-to";

/// The header of a question.
pub(super) fn question_headers(to: ReplyTo) -> OwnedHeaders {
    let mut bytes = [0; 18];
    bytes[..2].copy_from_slice(&to.partition.to_be_bytes());
    bytes[2..].copy_from_slice(&to.correlation);
    OwnedHeaders::new_with_capacity(1).insert(Header { key: REPLY_TO, value: Some(&bytes) })
}

/// Whom a question's header says to answer.
pub(super) fn question(message: &BorrowedMessage<'_>) -> Option<ReplyTo> {
    let header = |key: &str| message.headers()?.iter().find(|header| header.key == key)?.value;
    let (partition, correlation) = header(REPLY_TO)?.split_first_chunk::<2>()?;
    Some(ReplyTo { partition: u16::from_be_bytes(*partition), correlation: correlation.try_into().ok()? })
}
