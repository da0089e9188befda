//! BYTES in binary form: each string after its length, four bytes, little-endian.

use crate::error::Result;
use crate::memory::Reservation;
use crate::tensor::Strings;
use bytes::Bytes;

/// Bytes of a length.
const PREFIX: usize = 4;
/// Most bytes that a string takes besides its text: where it ends, and what the engine makes of it.
pub const EACH: usize = 32;

/// Reads `count` strings, which `data` must be to its end; the inner error says why it is not. A single string is borrowed.
/// Counts in `memory` what is allocated, here and by the engine.
pub fn read(data: &Bytes, count: usize, memory: &Reservation) -> Result<Result<Strings, &'static str>> {
    if count > data.len() / PREFIX {
        return Ok(Err("there are not enough bytes for so many lengths"));
    }
    let text = data.len() - count * PREFIX;
    // Once here, and once for the engine.
    memory.grow(2 * text + count * EACH)?;
    if count == 1 {
        return Ok(only(data));
    }
    let (mut bytes, mut ends, mut rest) = (Vec::with_capacity(text), Vec::with_capacity(count), &data[..]);
    for _ in 0..count {
        let Some(string) = next(&mut rest) else { return Ok(Err(BEYOND)) };
        // Never more than `text`, as every length was there before its string.
        bytes.extend_from_slice(string);
        ends.push(bytes.len());
    }
    Ok(if rest.is_empty() { Ok(Strings::new(bytes, ends)) } else { Err(AFTER) })
}

const BEYOND: &str = "a length goes beyond the end";
const AFTER: &str = "there are bytes after the last one";

fn only(data: &Bytes) -> Result<Strings, &'static str> {
    let mut rest = &data[..];
    let string = next(&mut rest).ok_or(BEYOND)?;
    if rest.is_empty() { Ok(Strings::new(data.slice_ref(string), vec![string.len()])) } else { Err(AFTER) }
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let (string, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(string)
}

/// Returns the bytes that `strings` take in binary form.
pub fn size(strings: &Strings) -> usize {
    strings.iter().map(|string| PREFIX + string.len()).sum()
}

/// Calls `put` with the pieces of the binary form of `strings`, in order. Longer strings than the protocol's lengths can
/// say do not exist: requests and models are smaller.
pub fn write(strings: &Strings, mut put: impl FnMut(&[u8])) {
    for string in strings.iter() {
        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
        put(&length.to_le_bytes());
        put(&string[..length as usize]);
    }
}

/// Returns the binary form of `strings`.
pub fn encoded(strings: &Strings) -> Vec<u8> {
    let mut out = Vec::with_capacity(size(strings));
    write(strings, |piece| out.extend_from_slice(piece));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{Account, Budget};
    use proptest::prelude::*;

    fn read(data: &[u8], count: usize) -> Result<Strings, &'static str> {
        super::read(&Bytes::copy_from_slice(data), count, &Reservation::default()).unwrap()
    }

    #[test]
    fn lengths_and_ends_are_checked() {
        assert_eq!(read(b"\x02\0\0\0ab", 1).unwrap().get(0), b"ab");
        assert_eq!(read(b"", 0).unwrap().len(), 0);
        assert_eq!(read(b"a", 0).unwrap_err(), AFTER);
        assert_eq!(read(b"\x03\0\0\0ab", 1).unwrap_err(), BEYOND);
        assert_eq!(read(b"\xff\xff\xff\xffab", 1).unwrap_err(), BEYOND);
        assert_eq!(read(b"\x01\0\0\0ab", 1).unwrap_err(), AFTER);
        assert_eq!(read(b"\x01\0\0\0a\0\0\0\0b", 2).unwrap_err(), AFTER);
        assert_eq!(read(b"\x02\0\0\0ab\x01\0", 2).unwrap_err(), BEYOND);
        for count in [1, 2, usize::MAX, usize::MAX / 4] {
            assert!(read(b"\x01\0\0", count).is_err());
        }
    }

    #[test]
    fn the_engines_copy_is_counted() {
        for (data, count, bytes) in
            [(&b"\x02\0\0\0ab"[..], 1, 4 + 32), (b"\x02\0\0\0ab\0\0\0\0", 2, 4 + 64), (b"", 0, 0)]
        {
            let memory = Reservation::new(Account::new(Budget::new(1 << 20)));
            super::read(&Bytes::copy_from_slice(data), count, &memory).unwrap().unwrap();
            assert_eq!(memory.bytes(), bytes);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(all in proptest::collection::vec(any::<Vec<u8>>(), 0..10)) {
            let strings: Strings = all.iter().collect();
            let written = encoded(&strings);
            prop_assert_eq!(written.len(), size(&strings));
            let again = read(&written, all.len()).unwrap();
            prop_assert!(again.iter().eq(all.iter().map(Vec::as_slice)));
        }

        #[test]
        fn anything_is_read_or_refused(data in any::<Vec<u8>>(), count in 0usize..20) {
            if let Ok(strings) = read(&data, count) {
                prop_assert_eq!(encoded(&strings), data);
            }
        }
    }
}
