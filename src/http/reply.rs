//! Replies: status, headers and body.

use super::coding::{Accepts, Coding};
use super::pieces::Pieces;
use crate::config::Options;
use crate::error::Error;
use crate::memory::{Held, Reservation};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION,
    CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Response, StatusCode, Version};
use std::borrow::Cow;
use std::sync::Arc;

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Body,
    /// True if the connection must end with this reply, because what follows on it cannot be trusted.
    pub(crate) close: bool,
    /// The seconds after which the same request may succeed, if it may.
    pub(crate) retry_after: Option<u16>,
}

/// The bytes of a reply, compressed or not.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Content,
    packed: Option<Coding>,
    /// Headers that describe it, before others of their names.
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The reservation that counts the bytes until the client has taken them.
    memory: Option<Arc<Reservation>>,
}

/// Bytes, and whose they are.
#[derive(Debug)]
pub(crate) enum Content {
    /// Written for the reply.
    Written(Vec<u8>),
    /// Where something else has them.
    Borrowed(Bytes),
    /// Both; boxed, as few replies have it.
    Followed(Box<Followed>),
}

/// Bytes that were written for a reply, and then those that others have.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) written: Vec<u8>,
    pub(crate) others: Vec<Bytes>,
}

/// Bytes from which on it is worth to send what an engine has from where it lies, instead of copying it.
pub(crate) const WORTH_BORROWING: usize = 16 << 10;

impl Default for Content {
    fn default() -> Content {
        Content::Written(Vec::new())
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Content::Written(bytes) => bytes.len(),
            Content::Borrowed(bytes) => bytes.len(),
            Content::Followed(both) => both.written.len() + both.others.iter().map(Bytes::len).sum::<usize>(),
        }
    }

    /// Returns the bytes of memory that it takes.
    fn memory(&self) -> usize {
        match self {
            Content::Written(bytes) => bytes.capacity(),
            Content::Borrowed(bytes) => bytes.len(),
            Content::Followed(both) => self.len() - both.written.len() + both.written.capacity(),
        }
    }

    /// Returns all of it in one.
    fn whole(&self) -> Cow<'_, [u8]> {
        match self {
            Content::Written(bytes) => bytes.into(),
            Content::Borrowed(bytes) => Cow::Borrowed(bytes),
            Content::Followed(both) => {
                let mut whole = Vec::with_capacity(self.len());
                whole.extend_from_slice(&both.written);
                both.others.iter().for_each(|bytes| whole.extend_from_slice(bytes));
                whole.into()
            }
        }
    }
}

impl Body {
    /// Makes an uncompressed body.
    pub(crate) fn plain(bytes: Vec<u8>) -> Body {
        Body { bytes: Content::Written(bytes), ..Body::default() }
    }

    /// Makes an uncompressed body of what something else has.
    pub(crate) fn borrowed(bytes: Bytes) -> Body {
        Body { bytes: Content::Borrowed(bytes), ..Body::default() }
    }

    /// Returns the number of its bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Compresses the body with the best of the codings that the client accepts, if that is worthwhile. Slow for large bodies.
    pub(crate) fn coded(bytes: Content, accepts: Accepts, options: &Options) -> Body {
        Body::coded_from(bytes, accepts, options.gzip_min_bytes)
    }

    /// Does the same with a body that has `smallest` bytes at least; 0 for none.
    pub(crate) fn coded_from(bytes: Content, accepts: Accepts, smallest: usize) -> Body {
        let is_worthwhile = smallest > 0 && bytes.len() >= smallest;
        if let Some(coding) = accepts.best().filter(|_| is_worthwhile)
            // Writing to memory does not fail.
            && let Some(packed) = coding.packed(&bytes.whole())
        {
            return Body { packed: Some(coding), ..Body::plain(packed) };
        }
        Body { bytes, ..Body::default() }
    }

    /// Describes it by further `headers`.
    pub(crate) fn also(mut self, headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Body {
        self.headers.extend(headers);
        self
    }

    /// Describes it by `headers`, which go before others of their names.
    pub(crate) fn described(self, headers: Vec<(HeaderName, HeaderValue)>) -> Body {
        Body { headers, ..self }
    }

    /// Counts the body in `memory` until the client has taken it.
    pub(crate) fn counted(self, memory: &Arc<Reservation>) -> Result<Body, Error> {
        memory.resize(self.bytes.memory())?;
        Ok(Body { memory: Some(memory.clone()), ..self })
    }

    fn into_pieces(self) -> Pieces {
        let (pieces, memory) = match (self.bytes, self.memory) {
            (Content::Written(bytes), Some(memory)) => {
                return Bytes::from_owner(Held { bytes, memory }).into();
            }
            (Content::Written(bytes), memory) => (Pieces::from(Bytes::from(bytes)), memory),
            (Content::Borrowed(bytes), memory) => (Pieces::from(bytes), memory),
            (Content::Followed(both), memory) => {
                let mut pieces = Pieces::from(Bytes::from(both.written));
                both.others.into_iter().for_each(|bytes| pieces.push(bytes));
                (pieces, memory)
            }
        };
        match memory {
            Some(memory) => pieces.held(|bytes| Bytes::from_owner(Held { bytes, memory })),
            None => pieces,
        }
    }
}

/// A refusal that involves no model.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) close: bool,
}

impl Refusal {
    /// Makes a refusal after which the connection continues.
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), close: false }
    }

    /// Makes a refusal that ends the connection.
    pub(crate) fn closing(status: u16, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), close: true }
    }
}

impl Reply {
    /// Builds the response of HTTP `version`; `api` adds the CORS headers, if enabled. `used` are the headers of the
    /// request, whose storage is used again.
    pub(crate) fn into_response(
        mut self,
        options: &Options,
        api: bool,
        version: Version,
        used: HeaderMap,
    ) -> Response<Pieces> {
        let (packed, described) = (self.body.packed, std::mem::take(&mut self.body.headers));
        let mut response = Response::new(self.body.into_pieces());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        *headers = emptied(used);
        headers.insert(CONTENT_TYPE, self.content_type);
        if options.cors && api {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, GET"));
            let allowed = match options.auth {
                Some(_) => "Content-Type, Authorization, X-API-Key",
                None => "Content-Type",
            };
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
        }
        for (name, value) in described {
            headers.insert(name, value);
        }
        if let Some(coding) = packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if self.status == 401 {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        // HTTP/2 has no such header: a connection that is to end says so by a message of its own.
        if self.close && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Returns `headers` without its entries, to be filled again; a new map if its storage is large, as the connection keeps
/// it.
fn emptied(mut headers: HeaderMap) -> HeaderMap {
    /// Most headers whose storage is kept: more than most requests have.
    const KEPT: usize = 24;
    if headers.capacity() > KEPT {
        return HeaderMap::new();
    }
    headers.clear();
    headers
}
