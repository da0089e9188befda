//! OpenVINO through its C API.

use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// The open library.
#[derive(Clone, Copy)]
pub struct OpenVino;

impl OpenVino {
    /// Opens `library`, or returns it if it is already open.
    pub fn open(library: &Path) -> Result<OpenVino> {
        let _ = library;
        Ok(OpenVino)
    }
}

impl Engine for OpenVino {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        Err(Error::new(Kind::Unimplemented, format!("{} cannot be loaded yet", path.display())))
    }
}
