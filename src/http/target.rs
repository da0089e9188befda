//! The request target: the text matched against the URL grammar, and the characters it may contain.

use http::Uri;

/// Returns path and query as they were sent.
pub(crate) fn of(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(String::new, |target| target.as_str().to_owned())
}

/// Returns whether `target` contains only characters that RFC 3986 allows in a path and a query, and every `%` is
/// followed by two hex digits.
pub(crate) fn is_valid(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => matches!(bytes.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
        0..=b' ' | b'"' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => false,
        _ => true,
    })
}
