//! The protobuf wire format, read in place and written in pieces, for the messages that carry tensors: those are too
//! large to be copied through generated structs.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The value of a field, by wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An integer, bool or enum.
    Varint(u64),
    /// The raw bytes of a 64-bit number.
    Fixed64(&'a [u8]),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// The raw bytes of a 32-bit number.
    Fixed32(&'a [u8]),
}

/// Iterates over the fields of a message in order and stops after the first malformed one. Groups count as malformed.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Returns the fields of `message`.
    pub fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn read(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = u32::try_from(varint(&mut self.rest)?).map_err(|_| Malformed)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut self.rest)?),
            1 => Value::Fixed64(self.take(8)?),
            2 => {
                let length = usize::try_from(varint(&mut self.rest)?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?),
            _ => return Err(Malformed),
        };
        if key >> 3 == 0 { Err(Malformed) } else { Ok((key >> 3, value)) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Takes one varint off the front of `bytes`.
#[inline]
pub fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    if let [byte @ 0..0x80, rest @ ..] = *bytes {
        *bytes = rest;
        return Ok(u64::from(*byte));
    }
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        // The tenth byte holds the one remaining bit.
        if index == 9 && *byte > 1 {
            return Err(Malformed);
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Returns the number of bytes of `value` as a varint, 1 to 10.
#[inline]
pub fn varint_len(value: u64) -> usize {
    // 9/64 is slightly more than 1/7: right for every number of bits from 1 to 64.
    ((64 - (value | 1).leading_zeros() as usize) * 9 + 64) / 64
}

/// Returns the size in bytes of a field with `length` bytes of content: key, length, content.
pub fn bytes_field_len(number: u32, length: usize) -> usize {
    varint_len(u64::from(number) << 3) + varint_len(length as u64) + length
}

/// Smallest content, in bytes, that is passed on by reference; copying less costs less than another piece.
const PASSED_ON: usize = 16 * 1024;

/// Output that copies small content and keeps references to large content.
#[derive(Debug, Default)]
pub struct Pieces {
    full: VecDeque<Bytes>,
    open: BytesMut,
}

impl Pieces {
    /// Makes an empty output with room for `capacity` bytes of copied content.
    pub fn with_capacity(capacity: usize) -> Pieces {
        Pieces { full: VecDeque::new(), open: BytesMut::with_capacity(capacity) }
    }

    /// Returns the room that copied content needs in a message of `length` bytes.
    pub fn room_for(length: usize) -> usize {
        length.min(2 * PASSED_ON)
    }

    /// Appends a varint.
    #[inline]
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            // The low seven bits, and the flag that more follow.
            self.open.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    /// Appends the key and value of an integer field.
    pub fn varint_field(&mut self, number: u32, value: u64) {
        self.varint(u64::from(number) << 3);
        self.varint(value);
    }

    /// Appends the key and length of a field whose content follows.
    pub fn bytes_key(&mut self, number: u32, length: usize) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(length as u64);
    }

    /// Appends a copy of `content`.
    pub fn copy(&mut self, content: &[u8]) {
        self.open.put_slice(content);
    }

    /// Appends `content`, by reference if it is large.
    pub fn pass_on(&mut self, content: &Bytes) {
        if content.len() < PASSED_ON {
            return self.copy(content);
        }
        if !self.open.is_empty() {
            self.full.push_back(self.open.split().freeze());
        }
        self.full.push_back(content.clone());
    }

    /// Returns everything written in one piece.
    pub fn joined(self) -> Bytes {
        let pieces = self.finish();
        let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
        pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }

    /// Returns everything written, in order, without empty pieces.
    pub fn finish(mut self) -> VecDeque<Bytes> {
        if !self.open.is_empty() {
            self.full.push_back(self.open.freeze());
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_are_read_as_written(value: u64) {
            let mut pieces = Pieces::default();
            pieces.varint(value);
            let written = pieces.finish().pop_front().unwrap();
            prop_assert_eq!(written.len(), varint_len(value));
            let mut rest = &written[..];
            prop_assert_eq!(varint(&mut rest), Ok(value));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_fields_or_malformed(bytes: Vec<u8>) {
            let fields: Vec<_> = Fields::new(&bytes).collect();
            prop_assert!(fields.iter().rev().skip(1).all(Result::is_ok));
        }
    }

    #[test]
    fn varint_lengths_at_every_power_of_two() {
        for bit in 0..64u32 {
            assert_eq!(varint_len(1 << bit), bit as usize / 7 + 1, "bit {bit}");
        }
        assert_eq!((varint_len(0), varint_len(u64::MAX)), (1, 10));
    }

    #[test]
    fn cut_off_fields_are_malformed() {
        for bytes in
            [&[0x08][..], &[0x0a, 2, 1], &[0x0d, 0, 0, 0], &[0x09, 0], &[0x0b], &[0x00, 0], &[0xff; 11]]
        {
            assert_eq!(Fields::new(bytes).last(), Some(Err(Malformed)), "{bytes:?}");
        }
    }

    #[test]
    fn large_content_is_not_copied() {
        let large = Bytes::from(vec![7; PASSED_ON]);
        let mut pieces = Pieces::default();
        pieces.varint_field(1, 300);
        pieces.pass_on(&large);
        pieces.pass_on(&Bytes::from_static(b"small"));
        let pieces = pieces.finish();
        assert_eq!(pieces.len(), 3);
        assert_eq!(pieces[0], &[8, 0xac, 2][..]);
        assert_eq!(pieces[1].as_ptr(), large.as_ptr());
        assert_eq!(pieces[2], "small");
    }
}
