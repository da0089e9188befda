//! A connection's stream with time limits for the client: a request's head must arrive completely within a given time
//! of its first byte, and replies must be taken at a pace.

use super::client_stream::{ClientStream, Stream};
use super::{WriteError, last_response};
use crate::metrics::EdgeLimit;
use crate::pace::{Meter, Pace};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream with these limits.
#[derive(Debug)]
pub(super) struct Timed {
    stream: Stream,
    client: Arc<ClientStream>,
    write_error: WriteError,
    head_within: Option<Duration>,
    /// Number of the request whose head has begun to arrive; see [`ClientStream::requests`].
    begun: Option<usize>,
    head: Option<Pin<Box<Sleep>>>,
    reply: Meter,
}

impl Timed {
    /// Makes a stream; `head_within` limits the time from a head's first byte to its last.
    pub(super) fn new(
        client: Arc<ClientStream>,
        write_error: WriteError,
        head_within: Option<Duration>,
        pace: Option<Pace>,
    ) -> Timed {
        let stream = Stream(client.clone());
        Timed { stream, client, write_error, head_within, begun: None, head: None, reply: Meter::new(pace) }
    }

    /// Fails if a head has begun and does not arrive completely in time.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let within = self.head_within.filter(|_| self.begun.is_some_and(|of| self.client.awaits(of)));
        let Some(within) = within else {
            self.head = None;
            return Poll::Pending;
        };
        ready!(self.head.get_or_insert_with(|| Box::pin(sleep(within))).as_mut().poll(cx));
        self.reached(EdgeLimit::HeaderTime);
        self.client.tell(&too_slow(within, self.write_error));
        Poll::Ready(Err(io::Error::new(
            ErrorKind::TimedOut,
            "the client did not finish a request's head in time",
        )))
    }

    /// Returns `wrote`, or a failure if replies have not been taken for too long.
    fn paced(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(wrote) => {
                self.reply.moved(*wrote.as_ref().unwrap_or(&0));
                Poll::Ready(wrote)
            }
            Poll::Pending => self.poll_overdue(cx).map(Err),
        }
    }

    /// Ready with the error of a client that has not taken its reply for too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let late = || io::Error::new(ErrorKind::TimedOut, "the client did not take its reply in time");
        ready!(self.reply.poll_overdue(cx));
        self.reached(EdgeLimit::ReplyTime);
        Poll::Ready(late())
    }

    /// Counts that the client has reached `limit`.
    pub(super) fn reached(&self, limit: EdgeLimit) {
        self.client.connection.reached(limit);
    }
}

/// Returns the response to an unfinished head.
fn too_slow(within: Duration, write_error: WriteError) -> Vec<u8> {
    let message = format!(
        "Request Timeout: the request's line and headers took longer than {} s: send them at once",
        within.as_secs_f64()
    );
    last_response(b"HTTP/1.1 408 Request Timeout\r\n", &message, write_error)
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending => return self.poll_head(cx),
            Poll::Ready(read) => read?,
        }
        if buffer.filled().len() > before {
            self.client.connection.touch();
            self.begun = self.begun.filter(|of| self.client.awaits(*of)).or(self.client.awaited());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.paced(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.paced(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP flushes once it has written everything; with TLS, the client has not taken all of that yet.
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => {
                self.reply.restart();
                Poll::Ready(flushed)
            }
            Poll::Pending => self.poll_overdue(cx).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
