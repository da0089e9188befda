//! Requests of the process that the server is a part of: what a client would have sent over HTTP, without a connection.
//!
//! Whoever brings them has spoken HTTP with the client: what concerns one connection (`Connection`, `Expect`, how a body
//! is cut) is his.

use super::{RestService, reply};
use crate::connections::Connection;
use crate::http::pieces::Pieces;
use crate::http::reply::{Refusal, Reply};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use std::sync::Arc;

/// Most fields of a request's head, as over HTTP.
const MAX_FIELDS: usize = 100;

/// A request.
#[derive(Debug)]
pub struct Asked<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path and the query, percent-encoded.
    pub target: &'a [u8],
    /// The headers, by names in any case.
    pub headers: Vec<(&'a [u8], &'a [u8])>,
    /// The whole body.
    pub body: Bytes,
}

/// Its answer.
#[derive(Debug)]
pub struct Answered(Response<Bytes>);

impl Answered {
    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// Returns the headers.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let headers: Vec<_> = self
            .0
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
            .collect();
        headers.into_iter()
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        self.0.body()
    }
}

/// What a request has become: one that can be answered, or the reason why it cannot.
pub(crate) type Read = Result<Request<Bytes>, Refusal>;

/// Reads a request.
pub(crate) fn read(asked: Asked<'_>) -> Read {
    let Asked { method, target, headers, body } = asked;
    let bad = |what: &str| Refusal::new(400, format!("Bad Request: {what}"));
    if headers.len() > MAX_FIELDS {
        return Err(Refusal::new(431, reply::HEADERS_TOO_LARGE));
    }
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| bad("malformed method"))?;
    let target = PathAndQuery::try_from(target).map_err(|_| bad("malformed request target"))?;
    *request.uri_mut() = Uri::from(target);
    // As HTTP/2: no header is about the connection.
    *request.version_mut() = Version::HTTP_2;
    let fields = request.headers_mut();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name).map_err(|_| bad("malformed header"))?;
        let value = HeaderValue::from_bytes(value).map_err(|_| bad("malformed header"))?;
        fields.append(name, value);
    }
    for own in [CONNECTION, EXPECT, TRANSFER_ENCODING] {
        fields.remove(own);
    }
    Ok(request)
}

impl RestService {
    /// Answers a request of the process itself, which counts as one of this `connection`.
    pub(crate) async fn answer_own(self: Arc<Self>, read: Read, connection: Arc<Connection>) -> Answered {
        let is_head = matches!(&read, Ok(request) if request.method() == Method::HEAD);
        let mut response = match read {
            Ok(request) => self.answer_whole(connection, request).await,
            Err(refusal) => {
                let options = &self.server.options;
                Reply::from(refusal).into_response(options, false, Version::HTTP_2, HeaderMap::new())
            }
        }
        .map(Pieces::joined);
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(CONTENT_LENGTH, length);
        if is_head {
            *response.body_mut() = Bytes::new();
        }
        Answered(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked<'a>(method: &'a str, target: &'a str, headers: &[(&'a str, &'a str)]) -> Asked<'a> {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        Asked { method, target: target.as_bytes(), headers, body: Bytes::from_static(b"{}") }
    }

    #[test]
    fn a_request_is_read_without_what_concerns_its_connection() {
        let headers = [
            ("Content-Type", "a/b"),
            ("CONNECTION", "close"),
            ("expect", "100-continue"),
            ("x", "1"),
            ("x", "2"),
        ];
        let request = read(asked("POST", "/v1/models/a%2Fb:predict?x=%20", &headers)).unwrap();
        assert_eq!(request.uri().path(), "/v1/models/a%2Fb:predict");
        assert_eq!((request.method(), request.uri().query()), (&Method::POST, Some("x=%20")));
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.headers()["content-type"], "a/b");
        assert_eq!(request.headers().get_all("x").iter().count(), 2);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let refused = |asked| read(asked).map(|_| ()).map_err(|refusal| refusal.status);
        assert_eq!(refused(asked("P T", "/", &[])), Err(400));
        assert_eq!(refused(asked("GET", "/a b", &[])), Err(400));
        assert_eq!(refused(asked("GET", "/", &[("a b", "c")])), Err(400));
        assert_eq!(refused(asked("GET", "/", &[("a", "b\nc")])), Err(400));
        assert_eq!(refused(asked("GET", "/", &[("a", "b"); 101])), Err(431));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(method: String, target: Vec<u8>, name: Vec<u8>, value: Vec<u8>) {
            let headers = vec![(&name[..], &value[..])];
            let _read = read(Asked { method: &method, target: &target, headers, body: Bytes::new() });
        }
    }
}
