//! TensorFlow Lite's format of a tensor of strings: their number, where each begins, where the last ends, all bytes.

use crate::tensor::{Aligned, Strings};

/// The bytes of one number.
const WORD: usize = 4;

/// Returns `strings` in the format; `None` if they are too large for it.
pub(super) fn encode(strings: &Strings, spare: usize) -> Option<Aligned<u8>> {
    let head = strings.len().checked_add(2)?.checked_mul(WORD)?;
    let total: usize = strings.iter().map(<[u8]>::len).sum();
    // Offsets are signed in TensorFlow Lite.
    i32::try_from(head.checked_add(total)?).ok()?;
    let mut out: Aligned<u8> = Aligned::with_capacity(64, head + total + spare);
    let mut word = |number: usize| out.extend_from_slice(&u32::try_from(number).unwrap_or(0).to_le_bytes());
    word(strings.len());
    let mut end = head;
    word(end);
    for string in strings.iter() {
        end += string.len();
        word(end);
    }
    strings.iter().for_each(|string| out.extend_from_slice(string));
    Some(out)
}

/// Reads the strings in `bytes`; `None` if these do not have the format.
pub(super) fn decode(bytes: &[u8]) -> Option<Strings> {
    let number = |index: usize| -> Option<usize> {
        let word = bytes.get(index * WORD..)?.get(..WORD)?;
        usize::try_from(i32::from_le_bytes(word.try_into().ok()?)).ok()
    };
    let count = number(0)?;
    let head = count.checked_add(2)?.checked_mul(WORD)?;
    if head > bytes.len() {
        return None;
    }
    let first = number(1)?;
    let mut ends = Vec::with_capacity(count);
    for index in 0..count {
        ends.push(number(index + 2)?.checked_sub(first)?);
    }
    let last = ends.last().map_or(first, |end| first + end);
    let content = bytes.get(first..last).filter(|_| first >= head && ends.is_sorted())?;
    Some(Strings::new(content.to_vec(), ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_format_is_tensorflow_lites() {
        let strings: Strings = ["ab", "", "c"].into_iter().collect();
        let bytes = [3, 0, 0, 0, 20, 0, 0, 0, 22, 0, 0, 0, 22, 0, 0, 0, 23, 0, 0, 0, b'a', b'b', b'c'];
        assert_eq!(encode(&strings, 0).unwrap().as_slice(), bytes);
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_none()));
        assert_eq!(decode(&[0, 0, 0, 0, 8, 0, 0, 0]).unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(items: Vec<Vec<u8>>) {
            let strings: Strings = items.iter().collect();
            let read = decode(&encode(&strings, 7).unwrap()).unwrap();
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), items);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
