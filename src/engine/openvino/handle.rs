//! What OpenVINO's functions return: objects that have to be freed, and failures.

#![allow(unsafe_code)]

use super::ffi::Api;
use crate::error::{Error, Kind, Result};
use std::ffi::{CStr, c_int};

/// An object of OpenVINO's, freed when dropped.
pub(super) struct Handle<T> {
    raw: *mut T,
    free: unsafe extern "C" fn(*mut T),
}

// SAFETY: the objects are counted references, which OpenVINO lets any thread use and free; the callers of its functions
// take care that only those are called at once that may be.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

impl<T> Handle<T> {
    /// Returns what `make` creates; `free` is the function for it.
    pub(super) fn made(
        api: &Api,
        free: unsafe extern "C" fn(*mut T),
        make: impl FnOnce(*mut *mut T) -> c_int,
    ) -> Result<Handle<T>, Failure> {
        let mut raw = std::ptr::null_mut();
        check(api, make(&raw mut raw))?;
        if raw.is_null() {
            return Err(Failure { code: GENERAL_ERROR, text: "it returned nothing".to_owned() });
        }
        Ok(Handle { raw, free })
    }

    /// Returns the pointer, for calls that `self` outlives.
    pub(super) fn as_ptr(&self) -> *mut T {
        self.raw
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: `raw` was made for `free`, and is freed once.
        unsafe { (self.free)(self.raw) };
    }
}

/// Codes of `ov_status_e`.
const GENERAL_ERROR: c_int = -1;
const CANCELLED: c_int = -13;
const UNKNOWN_EXCEPTION: c_int = -17;

/// Why a function failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: c_int,
    /// OpenVINO's own text.
    pub(super) text: String,
}

impl Failure {
    /// Returns the error of a run: what passed our checks and still fails, fails by the shapes or values that were fed.
    pub(super) fn of_run(self) -> Error {
        let kind = match self.code {
            CANCELLED => Kind::DeadlineExceeded,
            UNKNOWN_EXCEPTION => Kind::Internal,
            _ => Kind::InvalidArgument,
        };
        Error::new(kind, format!("OpenVINO: {}", self.text))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::internal(format!("OpenVINO: {}", failure.text))
    }
}

/// Returns OpenVINO's failure if `code` is one. The library keeps only the last text of all threads: of two failures at
/// once, both may get the same one.
pub(super) fn check(api: &Api, code: c_int) -> Result<(), Failure> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: returns null, or a C string that is the caller's, until `free`.
    let text = unsafe {
        let raw = (api.last_error)();
        let text =
            if raw.is_null() { String::new() } else { CStr::from_ptr(raw).to_string_lossy().into_owned() };
        (api.free)(raw);
        text
    };
    let text = plain(&text);
    Err(Failure { code, text: if text.is_empty() { format!("status {code}") } else { text } })
}

/// Returns the text of an exception without the places in OpenVINO's sources that it passed.
fn plain(text: &str) -> String {
    let said =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Exception from "));
    said.collect::<Vec<_>>().join(" ")
}

#[test]
fn places_in_sources_are_left_out_of_texts() {
    let text = "Exception from src/a.cpp:1:\nException from src/b.cpp:2:\n[CPU] Add: dims\n mismatch\n\n";
    assert_eq!(plain(text), "[CPU] Add: dims mismatch");
}
