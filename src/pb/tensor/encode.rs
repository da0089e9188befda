//! [`Tensor`] → `TensorProto`: one entry per element in the typed field, or all elements as `tensor_content`.

use super::{Bytes, DType, Data, Pieces, Strings, Tensor, bytes_field_len, field, varint_len};

/// The encoding of a tensor's values.
enum Form<'a> {
    /// No values, no field.
    Empty,
    /// One field with these bytes.
    Bytes(u32, &'a Bytes),
    /// One packed field of varints, with its length in bytes.
    Varints(u32, usize),
    /// One field per string.
    Strings(&'a Strings),
    /// `tensor_content` of strings, with its length in bytes: the strings' lengths, then the strings.
    CountedStrings(&'a Strings, usize),
}

fn form(tensor: &Tensor, as_content: bool) -> Form<'_> {
    let bytes = match tensor.data() {
        Data::Strings(strings) if strings.is_empty() => return Form::Empty,
        Data::Strings(strings) if as_content => {
            let length = strings.iter().map(|string| varint_len(string.len() as u64) + string.len()).sum();
            return Form::CountedStrings(strings, length);
        }
        Data::Strings(strings) => return Form::Strings(strings),
        Data::Numbers(bytes) if bytes.is_empty() => return Form::Empty,
        Data::Numbers(bytes) if as_content => return Form::Bytes(field::CONTENT, bytes),
        Data::Numbers(bytes) => bytes,
    };
    let number = match tensor.dtype() {
        DType::Float => return Form::Bytes(field::FLOAT, bytes),
        DType::Double => return Form::Bytes(field::DOUBLE, bytes),
        DType::Complex64 => return Form::Bytes(field::COMPLEX64, bytes),
        DType::Complex128 => return Form::Bytes(field::COMPLEX128, bytes),
        // A packed list of bools has one byte per value, as in memory.
        DType::Bool => return Form::Bytes(field::BOOL, bytes),
        DType::Float8E5M2
        | DType::Float8E4M3Fn
        | DType::Float8E4M3Fnuz
        | DType::Float8E4M3B11Fnuz
        | DType::Float8E5M2Fnuz
        | DType::Float4E2M1Fn => return Form::Bytes(field::FLOAT8, bytes),
        DType::Half | DType::BFloat16 => field::HALF,
        DType::Int64 => field::INT64,
        DType::UInt32 => field::UINT32,
        DType::UInt64 => field::UINT64,
        DType::Int32
        | DType::QInt32
        | DType::Int16
        | DType::QInt16
        | DType::UInt16
        | DType::QUInt16
        | DType::Int8
        | DType::QInt8
        | DType::Int4
        | DType::Int2
        | DType::UInt8
        | DType::QUInt8
        | DType::UInt4
        | DType::UInt2 => field::INT,
        // No tensor of numbers has these types.
        DType::Invalid | DType::String | DType::Resource | DType::Variant => return Form::Empty,
    };
    let mut length = 0;
    each_varint(tensor.dtype(), bytes, |value| length += varint_len(value));
    Form::Varints(number, length)
}

/// Calls `visit` with every element as protobuf writes it: signed ones are extended to 64 bits.
#[inline]
pub(in crate::pb) fn each_varint(dtype: DType, bytes: &[u8], mut visit: impl FnMut(u64)) {
    let signed = matches!(
        dtype,
        DType::Int32
            | DType::QInt32
            | DType::Int16
            | DType::QInt16
            | DType::Int8
            | DType::QInt8
            | DType::Int4
            | DType::Int2
    );
    match (dtype.size(), signed) {
        (1, true) => bytes.iter().for_each(|one| visit(i64::from(*one as i8) as u64)),
        (1, false) => bytes.iter().for_each(|one| visit(u64::from(*one))),
        (2, true) => {
            bytes.as_chunks().0.iter().for_each(|two| visit(i64::from(i16::from_le_bytes(*two)) as u64))
        }
        (2, false) => bytes.as_chunks().0.iter().for_each(|two| visit(u64::from(u16::from_le_bytes(*two)))),
        (4, true) => {
            bytes.as_chunks().0.iter().for_each(|four| visit(i64::from(i32::from_le_bytes(*four)) as u64))
        }
        (4, false) => bytes.as_chunks().0.iter().for_each(|four| visit(u64::from(u32::from_le_bytes(*four)))),
        _ => bytes.as_chunks().0.iter().for_each(|eight| visit(u64::from_le_bytes(*eight))),
    }
}

fn values_len(form: &Form<'_>) -> usize {
    match form {
        Form::Empty => 0,
        Form::Bytes(number, bytes) => bytes_field_len(*number, bytes.len()),
        Form::Varints(number, length) => bytes_field_len(*number, *length),
        Form::Strings(strings) => {
            strings.iter().map(|string| bytes_field_len(field::STRING, string.len())).sum()
        }
        Form::CountedStrings(_, length) => bytes_field_len(field::CONTENT, *length),
    }
}

/// Returns the length of a dimension's message; a size of 0 is omitted.
fn dim_len(size: i64) -> usize {
    if size == 0 { 0 } else { 1 + varint_len(size as u64) }
}

fn shape_len(shape: &[i64]) -> usize {
    shape.iter().map(|size| bytes_field_len(2, dim_len(*size))).sum()
}

/// A tensor prepared for a message.
pub struct Encoded<'a> {
    tensor: &'a Tensor,
    form: Form<'a>,
    len: usize,
}

impl<'a> Encoded<'a> {
    /// Prepares `tensor` as a `TensorProto`: dtype, shape (present for a scalar too) and one entry per element in the
    /// typed field, never shortened; with `as_content`, the elements as `tensor_content`.
    pub fn new(tensor: &'a Tensor, as_content: bool) -> Encoded<'a> {
        let form = form(tensor, as_content);
        let len = 1
            + varint_len(tensor.dtype() as u64)
            + bytes_field_len(field::SHAPE, shape_len(tensor.shape()))
            + values_len(&form);
        Encoded { tensor, form, len }
    }

    /// Returns the length of the whole message in bytes.
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Appends the message.
    pub fn write(&self, out: &mut Pieces) {
        out.varint_field(field::DTYPE, self.tensor.dtype() as u64);
        out.bytes_key(field::SHAPE, shape_len(self.tensor.shape()));
        for size in self.tensor.shape() {
            out.bytes_key(2, dim_len(*size));
            if *size != 0 {
                out.varint_field(1, *size as u64);
            }
        }
        match &self.form {
            Form::Empty => {}
            Form::Bytes(number, bytes) => {
                out.bytes_key(*number, bytes.len());
                out.pass_on(bytes);
            }
            Form::Varints(number, length) => {
                out.bytes_key(*number, *length);
                each_varint(self.tensor.dtype(), self.tensor.bytes(), |value| out.varint(value));
            }
            Form::Strings(strings) => {
                for string in strings.iter() {
                    out.bytes_key(field::STRING, string.len());
                    out.copy(string);
                }
            }
            Form::CountedStrings(strings, length) => {
                out.bytes_key(field::CONTENT, *length);
                strings.iter().for_each(|string| out.varint(string.len() as u64));
                strings.iter().for_each(|string| out.copy(string));
            }
        }
    }
}
