//! The inputs and outputs of a compiled model, and whether a tensor fits.

#![allow(unsafe_code)]

use super::ffi::{Api, OvDimension, OvPartialShape, OvPort};
use super::handle::{Handle, check};
use super::types;
use crate::error::{Error, Kind, Result};
use crate::tensor::{DType, Tensor};
use std::ffi::CStr;

/// An input or output.
pub(super) struct Port {
    pub(super) name: String,
    pub(super) dtype: DType,
    /// The element type as OpenVINO numbers it.
    pub(super) number: u32,
    /// Bounds of each dimension; `None` if the rank is dynamic.
    pub(super) shape: Option<Vec<Bounds>>,
    /// True for an input of integers of which the model reads the shape alone.
    pub(super) is_read_for_shape: bool,
    pub(super) handle: Handle<OvPort>,
}

/// The least and, if there is one, the largest size of a dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    least: i64,
    most: Option<i64>,
}

impl From<OvDimension> for Bounds {
    fn from(dimension: OvDimension) -> Bounds {
        let most = Some(dimension.max).filter(|most| (0..i64::MAX).contains(most));
        Bounds { least: dimension.min.max(0), most }
    }
}

impl Bounds {
    fn admits(self, size: i64) -> bool {
        size >= self.least && self.most.is_none_or(|most| size <= most)
    }

    /// Returns the size, -1 if it is not fixed.
    fn declared(self) -> i64 {
        self.most.filter(|most| *most == self.least).unwrap_or(-1)
    }
}

impl Port {
    /// Reads what `handle` stands for. An element type that Servable or OpenVINO cannot hold is an error.
    pub(super) fn new(api: &Api, name: String, handle: Handle<OvPort>) -> Result<Port> {
        let mut number = 0;
        let mut shape = OvPartialShape { rank: OvDimension { min: 0, max: 0 }, dims: std::ptr::null_mut() };
        // SAFETY: the port is live, both results are ours.
        unsafe {
            check(api, (api.port_type)(handle.as_ptr(), &raw mut number))?;
            check(api, (api.port_shape)(handle.as_ptr(), &raw mut shape))?;
        }
        // SAFETY: without a null, `dims` has as many dimensions as the rank says.
        let dims = (!shape.dims.is_null() || shape.rank.max == 0).then(|| unsafe {
            let rank = usize::try_from(shape.rank.max).unwrap_or(0);
            let dims = if rank == 0 { &[] } else { std::slice::from_raw_parts(shape.dims, rank) };
            dims.iter().copied().map(Bounds::from).collect()
        });
        // SAFETY: OpenVINO filled it; it is freed once.
        unsafe { (api.partial_shape_free)(&raw mut shape) };
        let Some(dtype) = types::dtype(number) else {
            return Err(Error::new(
                Kind::Unimplemented,
                format!(
                    "\"{name}\" is of OpenVINO's type {}, which cannot be fed or fetched through its C API",
                    types::name(number)
                ),
            ));
        };
        Ok(Port { name, dtype, number, shape: dims, is_read_for_shape: false, handle })
    }

    /// Returns whether all that can be fed has one shape.
    pub(super) fn is_of_one_shape(&self) -> bool {
        self.declared().is_some_and(|shape| shape.iter().all(|dim| *dim >= 0))
    }

    /// Returns the shape, -1 for what is not fixed.
    pub(super) fn declared(&self) -> Option<Vec<i64>> {
        self.shape.as_ref().map(|dims| dims.iter().map(|dim| dim.declared()).collect())
    }

    /// Checks that `tensor` can be fed here.
    pub(super) fn check(&self, tensor: &Tensor) -> Result<()> {
        let shape = tensor.shape();
        let fits = |dims: &Vec<Bounds>| {
            dims.len() == shape.len() && dims.iter().zip(shape).all(|(dim, size)| dim.admits(*size))
        };
        if tensor.dtype() != self.dtype || !self.shape.as_ref().is_none_or(fits) {
            return Err(Error::invalid(format!(
                "Input \"{}\" is {} of shape {shape:?}; {} is expected",
                self.name,
                tensor.dtype().name(),
                self.expected()
            )));
        }
        if self.is_read_for_shape {
            return Ok(());
        }
        match types::beyond_32_bits(self.dtype, tensor.bytes()) {
            None => Ok(()),
            Some(value) => Err(Error::invalid(format!(
                "Input \"{}\" has the value {value}; OpenVINO computes with integers of 32 bits",
                self.name
            ))),
        }
    }

    /// Returns what can be fed, in words.
    pub(super) fn expected(&self) -> String {
        match self.declared() {
            Some(shape) => format!("{} of shape {shape:?}", self.dtype.name()),
            None => format!("{} of any shape", self.dtype.name()),
        }
    }
}

/// Returns the name of `port`'s tensor; if it has several, OpenVINO chooses. `None` if it has none.
pub(super) fn name(api: &Api, port: &Handle<OvPort>) -> Option<String> {
    let mut name = std::ptr::null_mut();
    // SAFETY: the port is live, the result is ours.
    check(api, unsafe { (api.port_name)(port.as_ptr(), &raw mut name) }).ok()?;
    if name.is_null() {
        return None;
    }
    // SAFETY: a C string that is ours until it is freed here, once.
    let text = unsafe {
        let text = CStr::from_ptr(name).to_string_lossy().into_owned();
        (api.free)(name);
        text
    };
    (!text.is_empty()).then_some(text)
}

#[test]
fn dimensions_are_fixed_bounded_or_free() {
    let bounds = |min, max| Bounds::from(OvDimension { min, max });
    for (bounds, declared, admitted, refused) in [
        (bounds(3, 3), 3, &[3][..], &[0, 2, 4][..]),
        (bounds(0, -1), -1, &[0, 1, i64::MAX][..], &[-1][..]),
        (bounds(0, i64::MAX), -1, &[0, i64::MAX][..], &[-1][..]),
        (bounds(1, 8), -1, &[1, 8][..], &[0, 9][..]),
        (bounds(0, 0), 0, &[0][..], &[1][..]),
    ] {
        assert_eq!(bounds.declared(), declared);
        assert!(admitted.iter().all(|size| bounds.admits(*size)), "{bounds:?}");
        assert!(refused.iter().all(|size| !bounds.admits(*size)), "{bounds:?}");
    }
}
