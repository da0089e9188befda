//! Makes each `:authority` in a client's header blocks one that the HTTP/2 library takes.
//!
//! Over a Unix socket gRPC's C core sends the socket's path in its place, percent-encoded; the library refuses such a
//! host together with the call. No one here asks whom a call is for, so it is overwritten where it lies, byte for byte.
//!
//! What client and server remember of earlier headers (RFC 7541, section 2.3.2) must stay the same at both ends, though
//! they then hold different hosts. It does as long as none becomes longer: both tables drop their oldest entries when
//! the sum of the sizes is too large, so the table with the smaller entries holds all that the other one holds, and
//! entries are counted from the newest. A plain text keeps its length. A Huffman-coded one becomes the shortest text of
//! as many coded bytes that a host may be: see [`coded_host`].
//!
//! A client that names `:authority` by an entry of the table that it added itself is not helped. None is known to: the
//! name is in the static table.

/// The name's number in the static table, and the name itself, plain and Huffman-coded.
const INDEX: u32 = 1;
const NAME: &[u8] = b":authority";
const CODED_NAME: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Where in the fields of a header block its bytes are (RFC 7541, section 6).
#[derive(Clone, Copy)]
pub(super) struct Fields(At);

#[derive(Clone, Copy)]
enum At {
    /// Before a field.
    Field,
    /// Within the number that a field begins with; whether that is a literal's.
    Number { number: Number, literal: bool },
    /// Before the length of a text.
    Length(Part),
    /// Within it.
    LongLength { number: Number, coded: bool, part: Part },
    /// Within a text.
    Text { text: Text, part: Part },
    /// No field begins or goes on so.
    Lost,
}

/// Of a literal field.
#[derive(Clone, Copy)]
enum Part {
    /// The name; whether it is ours so far.
    Name(bool),
    /// The value; whether the name was ours.
    Value(bool),
}

#[derive(Clone, Copy)]
struct Text {
    length: u32,
    passed: u32,
    coded: bool,
}

impl Fields {
    /// At the beginning of a block.
    pub(super) fn new() -> Fields {
        Fields(At::Field)
    }

    /// The next `bytes` of the block.
    pub(super) fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = step(self.0, byte);
        }
    }
}

fn step(at: At, byte: &mut u8) -> At {
    match at {
        At::Field => {
            let (bits, literal) = match *byte {
                0x80.. => (7, false),
                0x40.. => (6, true),
                // The size of the table.
                0x20.. => (5, false),
                _ => (4, true),
            };
            indexed(Number::begin(*byte, bits), literal)
        }
        At::Number { number, literal } => indexed(number.go_on(*byte), literal),
        At::Length(part) => measured(Number::begin(*byte, 7), *byte & 0x80 != 0, part),
        At::LongLength { number, coded, part } => measured(number.go_on(*byte), coded, part),
        At::Text { text, part } => text.step(part, byte),
        At::Lost => At::Lost,
    }
}

fn indexed(read: Read, literal: bool) -> At {
    match read {
        Read::Done(_) if !literal => At::Field,
        Read::Done(0) => At::Length(Part::Name(true)),
        Read::Done(index) => At::Length(Part::Value(index == INDEX)),
        Read::More(number) => At::Number { number, literal },
        Read::TooLarge => At::Lost,
    }
}

fn measured(read: Read, coded: bool, part: Part) -> At {
    match read {
        Read::Done(0) => after(match part {
            Part::Name(_) => Part::Name(false),
            value @ Part::Value(_) => value,
        }),
        Read::Done(length) => At::Text { text: Text { length, passed: 0, coded }, part },
        Read::More(number) => At::LongLength { number, coded, part },
        Read::TooLarge => At::Lost,
    }
}

/// What follows a text.
fn after(part: Part) -> At {
    match part {
        Part::Name(ours) => At::Length(Part::Value(ours)),
        Part::Value(_) => At::Field,
    }
}

impl Text {
    fn step(self, part: Part, byte: &mut u8) -> At {
        let part = match part {
            Part::Name(ours) => {
                let name = if self.coded { CODED_NAME } else { NAME };
                let same = self.length as usize == name.len() && name.get(self.passed as usize) == Some(byte);
                Part::Name(ours && same)
            }
            Part::Value(true) => {
                *byte = if self.coded { coded_host(self.length, self.passed) } else { plain_host(*byte) };
                part
            }
            Part::Value(false) => part,
        };
        let text = Text { passed: self.passed + 1, ..self };
        if text.passed == text.length { after(part) } else { At::Text { text, part } }
    }
}

/// `byte`, if it may stand anywhere in a host. (A `:` may not, if another one follows; then this one has gone already.)
fn plain_host(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { byte } else { b'u' }
}

/// The byte after `passed` others of a host that is coded in `length` bytes, and no longer than the client's.
///
/// It has t characters of 13 bits, the longest codes that a URI's host may have, and one more where r, the rest of the
/// bits, is 8 or more. Of d characters the client's host had at most 13 d bits, and up to seven to a whole byte: 13 t + r
/// is at most 13 d + 7. So t is below d; or it is d, and r at most 7. (A client whose host has longer codes, those of
/// `^` or `\` say, may find its later calls refused.)
fn coded_host(length: u32, passed: u32) -> u8 {
    const TILDE: u64 = 0b1_1111_1111_1101;
    const TILDE_BITS: u64 = 13;
    // As many tildes as there is room for, and ones. Of these there may be seven; if need be a `0`, five zeros, comes
    // before them.
    let bits = u64::from(length) * 8;
    let rest = bits % TILDE_BITS;
    let tildes = bits - rest;
    let bit = |at: u64| match at.checked_sub(tildes) {
        None => TILDE >> (TILDE_BITS - 1 - at % TILDE_BITS) & 1 == 1,
        Some(beyond) => rest < 8 || beyond >= 5,
    };
    let first = u64::from(passed) * 8;
    (first..first + 8).fold(0, |byte, at| byte << 1 | u8::from(bit(at)))
}

/// A number of which the beginning has come (RFC 7541, section 5.1).
#[derive(Clone, Copy)]
struct Number {
    value: u32,
    shift: u32,
}

enum Read {
    Done(u32),
    More(Number),
    /// It has more than five bytes: the library refuses it.
    TooLarge,
}

impl Number {
    /// In the last `bits` of its first byte.
    fn begin(byte: u8, bits: u32) -> Read {
        let most = (1 << bits) - 1;
        let value = u32::from(byte) & most;
        if value < most { Read::Done(value) } else { Read::More(Number { value, shift: 0 }) }
    }

    fn go_on(self, byte: u8) -> Read {
        let value = self.value + (u32::from(byte & 0x7f) << self.shift);
        match (byte & 0x80, self.shift) {
            (0, _) => Read::Done(value),
            (_, ..21) => Read::More(Number { value, shift: self.shift + 7 }),
            _ => Read::TooLarge,
        }
    }
}

#[cfg(test)]
mod tests;
