//! How logs look: text for people, or one JSON object per line; and how values are written in either, so that none can
//! pass for another value or another line.

use std::fmt::Write;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-01-02 03:04:05.678 I rest: text`, in local time.
    #[default]
    Text,
    /// `{"time":"2026-01-02T03:04:05.678+01:00","level":"info","logger":"rest","message":"text"}`
    Json,
}

impl LogFormat {
    /// Returns the format of this name.
    pub fn named(name: &str) -> Option<LogFormat> {
        match name {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        }
    }
}

/// Returns how `at` is written.
pub(crate) fn time(format: LogFormat, at: chrono::DateTime<chrono::Local>) -> String {
    let wanted = match format {
        LogFormat::Text => "%Y-%m-%d %H:%M:%S%.3f",
        LogFormat::Json => "%Y-%m-%dT%H:%M:%S%.3f%:z",
    };
    at.format(wanted).to_string()
}

/// Appends `,"key":"value"`; `key` needs no escape.
pub(crate) fn json_member(out: &mut String, key: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(key);
    out.push_str("\":");
    json_string(out, value);
}

/// Appends `text` as a JSON string of printable characters.
pub(crate) fn json_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            unsafe_to_show if !is_shown(unsafe_to_show) => {
                let mut units = [0; 2];
                for unit in unsafe_to_show.encode_utf16(&mut units) {
                    // Writing to a string does not fail.
                    let _written = write!(out, "\\u{unit:04x}");
                }
            }
            shown => out.push(shown),
        }
    }
    out.push('"');
}

/// Appends ` key=value`, with the value quoted as in JSON unless it is one plain word.
pub(crate) fn text_member(out: &mut String, key: &str, value: &str) {
    out.push(' ');
    out.push_str(key);
    out.push('=');
    let is_plain = |character: char| is_shown(character) && !matches!(character, ' ' | '"' | '\\' | '=');
    if !value.is_empty() && value.chars().all(is_plain) {
        out.push_str(value);
    } else {
        json_string(out, value);
    }
}

/// Returns whether a character may stand in a line as it is: it ends no line, moves no cursor, and turns no text around.
fn is_shown(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{feff}')
        && !matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_words_stand_as_they_are_and_others_are_quoted() {
        let written = |value| {
            let mut out = String::new();
            text_member(&mut out, "key", value);
            out
        };
        assert_eq!(written("half_plus_two:1"), " key=half_plus_two:1");
        assert_eq!(written("größe"), " key=größe");
        for (value, quoted) in [
            ("", r#""""#),
            ("two words", r#""two words""#),
            ("a=b", r#""a=b""#),
            ("a\"b\\", r#""a\"b\\""#),
            ("a\nb\u{1b}[31m", r#""a\nb\u001b[31m""#),
            ("\u{202e}txt.exe\u{85}", r#""\u202etxt.exe\u0085""#),
        ] {
            assert_eq!(written(value), format!(" key={quoted}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_text_a_json_string_is_one_line_that_reads_as_the_text(text: String) {
            let mut out = String::new();
            json_string(&mut out, &text);
            prop_assert!(out.chars().all(is_shown));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_value_in_text_ends_where_it_seems_to(value: String, next in "[a-z]{1,5}") {
            let mut out = String::new();
            text_member(&mut out, "key", &value);
            text_member(&mut out, "next", &next);
            let rest = out.strip_prefix(" key=").unwrap();
            prop_assert!(rest.chars().all(is_shown));
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            if rest.starts_with('"') {
                let read = values.next().unwrap().unwrap();
                prop_assert_eq!(&read, &value);
                prop_assert_eq!(&rest[values.byte_offset()..], format!(" next={next}"));
            } else {
                prop_assert_eq!(rest, format!("{value} next={next}"));
                prop_assert!(!value.contains(' '));
            }
        }
    }
}
