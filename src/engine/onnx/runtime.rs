//! What all models share: the environment, the allocator of names, the count of runs, the watch over runs with a deadline.

#![allow(unsafe_code)]

use super::failure::Failure;
use super::ffi::{Api, OrtAllocator, OrtEnv, OrtMemoryInfo, Status};
use super::watch::Watch;
use crate::engine::forms::Gauge;
use crate::engine::starter::Starter;
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::num::NonZero;
use std::ptr::null_mut;

/// The open library with its environment.
pub(super) struct Runtime {
    pub(super) api: Api,
    pub(super) env: *mut OrtEnv,
    /// Says that memory is the processor's.
    pub(super) memory: *mut OrtMemoryInfo,
    /// ONNX Runtime's own, for names and strings.
    pub(super) allocator: *mut OrtAllocator,
    pub(super) watch: Watch,
    /// Starts the threads of sessions.
    pub(super) starter: Starter,
    pub(super) gauge: Gauge,
}

// SAFETY: ONNX Runtime's environment, memory descriptions and default allocator may be used from any thread at once, and
// are never freed here.
unsafe impl Send for Runtime {}
// SAFETY: as above.
unsafe impl Sync for Runtime {}

/// `ORT_LOGGING_LEVEL_WARNING`.
const WARNINGS: c_int = 2;
/// `OrtDeviceAllocator`, and `OrtMemTypeDefault`.
const DEVICE_ALLOCATOR: c_int = 0;
const DEFAULT_MEMORY: c_int = 0;

impl Runtime {
    /// Makes the environment.
    pub(super) fn new(api: Api) -> Result<Runtime> {
        let failed = |why: Failure| Error::internal(format!("ONNX Runtime cannot start: {}", why.text));
        let (mut env, mut memory, mut allocator) = (null_mut(), null_mut(), null_mut());
        // SAFETY: the name is a C string; the results are ours. The environment is never released.
        unsafe {
            let made = (api.create_env)(log, null_mut(), WARNINGS, c"servable".as_ptr(), &raw mut env);
            api.check(made).map_err(failed)?;
            let made = (api.create_cpu_memory_info)(DEVICE_ALLOCATOR, DEFAULT_MEMORY, &raw mut memory);
            api.check(made).map_err(failed)?;
            api.check((api.default_allocator)(&raw mut allocator)).map_err(failed)?;
        }
        let gauge = Gauge::new(std::thread::available_parallelism().map_or(1, NonZero::get));
        Ok(Runtime { api, env, memory, allocator, watch: Watch::start()?, starter: Starter::new()?, gauge })
    }

    /// Takes over a C string that ONNX Runtime allocated.
    ///
    /// # Safety
    /// `text` must be such a string, which nothing else frees.
    pub(super) unsafe fn take_text(&self, text: *mut c_char) -> CString {
        // SAFETY: the caller's obligation; freed once. Freeing cannot fail.
        unsafe {
            let copy = CStr::from_ptr(text).to_owned();
            let freed = (self.api.allocator_free)(self.allocator, text.cast());
            drop(self.api.check(freed));
            copy
        }
    }
}

impl Api {
    /// Returns the error that `status` stands for, if it does, and releases it.
    pub(super) fn check(&self, status: Status) -> std::result::Result<(), Failure> {
        if status.is_null() {
            return Ok(());
        }
        // SAFETY: the status is live, and so is its message until it is released, once.
        unsafe {
            let message = CStr::from_ptr((self.error_message)(status)).to_string_lossy();
            let failure = Failure::new((self.error_code)(status), &message);
            (self.release_status)(status);
            Err(failure)
        }
    }
}

/// Passes ONNX Runtime's log lines on at the level of debugging: what fails is in an error's text, too.
unsafe extern "C" fn log(
    _: *mut c_void,
    _severity: c_int,
    _category: *const c_char,
    _id: *const c_char,
    _place: *const c_char,
    message: *const c_char,
) {
    if message.is_null() {
        return;
    }
    // SAFETY: ONNX Runtime passes a C string that is live during the call.
    let message = unsafe { CStr::from_ptr(message) };
    tracing::debug!("ONNX Runtime: {}", message.to_string_lossy().trim_end());
}
