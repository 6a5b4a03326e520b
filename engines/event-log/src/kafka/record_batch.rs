//! Batches of messages as a broker keeps them, written in one pass from where the messages lie: by way of a library's records each message would
//! take six allocations, which was a ninth of all that both processors did under load.
//!
//! Source: Apache Kafka's protocol guide, "Record Batch" (magic 2). Invariant: what is written is read alike by `kafka_protocol`'s decoder.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::message::{self, PLACE};
use crate::Position;

/// From the first byte to that after the magic and the checksum, and to the first record.
const CHECKED_FROM: usize = 21;
const HEADER_BYTES: usize = 61;
const MAGIC: u8 = 2;
const TRANSACTIONAL: i16 = 1 << 4;
const NO_LEADER_EPOCH: i32 = -1;

/// A batch in the making.
pub(super) struct RecordBatch {
    bytes: BytesMut,
    records: i32,
    timestamp_ms: i64,
}

/// As the protocol writes signed numbers: those near zero are short.
fn varint(out: &mut BytesMut, value: i64) {
    let mut left = (value << 1 ^ value >> 63).cast_unsigned();
    while left > 0x7f {
        out.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    out.put_u8((left & 0x7f) as u8);
}

fn varint_bytes(value: usize) -> usize {
    // Of lengths and small numbers, which are doubled.
    (value << 1 | 1).ilog2() as usize / 7 + 1
}

fn length(out: &mut BytesMut, bytes: usize) {
    varint(out, i64::try_from(bytes).unwrap_or(i64::MAX));
}

fn field(out: &mut BytesMut, bytes: &[u8]) {
    length(out, bytes.len());
    out.extend_from_slice(bytes);
}

impl RecordBatch {
    /// An empty one in `room`.
    pub(super) fn new(mut room: BytesMut, timestamp_ms: i64) -> Self {
        room.clear();
        room.resize(HEADER_BYTES, 0);
        Self { bytes: room, records: 0, timestamp_ms }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// How many records it has.
    pub(super) fn records(&self) -> i32 {
        self.records
    }

    /// Adds a message with the header that says its place.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8], place: (Position, u64)) {
        let (number, out) = (usize::try_from(self.records).unwrap_or_default(), &mut self.bytes);
        // Attributes, the same time as the batch, and one header with 16 bytes.
        let header = 1 + 1 + PLACE.len() + 1 + 16;
        let inner = 2 + varint_bytes(number) + varint_bytes(key.len()) + key.len() + varint_bytes(value.len()) + value.len() + header;
        out.reserve(inner + 10);
        length(out, inner);
        out.put_u8(0);
        varint(out, 0);
        varint(out, i64::from(self.records));
        field(out, key);
        field(out, value);
        varint(out, 1);
        field(out, PLACE.as_bytes());
        field(out, &message::place(place.0, place.1));
        self.records += 1;
    }

    /// The batch as it goes to the broker, as `producer`'s in `epoch`, its first record with the `number`.
    fn finish(self, producer: i64, epoch: i16, number: i32) -> Bytes {
        let Self { mut bytes, records, timestamp_ms } = self;
        let length = i32::try_from(bytes.len() - 12).unwrap_or(i32::MAX);
        let mut header = &mut bytes[..HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(length);
        header.put_i32(NO_LEADER_EPOCH);
        header.put_u8(MAGIC);
        header.put_u32(0);
        header.put_i16(TRANSACTIONAL);
        header.put_i32(records - 1);
        header.put_i64(timestamp_ms);
        header.put_i64(timestamp_ms);
        header.put_i64(producer);
        header.put_i16(epoch);
        header.put_i32(number);
        header.put_i32(records);
        let checksum = crc32c::crc32c(&bytes[CHECKED_FROM..]);
        bytes[CHECKED_FROM - 4..CHECKED_FROM].copy_from_slice(&checksum.to_be_bytes());
        bytes.freeze()
    }
}

/// A partition's batches as they go to the broker, whose records' numbers go on from one to the next; tells how many each holds.
pub(super) fn numbered(batches: Vec<RecordBatch>, producer: i64, epoch: i16) -> impl Iterator<Item = (Bytes, i64)> {
    batches.into_iter().scan(0, move |number, batch| {
        let (first, records) = (*number, batch.records());
        *number += records;
        Some((batch.finish(producer, epoch, first), i64::from(records)))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use kafka_protocol::records::{Compression, Record, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

    use super::*;

    type Message = (Vec<u8>, Vec<u8>, (u64, u64));

    fn library(messages: &[Message], producer: i64, epoch: i16, number: i32) -> Vec<u8> {
        let record = |(at, (key, value, place)): (i32, &Message)| Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer,
            producer_epoch: epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(at),
            sequence: number + at,
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::copy_from_slice(key)),
            value: Some(Bytes::copy_from_slice(value)),
            headers: indexmap::IndexMap::from_iter([("place".into(), Some(Bytes::from([place.0.to_be_bytes(), place.1.to_be_bytes()].concat())))]),
        };
        let records: Vec<Record> = (0..).zip(messages).map(record).collect();
        let mut out = BytesMut::new();
        RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression: Compression::None }).unwrap();
        out.to_vec()
    }

    #[test]
    fn a_batch_is_written_byte_for_byte_as_the_library_writes_it() {
        let lengths = [0, 1, 30, 63, 64, 65, 127, 128, 300, 8_191, 8_192, 8_193, 20_000];
        let message = |at: usize| (vec![b'k'; at % 70], vec![7; lengths[at % lengths.len()]], (at as u64 * 1_000, u64::MAX - at as u64));
        let messages: Vec<_> = (0..300).map(message).collect();
        let mut batch = RecordBatch::new(BytesMut::from(&b"what was there before"[..]), 1_700_000_000_000);
        messages.iter().for_each(|(key, value, place)| batch.push(key, value, *place));
        assert_eq!(batch.records(), 300);
        let written = batch.finish(0x1234_5678_9abc, 9, 4_000);
        assert_eq!(written, library(&messages, 0x1234_5678_9abc, 9, 4_000));
        assert_eq!(RecordBatchDecoder::decode(&mut written.clone()).unwrap().records.len(), 300);
    }

    #[test]
    fn numbers_go_on_over_the_batches_of_a_partition() {
        let length = 1_000;
        let batch = |records: u64| {
            let mut batch = RecordBatch::new(BytesMut::new(), 5);
            (0..records).for_each(|position| batch.push(b"p/a", &vec![7; length], (position, position + 1)));
            batch
        };
        let batches: Vec<_> = numbered([3, 3, 1].map(batch).into(), 11, 3).collect();
        let read = |(batch, count): &(Bytes, i64)| {
            let records = RecordBatchDecoder::decode(&mut batch.clone()).unwrap().records;
            assert_eq!(i64::try_from(records.len()).unwrap(), *count);
            records
        };
        let read: Vec<Record> = batches.iter().flat_map(read).collect();
        assert_eq!(batches.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3, 3, 1]);
        for (number, record) in (0..).zip(&read) {
            assert_eq!((record.producer_id, record.producer_epoch, record.sequence, record.transactional), (11, 3, number, true));
            assert_eq!(record.value.as_ref().unwrap(), &vec![7; length]);
        }
    }
}
