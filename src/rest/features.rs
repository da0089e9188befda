//! Converts the JSON feature maps of classify and regress bodies to serialized `tensorflow.Example`s (docs/spec/rest.md
//! section 11).
//!
//! The wire layout is that of TensorFlow's `example.proto` and `feature.proto`: an Example is
//! `{1: {1: {1: name, 2: {kind: list}}, …}}` with kinds 1 `bytes_list`, 2 `float_list`, 3 `int64_list`, numbers packed.

use crate::error::{Error, Result};
use crate::json::base64::decode_base64;
use crate::json::cursor::{self, Cursor, Type};
use crate::json::excerpt::excerpt;
use crate::json::number::Number;
use crate::json::rounding::flushed_f32;
use crate::json::text::Text;
use crate::memory::Reservation;
use crate::rest::decode::signature_name;
use crate::tensor::Strings;
use bytes::Bytes;
use prost::encoding::{encode_varint, encoded_len_varint};

/// Largest total size of a context repeated for each example, in bytes.
const MAX_CONTEXTS: usize = 256 << 20;

/// A decoded classify or regress request.
#[derive(Debug)]
pub struct Examples {
    /// The signature's name as sent; empty for the default one.
    pub signature_name: String,
    /// The serialized context, if the request had one.
    pub context: Option<Bytes>,
    /// The serialized examples, at least one. Each begins with the context, so that its own features win.
    pub examples: Strings,
}

/// Decodes the body of a classify or regress request.
///
/// `memory` counts the repeated contexts.
///
/// A name repeated in an example is written twice: readers of `tensorflow.Example` use the last.
pub fn examples(body: &[u8], memory: &Reservation) -> Result<Examples> {
    let root = cursor::root(body)?;
    let Some([name, context, list]) = cursor::members(root, ["signature_name", "context", "examples"])?
    else {
        return Err(Error::invalid(format!("JSON Value: {} Is not object", excerpt(body, root.at))));
    };
    let signature_name = signature_name(name, root)?;
    let mut writer = Writer::default();
    let mut prefix = None;
    if let Some(mut context) = context {
        let mut bytes = Vec::new();
        writer.example(&mut context, &mut bytes)?;
        prefix = Some(bytes);
    }
    let examples = writer.list(elements(list, root)?, prefix.as_deref().unwrap_or_default(), memory)?;
    Ok(Examples { signature_name, context: prefix.map(Bytes::from), examples })
}

/// Returns the list at `list`, which must exist and have elements, with the cursor on the first.
fn elements<'a>(list: Option<Cursor<'a>>, root: Cursor<'a>) -> Result<Cursor<'a>> {
    let problem = match list {
        None => "When method is classify, key 'examples' is expected and was not found",
        Some(list) if list.value_type() != Type::Array => "Expecting 'examples' value to be an list/array",
        Some(mut list) => {
            list.at += 1;
            if list.element(true)? {
                return Ok(list);
            }
            "'examples' value is an empty array"
        }
    };
    Err(Error::invalid(format!("JSON Value: {} {problem}", excerpt(root.text, root.at))))
}

/// The kinds of a feature's list; the numbers are the fields of `tensorflow.Feature`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes = 1,
    Float = 2,
    Int64 = 3,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Bytes => "bytes",
            Kind::Float => "float",
            Kind::Int64 => "int64",
        }
    }
}

/// Appends the tag of a length-delimited field.
fn put_tag(field: u8, len: usize, out: &mut Vec<u8>) {
    out.push(field << 3 | 2);
    encode_varint(len as u64, out);
}

/// Returns the length of a length-delimited field with a tag of one byte.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Writes examples; its buffers are reused, because lengths precede what they measure.
#[derive(Default)]
struct Writer {
    /// The entries of the example being written.
    entries: Vec<u8>,
    /// The elements of the feature being written: fields of a `BytesList`, or packed numbers.
    values: Vec<u8>,
    /// A byte string whose text is encoded.
    bytes: Vec<u8>,
}

impl Writer {
    /// Serializes the elements of a list, starting at the first, each after `context`.
    fn list(&mut self, mut cursor: Cursor<'_>, context: &[u8], memory: &Reservation) -> Result<Strings> {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        loop {
            if context.len() * (ends.len() + 1) > MAX_CONTEXTS {
                return Err(Error::invalid(format!(
                    "The context of {} bytes would be repeated for more than {} examples, which makes more than \
                     {MAX_CONTEXTS} bytes: send fewer examples in a request",
                    context.len(),
                    ends.len()
                )));
            }
            memory.grow(context.len())?;
            out.extend_from_slice(context);
            self.example(&mut cursor, &mut out)?;
            ends.push(out.len());
            if !cursor.element(false)? {
                return Ok(Strings::new(out, ends));
            }
        }
    }

    /// Consumes the feature map here and appends it to `out` as an Example.
    fn example(&mut self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<()> {
        let kind = cursor.value_type();
        if kind != Type::Object {
            return Err(Error::invalid(format!("Example must be JSON object but got JSON {kind:?}")));
        }
        cursor.at += 1;
        self.entries.clear();
        let mut first = true;
        while let Some(name) = cursor.member(first)? {
            first = false;
            let kind = self.feature(cursor, name)?;
            self.entry(&name.bytes(), kind);
        }
        put_tag(1, self.entries.len(), out);
        out.extend_from_slice(&self.entries);
        Ok(())
    }

    /// Appends the collected values to the entries, under `name`.
    fn entry(&mut self, name: &[u8], kind: Option<Kind>) {
        let list = match kind {
            Some(Kind::Bytes) => self.values.len(),
            Some(Kind::Float | Kind::Int64) => field_len(self.values.len()),
            None => 0,
        };
        let feature = if kind.is_some() { field_len(list) } else { 0 };
        let entries = &mut self.entries;
        put_tag(1, field_len(name.len()) + field_len(feature), entries);
        put_tag(1, name.len(), entries);
        entries.extend_from_slice(name);
        put_tag(2, feature, entries);
        if let Some(kind) = kind {
            put_tag(kind as u8, list, entries);
            if kind != Kind::Bytes {
                put_tag(1, self.values.len(), entries);
            }
            entries.extend_from_slice(&self.values);
        }
    }

    /// Consumes the value here, a list or a single element, and collects its elements. `[]` has no kind.
    fn feature(&mut self, cursor: &mut Cursor<'_>, name: Text<'_>) -> Result<Option<Kind>> {
        self.values.clear();
        let mut kind = None;
        if !cursor.take(b'[') {
            self.element(cursor, name, &mut kind)?;
            return Ok(kind);
        }
        let mut first = true;
        while cursor.element(first)? {
            first = false;
            self.element(cursor, name, &mut kind)?;
        }
        Ok(kind)
    }

    /// Collects the element here. The first sets `kind`, which the others must share.
    fn element(&mut self, cursor: &mut Cursor<'_>, name: Text<'_>, kind: &mut Option<Kind>) -> Result<()> {
        let mut expect = |this| match *kind.get_or_insert(this) {
            before if before == this => Ok(()),
            before => Err(Error::invalid(format!(
                "Unexpected element type in feature: {} expecting type: {}",
                name.lossy(),
                before.name()
            ))),
        };
        let element = cursor.value_type();
        match element {
            Type::String => {
                expect(Kind::Bytes)?;
                self.text(cursor.string()?);
            }
            Type::True | Type::False => {
                expect(Kind::Int64)?;
                cursor.skip_value()?;
                self.values.push(u8::from(element == Type::True));
            }
            Type::Number => match cursor.number()? {
                Number::Int(value) => {
                    expect(Kind::Int64)?;
                    encode_varint(value as u64, &mut self.values);
                }
                Number::Double(value) => {
                    expect(Kind::Float)?;
                    self.values.extend_from_slice(&flushed_f32(value).to_le_bytes());
                }
                Number::Big(_) => {
                    let name = name.lossy();
                    let message = format!("Feature: {name} has uint64_t element. Only int64_t is supported.");
                    return Err(Error::invalid(message));
                }
            },
            Type::Null | Type::Array | Type::Object => {
                let Some(text) = cursor.base64_object() else {
                    let name = name.lossy();
                    let message =
                        format!("Feature: {name} has element with unexpected JSON type: {element:?}");
                    return Err(Error::invalid(message));
                };
                expect(Kind::Bytes)?;
                self.base64(text)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, text: Text<'_>) {
        let bytes = text.bytes();
        put_tag(1, bytes.len(), &mut self.values);
        self.values.extend_from_slice(&bytes);
    }

    fn base64(&mut self, text: Text<'_>) -> Result<()> {
        self.bytes.clear();
        decode_base64(text, &mut self.bytes).map_err(|_| Error::invalid("Unable to base64 decode"))?;
        put_tag(1, self.bytes.len(), &mut self.values);
        self.values.extend_from_slice(&self.bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
