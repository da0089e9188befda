//! The server under load, and requests in the form in which they are sent: made once, before the load begins.

use crate::tls::outgoing::{Connector, Trust};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// HTTP/1.1.
    Http1,
    /// gRPC, on HTTP/2.
    Grpc,
}

/// A server.
#[derive(Clone, Debug)]
pub struct Target {
    /// How it is spoken to.
    pub wire: Wire,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `None` without TLS.
    pub trust: Option<Trust>,
}

/// A request as it is meant.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The path; of gRPC, that of the method.
    pub path: String,
    /// Headers, or metadata.
    pub headers: Vec<(String, String)>,
    /// The body, or the message. `None`: a GET.
    pub body: Option<Vec<u8>>,
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(super) enum Prepared {
    /// Head and body.
    Http1(Bytes),
    /// The head, and the message with its prefix.
    Grpc(Box<Request<()>>, Bytes),
}

impl Prepared {
    /// Returns how many bytes it has; without heads of HTTP/2, which are compressed.
    pub(super) fn length(&self) -> usize {
        match self {
            Prepared::Http1(bytes) | Prepared::Grpc(_, bytes) => bytes.len(),
        }
    }
}

impl Target {
    /// Prepares connections.
    pub(super) fn connector(&self) -> Result<Connector, String> {
        Connector::new(&self.host, self.port, self.trust.as_ref())
    }

    /// Returns host and port as URLs have them.
    fn authority(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Makes a request ready to be sent.
    pub(super) fn prepared(&self, wanted: &Wanted) -> Result<Prepared, String> {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://{}{}", self.authority(), wanted.path);
        let uri: Uri = uri.parse().map_err(|why| format!("{uri} is no URL: {why}"))?;
        if !wanted.path.starts_with('/') {
            return Err(format!("a path begins with /, got {}", wanted.path));
        }
        let headers = wanted.headers.iter().map(|(name, value)| {
            let wrong = || format!("{name} is no header that can be sent with its value");
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            Ok((name, HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?))
        });
        let headers = headers.collect::<Result<Vec<_>, String>>()?;
        match self.wire {
            Wire::Http1 => Ok(Prepared::Http1(self.of_http1(&uri, &headers, wanted.body.as_deref()))),
            Wire::Grpc => of_grpc(uri, headers, wanted.body.as_deref().unwrap_or_default()),
        }
    }

    fn of_http1(&self, uri: &Uri, headers: &[(HeaderName, HeaderValue)], body: Option<&[u8]>) -> Bytes {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let mut bytes = BytesMut::with_capacity(512 + body.map_or(0, <[u8]>::len));
        bytes.put_slice(format!("{method} {path} HTTP/1.1\r\n").as_bytes());
        if headers.iter().all(|(name, _)| name != HOST) {
            bytes.put_slice(format!("Host: {}\r\n", self.authority()).as_bytes());
        }
        for (name, value) in headers {
            bytes.put_slice(name.as_str().as_bytes());
            bytes.put_slice(b": ");
            bytes.put_slice(value.as_bytes());
            bytes.put_slice(b"\r\n");
        }
        if let Some(body) = body {
            bytes.put_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        bytes.put_slice(b"\r\n");
        bytes.put_slice(body.unwrap_or_default());
        bytes.freeze()
    }
}

fn of_grpc(uri: Uri, headers: Vec<(HeaderName, HeaderValue)>, message: &[u8]) -> Result<Prepared, String> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = uri;
    for (name, value) in [(TE, "trailers"), (CONTENT_TYPE, "application/grpc")] {
        if headers.iter().all(|(given, _)| *given != name) {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    for (name, value) in headers {
        request.headers_mut().append(name, value);
    }
    let length = u32::try_from(message.len()).map_err(|_| "the message is longer than 4 GB".to_owned())?;
    let mut bytes = BytesMut::with_capacity(5 + message.len());
    bytes.put_u8(0);
    bytes.put_u32(length);
    bytes.put_slice(message);
    Ok(Prepared::Grpc(Box::new(request), bytes.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(wire: Wire, host: &str) -> Target {
        Target { wire, host: host.to_owned(), port: 81, trust: None }
    }

    fn text(target: &Target, wanted: &Wanted) -> Result<String, String> {
        match target.prepared(wanted)? {
            Prepared::Http1(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Prepared::Grpc(head, message) => Ok(format!("{:?} {} {message:?}", head.headers(), head.uri())),
        }
    }

    #[test]
    fn a_request_of_http_is_whole() {
        let headers = vec![("Content-Type".to_owned(), "a/b".to_owned())];
        let wanted = Wanted { path: "/v1/x:predict".to_owned(), headers, body: Some(b"{}".to_vec()) };
        assert_eq!(
            text(&target(Wire::Http1, "::1"), &wanted).unwrap(),
            "POST /v1/x:predict HTTP/1.1\r\nHost: [::1]:81\r\ncontent-type: a/b\r\nContent-Length: 2\r\n\r\n{}"
        );
        let asked = Wanted { path: "/v2".to_owned(), ..Wanted::default() };
        assert_eq!(
            text(&target(Wire::Http1, "h"), &asked).unwrap(),
            "GET /v2 HTTP/1.1\r\nHost: h:81\r\n\r\n"
        );
    }

    #[test]
    fn a_header_that_is_given_is_there_once() {
        let given = [("host", "other"), ("Content-Type", "a/b"), ("x", "1"), ("x", "2")];
        let headers = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let wanted = Wanted { path: "/".to_owned(), headers, body: None };
        assert_eq!(
            text(&target(Wire::Http1, "h"), &wanted).unwrap(),
            "GET / HTTP/1.1\r\nhost: other\r\ncontent-type: a/b\r\nx: 1\r\nx: 2\r\n\r\n"
        );
        let Prepared::Grpc(head, _) = target(Wire::Grpc, "h").prepared(&wanted).unwrap() else { panic!() };
        let headers = head.headers();
        let all = |name| headers.get_all(name).iter().map(|one| one.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            (all("te"), all("content-type"), all("x")),
            (vec!["trailers"], vec!["a/b"], vec!["1", "2"])
        );
    }

    #[test]
    fn a_message_has_its_prefix() {
        let wanted = Wanted { path: "/a.B/C".to_owned(), headers: Vec::new(), body: Some(b"ab".to_vec()) };
        let text = text(&target(Wire::Grpc, "h"), &wanted).unwrap();
        assert!(text.contains("http://h:81/a.B/C") && text.ends_with("b\"\\0\\0\\0\\0\\x02ab\""), "{text}");
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (path, value) in [("/a b", ""), ("/a\r\nx: y", ""), ("/a", "b\r\nc: d"), ("nowhere", "")] {
            let headers = vec![("x".to_owned(), value.to_owned())];
            let wanted = Wanted { path: path.to_owned(), headers, body: None };
            assert!(text(&target(Wire::Http1, "h"), &wanted).is_err(), "{path:?} {value:?}");
        }
    }
}
