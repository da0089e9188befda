//! The parameters of a request, of an input and of an output: those that mean something here. Others are ignored, as the
//! protocol has it.

use super::refusal;
use super::shared_memory::{BYTES, OFFSET, REGION};
use crate::error::{Error, Result};
use std::borrow::Cow;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A boolean.
    Bool(bool),
    /// A whole number; one beyond 64 bits with a sign is [`Value::Other`].
    Integer(i64),
    /// A string.
    Text(Cow<'a, str>),
    /// Anything else, which no parameter here is.
    Other,
}

/// What the parameters of a request say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfRequest {
    /// The signature; empty if it is not said.
    pub signature_name: String,
    /// The version's label; empty if it is not said.
    pub version_label: String,
    /// True if outputs are wanted in binary form unless they say otherwise. For REST.
    pub binary_output: bool,
}

impl OfRequest {
    /// Takes parameter `name`.
    pub fn take(&mut self, name: &str, value: &Value<'_>) -> Result<()> {
        match name {
            "signature_name" => text(name, value)?.clone_into(&mut self.signature_name),
            "version_label" => text(name, value)?.clone_into(&mut self.version_label),
            "binary_data_output" => self.binary_output = flag(name, value)?,
            _ => {}
        }
        Ok(())
    }
}

/// A part of a region of shared memory, as parameters name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InRegion {
    /// The region.
    pub region: Option<Box<str>>,
    /// The bytes of it.
    pub bytes: Option<usize>,
    /// Where they begin in the region.
    pub offset: usize,
}

impl InRegion {
    /// Takes parameter `name` if it is one of these, into what is said of them so far.
    fn take(said: &mut Option<Box<InRegion>>, name: &str, value: &Value<'_>) -> Result<()> {
        match name {
            REGION => said.get_or_insert_default().region = Some(text(name, value)?.into()),
            BYTES => said.get_or_insert_default().bytes = Some(size(name, value)?),
            OFFSET => said.get_or_insert_default().offset = size(name, value)?,
            _ => {}
        }
        Ok(())
    }
}

/// What the parameters of an input say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfInput {
    /// The bytes of its data that follow the JSON. For REST.
    pub binary_size: Option<usize>,
    /// True if its strings are base64. For REST.
    pub base64: bool,
    /// Where its data are, if that is in shared memory.
    pub shared: Option<Box<InRegion>>,
}

impl OfInput {
    /// Takes parameter `name`.
    pub fn take(&mut self, name: &str, value: &Value<'_>) -> Result<()> {
        match name {
            "binary_data_size" => self.binary_size = Some(size(name, value)?),
            "content_type" => self.base64 = is_base64(value),
            _ => InRegion::take(&mut self.shared, name, value)?,
        }
        Ok(())
    }
}

/// What the parameters of an output say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfOutput {
    /// Whether it is wanted in binary form, if that is said. For REST.
    pub binary: Option<bool>,
    /// The number of classes wanted; 0 for the tensor itself.
    pub classes: usize,
    /// True if its strings are wanted as base64. For REST.
    pub base64: bool,
    /// Where it is wanted, if that is in shared memory.
    pub shared: Option<Box<InRegion>>,
}

impl OfOutput {
    /// Takes parameter `name`.
    pub fn take(&mut self, name: &str, value: &Value<'_>) -> Result<()> {
        match name {
            "binary_data" => self.binary = Some(flag(name, value)?),
            "classification" => self.classes = size(name, value)?,
            "content_type" => self.base64 = is_base64(value),
            _ => InRegion::take(&mut self.shared, name, value)?,
        }
        Ok(())
    }
}

fn is_base64(value: &Value<'_>) -> bool {
    matches!(value, Value::Text(text) if text == "base64")
}

fn flag(name: &str, value: &Value<'_>) -> Result<bool> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Integer(_) | Value::Text(_) | Value::Other => Err(refusal::parameter(name, "true or false")),
    }
}

fn size(name: &str, value: &Value<'_>) -> Result<usize> {
    let wrong = || -> Error { refusal::parameter(name, "a whole number of at least 0") };
    match value {
        Value::Integer(number) => usize::try_from(*number).map_err(|_| wrong()),
        Value::Bool(_) | Value::Text(_) | Value::Other => Err(wrong()),
    }
}

fn text<'v>(name: &str, value: &'v Value<'_>) -> Result<&'v str> {
    match value {
        Value::Text(text) => Ok(text),
        Value::Bool(_) | Value::Integer(_) | Value::Other => Err(refusal::parameter(name, "a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_mean_something_are_checked() {
        let (mut request, mut input, mut output) =
            (OfRequest::default(), OfInput::default(), OfOutput::default());
        request.take("signature_name", &Value::Text("s".into())).unwrap();
        request.take("binary_data_output", &Value::Bool(true)).unwrap();
        request.take("priority", &Value::Other).unwrap();
        assert_eq!((request.signature_name.as_str(), request.binary_output), ("s", true));
        assert!(request.take("signature_name", &Value::Integer(1)).is_err());
        assert!(request.take("binary_data_output", &Value::Integer(1)).is_err());
        input.take("binary_data_size", &Value::Integer(12)).unwrap();
        input.take("content_type", &Value::Text("base64".into())).unwrap();
        assert_eq!(input, OfInput { binary_size: Some(12), base64: true, shared: None });
        for wrong in [Value::Integer(-1), Value::Other, Value::Text("1".into())] {
            assert!(input.take("binary_data_size", &wrong).is_err());
            assert!(output.take("classification", &wrong).is_err());
        }
        output.take("classification", &Value::Integer(3)).unwrap();
        output.take("binary_data", &Value::Bool(false)).unwrap();
        assert_eq!(output, OfOutput { binary: Some(false), classes: 3, base64: false, shared: None });
        for name in ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"] {
            assert!(input.take(name, &Value::Other).is_err() && output.take(name, &Value::Other).is_err());
        }
        for (name, value) in
            [(REGION, Value::Text("r".into())), (BYTES, Value::Integer(4)), (OFFSET, Value::Integer(8))]
        {
            input.take(name, &value).unwrap();
            output.take(name, &value).unwrap();
        }
        let place = InRegion { region: Some("r".into()), bytes: Some(4), offset: 8 };
        assert_eq!((input.shared.as_deref(), output.shared.as_deref()), (Some(&place), Some(&place)));
    }
}
