//! Leave for pages of other origins to use the API (CORS): what is answered before they send a request, and what is told
//! with its answer. A browser acts by that; who is no browser needs no leave, and tokens are not replaced by it.
//!
//! Cookies are neither asked for nor allowed (`Access-Control-Allow-Credentials`): a token is a header that a page sets.

use super::refusal;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};

/// The headers that a page may send, beside those that any may.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-encoding, content-type, grpc-accept-encoding, grpc-encoding, grpc-timeout, \
     inference-header-content-length, traceparent, tracestate, x-api-key, x-grpc-web, x-request-id, x-signature-name, \
     x-tensor-dtype, x-tensor-name, x-tensor-shape, x-user-agent",
);
/// The headers of answers that it may read, beside those that any may.
const READ: HeaderValue = HeaderValue::from_static(
    "accept-post, grpc-message, grpc-retry-pushback-ms, grpc-status, inference-header-content-length, retry-after, \
     www-authenticate, x-request-id, x-tensor-dtype, x-tensor-name, x-tensor-shape",
);
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");
/// For how long a browser need not ask again, in seconds: a flag that changes is heard of soon.
const AGE: HeaderValue = HeaderValue::from_static("600");
const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// The origins whose pages may use the API.
pub(super) enum Cors {
    /// All.
    Any,
    /// These, as browsers write them.
    Listed(Box<[String]>),
}

/// What an answer tells browsers.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    origin: Option<HeaderValue>,
    /// True if it depends on the origin.
    varies: bool,
}

impl Cors {
    /// Allows `origins`; `*` is all of them. `None` if there are none.
    pub(super) fn of(origins: &[String]) -> Option<Cors> {
        match origins {
            [] => None,
            [any] if any == "*" => Some(Cors::Any),
            listed => Some(Cors::Listed(listed.into())),
        }
    }

    /// Answers whether a page may send a request: yes, with what it may send; no, with the reason.
    pub(super) fn preflight(&self, asked: &HeaderMap) -> Response<Bytes> {
        if self.allowed(asked).is_none() {
            let origin = asked.get(ORIGIN).map_or(&b""[..], |origin| origin.as_bytes());
            let shown = String::from_utf8_lossy(&origin[..origin.len().min(200)]).into_owned();
            let message = format!("Pages of {shown} may not use this server: see --cors_allowed_origins");
            return refusal(403, message, false, Version::HTTP_11);
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(ACCESS_CONTROL_MAX_AGE, AGE);
        response
    }

    /// Returns what the answer to a request with these headers tells.
    pub(super) fn leave(&self, asked: &HeaderMap) -> Leave {
        Leave { origin: self.allowed(asked), varies: matches!(self, Cors::Listed(_)) }
    }

    /// Returns the origin that may use the API, if a page of one asks and may.
    fn allowed(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        let origin = asked.get(ORIGIN)?;
        match self {
            Cors::Any => Some(HeaderValue::from_static("*")),
            Cors::Listed(listed) => {
                listed.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }
}

impl Leave {
    /// Puts it into the headers of an answer.
    pub(crate) fn put(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, BY_ORIGIN);
        }
        if let Some(origin) = self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        }
    }
}

/// Adds what the Open Inference Protocol needs to TensorFlow Serving's own headers of an answer, which allow one header to
/// be sent and none to be read.
pub(crate) fn widen(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
}

/// Returns whether a request for `OPTIONS` is a browser's question for a page of another origin.
pub(super) fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, origin.parse().unwrap())])
    }

    fn told(cors: &Cors, origin: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        cors.leave(&from(origin)).put(&mut headers);
        headers.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_origin_is_allowed_exactly_as_it_is_listed() {
        let listed = ["https://a.example".to_owned(), "http://localhost:3000".to_owned()];
        let cors = Cors::of(&listed).unwrap();
        for origin in &listed {
            assert_eq!(told(&cors, origin).as_ref(), Some(origin));
            assert_eq!(cors.preflight(&from(origin)).status(), 204);
        }
        for other in [
            "",
            "null",
            "*",
            "https://a.example.org",
            "https://a.example:443",
            "https://b.a.example",
            "http://a.example",
            "https://A.example",
            "https://a.example/",
            "https://a.example,http://localhost:3000",
            "http://localhost:30000",
        ] {
            assert_eq!(told(&cors, other), None, "{other}");
            assert_eq!(cors.preflight(&from(other)).status(), 403, "{other}");
        }
    }

    #[test]
    fn caches_are_told_that_answers_depend_on_the_origin() {
        for (origins, varies) in [(&["*".to_owned()], false), (&["https://a.example".to_owned()], true)] {
            let mut headers = HeaderMap::new();
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            Cors::of(origins).unwrap().leave(&HeaderMap::new()).put(&mut headers);
            let values: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(values.len(), if varies { 2 } else { 1 });
            assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), "no page has asked");
        }
        assert_eq!(told(&Cors::of(&["*".to_owned()]).unwrap(), "null").as_deref(), Some("*"));
        assert!(Cors::of(&[]).is_none());
    }

    #[test]
    fn only_a_browsers_question_is_a_preflight() {
        let mut headers = from("https://a.example");
        assert!(!is_preflight(&headers));
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        assert!(is_preflight(&headers));
        headers.remove(ORIGIN);
        assert!(!is_preflight(&headers));
    }
}
