//! Reading protobuf where it lies: nothing is copied but what is kept (<https://protobuf.dev/programming-guides/encoding/>).
//!
//! Invariant: what was written by the generated types is read as they read it. Only a message that comes twice where one is expected is
//! not merged: the last one counts. Nobody writes that.

/// Why bytes are not a protobuf message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

const CUT_OFF: Malformed = Malformed("it ends in the middle of a field");
const NO_NUMBER: Malformed = Malformed("a field has a number that none can have");
const TOO_LONG: Malformed = Malformed("a number is longer than 64 bits");
const OTHER_KIND: Malformed = Malformed("a field is of another kind than the schema says");

type Read<T> = Result<T, Malformed>;

/// A field's value as it lies there.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a kind that the book's schema has nowhere.
    Fixed,
}

/// The fields of a message, one after the other.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; none at the end. Most are texts and messages whose number and length take a byte each.
    #[allow(clippy::inline_always, reason = "two to three per cent of an audit, measured in turns")]
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Read<Option<(u64, Value<'a>)>> {
        match self.0 {
            [] => Ok(None),
            [key @ 8..0x80, length @ ..0x80, rest @ ..] if key & 7 == 2 && rest.len() >= usize::from(*length) => {
                let (taken, rest) = rest.split_at(usize::from(*length));
                self.0 = rest;
                Ok(Some((u64::from(key >> 3), Value::Bytes(taken))))
            }
            [key @ 8..0x80, value @ ..0x80, rest @ ..] if key & 7 == 0 => {
                self.0 = rest;
                Ok(Some((u64::from(key >> 3), Value::Varint(u64::from(*value)))))
            }
            _ => self.any().map(Some),
        }
    }

    #[inline(never)]
    fn any(&mut self) -> Read<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            2 => Value::Bytes(self.delimited()?),
            kind => self.fixed(kind)?,
        };
        if (8..=u64::from(u32::MAX)).contains(&key) { Ok((key >> 3, value)) } else { Err(NO_NUMBER) }
    }

    #[cold]
    fn fixed(&mut self, kind: u64) -> Read<Value<'a>> {
        let length = match kind {
            1 => 8,
            5 => 4,
            _ => return Err(OTHER_KIND),
        };
        self.take(length).map(|_| Value::Fixed)
    }

    /// What stands behind its length.
    pub(crate) fn delimited(&mut self) -> Read<&'a [u8]> {
        let length = self.varint()?;
        self.take(length)
    }

    #[inline]
    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let (taken, rest) = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length)).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Most are of one byte, times of eight.
    #[inline]
    fn varint(&mut self) -> Read<u64> {
        match self.0 {
            [] => Err(CUT_OFF),
            [first, rest @ ..] if *first < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*first))
            }
            _ => self.long_varint(),
        }
    }

    /// Times are of eight bytes: those are taken together, and their groups of seven bits moved up to each other, two, four and eight at a time.
    fn long_varint(&mut self) -> Read<u64> {
        let Some(bytes) = self.0.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)) else { return self.any_varint() };
        let ends = !bytes & 0x8080_8080_8080_8080;
        if ends == 0 {
            return self.any_varint();
        }
        let length = ends.trailing_zeros() / 8 + 1;
        let groups = bytes & (u64::MAX >> (64 - 8 * length));
        let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
        let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
        self.0 = &self.0[length as usize..];
        Ok(fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4)
    }

    #[cold]
    fn any_varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if at == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { CUT_OFF } else { TOO_LONG })
    }
}

impl<'a> Value<'a> {
    /// A `uint64`.
    #[inline]
    pub(crate) fn uint(self) -> Read<u64> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(OTHER_KIND) }
    }

    /// A `uint32`: what is longer loses its upper bits.
    pub(crate) fn uint32(self) -> Read<u32> {
        self.uint().map(|value| (value & u64::from(u32::MAX)) as u32)
    }

    /// An `int64`.
    pub(crate) fn int(self) -> Read<i64> {
        self.uint().map(u64::cast_signed)
    }

    /// A `sint64`.
    pub(crate) fn sint(self) -> Read<i64> {
        self.uint().map(|value| (value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A `sint32`.
    pub(crate) fn sint32(self) -> Read<i32> {
        self.uint32().map(|value| (value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A `bool`.
    pub(crate) fn bool(self) -> Read<bool> {
        self.uint().map(|value| value != 0)
    }

    /// A `bytes`, or a message.
    #[inline]
    pub(crate) fn bytes(self) -> Read<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(OTHER_KIND) }
    }

    /// A `string`.
    pub(crate) fn text(self) -> Read<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use proptest::prelude::*;
    use prost::encoding::{WireType, encode_key, encode_varint};

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_they_were_written(number in 1_u32..1 << 29, value in any::<u64>(), bits in 0..64_u32) {
            let (value, mut bytes) = (value >> bits, Vec::new());
            encode_key(number, WireType::Varint, &mut bytes);
            encode_varint(value, &mut bytes);
            for end in 1..bytes.len() {
                prop_assert!(Fields(&bytes[..end]).next().is_err(), "cut off after {end} bytes");
            }
            let behind = [bytes.as_slice(), &[0xff; 8]].concat();
            prop_assert_eq!(Fields(&behind).next().unwrap().unwrap().1.uint().unwrap(), value, "whatever comes after it");
            let mut fields = Fields(&bytes);
            let (read, found) = fields.next().unwrap().unwrap();
            prop_assert_eq!((read, found.uint().unwrap(), found.int().unwrap()), (u64::from(number), value, value.cast_signed()));
            prop_assert_eq!(found.sint().unwrap(), prost_sint(value));
            prop_assert!(found.bytes().is_err() && fields.next().unwrap().is_none());
        }
    }

    /// The generated types' reading of a `sint64`.
    fn prost_sint(value: u64) -> i64 {
        let mut bytes = vec![8];
        encode_varint(value, &mut bytes);
        let amount: crate::v1::Amount = prost::Message::decode(&*bytes).unwrap();
        amount.units
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let endless = [[8].as_slice(), &[0xff; 10]].concat();
        for (bytes, why) in [
            (&[0x0a, 5, 1][..], "it ends in the middle of a field"),
            (&[0x00, 1], "a field has a number that none can have"),
            (&[0x0b], "a field is of another kind than the schema says"),
            (&endless, "a number is longer than 64 bits"),
        ] {
            assert_eq!(Fields(bytes).next().map(|_| ()).unwrap_err().to_string(), why);
        }
        assert!(matches!(Fields(&[0x0d, 1, 2, 3, 4]).next(), Ok(Some((1, Value::Fixed)))), "fields of later schemas are passed over");
    }
}
