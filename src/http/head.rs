//! Request heads: refusals that HTTP requires, and the codings they name.

use super::reply::Refusal;
use super::target;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

/// Returns the refusal that the head alone calls for, if any. With `expects`, unknown expectations are refused.
pub(crate) fn refusal(head: &Parts, path: &str, expects: bool) -> Option<Refusal> {
    if !target::is_valid(path) {
        let message = "Bad Request: the path holds a character that must be percent-encoded (RFC 3986)";
        return Some(Refusal::closing(400, message));
    }
    if let Some(refusal) = wrong_framing(head) {
        return Some(refusal);
    }
    if !is_known(&head.method) {
        return Some(Refusal::closing(501, format!("Not Implemented: method {}", head.method)));
    }
    let expected = head.headers.get(EXPECT).filter(|_| expects);
    if expected.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Some(Refusal::closing(417, "Expectation Failed: only 'Expect: 100-continue' is known"));
    }
    None
}

fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::POST
            | Method::HEAD
            | Method::PUT
            | Method::DELETE
            | Method::OPTIONS
            | Method::PATCH
    )
}

/// Returns the refusals that RFC 9112 requires (sections 3.2 and 6.1), so that no intermediary understands the request
/// differently.
fn wrong_framing(head: &Parts) -> Option<Refusal> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && head.version == Version::HTTP_11) {
        let message = format!("Bad Request: expected one Host header, got {hosts}");
        return Some(Refusal::closing(400, message));
    }
    let codings = head.headers.get_all(TRANSFER_ENCODING);
    if let Some(other) = codings.iter().find(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        let shown = String::from_utf8_lossy(other.as_bytes());
        let message = format!("Not Implemented: Transfer-Encoding {shown}; only chunked is");
        return Some(Refusal::closing(501, message));
    }
    (codings.iter().count() > 1)
        .then(|| Refusal::closing(400, "Bad Request: expected one Transfer-Encoding header, got several"))
}

/// Returns whether the body is compressed with gzip.
pub(crate) fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|value| contains(value.as_bytes(), b"gzip"))
}

/// Returns whether `Accept-Encoding` names gzip with a quality above zero.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
            let refused = parts.any(|part| {
                part.strip_prefix("q=")
                    .is_some_and(|quality| quality.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
            });
            named && !refused
        })
    })
}

/// Returns whether `text` contains `part`.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
