//! Converts [`Tensor`] to and from `OrtValue`, without a copy of numbers.

#![allow(unsafe_code)]

use super::failure::Failure;
use super::ffi::{OrtTensorInfo, OrtTypeInfo, OrtValue};
use super::runtime::Runtime;
use crate::error::{Error, Kind, Result};
use crate::tensor::{Aligned, DType, Data, Shape, Strings, Tensor, element_count};
use bytes::Bytes;
use std::ffi::c_int;
use std::ops::Range;
use std::ptr::{null, null_mut};

/// `ONNX_TYPE_TENSOR`.
const TENSOR: c_int = 1;

/// The types of elements that ONNX Runtime moves, by number: `ONNXTensorElementDataType` is an index.
const TYPES: [Option<DType>; 21] = [
    None,
    Some(DType::Float),
    Some(DType::UInt8),
    Some(DType::Int8),
    Some(DType::UInt16),
    Some(DType::Int16),
    Some(DType::Int32),
    Some(DType::Int64),
    Some(DType::String),
    Some(DType::Bool),
    Some(DType::Half),
    Some(DType::Double),
    Some(DType::UInt32),
    Some(DType::UInt64),
    // Complex numbers: ONNX Runtime has no tensors of them.
    None,
    None,
    Some(DType::BFloat16),
    Some(DType::Float8E4M3Fn),
    Some(DType::Float8E4M3Fnuz),
    Some(DType::Float8E5M2),
    Some(DType::Float8E5M2Fnuz),
];

/// ONNX's names of types of elements that cannot be served: two or four of a byte's elements, and complex numbers.
const UNSERVED: [(c_int, &str); 9] = [
    (0, "undefined"),
    (14, "complex64"),
    (15, "complex128"),
    (21, "uint4"),
    (22, "int4"),
    (23, "float4e2m1"),
    (24, "float8e8m0"),
    (25, "uint2"),
    (26, "int2"),
];

fn number_of(dtype: DType) -> Option<c_int> {
    TYPES.iter().position(|known| *known == Some(dtype)).and_then(|number| c_int::try_from(number).ok())
}

fn dtype_of(number: c_int) -> Option<DType> {
    TYPES.get(usize::try_from(number).ok()?).copied().flatten()
}

/// The dtype and shape of an input or output; -1 for dimensions of any size.
pub(super) struct Declared {
    pub(super) dtype: DType,
    pub(super) shape: Vec<i64>,
}

/// Reads the type of an input or output.
///
/// # Safety
/// `info` must be live.
pub(super) unsafe fn declared(runtime: &Runtime, info: *const OrtTypeInfo) -> Result<Declared, String> {
    let api = &runtime.api;
    let (mut kind, mut tensor) = (0, null());
    let text = |why: Failure| why.text;
    // SAFETY: `info` is live, and what it is cast to belongs to it.
    unsafe {
        api.check((api.kind_of_type)(info, &raw mut kind)).map_err(text)?;
        if kind != TENSOR {
            let kinds = ["unknown", "tensor", "sequence", "map", "opaque", "sparse tensor", "optional"];
            let kind = usize::try_from(kind).ok().and_then(|kind| kinds.get(kind)).unwrap_or(&"unknown");
            return Err(format!("is a {kind}, and only tensors can be served"));
        }
        api.check((api.cast_to_tensor_info)(info, &raw mut tensor)).map_err(text)?;
        let (number, shape) = read_info(runtime, tensor).map_err(text)?;
        let dtype = dtype_of(number).ok_or_else(|| {
            let name =
                UNSERVED.iter().find(|(known, _)| *known == number).map_or("unknown", |(_, name)| name);
            format!("has the type {name}, which cannot be served: convert it inside the model with Cast")
        })?;
        Ok(Declared { dtype, shape: shape.into_iter().map(|dim| dim.max(-1)).collect() })
    }
}

/// Returns the number of a type of elements, and the dimensions.
///
/// # Safety
/// `info` must be live.
unsafe fn read_info(runtime: &Runtime, info: *const OrtTensorInfo) -> Result<(c_int, Shape), Failure> {
    let api = &runtime.api;
    let (mut number, mut rank) = (0, 0);
    // SAFETY: `info` is live, and the shape has room for its dimensions.
    unsafe {
        api.check((api.element_type)(info, &raw mut number))?;
        api.check((api.dimensions_count)(info, &raw mut rank))?;
        let mut shape = Shape::from_elem(0, rank);
        api.check((api.dimensions)(info, shape.as_mut_ptr(), rank))?;
        Ok((number, shape))
    }
}

/// An `OrtValue`, released when dropped.
pub(super) struct Value {
    runtime: &'static Runtime,
    raw: *mut OrtValue,
}

// SAFETY: an OrtValue is a counted reference to a tensor; it may be used and released in any thread, one at a time, and
// nothing here changes one after it was made.
unsafe impl Send for Value {}
// SAFETY: as above; shared use only reads.
unsafe impl Sync for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: ours, and released once.
        unsafe { (self.runtime.api.release_value)(self.raw) };
    }
}

/// A value made of a [`Tensor`], which must outlive it.
pub(super) struct Fed {
    value: Value,
    /// The numbers, if those of the tensor could not be used where they are.
    copy: Option<Aligned<u8>>,
}

impl Fed {
    /// Returns the copy that ONNX Runtime was given in place of the tensor's numbers, if there is one.
    pub(super) fn copy(&self) -> Option<&[u8]> {
        self.copy.as_ref().map(|copy| copy.as_slice())
    }

    /// Converts `tensor` for ONNX Runtime.
    pub(super) fn new(runtime: &'static Runtime, tensor: &Tensor) -> Result<Fed> {
        let failed = |why: Failure| Error::new(why.of_run(), why.text);
        let number = number_of(tensor.dtype()).ok_or_else(|| {
            Error::invalid(format!("ONNX Runtime has no tensors of {}", tensor.dtype().name()))
        })?;
        match tensor.data() {
            Data::Strings(strings) => {
                let value = of_strings(runtime, tensor, number, strings).map_err(failed)?;
                Ok(Fed { value, copy: None })
            }
            Data::Numbers(bytes) => {
                let in_place = (bytes.as_ptr() as usize).is_multiple_of(tensor.dtype().size());
                let copy = (!in_place).then(|| Aligned::from_slice(64, bytes));
                let data = copy.as_deref().unwrap_or(bytes);
                // SAFETY: the data are the tensor's, which outlives the value, or the copy's, which is kept beside it.
                let value = unsafe { of_numbers(runtime, tensor, number, data) }.map_err(failed)?;
                Ok(Fed { value, copy })
            }
        }
    }

    /// Returns the pointer, for a call that `self` outlives.
    pub(super) fn as_ptr(&self) -> *const OrtValue {
        self.value.raw
    }
}

/// # Safety
/// `data` must outlive the value.
unsafe fn of_numbers(
    runtime: &'static Runtime,
    tensor: &Tensor,
    number: c_int,
    data: &[u8],
) -> Result<Value, Failure> {
    let (api, shape) = (&runtime.api, tensor.shape());
    let mut raw = null_mut();
    // SAFETY: data and shape have the lengths given; ONNX Runtime does not write to an input, and the caller keeps the
    // data.
    api.check(unsafe {
        (api.create_tensor_with_data)(
            runtime.memory,
            data.as_ptr().cast_mut().cast(),
            data.len(),
            shape.as_ptr(),
            shape.len(),
            number,
            &raw mut raw,
        )
    })?;
    Ok(Value { runtime, raw })
}

fn of_strings(
    runtime: &'static Runtime,
    tensor: &Tensor,
    number: c_int,
    strings: &Strings,
) -> Result<Value, Failure> {
    let (api, shape) = (&runtime.api, tensor.shape());
    let mut raw = null_mut();
    // SAFETY: the shape has the length given; the result is ours.
    api.check(unsafe {
        (api.create_tensor)(runtime.allocator, shape.as_ptr(), shape.len(), number, &raw mut raw)
    })?;
    let value = Value { runtime, raw };
    for (index, string) in strings.iter().enumerate() {
        let mut room = null_mut();
        // SAFETY: the index is below the number of elements, and the room has the length of the string.
        unsafe {
            api.check((api.resized_string)(raw, index, string.len(), &raw mut room))?;
            std::ptr::copy_nonoverlapping(string.as_ptr(), room.cast(), string.len());
        }
    }
    Ok(value)
}

/// The numbers of an output, which stay in ONNX Runtime's memory.
struct Numbers {
    _value: Value,
    data: *const u8,
    length: usize,
}

// SAFETY: the data are the value's, and are only read.
unsafe impl Send for Numbers {}
// SAFETY: as above.
unsafe impl Sync for Numbers {}

impl AsRef<[u8]> for Numbers {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a tensor's data are its elements, initialised by the run, and live as long as the value.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}

impl Value {
    /// Takes ownership of a value that ONNX Runtime made.
    ///
    /// # Safety
    /// `raw` must be a live value that nothing else releases.
    pub(super) unsafe fn from_raw(runtime: &'static Runtime, raw: *mut OrtValue) -> Value {
        Value { runtime, raw }
    }

    /// Converts to Servable's form. Numbers stay in ONNX Runtime's memory, unless that is the memory of an input, which
    /// is in one of `inputs` and may be gone before the output is.
    pub(super) fn into_tensor(self, inputs: &[Range<usize>]) -> Result<Tensor> {
        let (number, shape) = self.info().map_err(|why| Error::new(why.of_run(), why.text))?;
        let count = element_count(&shape).unwrap_or(0);
        match dtype_of(number) {
            Some(DType::String) => {
                let strings = self.strings(count).map_err(|why| Error::internal(why.text))?;
                Ok(Tensor::strings(shape, strings))
            }
            Some(dtype) => {
                let data = self.data().map_err(|why| Error::internal(why.text))?;
                let length = count * dtype.size();
                if length == 0 || data.is_null() {
                    return Ok(Tensor::numbers(dtype, shape, Bytes::new()));
                }
                let is_input = inputs.iter().any(|input| input.contains(&(data as usize)));
                let numbers = Numbers { _value: self, data, length };
                let bytes = if is_input {
                    Bytes::copy_from_slice(numbers.as_ref())
                } else {
                    Bytes::from_owner(numbers)
                };
                Ok(Tensor::numbers(dtype, shape, bytes))
            }
            None => Err(Error::new(Kind::Unimplemented, "An output has a type that cannot leave the model")),
        }
    }

    /// Returns the number of the type of elements, and the shape.
    fn info(&self) -> Result<(c_int, Shape), Failure> {
        let api = &self.runtime.api;
        let mut info = null_mut();
        // SAFETY: the value is live; the description is ours, and released once.
        unsafe {
            api.check((api.tensor_info)(self.raw, &raw mut info))?;
            let read = read_info(self.runtime, info);
            (api.release_tensor_info)(info);
            read
        }
    }

    fn data(&self) -> Result<*const u8, Failure> {
        let mut data = null_mut();
        // SAFETY: the value is a live tensor of numbers.
        self.runtime.api.check(unsafe { (self.runtime.api.tensor_data)(self.raw, &raw mut data) })?;
        Ok(data.cast_const().cast())
    }

    fn strings(&self, count: usize) -> Result<Strings, Failure> {
        if count == 0 {
            return Ok(Strings::default());
        }
        let api = &self.runtime.api;
        let mut length = 0;
        // SAFETY: the value is a live tensor of strings.
        api.check(unsafe { (api.strings_length)(self.raw, &raw mut length) })?;
        let mut bytes = vec![0_u8; length];
        // Where each begins; then, moved by one, where each ends.
        let mut ends = vec![0_usize; count];
        // SAFETY: both buffers have the lengths given, which are those of the tensor.
        api.check(unsafe {
            (api.strings_content)(self.raw, bytes.as_mut_ptr().cast(), length, ends.as_mut_ptr(), count)
        })?;
        ends.rotate_left(1);
        ends[count - 1] = length;
        Ok(Strings::new(bytes, ends))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_elements_are_onnx_own() {
        assert_eq!((number_of(DType::Float), number_of(DType::BFloat16)), (Some(1), Some(16)));
        assert_eq!((number_of(DType::Complex64), number_of(DType::QInt8)), (None, None));
        for dtype in TYPES.into_iter().flatten() {
            assert_eq!(dtype_of(number_of(dtype).unwrap()), Some(dtype));
        }
        assert!(
            (-2..40).all(|number| dtype_of(number).is_none()
                || !UNSERVED.iter().any(|(unserved, _)| *unserved == number))
        );
    }
}
