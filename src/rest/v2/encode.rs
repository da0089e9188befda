//! Writes the answers of infer requests: JSON, and binary tensors after it.

use crate::config::NonUtf8;
use crate::error::{Error, Kind, Result};
use crate::http::reply::WORTH_BORROWING;
use crate::json::writer::Writer;
use crate::memory::Reservation;
use crate::open_inference::metadata::datatype_of;
use crate::open_inference::outputs::Chosen;
use crate::open_inference::shared_memory::Placed;
use crate::open_inference::strings;
use crate::parallel::Spare;
use crate::rest::encode::{LONGEST_REPLY, flat};
use crate::tensor::{Aligned, DType, Data, Tensor};
use bytes::Bytes;
use smallvec::SmallVec;

/// What an answer repeats of its request, and the form in which it is wanted.
#[derive(Clone, Debug)]
pub struct Form<'a> {
    /// The model as the client calls it.
    pub model: &'a str,
    /// The version that has answered.
    pub version: i64,
    /// Identifies the request, if it is said.
    pub id: Option<&'a str>,
    /// The outputs wanted.
    pub outputs: &'a Chosen,
    /// True if outputs are wanted in binary form unless they say otherwise.
    pub binary: bool,
    /// The form of strings that are not UTF-8.
    pub non_utf8: NonUtf8,
}

/// An answer.
#[derive(Debug)]
pub struct Written {
    /// JSON, and binary data.
    pub bytes: Vec<u8>,
    /// The length of the JSON, if binary data may follow.
    pub json: Option<usize>,
    /// The rest of the binary data, which is not copied.
    pub borrowed: Vec<Bytes>,
}

/// One output, as it is told.
struct Told<'a> {
    name: &'a str,
    datatype: &'static str,
    tensor: Tensor,
    /// The bytes of its binary form; `None` for JSON.
    binary: Option<usize>,
    base64: bool,
    /// Where it was put in shared memory, and the bytes that it takes there.
    shared: Option<(&'a Placed, usize)>,
}

/// Writes `outputs`, in the order of those wanted. Large tensors are printed in parts, with the help of `spare`. The answer is
/// counted in `memory`.
pub fn infer(
    form: &Form<'_>,
    outputs: &[(&str, Tensor)],
    memory: &Reservation,
    spare: &dyn Spare,
) -> Result<Written> {
    let told =
        outputs.iter().enumerate().map(|(index, (name, tensor))| told(form, index, name, tensor, memory));
    let told: SmallVec<[Told<'_>; 4]> = told.collect::<Result<_>>()?;
    let length = expected_length(form, &told)?;
    // One copy at a time.
    let copy = told.iter().map(copied).max().unwrap_or(0);
    memory.grow(length.saturating_add(copy))?;
    let not_copied: usize = borrowed(&told).filter_map(|one| one.binary).sum();
    let mut out = Writer::with_room(length - not_copied);
    (out.non_utf8, out.compact) = (form.non_utf8, true);
    out.raw(b"{\"model_name\":");
    out.string(form.model.as_bytes());
    out.raw(b",\"model_version\":\"");
    out.integer(form.version);
    out.raw(b"\"");
    if let Some(id) = form.id {
        out.raw(b",\"id\":");
        out.string(id.as_bytes());
    }
    out.raw(b",\"outputs\":[");
    for (index, one) in told.iter().enumerate() {
        if index > 0 {
            out.raw(b",");
        }
        output(&mut out, one, spare);
    }
    out.raw(b"]}");
    if told.iter().all(|one| one.binary.is_none()) {
        return Ok(Written { bytes: out.finish(), json: None, borrowed: Vec::new() });
    }
    let json = out.written().len();
    for one in in_binary(&told).take_while(is_copied) {
        match one.tensor.as_strings() {
            Some(strings) => strings::write(strings, |piece| out.raw(piece)),
            None => out.long(one.tensor.bytes()),
        }
    }
    let borrowed = borrowed(&told).map(|one| match one.tensor.data() {
        Data::Numbers(bytes) => bytes.clone(),
        Data::Strings(strings) => strings::encoded(strings).into(),
    });
    Ok(Written { json: Some(json), borrowed: borrowed.collect(), bytes: out.finish() })
}

/// Returns those of `told` that are in binary form, in their order.
fn in_binary<'t, 'a>(told: &'t [Told<'a>]) -> impl Iterator<Item = &'t Told<'a>> {
    told.iter().filter(|one| one.binary.is_some())
}

/// Returns whether the binary form of an output is copied after the JSON, if those before it are.
fn is_copied(one: &&Told<'_>) -> bool {
    one.binary.is_some_and(|bytes| bytes < WORTH_BORROWING)
}

/// Returns those of `told` whose binary form is sent from where it lies: the first large one, and all after it.
fn borrowed<'t, 'a>(told: &'t [Told<'a>]) -> impl Iterator<Item = &'t Told<'a>> {
    in_binary(told).skip_while(is_copied)
}

fn told<'a>(
    form: &Form<'a>,
    index: usize,
    name: &'a str,
    tensor: &Tensor,
    memory: &Reservation,
) -> Result<Told<'a>> {
    let said = form.outputs.said(index);
    let tensor = form.outputs.classified(index, tensor, memory)?.unwrap_or_else(|| tensor.clone());
    let datatype = datatype_of(name, &tensor)?;
    let shared = match form.outputs.place(index) {
        Some(place) => Some((place, place.write(name, &tensor, memory)?)),
        None => None,
    };
    let size = || tensor.as_strings().map_or(tensor.bytes().len(), strings::size);
    let binary = (shared.is_none() && said.binary.unwrap_or(form.binary)).then(size);
    Ok(Told { name, datatype, tensor, binary, base64: said.base64, shared })
}

/// Writes the JSON of an output.
fn output(out: &mut Writer, one: &Told<'_>, spare: &dyn Spare) {
    out.raw(b"{\"name\":");
    out.string(one.name.as_bytes());
    out.raw(b",\"datatype\":\"");
    out.raw(one.datatype.as_bytes());
    out.raw(b"\",\"shape\":");
    shape(out, one.tensor.shape());
    if let Some((place, bytes)) = one.shared {
        out.raw(b",\"parameters\":{\"shared_memory_region\":");
        out.string(place.name().as_bytes());
        out.raw(b",\"shared_memory_offset\":");
        out.integer(place.offset());
        out.raw(b",\"shared_memory_byte_size\":");
        out.integer(bytes);
        out.raw(b"}}");
        return;
    }
    if let Some(bytes) = one.binary {
        out.raw(b",\"parameters\":{\"binary_data_size\":");
        out.integer(bytes);
        out.raw(b"}}");
        return;
    }
    match one.tensor.as_strings() {
        Some(strings) if one.base64 => {
            out.raw(b",\"parameters\":{\"content_type\":\"base64\"},\"data\":[");
            for (index, string) in strings.iter().enumerate() {
                if index > 0 {
                    out.raw(b",");
                }
                out.base64(string);
            }
            out.raw(b"]}");
        }
        _ => {
            out.raw(b",\"data\":");
            match widened(&one.tensor) {
                Some(wide) => flat(out, &wide, spare),
                None => flat(out, &one.tensor, spare),
            }
            out.raw(b"}");
        }
    }
}

/// Writes a list of dimensions.
pub(super) fn shape(out: &mut Writer, shape: &[i64]) {
    out.raw(b"[");
    for (index, dim) in shape.iter().enumerate() {
        if index > 0 {
            out.raw(b",");
        }
        out.integer(*dim);
    }
    out.raw(b"]");
}

/// Makes numbers of 32 bits of unsigned ones of 16 bits, which TensorFlow Serving's API does not print.
fn widened(tensor: &Tensor) -> Option<Tensor> {
    if tensor.dtype() != DType::UInt16 {
        return None;
    }
    let numbers = tensor.bytes().as_chunks::<2>().0.iter();
    let mut wide: Aligned<u32> = Aligned::with_capacity(64, tensor.len());
    numbers.for_each(|number| wide.push(u16::from_le_bytes(*number).into()));
    Some(Tensor::from_values(DType::UInt32, tensor.shape(), wide))
}

/// Returns the bytes of the copy of an output that is made to print it.
fn copied(one: &Told<'_>) -> usize {
    let is_printed = one.shared.is_none() && one.binary.is_none();
    if is_printed && one.tensor.dtype() == DType::UInt16 { 2 * one.tensor.bytes().len() } else { 0 }
}

/// Estimates the length of an answer. Refuses one that is too long.
fn expected_length(form: &Form<'_>, told: &[Told<'_>]) -> Result<usize> {
    /// Of what is said of an output besides its name and its values.
    const ROUND: usize = 128;
    let names = 2 * form.model.len() + 2 * form.id.map_or(0, str::len) + ROUND;
    let length = told.iter().fold(names, |length: usize, one| {
        let values = match one.shared {
            Some((place, _)) => 2 * place.name().len() + ROUND,
            None => one.binary.unwrap_or_else(|| text_length(one)),
        };
        let shape = 8 * one.tensor.shape().len();
        length.saturating_add(values).saturating_add(shape + 2 * one.name.len() + ROUND)
    });
    if length > LONGEST_REPLY {
        return Err(Error::new(
            Kind::ResourceExhausted,
            format!(
                "The reply would take about {length} bytes, more than the limit of {LONGEST_REPLY} bytes"
            ),
        ));
    }
    Ok(length)
}

/// Estimates the length of an output's values as text.
fn text_length(one: &Told<'_>) -> usize {
    match one.tensor.as_strings() {
        Some(strings) if one.base64 => strings.iter().map(|string| string.len().div_ceil(3) * 4 + 3).sum(),
        Some(strings) => strings.iter().map(|string| string.len() + 4).sum(),
        None => one.tensor.len().saturating_mul(13),
    }
}

#[cfg(test)]
mod tests;
