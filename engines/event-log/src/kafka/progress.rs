//! How far the questions of a partition were decided and who has it, on a compacted topic of the log's own: a group's offsets are forgotten a week
//! after its last member (`offsets.retention.minutes`), while questions are kept for 30 days.
//!
//! The key of a message is the partition's number; the value is the offset, 8 bytes, the highest first, and the holder.

use super::client::Reader;
use super::message::Message;
use super::options::KafkaOptions;
use super::{fetch, topics};
use crate::{LogError, Partition};

/// Who has a partition, and the offset of the first question there that is not decided yet.
pub(super) struct Lease {
    pub(super) partition: Partition,
    pub(super) offset: i64,
    /// A transactional id; empty where nobody has it.
    pub(super) holder: String,
}

impl Lease {
    pub(super) fn key(&self) -> String {
        self.partition.to_string()
    }

    pub(super) fn value(&self) -> Vec<u8> {
        [&self.offset.to_be_bytes(), self.holder.as_bytes()].concat()
    }

    fn read(message: &Message) -> Option<Self> {
        let (offset, holder) = message.body.split_first_chunk::<8>()?;
        let partition = Partition::try_from(message.partition).ok()?;
        Some(Self { partition, offset: i64::from_be_bytes(*offset), holder: std::str::from_utf8(holder).ok()?.to_owned() })
    }
}

/// The last lease of each of `partitions` that has one.
pub(super) fn read(reader: &Reader, options: &KafkaOptions, partitions: &[Partition]) -> Result<Vec<Lease>, LogError> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let commands = options.topic(topics::COMMANDS);
    let messages = fetch::last_messages(reader, &options.topic(topics::PROGRESS), partitions)?;
    let mut leases: Vec<Lease> = messages.iter().filter_map(Lease::read).collect();
    for lease in &mut leases {
        let (low, high) = fetch::watermarks(reader, &commands, lease.partition)?;
        if lease.offset > high {
            let (partition, offset) = (lease.partition, lease.offset);
            tracing::warn!(commands, partition, offset, high, "the topic of questions was made anew; it is read from its beginning");
            lease.offset = low;
        }
    }
    Ok(leases)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_it_was_written() {
        let lease = Lease { partition: 3, offset: 258, holder: "p.writer.1".into() };
        assert_eq!((lease.key().as_str(), lease.value().as_slice()), ("3", b"\0\0\0\0\0\0\x01\x02p.writer.1".as_slice()));
        let message = |body: &[u8]| Message { partition: 3, offset: 9, position: 0, account_seq: 0, key: lease.key(), body: body.to_vec() };
        let read = Lease::read(&message(&lease.value())).unwrap();
        assert_eq!((read.partition, read.offset, read.holder.as_str()), (3, 258, "p.writer.1"));
        assert!(Lease::read(&message(b"short")).is_none());
    }
}
