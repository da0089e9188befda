//! `InferTensorContents`: the elements of an input in the field for its datatype, exactly as many as its shape has.

use super::super::wire::{Malformed, Value, varint};
use super::Input;
use crate::tensor::{Aligned, DType, Shape, Strings, Tensor};
use bytemuck::NoUninit;
use bytes::Bytes;

/// Most bytes that a string takes besides its text: where it ends, and what the engine makes of it.
const EACH: usize = 32;

/// Fields of `InferTensorContents`, by number.
const NAMES: [&str; 8] = [
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

pub(super) mod field {
    pub(in super::super) const BOOL: u32 = 1;
    pub(in super::super) const INT: u32 = 2;
    pub(in super::super) const INT64: u32 = 3;
    pub(in super::super) const UINT: u32 = 4;
    pub(in super::super) const UINT64: u32 = 5;
    pub(in super::super) const FP32: u32 = 6;
    pub(in super::super) const FP64: u32 = 7;
    pub(in super::super) const BYTES: u32 = 8;
}

/// The field for the elements of each dtype that has one.
const FIELDS: [(DType, u32); 12] = [
    (DType::Float, field::FP32),
    (DType::Int64, field::INT64),
    (DType::String, field::BYTES),
    (DType::Bool, field::BOOL),
    (DType::Int8, field::INT),
    (DType::Int16, field::INT),
    (DType::Int32, field::INT),
    (DType::UInt8, field::UINT),
    (DType::UInt16, field::UINT),
    (DType::UInt32, field::UINT),
    (DType::UInt64, field::UINT64),
    (DType::Double, field::FP64),
];

/// Returns the field for elements of `dtype`; `None` if they are only sent raw.
pub(super) fn field_of(dtype: DType) -> Option<u32> {
    FIELDS.iter().find(|row| row.0 == dtype).map(|row| row.1)
}

/// Returns whether elements of `dtype` have a field; others are only sent raw.
pub fn has_field(dtype: DType) -> bool {
    field_of(dtype).is_some()
}

/// Returns whether the elements in field `number` lie there as in memory.
pub(super) fn is_laid_out(number: u32) -> bool {
    matches!(number, field::BOOL | field::FP32 | field::FP64)
}

/// Why contents are not the elements of their input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// They are no protobuf message.
    Malformed,
    /// The datatype has no field.
    OnlyRaw,
    /// There are elements in this field, which is for another datatype.
    Field(&'static str),
    /// There are so many.
    Count(usize),
    /// An element, the first such one, is beyond the range of the datatype.
    Range(i64),
}

impl Wrong {
    fn beyond(value: u64) -> Wrong {
        Wrong::Range(value.cast_signed())
    }
}

impl From<Malformed> for Wrong {
    fn from(_: Malformed) -> Wrong {
        Wrong::Malformed
    }
}

/// Contents that are as many elements as expected, and in their field.
pub struct Contents<'i, 'a> {
    input: &'i Input<'a>,
    dtype: DType,
    own: u32,
    count: usize,
    /// The bytes of all elements, if they lie together and as in memory.
    laid_out: Option<&'a [u8]>,
}

impl<'i, 'a> Contents<'i, 'a> {
    /// Checks the contents of `input`, which should be `count` elements of `dtype`.
    pub fn open(input: &'i Input<'a>, dtype: DType, count: usize) -> Result<Contents<'i, 'a>, Wrong> {
        let own = field_of(dtype).ok_or(Wrong::OnlyRaw)?;
        let (mut found, mut chunks, mut only) = (0usize, 0, None);
        for item in input.contents() {
            let (number, value) = item?;
            let Some(name) = NAMES.get((number as usize).wrapping_sub(1)).copied() else { continue };
            let elements = elements(number, value)?;
            if elements > 0 && number != own {
                return Err(Wrong::Field(name));
            }
            if elements > 0 {
                (found, chunks) = (found + elements, chunks + 1);
                only = match value {
                    Value::Bytes(bytes) | Value::Fixed64(bytes) | Value::Fixed32(bytes) => Some(bytes),
                    Value::Varint(_) => None,
                };
            }
        }
        if found != count {
            return Err(Wrong::Count(found));
        }
        // A bool is a varint, which some may write longer than it has to be.
        let is_plain = |bytes: &&[u8]| own != field::BOOL || bytes.iter().all(|byte| *byte <= 1);
        let laid_out = only.filter(|_| chunks == 1 && is_laid_out(own)).filter(is_plain);
        Ok(Contents { input, dtype, own, count, laid_out })
    }

    /// Returns the bytes that reading them allocates, and the engine's own strings.
    pub fn allocates(&self) -> usize {
        match (self.laid_out, self.own) {
            (Some(_), _) => 0,
            (None, field::BYTES) if self.count == 0 => 0,
            // The text, which is shorter than the input, once here and once for the engine, and what each string takes.
            (None, field::BYTES) => 2 * self.input.bytes.len() + self.count * EACH,
            // A varint of one byte may become eight.
            (None, _) => self.count * self.dtype.size(),
        }
    }

    /// Reads them as a tensor of `shape`, which has as many elements.
    pub fn read(self, shape: Shape) -> Result<Tensor, Wrong> {
        if let Some(bytes) = self.laid_out {
            return Ok(Tensor::numbers(self.dtype, shape, self.input.message.slice_ref(bytes)));
        }
        match (self.own, self.dtype.size()) {
            (field::BOOL, _) => self.varints(shape, |value| Ok(u8::from(value != 0))),
            (field::INT, 1) => self.varints(shape, |value| i8::try_from(signed(value)).map_err(|_| value)),
            (field::INT, 2) => self.varints(shape, |value| i16::try_from(signed(value)).map_err(|_| value)),
            (field::INT, _) => self.varints(shape, |value| Ok(signed(value))),
            (field::INT64, _) => self.varints(shape, |value| Ok(value.cast_signed())),
            (field::UINT, 1) => self.varints(shape, |value| u8::try_from(unsigned(value)).map_err(|_| value)),
            (field::UINT, 2) => {
                self.varints(shape, |value| u16::try_from(unsigned(value)).map_err(|_| value))
            }
            (field::UINT, _) => self.varints(shape, |value| Ok(unsigned(value))),
            (field::UINT64, _) => self.varints(shape, Ok),
            (field::BYTES, _) => Ok(self.strings(shape)),
            _ => self.fixed(shape),
        }
    }

    /// Returns the values of its own field.
    fn values(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let own = self.own;
        self.input.contents().map_while(Result::ok).filter(move |field| field.0 == own).map(|field| field.1)
    }

    /// Gathers numbers that lie in several pieces.
    fn fixed(self, shape: Shape) -> Result<Tensor, Wrong> {
        let mut gathered: Aligned<u8> = Aligned::with_capacity(64, self.count * self.dtype.size());
        for value in self.values() {
            match value {
                Value::Bytes(bytes) | Value::Fixed64(bytes) | Value::Fixed32(bytes) => {
                    gathered.extend_from_slice(bytes);
                }
                Value::Varint(_) => return Err(Wrong::Malformed),
            }
        }
        Ok(Tensor::from_values(self.dtype, shape, gathered))
    }

    /// Reads numbers that are varints, packed or one by one.
    fn varints<T: NoUninit + Send + 'static>(
        self,
        shape: Shape,
        convert: impl Fn(u64) -> Result<T, u64>,
    ) -> Result<Tensor, Wrong> {
        let mut values: Aligned<T> = Aligned::with_capacity(64, self.count);
        for value in self.values() {
            match value {
                Value::Varint(one) => values.push(convert(one).map_err(Wrong::beyond)?),
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        values.push(convert(varint(&mut packed)?).map_err(Wrong::beyond)?);
                    }
                }
                Value::Fixed64(_) | Value::Fixed32(_) => return Err(Wrong::Malformed),
            }
        }
        Ok(Tensor::from_values(self.dtype, shape, values))
    }

    fn strings(self, shape: Shape) -> Tensor {
        let string = |value: Value<'a>| -> &'a [u8] {
            match value {
                Value::Bytes(string) => string,
                Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32(_) => &[],
            }
        };
        let mut all = self.values().map(string);
        let strings = match self.count {
            // A picture, perhaps: borrowed.
            1 => all.next().map_or_else(Strings::default, |only| {
                Strings::new(self.input.message.slice_ref(only), vec![only.len()])
            }),
            _ => self.joined(all),
        };
        Tensor::strings(shape, strings)
    }

    fn joined(&self, all: impl Iterator<Item = &'a [u8]>) -> Strings {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(self.count));
        for string in all {
            bytes.extend_from_slice(string);
            ends.push(bytes.len());
        }
        Strings::new(Bytes::from(bytes), ends)
    }
}

/// Returns an `int32` of the wire, of which only the low bits count.
fn signed(value: u64) -> i32 {
    value as i32
}

fn unsigned(value: u64) -> u32 {
    value as u32
}

/// Returns how many elements of field `number` a value has.
fn elements(number: u32, value: Value<'_>) -> Result<usize, Malformed> {
    let whole = |bytes: &[u8], size: usize| match bytes.len() % size {
        0 => Ok(bytes.len() / size),
        _ => Err(Malformed),
    };
    match (number, value) {
        (field::BYTES, Value::Bytes(_)) => Ok(1),
        (field::FP32, Value::Fixed32(_)) | (field::FP64, Value::Fixed64(_)) => Ok(1),
        (field::FP32, Value::Bytes(packed)) => whole(packed, 4),
        (field::FP64, Value::Bytes(packed)) => whole(packed, 8),
        (field::BOOL..=field::UINT64, Value::Varint(_)) => Ok(1),
        // Each ends with the byte that has no flag that more follow.
        (field::BOOL..=field::UINT64, Value::Bytes(packed)) => match packed.last() {
            Some(0x80..) => Err(Malformed),
            Some(_) | None => Ok(packed.iter().filter(|byte| **byte < 0x80).count()),
        },
        _ => Err(Malformed),
    }
}
