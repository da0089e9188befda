//! The stream to a client: reads and writes for its connection, and detects a client that has left while its call
//! waits.
//!
//! A client that has left looks at first like one that has closed its sending side and waits for its answer: the stream
//! ends. They differ when something is sent to them: the system of a client that has left refuses it. So the client is
//! sent what HTTP/1.1 allows at any time before an answer, `100 Continue` (RFC 9110, section 15.2).

use super::transport::{End, Transport};
use crate::connections::Connection;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Interval between checks whether the probe has been refused.
const PAUSE: Duration = Duration::from_millis(50);
const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Most bytes that are read at once of a body, or this part of what has come of it. Whenever as much came as there was
/// room for, HTTP makes room for twice as much, and keeps that until the request is answered: without a limit, a body of
/// 80 KB that waits held twice its size.
const MOST_AT_ONCE: usize = (16 << 10) - 1;
const PART_AT_ONCE: usize = 4;

/// The stream of one connection, shared by its HTTP implementation and the call that is waiting.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: Mutex<Transport>,
    /// True while the system has not yet accepted all of an earlier answer.
    unsent: AtomicBool,
    /// Twice the number of request heads received, less one while the last request is unanswered.
    requests: AtomicUsize,
    /// When the last answer was made, or taken by the system if that was later; see [`Connection::now`].
    answered: AtomicU64,
    /// Number of bytes received since the last head.
    received: AtomicUsize,
    pub(crate) connection: Arc<Connection>,
}

/// A request from the arrival of its head until its answer is ready.
#[derive(Debug)]
pub(crate) struct InHand<'a>(&'a ClientStream);

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.answered.store(self.0.connection.now(), Relaxed);
        self.0.requests.fetch_add(1, Relaxed);
    }
}

/// The client of one call.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) stream: Arc<ClientStream>,
    /// True for HTTP/1.1, where interim responses may precede an answer.
    pub(crate) is_modern: bool,
}

impl Client {
    /// Returns when the client has left; never if it waits for its answer. Call it only while nothing else reads the
    /// stream.
    pub(crate) async fn left(&self) {
        let stream = &self.stream;
        if std::future::poll_fn(|cx| stream.stream().poll_end(cx)).await == End::Reset {
            return;
        }
        if self.is_modern && !stream.unsent.load(Relaxed) {
            match stream.stream().try_write(PROBE) {
                Err(why) if why.kind() != ErrorKind::WouldBlock => return,
                // An empty socket buffer takes these few bytes whole; if it is full, the answer will tell.
                _ => {}
            }
        }
        while !stream.stream().is_refused() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl ClientStream {
    pub(super) fn new(stream: Transport, connection: Arc<Connection>) -> ClientStream {
        let (unsent, requests, received) = Default::default();
        let answered = AtomicU64::new(connection.last());
        ClientStream { stream: Mutex::new(stream), unsent, requests, answered, received, connection }
    }

    /// Records a request whose head has arrived.
    pub(crate) fn begin(&self) -> InHand<'_> {
        self.requests.fetch_add(1, Relaxed);
        self.received.store(0, Relaxed);
        InHand(self)
    }

    /// Returns the number of the request whose head comes next; `None` while a request is unanswered.
    pub(super) fn awaited(&self) -> Option<usize> {
        Some(self.requests.load(Relaxed)).filter(|requests| requests.is_multiple_of(2))
    }

    /// Returns whether the head of request `number` is still to come.
    pub(super) fn awaits(&self, number: usize) -> bool {
        self.requests.load(Relaxed) == number
    }

    /// Returns whether every request has been answered and all answers have been handed to the system.
    pub(super) fn is_idle(&self) -> bool {
        self.awaited().is_some() && !self.unsent.load(Relaxed)
    }

    /// Returns once every answer has been taken and the head of the next request has not arrived for `span`.
    pub(super) async fn waits_in_vain(&self, span: Duration) {
        loop {
            let answered = || self.connection.since(self.answered.load(Relaxed));
            let waited = if self.is_idle() { answered() } else { Duration::ZERO };
            if waited >= span {
                return;
            }
            tokio::time::sleep(span - waited).await;
        }
    }

    /// Sends the client a final response, if the system accepts it at once and nothing is queued before it.
    pub(super) fn tell(&self, answer: &[u8]) {
        if !self.unsent.load(Relaxed) {
            // The connection ends either way.
            let _told = self.stream().try_write(answer);
        }
    }

    fn stream(&self) -> MutexGuard<'_, Transport> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `wanted` bytes by `write`, and records whether the system has accepted all of them.
    fn write(
        &self,
        wanted: usize,
        write: impl FnOnce(Pin<&mut Transport>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut stream = self.stream();
        let wrote = write(Pin::new(&mut *stream));
        let holds_back = stream.holds_back();
        drop(stream);
        if holds_back {
            self.unsent.store(true, Relaxed);
            return wrote;
        }
        self.wrote(wrote, wanted)
    }

    /// Records whether all of `wanted` bytes were accepted.
    fn wrote(&self, wrote: Poll<io::Result<usize>>, wanted: usize) -> Poll<io::Result<usize>> {
        let unsent = !matches!(wrote, Poll::Ready(Ok(taken)) if taken == wanted);
        if self.unsent.load(Relaxed) && !unsent {
            self.answered.store(self.connection.now(), Relaxed);
        }
        self.unsent.store(unsent, Relaxed);
        wrote
    }
}

/// The stream as hyper reads and writes it.
#[derive(Debug)]
pub(super) struct Stream(pub(super) Arc<ClientStream>);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let received = self.0.received.load(Relaxed);
        let most = MOST_AT_ONCE.max(received / PART_AT_ONCE);
        let before = buffer.filled().len();
        // Into a part of the room, without filling that with zeros before.
        ready!(Pin::new(&mut (&mut *self.0.stream()).take(most as u64)).poll_read(cx, buffer))?;
        // Only the connection's task reads.
        self.0.received.store(received + buffer.filled().len() - before, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.write(bytes.len(), |stream| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
        self.0.write(wanted, |stream| stream.poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut *self.0.stream()).poll_flush(cx));
        if self.0.unsent.load(Relaxed) && flushed.is_ok() {
            // TLS had held back the end of it.
            let _taken = self.0.wrote(Poll::Ready(Ok(0)), 0);
        }
        Poll::Ready(flushed)
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
    use socket2::SockRef;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Client, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let near = listener.accept().await.unwrap().0;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        (
            Client {
                stream: Arc::new(ClientStream::new(near.into(), slot.connection.clone())),
                is_modern: true,
            },
            far,
        )
    }

    /// Does the same with TLS.
    async fn encrypted() -> (Client, tokio_rustls::client::TlsStream<TcpStream>) {
        let (near, far) = crate::tls::tests::pair().await;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        (
            Client {
                stream: Arc::new(ClientStream::new(near.into(), slot.connection.clone())),
                is_modern: true,
            },
            far,
        )
    }

    #[tokio::test]
    async fn with_tls_a_client_that_closes_its_connection_has_left_however_it_does() {
        let (client, mut far) = encrypted().await;
        far.shutdown().await.unwrap();
        drop(far);
        client.left().await;
        let (client, far) = encrypted().await;
        drop(far.into_inner().0);
        client.left().await;
    }

    #[tokio::test]
    async fn with_tls_a_client_that_sends_no_more_is_asked_and_has_not_left() {
        let (client, mut far) = encrypted().await;
        far.get_mut().1.send_close_notify();
        far.flush().await.unwrap();
        let mut asked = [0; PROBE.len()];
        assert!(!left(&client, far.read_exact(&mut asked)).await);
        assert_eq!(asked, PROBE);
        drop(far);
        let mut stream = Stream(client.stream.clone());
        stream.write_all(b"x").await.unwrap();
        stream.flush().await.unwrap();
        client.left().await;
    }

    #[tokio::test]
    async fn with_tls_who_sends_more_has_not_left_and_nothing_of_it_is_lost() {
        let (client, mut far) = encrypted().await;
        far.write_all(b"POST").await.unwrap();
        far.flush().await.unwrap();
        for _ in 0..2 {
            assert!(!left(&client, tokio::time::sleep(PAUSE)).await);
        }
        let mut next = [0; 4];
        Stream(client.stream.clone()).read_exact(&mut next).await.unwrap();
        assert_eq!(&next, b"POST");
    }

    #[tokio::test]
    async fn with_tls_an_answer_that_is_held_back_is_not_sent_yet() {
        let (client, mut far) = encrypted().await;
        let mut stream = Stream(client.stream.clone());
        let much = vec![7; 64 << 20];
        let mut sent = 0;
        // Until the system takes no more, and TLS holds back the end of what it has accepted.
        while let Poll::Ready(wrote) =
            std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &much[sent..]))).await
        {
            sent += wrote.unwrap();
        }
        assert!(!client.stream.is_idle() && client.stream.awaited().is_some());
        let reading = async {
            let mut all = vec![0; sent];
            far.read_exact(&mut all).await.unwrap();
            all
        };
        let (flushed, all) = tokio::join!(stream.flush(), reading);
        flushed.unwrap();
        assert!(all.iter().all(|byte| *byte == 7) && client.stream.is_idle());
    }

    /// Returns whether the client is seen to have left before `other` completes.
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
        // The client leaves later.
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
    async fn only_of_large_bodies_much_is_read_at_once() {
        let (client, mut far) = pair().await;
        let sent: Vec<u8> = (0..1_000_000u32).map(|index| index.to_le_bytes()[0]).collect();
        let (mut stream, mut read) = (Stream(client.stream.clone()), Vec::with_capacity(2 * sent.len()));
        let sending = async {
            far.write_all(&sent).await.unwrap();
            drop(far);
        };
        let reading = async {
            loop {
                let before = read.len();
                if stream.read_buf(&mut read).await.unwrap() == 0 {
                    return read;
                }
                assert!(read.len() - before <= MOST_AT_ONCE.max(before / PART_AT_ONCE), "after {before}");
            }
        };
        let ((), read) = tokio::join!(sending, reading);
        assert_eq!(read, sent);
        let _next = client.stream.begin();
        assert_eq!(client.stream.received.load(Relaxed), 0);
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

    #[tokio::test]
    async fn a_client_that_asks_nothing_is_waited_for_no_longer_than_the_span() {
        let span = Duration::from_millis(1);
        let (client, _far) = pair().await;
        let stream = &client.stream;
        stream.waits_in_vain(span).await;
        let waits = async || {
            tokio::select! {
                () = stream.waits_in_vain(span) => false,
                () = tokio::time::sleep(20 * span) => true,
            }
        };
        let in_hand = stream.begin();
        assert!(waits().await, "a request is being answered");
        drop(in_hand);
        stream.unsent.store(true, Relaxed);
        assert!(waits().await, "its answer is still on its way");
        stream.unsent.store(false, Relaxed);
        stream.waits_in_vain(span).await;
    }

    #[tokio::test]
    async fn the_span_begins_when_the_answer_has_been_taken() {
        let (client, _far) = pair().await;
        let stream = &client.stream;
        drop(stream.begin());
        let made = stream.answered.load(Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let taken = |bytes| Poll::Ready(Ok(bytes));
        let _whole = stream.wrote(taken(5), 5);
        assert_eq!(stream.answered.load(Relaxed), made);
        let _part = stream.wrote(taken(3), 5);
        let _rest = stream.wrote(taken(2), 2);
        assert!(stream.answered.load(Relaxed) > made);
    }
}
