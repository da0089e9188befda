//! The body of a request, as its connection brings it.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Handle;

/// Most bytes, and longest time, for which a body that nobody wants any more is read.
const LAST_BYTES: usize = 64 << 20;
const LAST_SECONDS: Duration = Duration::from_secs(5);

/// The body.
///
/// Over HTTP/2, what is left of it when it is dropped is read to its end, within limits. An answer may be complete before
/// its request is: many clients say the end of a request in a frame of its own, and some send all of it whatever is
/// answered. Without this, the stream would be reset; clients then report that in place of the answer, and the HTTP/2
/// library counts their frames as faults, of which a thousand end the connection.
#[derive(Debug)]
pub struct Arriving {
    /// `None` once it is dropped.
    body: Option<Incoming>,
    is_read_to_its_end: bool,
}

impl Arriving {
    /// Takes the body of a request over HTTP/2.
    pub(crate) fn over_http2(body: Incoming) -> Arriving {
        Arriving { body: Some(body), is_read_to_its_end: true }
    }

    /// Takes the body of a request over HTTP/1.1, whose connection sees to what is left of it.
    pub(crate) fn over_http1(body: Incoming) -> Arriving {
        Arriving { body: Some(body), is_read_to_its_end: false }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| self.is_read_to_its_end && !body.is_end_stream());
        let (Some(body), Ok(runtime)) = (left, Handle::try_current()) else { return };
        let mut rest = Box::pin(read_to_its_end(body));
        // As a rule, the end has come meanwhile.
        if rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            runtime.spawn(rest);
        }
    }
}

/// Reads `body` to its end and drops it, within limits.
pub(crate) async fn read_to_its_end(mut body: impl Body<Data = Bytes> + Unpin) {
    let mut left = LAST_BYTES;
    let to_its_end = async {
        while let Some(Ok(frame)) = body.frame().await {
            match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // By then, a stream is reset, and a connection of HTTP/1.1 closed.
    let _in_time = tokio::time::timeout(LAST_SECONDS, to_its_end).await;
}
