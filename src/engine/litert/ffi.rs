//! The C functions in use, looked up by name in the shared library.
//!
//! Names and types are those of LiteRT's `litert/c/*.h` in version 2.3.0. They change between releases under one symbol
//! version, so that another release is refused (`version.rs`). The library stays open for the life of the process.

#![allow(unsafe_code)]

use crate::error::{Error, Kind, Result};
use crate::host::memory;
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;

/// Declares opaque C structs, known only by pointer.
macro_rules! opaque {
    ($($name:ident),*) => { $(#[repr(C)] pub(super) struct $name { _opaque: [u8; 0] })* };
}
opaque!(Environment, Model, Options, OpaqueOptions, CompiledModel, TensorBuffer);

/// `LiteRtStatus`; 0 is success.
pub(super) type Status = c_int;

/// `LiteRtStatusErrorUnsupported`.
pub(super) const UNSUPPORTED: Status = 5;

/// `LiteRtHwAcceleratorCpu`.
pub(super) const CPU: c_int = 1;

/// `LiteRtEnvOption` with a whole number in its `LiteRtAny`.
#[repr(C)]
pub(super) struct EnvironmentOption {
    tag: c_int,
    _gap: c_int,
    kind: c_int,
    _other_gap: c_int,
    value: i64,
}

impl EnvironmentOption {
    pub(super) fn new(tag: c_int, value: i64) -> EnvironmentOption {
        /// `kLiteRtAnyTypeInt`.
        const INT: c_int = 2;
        EnvironmentOption { tag, _gap: 0, kind: INT, _other_gap: 0, value }
    }
}

/// `LiteRtLayout`: the shape of a tensor.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// In the lower seven bits; the next says whether there are strides.
    pub(super) rank: u32,
    pub(super) dimensions: [i32; 8],
    pub(super) strides: [u32; 8],
}

/// `LiteRtRankedTensorType`.
#[repr(C)]
pub(super) struct TensorType {
    pub(super) element: c_int,
    pub(super) layout: Layout,
}

pub(super) type Destructor = unsafe extern "C" fn(*mut c_void);
pub(super) type IsCancelled = unsafe extern "C" fn(*mut c_void) -> bool;

/// Declares the table of functions and how it is filled.
macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, as pointers into the open library.
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            _library: Library,
        }

        fn look_up(library: Library) -> Result<Api> {
            Ok(Api { $($field: {
                // SAFETY: the type is the one that LiteRT's header declares for this name.
                *unsafe { library.get($symbol.as_bytes()) }.map_err(|_| lacks($symbol))?
            },)* _library: library })
        }
    };
}

functions! {
    create_environment = "LiteRtCreateEnvironment":
        fn(c_int, *const EnvironmentOption, *mut *mut Environment) -> Status;
    create_model = "LiteRtCreateModelFromBuffer":
        fn(*mut Environment, *const c_void, usize, *mut *mut Model) -> Status;
    destroy_model = "LiteRtDestroyModel": fn(*mut Model);
    number_of_signatures = "LiteRtGetNumModelSignatures": fn(*mut Model, *mut usize) -> Status;
    create_options = "LiteRtCreateOptions": fn(*mut *mut Options) -> Status;
    destroy_options = "LiteRtDestroyOptions": fn(*mut Options);
    set_accelerators = "LiteRtSetOptionsHardwareAccelerators": fn(*mut Options, c_int) -> Status;
    create_opaque_options = "LiteRtCreateOpaqueOptions":
        fn(*const c_char, *mut c_void, Destructor, *mut *mut OpaqueOptions) -> Status;
    add_opaque_options = "LiteRtAddOpaqueOptions": fn(*mut Options, *mut OpaqueOptions) -> Status;
    create_compiled_model = "LiteRtCreateCompiledModel":
        fn(*mut Environment, *mut Model, *mut Options, *mut *mut CompiledModel) -> Status;
    destroy_compiled_model = "LiteRtDestroyCompiledModel": fn(*mut CompiledModel);
    resize_input = "LiteRtCompiledModelResizeInputTensorNonStrict":
        fn(*mut CompiledModel, usize, usize, *const c_int, usize) -> Status;
    output_layouts = "LiteRtGetCompiledModelOutputTensorLayouts":
        fn(*mut CompiledModel, usize, usize, *mut Layout, bool) -> Status;
    run = "LiteRtRunCompiledModel":
        fn(*mut CompiledModel, usize, usize, *mut *mut TensorBuffer, usize, *mut *mut TensorBuffer) -> Status;
    set_cancellation = "LiteRtSetCompiledModelCancellationFunction":
        fn(*mut CompiledModel, *mut c_void, IsCancelled) -> Status;
    error_messages = "LiteRtCompiledModelGetErrorMessages": fn(*mut CompiledModel, *mut *mut c_char) -> Status;
    clear_errors = "LiteRtCompiledModelClearErrors": fn(*mut CompiledModel) -> Status;
    create_tensor_buffer = "LiteRtCreateTensorBufferFromHostMemory":
        fn(*const TensorType, *mut c_void, usize, Option<Destructor>, *mut *mut TensorBuffer) -> Status;
    destroy_tensor_buffer = "LiteRtDestroyTensorBuffer": fn(*mut TensorBuffer);
}

/// Opens LiteRT's library at `path`.
pub(super) fn open(path: &Path) -> Result<Api> {
    memory::keep_freed_memory();
    // SAFETY: opening runs the library's initialisers; these are LiteRT's, and importing it in Python runs them in the
    // same way. Local: its symbols are for nobody else.
    let opened = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_LOCAL) };
    let library = opened.map_err(|why| {
        Error::new(
            Kind::FailedPrecondition,
            format!("Cannot open LiteRT's library {}: {why}", path.display()),
        )
    })?;
    let api = look_up(library)?;
    memory::drop_relocation_pages(path);
    Ok(api)
}

fn lacks(name: &str) -> Error {
    Error::new(
        Kind::FailedPrecondition,
        format!("LiteRT's library has no {name}: install ai-edge-litert {}", super::version::SUPPORTED),
    )
}
