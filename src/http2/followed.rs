//! A connection that follows the client's frames: anything begun must be finished in time, and frames that cost the
//! client nothing are charged to a budget.

use super::frames::{FAREWELL, Frames};
use crate::connections::Connection;
use crate::metrics::EdgeLimit;
use crate::pace::Pace;
use std::io::{self, ErrorKind, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time until a connection that was cut off ends: a flooding client waits for it, or has to open another one.
const CUT_OFF: Duration = Duration::from_millis(250);
/// Delay of a hidden farewell.
const LINGER: Duration = Duration::from_secs(1);
/// Longest time in which the end of the stream is sent, of which TLS may hold back some.
const LAST_SECONDS: Duration = Duration::from_secs(5);

/// A stream that follows the client's frames.
pub(super) struct Followed<I> {
    io: I,
    frames: Frames,
    connection: Arc<Connection>,
    /// Due time of the hidden farewell.
    due: Option<Pin<Box<Sleep>>>,
    /// Bytes for the library to read before any more from the client.
    late: &'static [u8],
    within: Within,
    /// The timer for the rest of what the client has begun, with the number of frames before it.
    begun: Option<(u64, Pin<Box<Sleep>>)>,
    written: Written,
    /// The end of a connection whose client has sent too many frames. Nothing more is read from it.
    cut_off: Option<Pin<Box<Sleep>>>,
    /// The end of a connection that is being closed.
    leaving: Option<Pin<Box<Sleep>>>,
}

/// Limits on the time in which a client finishes what it has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Within {
    /// The preface, a header block, or a frame that is not a piece of a message.
    pub(super) headers: Option<Duration>,
    /// A piece of a message.
    pub(super) message: Option<Pace>,
}

impl<I> Followed<I> {
    /// Starts at the beginning of `connection`.
    pub(super) fn new(io: I, frames: Frames, connection: Arc<Connection>, within: Within) -> Self {
        let written = Written::default();
        Followed {
            io,
            frames,
            connection,
            due: None,
            late: &[],
            within,
            begun: None,
            written,
            cut_off: None,
            leaving: None,
        }
    }

    /// Returns the time allowed for the rest of what the client has begun.
    fn time_for_rest(&self) -> Option<Duration> {
        match self.frames.data_left() {
            Some(left) => self.within.message.map(|pace| pace.time_for(left as u64)),
            None => self.within.headers.filter(|_| self.frames.are_begun()),
        }
    }

    /// Fails once the client has owed the rest of what it has begun for too long.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.frames.whole;
        if self.begun.as_ref().is_none_or(|(of, _)| *of != before) {
            self.begun = self.time_for_rest().map(|time| (before, Box::pin(sleep(time))));
        }
        let Some((_, timer)) = &mut self.begun else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        let is_data = self.frames.data_left().is_some();
        self.connection.reached(if is_data { EdgeLimit::BodyTime } else { EdgeLimit::HeaderTime });
        let why =
            "the client did not finish in time what it had begun: the preface, a frame or a header block";
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, why)))
    }
}

impl<I> Drop for Followed<I> {
    fn drop(&mut self) {
        self.frames.end();
    }
}

impl<I: AsyncWrite + Unpin> Followed<I> {
    /// Tells a client that it has sent too many frames, if the server's own output is between two frames. Earlier calls
    /// are still answered.
    fn refuse(&mut self, cx: &mut Context<'_>, goaway: &[u8]) {
        if self.written.is_whole() {
            // Best effort: the connection ends soon.
            let _told = Pin::new(&mut self.io).poll_write(cx, goaway);
        }
        self.connection.reached(EdgeLimit::Frames);
        self.cut_off = Some(Box::pin(sleep(CUT_OFF)));
    }

    /// Fails once the time of a client that has sent too many frames is over; pending before, and for all others.
    fn poll_cut_off(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(timer) = &mut self.cut_off else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        let why = "the client sent too many frames that ask for nothing";
        Poll::Ready(Err(io::Error::new(ErrorKind::ConnectionAborted, why)))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Followed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut_off.is_some() {
            return self.poll_cut_off(cx);
        }
        if let Some(due) = &mut self.due
            && due.as_mut().poll(cx).is_ready()
            && self.frames.are_whole()
        {
            (self.due, self.late) = (None, FAREWELL);
        }
        if !self.late.is_empty() {
            let (now, later) = self.late.split_at(self.late.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.late = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buffer) {
            Poll::Pending => return self.poll_begun(cx),
            Poll::Ready(read) => read?,
        }
        self.connection.touch();
        let calls = self.connection.take_messages();
        self.frames.earn_for_calls(calls);
        self.frames.pass(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        if let Some(goaway) = self.frames.too_many() {
            buffer.set_filled(before);
            self.refuse(cx, &goaway);
            return self.poll_cut_off(cx);
        }
        if mem::take(&mut self.frames.hidden) {
            self.due = Some(Box::pin(sleep(LINGER)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Followed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
        self.written.pass(&bytes[..written]);
        self.frames.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(shut) = Pin::new(&mut self.io).poll_shutdown(cx) {
            return Poll::Ready(shut);
        }
        let leaving = self.leaving.get_or_insert_with(|| Box::pin(sleep(LAST_SECONDS)));
        leaving.as_mut().poll(cx).map(|()| Err(ErrorKind::TimedOut.into()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, pieces))?;
        let mut left = written;
        for piece in pieces {
            let passed = left.min(piece.len());
            self.written.pass(&piece[..passed]);
            left -= passed;
        }
        self.frames.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// The position of the server's output within its own frames.
#[derive(Debug, Default)]
struct Written {
    /// The part of a frame's head that has been sent.
    head: [u8; 9],
    got: usize,
    /// Bytes of the frame's payload still to be sent.
    left: usize,
}

impl Written {
    fn is_whole(&self) -> bool {
        self.got == 0 && self.left == 0
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let payload = self.left.min(bytes.len());
            self.left -= payload;
            bytes = &bytes[payload..];
            bytes = &bytes[self.head(bytes)..];
        }
    }

    /// Processes the part of a frame's head in `bytes`; returns its length.
    fn head(&mut self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            return 0;
        }
        let passed = bytes.len().min(self.head.len() - self.got);
        self.head[self.got..self.got + passed].copy_from_slice(&bytes[..passed]);
        self.got += passed;
        if self.got == self.head.len() {
            let [a, b, c, ..] = self.head;
            (self.got, self.left) = (0, u32::from_be_bytes([0, a, b, c]) as usize);
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;
    use crate::memory::Budget;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A stream whose end cannot be sent.
    struct Stuck(tokio::io::DuplexStream);

    impl AsyncRead for Stuck {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Stuck {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_cannot_be_sent_is_given_up() {
        let (_near, far) = tokio::io::duplex(1 << 10);
        let connection = Connections::new(1, Budget::new(1 << 30)).accepted().connection.clone();
        let within = Within { headers: None, message: None };
        let mut followed = Followed::new(Stuck(far), Frames::new(Arc::default()), connection, within);
        let ended = tokio::time::timeout(10 * LAST_SECONDS, followed.shutdown()).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_hidden_farewell_comes_between_later_frames() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let connection = Connections::new(1, Budget::new(1 << 30)).accepted().connection.clone();
        let within = Within { headers: None, message: None };
        let mut followed =
            Followed::new(far, Frames::new(Arc::default()).late_farewell(), connection, within);
        let data = [0, 0, 2, 0, 0, 0, 0, 0, 1, b'a', b'b'];
        near.write_all(&[PREFACE, FAREWELL, &data[..10]].concat()).await.unwrap();
        let mut begun = vec![0; PREFACE.len() + FAREWELL.len() + 10];
        followed.read_exact(&mut begun).await.unwrap();
        let mut rest = Vec::new();
        assert!(tokio::time::timeout(LINGER * 2, followed.read_buf(&mut rest)).await.is_err());
        near.write_all(&[&data[10..], &data].concat()).await.unwrap();
        drop(near);
        // Read four bytes at a time.
        let mut four = [0; 4];
        while let read @ 1.. = followed.read(&mut four).await.unwrap() {
            rest.extend_from_slice(&four[..read]);
        }
        assert_ne!(begun[PREFACE.len()..][..FAREWELL.len()], *FAREWELL);
        let at = rest.windows(FAREWELL.len()).position(|window| window == FAREWELL).unwrap();
        assert_eq!([&rest[..at], &rest[at + FAREWELL.len()..]].concat(), [&data[10..], &data].concat());
    }
}
