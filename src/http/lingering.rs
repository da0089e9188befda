//! A connection's stream that tells a client what was wrong with its HTTP, and lets it read that.

use super::timed::Timed;
use super::{WriteError, last_response};
use crate::metrics::EdgeLimit;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::time::Sleep;

/// The stream of one connection, with two additions to hyper:
///
/// - hyper answers a head that it cannot parse with a status and no body; this adds the service's error to that answer;
/// - closing a stream with unread bytes makes the system discard the answer just written; this reads on, within limits,
///   until the client has closed its side as well.
pub(super) struct LingeringStream {
    io: TokioIo<Timed>,
    leaving: Option<Leaving>,
    /// True once everything has been sent, and the client told that nothing follows.
    is_shut: bool,
    write_error: WriteError,
}

/// Limits on reading from a client that goes on sending after its last answer.
struct Leaving {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

/// Most bytes, and longest time, for which a client is read after its last answer.
const LAST_BYTES: usize = 256 << 20;
const LAST_SECONDS: Duration = Duration::from_secs(5);

impl LingeringStream {
    pub(super) fn new(io: TokioIo<Timed>, write_error: WriteError) -> LingeringStream {
        LingeringStream { io, leaving: None, is_shut: false, write_error }
    }

    /// Sends what is left, of which TLS may hold back some, and then reads and drops incoming bytes; ready when the client
    /// has closed its side or a limit is reached.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            until: Box::pin(tokio::time::sleep(LAST_SECONDS)),
            bytes_left: LAST_BYTES,
        });
        if leaving.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !self.is_shut {
            std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        let mut scratch = [0u8; 16 << 10];
        while leaving.bytes_left > 0 {
            let mut buffer = tokio::io::ReadBuf::new(&mut scratch);
            match std::task::ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    leaving.bytes_left = leaving.bytes_left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

const HEADERS_TOO_LARGE: &[u8] = b"HTTP/1.1 431 ";

/// The beginnings of hyper's own answers, with their messages; a [`super::Service`] spells the first header
/// differently.
const OWN: &[(&[u8], &str)] = &[
    (
        b"HTTP/1.1 400 ",
        "Bad Request: this is not HTTP/1.1 that can be read (request line, header or body length)",
    ),
    (HEADERS_TOO_LARGE, "Request Header Fields Too Large: send fewer or shorter headers"),
    (b"HTTP/1.1 414 ", "URI Too Long: send a shorter path"),
];

/// Returns what to send in place of `head` if `head` is one of hyper's own answers.
fn told(head: &[u8], write_error: WriteError) -> Option<Vec<u8>> {
    if !head.starts_with(b"HTTP/1.1 4")
        || !head.ends_with(b"\r\n\r\n")
        || memchr::memmem::find(head, b"Content-Type: ").is_some()
    {
        return None;
    }
    let (_, message) = OWN.iter().find(|(start, _)| head.starts_with(start))?;
    let line_end = memchr::memchr(b'\n', head)? + 1;
    Some(last_response(&head[..line_end], message, write_error))
}

impl Write for LingeringStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(answer) = told(bytes, self.write_error) {
            if bytes.starts_with(HEADERS_TOO_LARGE) {
                self.io.inner().reached(EdgeLimit::Headers);
            }
            // An empty socket buffer takes these few hundred bytes at once; if not, the close has to suffice.
            return Pin::new(&mut self.io).poll_write(cx, &answer).map_ok(|_| bytes.len());
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_leave(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = buffers {
            return self.poll_write(cx, only);
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
    }
}

impl Read for LingeringStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Connections;
    use crate::http::client_stream::{ClientStream, Stream};
    use crate::memory::Budget;
    use std::future::poll_fn;
    use std::sync::Arc;
    use tokio::io::AsyncWrite;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_does_not_keep_a_connection_with_tls_from_ending() {
        let (near, far) = crate::tls::tests::pair().await;
        let slot = Connections::new(1, Budget::new(1 << 30)).accepted();
        let client = Arc::new(ClientStream::new(near.into(), slot.connection.clone()));
        let (mut filled, much) = (Stream(client.clone()), vec![7; 1 << 20]);
        // Until the system takes no more, and TLS holds back the end of what it has accepted.
        while poll_fn(|cx| Poll::Ready(Pin::new(&mut filled).poll_write(cx, &much))).await.is_ready() {}
        let timed = Timed::new(client, write_error, None, None);
        let mut stream = LingeringStream::new(TokioIo::new(timed), write_error);
        let ends = poll_fn(|cx| Write::poll_shutdown(Pin::new(&mut stream), cx));
        let began = tokio::time::Instant::now();
        assert!(tokio::time::timeout(10 * LAST_SECONDS, ends).await.is_ok());
        assert!(began.elapsed() >= LAST_SECONDS);
        drop(far);
    }

    fn write_error(message: &str) -> (&'static str, Vec<u8>) {
        ("application/json", format!("{{\"error\": \"{message}\"}}").into_bytes())
    }

    #[test]
    fn an_answer_without_a_type_is_given_the_error() {
        let head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer = String::from_utf8(told(head, write_error).unwrap()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"),
            "{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains(
            "\"error\": \"Bad Request: this is not HTTP/1.1 that can be read (request line, header or body length)\""
        ));
    }

    #[test]
    fn every_other_answer_stays_as_it_is() {
        for head in [
            &b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad",
        ] {
            assert_eq!(told(head, write_error), None);
        }
    }
}
