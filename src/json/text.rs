//! JSON strings: finding their end, and unescaping.

use std::borrow::Cow;

/// The text between a string's quotation marks; known to be well-formed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Wraps well-formed `raw`; `escaped` says whether it contains escapes.
    #[inline(always)]
    pub(super) fn new(raw: &'a [u8], escaped: bool) -> Text<'a> {
        Text { raw, escaped }
    }

    /// Returns the bytes as written, unless they contain an escape.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        (!self.escaped).then_some(self.raw)
    }

    /// Returns the unescaped bytes.
    pub(crate) fn bytes(&self) -> Cow<'a, [u8]> {
        match self.plain() {
            Some(plain) => Cow::Borrowed(plain),
            None => {
                let mut out = Vec::with_capacity(self.raw.len());
                self.append_to(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// Returns the unescaped text; invalid UTF-8 becomes U+FFFD.
    pub(crate) fn lossy(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    /// Returns whether the unescaped bytes equal `bytes`.
    #[inline]
    pub(crate) fn is(&self, bytes: &[u8]) -> bool {
        match self.plain() {
            Some(plain) => plain == bytes,
            None => *self.bytes() == *bytes,
        }
    }

    /// Appends the unescaped bytes to `out`: never more than were written.
    #[inline]
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        match self.plain() {
            Some(plain) => out.extend_from_slice(plain),
            None => self.unescape_to(out),
        }
    }

    #[inline(never)]
    fn unescape_to(&self, out: &mut Vec<u8>) {
        self.pieces(|piece| out.extend_from_slice(piece));
    }

    /// Calls `take` with the unescaped bytes: the runs between escapes as they are, and each escaped character on its
    /// own.
    pub(crate) fn pieces(&self, mut take: impl FnMut(&[u8])) {
        let mut rest = self.raw;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            take(&rest[..at]);
            let used = unescape(&rest[at..], &mut take);
            rest = &rest[at + used..];
        }
        take(rest);
    }
}

/// Counts the bytes at the start of `text` before the first quotation mark, backslash or control character.
#[inline]
pub(super) fn ordinary(text: &[u8]) -> usize {
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Whole blocks without a branch per byte, so that the compiler can process 16 at once.
    let blocks = text
        .chunks_exact(16)
        .take_while(|block| !block.iter().fold(false, |any, byte| any | special(*byte)))
        .count();
    let start = blocks * 16;
    text[start..].iter().position(|byte| special(*byte)).map_or(text.len(), |at| start + at)
}

/// Returns the UTF-16 unit of the `\uXXXX` at `at`.
pub(super) fn unit(text: &[u8], at: usize) -> Option<u32> {
    let digits = text.get(at + 2..at + 6)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

/// Calls `take` with the character of the well-formed escape at the start of `text`; returns the escape's length.
fn unescape(text: &[u8], take: &mut impl FnMut(&[u8])) -> usize {
    match text.get(1) {
        Some(b'b') => take(b"\x08"),
        Some(b'f') => take(b"\x0C"),
        Some(b'n') => take(b"\n"),
        Some(b'r') => take(b"\r"),
        Some(b't') => take(b"\t"),
        Some(b'u') => return unescape_unit(text, take),
        _ => take(&text[1..2]),
    }
    2
}

/// Does the same for `\uXXXX`, as UTF-8; a lone low surrogate becomes the three bytes that UTF-8's scheme would give
/// it.
fn unescape_unit(text: &[u8], take: &mut impl FnMut(&[u8])) -> usize {
    let first = unit(text, 0).unwrap_or(0xFFFD);
    let (code, used) = match (first, unit(text, 6)) {
        (0xD800..=0xDBFF, Some(second)) => (0x10000 + ((first & 0x3FF) << 10) + (second & 0x3FF), 12),
        _ => (first, 6),
    };
    match char::from_u32(code) {
        Some(character) => take(character.encode_utf8(&mut [0; 4]).as_bytes()),
        None => {
            take(&[0xE0 | (code >> 12) as u8, 0x80 | (code >> 6 & 0x3F) as u8, 0x80 | (code & 0x3F) as u8])
        }
    }
    used
}

#[cfg(test)]
mod tests {
    use crate::json::cursor::Cursor;
    use crate::json::syntax::Problem;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Vec<u8>, (Problem, usize)> {
        let text = Cursor { text, at: 0 }.string().map_err(|error| (error.problem, error.at))?;
        Ok(text.bytes().into_owned())
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(read(br#""a\"\\\/\b\f\n\r\tz""#), Ok(b"a\"\\/\x08\x0c\n\r\tz".to_vec()));
        assert_eq!(read(br#""\u00e9\u0000\ud83d\ude00""#), Ok("é\0😀".as_bytes().to_vec()));
        assert_eq!(read(br#""\uDC00x""#), Ok(b"\xED\xB0\x80x".to_vec()));
        assert_eq!(read(b"\"\xff\xfe\""), Ok(b"\xff\xfe".to_vec()));
    }

    #[test]
    fn errors_name_the_byte() {
        assert_eq!(read(b"\"abc"), Err((Problem::Quote, 4)));
        assert_eq!(read(b"\"a\0c\""), Err((Problem::Quote, 2)));
        assert_eq!(read(b"\"0123456789abcdef\n\""), Err((Problem::Escape, 17)));
        assert_eq!(read(b"\"\\"), Err((Problem::Escape, 1)));
        assert_eq!(read(b"\"ab\\x\""), Err((Problem::Escape, 3)));
        assert_eq!(read(b"\"\\u12\""), Err((Problem::Hex, 1)));
        assert_eq!(read(b"\"\\u12"), Err((Problem::Hex, 1)));
        assert_eq!(read(b"\"\\ud800\""), Err((Problem::Surrogate, 1)));
        assert_eq!(read(b"\"\\ud800\\u0041\""), Err((Problem::Surrogate, 1)));
        assert_eq!(read(b"\"\\ud800\\uZZZZ\""), Err((Problem::Hex, 1)));
    }

    proptest! {
        #[test]
        fn what_serde_writes_is_read_back(text in ".{0,60}") {
            prop_assert_eq!(read(serde_json::to_string(&text).unwrap().as_bytes()), Ok(text.into_bytes()));
        }

        #[test]
        fn what_serde_reads_is_read_alike(inner in r#"([a-z]{0,20}|\\[nrt"/]|\\u[0-9a-f]{4}|\\ud83d\\ude0[0-9]|é){0,8}"#) {
            let written = format!("\"{inner}\"");
            if let Ok(text) = serde_json::from_str::<String>(&written) {
                prop_assert_eq!(read(written.as_bytes()), Ok(text.into_bytes()));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = [b"\"".as_slice(), &bytes, b"\\\"x"].concat();
            let _ = read(&text);
        }
    }
}
