//! The elements of one input while they are collected, by dtype: storage, and the tokens that each dtype accepts, which are
//! those of the JSON API.

use super::reader::{Reader, Token};
use crate::error::{Error, Result};
use crate::json::narrow::{BFloat16, Half, nearest_to_double};
use crate::tensor::{Aligned, DType, Shape, Strings, Tensor};
use aligned_vec::AVec;

/// The collected elements of one input.
pub(super) trait Column {
    /// Reads `count` elements.
    fn fill(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<()>;

    /// Appends the elements of a whole array; false if it has another dtype.
    fn extend(&mut self, tensor: &Tensor) -> bool;

    /// Makes a tensor of all elements, of which `shape` has as many.
    fn finish(self: Box<Self>, shape: Shape) -> Tensor;
}

/// Makes an empty column with room for `count` elements, which have been counted.
pub(super) fn column(dtype: DType, count: usize) -> Option<Box<dyn Column>> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only whole arrays can have other dtypes")]
    match dtype {
        DType::Float => Some(Numbers::<f32>::boxed(dtype, count)),
        DType::Double => Some(Numbers::<f64>::boxed(dtype, count)),
        DType::Half => Some(Numbers::<Bits<Half>>::boxed(dtype, count)),
        DType::BFloat16 => Some(Numbers::<Bits<BFloat16>>::boxed(dtype, count)),
        DType::Int8 => Some(Numbers::<i8>::boxed(dtype, count)),
        DType::Int16 => Some(Numbers::<i16>::boxed(dtype, count)),
        DType::Int32 => Some(Numbers::<i32>::boxed(dtype, count)),
        DType::Int64 => Some(Numbers::<i64>::boxed(dtype, count)),
        DType::UInt8 => Some(Numbers::<u8>::boxed(dtype, count)),
        DType::UInt16 => Some(Numbers::<u16>::boxed(dtype, count)),
        DType::UInt32 => Some(Numbers::<u32>::boxed(dtype, count)),
        DType::UInt64 => Some(Numbers::<u64>::boxed(dtype, count)),
        DType::Bool => Some(Numbers::<bool>::boxed(dtype, count)),
        DType::String => Some(Box::new(Texts { bytes: Vec::new(), ends: Vec::with_capacity(count) })),
        _ => None,
    }
}

/// Returns the error of a token that is no element of `dtype`.
fn no_element(at: Reader<'_>, token: Token<'_>, dtype: DType) -> Error {
    let came = match token {
        Token::Nil => "nil".to_owned(),
        Token::Bool(value) => value.to_string(),
        Token::Int(value) => value.to_string(),
        Token::Big(value) => value.to_string(),
        Token::Float(value) => value.to_string(),
        Token::Bytes(_) => "a text".to_owned(),
        Token::Array(_) => "a list where others of its depth have elements".to_owned(),
        Token::Map(_) => "a map".to_owned(),
        Token::Extension => "an extension".to_owned(),
    };
    at.fault(&format!("{came} is not of the expected type: {}", dtype.name()))
}

/// What a number in a token becomes.
trait Element {
    /// The form in which a tensor holds it.
    type Stored: bytemuck::Pod + Send;

    /// Returns the element in `token`; `None` if it is none, or out of range.
    fn of(token: Token<'_>) -> Option<Self::Stored>;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Element for $type {
            type Stored = $type;

            #[inline(always)]
            fn of(token: Token<'_>) -> Option<$type> {
                if let Token::Int(value) = token {
                    return <$type>::try_from(value).ok();
                }
                if let Token::Big(value) = token { <$type>::try_from(value).ok() } else { None }
            }
        }
    )*};
}
integers! { i8 i16 i32 i64 u8 u16 u32 u64 }

#[inline(always)]
fn double(token: Token<'_>) -> Option<f64> {
    if let Token::Float(value) = token {
        return Some(value);
    }
    if let Token::Int(value) = token {
        return Some(value as f64);
    }
    if let Token::Big(value) = token { Some(value as f64) } else { None }
}

impl Element for f64 {
    type Stored = f64;

    #[inline(always)]
    fn of(token: Token<'_>) -> Option<f64> {
        double(token)
    }
}

impl Element for f32 {
    type Stored = f32;

    #[inline(always)]
    fn of(token: Token<'_>) -> Option<f32> {
        // Whole numbers are rounded once, too.
        if let Token::Int(value) = token {
            return Some(value as f32);
        }
        if let Token::Big(value) = token {
            Some(value as f32)
        } else {
            double(token).map(|value| value as f32)
        }
    }
}

/// The bits of a float of 16.
struct Bits<N>(std::marker::PhantomData<N>);

impl<N: crate::json::narrow::Narrow> Element for Bits<N> {
    type Stored = u16;

    #[inline(always)]
    fn of(token: Token<'_>) -> Option<u16> {
        double(token).map(nearest_to_double::<N>)
    }
}

impl Element for bool {
    type Stored = u8;

    #[inline(always)]
    fn of(token: Token<'_>) -> Option<u8> {
        if let Token::Bool(value) = token { Some(u8::from(value)) } else { None }
    }
}

/// A sequence of numbers or truth values.
struct Numbers<E: Element> {
    dtype: DType,
    values: Aligned<E::Stored>,
}

impl<E: Element + 'static> Numbers<E> {
    fn boxed(dtype: DType, count: usize) -> Box<dyn Column> {
        Box::new(Numbers::<E> { dtype, values: AVec::with_capacity(64, count) })
    }
}

impl<E: Element> Column for Numbers<E> {
    fn fill(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<()> {
        for _ in 0..count {
            let at = *reader;
            let token = reader.token()?;
            let Some(value) = E::of(token) else { return Err(no_element(at, token, self.dtype)) };
            self.values.push(value);
        }
        Ok(())
    }

    fn extend(&mut self, tensor: &Tensor) -> bool {
        if tensor.dtype() != self.dtype {
            return false;
        }
        let before = self.values.len();
        self.values.resize(before + tensor.len(), bytemuck::Zeroable::zeroed());
        bytemuck::cast_slice_mut::<_, u8>(&mut self.values[before..]).copy_from_slice(tensor.bytes());
        true
    }

    fn finish(self: Box<Self>, shape: Shape) -> Tensor {
        Tensor::from_values(self.dtype, shape, self.values)
    }
}

/// A sequence of texts.
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Column for Texts {
    fn fill(&mut self, reader: &mut Reader<'_>, count: usize) -> Result<()> {
        for _ in 0..count {
            let at = *reader;
            let token = reader.token()?;
            let Some(text) = token.bytes() else { return Err(no_element(at, token, DType::String)) };
            self.bytes.extend_from_slice(text);
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    fn extend(&mut self, tensor: &Tensor) -> bool {
        let Some(strings) = tensor.as_strings() else { return false };
        for string in strings.iter() {
            self.bytes.extend_from_slice(string);
            self.ends.push(self.bytes.len());
        }
        true
    }

    fn finish(self: Box<Self>, shape: Shape) -> Tensor {
        Tensor::strings(shape, Strings::new(self.bytes, self.ends))
    }
}
