//! The C functions in use, looked up by name in the shared libraries.
//!
//! Names and types are those of TensorFlow's `c_api.h`, `tf_tensor.h`, `tf_tstring.h` and `tf_buffer.h` (2.4 and
//! later). The libraries stay open for the life of the process: TensorFlow cannot be unloaded.

#![allow(unsafe_code)]

use super::reads;
use crate::error::{Error, Kind, Result};
use crate::host::memory;
use libloading::os::unix::{Library, RTLD_LAZY, RTLD_LOCAL, Symbol};
use std::ffi::{c_char, c_int, c_uchar, c_void};
use std::path::Path;

/// Declares opaque C structs, known only by pointer.
macro_rules! opaque {
    ($($name:ident),*) => { $(#[repr(C)] pub(super) struct $name { _opaque: [u8; 0] })* };
}
opaque!(TfStatus, TfSessionOptions, TfGraph, TfSession, TfNamedSession, TfOperation, TfTensor);

/// `TF_Buffer`: bytes that TensorFlow owns.
#[repr(C)]
pub(super) struct TfBuffer {
    pub(super) data: *const c_void,
    pub(super) length: usize,
    _deallocator: *const c_void,
}

/// `TF_Output`: one output of one operation.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct TfOutput {
    pub(super) operation: *mut TfOperation,
    pub(super) index: c_int,
}

/// `TF_TString`: 24 bytes that only TensorFlow's own functions interpret.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct TfString {
    _private: [u64; 3],
}

impl TfString {
    pub(super) const UNSET: TfString = TfString { _private: [0; 3] };
}

pub(super) type Deallocator = unsafe extern "C" fn(*mut c_void, usize, *mut c_void);

/// Declares the table of functions and how it is filled.
macro_rules! functions {
    ($($field:ident = $symbol:literal: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The functions, as pointers into the open libraries.
        pub(super) struct Api {
            $(pub(super) $field: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// The functions of a session that is run by names, if the library has them.
            pub(super) by_name: Option<NamedApi>,
            /// Whether kernels may be oneDNN's.
            pub(super) uses_onednn: bool,
            _libraries: Vec<Library>,
        }

        fn look_up(libraries: Vec<Library>) -> Result<Api> {
            Ok(Api { $($field: {
                // SAFETY: the type is the one that TensorFlow's header declares for this name.
                *unsafe { symbol(&libraries, $symbol) }?
            },)* by_name: NamedApi::look_up(&libraries).ok(), uses_onednn: uses_onednn(&libraries), _libraries: libraries })
        }
    };
}

functions! {
    version = "TF_Version": fn() -> *const c_char;
    new_status = "TF_NewStatus": fn() -> *mut TfStatus;
    delete_status = "TF_DeleteStatus": fn(*mut TfStatus);
    get_code = "TF_GetCode": fn(*const TfStatus) -> c_int;
    message = "TF_Message": fn(*const TfStatus) -> *const c_char;
    new_buffer_from_string = "TF_NewBufferFromString": fn(*const c_void, usize) -> *mut TfBuffer;
    new_buffer = "TF_NewBuffer": fn() -> *mut TfBuffer;
    delete_buffer = "TF_DeleteBuffer": fn(*mut TfBuffer);
    new_session_options = "TF_NewSessionOptions": fn() -> *mut TfSessionOptions;
    delete_session_options = "TF_DeleteSessionOptions": fn(*mut TfSessionOptions);
    set_config = "TF_SetConfig": fn(*mut TfSessionOptions, *const c_void, usize, *mut TfStatus);
    new_graph = "TF_NewGraph": fn() -> *mut TfGraph;
    delete_graph = "TF_DeleteGraph": fn(*mut TfGraph);
    graph_to_graph_def = "TF_GraphToGraphDef": fn(*mut TfGraph, *mut TfBuffer, *mut TfStatus);
    graph_op_def = "TF_GraphGetOpDef": fn(*mut TfGraph, *const c_char, *mut TfBuffer, *mut TfStatus);
    operation_by_name = "TF_GraphOperationByName": fn(*mut TfGraph, *const c_char) -> *mut TfOperation;
    operation_outputs = "TF_OperationNumOutputs": fn(*mut TfOperation) -> c_int;
    new_session = "TF_NewSession": fn(*mut TfGraph, *const TfSessionOptions, *mut TfStatus) -> *mut TfSession;
    load_session = "TF_LoadSessionFromSavedModel": fn(
        *const TfSessionOptions, *const TfBuffer, *const c_char, *const *const c_char, c_int,
        *mut TfGraph, *mut TfBuffer, *mut TfStatus) -> *mut TfSession;
    close_session = "TF_CloseSession": fn(*mut TfSession, *mut TfStatus);
    delete_session = "TF_DeleteSession": fn(*mut TfSession, *mut TfStatus);
    session_run = "TF_SessionRun": fn(
        *mut TfSession, *const TfBuffer, *const TfOutput, *const *mut TfTensor, c_int,
        *const TfOutput, *mut *mut TfTensor, c_int, *const *const TfOperation, c_int,
        *mut TfBuffer, *mut TfStatus);
    new_tensor = "TF_NewTensor": fn(
        c_int, *const i64, c_int, *mut c_void, usize, Deallocator, *mut c_void) -> *mut TfTensor;
    allocate_tensor = "TF_AllocateTensor": fn(c_int, *const i64, c_int, usize) -> *mut TfTensor;
    delete_tensor = "TF_DeleteTensor": fn(*mut TfTensor);
    tensor_type = "TF_TensorType": fn(*const TfTensor) -> c_int;
    num_dims = "TF_NumDims": fn(*const TfTensor) -> c_int;
    dim = "TF_Dim": fn(*const TfTensor, c_int) -> i64;
    tensor_byte_size = "TF_TensorByteSize": fn(*const TfTensor) -> usize;
    tensor_data = "TF_TensorData": fn(*const TfTensor) -> *mut c_void;
    string_init = "TF_StringInit": fn(*mut TfString);
    string_copy = "TF_StringCopy": fn(*mut TfString, *const c_uchar, usize);
    string_data = "TF_StringGetDataPointer": fn(*const TfString) -> *const c_uchar;
    string_size = "TF_StringGetSize": fn(*const TfString) -> usize;
    string_dealloc = "TF_StringDealloc": fn(*mut TfString);
    load_library = "TF_LoadLibrary": fn(*const c_char, *mut TfStatus) -> *mut c_void;
}

type RunByName = unsafe extern "C" fn(
    *mut TfNamedSession,
    *const TfBuffer,
    *const *const c_char,
    *const *mut TfTensor,
    c_int,
    *const *const c_char,
    *mut *mut TfTensor,
    c_int,
    *const *const c_char,
    c_int,
    *mut TfBuffer,
    *mut TfStatus,
);

/// The functions of a session that owns its graph and is run by the names of tensors. The header says that they may be
/// removed at any time: what needs them has to do without.
pub(super) struct NamedApi {
    pub(super) new_session:
        unsafe extern "C" fn(*const TfSessionOptions, *mut TfStatus) -> *mut TfNamedSession,
    pub(super) close_session: unsafe extern "C" fn(*mut TfNamedSession, *mut TfStatus),
    pub(super) delete_session: unsafe extern "C" fn(*mut TfNamedSession, *mut TfStatus),
    pub(super) extend: unsafe extern "C" fn(*mut TfNamedSession, *const c_void, usize, *mut TfStatus),
    pub(super) run: RunByName,
    pub(super) finalize: Option<Finalize>,
}

/// `DirectSession::Finalize`, which no C function stands for.
pub(super) struct Finalize {
    /// The table of functions that every `DirectSession` points to.
    pub(super) class: *const c_void,
    /// Takes where its status goes, and the session.
    pub(super) method: unsafe extern "C" fn(*mut u64, *mut c_void) -> *mut u64,
}

// SAFETY: the pointers are to memory of the library, which is not written.
unsafe impl Send for Finalize {}
// SAFETY: as above.
unsafe impl Sync for Finalize {}

impl Finalize {
    /// Looks the method up; `None` where it is not exported, or called in another way.
    fn look_up(libraries: &[Library]) -> Option<Finalize> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return None;
        }
        // SAFETY: by the C++ ABI of this platform, a class that does not fit registers is returned in memory whose
        // address is the first argument, before the object; the first of the table's functions is its third entry.
        unsafe {
            let table =
                symbol::<*const *const c_void>(libraries, "_ZTVN10tensorflow13DirectSessionE").ok()?;
            let method = symbol(libraries, "_ZN10tensorflow13DirectSession8FinalizeEv").ok()?;
            Some(Finalize { class: (*table).add(2).cast(), method: *method })
        }
    }
}

impl NamedApi {
    fn look_up(libraries: &[Library]) -> Result<NamedApi> {
        // SAFETY: the types are those that TensorFlow's header declares for these names.
        unsafe {
            Ok(NamedApi {
                new_session: *symbol(libraries, "TF_NewDeprecatedSession")?,
                close_session: *symbol(libraries, "TF_CloseDeprecatedSession")?,
                delete_session: *symbol(libraries, "TF_DeleteDeprecatedSession")?,
                extend: *symbol(libraries, "TF_ExtendGraph")?,
                run: *symbol(libraries, "TF_Run")?,
                finalize: Finalize::look_up(libraries),
            })
        }
    }
}

/// Opens TensorFlow's library at `path`, and `libtensorflow_framework` if it is in the same folder.
pub(super) fn open(path: &Path) -> Result<Api> {
    let framework = path.parent().map(|folder| folder.join("libtensorflow_framework.so.2"));
    memory::keep_freed_memory();
    let mut libraries = Vec::new();
    for library in framework.into_iter().filter(|framework| framework.is_file()).chain([path.to_owned()]) {
        // SAFETY: opening runs the library's initialisers; these are TensorFlow's, and importing it in Python runs them
        // in the same way. Local: TensorFlow exports a TLS library of its own, which as a global one would replace the
        // one that Python's ssl and hashlib were built with. Op libraries declare the framework as a dependency.
        let opened = unsafe { Library::open(Some(&library), RTLD_LAZY | RTLD_LOCAL) };
        libraries.push(opened.map_err(|why| {
            Error::new(
                Kind::FailedPrecondition,
                format!("Cannot open TensorFlow's library {}: {why}", library.display()),
            )
        })?);
    }
    let api = look_up(libraries)?;
    if reads::in_pieces(path) == 0 {
        tracing::debug!("TensorFlow reads variables whole: its table of functions is of another kind");
    }
    memory::drop_relocation_pages(path);
    Ok(api)
}

/// Asks TensorFlow, which looks at the environment and the processor, whether it uses oneDNN's kernels; if it cannot be asked, it
/// may.
fn uses_onednn(libraries: &[Library]) -> bool {
    // SAFETY: it is declared `bool IsMKLEnabled()` in `tensorflow/core/util/util.h`, and may be called at any time.
    unsafe {
        let asked = symbol::<unsafe extern "C" fn() -> bool>(libraries, "_ZN10tensorflow12IsMKLEnabledEv");
        asked.map_or(true, |asked| asked())
    }
}

/// # Safety
/// `T` must be the function pointer type that TensorFlow declares for `name`.
unsafe fn symbol<T: Copy>(libraries: &[Library], name: &str) -> Result<Symbol<T>> {
    for library in libraries.iter().rev() {
        // SAFETY: the caller's obligation.
        if let Ok(found) = unsafe { library.get::<T>(name.as_bytes()) } {
            return Ok(found);
        }
    }
    Err(Error::new(
        Kind::FailedPrecondition,
        format!("TensorFlow's library has no {name}: a TensorFlow from 2.4 on is needed"),
    ))
}
