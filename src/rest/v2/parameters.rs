//! Parameters in JSON: objects of values, of an infer request, its inputs and its outputs.

use crate::error::{Error, Result};
use crate::json::cursor::{self, Cursor, Type};
use crate::json::number::Number;
use crate::json::text::Text;
use crate::open_inference::parameters::{OfRequest, Value};
use memchr::memmem;
use std::borrow::Cow;

/// Consumes the object here and gives each of its members to `take`.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(&str, &Value<'_>) -> Result<()>,
) -> Result<()> {
    if !cursor.take(b'{') {
        return Err(Error::invalid("Unable to parse 'parameters': expected an object"));
    }
    let mut first = true;
    while let Some(name) = cursor.member(first)? {
        first = false;
        let value = value(cursor)?;
        take(&utf8(name), &value)?;
    }
    Ok(())
}

fn value<'a>(cursor: &mut Cursor<'a>) -> Result<Value<'a>> {
    Ok(match cursor.value_type() {
        Type::String => Value::Text(utf8(cursor.string()?)),
        Type::True => cursor.literal(b"true").map(|()| Value::Bool(true))?,
        Type::False => cursor.literal(b"false").map(|()| Value::Bool(false))?,
        Type::Number => match cursor.number()? {
            Number::Int(number) => Value::Integer(number),
            Number::Big(_) | Number::Double(_) => Value::Other,
        },
        Type::Null | Type::Object | Type::Array => {
            cursor.skip_value()?;
            Value::Other
        }
    })
}

/// Returns a text; invalid UTF-8 becomes U+FFFD.
pub(super) fn utf8(text: Text<'_>) -> Cow<'_, str> {
    match text.bytes() {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Longest text that is searched for names before its request is given to a thread.
pub(super) const SHORT: usize = 1 << 20;

/// Returns what the parameters of the request in `json` say of version and signature, which have to be known before its
/// inputs are read. Usually they say nothing, which is known without reading them. A text with a fault says nothing.
pub(super) fn names(json: &[u8]) -> OfRequest {
    let mentions = |name: &[u8]| memmem::find(json, name).is_some();
    if !mentions(b"signature_name") && !mentions(b"version_label") {
        return OfRequest::default();
    }
    of_request(json).unwrap_or_default()
}

fn of_request(json: &[u8]) -> Option<OfRequest> {
    let [parameters] = cursor::members(cursor::root(json).ok()?, ["parameters"]).ok()??;
    let mut said = OfRequest::default();
    // What is wrong is found again when all is read.
    read(&mut parameters?, |name, value| said.take(name, value)).ok()?;
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_are() {
        let said = |text: &str| {
            let OfRequest { signature_name, version_label, .. } = names(text.as_bytes());
            (signature_name, version_label)
        };
        let both = |one: &str, other: &str| (one.to_owned(), other.to_owned());
        assert_eq!(said(r#"{"inputs":[],"parameters":{"x":[{}],"signature_name":"s"}}"#), both("s", ""));
        assert_eq!(
            said(r#"{"parameters":{"version_label":"new","signature_name":"s"},"inputs":[]}"#),
            both("s", "new")
        );
        for nothing in [
            "",
            "{",
            "[]",
            r#"{"inputs":[{"parameters":{"signature_name":"s"}}]}"#,
            r#"{"parameters":{"signature_name":1}}"#,
            r#"{"parameters":["signature_name"]}"#,
            r#"{"parameters":{"signature_name":"s"}"#,
        ] {
            assert_eq!(said(nothing), both("", ""), "{nothing}");
        }
    }

    #[test]
    fn values_have_types() {
        let text = br#"{"a":true,"b":false,"c":1,"d":-1,"e":1.5,"f":"x\u0041","g":null,"h":[1,{}],"i":18446744073709551615}"#;
        let mut all = Vec::new();
        read(&mut Cursor::new(text), |_, value| {
            all.push(format!("{value:?}"));
            Ok(())
        })
        .unwrap();
        let expected = [
            "Bool(true)",
            "Bool(false)",
            "Integer(1)",
            "Integer(-1)",
            "Other",
            "Text(\"xA\")",
            "Other",
            "Other",
            "Other",
        ];
        assert_eq!(all, expected);
        assert!(read(&mut Cursor::new(b"[]"), |_, _| Ok(())).is_err());
    }
}
