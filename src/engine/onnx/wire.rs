//! The protobuf wire format, read from a file in place: what is not asked for is skipped without being read, as a
//! model's weights may be gigabytes.

use std::io::{self, BufReader, Read, Seek};

/// Why a file cannot be read as messages.
#[derive(Debug)]
pub enum Fault {
    /// It is no protobuf message, or it ends too soon.
    Malformed,
    /// Its graphs are nested too deep.
    TooDeep,
    /// The system could not read it.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(why: io::Error) -> Fault {
        if why.kind() == io::ErrorKind::UnexpectedEof { Fault::Malformed } else { Fault::Io(why) }
    }
}

/// The result of reading.
pub(super) type Result<T> = std::result::Result<T, Fault>;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// An integer, bool or enum.
    Number(u64),
    /// A number of fixed size, skipped.
    Fixed,
    /// Text, bytes or a message, which begin at the reader's place and end at this one. To be read or skipped.
    Until(u64),
}

/// Longest text that is read, in bytes: names are far shorter.
const LONGEST_TEXT: u64 = 1 << 20;

/// Reads the fields of nested messages.
pub(super) struct Reader<R> {
    source: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Reader<R> {
    /// Makes a reader at the beginning of `source`.
    pub(super) fn new(source: R) -> Reader<R> {
        Reader { source: BufReader::with_capacity(64 << 10, source), at: 0 }
    }

    /// Returns the place in the file, in bytes.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Reads the next field of a message that ends at `end`: its number and value; `None` at the end. A value
    /// [`Value::Until`] must be consumed before the next call.
    pub(super) fn field(&mut self, end: u64) -> Result<Option<(u32, Value)>> {
        if self.at >= end {
            return if self.at == end { Ok(None) } else { Err(Fault::Malformed) };
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Fault::Malformed)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.fixed(8, end)?,
            5 => self.fixed(4, end)?,
            2 => {
                let length = self.varint()?;
                let until = self.at.checked_add(length).filter(|until| *until <= end);
                Value::Until(until.ok_or(Fault::Malformed)?)
            }
            _ => return Err(Fault::Malformed),
        };
        if self.at > end || key >> 3 == 0 { Err(Fault::Malformed) } else { Ok(Some((key >> 3, value))) }
    }

    /// Goes to `place`, in either direction.
    pub(super) fn go_to(&mut self, place: u64) -> Result<()> {
        let distance = i128::from(place) - i128::from(self.at);
        self.source.seek_relative(i64::try_from(distance).map_err(|_| Fault::Malformed)?)?;
        self.at = place;
        Ok(())
    }

    /// Skips `value`.
    pub(super) fn skip(&mut self, value: Value) -> Result<()> {
        if let Value::Until(end) = value { self.go_to(end) } else { Ok(()) }
    }

    /// Reads the text that ends at `end`.
    pub(super) fn text(&mut self, end: u64) -> Result<String> {
        let length = end.saturating_sub(self.at);
        if length > LONGEST_TEXT {
            return Err(Fault::Malformed);
        }
        let mut text = Vec::new();
        self.source.by_ref().take(length).read_to_end(&mut text)?;
        if text.len() as u64 != length {
            return Err(Fault::Malformed);
        }
        self.at = end;
        String::from_utf8(text).map_err(|_| Fault::Malformed)
    }

    fn fixed(&mut self, bytes: u64, end: u64) -> Result<Value> {
        let place = self.at + bytes;
        if place > end {
            return Err(Fault::Malformed);
        }
        self.go_to(place)?;
        Ok(Value::Fixed)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for index in 0..10 {
            let mut byte = [0];
            self.source.read_exact(&mut byte)?;
            self.at += 1;
            let [byte] = byte;
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value)>> {
        let mut reader = Reader::new(Cursor::new(bytes));
        let mut all = Vec::new();
        while let Some((number, value)) = reader.field(bytes.len() as u64)? {
            reader.skip(value)?;
            all.push((number, value));
        }
        Ok(all)
    }

    proptest! {
        #[test]
        fn it_reads_what_the_reader_of_requests_reads(bytes: Vec<u8>) {
            let other: Option<Vec<u32>> =
                crate::pb::wire::Fields::new(&bytes).map(|field| field.ok().map(|(number, _)| number)).collect();
            prop_assert_eq!(fields(&bytes).ok().map(|all| all.iter().map(|(number, _)| *number).collect()), other);
        }
    }

    #[test]
    fn values_end_where_they_say_and_within_the_message() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 0, 0, 0, 0];
        let read = fields(&message).unwrap();
        assert_eq!(read, [(1, Value::Number(150)), (2, Value::Until(7)), (3, Value::Fixed)]);
        for cut in [1, 2, 4, 5, 6, 8, 9, 10, 11] {
            assert!(fields(&message[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn text_is_read_whole_or_not_at_all() {
        let mut reader = Reader::new(Cursor::new(b"\x0a\x02hi"));
        assert_eq!(reader.field(4).unwrap(), Some((1, Value::Until(4))));
        assert_eq!(reader.text(4).unwrap(), "hi");
        assert!(reader.field(4).unwrap().is_none());
        assert!(Reader::new(Cursor::new(b"\xff")).text(1).is_err());
        assert!(Reader::new(Cursor::new(b"a")).text(2).is_err());
        assert!(Reader::new(Cursor::new(b"a")).text(LONGEST_TEXT + 1).is_err());
    }
}
