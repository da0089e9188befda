//! Values of MessagePack as tensors: whole arrays, or lists in lists, of one depth and equal lengths.

use super::array::Array;
use super::column::{Column, column};
use super::reader::Reader;
use crate::engine::signature::TensorSpec;
use crate::error::{Error, Result};
use crate::memory::Reservation;
use crate::tensor::{Shape, Tensor, element_count, is_representable};
use bytes::Bytes;
use smallvec::SmallVec;

/// What all values of a request share.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    /// The body, in which all of them stand.
    pub(super) body: &'a Bytes,
    /// Most levels of lists.
    pub(super) depth: usize,
    pub(super) memory: &'a Reservation,
}

impl Values<'_> {
    /// Consumes the value here and makes the tensor of `spec` of it. Also says whether it was an array of msgpack-numpy's.
    pub(super) fn tensor(&self, reader: &mut Reader<'_>, spec: &TensorSpec) -> Result<(Tensor, bool)> {
        if let Some(array) = Array::read(reader)? {
            return Ok((array.tensor(self.body, self.memory)?, array.is_numpy));
        }
        let mut input = self.collected(*reader, spec)?;
        let shape = nested(reader, &mut *input, self.depth)?;
        Ok((input.finish(shape), false))
    }

    /// Makes an empty column for `spec`, with room for all elements of the value at `reader`, which are counted.
    pub(super) fn collected(&self, mut reader: Reader<'_>, spec: &TensorSpec) -> Result<Box<dyn Column>> {
        self.column(spec, Extent::skip(&mut reader)?)
    }

    /// Makes an empty column for `spec`, with room for all elements of values of this `extent`, which are counted.
    pub(super) fn column(&self, spec: &TensorSpec, extent: Extent) -> Result<Box<dyn Column>> {
        let Extent { count, bytes } = extent;
        match spec.dtype.size() {
            // The bytes, once here and once for the engine, and what is needed for each string.
            0 => self.memory.grow(2 * bytes + 32 * count)?,
            size => self.memory.grow(size * count)?,
        }
        column(spec.dtype, count).ok_or_else(|| {
            Error::invalid(format!(
                "the input {:?} is of dtype {}, which lists cannot hold: send an array (dtype, shape, data)",
                spec.alias,
                spec.dtype.name()
            ))
        })
    }
}

/// How much values take in a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extent {
    /// The values, without the lists and maps that they are in.
    count: usize,
    bytes: usize,
}

impl Extent {
    /// Consumes a value with all that is in it.
    pub(super) fn skip(reader: &mut Reader<'_>) -> Result<Extent> {
        let start = reader.at;
        let count = reader.skip()?;
        Ok(Extent { count, bytes: reader.at - start })
    }

    /// Returns that of both together.
    pub(super) fn and(self, other: Extent) -> Extent {
        Extent { count: self.count + other.count, bytes: self.bytes + other.bytes }
    }
}

/// Rows of one input, one after the other.
pub(super) struct Rows<'s> {
    spec: &'s TensorSpec,
    column: Box<dyn Column>,
    /// The shape of the first row, which all others must have.
    first: Option<Shape>,
    count: usize,
}

impl<'s> Rows<'s> {
    pub(super) fn new(spec: &'s TensorSpec, column: Box<dyn Column>) -> Rows<'s> {
        Rows { spec, column, first: None, count: 0 }
    }

    /// Consumes the next row. Also says whether it was an array of msgpack-numpy's.
    pub(super) fn take(&mut self, values: &Values<'_>, reader: &mut Reader<'_>) -> Result<bool> {
        let start = *reader;
        let (shape, is_numpy) = match Array::read(reader)? {
            Some(array) => {
                let tensor = array.tensor(values.body, values.memory)?;
                values.memory.grow(tensor.memory())?;
                if !self.column.extend(&tensor) {
                    return Err(self.fault(start, &format!("is of dtype {}", tensor.dtype().name())));
                }
                (Shape::from_slice(tensor.shape()), array.is_numpy)
            }
            None => (nested(reader, &mut *self.column, values.depth)?, false),
        };
        if *self.first.get_or_insert_with(|| shape.clone()) != shape {
            return Err(self.fault(start, "has another shape than those before"));
        }
        self.count += 1;
        Ok(is_numpy)
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Returns the tensor of all rows.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if there is no such tensor: rows without elements may have dimensions of any size.
    pub(super) fn finish(self) -> Result<Tensor> {
        // A row takes a byte at least.
        let mut shape = Shape::from_slice(&[self.count as i64]);
        shape.extend(self.first.unwrap_or_default());
        if element_count(&shape).is_none() || !is_representable(&shape) {
            return Err(Error::invalid(format!(
                "the rows of the input {:?} have together the shape {shape:?}, which no tensor can have",
                self.spec.alias
            )));
        }
        Ok(self.column.finish(shape))
    }

    fn fault(&self, at: Reader<'_>, what: &str) -> Error {
        at.fault(&format!(
            "row {} of the input {:?}, expected {}, {what}",
            self.count,
            self.spec.alias,
            self.spec.dtype.name()
        ))
    }
}

/// Consumes lists in lists, or an element alone, and appends their elements; returns their shape. They have `most` levels at
/// most.
fn nested(reader: &mut Reader<'_>, column: &mut dyn Column, most: usize) -> Result<Shape> {
    let (mut shape, mut open) = (Shape::new(), SmallVec::<[usize; 8]>::new());
    // The depth of the elements, once it is known.
    let mut leaves = None;
    loop {
        let start = *reader;
        let level = open.len();
        let uneven = || start.fault("lists of different depths or lengths where an array is expected");
        let Some(count) = reader.peek()?.list() else {
            if level > 0 {
                return Err(uneven());
            }
            column.fill(reader, 1)?;
            return Ok(shape);
        };
        reader.token()?;
        if level == most {
            return Err(start.fault(&format!("lists are nested more than {most} levels deep")));
        }
        match shape.get(level) {
            None if leaves.is_some() => return Err(uneven()),
            None => shape.push(count as i64),
            Some(before) if *before != count as i64 => return Err(uneven()),
            Some(_) => {}
        }
        if count > 0 && reader.peek()?.list().is_some() {
            open.push(count);
            continue;
        }
        if count > 0 {
            if *leaves.get_or_insert(level + 1) != level + 1 || shape.len() > level + 1 {
                return Err(uneven());
            }
            column.fill(reader, count)?;
        }
        // A list has ended, and with it those of which it was the last.
        loop {
            let Some(left) = open.last_mut() else { return Ok(shape) };
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;
    use proptest::prelude::*;

    fn read(bytes: &[u8], dtype: DType, most: usize) -> Result<Tensor> {
        let body = Bytes::copy_from_slice(bytes);
        let spec = TensorSpec { alias: "x".to_owned(), tensor: "x:0".to_owned(), dtype, shape: None };
        let values = Values { body: &body, depth: most, memory: &Reservation::default() };
        let mut reader = Reader::new(&body);
        let tensor = values.tensor(&mut reader, &spec)?.0;
        assert!(reader.is_at_end());
        Ok(tensor)
    }

    #[test]
    fn lists_in_lists_become_tensors() {
        for (bytes, shape, values) in [
            (&b"\x07"[..], &[][..], &[7][..]),
            (b"\x90", &[0], &[]),
            (b"\x93\x01\x02\xff", &[3], &[1, 2, -1]),
            (b"\x92\x92\x01\x02\x92\x03\x04", &[2, 2], &[1, 2, 3, 4]),
            (b"\x92\x90\x90", &[2, 0], &[]),
            (b"\x91\x91\x91\x05", &[1, 1, 1], &[5]),
        ] {
            let tensor = read(bytes, DType::Int8, 3).unwrap();
            assert_eq!(tensor.shape(), shape, "{bytes:x?}");
            assert_eq!(bytemuck::cast_slice::<u8, i8>(tensor.bytes()), values, "{bytes:x?}");
        }
        let floats = read(b"\x92\xca\x3f\xc0\x00\x00\x02", DType::Float, 1).unwrap();
        assert_eq!(floats.bytes(), bytemuck::cast_slice::<f32, u8>(&[1.5, 2.0]));
        let half = read(b"\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", DType::Half, 1).unwrap();
        assert_eq!(half.bytes(), 0x3e00u16.to_le_bytes());
        let texts = read(b"\x92\xa1a\xc4\x02\xff\x00", DType::String, 1).unwrap();
        assert_eq!(texts.as_strings().unwrap().iter().collect::<Vec<_>>(), [&b"a"[..], b"\xff\0"]);
        assert_eq!(read(b"\x92\xc2\xc3", DType::Bool, 1).unwrap().bytes(), [0, 1]);
    }

    #[test]
    fn arrays_are_taken_whole() {
        let ours = b"\x83\xa5dtype\xa7float32\xa5shape\x92\x01\x02\xa4data\xc4\x08\0\0\x80\x3f\0\0\0\x40";
        let numpys =
            b"\x85\xc4\x02nd\xc3\xc4\x04type\xa3<f4\xc4\x04kind\xc4\x00\xc4\x05shape\x92\x01\x02\xc4\x04data\
            \xc4\x08\0\0\x80\x3f\0\0\0\x40";
        for bytes in [&ours[..], numpys] {
            let tensor = read(bytes, DType::Float, 1).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (DType::Float, &[1, 2][..]));
            assert_eq!(tensor.bytes(), bytemuck::cast_slice::<f32, u8>(&[1.0, 2.0]));
        }
        let number = b"\x83\xc4\x02nd\xc2\xc4\x04type\xa3<i2\xc4\x04data\xc4\x02\x05\0";
        assert_eq!(read(number, DType::Int16, 1).unwrap().shape(), [] as [i64; 0]);
        let strings = b"\x83\xa5dtype\xa6string\xa5shape\x91\x02\xa4data\x92\xa1a\xa2bc";
        assert_eq!(read(strings, DType::String, 1).unwrap().as_strings().unwrap().get(1), b"bc");
    }

    #[test]
    fn what_is_no_tensor_is_refused() {
        for (bytes, dtype, words) in [
            (&b"\x92\x91\x01\x02"[..], DType::Int8, "different depths"),
            (b"\x92\x01\x91\x02", DType::Int8, "a list where others"),
            (b"\x92\x91\x01\x92\x01\x02", DType::Int8, "different depths"),
            (b"\x92\x91\x01\x90", DType::Int8, "different depths"),
            (b"\x92\x90\x91\x01", DType::Int8, "different depths"),
            (b"\x92\x90\x01", DType::Int8, "different depths"),
            (b"\x92\x91\x90\x91\x01", DType::Int8, "different depths"),
            (b"\x91\x91\x91\x91\x01", DType::Int8, "more than 3 levels"),
            (b"\x91\xc0", DType::Int8, "nil is not of the expected type: int8"),
            (b"\x91\xcc\xff", DType::Int8, "255 is not of the expected type: int8"),
            (b"\x91\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", DType::Int8, "1.5 is not"),
            (b"\x91\x01", DType::Bool, "1 is not"),
            (b"\x91\xa1x", DType::Float, "a text is not"),
            (b"\x91\x01", DType::String, "1 is not"),
            (b"\x91\x80", DType::Float, "a map is not"),
            (b"\x91\x01", DType::Complex64, "send an array"),
            (
                b"\x83\xa5dtype\xa7float32\xa5shape\x91\x02\xa4data\xc4\x04\0\0\0\0",
                DType::Float,
                "takes 8 bytes",
            ),
            (
                b"\x83\xa5dtype\xa7float32\xa5shape\x91\xff\xa4data\xc4\x04\0\0\0\0",
                DType::Float,
                "not negative",
            ),
            (
                b"\x83\xa5dtype\xa7float32\xa5shape\x01\xa4data\xc4\x04\0\0\0\0",
                DType::Float,
                "a list of whole",
            ),
            (b"\x83\xa5dtype\xa6string\xa5shape\x91\x02\xa4data\x91\xa1a", DType::String, "as many texts"),
            (b"\x83\xa5dtype\xa6string\xa5shape\x91\x01\xa4data\x91\x01", DType::String, "a text or bytes"),
            (
                b"\x85\xa2nd\xc3\xa4type\xa2|O\xa4kind\xa1O\xa5shape\x91\x01\xa4data\xc4\x01x",
                DType::String,
                "Python objects",
            ),
        ] {
            let error = read(bytes, dtype, 3).unwrap_err();
            assert!(error.message.contains(words), "{bytes:x?}: {error}");
        }
    }

    proptest! {
        /// Whatever comes, what is made has no more elements than the body has bytes.
        #[test]
        fn no_value_grows(bytes in prop::collection::vec(prop_oneof![Just(0x91), Just(0x92), Just(0x90), any::<u8>()], 0..40)) {
            let body = Bytes::from(bytes);
            let spec = TensorSpec { alias: String::new(), tensor: String::new(), dtype: DType::Float, shape: None };
            let values = Values { body: &body, depth: 5, memory: &Reservation::default() };
            if let Ok((tensor, _)) = values.tensor(&mut Reader::new(&body), &spec) {
                prop_assert!(tensor.len() <= body.len());
                prop_assert!(tensor.shape().len() <= 64);
            }
        }
    }
}
