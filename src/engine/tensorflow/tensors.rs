//! Converts [`Tensor`] to and from `TF_Tensor`, without a copy if alignment allows.

#![allow(unsafe_code)]

use super::ffi::{Api, TfString, TfTensor};
use crate::error::{Error, Kind, Result};
use crate::tensor::{Aligned, DType, Data, Shape, Strings, Tensor, pieces};
use bytes::Bytes;
use std::ffi::{c_int, c_void};

/// A `TF_Tensor` that is deleted when dropped.
pub(super) struct Owned {
    api: &'static Api,
    tensor: *mut TfTensor,
}

// SAFETY: a TF_Tensor is a counted reference to an immutable buffer; the C API allows its use and deletion from any
// thread, one at a time, and `Owned` never exposes a mutable view.
unsafe impl Send for Owned {}
// SAFETY: as above; shared use only reads.
unsafe impl Sync for Owned {}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `tensor` came from TensorFlow and is deleted once.
        unsafe { (self.api.delete_tensor)(self.tensor) };
    }
}

/// Alignment below which TensorFlow copies a buffer, in bytes (Eigen's widest vectors).
const ALIGNMENT: usize = 64;
/// Largest size at which a copy is cheaper than sharing, in bytes.
const SMALL: usize = 256;

impl Owned {
    /// Takes ownership of a tensor that TensorFlow created.
    ///
    /// # Safety
    /// `tensor` must be a live `TF_Tensor` that nothing else deletes.
    pub(super) unsafe fn from_raw(api: &'static Api, tensor: *mut TfTensor) -> Owned {
        Owned { api, tensor }
    }

    /// Returns the pointer, for a call that `self` outlives.
    pub(super) fn as_ptr(&self) -> *mut TfTensor {
        self.tensor
    }

    /// Converts `tensor` for TensorFlow.
    pub(super) fn new(api: &'static Api, tensor: &Tensor) -> Result<Owned> {
        check_shape(tensor)?;
        let made = match tensor.data() {
            Data::Numbers(bytes)
                if bytes.len() <= SMALL || !(bytes.as_ptr() as usize).is_multiple_of(ALIGNMENT) =>
            {
                copied(api, tensor, bytes)
            }
            Data::Numbers(bytes) => shared(api, tensor, bytes.clone()),
            Data::Strings(strings) => string_tensor(api, tensor, strings),
        };
        if made.is_null() {
            return Err(Error::new(
                Kind::ResourceExhausted,
                format!(
                    "TensorFlow could not make a {} tensor of shape {:?}",
                    tensor.dtype().name(),
                    tensor.shape()
                ),
            ));
        }
        Ok(Owned { api, tensor: made })
    }

    /// Converts to Servable's form. Numbers stay in TensorFlow's memory.
    pub(super) fn into_tensor(self) -> Result<Tensor> {
        let api = self.api;
        // SAFETY: `tensor` is live; the functions only read it.
        let (number, rank) = unsafe { ((api.tensor_type)(self.tensor), (api.num_dims)(self.tensor)) };
        // SAFETY: as above, and every index is below the rank.
        let shape: Shape = (0..rank).map(|axis| unsafe { (api.dim)(self.tensor, axis) }).collect();
        match DType::from_number(number) {
            Some(DType::String) => {
                let count = crate::tensor::element_count(&shape).unwrap_or(0);
                let strings = self.read_strings(count);
                Ok(Tensor::strings(shape, strings))
            }
            Some(dtype) if dtype.size() > 0 => Ok(Tensor::numbers(dtype, shape, Bytes::from_owner(self))),
            dtype => Err(Error::new(
                Kind::Unimplemented,
                format!(
                    "An output of type {} cannot leave the model",
                    dtype.unwrap_or(DType::Invalid).name()
                ),
            )),
        }
    }

    fn read_strings(&self, count: usize) -> Strings {
        // SAFETY: `tensor` is a live string tensor: its data is an array of `count` TF_TString.
        let first = unsafe { (self.api.tensor_data)(self.tensor) }.cast::<TfString>();
        (0..count)
            .map(|index| {
                // SAFETY: `index` is below `count`; the bytes live as long as the tensor, which outlives this loop.
                unsafe {
                    let string = first.add(index);
                    let size = (self.api.string_size)(string);
                    if size == 0 {
                        &[]
                    } else {
                        std::slice::from_raw_parts((self.api.string_data)(string), size)
                    }
                }
            })
            .collect()
    }
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a numeric tensor's data is `tensor_byte_size` initialised bytes that live as long as `self`.
        unsafe {
            let size = (self.api.tensor_byte_size)(self.tensor);
            let data = (self.api.tensor_data)(self.tensor).cast::<u8>();
            if size == 0 || data.is_null() { &[] } else { std::slice::from_raw_parts(data, size) }
        }
    }
}

/// Most dimensions of a shape in TensorFlow.
const MAX_RANK: usize = 254;

/// Most elements that the other dimensions of a tensor without elements stand for. Some kernels end the process from 2³¹ on,
/// and sums along the empty dimension have as many elements.
const MOST_BESIDE_ZERO: i64 = 1 << 28;

/// Refuses a shape that TensorFlow cannot hold, which would abort the process: too many dimensions, or a product beyond
/// 64 bits, even if one of the dimensions is zero; and large ones beside zero.
fn check_shape(tensor: &Tensor) -> Result<()> {
    let shape = tensor.shape();
    let product =
        shape.iter().filter(|dim| **dim != 0).try_fold(1i64, |product, dim| product.checked_mul(*dim));
    if shape.len() > MAX_RANK || product.is_none() {
        return Err(Error::invalid(format!(
            "A tensor of {} dimensions {:?}… cannot be fed: at most {MAX_RANK} dimensions, whose product fits 64 bits",
            shape.len(),
            &shape[..shape.len().min(8)]
        )));
    }
    if tensor.is_empty() && product.is_some_and(|product| product > MOST_BESIDE_ZERO) {
        return Err(Error::invalid(format!(
            "A tensor without elements of shape {shape:?} cannot be fed: the product of the other dimensions may be at most \
             {MOST_BESIDE_ZERO}"
        )));
    }
    Ok(())
}

fn rank(tensor: &Tensor) -> c_int {
    // Checked: at most 254.
    c_int::try_from(tensor.shape().len()).unwrap_or(c_int::MAX)
}

fn copied(api: &'static Api, tensor: &Tensor, bytes: &Bytes) -> *mut TfTensor {
    // SAFETY: TensorFlow allocates `bytes.len()` bytes, or returns null; they are filled before they are read.
    unsafe {
        let made = (api.allocate_tensor)(
            tensor.dtype() as c_int,
            tensor.shape().as_ptr(),
            rank(tensor),
            bytes.len(),
        );
        if !made.is_null() && !bytes.is_empty() {
            let mut room = (api.tensor_data)(made).cast::<u8>();
            for piece in pieces(bytes) {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), room, piece.len());
                room = room.add(piece.len());
            }
        }
        made
    }
}

/// Shares the buffer with TensorFlow; our reference is dropped when TensorFlow drops its last one.
fn shared(api: &'static Api, tensor: &Tensor, bytes: Bytes) -> *mut TfTensor {
    unsafe extern "C" fn release(_data: *mut c_void, _length: usize, owner: *mut c_void) {
        // SAFETY: `owner` is the box that `shared` leaked; TensorFlow calls this once.
        drop(unsafe { Box::from_raw(owner.cast::<Bytes>()) });
    }
    let (data, length) = (bytes.as_ptr(), bytes.len());
    let owner = Box::into_raw(Box::new(bytes));
    // SAFETY: `data` stays valid until `release`; TensorFlow does not write to a buffer that it does not own.
    unsafe {
        (api.new_tensor)(
            tensor.dtype() as c_int,
            tensor.shape().as_ptr(),
            rank(tensor),
            data.cast_mut().cast(),
            length,
            release,
            owner.cast(),
        )
    }
}

/// An array of TF_TString that TensorFlow frees through `release`.
struct StringArray {
    api: &'static Api,
    // Aligned like every buffer that kernels access.
    strings: Aligned<TfString>,
}

/// Copies the strings: TensorFlow's kernels may keep a string longer than its tensor.
fn string_tensor(api: &'static Api, tensor: &Tensor, strings: &Strings) -> *mut TfTensor {
    unsafe extern "C" fn release(_data: *mut c_void, _length: usize, owner: *mut c_void) {
        // SAFETY: `owner` is the box that `string_tensor` leaked; TensorFlow calls this once.
        let mut array = unsafe { Box::from_raw(owner.cast::<StringArray>()) };
        let array = &mut *array;
        for string in array.strings.iter_mut() {
            // SAFETY: every string was initialised by `string_init`.
            unsafe { (array.api.string_dealloc)(string) };
        }
    }
    let mut array = Box::new(StringArray { api, strings: Aligned::new(ALIGNMENT) });
    array.strings.resize(strings.len(), TfString::UNSET);
    for (slot, string) in array.strings.iter_mut().zip(strings.iter()) {
        // SAFETY: `slot` is valid for writes and `string` for reads.
        unsafe {
            (api.string_init)(slot);
            (api.string_copy)(slot, string.as_ptr(), string.len());
        }
    }
    let (data, length) = (array.strings.as_mut_ptr(), std::mem::size_of_val(array.strings.as_slice()));
    // SAFETY: the array does not move until `release`.
    unsafe {
        (api.new_tensor)(
            DType::String as c_int,
            tensor.shape().as_ptr(),
            rank(tensor),
            data.cast(),
            length,
            release,
            Box::into_raw(array).cast(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_would_end_the_process_are_refused() {
        let check = |shape: &[i64]| {
            check_shape(&Tensor::numbers(DType::Float, shape.to_vec(), Bytes::new()))
                .map_err(|why| why.message)
        };
        for good in [&[0][..], &[0, 224, 224, 3], &[1 << 28, 0], &[0, 1 << 14, 1 << 14]] {
            assert_eq!(check(good), Ok(()));
        }
        for bad in [&[0, (1 << 28) + 1][..], &[1 << 31, 0], &[0, i64::MAX], &[0, 1 << 15, 1 << 14]] {
            assert!(check(bad).unwrap_err().contains("the product of the other dimensions may be at most"));
        }
        assert!(check(&[0, 1 << 32, 1 << 32]).unwrap_err().contains("whose product fits 64 bits"));
        assert!(check(&[0; 255]).unwrap_err().contains("at most 254 dimensions"));
    }
}
