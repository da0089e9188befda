//! The map from keys to bytes in FlexBuffers, in which TensorFlow Serving's tools store signatures inside a model.

/// The types of a root and of values; a map's values may be strings or blobs.
const MAP: u8 = 9;
const STRING: u8 = 5;
const BLOB: u8 = 25;

/// Returns the keys and values of the map that is the root of `bytes`; `None` if they are anything else.
pub(super) fn map(bytes: &[u8]) -> Option<Vec<(String, &[u8])>> {
    let width = usize::from(*bytes.last()?);
    let packed = *bytes.get(bytes.len().checked_sub(2)?)?;
    let root = bytes.len().checked_sub(2)?.checked_sub(width)?;
    if packed >> 2 != MAP {
        return None;
    }
    let (start, width) = (back(bytes, root, width)?, 1_usize << (packed & 3));
    let count = number(bytes, start.checked_sub(width)?, width)?;
    let keys_width = number(bytes, start.checked_sub(2 * width)?, width)?;
    let keys = back(bytes, start.checked_sub(3 * width)?, width)?;
    let types = bytes.get(start.checked_add(count.checked_mul(width)?)?..)?;
    // Many entries may refer to the same bytes.
    let mut left = 4 * bytes.len();
    let entry = |index: usize| {
        let key = back(bytes, keys.checked_add(index.checked_mul(keys_width)?)?, keys_width)?;
        let key = bytes.get(key..)?.split(|byte| *byte == 0).next()?;
        let value = value(bytes, start + index * width, width, *types.get(index)?)?;
        left = left.checked_sub(key.len() + value.len())?;
        Some((String::from_utf8_lossy(key).into_owned(), value))
    };
    // Each entry takes several bytes.
    (count < bytes.len()).then(|| (0..count).map(entry).collect())?
}

/// Returns the bytes of the value whose offset is at `at`, `width` bytes wide.
fn value(bytes: &[u8], at: usize, width: usize, packed: u8) -> Option<&[u8]> {
    if !matches!(packed >> 2, STRING | BLOB) {
        return None;
    }
    let start = back(bytes, at, width)?;
    let own_width = 1_usize << (packed & 3);
    let length = number(bytes, start.checked_sub(own_width)?, own_width)?;
    bytes.get(start..start.checked_add(length)?)
}

/// Follows the offset at `at`, which leads back.
fn back(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    at.checked_sub(number(bytes, at, width)?)
}

/// Returns the number at `at`, of 1, 2, 4 or 8 bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<usize> {
    if !matches!(width, 1 | 2 | 4 | 8) {
        return None;
    }
    let mut whole = [0; 8];
    whole[..width].copy_from_slice(bytes.get(at..at.checked_add(width)?)?);
    usize::try_from(u64::from_le_bytes(whole)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `{"key": "value"}`.
    const FILE: &[u8] = b"key\0\x05value\0\x01\x0c\x01\x01\x01\x0b\x14\x02\x24\x01";

    #[test]
    fn a_map_is_read() {
        assert_eq!(map(FILE), Some(vec![("key".to_owned(), &b"value"[..])]));
        assert!((0..FILE.len()).all(|end| map(&FILE[..end]).is_none()));
        assert_eq!(map(b""), None);
    }

    #[test]
    fn the_work_is_bounded() {
        // All entries have the same key, and the same value of 50 bytes.
        let value = [&[50][..], &[b'v'; 50]].concat();
        let file = [b"k\0", &value[..]].concat();
        let back = |file: &Vec<u8>, to: usize| u8::try_from(file.len() - to).unwrap();
        let of = |count: u8| {
            let mut file = file.clone();
            file.push(count);
            let keys = file.len();
            (0..count).for_each(|_| file.push(back(&file, 0)));
            file.extend([back(&file, keys), 1, count]);
            let root = file.len();
            (0..count).for_each(|_| file.push(back(&file, 3)));
            file.extend(vec![BLOB << 2; usize::from(count)]);
            file.extend([back(&file, root), MAP << 2, 1]);
            file
        };
        assert_eq!(map(&of(4)).unwrap().len(), 4);
        assert_eq!(map(&of(60)), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, place in 0..FILE.len(), byte: u8) {
            let _ = map(&bytes);
            let mut changed = FILE.to_vec();
            changed[place] = byte;
            let _ = map(&changed);
        }
    }
}
