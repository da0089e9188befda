//! A connection on which the client's frames are followed.

use super::frames::{FAREWELL, Frames};
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a farewell is kept from the library.
const LINGER: Duration = Duration::from_secs(1);

/// What HTTP/2 runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<I: AsyncRead + AsyncWrite + Unpin + Send> Stream for I {}

/// A stream on which the client's frames are followed.
pub(super) struct Followed {
    io: Box<dyn Stream>,
    frames: Frames,
    /// When the farewell that was hidden is due.
    due: Option<Pin<Box<Sleep>>>,
    /// What the library is to read next, before what the client sends.
    late: &'static [u8],
}

impl Followed {
    pub(super) fn new(io: Box<dyn Stream>, frames: Frames) -> Followed {
        Followed { io, frames, due: None, late: &[] }
    }
}

impl AsyncRead for Followed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        self.frames.pass(buffer.filled_mut().get_mut(before..).unwrap_or_default());
        if mem::take(&mut self.frames.hidden) {
            self.due = Some(Box::pin(sleep(LINGER)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Followed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_hidden_farewell_comes_between_later_frames() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let mut followed = Followed::new(Box::new(far), Frames::new().late_farewell());
        let data = [0, 0, 2, 0, 0, 0, 0, 0, 1, b'a', b'b'];
        near.write_all(&[PREFACE, FAREWELL, &data[..10]].concat()).await.unwrap();
        let mut begun = vec![0; PREFACE.len() + FAREWELL.len() + 10];
        followed.read_exact(&mut begun).await.unwrap();
        let mut rest = Vec::new();
        assert!(tokio::time::timeout(LINGER * 2, followed.read_buf(&mut rest)).await.is_err());
        near.write_all(&[&data[10..], &data].concat()).await.unwrap();
        drop(near);
        // By four bytes at a time.
        let mut four = [0; 4];
        while let read @ 1.. = followed.read(&mut four).await.unwrap() {
            rest.extend_from_slice(&four[..read]);
        }
        assert_ne!(begun[PREFACE.len()..][..FAREWELL.len()], *FAREWELL);
        let at = rest.windows(FAREWELL.len()).position(|window| window == FAREWELL).unwrap();
        assert_eq!([&rest[..at], &rest[at + FAREWELL.len()..]].concat(), [&data[10..], &data].concat());
    }
}
