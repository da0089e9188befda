//! HTTP/2: connections, their limits, frames and streams. Independent of gRPC, of any API and of encryption.
//!
//! [`connection::serve`] talks to one client and has a [`Service`] answer its calls, each in a task of its own
//! ([`streams`]). hyper speaks HTTP/2; the client's bytes pass through [`followed`], which counts frames against a
//! budget ([`flood`]).
//!
//! Three files exist only because of what the HTTP/2 library refuses or does not report, and can go once it changes:
//! [`authority`] when it accepts any `:authority` (or gRPC's C core sends a valid one over Unix sockets); [`frames`]'
//! late farewell when it answers calls that arrive after its GOAWAY was acknowledged; [`followed`] when it limits the
//! frames that cost a client nothing and the time for a header block.

mod authority;
pub mod connection;
pub(crate) mod flood;
mod followed;
mod frames;
mod in_flight;
pub mod limits;
pub(crate) mod streams;
pub(crate) mod whole_body;

use crate::arriving::Arriving;
use crate::connections::Connection;
use bytes::Bytes;
use flood::Floods;
use http::{HeaderMap, Request, Response};
use limits::ConnectionLimits;
use std::error::Error;
use std::sync::Arc;

/// Answers the calls of a port.
pub trait Service: Send + Sync + 'static {
    /// The body of a response.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Returns the settings of connections.
    fn settings(&self) -> Settings<'_>;

    /// Answers one call of `client`.
    fn answer(
        self: Arc<Self>,
        request: Request<Arriving>,
        client: &Arc<Connection>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// The settings of connections.
pub struct Settings<'a> {
    /// Limits of each connection.
    pub limits: &'a ConnectionLimits,
    /// The floods of all clients.
    pub(crate) floods: &'a Arc<Floods>,
    /// True to date responses, as HTTP asks of a server of resources.
    pub(crate) dated: bool,
}

/// Returns the size of `headers` as HTTP/2 counts it (RFC 9113, section 6.5.2).
pub(crate) fn header_bytes(headers: &HeaderMap) -> usize {
    /// What counts of each, besides name and value.
    const EACH: usize = 32;
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + EACH).sum()
}
