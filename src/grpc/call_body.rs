//! The body of a call, whatever has brought it here.

use crate::arriving::Arriving;
use crate::error::{Error, Kind};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The body: messages with their prefixes.
pub(crate) enum CallBody {
    /// As it comes.
    Plain(Arriving),
    /// What another protocol makes of it.
    Decoded(UnsyncBoxBody<Bytes, Error>),
    /// All of it, from the process itself.
    Whole(VecDeque<Bytes>),
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut *self {
            CallBody::Plain(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|why| broken(&why)))),
            CallBody::Decoded(body) => Pin::new(body).poll_frame(cx),
            CallBody::Whole(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            CallBody::Plain(body) => body.is_end_stream(),
            CallBody::Decoded(body) => body.is_end_stream(),
            CallBody::Whole(pieces) => pieces.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            CallBody::Plain(body) => body.size_hint(),
            CallBody::Decoded(body) => body.size_hint(),
            CallBody::Whole(pieces) => {
                SizeHint::with_exact(pieces.iter().map(Bytes::len).sum::<usize>() as u64)
            }
        }
    }
}

/// Returns the error of a call whose body breaks off.
pub(crate) fn broken(why: &hyper::Error) -> Error {
    Error::new(Kind::Cancelled, format!("The client left: {why}"))
}
