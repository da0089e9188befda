//! Tensors: dtype, shape and shared bytes; and the one table of dtypes.
//!
//! Numbers are row-major and little-endian in a [`Bytes`], so a tensor can own its memory, borrow a request's buffer or
//! keep an engine's tensor alive, and is cheap to clone. Strings are back to back in one [`Bytes`], with the end of
//! each.

use aligned_vec::{AVec, ConstAlign};
use bytes::Bytes;
use smallvec::SmallVec;
use std::ops::Range;

/// Element types; the numbers are those of `tensorflow.DataType` (docs/spec/grpc.md section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)] // The names are TensorFlow's.
pub enum DType {
    Invalid = 0,
    Float = 1,
    Double = 2,
    Int32 = 3,
    UInt8 = 4,
    Int16 = 5,
    Int8 = 6,
    String = 7,
    Complex64 = 8,
    Int64 = 9,
    Bool = 10,
    QInt8 = 11,
    QUInt8 = 12,
    QInt32 = 13,
    BFloat16 = 14,
    QInt16 = 15,
    QUInt16 = 16,
    UInt16 = 17,
    Complex128 = 18,
    Half = 19,
    Resource = 20,
    Variant = 21,
    UInt32 = 22,
    UInt64 = 23,
    Float8E5M2 = 24,
    Float8E4M3Fn = 25,
    Float8E4M3Fnuz = 26,
    Float8E4M3B11Fnuz = 27,
    Float8E5M2Fnuz = 28,
    Int4 = 29,
    UInt4 = 30,
    Int2 = 31,
    UInt2 = 32,
    Float4E2M1Fn = 33,
}

/// dtype, `DT_` name, name in messages, bytes per element (0: not plain numbers), ordered by number. The 4- and 2-bit
/// types take one byte each in TensorFlow's memory.
const TABLE: [(DType, &str, &str, usize); 34] = [
    (DType::Invalid, "DT_INVALID", "INVALID", 0),
    (DType::Float, "DT_FLOAT", "float", 4),
    (DType::Double, "DT_DOUBLE", "double", 8),
    (DType::Int32, "DT_INT32", "int32", 4),
    (DType::UInt8, "DT_UINT8", "uint8", 1),
    (DType::Int16, "DT_INT16", "int16", 2),
    (DType::Int8, "DT_INT8", "int8", 1),
    (DType::String, "DT_STRING", "string", 0),
    (DType::Complex64, "DT_COMPLEX64", "complex64", 8),
    (DType::Int64, "DT_INT64", "int64", 8),
    (DType::Bool, "DT_BOOL", "bool", 1),
    (DType::QInt8, "DT_QINT8", "qint8", 1),
    (DType::QUInt8, "DT_QUINT8", "quint8", 1),
    (DType::QInt32, "DT_QINT32", "qint32", 4),
    (DType::BFloat16, "DT_BFLOAT16", "bfloat16", 2),
    (DType::QInt16, "DT_QINT16", "qint16", 2),
    (DType::QUInt16, "DT_QUINT16", "quint16", 2),
    (DType::UInt16, "DT_UINT16", "uint16", 2),
    (DType::Complex128, "DT_COMPLEX128", "complex128", 16),
    (DType::Half, "DT_HALF", "half", 2),
    (DType::Resource, "DT_RESOURCE", "resource", 0),
    (DType::Variant, "DT_VARIANT", "variant", 0),
    (DType::UInt32, "DT_UINT32", "uint32", 4),
    (DType::UInt64, "DT_UINT64", "uint64", 8),
    (DType::Float8E5M2, "DT_FLOAT8_E5M2", "float8_e5m2", 1),
    (DType::Float8E4M3Fn, "DT_FLOAT8_E4M3FN", "float8_e4m3fn", 1),
    (DType::Float8E4M3Fnuz, "DT_FLOAT8_E4M3FNUZ", "float8_e4m3fnuz", 1),
    (DType::Float8E4M3B11Fnuz, "DT_FLOAT8_E4M3B11FNUZ", "float8_e4m3b11fnuz", 1),
    (DType::Float8E5M2Fnuz, "DT_FLOAT8_E5M2FNUZ", "float8_e5m2fnuz", 1),
    (DType::Int4, "DT_INT4", "int4", 1),
    (DType::UInt4, "DT_UINT4", "uint4", 1),
    (DType::Int2, "DT_INT2", "int2", 1),
    (DType::UInt2, "DT_UINT2", "uint2", 1),
    (DType::Float4E2M1Fn, "DT_FLOAT4_E2M1FN", "float4_e2m1fn", 1),
];

impl DType {
    /// Returns the dtype with TensorFlow's number `number`; reference types (`n + 100`) map to their value type.
    pub fn from_number(number: i32) -> Option<DType> {
        let plain = if number > 100 { number - 100 } else { number };
        TABLE.get(usize::try_from(plain).ok()?).map(|row| row.0)
    }

    /// Returns the name used in messages: `float`, `int32`, `string`, …
    pub fn name(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// Returns the name used in protos: `DT_FLOAT`, …
    pub fn proto_name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Returns the bytes per element; 0 for strings, resources and variants.
    pub fn size(self) -> usize {
        TABLE[self as usize].3
    }
}

/// Growing storage for a tensor's numbers, aligned to 64 bytes as TensorFlow requires, so that it is not copied again.
pub type Aligned<T> = AVec<T, ConstAlign<64>>;

/// Returns `bytes` in the pieces in which large blocks are to be copied.
///
/// The C library copies longer ones by `rep movsb`, which AMD's processors do twenty times slower where the target lies
/// 1 to 31 bytes after the source modulo 4,096 (16 KB: 5.5 µs instead of 0.3). It depends on a client's headers whether
/// it does.
pub fn pieces(bytes: &[u8]) -> std::slice::Chunks<'_, u8> {
    /// Below the least length from which the C library does so: 2,112 bytes.
    const PIECE: usize = 2048;
    bytes.chunks(PIECE)
}

/// Appends `bytes`, however many, without what [`pieces`] avoids.
pub fn append(values: &mut Aligned<u8>, bytes: &[u8]) {
    values.reserve(bytes.len());
    pieces(bytes).for_each(|piece| values.extend_from_slice(piece));
}

/// The values of a tensor.
#[derive(Clone, Debug)]
pub enum Data {
    /// Row-major, little-endian numbers; `elements × dtype.size()` bytes.
    Numbers(Bytes),
    /// The elements of a string tensor.
    Strings(Strings),
}

/// Byte strings stored back to back. Element `i` spans `ends[i-1]..ends[i]`.
#[derive(Clone, Debug, Default)]
pub struct Strings {
    bytes: Bytes,
    ends: Vec<usize>,
}

impl Strings {
    /// Takes `bytes`, cut at `ends`.
    ///
    /// # Panics
    /// If `ends` is not ascending or does not end at the length of `bytes` (a fault of the caller's code).
    pub fn new(bytes: impl Into<Bytes>, ends: Vec<usize>) -> Strings {
        let bytes = bytes.into();
        assert!(ends.is_sorted() && ends.last().copied().unwrap_or(0) == bytes.len());
        Strings { bytes, ends }
    }

    /// Returns the number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns element `index`.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Returns the bytes of memory the strings take, including the copy that an engine makes of each.
    fn memory(&self) -> usize {
        /// Bytes that TensorFlow needs per string besides its content (`TF_TString`).
        const ENGINES: usize = 24;
        2 * self.bytes.len() + self.ends.len() * (size_of::<usize>() + ENGINES)
    }

    /// Returns the elements in `range`, without copying their bytes.
    fn slice(&self, range: Range<usize>) -> Strings {
        let end_of = |index: usize| index.checked_sub(1).map_or(0, |last| self.ends[last]);
        let (start, end) = (end_of(range.start), end_of(range.end));
        let ends = self.ends[range].iter().map(|end| end - start).collect();
        Strings { bytes: self.bytes.slice(start..end), ends }
    }

    /// Iterates over all elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl<S: AsRef<[u8]>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(items: I) -> Strings {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for item in items {
            bytes.extend_from_slice(item.as_ref());
            ends.push(bytes.len());
        }
        Strings::new(bytes, ends)
    }
}

/// Dimensions, outermost first; up to four need no allocation.
pub type Shape = SmallVec<[i64; 4]>;

/// dtype, shape (outermost dimension first, `[]` for a scalar) and values. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    data: Data,
}

impl Tensor {
    /// Makes a tensor of the numbers in `bytes` (row-major, little-endian).
    ///
    /// # Panics
    /// If the length of `bytes` is not `product(shape) × dtype.size()` (a fault of the caller's code).
    pub fn numbers(dtype: DType, shape: impl Into<Shape>, bytes: Bytes) -> Tensor {
        let shape = shape.into();
        assert_eq!(element_count(&shape).and_then(|n| n.checked_mul(dtype.size())), Some(bytes.len()));
        Tensor { dtype, shape, data: Data::Numbers(bytes) }
    }

    /// Makes a tensor that takes over the storage of `values`, without a copy.
    pub fn from_values<T: bytemuck::NoUninit + Send + 'static>(
        dtype: DType,
        shape: impl Into<Shape>,
        values: Aligned<T>,
    ) -> Tensor {
        Tensor::numbers(dtype, shape, Bytes::from_owner(Values(values)))
    }

    /// Makes a tensor of byte strings.
    ///
    /// # Panics
    /// If the number of strings is not `product(shape)` (a fault of the caller's code).
    pub fn strings(shape: impl Into<Shape>, strings: Strings) -> Tensor {
        let shape = shape.into();
        assert_eq!(element_count(&shape), Some(strings.len()));
        Tensor { dtype: DType::String, shape, data: Data::Strings(strings) }
    }

    /// Returns the element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the shape, outermost dimension first.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Returns the values.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Returns the raw numbers; empty for strings.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Numbers(bytes) => bytes,
            Data::Strings(_) => &[],
        }
    }

    /// Returns the strings of a string tensor.
    pub fn as_strings(&self) -> Option<&Strings> {
        match &self.data {
            Data::Numbers(_) => None,
            Data::Strings(strings) => Some(strings),
        }
    }

    /// Returns the first dimension; 0 for a scalar.
    pub fn row_count(&self) -> usize {
        self.shape.first().map_or(0, |rows| usize::try_from(*rows).unwrap_or(0))
    }

    /// Returns the rows in `range` of the first dimension, without a copy.
    ///
    /// # Panics
    /// If there are not enough rows, or for a scalar (a fault of the caller's code).
    pub fn rows(&self, range: Range<usize>) -> Tensor {
        let row = element_count(&self.shape[1..]).unwrap_or(0);
        let mut shape = self.shape.clone();
        #[allow(clippy::cast_possible_wrap)] // A tensor in memory.
        let rows = range.len() as i64;
        shape[0] = rows;
        let elements = range.start * row..range.end * row;
        let data = match &self.data {
            Data::Numbers(bytes) => {
                let size = self.dtype.size();
                Data::Numbers(bytes.slice(elements.start * size..elements.end * size))
            }
            Data::Strings(strings) => Data::Strings(strings.slice(elements)),
        };
        Tensor { dtype: self.dtype, shape, data }
    }

    /// Returns the bytes of memory that the elements take.
    pub fn memory(&self) -> usize {
        match &self.data {
            Data::Numbers(bytes) => bytes.len(),
            Data::Strings(strings) => strings.memory(),
        }
    }

    /// Returns the tensor in memory of its own: it may be a small part of a large body or batch.
    pub fn copied(&self) -> Tensor {
        match &self.data {
            Data::Strings(strings) => Tensor::strings(self.shape.clone(), strings.iter().collect()),
            Data::Numbers(bytes) => {
                let mut values: Aligned<u8> = Aligned::new(64);
                append(&mut values, bytes);
                Tensor::from_values(self.dtype, self.shape.clone(), values)
            }
        }
    }

    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).unwrap_or(0)
    }

    /// Returns whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Returns the product of `shape`, or `None` if a dimension is negative or the product overflows `usize`.
pub fn element_count(shape: &[i64]) -> Option<usize> {
    // Fails on overflow even if a later dimension is zero: TensorFlow, too, checks the product step by step.
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?))
}

/// Returns whether engines can hold `shape`: its dimensions must not overflow, even if another one is 0.
pub fn is_representable(shape: &[i64]) -> bool {
    shape.iter().filter(|dim| **dim != 0).try_fold(1i64, |product, dim| product.checked_mul(*dim)).is_some()
}

/// Lets `Bytes` own a typed, aligned vector.
struct Values<T>(Aligned<T>);

impl<T: bytemuck::NoUninit> AsRef<[u8]> for Values<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self.0.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_numbers() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
        }
        assert_eq!(DType::from_number(101), Some(DType::Float));
        assert_eq!(DType::from_number(34), None);
        assert_eq!(DType::from_number(-1), None);
    }

    #[test]
    fn large_blocks_are_appended_whole_and_in_short_pieces() {
        let bytes: Vec<u8> = (0..5000u32).map(|index| index.to_le_bytes()[0]).collect();
        for length in [0, 1, 2047, 2048, 2049, 5000] {
            let mut values: Aligned<u8> = Aligned::new(64);
            append(&mut values, &bytes[..3]);
            append(&mut values, &bytes[..length]);
            assert_eq!(values[..], [&bytes[..3], &bytes[..length]].concat());
            assert!(pieces(&bytes[..length]).all(|piece| piece.len() < 2112));
        }
    }

    #[test]
    fn values_are_taken_over_aligned() {
        let mut values: Aligned<f32> = AVec::new(64);
        values.extend_from_slice(&[1.0, 2.0]);
        let tensor = Tensor::from_values(DType::Float, vec![2], values);
        assert_eq!(tensor.bytes(), [0, 0, 128, 63, 0, 0, 0, 64]);
        assert_eq!(tensor.bytes().as_ptr() as usize % 64, 0);
    }

    #[test]
    fn strings_are_cut_where_they_end() {
        let strings: Strings = ["a", "", "bc"].into_iter().collect();
        assert_eq!(strings.iter().collect::<Vec<_>>(), [b"a".as_slice(), b"", b"bc"]);
    }

    #[test]
    fn rows_are_cut_out() {
        let tensor = Tensor::numbers(DType::UInt8, vec![3, 2], Bytes::from_static(&[1, 2, 3, 4, 5, 6]));
        assert_eq!((tensor.rows(1..3).shape(), tensor.rows(1..3).bytes()), (&[2, 2][..], &[3, 4, 5, 6][..]));
        assert_eq!((tensor.rows(3..3).shape(), tensor.rows(3..3).bytes()), (&[0, 2][..], &[][..]));
        let tensor = Tensor::strings(vec![2, 2], ["a", "", "bc", "d"].into_iter().collect());
        let row = tensor.rows(1..2);
        assert_eq!(row.as_strings().unwrap().iter().collect::<Vec<_>>(), [b"bc".as_slice(), b"d"]);
        assert_eq!(tensor.rows(0..0).as_strings().unwrap().len(), 0);
    }

    #[test]
    fn counts_refuse_overflow_and_negatives() {
        assert_eq!(element_count(&[]), Some(1));
        assert_eq!(element_count(&[2, 0]), Some(0));
        assert_eq!(element_count(&[-1]), None);
        assert_eq!(element_count(&[i64::MAX, i64::MAX]), None);
    }
}
