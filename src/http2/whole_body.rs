//! A response's body that is complete before it is sent.

use super::streams::handed_over;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Size of the pieces in which a reply is handed to the HTTP/2 library, in bytes; each once the client has taken the
/// one before.
pub(crate) const PIECE: usize = 32 << 10;

/// The body.
#[derive(Debug, Default)]
pub(crate) struct WholeBody<B> {
    body: B,
    /// What is left of a frame of `body`.
    next: Bytes,
}

impl<B> WholeBody<B> {
    /// Makes a body of the bytes of `body`, which keep what they hold until the last of them is taken.
    pub(crate) fn new(body: B) -> WholeBody<B> {
        WholeBody { body, next: Bytes::new() }
    }
}

impl<B: Body<Data = Bytes, Error = Infallible> + Unpin> Body for WholeBody<B> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.next.is_empty() {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            self.next = frame.into_data().unwrap_or_default();
        }
        let some = self.next.len().min(PIECE);
        let piece = self.next.split_to(some);
        Poll::Ready(Some(Ok(Frame::data(handed_over(piece, &None)))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.next.len() as u64 + self.body.size_hint().lower())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn it_comes_in_pieces_and_knows_its_size() {
        let sent: Vec<u8> = (0..PIECE + 5).map(|index| index.to_le_bytes()[0]).collect();
        let mut body = WholeBody::new(Full::new(Bytes::from(sent.clone())));
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(sent.len() as u64), false));
        let (mut received, mut sizes) = (Vec::new(), Vec::new());
        while let Some(Ok(frame)) = body.frame().await {
            let piece = frame.into_data().unwrap();
            received.extend_from_slice(&piece);
            sizes.push(piece.len());
            assert_eq!(body.size_hint().exact(), Some((sent.len() - received.len()) as u64));
        }
        assert_eq!((received, sizes), (sent, vec![PIECE, 5]));
        assert!(body.is_end_stream() && WholeBody::<Full<Bytes>>::default().is_end_stream());
    }
}
