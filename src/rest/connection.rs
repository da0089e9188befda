//! One client's connection, and what it is told where its HTTP is broken.

use super::line::Line;
use super::timed::Timed;
use super::{answer, encode};
use crate::connections::Connection;
use crate::methods::Room;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// A connection on which no whole request head comes for this long is closed. TensorFlow Serving waits for ever;
/// clients that keep connections open longer than this between requests are rare, half-open ones are not.
const IDLE: Duration = Duration::from_secs(600);

/// A connection that has been quiet for this long when the server closes has no request on its way.
const QUIET: Duration = Duration::from_millis(500);

/// Serves `stream` until the client is done with it, until its place is needed, or until the server closes and no
/// request is on its way any more.
pub(crate) async fn serve(stream: TcpStream, room: Arc<Room>, client: Arc<Connection>) {
    let options = &room.options;
    let line = Arc::new(Line::new(stream, client.clone()));
    let io = TokioIo::new(Timed::new(line.clone(), options.headers_within, options.pace));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(options.max_header_bytes.max(8192))
        .title_case_headers(true)
        // A client may close its sending side and still wait for the answer; whether it does, the line tells.
        .half_close(true);
    let of = line.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (room, line) = (room.clone(), of.clone());
        async move { Ok::<_, Infallible>(answer(room, line, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(Polite { io, leaving: None }, service));
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        () = client.must_close() => return,
        () = client.is_closed_and_quiet(QUIET) => {
            if line.is_idle() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(why) = result {
        // The client left, or its HTTP was broken and it has been told: nothing is left to do here.
        tracing::debug!("connection ended: {why}");
    }
}

/// The stream of one connection, with two habits that hyper has not:
///
/// - hyper answers a head that it cannot read with a status and no body; this puts the JSON error into that answer;
/// - closing a stream with unread bytes makes the system throw away the answer that was just written; this reads on,
///   within limits, until the client has closed its side, too.
struct Polite {
    io: TokioIo<Timed>,
    leaving: Option<Leaving>,
}

/// What is still read of a client that goes on sending after its last answer.
struct Leaving {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

/// So much, for so long.
const LAST_BYTES: usize = 256 << 20;
const LAST_SECONDS: Duration = Duration::from_secs(5);

impl Polite {
    /// Reads and drops what comes; ready when the client has closed, or had its time.
    fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            until: Box::pin(tokio::time::sleep(LAST_SECONDS)),
            bytes_left: LAST_BYTES,
        });
        let mut scratch = [0u8; 16 << 10];
        loop {
            if leaving.bytes_left == 0 || leaving.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut buffer = tokio::io::ReadBuf::new(&mut scratch);
            match std::task::ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    leaving.bytes_left = leaving.bytes_left.saturating_sub(buffer.filled().len());
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// How an answer of hyper's own begins; those of [`answer`] have another spelling of the first header.
const OWN: &[(&[u8], &str)] = &[
    (
        b"HTTP/1.1 400 ",
        "Bad Request: this is not HTTP/1.1 that can be read (request line, header or body length)",
    ),
    (b"HTTP/1.1 431 ", "Request Header Fields Too Large: send fewer or shorter headers"),
    (b"HTTP/1.1 414 ", "URI Too Long: send a shorter path"),
    (b"HTTP/1.1 505 ", "HTTP Version Not Supported: HTTP/1.0 and HTTP/1.1 are"),
];

/// What to send in place of `head`, if `head` is an answer of hyper's own.
fn told(head: &[u8]) -> Option<Vec<u8>> {
    let refused = head.starts_with(b"HTTP/1.1 4") || head.starts_with(b"HTTP/1.1 5");
    if !refused || !head.ends_with(b"\r\n\r\n") || memchr::memmem::find(head, b"Content-Type: ").is_some() {
        return None;
    }
    let (_, message) = OWN.iter().find(|(start, _)| head.starts_with(start))?;
    let body = encode::error(message);
    let line_end = memchr::memchr(b'\n', head)? + 1;
    let mut answer = head[..line_end].to_vec();
    answer.extend_from_slice(b"Content-Type: application/json\r\nConnection: close\r\n");
    answer.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(&body);
    Some(answer)
}

impl Write for Polite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(answer) = told(bytes) {
            // A fresh socket buffer takes these few hundred bytes at once; if it does not, the close says it all.
            return Pin::new(&mut self.io).poll_write(cx, &answer).map_ok(|_| bytes.len());
        }
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.leaving.is_none() {
            std::task::ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_leave(cx).map(Ok)
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

impl Read for Polite {
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
    use super::told;

    #[test]
    fn an_answer_without_a_type_is_given_the_error() {
        let head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer = String::from_utf8(told(head).unwrap()).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"),
            "{answer}"
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.contains("\"error\": \"Bad Request"));
    }

    #[test]
    fn every_other_answer_stays_as_it_is() {
        for head in [
            &b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad",
        ] {
            assert_eq!(told(head), None);
        }
    }
}
