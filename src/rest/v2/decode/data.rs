//! The data of an input in JSON: flat, or nested as its shape.

use crate::error::{Error, Result};
use crate::json::base64::decode_base64;
use crate::json::column::column;
use crate::json::cursor::{Cursor, Type};
use crate::json::dense::{DenseReader, ElementFault, Elements};
use crate::memory::Reservation;
use crate::open_inference::inputs::Expected;
use crate::open_inference::{datatype, refusal};
use crate::parallel::Spare;
use crate::tensor::{Aligned, DType, Strings, Tensor};
use bytemuck::NoUninit;

/// Reads the data of one input after the other.
pub(super) struct JsonData<'r> {
    reader: DenseReader,
    /// True if there is only one input, for which room may be reserved.
    alone: bool,
    spare: &'r dyn Spare,
}

impl<'r> JsonData<'r> {
    /// Refuses more than `depth` levels of lists.
    pub(super) fn new(depth: usize, alone: bool, spare: &'r dyn Spare) -> JsonData<'r> {
        JsonData { reader: DenseReader::new(depth), alone, spare }
    }

    /// Consumes the value here and makes the tensor that is expected. `base64`: strings are that.
    pub(super) fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        expected: Expected<'_>,
        base64: bool,
        memory: &Reservation,
    ) -> Result<Tensor> {
        let dtype = expected.spec.dtype;
        let tensor = if dtype == DType::String && base64 {
            self.base64(cursor, &expected)?
        } else if let Some((_, narrowed)) = NARROW.iter().find(|(narrow, _)| *narrow == dtype) {
            narrowed(&self.numbers(cursor, &expected, DType::Int32)?, &expected)?
        } else {
            self.numbers(cursor, &expected, dtype)?
        };
        // Bounded by the body: a number takes at least two characters and at most eight bytes.
        memory.grow(tensor.memory())?;
        Ok(tensor)
    }

    /// Reads what the columns of TensorFlow Serving's API read: numbers, truth values, strings.
    fn numbers(&mut self, cursor: &mut Cursor<'_>, expected: &Expected<'_>, dtype: DType) -> Result<Tensor> {
        let mut column = column(dtype, self.alone);
        column
            .fill_together(&mut self.reader, cursor, self.spare)
            .map_err(|fault| fault.explain(cursor.text, dtype))?;
        self.check(expected, column.len())?;
        let shape: Vec<usize> = expected.shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
        Ok(column.finish(&shape))
    }

    fn base64(&mut self, cursor: &mut Cursor<'_>, expected: &Expected<'_>) -> Result<Tensor> {
        let mut texts = Base64::default();
        self.reader.fill(cursor, &mut texts).map_err(|fault| fault.explain(cursor.text, DType::String))?;
        self.check(expected, texts.ends.len())?;
        expected.of_strings(Strings::new(texts.bytes, texts.ends))
    }

    /// Checks the number of elements read, and their nesting unless they are flat.
    fn check(&self, expected: &Expected<'_>, count: usize) -> Result<()> {
        if count != expected.count {
            return Err(refusal::wrong_count(&expected.spec.alias, expected.count, count));
        }
        let nested = self.reader.shape();
        let is_same = || {
            nested.len() == expected.shape.len()
                && nested.iter().zip(&expected.shape).all(|(one, other)| i64::try_from(*one) == Ok(*other))
        };
        // Of empty lists, the inner ones are not there.
        if nested.len() <= 1 || count == 0 || is_same() {
            return Ok(());
        }
        let nested: Vec<i64> = nested.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect();
        Err(Error::invalid(format!(
            "the data of input '{}' is nested as {}, but its shape is {}: nest it so, or not at all",
            refusal::shown(&expected.spec.alias),
            refusal::shape_text(&nested),
            refusal::shape_text(&expected.shape)
        )))
    }
}

/// Makes the tensor that is expected of numbers of 32 bits.
type Narrowed = fn(&Tensor, &Expected<'_>) -> Result<Tensor>;

/// Numbers of fewer bits. TensorFlow Serving's API keeps the low bits of what is beyond their range, and knows nothing of
/// the first.
const NARROW: [(DType, Narrowed); 4] = [
    (DType::UInt16, narrowed::<u16>),
    (DType::Int16, narrowed::<i16>),
    (DType::UInt8, narrowed::<u8>),
    (DType::Int8, narrowed::<i8>),
];

fn narrowed<T>(tensor: &Tensor, expected: &Expected<'_>) -> Result<Tensor>
where
    T: TryFrom<i32> + NoUninit + Send + 'static,
{
    let (spec, mut narrow) = (expected.spec, Aligned::<T>::with_capacity(64, tensor.len()));
    for number in tensor.bytes().as_chunks::<4>().0 {
        let number = i32::from_le_bytes(*number);
        narrow.push(T::try_from(number).map_err(|_| {
            let (name, datatype) = (refusal::shown(&spec.alias), datatype::any_name(spec.dtype));
            Error::invalid(format!("input '{name}' has the element {number}, which is no {datatype}"))
        })?);
    }
    Ok(Tensor::from_values(spec.dtype, expected.shape.clone(), narrow))
}

/// Byte strings whose texts are base64.
#[derive(Default)]
struct Base64 {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Elements for Base64 {
    fn push(&mut self, cursor: &mut Cursor<'_>) -> std::result::Result<(), ElementFault> {
        if cursor.value_type() != Type::String {
            return Err(ElementFault::Type);
        }
        let text = cursor.string().map_err(|_| ElementFault::Type)?;
        decode_base64(text, &mut self.bytes).map_err(|_| ElementFault::Base64)?;
        self.ends.push(self.bytes.len());
        Ok(())
    }
}
