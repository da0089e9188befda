//! Follows the frames in what a client sends over HTTP/2, and alters what the HTTP/2 library would take amiss.
//!
//! Bytes are altered where they lie; all but the few that are altered go through as they came. What is not HTTP/2 goes
//! through untouched, for the library to refuse.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The bytes of a frame before its payload: length (3), kind, flags, stream (4).
const HEAD: usize = 9;
const KIND: usize = 3;
/// A kind of frame that there is not: it is ignored.
const NO_KIND: u8 = 0xff;
/// The frame with which a client acknowledges the ping that the library sends along with its good-bye.
const FAREWELL: &[u8] = &[0, 0, 8, 6, 1, 0, 0, 0, 0, 0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
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
    pub(super) fn new(io: impl Stream + 'static, frames: Frames) -> Followed {
        Followed { io: Box::new(io), frames, due: None, late: &[] }
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

/// Where in its frames a client's stream is.
pub(super) struct Frames {
    at: At,
    head: [u8; HEAD],
    /// Whether farewells are hidden, see [`Frames::late_farewell`].
    hide: bool,
    /// Whether one was.
    hidden: bool,
}

#[derive(Clone, Copy)]
enum At {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a frame's head have come.
    Head(usize),
    /// So many bytes of a frame's payload are to come.
    Payload(usize),
    /// This is not HTTP/2.
    Lost,
}

impl Frames {
    /// At the beginning of a connection.
    pub(super) fn new() -> Frames {
        Frames { at: At::Preface(0), head: [0; HEAD], hide: false, hidden: false }
    }

    /// Lets the library see a while later that the client has taken note of its good-bye.
    ///
    /// From then on the library ignores further calls, and takes a window update for a call that it ignored for a breach
    /// of protocol, which ends the connection together with the calls in flight. gRPC's C core sends both: it
    /// acknowledges a ping first, and then sends the calls that were waiting to be sent. With the delay, these are
    /// answered like all others.
    ///
    /// A farewell that comes in two reads (17 bytes that clients write at once) is not delayed.
    pub(super) fn late_farewell(mut self) -> Frames {
        self.hide = true;
        self
    }

    /// Whether the stream is between two frames.
    fn are_whole(&self) -> bool {
        matches!(self.at, At::Head(0))
    }

    /// The next `bytes` of the stream.
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let passed = self.step(bytes);
            bytes = mem::take(&mut bytes).get_mut(passed..).unwrap_or_default();
        }
    }

    /// Goes through some of `bytes`, of which there are some; how many.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        let (passed, next) = match self.at {
            At::Preface(got) => preface(bytes, got),
            At::Head(got) => {
                if self.hide && got == 0 && bytes.starts_with(FAREWELL) {
                    bytes[KIND] = NO_KIND;
                    self.hidden = true;
                }
                let passed = bytes.len().min(HEAD - got);
                self.head[got..got + passed].copy_from_slice(&bytes[..passed]);
                let got = got + passed;
                (passed, if got == HEAD { self.payload() } else { At::Head(got) })
            }
            At::Payload(left) => {
                let passed = bytes.len().min(left);
                (passed, if passed == left { At::Head(0) } else { At::Payload(left - passed) })
            }
            At::Lost => (bytes.len(), At::Lost),
        };
        self.at = next;
        passed
    }

    /// What follows the head that has come.
    fn payload(&self) -> At {
        let [a, b, c, ..] = self.head;
        match u32::from_be_bytes([0, a, b, c]) as usize {
            0 => At::Head(0),
            length => At::Payload(length),
        }
    }
}

/// Goes through what `bytes` have of the preface, after the `got` bytes of it that have come.
fn preface(bytes: &[u8], got: usize) -> (usize, At) {
    let expected = PREFACE.get(got..).unwrap_or_default();
    let passed = bytes.len().min(expected.len());
    if bytes[..passed] != expected[..passed] {
        return (bytes.len(), At::Lost);
    }
    (passed, if passed == expected.len() { At::Head(0) } else { At::Preface(got + passed) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn passed(bytes: &[u8], split: usize) -> Vec<u8> {
        let mut frames = Frames::new().late_farewell();
        let mut bytes = bytes.to_vec();
        let (first, second) = bytes.split_at_mut(split);
        frames.pass(first);
        frames.pass(second);
        bytes
    }

    #[test]
    fn a_farewell_is_hidden_where_it_is_a_frame() {
        let data = [&[0, 0, 17, 0, 0, 0, 0, 0, 1], FAREWELL].concat();
        let stream = [PREFACE, &data, &[0, 0, 0, 4, 1, 0, 0, 0, 0], FAREWELL, &data, FAREWELL].concat();
        let first = PREFACE.len() + data.len() + HEAD;
        let second = first + FAREWELL.len() + data.len();
        for split in 0..stream.len() {
            let mut hidden = stream.clone();
            for start in [first, second] {
                if !(start + 1..start + FAREWELL.len()).contains(&split) {
                    hidden[start + KIND] = NO_KIND;
                }
            }
            assert_eq!(passed(&stream, split), hidden, "split at {split}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hidden_farewell_comes_between_later_frames() {
        let (mut near, far) = tokio::io::duplex(1 << 10);
        let mut followed = Followed::new(far, Frames::new().late_farewell());
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
        assert_eq!(begun[PREFACE.len() + KIND], NO_KIND);
        let at = rest.windows(FAREWELL.len()).position(|window| window == FAREWELL).unwrap();
        assert_eq!([&rest[..at], &rest[at + FAREWELL.len()..]].concat(), [&data[10..], &data].concat());
    }

    proptest! {
        #[test]
        fn what_is_not_http2_is_left_alone(bytes: Vec<u8>, cut in 0..PREFACE.len(), split: prop::sample::Index) {
            let stream = [&PREFACE[..cut], b"x", &bytes, FAREWELL].concat();
            prop_assert_eq!(&passed(&stream, split.index(stream.len())), &stream);
        }

        #[test]
        fn any_bytes_go_through(bytes: Vec<u8>, split: prop::sample::Index) {
            let stream = [PREFACE, &bytes].concat();
            prop_assert_eq!(passed(&stream, split.index(stream.len())), stream);
        }
    }
}
