//! Writing protobuf straight into a buffer, with nothing copied on the way (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Invariant: the bytes are those that the generated types give for the same content (tests/golden.rs holds it): fields in the order of
//! their numbers, a field with its default value left out, an optional one written when it is set.

use ledger_core::points::Amount;

const VARINT: u32 = 0;
const LENGTH_DELIMITED: u32 = 2;

/// A message in the making.
pub(crate) struct Wire<'a>(pub(crate) &'a mut Vec<u8>);

impl Wire<'_> {
    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push((value & 0x7f) as u8);
    }

    fn key(&mut self, number: u32, kind: u32) {
        self.varint(u64::from(number << 3 | kind));
    }

    /// A `uint32`, `uint64` or enum.
    pub(crate) fn uint(&mut self, number: u32, value: impl Into<u64>) {
        let value = value.into();
        if value != 0 {
            self.key(number, VARINT);
            self.varint(value);
        }
    }

    /// An `int64`.
    pub(crate) fn int(&mut self, number: u32, value: i64) {
        self.uint(number, value.cast_unsigned());
    }

    /// An `optional int64`.
    pub(crate) fn optional_int(&mut self, number: u32, value: Option<i64>) {
        if let Some(value) = value {
            self.key(number, VARINT);
            self.varint(value.cast_unsigned());
        }
    }

    /// An `optional uint32` or `optional uint64`.
    pub(crate) fn optional_uint(&mut self, number: u32, value: Option<impl Into<u64>>) {
        self.optional_int(number, value.map(|value| value.into().cast_signed()));
    }

    /// A `sint32` or `sint64`.
    pub(crate) fn sint(&mut self, number: u32, value: impl Into<i64>) {
        let value = value.into();
        self.uint(number, (value << 1 ^ value >> 63).cast_unsigned());
    }

    /// An `optional sint64`.
    pub(crate) fn optional_sint(&mut self, number: u32, value: Option<i64>) {
        self.optional_int(number, value.map(|value| value << 1 ^ value >> 63));
    }

    /// A `bool`.
    pub(crate) fn bool(&mut self, number: u32, value: bool) {
        self.uint(number, value);
    }

    /// A `string`.
    pub(crate) fn text(&mut self, number: u32, value: &str) {
        self.bytes(number, value.as_bytes());
    }

    /// A `bytes`.
    pub(crate) fn bytes(&mut self, number: u32, value: &[u8]) {
        if !value.is_empty() {
            self.item(number, value);
        }
    }

    /// One of a `repeated string` or `repeated bytes`.
    pub(crate) fn item(&mut self, number: u32, value: &[u8]) {
        self.key(number, LENGTH_DELIMITED);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message that is set, or one of a repeated one.
    pub(crate) fn message(&mut self, number: u32, write: impl FnOnce(&mut Wire<'_>)) {
        self.key(number, LENGTH_DELIMITED);
        self.delimited(1, write);
    }

    /// What is written, with its length before it, for which `room` bytes are kept: if it takes more or fewer, what is written moves up or down.
    pub(crate) fn delimited(&mut self, room: usize, write: impl FnOnce(&mut Wire<'_>)) {
        let at = self.0.len();
        self.0.resize(at + room, 0);
        write(self);
        let end = self.0.len();
        let length = end - at - room;
        if room == 1 && length <= 0x7f {
            self.0[at] = (length & 0x7f) as u8;
            return;
        }
        self.varint(length as u64);
        let bytes = self.0.len() - end;
        if bytes == room {
            self.0.copy_within(end.., at);
            self.0.truncate(end);
        } else {
            self.0[at + room..].rotate_right(bytes);
            self.0.drain(at..at + room);
        }
    }
}

/// An `Amount`, in its shortest form.
pub(crate) fn amount(to: &mut Wire<'_>, number: u32, amount: Amount) {
    let plain = if amount.scale() == 0 { amount } else { Amount(amount.0.normalize()) };
    to.message(number, |to| {
        to.sint(1, plain.units());
        to.uint(2, plain.scale());
    });
}
