//! The C functions in use, looked up by name in the shared library.
//!
//! Names and types are those of OpenVINO's `openvino/c/*.h`. The library stays open for the life of the process: its
//! plugins and threads cannot be taken down safely.

#![allow(unsafe_code)]

use crate::error::{Error, Kind, Result};
use crate::host::memory;
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL, Symbol};
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

/// Declares opaque C structs, known only by pointer.
macro_rules! opaque {
    ($($name:ident),*) => { $(#[repr(C)] pub(super) struct $name { _opaque: [u8; 0] })* };
}
opaque!(OvCore, OvModel, OvCompiledModel, OvInferRequest, OvTensor, OvPort);

/// `ov_shape_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct OvShape {
    pub(super) rank: i64,
    pub(super) dims: *mut i64,
}

/// `ov_dimension_t` and `ov_rank_t`: a range, whose end is negative or the largest number where there is none.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct OvDimension {
    pub(super) min: i64,
    pub(super) max: i64,
}

/// `ov_partial_shape_t`; `dims` is null if the rank is dynamic.
#[repr(C)]
pub(super) struct OvPartialShape {
    pub(super) rank: OvDimension,
    pub(super) dims: *mut OvDimension,
}

/// Declares the table of functions and how it is filled.
macro_rules! functions {
    ($($field:ident = $symbol:literal: fn $arguments:tt $(-> $result:ty)?;)*) => {
        /// The functions, as pointers into the open library.
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn $arguments $(-> $result)?,)*
            _library: Library,
        }

        fn look_up(library: Library) -> Result<Api> {
            Ok(Api { $($field: {
                // SAFETY: the type is the one that OpenVINO's header declares for this name.
                *unsafe { symbol(&library, $symbol) }?
            },)* _library: library })
        }
    };
}

functions! {
    last_error = "ov_get_last_err_msg": fn() -> *const c_char;
    free = "ov_free": fn(*const c_char);
    core_create = "ov_core_create": fn(*mut *mut OvCore) -> c_int;
    core_free = "ov_core_free": fn(*mut OvCore);
    set_property = "ov_core_set_property": fn(*const OvCore, *const c_char, ...) -> c_int;
    read_model = "ov_core_read_model": fn(
        *const OvCore, *const c_char, *const c_char, *mut *mut OvModel) -> c_int;
    read_model_from_memory = "ov_core_read_model_from_memory_buffer": fn(
        *const OvCore, *const c_char, usize, *const OvTensor, *mut *mut OvModel) -> c_int;
    compile_model = "ov_core_compile_model": fn(
        *const OvCore, *const OvModel, *const c_char, usize, *mut *mut OvCompiledModel, ...) -> c_int;
    compile_file = "ov_core_compile_model_from_file": fn(
        *const OvCore, *const c_char, *const c_char, usize, *mut *mut OvCompiledModel, ...) -> c_int;
    model_input = "ov_model_const_input_by_index": fn(*const OvModel, usize, *mut *mut OvPort) -> c_int;
    model_output = "ov_model_const_output_by_index": fn(*const OvModel, usize, *mut *mut OvPort) -> c_int;
    model_free = "ov_model_free": fn(*mut OvModel);
    inputs_size = "ov_compiled_model_inputs_size": fn(*const OvCompiledModel, *mut usize) -> c_int;
    outputs_size = "ov_compiled_model_outputs_size": fn(*const OvCompiledModel, *mut usize) -> c_int;
    input_by_index = "ov_compiled_model_input_by_index": fn(
        *const OvCompiledModel, usize, *mut *mut OvPort) -> c_int;
    output_by_index = "ov_compiled_model_output_by_index": fn(
        *const OvCompiledModel, usize, *mut *mut OvPort) -> c_int;
    input_by_name = "ov_compiled_model_input_by_name": fn(
        *const OvCompiledModel, *const c_char, *mut *mut OvPort) -> c_int;
    output_by_name = "ov_compiled_model_output_by_name": fn(
        *const OvCompiledModel, *const c_char, *mut *mut OvPort) -> c_int;
    create_infer_request = "ov_compiled_model_create_infer_request": fn(
        *const OvCompiledModel, *mut *mut OvInferRequest) -> c_int;
    compiled_model_free = "ov_compiled_model_free": fn(*mut OvCompiledModel);
    port_name = "ov_port_get_any_name": fn(*const OvPort, *mut *mut c_char) -> c_int;
    port_type = "ov_port_get_element_type": fn(*const OvPort, *mut u32) -> c_int;
    port_shape = "ov_port_get_partial_shape": fn(*const OvPort, *mut OvPartialShape) -> c_int;
    port_free = "ov_output_const_port_free": fn(*mut OvPort);
    partial_shape_free = "ov_partial_shape_free": fn(*mut OvPartialShape);
    set_tensor = "ov_infer_request_set_tensor_by_const_port": fn(
        *mut OvInferRequest, *const OvPort, *const OvTensor) -> c_int;
    get_tensor = "ov_infer_request_get_tensor_by_const_port": fn(
        *const OvInferRequest, *const OvPort, *mut *mut OvTensor) -> c_int;
    infer = "ov_infer_request_infer": fn(*mut OvInferRequest) -> c_int;
    cancel = "ov_infer_request_cancel": fn(*mut OvInferRequest) -> c_int;
    infer_request_free = "ov_infer_request_free": fn(*mut OvInferRequest);
    tensor_create = "ov_tensor_create": fn(u32, OvShape, *mut *mut OvTensor) -> c_int;
    tensor_over = "ov_tensor_create_from_host_ptr": fn(u32, OvShape, *mut c_void, *mut *mut OvTensor) -> c_int;
    tensor_shape = "ov_tensor_get_shape": fn(*const OvTensor, *mut OvShape) -> c_int;
    tensor_byte_size = "ov_tensor_get_byte_size": fn(*const OvTensor, *mut usize) -> c_int;
    tensor_data = "ov_tensor_data": fn(*const OvTensor, *mut *mut c_void) -> c_int;
    tensor_free = "ov_tensor_free": fn(*mut OvTensor);
    shape_free = "ov_shape_free": fn(*mut OvShape) -> c_int;
}

/// Opens OpenVINO's C library at `path`; it finds its own parts beside it.
pub(super) fn open(path: &Path) -> Result<Api> {
    memory::keep_freed_memory();
    // SAFETY: opening runs the library's initialisers; these are OpenVINO's, and importing it in Python runs them in the
    // same way. Local: nothing else looks up its symbols, nor those of the TBB that comes with it.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_LOCAL) }.map_err(|why| {
        Error::new(
            Kind::FailedPrecondition,
            format!("Cannot open OpenVINO's library {}: {why}", path.display()),
        )
    })?;
    look_up(library)
}

/// # Safety
/// `T` must be the function pointer type that OpenVINO declares for `name`.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<Symbol<T>> {
    // SAFETY: the caller's obligation.
    unsafe { library.get::<T>(name.as_bytes()) }.map_err(|_| {
        Error::new(
            Kind::FailedPrecondition,
            format!("OpenVINO's library has no {name}: install an OpenVINO from 2026 on"),
        )
    })
}
