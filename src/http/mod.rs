//! HTTP/1.1: connections, with or without TLS, bodies, limits, replies. Independent of any API and of JSON.
//!
//! [`connection::serve`] talks to one client and has a [`Service`] answer its requests.

pub(crate) mod body;
pub(crate) mod client_stream;
pub(crate) mod coding;
pub(crate) mod connection;
pub(crate) mod head;
mod lingering;
mod own_wakes;
pub(crate) mod pieces;
pub(crate) mod reply;
pub(crate) mod target;
mod timed;
pub(crate) mod transport;
pub(crate) mod unencrypted;

use crate::pace::Pace;
use client_stream::ClientStream;
use http::{Request, Response};
use hyper::body::Incoming;
use pieces::Pieces;
use std::sync::Arc;
use std::time::Duration;

/// Answers the requests of a port.
pub(crate) trait Service: Send + Sync + 'static {
    /// Returns the limits for connections.
    fn settings(&self) -> Settings;

    /// Answers one request that arrived on `stream`.
    fn answer(
        self: Arc<Self>,
        stream: Arc<ClientStream>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Pieces>> + Send;

    /// Returns the media type and the body of a response that reports an error.
    fn write_error(message: &str) -> (&'static str, Vec<u8>);
}

/// [`Service::write_error`].
pub(crate) type WriteError = fn(&str) -> (&'static str, Vec<u8>);

/// Limits for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Longest time from the first byte of a request's head to its last.
    pub(crate) headers_within: Option<Duration>,
    /// Slowest pace at which replies must be taken.
    pub(crate) pace: Option<Pace>,
    /// Largest head of a request, in bytes.
    pub(crate) max_header_bytes: usize,
    /// Longest time without a complete head, if there is a limit. TensorFlow Serving waits forever; clients that keep
    /// connections open for long between requests are rare, half-open connections are not.
    pub(crate) idle: Option<Duration>,
}

/// Returns a complete response after which the connection ends; `line` is its status line.
pub(crate) fn last_response(line: &[u8], message: &str, write_error: WriteError) -> Vec<u8> {
    let (content_type, body) = write_error(message);
    let headers = format!(
        "Content-Type: {content_type}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [line, headers.as_bytes(), &body].concat()
}
