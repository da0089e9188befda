//! Tokens of MessagePack, one after the other (github.com/msgpack/msgpack, spec.md). Nothing recurs, and no length is
//! believed that is more than the bytes which are left.

use crate::error::{Error, Result};

/// A value, or the beginning of one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// A number that is too large for the former.
    Big(u64),
    Float(f64),
    /// A text, or bytes.
    Bytes(&'a [u8]),
    /// A list; that many values follow.
    Array(usize),
    /// A map; twice as many values follow.
    Map(usize),
    /// Of a type that applications define.
    Extension,
}

impl<'a> Token<'a> {
    /// Returns the text, or the bytes.
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        if let Token::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// Returns the number of values in the list that begins here.
    pub(super) fn list(self) -> Option<usize> {
        if let Token::Array(count) = self { Some(count) } else { None }
    }
}

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Reads the next token.
    #[inline]
    pub(super) fn token(&mut self) -> Result<Token<'a>> {
        let [first] = self.take::<1>()?;
        match first {
            0x00..=0x7f => Ok(Token::Int(i64::from(first))),
            0xe0..=0xff => Ok(Token::Int(i64::from(first as i8))),
            0xca => Ok(Token::Float(f64::from(f32::from_be_bytes(self.take()?)))),
            0xcb => Ok(Token::Float(f64::from_be_bytes(self.take()?))),
            0x80..=0x8f => self.map(usize::from(first & 15)),
            0x90..=0x9f => self.array(usize::from(first & 15)),
            0xa0..=0xbf => self.string(usize::from(first & 31)),
            _ => self.long(first),
        }
    }

    /// Reads the rest of a token that says its length, or that of its number, in bytes of its own.
    fn long(&mut self, first: u8) -> Result<Token<'a>> {
        let integer = |value: u64| i64::try_from(value).map_or(Token::Big(value), Token::Int);
        match first {
            0xc0 => Ok(Token::Nil),
            0xc2 | 0xc3 => Ok(Token::Bool(first == 0xc3)),
            0xcc..=0xcf => Ok(integer(self.unsigned(1 << (first & 3))?)),
            0xd0 => Ok(Token::Int(i64::from(i8::from_be_bytes(self.take()?)))),
            0xd1 => Ok(Token::Int(i64::from(i16::from_be_bytes(self.take()?)))),
            0xd2 => Ok(Token::Int(i64::from(i32::from_be_bytes(self.take()?)))),
            0xd3 => Ok(Token::Int(i64::from_be_bytes(self.take()?))),
            0xc4 | 0xd9 => self.length(1).and_then(|length| self.string(length)),
            0xc5 | 0xda => self.length(2).and_then(|length| self.string(length)),
            0xc6 | 0xdb => self.length(4).and_then(|length| self.string(length)),
            0xdc => self.length(2).and_then(|count| self.array(count)),
            0xdd => self.length(4).and_then(|count| self.array(count)),
            0xde => self.length(2).and_then(|count| self.map(count)),
            0xdf => self.length(4).and_then(|count| self.map(count)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4)),
            0xc7..=0xc9 => self.length(1 << (first - 0xc7)).and_then(|length| self.extension(length)),
            _ => {
                self.at -= 1;
                Err(self.fault(&format!("no value begins with the byte {first:#04x}")))
            }
        }
    }

    /// Returns the next token, which stays.
    pub(super) fn peek(mut self) -> Result<Token<'a>> {
        self.token()
    }

    /// Consumes a value with all that is in it; returns the number of values in it, lists and maps not counted.
    pub(super) fn skip(&mut self) -> Result<usize> {
        let (mut ahead, mut counted) = (1u64, 0);
        while ahead > 0 {
            ahead -= 1;
            match self.token()? {
                // The sum is bounded by the bytes left.
                Token::Array(count) => ahead += count as u64,
                Token::Map(count) => ahead += 2 * count as u64,
                Token::Nil
                | Token::Bool(_)
                | Token::Int(_)
                | Token::Big(_)
                | Token::Float(_)
                | Token::Bytes(_)
                | Token::Extension => counted += 1,
            }
        }
        Ok(counted)
    }

    /// Reads a text that is UTF-8.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str> {
        let start = *self;
        let text = self.token()?.bytes().and_then(|text| std::str::from_utf8(text).ok());
        text.ok_or_else(|| start.fault(&format!("expected {what}, a text")))
    }

    /// Returns whether nothing follows.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Returns an error of what is here.
    pub(super) fn fault(&self, what: &str) -> Error {
        Error::invalid(format!("MessagePack: {what}, at offset {}", self.at))
    }

    #[inline]
    fn take<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        let Some(bytes) = self.bytes[self.at..].first_chunk() else { return Err(self.cut_off()) };
        self.at += COUNT;
        Ok(*bytes)
    }

    /// Reads a number of `bytes` bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64> {
        match bytes {
            1 => self.take().map(|[byte]| u64::from(byte)),
            2 => self.take().map(|bytes| u64::from(u16::from_be_bytes(bytes))),
            4 => self.take().map(|bytes| u64::from(u32::from_be_bytes(bytes))),
            _ => self.take().map(u64::from_be_bytes),
        }
    }

    /// Reads a length of `bytes` bytes, 4 at most.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        self.unsigned(bytes).map(|length| length as usize)
    }

    #[inline]
    fn string(&mut self, length: usize) -> Result<Token<'a>> {
        let text = self.bytes[self.at..].get(..length).ok_or_else(|| self.cut_off())?;
        self.at += length;
        Ok(Token::Bytes(text))
    }

    fn array(&mut self, count: usize) -> Result<Token<'a>> {
        if count > self.bytes.len() - self.at { Err(self.cut_off()) } else { Ok(Token::Array(count)) }
    }

    fn map(&mut self, count: usize) -> Result<Token<'a>> {
        if count > (self.bytes.len() - self.at) / 2 { Err(self.cut_off()) } else { Ok(Token::Map(count)) }
    }

    /// Passes over an extension of `length` bytes after its type.
    fn extension(&mut self, length: usize) -> Result<Token<'a>> {
        self.string(length + 1).map(|_| Token::Extension)
    }

    #[cold]
    fn cut_off(&self) -> Error {
        self.fault("the body ends within a value")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_every_form() {
        for (bytes, token) in [
            (&b"\x07"[..], Token::Int(7)),
            (b"\xff", Token::Int(-1)),
            (b"\xcc\xff", Token::Int(255)),
            (b"\xcd\x01\x00", Token::Int(256)),
            (b"\xce\xff\xff\xff\xff", Token::Int(0xffff_ffff)),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", Token::Big(u64::MAX)),
            (b"\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", Token::Int(i64::MAX)),
            (b"\xd0\x80", Token::Int(-128)),
            (b"\xd1\x80\x00", Token::Int(-32768)),
            (b"\xd2\x80\x00\x00\x00", Token::Int(-2_147_483_648)),
            (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", Token::Int(i64::MIN)),
            (b"\xca\x3f\xc0\x00\x00", Token::Float(1.5)),
            (b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", Token::Float(1.5)),
            (b"\xc0", Token::Nil),
            (b"\xc2", Token::Bool(false)),
            (b"\xc3", Token::Bool(true)),
            (b"\xa2hi", Token::Bytes(b"hi")),
            (b"\xd9\x02hi", Token::Bytes(b"hi")),
            (b"\xda\x00\x02hi", Token::Bytes(b"hi")),
            (b"\xdb\x00\x00\x00\x02hi", Token::Bytes(b"hi")),
            (b"\xc4\x01\xff", Token::Bytes(b"\xff")),
            (b"\xc5\x00\x01\xff", Token::Bytes(b"\xff")),
            (b"\xc6\x00\x00\x00\x01\xff", Token::Bytes(b"\xff")),
            (b"\xd4\x05x", Token::Extension),
            (b"\xd8\x050123456789abcdef", Token::Extension),
            (b"\xc7\x01\x05x", Token::Extension),
            (b"\xc9\x00\x00\x00\x01\x05x", Token::Extension),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.token(), Ok(token), "{bytes:x?}");
            assert!(reader.is_at_end(), "{bytes:x?}");
            for end in 0..bytes.len() {
                let error = Reader::new(&bytes[..end]).token().unwrap_err();
                assert!(error.message.contains("ends within a value"), "{bytes:x?}");
            }
        }
        let error = Reader::new(b"\xc1").token().unwrap_err();
        assert_eq!(error.message, "MessagePack: no value begins with the byte 0xc1, at offset 0");
    }

    #[test]
    fn lengths_beyond_the_body_are_not_believed() {
        for bytes in [
            &b"\x92\x01"[..],
            b"\xdc\x00\x02\x01",
            b"\xdd\xff\xff\xff\xff\x01",
            b"\x81\x01",
            b"\xde\x00\x01\x01",
            b"\xdf\xff\xff\xff\xff\x01\x01",
            b"\xdb\xff\xff\xff\xff\x01",
            b"\xc9\xff\xff\xff\xff\x01",
        ] {
            assert!(Reader::new(bytes).token().is_err(), "{bytes:x?}");
        }
    }

    #[test]
    fn whatever_the_depth_it_is_passed_over() {
        let deep = [vec![0x91; 1_000_000], vec![0x01]].concat();
        let mut reader = Reader::new(&deep);
        assert_eq!(reader.skip(), Ok(1));
        assert!(reader.is_at_end());
        let mut reader = Reader::new(b"\x82\x01\x92\x02\x03\xa1x\xc0\x07");
        assert_eq!(reader.skip(), Ok(5));
        assert_eq!(reader.at, 8);
        assert!(Reader::new(b"\x92\x91\x01").skip().is_err());
    }
}
