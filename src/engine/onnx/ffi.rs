//! The C functions in use, from the table that ONNX Runtime's library hands out.
//!
//! Names and types are those of `onnxruntime_c_api.h`. The table only grows, so a function keeps its place in every
//! release; [`VERSION`] is the table asked for. The library stays open for the life of the process: its threads do.
//!
//! The types are declared here, and not taken from the crate `ort-sys`, which has C's enumerations as Rust's: a newer
//! library that returns a number unknown to it would be undefined behaviour.

#![allow(unsafe_code)]

use crate::error::{Error, Kind, Result};
use crate::host::memory;
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;

/// The version of the table of functions: that of ONNX Runtime 1.22, which all later ones have too.
const VERSION: u32 = 22;

/// Declares opaque C structs, known only by pointer.
macro_rules! opaque {
    ($($name:ident),*) => { $(#[repr(C)] pub(super) struct $name { _opaque: [u8; 0] })* };
}
opaque!(
    OrtStatus,
    OrtEnv,
    OrtSessionOptions,
    OrtSession,
    OrtRunOptions,
    OrtTypeInfo,
    OrtTensorInfo,
    OrtValue,
    OrtMemoryInfo,
    OrtAllocator
);

/// `OrtApiBase`: what the one exported function returns.
#[repr(C)]
struct OrtApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const *const c_void,
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// Null for success; otherwise to be released.
pub(super) type Status = *mut OrtStatus;

/// Receives log lines: parameter, severity, category, log id, code location, message.
pub(super) type Logger =
    unsafe extern "C" fn(*mut c_void, c_int, *const c_char, *const c_char, *const c_char, *const c_char);

/// Declares the table of functions, each with its place, and how it is filled.
macro_rules! functions {
    ($($field:ident = $place:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, as pointers into the open library.
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// The library's version, such as `1.32.0`.
            pub(super) version: String,
            _library: Library,
        }

        /// # Safety
        /// `table` must be an `OrtApi` of at least [`VERSION`], from `library`.
        unsafe fn look_up(table: *const *const c_void, version: String, library: Library) -> Api {
            Api {
                $($field: {
                    type Function = unsafe extern "C" fn($($argument),*) $(-> $result)?;
                    // SAFETY: the header declares a function of this type at this place of the table.
                    unsafe { std::mem::transmute::<*const c_void, Function>(*table.add($place)) }
                },)*
                version,
                _library: library,
            }
        }
    };
}

functions! {
    error_code = 1: fn(*const OrtStatus) -> c_int;
    error_message = 2: fn(*const OrtStatus) -> *const c_char;
    create_env = 4: fn(Logger, *mut c_void, c_int, *const c_char, *mut *mut OrtEnv) -> Status;
    create_session = 7: fn(
        *const OrtEnv, *const c_char, *const OrtSessionOptions, *mut *mut OrtSession) -> Status;
    run = 9: fn(
        *mut OrtSession, *const OrtRunOptions, *const *const c_char, *const *const OrtValue, usize,
        *const *const c_char, usize, *mut *mut OrtValue) -> Status;
    create_session_options = 10: fn(*mut *mut OrtSessionOptions) -> Status;
    disable_mem_pattern = 17: fn(*mut OrtSessionOptions) -> Status;
    disable_cpu_mem_arena = 19: fn(*mut OrtSessionOptions) -> Status;
    set_graph_optimization_level = 23: fn(*mut OrtSessionOptions, c_int) -> Status;
    set_intra_op_threads = 24: fn(*mut OrtSessionOptions, c_int) -> Status;
    input_count = 30: fn(*const OrtSession, *mut usize) -> Status;
    output_count = 31: fn(*const OrtSession, *mut usize) -> Status;
    input_type = 33: fn(*const OrtSession, usize, *mut *mut OrtTypeInfo) -> Status;
    output_type = 34: fn(*const OrtSession, usize, *mut *mut OrtTypeInfo) -> Status;
    input_name = 36: fn(*const OrtSession, usize, *mut OrtAllocator, *mut *mut c_char) -> Status;
    output_name = 37: fn(*const OrtSession, usize, *mut OrtAllocator, *mut *mut c_char) -> Status;
    create_run_options = 39: fn(*mut *mut OrtRunOptions) -> Status;
    set_terminate = 46: fn(*mut OrtRunOptions) -> Status;
    create_tensor = 48: fn(*mut OrtAllocator, *const i64, usize, c_int, *mut *mut OrtValue) -> Status;
    create_tensor_with_data = 49: fn(
        *const OrtMemoryInfo, *mut c_void, usize, *const i64, usize, c_int, *mut *mut OrtValue) -> Status;
    tensor_data = 51: fn(*mut OrtValue, *mut *mut c_void) -> Status;
    strings_length = 53: fn(*const OrtValue, *mut usize) -> Status;
    strings_content = 54: fn(*const OrtValue, *mut c_void, usize, *mut usize, usize) -> Status;
    cast_to_tensor_info = 55: fn(*const OrtTypeInfo, *mut *const OrtTensorInfo) -> Status;
    kind_of_type = 56: fn(*const OrtTypeInfo, *mut c_int) -> Status;
    element_type = 60: fn(*const OrtTensorInfo, *mut c_int) -> Status;
    dimensions_count = 61: fn(*const OrtTensorInfo, *mut usize) -> Status;
    dimensions = 62: fn(*const OrtTensorInfo, *mut i64, usize) -> Status;
    tensor_info = 65: fn(*const OrtValue, *mut *mut OrtTensorInfo) -> Status;
    create_cpu_memory_info = 69: fn(c_int, c_int, *mut *mut OrtMemoryInfo) -> Status;
    allocator_free = 76: fn(*mut OrtAllocator, *mut c_void) -> Status;
    default_allocator = 78: fn(*mut *mut OrtAllocator) -> Status;
    release_status = 93: fn(*mut OrtStatus);
    release_session = 95: fn(*mut OrtSession);
    release_value = 96: fn(*mut OrtValue);
    release_run_options = 97: fn(*mut OrtRunOptions);
    release_type_info = 98: fn(*mut OrtTypeInfo);
    release_tensor_info = 99: fn(*mut OrtTensorInfo);
    release_session_options = 100: fn(*mut OrtSessionOptions);
    add_session_config_entry = 130: fn(*mut OrtSessionOptions, *const c_char, *const c_char) -> Status;
    resized_string = 252: fn(*mut OrtValue, usize, usize, *mut *mut c_char) -> Status;
}

/// Opens ONNX Runtime's library at `path`.
pub(super) fn open(path: &Path) -> Result<Api> {
    memory::keep_freed_memory();
    let refusal = |why: String| Error::new(Kind::FailedPrecondition, why);
    // SAFETY: opening runs the library's initialisers; these are ONNX Runtime's, and importing it in Python runs them in
    // the same way. Local: what it exports shall replace nothing.
    let library = unsafe { Library::open(Some(path), RTLD_LAZY | RTLD_LOCAL) }
        .map_err(|why| refusal(format!("Cannot open ONNX Runtime's library {}: {why}", path.display())))?;
    // SAFETY: the type is the one that the header declares for this name.
    let get_base = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase\0") }
        .map_err(|_| refusal(format!("{} is not ONNX Runtime's library", path.display())))?;
    // SAFETY: returns a static table, whose two functions are in every release; the version is a static C string.
    let (version, table) = unsafe {
        let base = &*get_base();
        (CStr::from_ptr((base.get_version)()).to_string_lossy().into_owned(), (base.get_api)(VERSION))
    };
    if table.is_null() {
        return Err(refusal(format!(
            "{} is ONNX Runtime {version}, and 1.{VERSION} or later is needed: pip install -U onnxruntime",
            path.display()
        )));
    }
    // SAFETY: the library made the table for this version.
    let api = unsafe { look_up(table, version, library) };
    memory::drop_relocation_pages(path);
    Ok(api)
}
