//! What a message of the log's topics looks like: the value is the entry's bytes as they are, the headers say its place.

use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};

use crate::{Entry, LogError, Position};

const POSITION: &str = "position";
const ACCOUNT_SEQ: &str = "account_seq";

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

/// The headers of an entry.
pub(super) fn headers(position: Position, account_seq: u64) -> OwnedHeaders {
    let (position, account_seq) = (position.to_be_bytes(), account_seq.to_be_bytes());
    OwnedHeaders::new_with_capacity(2)
        .insert(Header { key: POSITION, value: Some(&position) })
        .insert(Header { key: ACCOUNT_SEQ, value: Some(&account_seq) })
}

impl Message {
    pub(super) fn read(message: &BorrowedMessage<'_>) -> Result<Self, LogError> {
        let number = |name: &str| {
            let header = message.headers()?.iter().find(|header| header.key == name)?;
            header.value?.try_into().ok().map(u64::from_be_bytes)
        };
        let foreign = || LogError::Foreign { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
        Ok(Self {
            partition: message.partition(),
            offset: message.offset(),
            position: number(POSITION).ok_or_else(foreign)?,
            account_seq: number(ACCOUNT_SEQ).ok_or_else(foreign)?,
            key: message.key().and_then(|key| std::str::from_utf8(key).ok()).ok_or_else(foreign)?.to_owned(),
            body: message.payload().unwrap_or_default().to_vec(),
        })
    }

    pub(super) fn into_entry(self) -> Entry {
        Entry { position: self.position, account: self.key, account_seq: self.account_seq, body: self.body }
    }
}
