//! Replies: one message and an OK, or a status alone.

use crate::auth::Pass;
use crate::connections::{Stage, reached};
use crate::error::{Error, Kind, Result};
use crate::http2::streams::{handed_over, handed_over_of_many};
use crate::http2::whole_body::PIECE;
use crate::memory::Reservation;
use crate::pb::wire::Pieces;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::watch;

pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Tells libraries when to send a call again (gRFC A6), in milliseconds.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Length of the prefix of a message, in bytes.
pub(super) const PREFIX: usize = 5;

/// Longest status text, in bytes; longer ones are cut.
const MAX_TEXT: usize = 1024;

/// A framed message, ready to be sent.
pub(super) struct Reply {
    pieces: VecDeque<Bytes>,
    /// Counts the reply until the client has taken it.
    memory: Option<Arc<Reservation>>,
}

impl Reply {
    /// Serializes `message` with prost.
    pub(super) fn of(message: &impl prost::Message) -> Result<Reply> {
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(PREFIX + length);
        bytes.put_u8(0);
        bytes.put_u32(announced(length)?);
        message
            .encode(&mut bytes)
            .map_err(|why| Error::internal(format!("The reply could not be written: {why}")))?;
        Ok(Reply::uncounted(VecDeque::from([bytes.freeze()])))
    }

    /// Makes a reply of a message of `length` bytes, which `write` appends.
    pub(super) fn written(length: usize, write: impl FnOnce(&mut Pieces)) -> Result<Reply> {
        let mut pieces = Pieces::with_capacity(PREFIX + Pieces::room_for(length));
        pieces.copy(&[0]);
        pieces.copy(&announced(length)?.to_be_bytes());
        write(&mut pieces);
        Ok(Reply::uncounted(pieces.finish()))
    }

    fn uncounted(pieces: VecDeque<Bytes>) -> Reply {
        Reply { pieces, memory: None }
    }

    /// Counts the reply in `memory` until the client has taken it.
    pub(super) fn counted(self, memory: Arc<Reservation>) -> Result<Reply> {
        memory.resize(self.len())?;
        Ok(Reply { memory: Some(memory), ..self })
    }

    fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Returns the length of the message.
    pub(super) fn message_len(&self) -> usize {
        self.len().saturating_sub(PREFIX)
    }

    /// Returns the reply if its message has at most `limit` bytes.
    pub(super) fn within(self, limit: usize) -> Result<Reply> {
        let length = self.message_len();
        if length > limit {
            return Err(Error::new(
                Kind::ResourceExhausted,
                format!("Sent message larger than max ({length} vs. {limit})"),
            ));
        }
        Ok(self)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body(Source::Pieces(self.pieces, self.memory)));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }
}

/// Returns the announced length. No protobuf library reads a message beyond 2 GB.
fn announced(length: usize) -> Result<u32> {
    i32::try_from(length).ok().and_then(|length| u32::try_from(length).ok()).ok_or_else(|| {
        Error::new(
            Kind::ResourceExhausted,
            format!(
                "The reply is {length} bytes, more than a protobuf message can hold: ask for less at once"
            ),
        )
    })
}

/// Makes a reply of a status without a message.
pub(crate) fn failed(error: Error) -> Response<Body> {
    let mut response = Response::new(Body(Source::Ended));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    put_status(headers, &error);
    if error.kind == Kind::Unimplemented {
        // For clients whose compression was refused.
        headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity,deflate,gzip"));
    }
    response
}

fn put_status(headers: &mut HeaderMap, error: &Error) {
    headers.insert(STATUS, HeaderValue::from(error.kind as i32));
    if let Ok(text) = HeaderValue::try_from(status_text(&error.message)) {
        headers.insert(MESSAGE, text);
    }
    if let Some(seconds) = error.seconds_to_retry() {
        headers.insert(PUSHBACK, HeaderValue::from(u32::from(seconds) * 1000));
    }
}

/// Cuts `message` to its limit and percent-encodes everything but printable ASCII.
fn status_text(message: &str) -> String {
    const ESCAPED: percent_encoding::AsciiSet = percent_encoding::CONTROLS.add(b'%');
    let whole = message.len() <= MAX_TEXT;
    let fits = |end: &usize| message.is_char_boundary(*end);
    let cut = if whole { message.len() } else { (0..=MAX_TEXT).rev().find(fits).unwrap_or(0) };
    let mark = if whole { "" } else { "...TRUNCATED" };
    format!("{}{mark}", percent_encoding::utf8_percent_encode(&message[..cut], &ESCAPED))
}

/// Returns the answer to a request that is not a gRPC call.
pub(super) fn refusal<B>(request: &Request<B>) -> Option<Response<Body>> {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let status = match *request.method() {
        Method::POST if content_type.starts_with(b"application/grpc") => return None,
        Method::POST => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = Response::new(Body(Source::Ended));
    *response.status_mut() = status;
    Some(response)
}

/// Returns how a call ended: the status, and its name. What a standard service streams has not ended; what is no call is
/// refused with a status of HTTP.
pub(super) fn outcome(response: &Response<Body>) -> (u16, Option<&'static str>) {
    if response.status() != StatusCode::OK {
        return (response.status().as_u16(), None);
    }
    let status = response.headers().get(STATUS).and_then(|status| status.to_str().ok()?.parse().ok());
    let status = status.unwrap_or(0);
    (status, Some(Kind::from_code(status.into()).name()).filter(|_| status > 0).or(Some("OK")))
}

/// The body of a response.
pub struct Body(Source);

enum Source {
    /// These pieces, then an OK.
    Pieces(VecDeque<Bytes>, Option<Arc<Reservation>>),
    /// Messages as they become ready: what is left of the current one, then the others, then the status.
    Messages(VecDeque<Bytes>, Option<Arc<Reservation>>, Box<dyn Messages>),
    /// The stream of a standard service, until the server stops. It is in flight for its token as long.
    Streamed {
        body: tonic::body::Body,
        stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
        _pass: Option<Pass>,
    },
    /// Nothing.
    Ended,
}

/// The answers of a stream.
pub(super) trait Messages: Send + 'static {
    /// Returns the next answer once it is ready; the status with which the stream ends, if that is an error; `None` at its
    /// end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Reply>>>;
}

impl Body {
    /// Makes the response of a call with many answers.
    pub(super) fn messages(messages: impl Messages) -> Response<Body> {
        let mut response = Response::new(Body(Source::Messages(VecDeque::new(), None, Box::new(messages))));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// Wraps the answer of a standard service.
    pub(super) fn streamed(
        response: Response<tonic::body::Body>,
        mut stages: watch::Receiver<Stage>,
        pass: Option<Pass>,
    ) -> Response<Body> {
        response.map(|body| {
            let stopped = Box::pin(async move { reached(&mut stages, Stage::Closing).await });
            Body(Source::Streamed { body, stopped, _pass: pass })
        })
    }

    /// Returns the number of bytes of the reply, without its prefix.
    pub(super) fn len(&self) -> u64 {
        match &self.0 {
            Source::Pieces(pieces, _) => {
                pieces.iter().map(Bytes::len).sum::<usize>().saturating_sub(PREFIX) as u64
            }
            Source::Messages(..) | Source::Streamed { .. } | Source::Ended => 0,
        }
    }

    /// Takes it apart.
    pub(crate) fn content(self) -> Content {
        match self.0 {
            Source::Pieces(pieces, memory) => Content::Message(pieces, memory),
            Source::Messages(..) | Source::Streamed { .. } => Content::Streamed(self),
            Source::Ended => Content::Nothing,
        }
    }

    /// Returns the last frame.
    fn end(&mut self, headers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.0 = Source::Ended;
        Poll::Ready(Some(Ok(Frame::trailers(headers))))
    }
}

/// What a body consists of, for protocols that frame it otherwise.
pub(crate) enum Content {
    /// A message, prefixed, and an OK. The reservation counts it until the client has taken it.
    Message(VecDeque<Bytes>, Option<Arc<Reservation>>),
    /// What a standard service streams.
    Streamed(Body),
    /// Nothing: the headers have the status.
    Nothing,
}

/// Takes the next of `pieces`, or as much of it as is handed over at once.
fn next_piece(pieces: &mut VecDeque<Bytes>) -> Option<Bytes> {
    match pieces.front_mut() {
        Some(piece) if piece.len() > PIECE => Some(piece.split_to(PIECE)),
        _ => pieces.pop_front(),
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match &mut self.0 {
            Source::Ended => Poll::Ready(None),
            Source::Pieces(pieces, memory) => match next_piece(pieces) {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(handed_over(piece, memory))))),
                None => self.end(HeaderMap::from_iter([(STATUS, OK)])),
            },
            Source::Messages(pieces, memory, messages) => loop {
                if let Some(piece) = next_piece(pieces) {
                    return Poll::Ready(Some(Ok(Frame::data(handed_over_of_many(piece, memory)))));
                }
                match ready!(messages.poll_message(cx)) {
                    Some(Ok(reply)) => (*pieces, *memory) = (reply.pieces, reply.memory),
                    Some(Err(error)) => {
                        let mut headers = HeaderMap::new();
                        put_status(&mut headers, &error);
                        return self.end(headers);
                    }
                    None => return self.end(HeaderMap::from_iter([(STATUS, OK)])),
                }
            },
            Source::Streamed { body, stopped, .. } => {
                let frame = Pin::new(body).poll_frame(cx);
                if frame.is_pending() && stopped.as_mut().poll(cx).is_ready() {
                    let mut headers = HeaderMap::new();
                    put_status(&mut headers, &Error::new(Kind::Unavailable, "The server is stopping"));
                    return self.end(headers);
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Ended => true,
            Source::Pieces(..) | Source::Messages(..) => false,
            Source::Streamed { body, .. } => body.is_end_stream(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_and_marked() {
        let text = status_text(&"x".repeat(1025));
        assert_eq!(text, "x".repeat(1024) + "...TRUNCATED");
        assert_eq!(status_text(&"x".repeat(1024)), "x".repeat(1024));
        // Never within a character.
        let text = status_text(&("x".repeat(1023) + "é"));
        assert_eq!(text, "x".repeat(1023) + "...TRUNCATED");
    }

    #[test]
    fn texts_are_printable_ascii_on_the_wire() {
        assert_eq!(status_text("100 %\nü"), "100 %25%0A%C3%BC");
    }

    #[test]
    fn what_is_not_a_call_is_refused_as_http_has_it() {
        let request = |method: Method, content_type: &str| {
            let request = Request::builder().method(method).header(CONTENT_TYPE, content_type);
            refusal(&request.body(()).unwrap()).map(|response| response.status().as_u16())
        };
        assert_eq!(request(Method::POST, "application/grpc+proto"), None);
        assert_eq!(request(Method::POST, "application/json"), Some(415));
        assert_eq!(request(Method::GET, "application/grpc"), Some(405));
    }
}
