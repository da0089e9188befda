//! [`Tensor`] ↔ `tensorflow.TensorProto` on the wire, without a generated struct in between.
//!
//! Numbers have the same layout in a message (`tensor_content`, and packed floats and doubles) as in memory. So they
//! are borrowed from the message if it holds all of them, and sent from the tensor's memory on the way out. The rules
//! are those of docs/spec/grpc.md, sections 3.2 and 3.3.

use super::wire::{Fields, Malformed, Pieces, Value, bytes_field_len, varint, varint_len};
use crate::tensor::{Aligned, DType, Data, Shape, Strings, Tensor, element_count, is_representable};
use bytemuck::NoUninit;
use bytes::Bytes;

mod encode;
mod values;

pub use encode::Encoded;
pub(super) use encode::each_varint;

/// Most bytes that a short list of values is expanded to: a few bytes in a request must not cost gigabytes.
pub const MAX_DRAWN_OUT: usize = 256 << 20;
/// TensorFlow's own limit on the number of dimensions.
const MAX_RANK: usize = 254;

/// Fields of `TensorProto`.
mod field {
    pub(super) const DTYPE: u32 = 1;
    pub(super) const SHAPE: u32 = 2;
    pub(super) const CONTENT: u32 = 4;
    pub(super) const FLOAT: u32 = 5;
    pub(super) const DOUBLE: u32 = 6;
    pub(super) const INT: u32 = 7;
    pub(super) const STRING: u32 = 8;
    pub(super) const COMPLEX64: u32 = 9;
    pub(super) const INT64: u32 = 10;
    pub(super) const BOOL: u32 = 11;
    pub(super) const COMPLEX128: u32 = 12;
    pub(super) const HALF: u32 = 13;
    pub(super) const UINT32: u32 = 16;
    pub(super) const UINT64: u32 = 17;
    pub(super) const FLOAT8: u32 = 18;
}

/// Decodes a serialized `TensorProto`; see [`open`] for the errors.
pub fn decode(proto: &Bytes) -> Result<Tensor, Malformed> {
    open(proto)?.read()
}

/// Reads a serialized `TensorProto` except for its values. Fails, as [`Opened::read`] does, where TensorFlow fails to
/// parse one: a missing or unknown dtype, a negative or overflowing shape, content whose length does not match the
/// shape; also if a short list of values would be expanded beyond [`MAX_DRAWN_OUT`], and for content with truth values that
/// are neither 0 nor 1.
pub fn open(proto: &Bytes) -> Result<Opened<'_>, Malformed> {
    let mut head = Head::default();
    for item in Fields::new(proto) {
        head.take(item?)?;
    }
    // Reference types are for graphs, not for values.
    let dtype =
        DType::from_number(head.dtype).filter(|dtype| *dtype as i32 == head.dtype).ok_or(Malformed)?;
    let count = element_count(&head.shape).filter(|_| is_representable(&head.shape)).ok_or(Malformed)?;
    if matches!(dtype, DType::Invalid | DType::Resource | DType::Variant) {
        return Err(Malformed);
    }
    Ok(Opened { proto, head, dtype, count })
}

/// A `TensorProto` whose values have not been read yet.
pub struct Opened<'a> {
    proto: &'a Bytes,
    head: Head<'a>,
    dtype: DType,
    count: usize,
}

impl Opened<'_> {
    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the shape, outermost dimension first.
    pub fn shape(&self) -> &[i64] {
        &self.head.shape
    }

    /// Returns the number of bytes that the values take beyond the size of the message.
    pub fn drawn_out(&self) -> usize {
        let size = match (self.head.content, self.dtype) {
            _ if self.count <= 1 => 0,
            (Some(_), DType::String) => self.count.saturating_mul(size_of::<usize>()),
            (Some(_), _) => 0,
            (None, DType::String) => values::strings_size(self.proto, self.count),
            (None, dtype) => self.count.saturating_mul(dtype.size()),
        };
        // A tensor beyond the limit is malformed and takes nothing.
        if size > self.proto.len().saturating_add(MAX_DRAWN_OUT) {
            0
        } else {
            size.saturating_sub(self.proto.len())
        }
    }

    /// Returns the bytes of the message that reading the values copies, at most: of strings and of numbers that do not lie
    /// there as in memory. They come on top of what is [`Self::drawn_out`].
    pub fn copied(&self) -> usize {
        let sent = self.proto.len();
        if self.count <= 1 || self.head.content.is_some() {
            0
        } else if self.dtype == DType::String {
            sent
        } else if values::lie_as_in_memory(self.dtype) {
            0
        } else {
            sent.min(self.count.saturating_mul(self.dtype.size()))
        }
    }

    /// Reads the values.
    pub fn read(self) -> Result<Tensor, Malformed> {
        let Opened { proto, head, dtype, count } = self;
        match head.content {
            _ if count == 0 && dtype == DType::String => Ok(Tensor::strings(head.shape, Strings::default())),
            _ if count == 0 => Ok(Tensor::numbers(dtype, head.shape, Bytes::new())),
            content if dtype == DType::String => {
                let strings = match content {
                    Some(content) => values::counted_strings(&proto.slice_ref(content), count),
                    None => values::strings(proto, count),
                }?;
                Ok(Tensor::strings(head.shape, strings))
            }
            // Any other truth value is undefined where the engine reads it.
            Some(content) if dtype == DType::Bool && content.iter().fold(0, |all, byte| all | byte) > 1 => {
                Err(Malformed)
            }
            Some(content) if count.checked_mul(dtype.size()) == Some(content.len()) => {
                Ok(Tensor::numbers(dtype, head.shape, proto.slice_ref(content)))
            }
            Some(_) => Err(Malformed),
            None => values::numbers(proto, dtype, head.shape, count),
        }
    }
}

/// The fields of a `TensorProto` other than the typed values.
#[derive(Default)]
struct Head<'a> {
    dtype: i32,
    shape: Shape,
    /// `None` if it is empty.
    content: Option<&'a [u8]>,
}

impl<'a> Head<'a> {
    fn take(&mut self, (number, value): (u32, Value<'a>)) -> Result<(), Malformed> {
        match (number, value) {
            // Enums are int32 on the wire: only the low bits count.
            (field::DTYPE, Value::Varint(dtype)) => self.dtype = dtype as i32,
            (field::SHAPE, Value::Bytes(shape)) => self.take_shape(shape)?,
            (field::CONTENT, Value::Bytes(content)) => {
                self.content = Some(content).filter(|content| !content.is_empty());
            }
            _ => {}
        }
        Ok(())
    }

    /// `unknown_rank` does not matter: without dimensions the tensor is a scalar either way.
    fn take_shape(&mut self, shape: &[u8]) -> Result<(), Malformed> {
        for item in Fields::new(shape) {
            if let (2, Value::Bytes(dim)) = item? {
                let mut size = 0;
                for item in Fields::new(dim) {
                    if let (1, Value::Varint(value)) = item? {
                        size = value as i64;
                    }
                }
                if self.shape.len() == MAX_RANK {
                    return Err(Malformed);
                }
                self.shape.push(size);
            }
        }
        Ok(())
    }
}

/// Locates the first large block of numbers in a `PredictRequest` of which `prefix` has arrived, and returns its offset
/// in the message. A buffer that places the block at an aligned address saves the engine a copy.
pub fn locate_numbers(prefix: &[u8]) -> Option<usize> {
    let [inputs, value] = [2, 2];
    let mut position = 0;
    // Nesting levels (PredictRequest → entry of `inputs` → TensorProto), and the end of each.
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
        match (level, number, wire_type) {
            (0 | 1, number, 2) if number == [inputs, value][level] => {
                level += 1;
                ends[level] = content.checked_add(length)?;
                position = content;
            }
            (2, field::CONTENT | field::FLOAT | field::DOUBLE | field::COMPLEX64 | field::COMPLEX128, 2)
                if length >= 4096 =>
            {
                return Some(content);
            }
            // A varint: its value was read as the length.
            (_, _, 0) => position = content,
            (_, _, 2) => position = content.checked_add(length)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
