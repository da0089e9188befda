//! TensorFlow Lite's format of a tensor of strings: their number, where each begins, where the last ends, all bytes.

use crate::tensor::{Aligned, Strings};

/// The bytes of one number.
const WORD: usize = 4;

/// The bytes of the number of strings and the first offset. Zeros there are not the format.
pub(super) const HEAD: usize = 2 * WORD;

/// Returns how many bytes `strings` take in the format.
pub(super) fn size(strings: &Strings) -> usize {
    HEAD + strings.iter().map(|string| WORD + string.len()).sum::<usize>()
}

/// Returns `strings` in the format; `None` if they are too large for it.
pub(super) fn encode(strings: &Strings, spare: usize) -> Option<Aligned<u8>> {
    let size = size(strings);
    // Offsets are signed in TensorFlow Lite.
    i32::try_from(size).ok()?;
    let head = HEAD + WORD * strings.len();
    let mut out: Aligned<u8> = Aligned::with_capacity(64, size + spare);
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

/// Returns how many strings there are in `bytes`; `None` if these do not have the format.
pub(super) fn count(bytes: &[u8]) -> Option<usize> {
    let (offsets, _) = layout(bytes)?;
    Some(offsets.len() - 1)
}

/// Reads the strings in `bytes`; `None` if these do not have the format.
pub(super) fn decode(bytes: &[u8]) -> Option<Strings> {
    let (offsets, content) = layout(bytes)?;
    let first = word(&offsets[0]);
    let ends = offsets[1..].iter().map(|offset| word(offset) - first).collect();
    Some(Strings::new(content.to_vec(), ends))
}

/// Returns the offsets in `bytes`, of which there is one more than strings, and none is less than that before it; and
/// what lies between the first and the last.
fn layout(bytes: &[u8]) -> Option<(&[[u8; WORD]], &[u8])> {
    let (numbers, _) = bytes.as_chunks::<WORD>();
    let (count, rest) = numbers.split_first()?;
    let offsets = rest.get(..word(count).checked_add(1)?)?;
    let (first, last) = (word(offsets.first()?), word(offsets.last()?));
    let head = WORD * (offsets.len() + 1);
    // Offsets are signed in TensorFlow Lite.
    let is_whole = first >= head && i32::try_from(last).is_ok();
    let content = bytes.get(first..last).filter(|_| is_whole)?;
    offsets.is_sorted_by_key(word).then_some((offsets, content))
}

fn word(bytes: &[u8; WORD]) -> usize {
    u32::from_le_bytes(*bytes) as usize
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
        assert!(decode(&[0; 64]).is_none());
        assert_eq!(decode(&[0, 0, 0, 0, 8, 0, 0, 0]).unwrap().len(), 0);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(items: Vec<Vec<u8>>) {
            let strings: Strings = items.iter().collect();
            let encoded = encode(&strings, 7).unwrap();
            prop_assert_eq!((count(&encoded), size(&strings)), (Some(items.len()), encoded.len()));
            let read = decode(&encoded).unwrap();
            prop_assert_eq!(read.iter().collect::<Vec<_>>(), items);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            prop_assert_eq!(count(&bytes), decode(&bytes).map(|strings| strings.len()));
        }
    }
}
