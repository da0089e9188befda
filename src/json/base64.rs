//! Base64 objects: `{"b64": "…"}`, the bytes of a string tensor's element (docs/spec/rest.md section 6.1).

use crate::json::cursor::Cursor;
use crate::json::text::Text;
use ::base64::engine::general_purpose::GeneralPurposeConfig;
use ::base64::engine::{DecodePaddingMode, Engine, Simd};
use std::sync::LazyLock;

/// Alphabet only: padding has rules of its own here. Trailing bits of the last character are ignored.
static LETTERS: LazyLock<Simd> = LazyLock::new(|| {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    Simd::standard(config)
});

/// The text is not base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotBase64;

impl<'a> Cursor<'a> {
    /// Consumes the base64 object here and returns its text; anything else is left alone.
    ///
    /// A base64 object has exactly one member, `b64`, with a string value.
    pub(crate) fn base64_object(&mut self) -> Option<Text<'a>> {
        let mut ahead = *self;
        if !ahead.take(b'{') || !ahead.member(true).ok()??.is(b"b64") || ahead.peek() != b'"' {
            return None;
        }
        let text = ahead.string().ok()?;
        if ahead.skip_space() != b'}' {
            return None;
        }
        self.at = ahead.at + 1;
        Some(text)
    }

    /// Returns whether an object other than a base64 object starts here.
    pub(crate) fn plain_object(mut self) -> bool {
        self.peek() == b'{' && self.base64_object().is_none()
    }
}

/// Appends the bytes that `text` encodes to `out`.
///
/// Standard alphabet; padding is either absent or complete, and `.` is accepted for `=`; ASCII whitespace is skipped
/// anywhere. On an error, `out` may have grown.
pub(crate) fn decode_base64(text: Text<'_>, out: &mut Vec<u8>) -> Result<(), NotBase64> {
    // Text is usually clean; whitespace or a `.` inside it stops the engine at once.
    if let Some(plain) = text.plain()
        && decode_clean(plain, out).is_ok()
    {
        return Ok(());
    }
    decode_clean(&without_space(text), out)
}

/// Returns `text` without ASCII whitespace. Usually that is line ends: Python's `base64.encodebytes` inserts one after
/// every 76 characters.
fn without_space(text: Text<'_>) -> Vec<u8> {
    let mut clean = Vec::new();
    text.pieces(|piece| match piece {
        [b' ' | b'\t'..=b'\r'] => {}
        // Whitespace other than the space is always escaped, and each escaped character arrives as a piece of its own.
        piece => {
            let mut start = 0;
            for end in memchr::memchr_iter(b' ', piece) {
                clean.extend_from_slice(&piece[start..end]);
                start = end + 1;
            }
            clean.extend_from_slice(&piece[start..]);
        }
    });
    clean
}

/// Decodes text without whitespace.
fn decode_clean(text: &[u8], out: &mut Vec<u8>) -> Result<(), NotBase64> {
    let letters = text.iter().rposition(|byte| !matches!(byte, b'=' | b'.')).map_or(0, |last| last + 1);
    let padding = text.len() - letters;
    let complete = (4 - letters % 4) % 4;
    if padding != 0 && padding != complete {
        return Err(NotBase64);
    }
    let start = out.len();
    LETTERS.decode_vec(&text[..letters], out).map_err(|_| {
        out.truncate(start);
        NotBase64
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::base64::prelude::BASE64_STANDARD;
    use proptest::prelude::*;

    fn read(inner: &str) -> Result<Vec<u8>, NotBase64> {
        let written = format!("{{ \"b64\" : \"{inner}\" }}x");
        let mut cursor = Cursor { text: written.as_bytes(), at: 0 };
        let text = cursor.base64_object().unwrap();
        assert_eq!(cursor.at, written.len() - 1);
        let mut out = b"before".to_vec();
        decode_base64(text, &mut out).map(|()| out.split_off(6))
    }

    #[test]
    fn padding_is_absent_or_complete() {
        for good in [
            "aGVsbG8=",
            "aGVsbG8",
            "aGVsbG8.",
            "aGVs bG8=",
            " aGVsbG8= ",
            "aGVs\\nbG8=\\n",
            "aGVsbG9=",
            "aGVsb\\u0047\\t8 =",
            "aGV\\u000bsb\\fG8\\r\\n=",
        ] {
            assert_eq!(read(good).as_deref(), Ok(b"hello".as_slice()), "{good}");
        }
        for good in ["YQ", "YQ==", "YQ..", "YQ= ="] {
            assert_eq!(read(good).as_deref(), Ok(b"a".as_slice()), "{good}");
        }
        assert_eq!(read("").as_deref(), Ok(b"".as_slice()));
        for bad in [
            "YQ=",
            "aGk==",
            "aGVsbG8==",
            "!!!",
            "_-8=",
            "a",
            "=",
            "==",
            "====",
            "YQ==YQ==",
            "aGVs=bG8",
            "é",
            "YQ\\u0000",
        ] {
            assert_eq!(read(bad), Err(NotBase64), "{bad}");
        }
    }

    #[test]
    fn other_objects_are_left_alone() {
        for other in [
            "{}",
            "{\"b64\":5}",
            "{\"b64\":\"YQ\",\"b64\":\"YQ\"}",
            "{\"b64\":\"YQ\",}",
            "{\"b\":\"YQ\"}",
            "{\"b64\":\"YQ\"",
            "[]",
        ] {
            let mut cursor = Cursor { text: other.as_bytes(), at: 0 };
            assert!(cursor.base64_object().is_none(), "{other}");
            assert_eq!(cursor.at, 0);
            assert_eq!(cursor.plain_object(), other.starts_with('{'));
        }
        assert!(Cursor { text: b"{\"\\u00624\\u0034\":\"YQ\"}", at: 0 }.base64_object().is_none());
        assert!(Cursor { text: b"{\"\\u00626\\u0034\":\"YQ\"}", at: 0 }.base64_object().is_some());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..200), width in 1usize..100) {
            let text = BASE64_STANDARD.encode(&bytes);
            prop_assert_eq!(read(&text), Ok(bytes.clone()));
            prop_assert_eq!(read(text.trim_end_matches('=')), Ok(bytes.clone()));
            let lines = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect::<Vec<_>>();
            prop_assert_eq!(read(&lines.join("\\n")), Ok(bytes));
        }
    }
}
