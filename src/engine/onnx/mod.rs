//! ONNX Runtime through its C API.

use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// The open library.
#[derive(Clone, Copy)]
pub struct Onnx;

impl Onnx {
    /// Opens `library`, or returns it if it is already open.
    pub fn open(library: &Path) -> Result<Onnx> {
        let _ = library;
        Ok(Onnx)
    }
}

impl Engine for Onnx {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        Err(Error::new(Kind::Unimplemented, format!("{} cannot be loaded yet", path.display())))
    }
}
