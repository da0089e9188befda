//! The request target: the text that the URL grammar is matched with, and which characters it may hold.

use http::Uri;

/// Path and query as they were sent.
pub(crate) fn of(uri: &Uri) -> String {
    uri.path_and_query().map_or_else(String::new, |target| target.as_str().to_owned())
}

/// Whether `target` holds only characters that RFC 3986 allows in a path and a query, and every `%` has two hex digits.
pub(crate) fn is_valid(target: &str) -> bool {
    let bytes = target.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => matches!(bytes.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()),
        0..=b' ' | b'"' | b'<' | b'>' | b'[' | b'\\' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f.. => false,
        _ => true,
    })
}
