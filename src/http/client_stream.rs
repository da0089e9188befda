//! The stream to a client: what its connection reads and writes, and whether it is still there while its call waits.
//!
//! A client that has left and one that has closed its sending side and waits for its answer look the same at first: the
//! stream ends. They differ when something is sent to them: the system of the one that left refuses it. So the client is
//! sent what HTTP/1.1 allows at any time before an answer, `100 Continue` (RFC 9110, section 15.2).

use crate::connections::Connection;
use socket2::SockRef;
use std::io::{self, ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Interval between the looks at whether a client that sends no more has refused what it was sent.
const PAUSE: Duration = Duration::from_millis(50);
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection's stream, shared by what speaks HTTP over it and by the call that it waits for.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: Mutex<TcpStream>,
    /// Whether a part of an earlier answer still waits to be taken by the system.
    unsent: AtomicBool,
    /// Twice the requests whose heads have come, less one while the last of them is not answered yet.
    requests: AtomicUsize,
    pub(crate) connection: Arc<Connection>,
}

/// A request whose head has come, until its answer is made.
#[derive(Debug)]
pub(crate) struct InHand(Arc<ClientStream>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.requests.fetch_add(1, Relaxed);
    }
}

/// The client of one call.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) stream: Arc<ClientStream>,
    /// Whether it speaks HTTP/1.1, where an answer may be preceded by others.
    pub(crate) is_modern: bool,
}

impl Client {
    /// Returns when the client has left; never if it waits for its answer. Only while nothing else reads the stream.
    pub(crate) async fn left(&self) {
        let stream = &self.stream;
        if std::future::poll_fn(|cx| stream.poll_end(cx)).await == End::Reset {
            return;
        }
        if self.is_modern && !stream.unsent.load(Relaxed) {
            match stream.stream().try_write(PROBE) {
                Err(why) if why.kind() != ErrorKind::WouldBlock => return,
                // A fresh buffer takes these few bytes whole; if it is full, the answer will tell.
                _ => {}
            }
        }
        while !stream.is_refused() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// How a client's sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It sends no more.
    Closed,
    /// It is gone.
    Reset,
}

impl ClientStream {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> ClientStream {
        let (unsent, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
        ClientStream { stream: Mutex::new(stream), unsent, requests, connection }
    }

    /// Takes note of a request whose head has come.
    pub(crate) fn begin(self: &Arc<Self>) -> InHand {
        self.requests.fetch_add(1, Relaxed);
        InHand(self.clone())
    }

    /// The number of the request whose head comes next; none while one is not answered yet.
    pub(super) fn awaited(&self) -> Option<usize> {
        Some(self.requests.load(Relaxed)).filter(|requests| requests.is_multiple_of(2))
    }

    /// Whether the head of request `number` has not come yet.
    pub(super) fn awaits(&self, number: usize) -> bool {
        self.requests.load(Relaxed) == number
    }

    /// Whether no request has come that is not answered yet, and all answers are on their way.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited().is_some() && !self.unsent.load(Relaxed)
    }

    /// Sends the client a last word, if its system takes that at once and nothing is before it.
    pub(super) fn tell(&self, answer: &[u8]) {
        if !self.unsent.load(Relaxed) {
            // The connection ends either way.
            let _told = self.stream().try_write(answer);
        }
    }

    fn stream(&self) -> MutexGuard<'_, TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ready when the client sends no more. A client that has sent its next request already is not looked at again.
    fn poll_end(&self, cx: &mut Context<'_>) -> Poll<End> {
        let stream = self.stream();
        loop {
            if ready!(stream.poll_read_ready(cx)).is_err() {
                return Poll::Ready(End::Reset);
            }
            let peek = || SockRef::from(&*stream).peek(&mut [MaybeUninit::uninit()]);
            match stream.try_io(Interest::READABLE, peek) {
                Ok(0) => return Poll::Ready(End::Closed),
                Ok(_) => return Poll::Pending,
                Err(why) if why.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(End::Reset),
            }
        }
    }

    /// Whether the client's system has refused what was sent to it.
    fn is_refused(&self) -> bool {
        !matches!(self.stream().take_error(), Ok(None))
    }

    /// Notes whether all of `wanted` bytes were taken.
    fn wrote(&self, wrote: Poll<io::Result<usize>>, wanted: usize) -> Poll<io::Result<usize>> {
        self.unsent.store(!matches!(wrote, Poll::Ready(Ok(taken)) if taken == wanted), Relaxed);
        wrote
    }
}

/// The same as a stream of bytes.
#[derive(Debug)]
pub(super) struct Stream(pub(super) Arc<ClientStream>);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut *self.0.stream()).poll_write(cx, bytes);
        self.0.wrote(wrote, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut *self.0.stream()).poll_write_vectored(cx, buffers);
        self.0.wrote(wrote, buffers.iter().map(|buffer| buffer.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;
    use crate::memory::Budget;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let near = listener.accept().await.unwrap().0;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        (Client { stream: Arc::new(ClientStream::new(near, slot.connection.clone())), is_modern: true }, far)
    }

    /// Whether it is seen to have left before `other` is done.
    async fn left(client: &Client, other: impl Future) -> bool {
        tokio::select! { () = client.left() => true, _ = other => false }
    }

    #[tokio::test]
    async fn a_client_that_closes_its_connection_has_left() {
        let (client, far) = pair().await;
        drop(far);
        client.left().await;
    }

    #[tokio::test]
    async fn a_client_that_resets_its_connection_has_left() {
        for is_modern in [true, false] {
            let (client, far) = pair().await;
            SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
            drop(far);
            Client { is_modern, ..client }.left().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_no_more_is_asked_and_has_not_left() {
        let (client, mut far) = pair().await;
        far.shutdown().await.unwrap();
        let mut asked = [0; PROBE.len()];
        assert!(!left(&client, far.read_exact(&mut asked)).await);
        assert_eq!(asked, PROBE);
        // It left later.
        drop(far);
        let mut stream = Stream(client.stream.clone());
        stream.write_all(b"x").await.unwrap();
        client.left().await;
    }

    #[tokio::test]
    async fn who_speaks_an_older_http_or_waits_for_an_earlier_answer_is_asked_nothing() {
        for (is_modern, unsent) in [(false, false), (true, true)] {
            let (client, mut far) = pair().await;
            client.stream.unsent.store(unsent, Relaxed);
            let client = Client { is_modern, ..client };
            far.shutdown().await.unwrap();
            assert!(!left(&client, tokio::time::sleep(3 * PAUSE)).await);
            drop(client);
            assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn who_sends_more_has_not_left() {
        let (client, mut far) = pair().await;
        far.write_all(b"POST").await.unwrap();
        assert!(!left(&client, tokio::time::sleep(PAUSE)).await);
        let mut next = [0; 4];
        Stream(client.stream.clone()).read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"POST");
    }
}
