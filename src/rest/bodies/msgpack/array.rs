//! A whole array in MessagePack: a map of dtype, shape and data.

use super::reader::{Reader, Token};
use crate::error::Result;
use crate::memory::Reservation;
use crate::rest::bodies::elements::Elements;
use crate::rest::bodies::npy;
use crate::tensor::{Shape, Strings, Tensor, element_count, is_representable};
use bytes::Bytes;

/// Most dimensions, as in numpy.
const MOST_DIMENSIONS: usize = 64;

/// A map that is an array.
#[derive(Clone, Copy)]
pub(super) struct Array<'a> {
    dtype: &'a str,
    /// Where its shape is; `None` for msgpack-numpy's numbers.
    shape: Option<Reader<'a>>,
    /// Where its data are.
    data: Reader<'a>,
    /// True if it is as msgpack-numpy writes it.
    pub(super) is_numpy: bool,
}

impl<'a> Array<'a> {
    /// Consumes the array here; does nothing and returns `None` if there is something else.
    ///
    /// An array is a map of nothing but the keys here, of which `data` is a text or, for strings, a list, and `dtype` a text.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Option<Array<'a>>> {
        let mut ahead = *reader;
        let Token::Map(count) = ahead.token()? else { return Ok(None) };
        let (mut dtype, mut shape, mut data, mut numpy, mut plain) = (None, None, None, None, true);
        for _ in 0..count {
            let Token::Bytes(key) = ahead.token()? else { return Ok(None) };
            let mut value = ahead;
            match key {
                b"dtype" | b"type" => dtype = Some(value.token()?),
                b"shape" => shape = Some(value),
                b"data" => data = Some(value),
                b"nd" => numpy = Some(value.token()?),
                // Records and objects have one.
                b"kind" => plain = value.token()? == Token::Bytes(b""),
                _ => return Ok(None),
            }
            ahead.skip()?;
        }
        let (Some(Token::Bytes(dtype)), Some(data)) = (dtype, data) else { return Ok(None) };
        let is_numpy = matches!(numpy, Some(Token::Bool(_)));
        if shape.is_none() && !is_numpy {
            return Ok(None);
        }
        if !plain {
            return Err(reader.fault("the array holds records or Python objects: send numbers"));
        }
        let dtype = std::str::from_utf8(dtype).map_err(|_| reader.fault("the array's dtype is no text"))?;
        *reader = ahead;
        Ok(Some(Array { dtype, shape, data, is_numpy }))
    }

    /// Returns whether an array is here.
    pub(super) fn is_at(mut reader: Reader<'a>) -> Result<bool> {
        Ok(Array::read(&mut reader)?.is_some())
    }

    /// Makes its tensor, whose numbers are borrowed from `body`, in which it stands.
    pub(super) fn tensor(&self, body: &Bytes, memory: &Reservation) -> Result<Tensor> {
        let shape = self.shape.map_or_else(|| Ok(Shape::new()), dimensions)?;
        let mut data = self.data;
        let token = data.token()?;
        if let Some(bytes) = token.bytes().filter(|_| self.dtype != "string") {
            return npy::tensor(Elements::named(self.dtype)?, shape, body.slice_ref(bytes), memory);
        }
        let is_whole = |count: &usize| {
            self.dtype == "string" && is_representable(&shape) && element_count(&shape) == Some(*count)
        };
        let Some(count) = token.list().filter(is_whole) else {
            return Err(self.data.fault(
                "the data of an array are the bytes of its elements; those of dtype string are a list with as many \
                 texts as the shape says",
            ));
        };
        let mut end = self.data;
        end.skip()?;
        memory.grow(2 * (end.at - self.data.at) + 64 * count)?;
        let text = |_| {
            let at = data;
            data.token()?.bytes().ok_or_else(|| at.fault("expected a text or bytes"))
        };
        let strings: Strings = (0..count).map(text).collect::<Result<Vec<_>>>()?.into_iter().collect();
        Ok(Tensor::strings(shape, strings))
    }
}

/// Reads a list of dimensions.
fn dimensions(mut reader: Reader<'_>) -> Result<Shape> {
    let start = reader;
    let fault = || start.fault("expected the shape, a list of whole numbers that are not negative");
    let count = reader.token()?.list().filter(|count| *count <= MOST_DIMENSIONS).ok_or_else(fault)?;
    let dimension = |_| {
        let Token::Int(dim) = reader.token()? else { return Err(fault()) };
        if dim < 0 { Err(fault()) } else { Ok(dim) }
    };
    (0..count).map(dimension).collect()
}
