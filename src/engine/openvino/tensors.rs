//! Converts [`Tensor`] to and from `ov_tensor_t`, without a copy where that is no more work.

#![allow(unsafe_code)]

use super::ffi::{Api, OvShape, OvTensor};
use super::handle::{Failure, Handle, check};
use super::port::Port;
use super::requests::Lease;
use crate::error::Result;
use crate::tensor::{Aligned, Data, Shape, Tensor, append};
use bytes::Bytes;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

/// A tensor that OpenVINO reads in its own memory, which has to outlive the run.
pub(super) struct Fed {
    pub(super) tensor: Handle<OvTensor>,
    /// The memory that it stands for.
    pub(super) values: Bytes,
}

/// What a tensor without elements stands for: OpenVINO refuses a null.
static NOTHING: [u64; 8] = [0; 8];

impl Fed {
    /// Hands over `tensor`, which fits `port`. Kernels need elements at multiples of their size, no more: a longer
    /// alignment was measured not to be faster.
    pub(super) fn new(api: &Api, port: &Port, tensor: &Tensor) -> Result<Fed, Failure> {
        let values = match tensor.data() {
            Data::Numbers(bytes) if (bytes.as_ptr() as usize).is_multiple_of(tensor.dtype().size()) => {
                bytes.clone()
            }
            // Strings are refused before.
            Data::Numbers(_) | Data::Strings(_) => copied(tensor.bytes()),
        };
        let start = if values.is_empty() { NOTHING.as_ptr().cast() } else { values.as_ptr() };
        let shape = shape_of(tensor.shape());
        // SAFETY: `start` has the elements of this shape, and `Fed` keeps them as long as the tensor; OpenVINO only
        // reads what is fed, and copies the shape.
        let tensor = Handle::made(api, api.tensor_free, |made| unsafe {
            (api.tensor_over)(port.number, shape, start.cast_mut().cast::<c_void>(), made)
        })?;
        Ok(Fed { tensor, values })
    }
}

/// Returns the shape for a call that `dims` outlives.
pub(super) fn shape_of(dims: &[i64]) -> OvShape {
    // A rank fits; OpenVINO does not write to a shape that it is given by value.
    OvShape { rank: i64::try_from(dims.len()).unwrap_or(0), dims: dims.as_ptr().cast_mut() }
}

/// Returns a copy that is aligned for anything.
fn copied(bytes: &[u8]) -> Bytes {
    let mut values: Aligned<u8> = Aligned::new(64);
    append(&mut values, bytes);
    Bytes::from_owner(Copied(values))
}

struct Copied(Aligned<u8>);

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Largest output that is copied out of its request, in bytes: the request is then free at once, while a copy of this
/// size takes a few microseconds.
const SMALL: usize = 64 << 10;

/// Takes the result at `port` of a run that has ended. It is copied if it is small or the request cannot be spared; else
/// it keeps the request. `fed`: what the run was fed, which an output may be a part of.
pub(super) fn result(lease: &Arc<Lease>, port: &Port, fed: &[Fed]) -> Result<Tensor> {
    let api = lease.api();
    // SAFETY: request and port are live, and of one model; no run is going on.
    let tensor = Handle::made(api, api.tensor_free, |made| unsafe {
        (api.get_tensor)(lease.as_ptr(), port.handle.as_ptr(), made)
    })?;
    let shape = shape(api, &tensor)?;
    let (mut data, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: the tensor is live, both results are ours.
    unsafe { check(api, (api.tensor_byte_size)(tensor.as_ptr(), &raw mut length)) }?;
    if length > 0 {
        // SAFETY: as above.
        unsafe { check(api, (api.tensor_data)(tensor.as_ptr(), &raw mut data)) }?;
    }
    let data = data.cast_const().cast::<u8>();
    if length == 0 || data.is_null() {
        return Ok(Tensor::numbers(port.dtype, shape, Bytes::new()));
    }
    // SAFETY: OpenVINO says that there are `length` bytes, which live as long as tensor and request.
    let bytes = unsafe { std::slice::from_raw_parts(data, length) };
    let bytes = if length <= SMALL || lease.is_the_only_one() {
        copied(bytes)
    } else if let Some(fed) = fed.iter().find(|fed| overlap(&fed.values, bytes)) {
        if fed.values.as_ptr_range().contains(&data)
            && fed.values.as_ptr_range().end >= bytes.as_ptr_range().end
        {
            fed.values.slice_ref(bytes)
        } else {
            copied(bytes)
        }
    } else {
        Bytes::from_owner(Kept { data, length, _tensor: tensor, _lease: lease.clone() })
    };
    Ok(Tensor::numbers(port.dtype, shape, bytes))
}

/// Returns how many bytes all outputs of a run have that has ended, those that nobody fetches, too.
pub(super) fn held(lease: &Lease) -> Result<usize, Failure> {
    let api = lease.api();
    let mut held = 0;
    for port in &lease.compiled().outputs {
        let mut length = 0;
        let tensor = Handle::made(api, api.tensor_free, |made| {
            // SAFETY: request and port are live, and of one model; no run is going on.
            unsafe { (api.get_tensor)(lease.as_ptr(), port.handle.as_ptr(), made) }
        })?;
        // SAFETY: the tensor is live, the result ours.
        check(api, unsafe { (api.tensor_byte_size)(tensor.as_ptr(), &raw mut length) })?;
        held += length;
    }
    Ok(held)
}

fn overlap(one: &[u8], other: &[u8]) -> bool {
    let (one, other) = (one.as_ptr_range(), other.as_ptr_range());
    one.start < other.end && other.start < one.end
}

/// `INVALID_C_PARAM`: what OpenVINO says when it is asked for the shape of a scalar, as it cannot make one without
/// dimensions. Nothing else can be wrong with a live tensor.
const INVALID_PARAMETER: c_int = -14;

fn shape(api: &Api, tensor: &Handle<OvTensor>) -> Result<Shape, Failure> {
    let mut shape = OvShape { rank: 0, dims: std::ptr::null_mut() };
    // SAFETY: the tensor is live; OpenVINO fills the shape with as many dimensions as its rank says, and it is freed
    // once.
    unsafe {
        let code = (api.tensor_shape)(tensor.as_ptr(), &raw mut shape);
        if code == INVALID_PARAMETER && shape.dims.is_null() {
            return Ok(Shape::new());
        }
        check(api, code)?;
        let rank = usize::try_from(shape.rank).unwrap_or(0);
        let dims = if rank == 0 || shape.dims.is_null() {
            Shape::new()
        } else {
            Shape::from_slice(std::slice::from_raw_parts(shape.dims, rank))
        };
        (api.shape_free)(&raw mut shape);
        Ok(dims)
    }
}

/// An output in its request's memory, which no other run gets meanwhile.
struct Kept {
    data: *const u8,
    length: usize,
    _tensor: Handle<OvTensor>,
    _lease: Arc<Lease>,
}

// SAFETY: the memory is written by runs of the request alone, and the lease keeps it from being run.
unsafe impl Send for Kept {}
// SAFETY: as above.
unsafe impl Sync for Kept {}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: as long as `self` there are `length` bytes, which nothing writes to.
        unsafe { std::slice::from_raw_parts(self.data, self.length) }
    }
}
