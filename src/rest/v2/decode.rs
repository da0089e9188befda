//! Decodes infer requests: JSON to tensors in one pass, and binary tensors that follow it, which are borrowed.
//!
//! The data of an input is decoded where it stands if name, datatype and shape come before it, as clients write them;
//! otherwise once its object ends. Nothing recurses along the text.

use super::parameters::{self, utf8};
use crate::engine::signature::{Signature, named};
use crate::error::{Error, Result};
use crate::json::cursor::{self, Cursor, Type};
use crate::json::number::Number;
use crate::memory::Reservation;
use crate::methods::bind;
use crate::open_inference::inputs::{Expected, Inputs, MAX_RANK};
use crate::open_inference::outputs::{Chosen, Outputs};
use crate::open_inference::parameters::{OfInput, OfOutput, OfRequest};
use crate::open_inference::refusal;
use crate::open_inference::shared_memory::{self, Regions};
use crate::parallel::Spare;
use crate::tensor::{Shape, Tensor};
use bytes::Bytes;
use data::JsonData;
use std::borrow::Cow;
use std::collections::BTreeMap;

mod data;
mod raw;

/// What a request is decoded against.
#[derive(Clone, Copy)]
pub struct Against<'s> {
    /// The model as the client calls it, for errors.
    pub model: &'s str,
    /// The signatures of the version, by name.
    pub signatures: &'s BTreeMap<String, Signature>,
    /// The signature asked for, as far as the path says it; empty for the default one.
    pub signature: &'s str,
    /// Most levels of lists in the data of an input.
    pub max_depth: usize,
    /// The regions of shared memory that the client may use, if there are any.
    pub shared: Option<Regions<'s>>,
}

/// A body: JSON, and the binary data after it.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The JSON.
    pub json: Bytes,
    /// The rest; empty if there is none.
    pub binary: Bytes,
    /// True if there is no JSON, and its length is said to be 0: the rest is the data of the only input.
    pub is_raw: bool,
}

impl Parts {
    /// Cuts `body` after `json` bytes; without that number, all of it is JSON.
    pub fn of(body: Bytes, json: Option<usize>) -> Result<Parts> {
        match json {
            None => Ok(Parts { json: body, binary: Bytes::new(), is_raw: false }),
            Some(length) if length <= body.len() => {
                let mut json = body;
                let binary = json.split_off(length);
                Ok(Parts { json, binary, is_raw: length == 0 })
            }
            Some(length) => Err(Error::invalid(format!(
                "Inference-Header-Content-Length is {length}, but the body has {} bytes: expected the length of the \
                 JSON with which the body begins",
                body.len()
            ))),
        }
    }
}

/// A decoded infer request.
#[derive(Debug)]
pub struct Infer<'s> {
    /// Identifies the request; given back.
    pub id: Option<String>,
    /// The signature to run.
    pub signature: &'s Signature,
    /// One tensor for each input of the signature, in its order.
    pub inputs: Vec<Tensor>,
    /// The outputs wanted.
    pub outputs: Chosen,
    /// True if outputs are wanted in binary form unless they say otherwise.
    pub binary_output: bool,
}

/// Decodes a request. What it allocates is counted in `memory`; long lists of numbers are read in parts, with the help of
/// `spare`.
pub fn infer<'s>(
    parts: Parts,
    against: Against<'s>,
    memory: &Reservation,
    spare: &dyn Spare,
) -> Result<Infer<'s>> {
    let Parts { json, binary, is_raw } = parts;
    let said = parameters::names(&json);
    let signature = signature(&said.signature_name, against)?;
    if is_raw {
        return raw::infer(binary, against, signature, memory);
    }
    let mut reading = Reading {
        id: None,
        request: None,
        inputs: Inputs::new(against.model, signature),
        outputs: Outputs::new(against.model, signature),
        seen: [false; 2],
        binary,
        data: JsonData::new(against.max_depth, signature.inputs.len() == 1, spare),
        shared: against.shared,
        memory,
    };
    let mut cursor = cursor::root(&json)?;
    if !cursor.take(b'{') {
        return Err(Error::invalid("The request is not a JSON object"));
    }
    let mut first = true;
    while let Some(name) = cursor.member(first)? {
        first = false;
        match &*name.bytes() {
            b"id" => reading.id(&mut cursor)?,
            b"parameters" => reading.parameters(&mut cursor)?,
            b"inputs" => reading.list(&mut cursor, 0, "inputs", Reading::input)?,
            b"outputs" => reading.list(&mut cursor, 1, "outputs", Reading::output)?,
            _ => cursor.skip_value()?,
        }
    }
    cursor.skip_space();
    if cursor.at < json.len() {
        return Err(Error::invalid(format!(
            "There is more after the request's JSON, at offset {}: binary data needs the header \
             Inference-Header-Content-Length, with the length of the JSON",
            cursor.at
        )));
    }
    reading.finish(signature, &said)
}

/// Returns the signature that path and parameters name.
fn signature<'s>(said: &str, against: Against<'s>) -> Result<&'s Signature> {
    let name = match (against.signature, said) {
        ("", only) | (only, "") => only,
        (one, other) if one == other => one,
        (one, other) => return Err(refusal::two_names("signature", one, other)),
    };
    against
        .signatures
        .get(named(name))
        .ok_or_else(|| bind::unknown_signature(&refusal::shown(name).to_string()))
}

/// A request as far as it is read.
struct Reading<'s, 'r> {
    id: Option<String>,
    request: Option<OfRequest>,
    inputs: Inputs<'s>,
    outputs: Outputs<'s>,
    /// Whether there were inputs, and outputs.
    seen: [bool; 2],
    /// What is left of the binary data.
    binary: Bytes,
    data: JsonData<'r>,
    shared: Option<Regions<'s>>,
    memory: &'r Reservation,
}

impl<'s> Reading<'s, '_> {
    fn id(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if self.id.is_some() {
            return Err(twice("id"));
        }
        if cursor.value_type() != Type::String {
            return Err(Error::invalid("Unable to parse 'id': expected a string"));
        }
        self.id = Some(cursor.string()?.lossy());
        Ok(())
    }

    fn parameters(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        if self.request.is_some() {
            return Err(twice("parameters"));
        }
        let mut said = OfRequest::default();
        parameters::read(cursor, |name, value| said.take(name, value))?;
        self.request = Some(said);
        Ok(())
    }

    /// Consumes the list here, the member `name` of the request, and gives each of its objects to `read`.
    fn list(
        &mut self,
        cursor: &mut Cursor<'_>,
        index: usize,
        name: &str,
        read: fn(&mut Self, &mut Cursor<'_>) -> Result<()>,
    ) -> Result<()> {
        if std::mem::replace(&mut self.seen[index], true) {
            return Err(twice(name));
        }
        let wrong = || Error::invalid(format!("Unable to parse '{name}': expected a list of objects"));
        if !cursor.take(b'[') {
            return Err(wrong());
        }
        let mut first = true;
        while cursor.element(first)? {
            first = false;
            if !cursor.take(b'{') {
                return Err(wrong());
            }
            read(self, cursor)?;
        }
        Ok(())
    }

    /// Consumes the members of an input.
    fn input(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let mut described = Described::default();
        let (mut later, mut tensor, mut index) = (None, None, 0);
        let mut first = true;
        while let Some(name) = cursor.member(first)? {
            first = false;
            match &*name.bytes() {
                b"name" => described.name = Some(text(cursor, "name")?),
                b"datatype" => described.datatype = Some(text(cursor, "datatype")?),
                b"shape" => described.shape = Some(shape(cursor)?),
                b"parameters" => {
                    let said = described.said.get_or_insert_default();
                    parameters::read(cursor, |name, value| said.take(name, value))?;
                }
                b"data" if later.is_some() || tensor.is_some() => return Err(twice("data")),
                b"data" => match self.expected_now(&described)? {
                    Some(expected) => {
                        index = expected.index();
                        let base64 = described.said.as_ref().is_some_and(|said| said.base64);
                        tensor = Some(self.data.read(cursor, expected, base64, self.memory)?);
                    }
                    None => {
                        later = Some(*cursor);
                        cursor.skip_value()?;
                    }
                },
                _ => cursor.skip_value()?,
            }
        }
        let (said, is_json) =
            (described.said.take().unwrap_or_default(), tensor.is_some() || later.is_some());
        if said.binary_size.is_some() && is_json {
            return Err(Error::invalid("An input has both 'data' and the parameter binary_data_size"));
        }
        if said.shared.is_some() && self.shared.is_none() {
            return Err(refusal::no_shared_memory(shared_memory::REGION));
        }
        if said.shared.is_some() && (is_json || said.binary_size.is_some()) {
            return Err(Error::invalid("An input has data both in the request and in shared memory"));
        }
        if tensor.is_none() {
            let expected = self.expected(&described)?;
            index = expected.index();
            tensor = match (said.binary_size, later) {
                (None, None) if said.shared.is_some() => self.shared(&said, expected)?,
                (None, Some(mut data)) => {
                    Some(self.data.read(&mut data, expected, said.base64, self.memory)?)
                }
                (None, None) => return Err(refusal::no_data(&expected.spec.alias)),
                (Some(size), _) => {
                    let data = self.take_binary(size, &expected)?;
                    Some(expected.read(data, self.memory)?)
                }
            };
        }
        tensor.into_iter().for_each(|tensor| self.inputs.put(index, tensor));
        Ok(())
    }

    /// Returns what the data here has to be, if enough was said of it to read it at once.
    fn expected_now(&self, described: &Described<'_>) -> Result<Option<Expected<'s>>> {
        let is_described =
            described.name.is_some() && described.shape.is_some() && described.datatype.is_some();
        // A parameter that follows may say that strings are base64.
        let is_final = described.said.is_some() || described.datatype.as_deref() != Some("BYTES");
        if is_described && is_final { self.expected(described).map(Some) } else { Ok(None) }
    }

    fn expected(&self, described: &Described<'_>) -> Result<Expected<'s>> {
        let missing = |what: &str| Error::invalid(format!("An input has no '{what}'"));
        let name = described.name.as_deref().ok_or_else(|| missing("name"))?;
        let datatype = described.datatype.as_deref().ok_or_else(|| missing("datatype"))?;
        let shape = described.shape.as_ref().ok_or_else(|| missing("shape"))?;
        self.inputs.expect(name, datatype, shape)
    }

    /// Reads an input of which `said` says that its data are in shared memory.
    fn shared(&self, said: &OfInput, expected: Expected<'_>) -> Result<Option<Tensor>> {
        let regions = self.shared.ok_or_else(|| refusal::no_shared_memory(shared_memory::REGION))?;
        said.shared.as_deref().map(|place| regions.read(place, expected, self.memory)).transpose()
    }

    fn take_binary(&mut self, size: usize, expected: &Expected<'_>) -> Result<Bytes> {
        if size > self.binary.len() {
            return Err(Error::invalid(format!(
                "unexpected binary data for input '{}': binary_data_size is {size}, but the body has {} more bytes",
                refusal::shown(&expected.spec.alias),
                self.binary.len()
            )));
        }
        Ok(self.binary.split_to(size))
    }

    /// Consumes the members of an output.
    fn output(&mut self, cursor: &mut Cursor<'_>) -> Result<()> {
        let (mut name, mut said, mut first) = (None, OfOutput::default(), true);
        while let Some(member) = cursor.member(first)? {
            first = false;
            match &*member.bytes() {
                b"name" => name = Some(text(cursor, "name")?),
                b"parameters" => parameters::read(cursor, |name, value| said.take(name, value))?,
                _ => cursor.skip_value()?,
            }
        }
        let name = name.ok_or_else(|| Error::invalid("An output has no 'name'"))?;
        if said.shared.is_some() && self.shared.is_none() {
            return Err(refusal::no_shared_memory(shared_memory::REGION));
        }
        self.outputs.add(&name, said)
    }

    /// `said`: the names that were found before the rest was read.
    fn finish(self, signature: &'s Signature, said: &OfRequest) -> Result<Infer<'s>> {
        let request = self.request.unwrap_or_default();
        if request.signature_name != said.signature_name || request.version_label != said.version_label {
            return Err(Error::invalid(
                "The names of the parameters signature_name and version_label have to be written without escapes",
            ));
        }
        let inputs = self.inputs.finish()?;
        if !self.binary.is_empty() {
            return Err(Error::invalid(format!(
                "unexpected additional input data: {} bytes follow what the inputs' binary_data_size say",
                self.binary.len()
            )));
        }
        let outputs = self.outputs.finish()?.placed(self.shared)?;
        Ok(Infer { id: self.id, signature, inputs, outputs, binary_output: request.binary_output })
    }
}

/// What is said of an input.
#[derive(Default)]
struct Described<'a> {
    name: Option<Cow<'a, str>>,
    datatype: Option<Cow<'a, str>>,
    shape: Option<Shape>,
    said: Option<OfInput>,
}

/// Consumes the string here, the member `what` of an input or output.
fn text<'a>(cursor: &mut Cursor<'a>, what: &str) -> Result<Cow<'a, str>> {
    if cursor.value_type() != Type::String {
        return Err(Error::invalid(format!("Unable to parse '{what}': expected a string")));
    }
    Ok(utf8(cursor.string()?))
}

/// Consumes the shape here.
fn shape(cursor: &mut Cursor<'_>) -> Result<Shape> {
    let wrong = || Error::invalid("Unable to parse 'shape': expected a list of whole numbers");
    if !cursor.take(b'[') {
        return Err(wrong());
    }
    let (mut shape, mut first) = (Shape::new(), true);
    while cursor.element(first)? {
        first = false;
        if shape.len() > MAX_RANK {
            return Err(Error::invalid(format!("A shape has more than {MAX_RANK} dimensions")));
        }
        if cursor.value_type() != Type::Number {
            return Err(wrong());
        }
        match cursor.number()? {
            Number::Int(dim) => shape.push(dim),
            Number::Big(_) | Number::Double(_) => return Err(wrong()),
        }
    }
    Ok(shape)
}

fn twice(name: &str) -> Error {
    Error::invalid(format!("'{name}' is there twice"))
}

#[cfg(test)]
mod tests;
