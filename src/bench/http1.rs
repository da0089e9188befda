//! One connection of HTTP/1.1: a request is written as a whole, and its reply read.

use super::outcome::{Answer, Failed, Failure};
use super::reply::Reply;
use crate::tls::outgoing::Stream;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

/// Bytes read at once.
const BUFFER: usize = 64 << 10;
/// As much of an error is shown.
const TEXT: usize = 300;

/// A connection on which nothing is under way between calls.
pub(super) struct Http1 {
    stream: Stream,
    buffer: Box<[u8]>,
    is_kept: bool,
}

impl Http1 {
    pub(super) fn new(stream: Stream) -> Http1 {
        Http1 { stream, buffer: vec![0; BUFFER].into_boxed_slice(), is_kept: true }
    }

    /// Sends a request and returns its answer, with up to `keep` bytes of the body. After an error, and where
    /// [`Http1::is_kept`] says so, the connection is of no more use.
    pub(super) async fn exchange(&mut self, request: &[u8], keep: usize) -> Result<Answer, Failed> {
        self.is_kept = false;
        // Whoever refuses a body may close before it has come: the answer is there all the same.
        let written = self.write(request).await;
        let mut reply = Reply::new(keep.max(TEXT));
        loop {
            let count = match self.stream.read(&mut self.buffer).await {
                Ok(count) => count,
                Err(why) => return Err(lost(written.err().unwrap_or(why))),
            };
            if count == 0 && !reply.ends() {
                return Err(written.err().map_or_else(
                    || Failed::new(Failure::Lost, "the connection was closed before the answer"),
                    lost,
                ));
            }
            let malformed = |why: super::reply::Malformed| Failed::new(Failure::Malformed, why.0);
            let come = self.buffer.get(..count).unwrap_or_default();
            if count == 0 || reply.feed(come).map_err(malformed)? {
                self.is_kept = reply.is_kept && written.is_ok() && count > 0;
                return answer(reply);
            }
        }
    }

    async fn write(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Whether another request may be sent.
    pub(super) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The same, when some time has passed: the server has not closed the connection, as far as is known.
    pub(super) async fn is_open(&mut self) -> bool {
        let Http1 { stream, buffer, is_kept } = self;
        *is_kept
            && poll_fn(|context| {
                let mut into = ReadBuf::new(buffer);
                // Nothing is to come: an end, an error, and bytes that answer nothing are all the same.
                Poll::Ready(Pin::new(&mut *stream).poll_read(context, &mut into).is_pending())
            })
            .await
    }
}

fn lost(why: io::Error) -> Failed {
    Failed::new(Failure::Lost, why.to_string())
}

fn answer(reply: Reply) -> Result<Answer, Failed> {
    if (200..300).contains(&reply.status) {
        return Ok(Answer { received: reply.received, body: reply.body });
    }
    let said = reply.body.get(..TEXT).unwrap_or(&reply.body);
    Err(Failed::new(Failure::Status(reply.status), String::from_utf8_lossy(said).trim()))
}
