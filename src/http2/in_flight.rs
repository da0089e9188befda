//! The calls of one connection.

use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

/// Counts the calls of a connection: those in flight by its clones (each call, then its answer, holds one), and all
/// that ever began.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Begins a call, which is in flight until the returned value is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.0.fetch_add(1, Relaxed);
        self.clone()
    }

    /// Returns at the end of the first `pause` in which no call began and after which none is in flight. That is one to
    /// two pauses after the last call, as in gRPC's C core, whose timer is not reset by every call either.
    pub(super) async fn none_for(&self, pause: Duration) {
        loop {
            let begun = self.0.load(Relaxed);
            tokio::time::sleep(pause).await;
            // This clone, and the one from which the connection makes new ones.
            if Arc::strong_count(&self.0) <= 2 && self.0.load(Relaxed) == begun {
                return;
            }
        }
    }
}

/// The body of an answer; keeps its call in flight until the last of it is handed over.
pub(super) struct Answer<B> {
    body: B,
    _call: InFlight,
}

impl<B> Answer<B> {
    /// Wraps the `body` of the answer to `call`.
    pub(super) fn new(body: B, call: InFlight) -> Answer<B> {
        Answer { body, _call: call }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
