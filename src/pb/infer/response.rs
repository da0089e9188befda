//! `ModelInferResponse`, and `ModelStreamInferResponse` around it, written from the tensors' own memory.

use super::super::tensor::each_varint;
use super::super::wire::{Pieces, bytes_field_len, varint_len};
use super::contents::{field, field_of, is_laid_out};
use crate::tensor::{Data, Strings, Tensor};
use bytes::Bytes;
use smallvec::SmallVec;

/// Bytes of the length before each string of raw BYTES.
const PREFIX: usize = 4;
/// Field of `ModelStreamInferResponse`: the response.
const STREAMED: u32 = 2;
/// The parameter by which clients of streams know that no other answer to a request follows, as a field of the response.
const FINAL: &[u8] = b"\x22\x1b\x0a\x15triton_final_response\x12\x02\x08\x01";

/// What a response repeats of its request, and says of the version.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The model, as the client calls it.
    pub model_name: &'a str,
    /// The version that answered, as text.
    pub model_version: &'a str,
    /// The identifier of the request.
    pub id: &'a str,
    /// True for a response on a stream.
    pub streamed: bool,
}

/// A response that is ready to be written.
pub struct Response<'a> {
    head: Head<'a>,
    outputs: SmallVec<[Output<'a>; 4]>,
    /// Without that of the stream's message around it.
    len: usize,
}

/// One output: what is told of it, and how its elements are sent.
struct Output<'a> {
    name: &'a str,
    datatype: &'static str,
    tensor: &'a Tensor,
    form: Form<'a>,
    /// The length of its dimensions.
    dims: usize,
    /// The length of its description, with contents that are not raw.
    len: usize,
}

/// How the elements of an output are sent.
enum Form<'a> {
    /// As they are in memory.
    Raw(&'a Bytes),
    /// Each after its length.
    RawStrings(&'a Strings, usize),
    /// In this field, as they are in memory.
    Laid(u32, &'a Bytes),
    /// In this field as varints, which take so many bytes.
    Varints(u32, usize),
    /// In a field for each.
    Strings(&'a Strings),
    /// Not at all: its parameters, serialized, say where they are.
    Elsewhere(Vec<u8>),
}

impl<'a> Response<'a> {
    /// Prepares a response of `outputs`: name, datatype, tensor. `typed`: their elements are in the fields for their
    /// datatypes, which all must have one.
    pub fn new(
        head: Head<'a>,
        outputs: impl Iterator<Item = (&'a str, &'static str, &'a Tensor)>,
        typed: bool,
    ) -> Response<'a> {
        let outputs: SmallVec<[Output<'a>; 4]> =
            outputs.map(|(name, datatype, tensor)| Output::new(name, datatype, tensor, typed)).collect();
        let told: usize = outputs.iter().map(|output| bytes_field_len(5, output.len)).sum();
        let raw: usize = outputs.iter().map(Output::raw_len).sum();
        let len = head.len() + told + raw;
        Response { head, outputs, len }
    }

    /// Says that the elements of output `index` are not in the message, whose elements are raw; `parameters`, serialized as
    /// fields of the output, say where they are.
    pub fn put_elsewhere(&mut self, index: usize, parameters: Vec<u8>) {
        let Some(output) = self.outputs.get_mut(index) else { return };
        let len = |output: &Output<'_>| bytes_field_len(5, output.len) + output.raw_len();
        let before = len(output);
        output.len += parameters.len();
        output.form = Form::Elsewhere(parameters);
        self.len = self.len - before + len(output);
    }

    /// Returns the length of the whole message in bytes.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        if self.head.streamed { bytes_field_len(STREAMED, self.len) } else { self.len }
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Pieces) {
        if self.head.streamed {
            out.bytes_key(STREAMED, self.len);
        }
        self.head.write(out);
        for output in &self.outputs {
            output.write(out);
        }
        for output in &self.outputs {
            output.write_raw(out);
        }
    }
}

impl Head<'_> {
    fn fields(&self) -> impl Iterator<Item = (u32, &str)> {
        let fields = [(1, self.model_name), (2, self.model_version), (3, self.id)];
        fields.into_iter().filter(|(_, text)| !text.is_empty())
    }

    fn len(&self) -> usize {
        let texts: usize = self.fields().map(|(number, text)| bytes_field_len(number, text.len())).sum();
        texts + if self.streamed { FINAL.len() } else { 0 }
    }

    fn write(&self, out: &mut Pieces) {
        for (number, text) in self.fields() {
            out.bytes_key(number, text.len());
            out.copy(text.as_bytes());
        }
        if self.streamed {
            out.copy(FINAL);
        }
    }
}

impl<'a> Output<'a> {
    fn new(name: &'a str, datatype: &'static str, tensor: &'a Tensor, typed: bool) -> Output<'a> {
        let form = Form::of(tensor, typed);
        let dims = tensor.shape().iter().map(|dim| varint_len(dim.cast_unsigned())).sum();
        let shape = if dims == 0 { 0 } else { bytes_field_len(3, dims) };
        let contents = form.contents_len().map_or(0, |len| bytes_field_len(5, len));
        let len = bytes_field_len(1, name.len()) + bytes_field_len(2, datatype.len()) + shape + contents;
        Output { name, datatype, tensor, form, dims, len }
    }

    fn raw_len(&self) -> usize {
        match &self.form {
            Form::Raw(bytes) => bytes_field_len(6, bytes.len()),
            Form::RawStrings(_, len) => bytes_field_len(6, *len),
            // Nothing, in its place among the others.
            Form::Elsewhere(_) => bytes_field_len(6, 0),
            Form::Laid(..) | Form::Varints(..) | Form::Strings(_) => 0,
        }
    }

    fn write(&self, out: &mut Pieces) {
        out.bytes_key(5, self.len);
        out.bytes_key(1, self.name.len());
        out.copy(self.name.as_bytes());
        out.bytes_key(2, self.datatype.len());
        out.copy(self.datatype.as_bytes());
        if self.dims > 0 {
            out.bytes_key(3, self.dims);
            self.tensor.shape().iter().for_each(|dim| out.varint(dim.cast_unsigned()));
        }
        if let Form::Elsewhere(parameters) = &self.form {
            out.copy(parameters);
        }
        let Some(len) = self.form.contents_len() else { return };
        out.bytes_key(5, len);
        match &self.form {
            Form::Laid(number, bytes) if !bytes.is_empty() => {
                out.bytes_key(*number, bytes.len());
                out.pass_on(bytes);
            }
            Form::Varints(number, len) if *len > 0 => {
                out.bytes_key(*number, *len);
                each_varint(self.tensor.dtype(), self.tensor.bytes(), |value| out.varint(value));
            }
            Form::Strings(strings) => strings.iter().for_each(|string| {
                out.bytes_key(field::BYTES, string.len());
                out.copy(string);
            }),
            Form::Laid(..) | Form::Varints(..) | Form::Raw(_) | Form::RawStrings(..) | Form::Elsewhere(_) => {
            }
        }
    }

    /// Appends the elements that are sent raw, which may be none.
    fn write_raw(&self, out: &mut Pieces) {
        match &self.form {
            Form::Raw(bytes) => {
                out.bytes_key(6, bytes.len());
                out.pass_on(bytes);
            }
            Form::RawStrings(strings, len) => {
                out.bytes_key(6, *len);
                for string in strings.iter() {
                    // A tensor that is sent is shorter than a message, and that than four bytes can say.
                    let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                    out.copy(&length.to_le_bytes());
                    out.copy(string);
                }
            }
            Form::Elsewhere(_) => out.bytes_key(6, 0),
            Form::Laid(..) | Form::Varints(..) | Form::Strings(_) => {}
        }
    }
}

impl<'a> Form<'a> {
    fn of(tensor: &'a Tensor, typed: bool) -> Form<'a> {
        let number = field_of(tensor.dtype()).filter(|_| typed);
        match (tensor.data(), number) {
            (Data::Strings(strings), Some(_)) => Form::Strings(strings),
            (Data::Strings(strings), None) => {
                Form::RawStrings(strings, strings.iter().map(|string| PREFIX + string.len()).sum())
            }
            (Data::Numbers(bytes), None) => Form::Raw(bytes),
            // A packed list of bools has one byte per value, as in memory.
            (Data::Numbers(bytes), Some(number)) if is_laid_out(number) => Form::Laid(number, bytes),
            (Data::Numbers(bytes), Some(number)) => {
                let mut len = 0;
                each_varint(tensor.dtype(), bytes, |value| len += varint_len(value));
                Form::Varints(number, len)
            }
        }
    }

    /// Returns the length of the contents; `None` if the elements are sent raw.
    fn contents_len(&self) -> Option<usize> {
        let packed = |number: u32, len: usize| if len == 0 { 0 } else { bytes_field_len(number, len) };
        match self {
            Form::Raw(_) | Form::RawStrings(..) | Form::Elsewhere(_) => None,
            Form::Laid(number, bytes) => Some(packed(*number, bytes.len())),
            Form::Varints(number, len) => Some(packed(*number, *len)),
            Form::Strings(strings) => {
                Some(strings.iter().map(|string| bytes_field_len(field::BYTES, string.len())).sum())
            }
        }
    }
}
