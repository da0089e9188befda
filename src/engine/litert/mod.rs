//! LiteRT through its C API.

use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use std::path::Path;

/// The open library.
#[derive(Clone, Copy)]
pub struct LiteRt;

impl LiteRt {
    /// Opens `library`, or returns it if it is already open.
    pub fn open(library: &Path) -> Result<LiteRt> {
        let _ = library;
        Ok(LiteRt)
    }
}

impl Engine for LiteRt {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        Err(Error::new(Kind::Unimplemented, format!("{} cannot be loaded yet", path.display())))
    }
}
