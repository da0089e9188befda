//! The inputs of a request, checked against the signature.

use super::{datatype, refusal, strings};
use crate::engine::signature::{Signature, TensorSpec};
use crate::error::Result;
use crate::memory::Reservation;
use crate::tensor::{DType, Shape, Strings, Tensor, element_count};
use bytes::Bytes;

/// TensorFlow's own limit on the number of dimensions.
pub const MAX_RANK: usize = 254;

/// The inputs of a request for one signature, as they come.
pub struct Inputs<'s> {
    /// As the client calls it, for errors.
    model: &'s str,
    signature: &'s Signature,
    /// By position in the signature.
    tensors: Vec<Option<Tensor>>,
}

/// An input that the signature has, whose data is not read yet.
#[derive(Clone, Debug)]
pub struct Expected<'s> {
    /// What the signature says of it.
    pub spec: &'s TensorSpec,
    /// Its shape in the request.
    pub shape: Shape,
    /// The number of its elements.
    pub count: usize,
    index: usize,
}

impl<'s> Inputs<'s> {
    /// Starts without any. `model`: as the client calls it.
    pub fn new(model: &'s str, signature: &'s Signature) -> Inputs<'s> {
        Inputs { model, signature, tensors: vec![None; signature.inputs.len()] }
    }

    /// Checks the description of an input, which must be one of the signature's that was not put before.
    pub fn expect(&self, name: &str, datatype: &str, shape: &[i64]) -> Result<Expected<'s>> {
        let Some(index) = self.signature.input(name) else {
            return Err(refusal::unknown_input(self.model, name, self.signature));
        };
        if self.tensors[index].is_some() {
            return Err(refusal::input_twice(name));
        }
        let spec = &self.signature.inputs[index];
        let dtype = datatype::named(datatype).ok_or_else(|| refusal::unknown_datatype(name, datatype))?;
        if dtype != spec.dtype {
            return Err(refusal::wrong_datatype(self.model, spec, dtype));
        }
        let count = elements(shape, dtype).ok_or_else(|| refusal::impossible_shape(name, shape))?;
        if let Some(expected) = &spec.shape
            && !fits(expected, shape)
        {
            return Err(refusal::wrong_shape(self.model, spec, expected, shape));
        }
        Ok(Expected { spec, shape: Shape::from_slice(shape), count, index })
    }

    /// Keeps the tensor of an input, which `expected` describes.
    pub fn put(&mut self, index: usize, tensor: Tensor) {
        self.tensors[index] = Some(tensor);
    }

    /// Returns a tensor for each input of the signature, in its order; the signature's own for those that were not sent.
    pub fn finish(mut self) -> Result<Vec<Tensor>> {
        let defaults = &self.signature.defaults;
        for (spec, tensor) in self.signature.inputs.iter().zip(&mut self.tensors) {
            if tensor.is_none() {
                *tensor = defaults.get(&spec.alias).cloned();
            }
        }
        let given: Vec<bool> = if self.tensors.iter().all(Option::is_some) {
            Vec::new()
        } else {
            self.tensors.iter().map(Option::is_some).collect()
        };
        let (model, signature) = (self.model, self.signature);
        let tensors: Option<Vec<Tensor>> = self.tensors.into_iter().collect();
        tensors.ok_or_else(|| refusal::missing_inputs(model, signature, &given))
    }
}

impl Expected<'_> {
    /// Returns the position of the input in the signature.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the bytes of its data in binary form; `None` for BYTES, whose lengths are in the data.
    pub fn bytes(&self) -> Option<usize> {
        // Cannot overflow: `elements` has seen to that.
        (self.spec.dtype != DType::String).then(|| self.count * self.spec.dtype.size())
    }

    /// Makes the tensor of binary data: row-major and little-endian numbers, which are borrowed, or strings after their
    /// lengths. Counts what it allocates in `memory`.
    pub fn read(self, data: Bytes, memory: &Reservation) -> Result<Tensor> {
        match self.bytes() {
            Some(expected) if expected != data.len() => {
                Err(refusal::wrong_size(&self.spec.alias, expected, data.len()))
            }
            // Any other is undefined where the engine reads it.
            Some(_) if self.spec.dtype == DType::Bool && data.iter().fold(0, |all, byte| all | byte) > 1 => {
                Err(refusal::no_truth_value(&self.spec.alias))
            }
            Some(_) => Ok(Tensor::numbers(self.spec.dtype, self.shape, data)),
            None => {
                let strings = strings::read(&data, self.count, memory)?;
                self.of_strings(
                    strings.map_err(|why| refusal::bad_strings(&self.spec.alias, self.count, why))?,
                )
            }
        }
    }

    /// Makes the tensor of strings that were read otherwise.
    pub fn of_strings(&self, strings: Strings) -> Result<Tensor> {
        if strings.len() != self.count {
            return Err(refusal::wrong_count(&self.spec.alias, self.count, strings.len()));
        }
        Ok(Tensor::strings(self.shape.clone(), strings))
    }
}

/// Returns the number of elements of a tensor of `dtype` with this shape; `None` if there is no such tensor.
fn elements(shape: &[i64], dtype: DType) -> Option<usize> {
    let count = element_count(shape).filter(|_| shape.len() <= MAX_RANK)?;
    let bytes = count.checked_mul(dtype.size().max(1))?;
    // Dimensions whose product overflows are refused even if another one is 0: engines multiply them, too.
    let product =
        shape.iter().filter(|dim| **dim != 0).try_fold(1i64, |product, dim| product.checked_mul(*dim));
    (product.is_some() && isize::try_from(bytes).is_ok()).then_some(count)
}

/// Returns whether a tensor of `shape` can be had where `expected` is declared; -1 there is any number.
fn fits(expected: &[i64], shape: &[i64]) -> bool {
    expected.len() == shape.len()
        && expected.iter().zip(shape).all(|(expected, dim)| *expected < 0 || expected == dim)
}
