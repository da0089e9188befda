//! Decodes JSON bodies to tensors, guided by the signature.
//!
//! The first attempt is one pass over the text, which checks it and fills the tensors' storage without building a tree.
//! A body that is not as expected is read again in TensorFlow Serving's order (docs/spec/rest.md sections 4 to 6), so
//! that the first error is always the same. Both are linear in the body, and neither recurses along it.

use crate::engine::signature::{DEFAULT_SIGNATURE, Signature, named};
use crate::error::{Error, Result};
use crate::json::cursor::{self, Cursor, Type};
use crate::json::excerpt::excerpt;
use crate::json::text::Text;
use crate::methods::{Positions, bind};
use crate::parallel::Spare;
use crate::rest::Format;
use crate::rest::columns::{columns_at_once, columns_in_order};
use crate::rest::rows::{rows_at_once, rows_in_order};
use crate::tensor::Tensor;
use std::collections::BTreeMap;

/// Limits on bodies.
#[derive(Clone, Copy, Debug)]
pub struct DecodeLimits {
    /// Most levels of lists in a tensor's value. Ignored values may be nested to any depth.
    pub max_depth: usize,
}

/// A decoded predict request.
#[derive(Debug)]
pub struct Predict<'s> {
    /// The format of the body, which the reply shares.
    pub format: Format,
    /// The requested signature.
    pub signature: &'s Signature,
    /// One tensor for each input of the signature, in its order.
    pub inputs: Vec<Tensor>,
    /// The positions of the outputs that the body names in its order; `None` if it names none.
    pub outputs: Option<Positions>,
}

/// Decodes the body of a predict request.
///
/// `signatures` are those of the resolved servable, by name; or the error of resolving it, which is reported only for
/// well-formed bodies (docs/spec/rest.md section 4). Long lists of numbers are read in parts, with the help of `spare`.
pub fn predict<'s>(
    body: &[u8],
    signatures: Result<&'s BTreeMap<String, Signature>, &Error>,
    limits: DecodeLimits,
    spare: &dyn Spare,
) -> Result<Predict<'s>> {
    if let Ok(signatures) = signatures
        && let Some(predict) = predict_at_once(body, signatures, limits, spare)
    {
        return Ok(predict);
    }
    predict_in_order(body, signatures, limits)
}

/// Decodes a body in one pass if it is as expected. `None` says nothing about the body.
fn predict_at_once<'s>(
    body: &[u8],
    signatures: &'s BTreeMap<String, Signature>,
    limits: DecodeLimits,
    spare: &dyn Spare,
) -> Option<Predict<'s>> {
    let mut cursor = cursor::root(body).ok()?;
    if !cursor.take(b'{') {
        return None;
    }
    let (mut first, mut name, mut value, mut filter) = (true, None, None, None);
    while let Some(key) = cursor.member(first).ok()? {
        first = false;
        match Key::of(key) {
            Key::SignatureName if name.is_none() => {
                if cursor.peek() != b'"' {
                    return None;
                }
                name = Some(cursor.string().ok()?);
            }
            Key::Value(format) if value.is_none() => {
                let start = cursor;
                let signature = signature(signatures, name);
                let guess =
                    signature.and_then(|signature| at_once(&mut cursor, format, signature, limits, spare));
                if guess.is_none() {
                    // A name that follows may make the value valid.
                    if name.is_some() {
                        return None;
                    }
                    cursor = start;
                    cursor.skip_value().ok()?;
                }
                value = Some((format, start, guess));
            }
            Key::Value(format) if value.as_ref().is_some_and(|(before, ..)| *before != format) => {
                return None;
            }
            Key::Outputs => {
                filter.get_or_insert(cursor);
                cursor.skip_value().ok()?;
            }
            Key::SignatureName | Key::Value(_) | Key::Other => cursor.skip_value().ok()?,
        }
    }
    let (format, mut start, guess) = value?;
    let mut decoded = match guess {
        // Without a name, or with the right one.
        Some(guess) if name.is_none() || std::ptr::eq(guess.signature, signature(signatures, name)?) => guess,
        _ => at_once(&mut start, format, signature(signatures, name)?, limits, spare)?,
    };
    decoded.outputs = outputs(filter, decoded.signature).ok()?;
    Some(decoded)
}

/// Returns the signature called `name`, or the default one without a name; only if it has inputs.
fn signature<'s>(
    signatures: &'s BTreeMap<String, Signature>,
    name: Option<Text<'_>>,
) -> Option<&'s Signature> {
    let name = name.map(|name| name.bytes()).unwrap_or_default();
    let name = if name.is_empty() { DEFAULT_SIGNATURE } else { std::str::from_utf8(&name).ok()? };
    signatures.get(name).filter(|signature| !signature.inputs.is_empty())
}

/// Consumes the value here and decodes it, if it is valid.
fn at_once<'s>(
    cursor: &mut Cursor<'_>,
    format: Format,
    signature: &'s Signature,
    limits: DecodeLimits,
    spare: &dyn Spare,
) -> Option<Predict<'s>> {
    let inputs = match format {
        Format::Row if !has_elements(*cursor) => return None,
        Format::Row => rows_at_once(cursor, signature, limits.max_depth, spare)?,
        Format::Columnar => columns_at_once(cursor, signature, limits.max_depth, spare)?,
    };
    Some(Predict { format, signature, inputs, outputs: None })
}

/// Returns whether a non-empty list starts here.
fn has_elements(mut cursor: Cursor<'_>) -> bool {
    cursor.take(b'[') && cursor.skip_space() != b']'
}

/// The relevant names in the body's object.
enum Key {
    SignatureName,
    Value(Format),
    Outputs,
    Other,
}

impl Key {
    fn of(name: Text<'_>) -> Key {
        match &*name.bytes() {
            b"signature_name" => Key::SignatureName,
            b"instances" => Key::Value(Format::Row),
            b"inputs" => Key::Value(Format::Columnar),
            b"outputs" => Key::Outputs,
            _ => Key::Other,
        }
    }
}

/// Decodes step by step: the whole text, then the names, then the signature, then the values.
fn predict_in_order<'s>(
    body: &[u8],
    signatures: Result<&'s BTreeMap<String, Signature>, &Error>,
    limits: DecodeLimits,
) -> Result<Predict<'s>> {
    let root = cursor::root(body)?;
    let document = || excerpt(body, root.at);
    let names = ["signature_name", "instances", "inputs", "outputs"];
    let Some([name, instances, inputs, filter]) = cursor::members(root, names)? else {
        return Err(Error::invalid(format!("JSON Value: {} Is not object", document())));
    };
    let name = signature_name(name, root)?;
    let signature = find_signature(signatures.map_err(Error::clone)?, &name)?;
    let (format, mut value) = match (instances, inputs) {
        (None, None) => return Err(Error::invalid("Missing 'inputs' or 'instances' key")),
        (Some(_), Some(_)) => {
            return Err(Error::invalid(format!(
                "JSON Value: {} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
                document()
            )));
        }
        (Some(value), None) => (Format::Row, value),
        (None, Some(value)) => (Format::Columnar, value),
    };
    if format == Format::Row && value.value_type() != Type::Array {
        let message = format!("JSON Value: {} Expecting 'instances' to be an list/array", document());
        return Err(Error::invalid(message));
    }
    if format == Format::Row && !has_elements(value) {
        return Err(Error::invalid(format!("JSON Value: {} No values in 'instances' array", document())));
    }
    let inputs = match format {
        Format::Row => rows_in_order(&mut value, signature, limits.max_depth)?,
        Format::Columnar => columns_in_order(&mut value, signature, limits.max_depth)?,
    };
    Ok(Predict { format, signature, inputs, outputs: outputs(filter, signature)? })
}

/// Returns the positions of the outputs that the list at `filter`, which is well-formed, names. `None` if it names none,
/// or is anything but a list that begins with a string: TensorFlow Serving ignores what is there.
fn outputs(filter: Option<Cursor<'_>>, signature: &Signature) -> Result<Option<Positions>> {
    let Some(mut list) = filter.filter(begins_with_string) else { return Ok(None) };
    list.at += 1;
    let mut first = true;
    let names = std::iter::from_fn(|| match list.element(std::mem::take(&mut first)) {
        Ok(true) => Some(output_name(&mut list)),
        Ok(false) => None,
        Err(why) => Some(Err(why.into())),
    });
    bind::outputs(signature, names).map(Some)
}

fn begins_with_string(list: &Cursor<'_>) -> bool {
    let mut inside = *list;
    inside.take(b'[') && inside.skip_space() == b'"'
}

fn output_name(cursor: &mut Cursor<'_>) -> Result<String> {
    if cursor.value_type() != Type::String {
        let message = format!(
            "JSON Value: {} Type: {:?} is not of expected type: string. 'outputs' lists names of outputs",
            excerpt(cursor.text, cursor.at),
            cursor.value_type()
        );
        return Err(Error::invalid(message));
    }
    Ok(cursor.string()?.lossy())
}

/// Returns the `signature_name` at `value`, empty if there is none. `root` is the whole document.
pub(crate) fn signature_name(value: Option<Cursor<'_>>, root: Cursor<'_>) -> Result<String> {
    let Some(mut value) = value else { return Ok(String::new()) };
    if value.value_type() != Type::String {
        return Err(Error::invalid(format!(
            "JSON Value: {} not formatted correctly. 'signature_name' key must be a string value.",
            excerpt(root.text, root.at)
        )));
    }
    Ok(value.string()?.lossy())
}

fn find_signature<'s>(signatures: &'s BTreeMap<String, Signature>, name: &str) -> Result<&'s Signature> {
    let key = named(name);
    let Some(signature) = signatures.get(key) else {
        let message = format!("Serving signature name: \"{key}\" not found in signature def");
        return Err(Error::invalid(message));
    };
    if signature.inputs.is_empty() {
        let name = if name.is_empty() { "DEFAULT" } else { name };
        return Err(Error::invalid(format!("Failed to get input map for signature: {name}")));
    }
    Ok(signature)
}

#[cfg(test)]
mod tests;
