//! The bounded re-print of a JSON value in error messages (docs/spec/rest.md section 6.4).
//!
//! Indented by four spaces, with arrays on one line. The length is checked before each token: from 256 bytes on,
//! nothing more is printed, nothing is closed and no ellipsis follows; the token that crosses the limit stays whole. A
//! number that is not finite also ends the excerpt.

use crate::json::cursor::{Cursor, Type};
use crate::json::grisu;
use crate::json::number::Number;
use crate::json::text::Text;
use crate::json::writer::Writer;

const LIMIT: usize = 256;

/// Prints the value at `at` in `text`, which is known to be well-formed there.
///
/// Invalid UTF-8 becomes U+FFFD. Time and space depend on the part that is printed, not on the size of the value.
pub(crate) fn excerpt(text: &[u8], at: usize) -> String {
    let mut excerpt = Excerpt { cursor: Cursor { text, at }, out: Vec::new(), open: Vec::new() };
    // An early end is no error: what has been printed is the excerpt.
    let _ = excerpt.print();
    String::from_utf8_lossy(&excerpt.out).into_owned()
}

/// An open container. Each has printed a byte, so there are at most [`LIMIT`].
#[derive(Clone, Copy)]
struct Open {
    object: bool,
    empty: bool,
}

/// The printer's state. Its methods return `None` when the excerpt has ended early.
struct Excerpt<'a> {
    cursor: Cursor<'a>,
    out: Vec<u8>,
    open: Vec<Open>,
}

impl Excerpt<'_> {
    fn print(&mut self) -> Option<()> {
        self.cursor.skip_space();
        self.value("")?;
        while let Some(open) = self.open.last_mut() {
            let before = *open;
            open.empty = false;
            if before.object { self.next_member(before.empty)? } else { self.next_element(before.empty)? }
        }
        Some(())
    }

    /// Returns `None` if no further token may begin.
    fn room(&self) -> Option<()> {
        (self.out.len() < LIMIT).then_some(())
    }

    /// Prints `before`, then a scalar or the opening bracket of a container.
    fn value(&mut self, before: &str) -> Option<()> {
        self.room()?;
        self.out.extend_from_slice(before.as_bytes());
        match self.cursor.value_type() {
            Type::Object => self.begin(true),
            Type::Array => self.begin(false),
            Type::String => {
                let text = self.cursor.string().ok()?;
                self.string(text);
            }
            Type::Number => self.number()?,
            Type::Null => self.word("null")?,
            Type::True => self.word("true")?,
            Type::False => self.word("false")?,
        }
        Some(())
    }

    fn begin(&mut self, object: bool) {
        self.cursor.at += 1;
        self.out.push(if object { b'{' } else { b'[' });
        self.open.push(Open { object, empty: true });
    }

    fn next_member(&mut self, first: bool) -> Option<()> {
        let name = self.cursor.member(first).ok()?;
        self.room()?;
        let Some(name) = name else {
            self.open.pop();
            if !first {
                self.line();
            }
            self.out.push(b'}');
            return Some(());
        };
        if !first {
            self.out.push(b',');
        }
        self.line();
        self.string(name);
        self.value(": ")
    }

    fn next_element(&mut self, first: bool) -> Option<()> {
        if self.cursor.element(first).ok()? {
            return self.value(if first { "" } else { ", " });
        }
        self.room()?;
        self.open.pop();
        self.out.push(b']');
        Some(())
    }

    fn line(&mut self) {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 4 * self.open.len(), b' ');
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.cursor.literal(word.as_bytes()).ok()?;
        self.out.extend_from_slice(word.as_bytes());
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let text = match self.cursor.number().ok()? {
            Number::Int(value) => value.to_string(),
            Number::Big(value) => value.to_string(),
            Number::Double(value) if value.is_finite() => decimal(value),
            Number::Double(_) => return None,
        };
        self.out.extend_from_slice(text.as_bytes());
        Some(())
    }

    fn string(&mut self, text: Text<'_>) {
        let bytes = text.bytes();
        let mut writer = Writer::with_room(bytes.len() + 2);
        writer.string(&bytes);
        self.out.extend(writer.finish());
    }
}

/// Formats `value` so that it reads back: plain with a decimal point from 1e-6 up to 1e21, otherwise with an exponent
/// that has neither plus sign nor padding.
fn decimal(value: f64) -> String {
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if value == 0.0 {
        return format!("{sign}0.0");
    }
    let (digits, last) = grisu::digits(value.abs());
    let digits = String::from_utf8_lossy(&digits);
    // Position of the decimal point, counted from the first digit.
    let point = digits.len() as i32 + last;
    match usize::try_from(point) {
        Ok(whole @ 1..=21) if last >= 0 => format!("{sign}{digits:0<whole$}.0"),
        Ok(whole @ 1..=21) => format!("{sign}{}.{}", &digits[..whole], &digits[whole..]),
        _ if (-5..=0).contains(&point) => {
            format!("{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
        }
        _ if digits.len() == 1 => format!("{sign}{digits}e{}", point - 1),
        _ => format!("{sign}{}.{}e{}", &digits[..1], &digits[1..], point - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        for (text, printed) in [
            ("[1, 2]", "[1, 2]"),
            ("{}", "{}"),
            ("[ ]", "[]"),
            ("{\"a\":1}", "{\n    \"a\": 1\n}"),
            ("[{\"a\":1},{}]", "[{\n        \"a\": 1\n    }, {}]"),
            (
                "{\"a\":[{\"b\":[null,true]}],\"c\":false}",
                "{\n    \"a\": [{\n            \"b\": [null, true]\n        }],\n    \"c\": false\n}",
            ),
            ("\"\\u0001\\n\\\"\\/é\"", "\"\\u0001\\n\\\"/é\""),
            ("[1,NaN,2]", "[1, "),
            ("{\"a\":1,\"b\":NaN}", "{\n    \"a\": 1,\n    \"b\": "),
            ("Infinity", ""),
        ] {
            assert_eq!(excerpt(text.as_bytes(), 0), printed, "{text}");
        }
        assert_eq!(excerpt(b"[[1]]x", 1), "[1]");
    }

    #[test]
    fn numbers() {
        let text = "[1e-5, 1e-6, 0.000001234, 1e-7, 1e20, 1e21, 1.5e30, 123456.789, -0.0, -0, 1e-300, 5e-324, 0.1, 100.0]";
        let printed = "[0.00001, 0.000001, 0.000001234, 1e-7, 100000000000000000000.0, 1e21, 1.5e30, 123456.789, -0.0, 0, 1e-300, 5e-324, 0.1, 100.0]";
        assert_eq!(excerpt(text.as_bytes(), 0), printed);
        assert_eq!(excerpt(b"18446744073709551615", 0), "18446744073709551615");
    }

    #[test]
    fn it_ends_at_the_limit() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        assert_eq!(excerpt(deep.as_bytes(), 0), "[".repeat(256));
        let long = format!("[\"{}\", 1]", "v".repeat(300));
        assert_eq!(excerpt(long.as_bytes(), 0), format!("[\"{}\"", "v".repeat(300)));
        let ones = format!("[{}]", vec!["1"; 100_000].join(","));
        assert_eq!(excerpt(ones.as_bytes(), 0).len(), 257);
        let exact = format!("[\"{}\", 1]", "v".repeat(252));
        assert_eq!(excerpt(exact.as_bytes(), 0), format!("[\"{}\", 1", "v".repeat(252)));
    }
}
