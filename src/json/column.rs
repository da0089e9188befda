//! The elements of one input while they are collected, by dtype: storage, and the JSON values each dtype accepts.

use crate::json::base64::decode_base64;
use crate::json::cursor::{Cursor, Type};
use crate::json::dense::{DenseReader, ElementFault, Elements, Fault};
use crate::json::number::Number;
use crate::json::parts;
use crate::json::rounding::flushed_f32;
use crate::json::short_number::{ShortNumber, short_number};
use crate::parallel::Spare;
use crate::tensor::{Aligned, DType, Shape, Strings, Tensor};
use aligned_vec::AVec;
use bytes::Bytes;

/// The collected elements of one input.
pub(crate) trait Column {
    /// Appends the elements of the value here; see [`DenseReader::fill`].
    fn fill(&mut self, reader: &mut DenseReader, cursor: &mut Cursor<'_>) -> Result<(), Fault>;

    /// Does the same; a long list of numbers is read in parts, with the help of `spare`.
    fn fill_together(
        &mut self,
        reader: &mut DenseReader,
        cursor: &mut Cursor<'_>,
        _: &dyn Spare,
    ) -> Result<(), Fault> {
        self.fill(reader, cursor)
    }

    /// Returns the number of elements.
    fn len(&self) -> usize;

    /// Makes a tensor of the first elements, as many as `shape` holds, which is at most [`Self::len`].
    fn finish(self: Box<Self>, shape: &[usize]) -> Tensor;
}

/// Makes an empty column for `dtype`.
///
/// With `alone`, the whole text goes into this column, so it may reserve room for what is still to come.
pub(crate) fn column(dtype: DType, alone: bool) -> Box<dyn Column> {
    match dtype {
        DType::Float => Box::new(Numbers::<f32>::new(alone)),
        DType::Double => Box::new(Numbers::<f64>::new(alone)),
        DType::Int32 => Box::new(Numbers::<i32>::new(alone)),
        DType::UInt8 => Box::new(Numbers::<u8>::new(alone)),
        DType::Int16 => Box::new(Numbers::<i16>::new(alone)),
        DType::Int8 => Box::new(Numbers::<i8>::new(alone)),
        DType::Int64 => Box::new(Numbers::<i64>::new(alone)),
        DType::UInt32 => Box::new(Numbers::<u32>::new(alone)),
        DType::UInt64 => Box::new(Numbers::<u64>::new(alone)),
        DType::Bool => Box::new(Numbers::<bool>::new(alone)),
        DType::String => Box::new(Texts::default()),
        DType::Invalid
        | DType::Complex64
        | DType::QInt8
        | DType::QUInt8
        | DType::QInt32
        | DType::BFloat16
        | DType::QInt16
        | DType::QUInt16
        | DType::UInt16
        | DType::Complex128
        | DType::Half
        | DType::Resource
        | DType::Variant
        | DType::Float8E5M2
        | DType::Float8E4M3Fn
        | DType::Float8E4M3Fnuz
        | DType::Float8E4M3B11Fnuz
        | DType::Float8E5M2Fnuz
        | DType::Int4
        | DType::UInt4
        | DType::Int2
        | DType::UInt2
        | DType::Float4E2M1Fn => Box::new(Unsupported(dtype)),
    }
}

fn dims(shape: &[usize]) -> Shape {
    // A dimension counts bytes of a text, so it fits.
    shape.iter().map(|dim| *dim as i64).collect()
}

/// A number type that JSON values can have.
pub(super) trait Value: bytemuck::NoUninit + Send {
    const DTYPE: DType;

    /// Consumes the value here; `None` if it has another type.
    fn read(cursor: &mut Cursor<'_>) -> Option<Self>;

    /// Returns what [`Self::read`] returns for a short number; `None` if that is not known here.
    fn of(number: ShortNumber) -> Option<Self>;
}

macro_rules! integers {
    ($($type:ty, $dtype:ident, $value:ident => $stored:expr;)*) => {$(
        impl Value for $type {
            const DTYPE: DType = DType::$dtype;

            #[inline(always)]
            fn read(cursor: &mut Cursor<'_>) -> Option<$type> {
                let Number::Int($value) = cursor.number().ok()? else { return None };
                $stored
            }

            #[inline(always)]
            fn of(number: ShortNumber) -> Option<$type> {
                let $value = number.as_i64()?;
                $stored
            }
        }
    )*};
}

// The narrow types accept whatever fits int32 and keep its low bits (docs/spec/rest.md section 6.1).
integers! {
    i32, Int32, value => i32::try_from(value).ok();
    i16, Int16, value => i32::try_from(value).ok().map(|value| value as i16);
    i8, Int8, value => i32::try_from(value).ok().map(|value| value as i8);
    u8, UInt8, value => i32::try_from(value).ok().map(|value| value as u8);
    i64, Int64, value => Some(value);
    u32, UInt32, value => u32::try_from(value).ok();
}

impl Value for u64 {
    const DTYPE: DType = DType::UInt64;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<u64> {
        match cursor.number().ok()? {
            Number::Int(value) => u64::try_from(value).ok(),
            Number::Big(value) => Some(value),
            Number::Double(_) => None,
        }
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<u64> {
        u64::try_from(number.as_i64()?).ok()
    }
}

impl Value for f64 {
    const DTYPE: DType = DType::Double;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<f64> {
        Some(cursor.number().ok()?.as_f64())
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<f64> {
        Some(number.as_f64())
    }
}

impl Value for f32 {
    const DTYPE: DType = DType::Float;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<f32> {
        Some(flushed_f32(cursor.number().ok()?.as_f64()))
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<f32> {
        // Too large for a subnormal value.
        Some(number.as_f64() as f32)
    }
}

impl Value for bool {
    const DTYPE: DType = DType::Bool;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<bool> {
        let value = cursor.peek() == b't';
        cursor.literal(if value { b"true" } else { b"false" }).ok()?;
        Some(value)
    }

    #[inline(always)]
    fn of(_: ShortNumber) -> Option<bool> {
        None
    }
}

/// A sequence of numbers or truth values.
pub(super) struct Numbers<T> {
    pub(super) values: Aligned<T>,
    /// Offset of the first value in the text; set once storage has been reserved.
    start: Option<usize>,
    alone: bool,
    /// Bytes between two numbers, as found last: a comma, or a comma and a space.
    gap: usize,
    /// How many elements to read without trying [`short_number`] first, because the last try was in vain.
    long: usize,
}

impl<T: Value> Numbers<T> {
    pub(super) fn new(alone: bool) -> Numbers<T> {
        Numbers { values: AVec::new(64), start: None, alone, gap: 1, long: 0 }
    }

    /// Returns the values of all `parts` in order.
    pub(super) fn joined(parts: Vec<Numbers<T>>) -> Aligned<T> {
        let mut values = AVec::with_capacity(64, parts.iter().map(|part| part.values.len()).sum());
        for part in parts {
            values.extend_from_slice(&part.values);
        }
        values
    }

    /// Makes room when there is none left: for a few values at first, then for the rest of the text if it continues as
    /// it began.
    ///
    /// The estimate never exceeds one value for every two bytes of text, and untouched pages cost nothing.
    #[cold]
    fn grow(&mut self, cursor: &Cursor<'_>) {
        let len = self.values.len();
        let Some(start) = self.start else {
            self.start = Some(cursor.at);
            return self.values.reserve_exact(32);
        };
        let (passed, rest) = (cursor.at - start, cursor.text.len() - cursor.at);
        let guess = if self.alone && passed >= 2 * len { (rest / (passed / len)).min(rest / 2) } else { 0 };
        self.values.reserve_exact((guess + guess / 16).max(len));
    }
}

impl<T: Value> Elements for Numbers<T> {
    #[inline(always)]
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ElementFault> {
        if self.values.len() == self.values.capacity() {
            self.grow(cursor);
        }
        self.values.push(T::read(cursor).ok_or(ElementFault::Type)?);
        Ok(())
    }

    #[inline(always)]
    fn push_quickly(&mut self, cursor: &mut Cursor<'_>) -> usize {
        /// Lists tend to have numbers of one kind.
        const LONG: usize = 15;
        if self.long > 0 {
            self.long -= 1;
            return 0;
        }
        let before = self.values.len();
        let mut next = *cursor;
        while let Some(number) = short_number(next.text, next.at)
            && let Some(value) = T::of(number)
        {
            if self.values.len() == self.values.capacity() {
                self.grow(&next);
            }
            self.values.push(value);
            next.at = number.end;
            *cursor = next;
            // The width is known before the text is, so that the next number need not wait for it.
            if next.peek() != b',' {
                break;
            }
            if (next.text.get(next.at + 1) == Some(&b' ')) != (self.gap == 2) {
                self.gap = 3 - self.gap;
                break;
            }
            next.at += self.gap;
        }
        let read = self.values.len() - before;
        self.long = if read == 0 { LONG } else { 0 };
        read
    }
}

impl<T: Value> Column for Numbers<T> {
    fn fill(&mut self, reader: &mut DenseReader, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        reader.fill(cursor, self)
    }

    fn fill_together(
        &mut self,
        reader: &mut DenseReader,
        cursor: &mut Cursor<'_>,
        spare: &dyn Spare,
    ) -> Result<(), Fault> {
        if self.alone
            && self.values.is_empty()
            && let Some(parts) = parts::fill(reader, cursor, spare, parts::LEAST, || Numbers::new(true))
        {
            self.values = Numbers::joined(parts);
            return Ok(());
        }
        self.fill(reader, cursor)
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn finish(mut self: Box<Self>, shape: &[usize]) -> Tensor {
        self.values.truncate(shape.iter().product());
        Tensor::from_values(T::DTYPE, dims(shape), self.values)
    }
}

/// Byte strings stored back to back.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Elements for Texts {
    #[inline]
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ElementFault> {
        match cursor.value_type() {
            // Not `map_err`: it moves the text through memory, which takes as long as reading it.
            Type::String => match cursor.string() {
                Ok(text) => text.append_to(&mut self.bytes),
                Err(_) => return Err(ElementFault::Type),
            },
            Type::Object => {
                let text = cursor.base64_object().ok_or(ElementFault::Object)?;
                decode_base64(text, &mut self.bytes).map_err(|_| ElementFault::Base64)?;
            }
            Type::Null | Type::False | Type::True | Type::Array | Type::Number => {
                return Err(ElementFault::Type);
            }
        }
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

impl Column for Texts {
    fn fill(&mut self, reader: &mut DenseReader, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        reader.fill(cursor, self)
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn finish(mut self: Box<Self>, shape: &[usize]) -> Tensor {
        self.ends.truncate(shape.iter().product());
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
        Tensor::strings(dims(shape), Strings::new(self.bytes, self.ends))
    }
}

/// A dtype without JSON values. Tensors without elements are still accepted.
struct Unsupported(DType);

impl Elements for Unsupported {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ElementFault> {
        Err(if cursor.peek() == b'{' { ElementFault::Type } else { ElementFault::Unsupported })
    }
}

impl Column for Unsupported {
    fn fill(&mut self, reader: &mut DenseReader, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        reader.fill(cursor, self)
    }

    fn len(&self) -> usize {
        0
    }

    fn finish(self: Box<Self>, shape: &[usize]) -> Tensor {
        Tensor::numbers(self.0, dims(shape), Bytes::new())
    }
}
