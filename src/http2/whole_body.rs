//! A response's body that is complete before it is sent.

use super::streams::handed_over;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Size of the pieces in which a reply is handed to the HTTP/2 library, in bytes; each once the client has taken the
/// one before.
pub(crate) const PIECE: usize = 32 << 10;

/// The body.
#[derive(Debug, Default)]
pub(crate) struct WholeBody(Bytes);

impl WholeBody {
    /// Makes a body of `bytes`, which keep what they hold until the last of them is taken.
    pub(crate) fn new(bytes: Bytes) -> WholeBody {
        WholeBody(bytes)
    }
}

impl Body for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.len().min(PIECE);
        let piece = (next > 0).then(|| self.0.split_to(next));
        Poll::Ready(piece.map(|piece| Ok(Frame::data(handed_over(piece, &None)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn it_comes_in_pieces_and_knows_its_size() {
        let sent: Vec<u8> = (0..PIECE + 5).map(|index| index.to_le_bytes()[0]).collect();
        let mut body = WholeBody::new(sent.clone().into());
        assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(sent.len() as u64), false));
        let (mut received, mut sizes) = (Vec::new(), Vec::new());
        while let Some(Ok(frame)) = body.frame().await {
            let piece = frame.into_data().unwrap();
            received.extend_from_slice(&piece);
            sizes.push(piece.len());
        }
        assert_eq!((received, sizes), (sent, vec![PIECE, 5]));
        assert!(body.is_end_stream() && WholeBody::default().is_end_stream());
    }
}
