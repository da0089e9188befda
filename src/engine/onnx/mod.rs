//! ONNX Runtime through its C API.
//!
//! The library is opened once per process and stays open ([`ffi`]). All models share one environment ([`runtime`]). A
//! version is a session with a thread for each core, and, once runs come at once, one whose runs take a core each
//! ([`super::forms`], [`source`]); its file is read first for what the C API does not tell ([`graph`]).

mod failure;
mod ffi;
pub mod graph;
mod load;
mod ops;
mod runtime;
mod session;
mod source;
mod tensors;
mod watch;
mod wire;

use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use runtime::Runtime;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The open library.
#[derive(Clone, Copy)]
pub struct Onnx {
    runtime: &'static Runtime,
}

/// The path of the open library, and the library itself.
static OPEN: Mutex<Option<(PathBuf, Onnx)>> = Mutex::new(None);

impl Onnx {
    /// Opens `library` (`libonnxruntime.so.1.…`), or returns it if it is already open. Threads of sessions get the
    /// priority of the thread that opens it: so not at low priority.
    pub fn open(library: &Path) -> Result<Onnx> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some((path, onnx)) if path == library => return Ok(*onnx),
            Some((path, _)) => {
                return Err(Error::new(
                    Kind::FailedPrecondition,
                    format!("ONNX Runtime is already open from {}: a process can hold one", path.display()),
                ));
            }
            None => {}
        }
        let onnx = Onnx { runtime: Box::leak(Box::new(Runtime::new(ffi::open(library)?)?)) };
        *open = Some((library.to_owned(), onnx));
        Ok(onnx)
    }

    /// Returns the library's version, such as `1.32.0`.
    pub fn version(&self) -> &'static str {
        &self.runtime.api.version
    }
}

impl Engine for Onnx {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        // Its sessions' threads are started in a thread of their own (`starter.rs`).
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        Ok(Box::new(load::load(self.runtime, path)?))
    }
}

#[cfg(test)]
mod tests;
