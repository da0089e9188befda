//! Bodies of a predict that are not JSON, which their headers ask for: numpy's files, the elements of a tensor, MessagePack,
//! pictures. The request is the same as with JSON once it is decoded.
//!
//! [`forms`] says which form a body has and a reply is to have, [`decode`] and [`encode`] go from and to tensors. [`npy`],
//! [`npz`] and [`msgpack`] know nothing of HTTP.

pub mod elements;
mod forms;
mod literal;
pub mod msgpack;
pub mod npy;
pub mod npz;
mod raw;

pub(super) use forms::{Form, Forms, OFFERED};

use super::Format;
use super::wanted::wanted;
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::{Error, Result};
use crate::http::reply::{Body, Content, Followed, WORTH_BORROWING};
use crate::methods::{Context, Request, ServerState, bind};
use crate::servable::Servable;
use crate::tensor::{DType, Strings, Tensor};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use msgpack::document::Limits;
use msgpack::writer::Style;
use npy::File;
use std::collections::BTreeMap;

/// A body, whatever its form.
pub(super) struct Sent<'a> {
    pub(super) body: Bytes,
    /// The outputs that the query names, as they are there.
    pub(super) outputs: &'a str,
}

/// Decodes a body that is not JSON. Also returns the format of a reply in JSON or MessagePack.
pub(super) fn decode(
    forms: &mut Forms,
    sent: Sent<'_>,
    server: &ServerState,
    servable: &Servable,
    context: &Context,
) -> Result<(Request, Format)> {
    let memory = &context.memory;
    let of_name = |name: &str| bind::signature(server, servable, name);
    let (signature, inputs, format, named) = match forms.sent {
        Form::MessagePack => {
            let limits = Limits { depth: server.options.max_depth, memory };
            let of_name = |name: &str| of_name(if name.is_empty() { forms.signature.as_str() } else { name });
            let (signature, asked) = msgpack::read(&sent.body, limits, of_name)?;
            forms.is_numpy = asked.is_numpy;
            let named = match asked.outputs.as_slice() {
                [] => None,
                names => Some(bind::outputs(signature, names.iter().map(Ok))?),
            };
            (signature, asked.inputs, asked.format, named)
        }
        form @ (Form::Json | Form::Npy | Form::Npz | Form::Raw | Form::Picture) => {
            let signature = of_name(&forms.signature)?;
            let limit = server.options.max_body_bytes;
            let arrays = match form {
                Form::Npz => by_name(npz::read(&sent.body, limit, memory)?)?,
                Form::Npy => only_input(signature, npy::read(&sent.body, memory)?, None)?,
                Form::Raw => {
                    let announced =
                        forms.announced.take().ok_or_else(|| Error::internal("No headers were read"))?;
                    let tensor = announced.tensor(sent.body, memory)?;
                    only_input(signature, tensor, announced.name)?
                }
                Form::Picture => picture(signature, sent.body)?,
                Form::Json | Form::MessagePack => return Err(Error::internal("This body has another form")),
            };
            let format = if form == Form::Picture { Format::Row } else { Format::Columnar };
            (signature, arrays, format, None)
        }
    };
    let inputs = bind::inputs(signature, inputs, |alias, tensor| as_declared(signature, alias, tensor))?;
    let outputs = wanted(signature, named, sent.outputs)?;
    Ok((Request::Predict { signature: signature.name.clone(), inputs, outputs }, format))
}

/// Returns `arrays` by name.
fn by_name(arrays: Vec<(String, Tensor)>) -> Result<BTreeMap<String, Tensor>> {
    let mut inputs = BTreeMap::new();
    for (name, tensor) in arrays {
        if inputs.contains_key(&name) {
            return Err(Error::invalid(format!("the archive holds the array {name:?} twice")));
        }
        inputs.insert(name, tensor);
    }
    Ok(inputs)
}

/// Returns the tensor of the input called `name`, or of the only one.
fn only_input(
    signature: &Signature,
    tensor: Tensor,
    name: Option<String>,
) -> Result<BTreeMap<String, Tensor>> {
    let name = match (name, signature.inputs.as_slice()) {
        (Some(name), _) => name,
        (None, [only]) => only.alias.clone(),
        (None, _) => {
            return Err(Error::invalid(format!(
                "the signature has {}: send an array for each as application/x-npz (np.savez) or application/msgpack",
                inputs_of(signature)
            )));
        }
    };
    Ok(BTreeMap::from([(name, tensor)]))
}

/// Returns a picture as a row of one string.
fn picture(signature: &Signature, body: Bytes) -> Result<BTreeMap<String, Tensor>> {
    let [TensorSpec { alias, dtype: DType::String, .. }] = signature.inputs.as_slice() else {
        return Err(Error::invalid(format!(
            "a picture is for a signature with one string for input, and this one has {}: send the pixels as \
             application/x-npy or application/json",
            inputs_of(signature)
        )));
    };
    if body.is_empty() {
        return Err(Error::invalid("the picture has no bytes"));
    }
    let end = body.len();
    let tensor = Tensor::strings(vec![1], Strings::new(body, vec![end]));
    Ok(BTreeMap::from([(alias.clone(), tensor)]))
}

/// Returns a tensor that has the dtype of its input.
fn as_declared(signature: &Signature, alias: &str, tensor: &Tensor) -> Result<Tensor> {
    let expected = signature.input(alias).map(|input| signature.inputs[input].dtype);
    match expected {
        Some(expected) if expected != tensor.dtype() => {
            let numpy = elements::name(expected).unwrap_or("a dtype that numpy lacks");
            let numpy = if expected == DType::String { "'S'" } else { numpy };
            Err(Error::invalid(format!(
                "the input {alias:?} is of dtype {}, and an array of {} came: send array.astype({numpy})",
                expected.name(),
                elements::name(tensor.dtype()).unwrap_or_else(|| tensor.dtype().name())
            )))
        }
        Some(_) | None => Ok(tensor.clone()),
    }
}

/// Returns the inputs of a signature, to be shown.
fn inputs_of(signature: &Signature) -> String {
    let of = |spec: &TensorSpec| format!("{} ({})", spec.alias, spec.dtype.name());
    match signature.inputs.as_slice() {
        [] => "no inputs".to_owned(),
        [only] => format!("the input {}", of(only)),
        several => format!("the inputs {}", several.iter().map(of).collect::<Vec<_>>().join(", ")),
    }
}

/// Writes the outputs in `form`, which is not JSON.
pub(super) fn encode(
    forms: &Forms,
    form: Form,
    format: Format,
    outputs: &[(&str, Tensor)],
    context: &Context,
) -> Result<Content> {
    let room = |bytes: usize| context.memory.grow(bytes).map(|()| Vec::with_capacity(bytes));
    let too_long = || Error::internal("An output is longer than memory can be");
    match (form, outputs) {
        (Form::Npy, [(alias, tensor)]) => {
            let file = File::new(alias, tensor)?;
            let length = file.length().ok_or_else(too_long)?;
            if let Some((written, elements)) = file.borrowed().filter(|_| length >= WORTH_BORROWING) {
                return Ok(Content::Followed(Box::new(Followed { written, others: vec![elements] })));
            }
            let mut out = room(length)?;
            file.write(&mut out);
            Ok(Content::Written(out))
        }
        (Form::Raw, [(alias, tensor)]) => raw::body(alias, tensor).map(Content::Borrowed),
        (Form::Npz, _) => {
            let files = outputs.iter().map(|(alias, tensor)| Ok((*alias, File::new(alias, tensor)?)));
            let files: Vec<_> = files.collect::<Result<_>>()?;
            let mut out = room(npz::length(&files)?)?;
            npz::write(&files, &mut out);
            Ok(Content::Written(out))
        }
        (Form::MessagePack, _) => {
            let outputs: Vec<_> = outputs.iter().map(|(alias, tensor)| (*alias, tensor)).collect();
            let mut out = room(msgpack::writer::most(&outputs)?)?;
            let style = if forms.is_numpy { Style::Numpy } else { Style::Plain };
            msgpack::writer::write(format, style, &outputs, &mut out);
            Ok(Content::Written(out))
        }
        (Form::Npy | Form::Raw | Form::Json | Form::Picture, _) => {
            Err(Error::internal("These outputs have another form"))
        }
    }
}

/// Describes `body`, the reply in `form`, by headers.
pub(super) fn described(body: Body, form: Form, outputs: &[(&str, Tensor)]) -> Body {
    let mut headers = match (form, outputs) {
        (Form::Raw, [(alias, tensor)]) => raw::headers(alias, tensor),
        _ => Vec::with_capacity(1),
    };
    headers.push((CONTENT_TYPE, HeaderValue::from_static(forms::media_type(form))));
    body.described(headers)
}
