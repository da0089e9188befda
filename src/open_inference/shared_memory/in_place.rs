//! Inputs that the model reads where the client has them, if the server was started so.
//!
//! A client may change them while the model runs. So only numbers of which every value is right are read there: not those by
//! which a model could find a place in memory, which it has checked before, and not truth values and strings, which are
//! checked here.

use super::{Placed, Region};
use crate::error::{Error, Result};
use crate::host::shared_mapping::SharedMapping;
use crate::tensor::DType;
use bytes::Bytes;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};

/// What a request reads where its client has it.
#[derive(Debug, Default)]
pub struct ReadInPlace(Mutex<Vec<Placed>>);

impl ReadInPlace {
    /// Fails if a file was cut before all of it was read.
    pub fn check(&self) -> Result<()> {
        let placed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        placed.iter().find(|placed| placed.region.is_cut()).map_or(Ok(()), |placed| Err(placed.cut()))
    }

    /// Returns the bytes of an input of `dtype` at `placed`; `None` if they have to be copied.
    pub(super) fn take(&self, placed: &Placed, dtype: DType) -> Result<Option<Bytes>> {
        let Some(mapping) = placed.region.mapping.as_ref().filter(|_| is_any_value_right(dtype)) else {
            return Ok(None);
        };
        if mapping.is_cut() {
            return Err(placed.cut());
        }
        let bytes = mapping.bytes(placed.of_request..placed.of_request + placed.bytes);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(placed.clone());
        Ok(Some(bytes))
    }
}

impl Region {
    fn is_cut(&self) -> bool {
        self.mapping.as_deref().is_some_and(SharedMapping::is_cut)
    }

    /// Maps it. Where that cannot be, its inputs are copied.
    pub(super) fn mapped(self) -> Region {
        let mapped = |bytes| SharedMapping::of(&self.file, self.offset, bytes).ok();
        let mapping = usize::try_from(self.bytes).ok().and_then(mapped).map(Arc::new);
        Region { mapping, ..self }
    }
}

impl Placed {
    fn cut(&self) -> Error {
        self.failed("read", &ErrorKind::UnexpectedEof.into())
    }
}

/// Returns whether numbers of `dtype` may change while a model computes with them.
fn is_any_value_right(dtype: DType) -> bool {
    matches!(dtype, DType::Float | DType::Double | DType::Half | DType::BFloat16)
}
