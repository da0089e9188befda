//! The messages of the Open Inference Protocol that carry tensors, on the wire, without generated structs in between:
//! `ModelInferRequest` read in place, `ModelInferResponse` written from where the tensors lie ([`Response`]).
//!
//! Nothing is allocated for what a request lists: its parts are found again each time they are asked for. So a message
//! of many small fields takes no more memory than it has bytes.

use super::wire::{Fields, Malformed, Value, varint};
use crate::tensor::Shape;
use bytes::Bytes;

mod contents;
mod response;

pub use contents::{Contents, Wrong, has_field};
pub use response::{Head, Response};

/// Most dimensions of a shape that are kept; tensors with more do not exist.
const MAX_DIMS: usize = 255;

/// Fields of `ModelInferRequest`.
mod field {
    pub(super) const MODEL_NAME: u32 = 1;
    pub(super) const MODEL_VERSION: u32 = 2;
    pub(super) const ID: u32 = 3;
    pub(super) const PARAMETERS: u32 = 4;
    pub(super) const INPUTS: u32 = 5;
    pub(super) const OUTPUTS: u32 = 6;
    pub(super) const RAW: u32 = 7;
    /// Of `InferInputTensor`.
    pub(super) const INPUT_PARAMETERS: u32 = 4;
    pub(super) const INPUT_CONTENTS: u32 = 5;
    /// Of `InferRequestedOutputTensor`.
    pub(super) const OUTPUT_PARAMETERS: u32 = 2;
}

/// A part of a message: where it begins, and its length.
#[derive(Clone, Copy, Debug, Default)]
struct Part(usize, usize);

/// A `ModelInferRequest`: its names, and how much there is of the rest.
#[derive(Clone, Debug)]
pub struct InferRequest {
    message: Bytes,
    model_name: Part,
    model_version: Part,
    id: Part,
    parameters: usize,
    inputs: usize,
    raw: usize,
}

impl InferRequest {
    /// Reads the outermost fields of `message`. What is in them is read when it is asked for.
    pub fn open(message: Bytes) -> Result<InferRequest, Malformed> {
        let none = Part::default();
        let [mut model_name, mut model_version, mut id] = [none; 3];
        let (mut parameters, mut inputs, mut raw) = (0, 0, 0);
        for item in Fields::new(&message) {
            let (number, value) = item?;
            let Value::Bytes(bytes) = value else {
                // None of its fields is a number.
                if number <= field::RAW {
                    return Err(Malformed);
                }
                continue;
            };
            // A part of the message, so it begins behind it.
            let part = Part(bytes.as_ptr() as usize - message.as_ptr() as usize, bytes.len());
            match number {
                field::MODEL_NAME => model_name = text(bytes).map(|_| part)?,
                field::MODEL_VERSION => model_version = text(bytes).map(|_| part)?,
                field::ID => id = text(bytes).map(|_| part)?,
                field::PARAMETERS => parameters += 1,
                field::INPUTS => inputs += 1,
                field::RAW => raw += 1,
                _ => {}
            }
        }
        Ok(InferRequest { message, model_name, model_version, id, parameters, inputs, raw })
    }

    /// Returns the length of the message in bytes.
    #[allow(clippy::len_without_is_empty)] // An empty one is a request, too.
    pub fn len(&self) -> usize {
        self.message.len()
    }

    /// Returns the name of the model.
    pub fn model_name(&self) -> &str {
        self.named(self.model_name)
    }

    /// Returns the version, as text; empty if none is named.
    pub fn model_version(&self) -> &str {
        self.named(self.model_version)
    }

    /// Returns what identifies the request for its client.
    pub fn id(&self) -> &str {
        self.named(self.id)
    }

    fn named(&self, Part(start, length): Part) -> &str {
        // It was checked when the message was opened.
        self.message.get(start..start + length).and_then(|bytes| text(bytes).ok()).unwrap_or_default()
    }

    /// Returns the number of inputs.
    pub fn input_count(&self) -> usize {
        self.inputs
    }

    /// Returns the number of `raw_input_contents`.
    pub fn raw_count(&self) -> usize {
        self.raw
    }

    /// Returns the parameters.
    pub fn parameters(&self) -> impl Iterator<Item = Result<(&str, Parameter<'_>), Malformed>> {
        let entries: &[u8] = if self.parameters > 0 { &self.message[..] } else { &[] };
        parameters(entries, field::PARAMETERS)
    }

    /// Returns the inputs.
    pub fn inputs(&self) -> impl Iterator<Item = Result<Input<'_>, Malformed>> {
        submessages(&self.message, field::INPUTS).map(move |input| Input::read(input, &self.message))
    }

    /// Returns the outputs that are asked for.
    pub fn outputs(&self) -> impl Iterator<Item = Result<Output<'_>, Malformed>> {
        submessages(&self.message, field::OUTPUTS).map(Output::read)
    }

    /// Returns the `raw_input_contents`, as parts of the message.
    pub fn raw(&self) -> impl Iterator<Item = Bytes> {
        submessages(&self.message, field::RAW).map(move |raw| self.message.slice_ref(raw))
    }
}

/// An `InferInputTensor`.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The name.
    pub name: &'a str,
    /// The name of its datatype.
    pub datatype: &'a str,
    /// The shape, outermost dimension first; cut off behind more dimensions than any tensor has.
    pub shape: Shape,
    /// True if it has `contents`, empty or not.
    pub has_contents: bool,
    bytes: &'a [u8],
    message: &'a Bytes,
}

impl<'a> Input<'a> {
    fn read(bytes: &'a [u8], message: &'a Bytes) -> Result<Input<'a>, Malformed> {
        let mut input =
            Input { name: "", datatype: "", shape: Shape::new(), has_contents: false, bytes, message };
        for item in Fields::new(bytes) {
            match item? {
                (1, Value::Bytes(name)) => input.name = text(name)?,
                (2, Value::Bytes(name)) => input.datatype = text(name)?,
                (3, Value::Varint(dim)) => input.dim(dim),
                (3, Value::Bytes(mut packed)) => {
                    while !packed.is_empty() {
                        input.dim(varint(&mut packed)?);
                    }
                }
                (field::INPUT_CONTENTS, Value::Bytes(_)) => input.has_contents = true,
                (field::INPUT_PARAMETERS, Value::Bytes(_)) => {}
                (1..=5, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(input)
    }

    fn dim(&mut self, dim: u64) {
        if self.shape.len() < MAX_DIMS {
            self.shape.push(dim.cast_signed());
        }
    }

    /// Returns its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = Result<(&'a str, Parameter<'a>), Malformed>> {
        parameters(self.bytes, field::INPUT_PARAMETERS)
    }

    /// Returns the fields of its contents. A field that comes twice is one message, as protobuf has it.
    fn contents(&self) -> impl Iterator<Item = Result<(u32, Value<'a>), Malformed>> + Clone + use<'a> {
        submessages(self.bytes, field::INPUT_CONTENTS).flat_map(Fields::new)
    }
}

/// An `InferRequestedOutputTensor`.
#[derive(Clone, Debug)]
pub struct Output<'a> {
    /// The name.
    pub name: &'a str,
    bytes: &'a [u8],
}

impl<'a> Output<'a> {
    fn read(bytes: &'a [u8]) -> Result<Output<'a>, Malformed> {
        let mut output = Output { name: "", bytes };
        for item in Fields::new(bytes) {
            match item? {
                (1, Value::Bytes(name)) => output.name = text(name)?,
                (field::OUTPUT_PARAMETERS, Value::Bytes(_)) => {}
                (1..=2, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok(output)
    }

    /// Returns its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = Result<(&'a str, Parameter<'a>), Malformed>> {
        parameters(self.bytes, field::OUTPUT_PARAMETERS)
    }
}

/// The value of an `InferParameter`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameter<'a> {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A string.
    Text(&'a str),
    /// A whole number without a sign.
    Unsigned(u64),
    /// A number with a point, or nothing.
    Other,
}

/// Returns the entries of the map in the fields `number` of `message`.
fn parameters(message: &[u8], number: u32) -> impl Iterator<Item = Result<(&str, Parameter<'_>), Malformed>> {
    submessages(message, number).map(|entry| {
        let (mut key, mut value) = ("", Parameter::Other);
        for item in Fields::new(entry) {
            match item? {
                (1, Value::Bytes(name)) => key = text(name)?,
                (2, Value::Bytes(parameter)) => value = Parameter::read(parameter, value)?,
                (1..=2, _) => return Err(Malformed),
                _ => {}
            }
        }
        Ok((key, value))
    })
}

impl<'a> Parameter<'a> {
    /// Reads a value, of which the last field counts; `before` if there is none.
    fn read(parameter: &'a [u8], before: Parameter<'a>) -> Result<Parameter<'a>, Malformed> {
        let mut value = before;
        for item in Fields::new(parameter) {
            value = match item? {
                (1, Value::Varint(flag)) => Parameter::Bool(flag != 0),
                (2, Value::Varint(number)) => Parameter::Integer(number.cast_signed()),
                (3, Value::Bytes(bytes)) => Parameter::Text(text(bytes)?),
                (4, Value::Fixed64(_)) => Parameter::Other,
                (5, Value::Varint(number)) => Parameter::Unsigned(number),
                (1..=5, _) => return Err(Malformed),
                _ => value,
            }
        }
        Ok(value)
    }
}

/// Returns the fields `number` of `message` that are bytes, up to the first malformed field.
fn submessages(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> + Clone {
    Fields::new(message).map_while(Result::ok).filter_map(move |(found, value)| match value {
        Value::Bytes(bytes) if found == number => Some(bytes),
        Value::Bytes(_) | Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => None,
    })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Locates the first large block of numbers in a `ModelInferRequest` of which `prefix` has arrived, and returns its offset
/// in the message. A buffer that places the block at an aligned address saves the engine a copy.
pub fn locate(prefix: &[u8]) -> Option<usize> {
    /// Smallest block worth aligning, in bytes.
    const LARGE: usize = 4096;
    let path = [field::INPUTS, field::INPUT_CONTENTS];
    let mut position = 0;
    // Nesting levels (ModelInferRequest → InferInputTensor → InferTensorContents), and the end of each.
    let mut level = 0;
    let mut ends = [usize::MAX; 3];
    loop {
        while level > 0 && position >= ends[level] {
            level -= 1;
        }
        let mut rest = prefix.get(position..)?;
        let key = varint(&mut rest).ok()?;
        let length = usize::try_from(varint(&mut rest).ok()?).ok()?;
        let content = prefix.len() - rest.len();
        let (number, wire_type) = (u32::try_from(key >> 3).ok()?, key & 7);
        match (level, wire_type) {
            (0, 2) if number == field::RAW && length >= LARGE => return Some(content),
            (2, 2) if contents::is_laid_out(number) && length >= LARGE => return Some(content),
            (0 | 1, 2) if number == path[level] => {
                level += 1;
                ends[level] = content.checked_add(length)?;
                position = content;
            }
            // A varint: its value was read as the length.
            (_, 0) => position = content,
            (_, 2) => position = content.checked_add(length)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
