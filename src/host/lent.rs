//! Memory that the process' own program lends: it is read where it is.

use bytes::Bytes;

/// Memory of somebody else, and what keeps it there.
struct Lent<O> {
    address: usize,
    length: usize,
    _owner: O,
}

/// Returns the `length` bytes at `address`. They have to stay where they are for as long as `owner` is held, and nobody
/// may change them until who lends them has the answer that they are for. That is taken on trust, as by any function of C;
/// whoever breaks it gets an answer to other values.
pub(crate) fn bytes(address: usize, length: usize, owner: impl Send + 'static) -> Bytes {
    if address == 0 || length == 0 {
        return Bytes::new();
    }
    Bytes::from_owner(Lent { address, length, _owner: owner })
}

#[allow(unsafe_code)]
impl<O> AsRef<[u8]> for Lent<O> {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: by the contract of `bytes` there are so many bytes, initialised, which nobody changes meanwhile, and the
        // owner, which is held, keeps them.
        unsafe { std::slice::from_raw_parts(self.address as *const u8, self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_owner_is_held_until_the_last_part_is_gone() {
        let owner = Arc::new(vec![1u8, 2, 3]);
        let lent = bytes(owner.as_ptr() as usize, owner.len(), owner.clone());
        let part = lent.slice(1..);
        drop(lent);
        assert_eq!((&part[..], Arc::strong_count(&owner)), (&[2u8, 3][..], 2));
        drop(part);
        assert_eq!(Arc::strong_count(&owner), 1);
        assert!(bytes(0, 0, owner).is_empty());
    }
}
