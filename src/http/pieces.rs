//! The bytes of a response, in pieces that lie where others have them: they are sent one after the other, and never put
//! together for that.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The pieces that are still to be sent. Most responses have one.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// Empty only if nothing is left.
    next: Bytes,
    /// None of them is empty.
    after: VecDeque<Bytes>,
}

impl Pieces {
    /// Takes the next piece; `None` if nothing is left.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let following = self.after.pop_front().unwrap_or_default();
        Some(std::mem::replace(&mut self.next, following)).filter(|piece| !piece.is_empty())
    }

    /// Appends a piece.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.next.is_empty() {
            self.next = piece;
        } else if !piece.is_empty() {
            self.after.push_back(piece);
        }
    }

    /// Returns the number of bytes that are left.
    pub(crate) fn len(&self) -> usize {
        self.next.len() + self.after.iter().map(Bytes::len).sum::<usize>()
    }

    /// Returns whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Returns all that is left as one: several pieces are copied.
    pub(crate) fn joined(self) -> Bytes {
        if self.after.is_empty() {
            return self.next;
        }
        let mut whole = Vec::with_capacity(self.len());
        std::iter::once(&self.next).chain(&self.after).for_each(|piece| whole.extend_from_slice(piece));
        whole.into()
    }

    /// Replaces the last piece by what `hold` makes of it: the same bytes, with something that lives until all are sent.
    pub(crate) fn held(mut self, hold: impl FnOnce(Bytes) -> Bytes) -> Pieces {
        let last = self.after.back_mut().unwrap_or(&mut self.next);
        *last = hold(std::mem::take(last));
        self
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Pieces {
        Pieces { next: bytes, after: VecDeque::new() }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn all_of_them_are_taken_in_order(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3), 0..6),
        ) {
            let mut pieces = Pieces::default();
            texts.iter().for_each(|text| pieces.push(text.clone().into()));
            let whole = texts.concat();
            prop_assert_eq!(pieces.len(), whole.len());
            prop_assert_eq!(pieces.size_hint().exact(), Some(whole.len() as u64));
            let mut taken = Vec::new();
            while let Some(some) = pieces.take() {
                prop_assert!(!some.is_empty());
                taken.extend_from_slice(&some);
                prop_assert_eq!(pieces.is_end_stream(), taken.len() == whole.len());
            }
            prop_assert_eq!(taken, whole);
        }
    }

    #[test]
    fn what_is_held_is_held_until_the_last_piece_is_gone() {
        /// Bytes, and what they hold.
        struct Holding(Bytes, #[allow(dead_code)] Arc<()>);

        impl AsRef<[u8]> for Holding {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        for count in [1, 3] {
            let held = Arc::new(());
            let mut pieces = Pieces::default();
            (0..count).for_each(|_| pieces.push(Bytes::from_static(b"ab")));
            let mut pieces = pieces.held(|last| Bytes::from_owner(Holding(last, held.clone())));
            for left in (0..count).rev() {
                assert_eq!(pieces.take().unwrap(), "ab");
                assert_eq!(Arc::strong_count(&held), if left > 0 { 2 } else { 1 }, "{left} of {count}");
            }
        }
    }
}
