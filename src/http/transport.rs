//! What carries a connection: TCP, or TLS on it.

use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's stream.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Not encrypted.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<Encrypted>),
}

/// A stream with TLS.
#[derive(Debug)]
pub(crate) struct Encrypted {
    stream: TlsStream<TcpStream>,
    /// A byte that was read to see whether the client goes on, and belongs before what is read next.
    ahead: Option<u8>,
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Transport {
        Transport::Plain(stream)
    }
}

impl From<TlsStream<TcpStream>> for Transport {
    fn from(stream: TlsStream<TcpStream>) -> Transport {
        Transport::Tls(Box::new(Encrypted { stream, ahead: None }))
    }
}

/// The ways in which a client's sending ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client sends no more.
    Closed,
    /// The client is gone.
    Reset,
}

impl Transport {
    /// Ready when the client sends no more; never again once it has sent something that was not read yet.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match self {
            Transport::Plain(stream) => poll_end(stream, cx),
            Transport::Tls(encrypted) => encrypted.poll_end(cx),
        }
    }

    /// Sends what the system takes at once.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(stream) => stream.try_write(bytes),
            Transport::Tls(encrypted) => {
                match Pin::new(&mut encrypted.stream)
                    .poll_write(&mut Context::from_waker(Waker::noop()), bytes)
                {
                    Poll::Ready(wrote) => wrote,
                    Poll::Pending => Err(ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    /// Returns whether the client's system has refused what was sent to it.
    pub(super) fn is_refused(&self) -> bool {
        let stream = match self {
            Transport::Plain(stream) => stream,
            Transport::Tls(encrypted) => encrypted.stream.get_ref().0,
        };
        !matches!(stream.take_error(), Ok(None))
    }

    /// Returns whether something that was written has not been handed to the system yet.
    pub(super) fn holds_back(&self) -> bool {
        match self {
            Transport::Plain(_) => false,
            Transport::Tls(encrypted) => encrypted.stream.get_ref().1.wants_write(),
        }
    }
}

fn poll_end(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<End> {
    loop {
        if ready!(stream.poll_read_ready(cx)).is_err() {
            return Poll::Ready(End::Reset);
        }
        let peek = || SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]);
        match stream.try_io(Interest::READABLE, peek) {
            Ok(0) => return Poll::Ready(End::Closed),
            Ok(_) => return Poll::Pending,
            Err(why) if why.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(End::Reset),
        }
    }
}

impl Encrypted {
    /// TLS has messages of its own, of which the last one ends the stream, so a look at the socket tells nothing.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.ahead.is_some() {
            return Poll::Pending;
        }
        let mut byte = [0];
        let mut buffer = ReadBuf::new(&mut byte);
        match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Poll::Ready(End::Closed),
            Ok(()) => {
                self.ahead = buffer.filled().first().copied();
                Poll::Pending
            }
            // Many clients end the connection without the message that TLS has for that.
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Poll::Ready(End::Closed),
            Err(_) => Poll::Ready(End::Reset),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() > 0
            && let Some(byte) = self.ahead.take()
        {
            buffer.put_slice(&[byte]);
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            // What has come is complete if HTTP says so.
            Err(why) if why.kind() == ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Transport::Tls(encrypted) => encrypted.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Transport::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, buffers),
            Transport::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_write_vectored(cx, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_shutdown(cx),
        }
    }
}
