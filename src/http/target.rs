//! The request target: the text matched against the URL grammar, and the characters it may contain.

use http::Uri;

/// Returns path and query as they were sent.
pub(crate) fn of(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", |target| target.as_str())
}

/// The characters that RFC 3986 allows in a path and a query.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 0x7f {
        allowed[byte] = byte > 0x20
            && !matches!(
                byte as u8,
                b'"' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}'
            );
        byte += 1;
    }
    allowed
};

/// Returns whether `target` contains only characters that RFC 3986 allows in a path and a query, and every `%` is
/// followed by two hex digits.
pub(crate) fn is_valid(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.iter().all(|byte| ALLOWED[usize::from(*byte)])
        && memchr::memchr_iter(b'%', bytes).all(|at| is_escape(&bytes[at..]))
}

/// Returns whether `text` starts with a `%` and two hex digits.
fn is_escape(text: &[u8]) -> bool {
    matches!(text, [b'%', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}
