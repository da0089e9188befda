//! The elements of one input while they are collected, by dtype: storage, and the JSON values each dtype accepts.

#[cfg(target_arch = "x86_64")]
use crate::json::avx2_read::{Between, LEAST_TEXT, Several, doubles, several, singles};
use crate::json::base64::decode_base64;
use crate::json::cursor::{Cursor, Type};
use crate::json::dense::{DenseReader, ElementFault, Elements, Fault};
use crate::json::narrow::{BFloat16, Half, Narrow, nearest, nearest_to_text};
use crate::json::number::Number;
use crate::json::parts;
use crate::json::rounding::flushed_f32;
use crate::json::short_number::{ShortNumber, short_number};
use crate::parallel::Spare;
use crate::tensor::{Aligned, DType, Shape, Strings, Tensor};
use aligned_vec::AVec;
use bytes::Bytes;
#[cfg(target_arch = "x86_64")]
use fearless_simd::{Avx2, Level};

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
        DType::Half => Box::new(Numbers::<Half>::new(alone)),
        DType::BFloat16 => Box::new(Numbers::<BFloat16>::new(alone)),
        DType::String => Box::new(Texts::default()),
        DType::Invalid
        | DType::Complex64
        | DType::QInt8
        | DType::QUInt8
        | DType::QInt32
        | DType::QInt16
        | DType::QUInt16
        | DType::UInt16
        | DType::Complex128
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
pub(super) trait Value {
    const DTYPE: DType;
    /// The form in which a tensor holds it.
    type Stored: bytemuck::NoUninit + Send;

    /// Consumes the value here; `None` if it has another type.
    fn read(cursor: &mut Cursor<'_>) -> Option<Self::Stored>;

    /// Returns what [`Self::read`] returns for a short number; `None` if that is not known here.
    fn of(number: ShortNumber) -> Option<Self::Stored>;

    /// Appends what [`Self::of`] returns for the first `count` of `numbers`, up to the first one for which that is not known.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn append(_: Avx2, numbers: &Several, count: usize, values: &mut Aligned<Self::Stored>) {
        for index in 0..count {
            let Some(value) = Self::of(numbers.get(index)) else { return };
            values.push(value);
        }
    }
}

macro_rules! integers {
    ($($type:ty, $dtype:ident, $value:ident => $stored:expr;)*) => {$(
        impl Value for $type {
            const DTYPE: DType = DType::$dtype;
            type Stored = $type;

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
    type Stored = u64;

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
    type Stored = f64;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<f64> {
        Some(cursor.number().ok()?.as_f64())
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<f64> {
        Some(number.as_f64())
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn append(avx2: Avx2, numbers: &Several, count: usize, values: &mut Aligned<f64>) {
        values.extend_from_slice(&doubles(avx2, numbers, count)[..count]);
    }
}

impl Value for f32 {
    const DTYPE: DType = DType::Float;
    type Stored = f32;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<f32> {
        Some(flushed_f32(cursor.number().ok()?.as_f64()))
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<f32> {
        // Never subnormal: it has less than 24 digits after the point.
        Some(number.as_f64() as f32)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn append(avx2: Avx2, numbers: &Several, count: usize, values: &mut Aligned<f32>) {
        values.extend_from_slice(&singles(avx2, numbers, count)[..count]);
    }
}

impl Value for bool {
    const DTYPE: DType = DType::Bool;
    type Stored = bool;

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

impl<N: Narrow> Value for N {
    const DTYPE: DType = N::DTYPE;
    type Stored = u16;

    #[inline(always)]
    fn read(cursor: &mut Cursor<'_>) -> Option<u16> {
        let start = cursor.at;
        let value = cursor.number().ok()?.as_f64();
        Some(nearest::<N>(value).unwrap_or_else(|| nearest_to_text::<N>(&cursor.text[start..cursor.at])))
    }

    #[inline(always)]
    fn of(number: ShortNumber) -> Option<u16> {
        nearest::<N>(number.as_f64())
    }
}

/// After a number that is long, this many are read one by one: lists tend to have numbers of one kind.
const LONG: usize = 15;

/// A sequence of numbers or truth values.
pub(super) struct Numbers<T: Value> {
    pub(super) values: Aligned<T::Stored>,
    /// Offset of the first value in the text; set once storage has been reserved.
    start: Option<usize>,
    alone: bool,
    /// Bytes between two numbers, as found last: a comma, or a comma and a space.
    gap: usize,
    /// How many elements to read without trying [`short_number`] first, because the last try was in vain.
    long: usize,
    #[cfg(target_arch = "x86_64")]
    avx2: Option<Avx2>,
    /// Room for numbers that are read at once, made by the first text that is long enough.
    #[cfg(target_arch = "x86_64")]
    several: Option<Box<Several>>,
}

impl<T: Value> Numbers<T> {
    pub(super) fn new(alone: bool) -> Numbers<T> {
        Numbers {
            values: AVec::new(64),
            start: None,
            alone,
            gap: 1,
            long: 0,
            #[cfg(target_arch = "x86_64")]
            avx2: Level::new().as_avx2(),
            #[cfg(target_arch = "x86_64")]
            several: None,
        }
    }

    /// Returns the values of all `parts` in order.
    pub(super) fn joined(parts: Vec<Numbers<T>>) -> Aligned<T::Stored> {
        let mut values = AVec::with_capacity(64, parts.iter().map(|part| part.values.len()).sum());
        for part in parts {
            values.extend_from_slice(&part.values);
        }
        values
    }

    /// Consumes and appends the number here if it is short.
    #[inline(always)]
    fn push_short(&mut self, cursor: &mut Cursor<'_>) -> bool {
        let number = short_number(cursor.text, cursor.at);
        let Some((number, value)) = number.and_then(|number| Some((number, T::of(number)?))) else {
            return false;
        };
        if self.values.len() == self.values.capacity() {
            self.grow(cursor);
        }
        self.values.push(value);
        cursor.at = number.end;
        true
    }

    /// Makes room for `count` values.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn make_room(&mut self, cursor: &Cursor<'_>, count: usize) {
        if self.values.capacity() - self.values.len() < count {
            self.grow(cursor);
            // What that guesses may be less.
            self.values.reserve(count);
        }
    }

    /// Returns AVX2, if there is enough text for it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn avx2_for(&self, cursor: &Cursor<'_>) -> Option<Avx2> {
        self.avx2.filter(|_| cursor.at + LEAST_TEXT <= cursor.text.len())
    }

    /// Consumes and appends as many short numbers as can be read at once.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn push_several(&mut self, cursor: &mut Cursor<'_>) -> bool {
        let Some(avx2) = self.avx2_for(cursor) else { return false };
        let mut numbers = self.several.take().unwrap_or_default();
        let between = Between { gap: self.gap, row: 0 };
        let count = several(avx2, cursor.text, cursor.at, between, &mut numbers);
        self.make_room(cursor, count);
        let before = self.values.len();
        T::append(avx2, &numbers, count, &mut self.values);
        let last = (self.values.len() - before).checked_sub(1).map(|last| numbers.get(last));
        self.several = Some(numbers);
        let Some(last) = last else { return false };
        cursor.at = last.end;
        true
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn push_several(&mut self, _: &mut Cursor<'_>) -> bool {
        false
    }

    /// Looks at what is between the number at the cursor and the next one. Returns whether that is not what was expected;
    /// from now on, it is.
    #[cold]
    fn takes_other_gap(&mut self, cursor: &Cursor<'_>) -> bool {
        /// A number that is read at once, and what follows it, are shorter.
        const NEAR: usize = 32;
        let near = &cursor.text[cursor.at..cursor.text.len().min(cursor.at + NEAR)];
        let Some(comma) = near.iter().position(|byte| *byte == b',') else { return false };
        let gap = if near.get(comma + 1) == Some(&b' ') { 2 } else { 1 };
        std::mem::replace(&mut self.gap, gap) != gap
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
        if self.long > 0 {
            self.long -= 1;
            return 0;
        }
        let before = self.values.len();
        let mut next = *cursor;
        while self.push_several(&mut next) || self.push_short(&mut next) {
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
        // Long numbers are read only together with what follows them.
        self.long = if read == 0 && !self.takes_other_gap(cursor) { LONG } else { 0 };
        read
    }

    #[cfg(target_arch = "x86_64")]
    fn push_rows(&mut self, cursor: &mut Cursor<'_>, width: usize) -> usize {
        /// Longer ones gain nothing.
        const LONGEST: usize = 16;
        let mut rows = 0;
        let Some(avx2) = self.avx2_for(cursor).filter(|_| self.long == 0 && (1..=LONGEST).contains(&width))
        else {
            return 0;
        };
        let mut numbers = self.several.take().unwrap_or_default();
        let next_row: &[u8] = if self.gap == 2 { b", [" } else { b",[" };
        let mut start = cursor.at + 1;
        loop {
            let between = Between { gap: self.gap, row: width };
            let count = several(avx2, cursor.text, start, between, &mut numbers) / width * width;
            if count == 0 || !self.push_row_values(cursor, avx2, &numbers, count) {
                break;
            }
            rows += count / width;
            if !cursor.text[cursor.at..].starts_with(next_row) {
                break;
            }
            start = cursor.at + next_row.len();
        }
        self.several = Some(numbers);
        rows
    }
}

#[cfg(target_arch = "x86_64")]
impl<T: Value> Numbers<T> {
    /// Appends the first `count` numbers that were read at once, and consumes them and the bracket after them; or does
    /// neither.
    fn push_row_values(
        &mut self,
        cursor: &mut Cursor<'_>,
        avx2: Avx2,
        numbers: &Several,
        count: usize,
    ) -> bool {
        let end = numbers.get(count - 1).end;
        if cursor.text.get(end) != Some(&b']') {
            return false;
        }
        self.make_room(cursor, count);
        let before = self.values.len();
        T::append(avx2, numbers, count, &mut self.values);
        if self.values.len() < before + count {
            self.values.truncate(before);
            return false;
        }
        cursor.at = end + 1;
        true
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
            && let Some(parts) = parts::fill(reader, cursor, spare, parts::LEAST, || Numbers::<T>::new(true))
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
