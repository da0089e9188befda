//! Replaces each `:authority` in a client's header blocks by one that the HTTP/2 library accepts.
//!
//! Over a Unix socket, gRPC's C core sends the percent-encoded path of the socket instead of a host, and the library
//! refuses the call because of it. Nothing here depends on the host, so it is overwritten in place, byte for byte.
//!
//! The dynamic tables of client and server (RFC 7541, section 2.3.2) must stay in step although they then hold
//! different hosts. They do as long as no entry becomes longer: both tables drop their oldest entries when the sum of
//! the sizes is too large, so the table with the smaller entries holds everything that the other one holds, and entries
//! are numbered from the newest. A plain host keeps its length. A Huffman-coded one becomes the shortest valid host of
//! the same coded length: see [`coded_host`].
//!
//! A client that refers to `:authority` by a table entry that it added itself is not helped. No client is known to: the
//! name is in the static table.

/// The name's index in the static table, and the name itself, plain and Huffman-coded.
const INDEX: u32 = 1;
const NAME: &[u8] = b":authority";
const CODED_NAME: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// The position within the fields of a header block (RFC 7541, section 6).
#[derive(Clone, Copy)]
pub(super) struct Fields(At);

#[derive(Clone, Copy)]
enum At {
    /// Before a field.
    Field,
    /// Within the number at the start of a field; `literal` if that starts a literal.
    Number { number: Number, literal: bool },
    /// Before the length of a text.
    Length(Part),
    /// Within that length.
    LongLength { number: Number, coded: bool, part: Part },
    /// Within a text.
    Text { text: Text, part: Part },
    /// Not a valid field: the position is lost.
    Lost,
}

/// A part of a literal field.
#[derive(Clone, Copy)]
enum Part {
    /// The name; true if it matches ours so far.
    Name(bool),
    /// The value; true if the name was ours.
    Value(bool),
}

#[derive(Clone, Copy)]
struct Text {
    length: u32,
    passed: u32,
    coded: bool,
}

impl Fields {
    /// Starts at the beginning of a block.
    pub(super) fn new() -> Fields {
        Fields(At::Field)
    }

    /// Processes the next `bytes` of the block.
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
                // An update of the table's size.
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

/// Returns the position after a text.
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

/// Returns `byte` if a host may contain it anywhere. (A `:` may not precede another one, so it is replaced too.)
fn plain_host(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { byte } else { b'u' }
}

/// Returns the byte at index `passed` of a host that is coded in `length` bytes and is no longer than the client's.
///
/// The host has t characters of 13 bits, the longest codes allowed in a URI's host, and one more if r, the remaining
/// bits, is 8 or more. If the client's host had d characters, it had at most 13 d bits and up to seven bits of padding:
/// 13 t + r is at most 13 d + 7. So t is below d; or it is d, and r at most 7. (A client whose host has longer codes,
/// such as those of `^` or `\`, may find its later calls refused.)
fn coded_host(length: u32, passed: u32) -> u8 {
    const TILDE: u64 = 0b1_1111_1111_1101;
    const TILDE_BITS: u64 = 13;
    // As many tildes as fit, then ones. At most seven ones are allowed; if more are left, a `0`, which is five zeros,
    // comes first.
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

/// A partly received number (RFC 7541, section 5.1).
#[derive(Clone, Copy)]
struct Number {
    value: u32,
    shift: u32,
}

enum Read {
    Done(u32),
    More(Number),
    /// Longer than five bytes: the library refuses it.
    TooLarge,
}

impl Number {
    /// Starts a number in the last `bits` of its first byte.
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
