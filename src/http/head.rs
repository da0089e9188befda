//! Request heads: refusals that HTTP requires, and the codings they name.

use super::coding::{Accepts, Coding};
use super::reply::Refusal;
use super::target;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};

/// Returns the refusal that the head alone calls for, if any; `fields` are those of its headers. With `expects`, unknown
/// expectations are refused.
pub(crate) fn refusal(head: &Parts, fields: &Fields<'_>, path: &str, expects: bool) -> Option<Refusal> {
    if !target::is_valid(path) {
        let message = "Bad Request: the path holds a character that must be percent-encoded (RFC 3986)";
        return Some(Refusal::closing(400, message));
    }
    if let Some(refusal) = wrong_framing(head.version, fields) {
        return Some(refusal);
    }
    if !is_known(&head.method) {
        return Some(Refusal::closing(501, format!("Not Implemented: method {}", head.method)));
    }
    let expected = fields.expected.filter(|_| expects);
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
fn wrong_framing(version: Version, fields: &Fields<'_>) -> Option<Refusal> {
    let hosts = fields.hosts;
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        let message = format!("Bad Request: expected one Host header, got {hosts}");
        return Some(Refusal::closing(400, message));
    }
    if let Some(other) = fields.other_coding {
        let shown = String::from_utf8_lossy(other.as_bytes());
        let message = format!("Not Implemented: Transfer-Encoding {shown}; only chunked is");
        return Some(Refusal::closing(501, message));
    }
    (fields.codings > 1)
        .then(|| Refusal::closing(400, "Bad Request: expected one Transfer-Encoding header, got several"))
}

/// What the headers of a request say that matters here.
#[derive(Debug, Default)]
pub(crate) struct Fields<'h> {
    /// True if the body is compressed with gzip.
    pub(crate) gzip: bool,
    /// True if the body is compressed with zstd.
    pub(crate) zstd: bool,
    /// The codings that `Accept-Encoding` names.
    accepts: Accepts,
    /// The first `Content-Type` and the first `Accept`.
    pub(crate) content_type: Option<&'h HeaderValue>,
    pub(crate) accept: Option<&'h HeaderValue>,
    /// True if `Accept` names `application/json; compact=true`.
    pub(crate) wants_compact: bool,
    hosts: usize,
    /// The number of transfer codings, and the first that is not `chunked`.
    codings: usize,
    other_coding: Option<&'h HeaderValue>,
    expected: Option<&'h HeaderValue>,
}

impl<'h> Fields<'h> {
    /// Looks at each of `headers` once: with few of them, that takes a fraction of the time of looking names up.
    pub(crate) fn of(headers: &'h HeaderMap) -> Fields<'h> {
        let (mut fields, mut content_coding) = (Fields::default(), None);
        for (name, value) in headers {
            match *name {
                HOST => fields.hosts += 1,
                TRANSFER_ENCODING => {
                    fields.codings += 1;
                    if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                        fields.other_coding.get_or_insert(value);
                    }
                }
                EXPECT => _ = fields.expected.get_or_insert(value),
                CONTENT_ENCODING => _ = content_coding.get_or_insert(value),
                CONTENT_TYPE => _ = fields.content_type.get_or_insert(value),
                ACCEPT_ENCODING => {
                    // What is accepted may be said in several.
                    fields.accepts = fields.accepts.or(named_codings(value));
                }
                ACCEPT => {
                    fields.accept.get_or_insert(value);
                    fields.wants_compact |= names_compact(value.as_bytes());
                }
                _ => {}
            }
        }
        fields.gzip = content_coding.is_some_and(|value| contains(value.as_bytes(), b"gzip"));
        fields.zstd = content_coding.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"zstd"));
        fields
    }

    /// Returns the codings that the reply may have, of which zstd has to be turned on.
    pub(crate) fn accepts(&self, zstd: bool) -> Accepts {
        if zstd { self.accepts } else { Accepts { zstd: 0, ..self.accepts } }
    }

    /// Returns the coding of the body; zstd has to be turned on.
    pub(crate) fn coding(&self, zstd: bool) -> Option<Coding> {
        match (self.gzip, self.zstd && zstd) {
            (true, _) => Some(Coding::Gzip),
            (false, true) => Some(Coding::Zstd),
            (false, false) => None,
        }
    }
}

/// Returns the codings that the value of an `Accept-Encoding` names, with their qualities. One that is no number is 1.
fn named_codings(value: &HeaderValue) -> Accepts {
    let mut accepts = Accepts::default();
    for item in value.to_str().unwrap_or_default().split(',') {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let place = match name.len() {
            4 if name.eq_ignore_ascii_case("gzip") => &mut accepts.gzip,
            4 if name.eq_ignore_ascii_case("zstd") => &mut accepts.zstd,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok());
        *place = (*place).max(thousandths(quality.unwrap_or(1.0)));
    }
    accepts
}

/// Returns a quality in thousandths; the smallest that is above zero counts as one.
fn thousandths(quality: f32) -> u16 {
    if quality > 0.0 { (quality.min(1.0) * 1000.0).round().max(1.0) as u16 } else { 0 }
}

/// Returns whether the value of an `Accept` names JSON with the parameter `compact=true` and a quality above zero. Ranges
/// that are not as RFC 9110 has them (section 12.5.1) name nothing.
fn names_compact(value: &[u8]) -> bool {
    // Most name no parameter.
    memchr::memchr(b';', value).is_some()
        && std::str::from_utf8(value).is_ok_and(|value| value.split(',').any(is_compact_json))
}

fn is_compact_json(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim_ascii);
    if !parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json")) {
        return false;
    }
    let mut compact = false;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { return false };
        let value = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        if name.eq_ignore_ascii_case("compact") {
            compact = value.eq_ignore_ascii_case("true");
        } else if name.eq_ignore_ascii_case("q") && !value.parse::<f32>().is_ok_and(|quality| quality > 0.0) {
            return false;
        }
    }
    compact
}

/// Returns whether `text` contains `part`.
pub(crate) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compact_json_is_asked_for_by_a_parameter() {
        for asked in [
            "application/json;compact=true",
            "text/html, Application/JSON ; charset=utf-8; Compact=\"true\" ;q=0.5, */*;q=0.1",
        ] {
            assert!(names_compact(asked.as_bytes()), "{asked}");
        }
        for other in [
            "*/*",
            "application/json",
            "application/json;compact",
            "application/json;compact=false",
            "application/json;compact=true;q=0",
            "application/json;compact=true;q=x",
            "application/json;compact=true;",
            "application/jsonl;compact=true",
            "text/html;compact=true,application/json",
            "application/json,compact=true",
            ";compact=true",
        ] {
            assert!(!names_compact(other.as_bytes()), "{other}");
        }
        assert!(!names_compact(b"application/json;compact=true;x=\xff"));
    }

    #[test]
    fn codings_are_accepted_with_a_quality_above_zero() {
        for (value, gzip, zstd) in [
            ("gzip", 1000, 0),
            ("ZSTD , deflate;q=1", 0, 1000),
            ("gzip;q=0, zstd;q=0.001", 0, 1),
            ("gzip;q=0.0,zstd;q=x", 0, 1000),
            ("gzip;q=0, gzip", 1000, 0),
            ("gzip;q=0.8, zstd; q=0.75", 800, 750),
            ("gzip;q=7, zstd;q=-1", 1000, 0),
            ("gzip;q=NaN, zstd;q=0.00001", 0, 1),
            ("*, x-gzip, gzipp", 0, 0),
        ] {
            let accepts = named_codings(&HeaderValue::from_static(value));
            assert_eq!(accepts, Accepts { gzip, zstd }, "{value}");
        }
    }

    #[test]
    fn of_headers_that_come_twice_the_first_counts() {
        let mut headers = HeaderMap::new();
        for (name, values) in [
            (HOST, ["a", "b"]),
            (TRANSFER_ENCODING, ["gzip", "deflate"]),
            (EXPECT, ["100-continue", "other"]),
            (CONTENT_ENCODING, ["gzip", "identity"]),
            (ACCEPT_ENCODING, ["identity", "gzip"]),
        ] {
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
        }
        let fields = Fields::of(&headers);
        assert!(fields.gzip, "of those of a body, the first counts");
        assert_eq!(fields.accepts(true).gzip, 1000, "what is accepted may be said in several");
        assert_eq!((fields.hosts, fields.codings), (2, 2));
        assert_eq!(fields.other_coding.map(HeaderValue::as_bytes), Some(&b"gzip"[..]));
        assert_eq!(fields.expected.map(HeaderValue::as_bytes), Some(&b"100-continue"[..]));
    }
}
