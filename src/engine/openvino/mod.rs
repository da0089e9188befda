//! OpenVINO through its C API: its own models (`model.xml` with `model.bin`), and frozen TensorFlow graphs.
//!
//! The library is opened once per process ([`OpenVino::open`]) and stays open. A version is a model
//! ([`model`]) that is compiled for the CPU, in one or two forms.
//!
//! - Inputs and outputs have the names of the model's tensors, in one signature, `serving_default`. Types that the C API
//!   cannot move (strings and numbers of less than a byte) are refused when the model is loaded.
//! - OpenVINO's CPU plugin computes with integers of 32 bits and floats of 32 bits, whatever the model says. Integers
//!   beyond that are refused where they are fed; what a model makes itself of 32 bits or more it makes wrongly.
//! - A model with state has one state, which all its clients share, as a SavedModel's variables would be: it has one
//!   infer request, which its runs get one after the other.
//! - Runs take at most the cores: either one request of a model at a time, on as many threads as there are cores, which
//!   all models share, that of the run being one of them; or as many requests as there are cores, each in the thread of
//!   its run ([`super::forms`]). Threads are bound to no core.

mod admission;
mod ffi;
mod frozen;
mod handle;
mod kept;
pub mod layers;
mod loading;
mod model;
mod port;
mod requests;
mod sizes;
mod start;
mod tensors;
mod types;
mod xml;

use super::forms::Gauge;
use super::frozen::FrozenGraph;
use super::starter::Starter;
use super::{Engine, LoadOptions, Model};
use crate::error::{Error, Kind, Result};
use crate::host::memory;
use ffi::{Api, OvCore};
use handle::Handle;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The floats that a model is computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 32 bits, as in TensorFlow.
    F32,
    /// 16 bits with the range of 32, where the processor has it: less exact.
    Bf16,
}

/// The open library.
#[derive(Clone, Copy)]
pub struct OpenVino {
    library: &'static Library,
}

struct Library {
    api: Api,
    core: Handle<OvCore>,
    starter: Starter,
    gauge: Gauge,
}

/// The path of the open library, and the library itself.
static OPEN: Mutex<Option<(PathBuf, OpenVino)>> = Mutex::new(None);

impl OpenVino {
    /// Opens `library` (`libopenvino_c.so`), or returns it if it is already open. The first time, it starts threads for
    /// all models, which get the priority of the calling thread: so not at low priority.
    pub fn open(library: &Path) -> Result<OpenVino> {
        let mut open = OPEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*open {
            Some((path, openvino)) if path == library => return Ok(*openvino),
            Some((path, _)) => {
                return Err(Error::new(
                    Kind::FailedPrecondition,
                    format!("OpenVINO is already open from {}: a process can hold one", path.display()),
                ));
            }
            None => {}
        }
        let api = ffi::open(library)?;
        let core = start::core(&api)?;
        let gauge = Gauge::new(start::cores());
        let library_with_core = Library { api, core, starter: Starter::new()?, gauge };
        let openvino = OpenVino { library: Box::leak(Box::new(library_with_core)) };
        start::shared_threads(openvino.library)?;
        memory::drop_relocation_pages(library);
        *open = Some((library.to_owned(), openvino));
        Ok(openvino)
    }

    /// Loads a frozen TensorFlow graph; its one signature, `serving_default`, has the names of `frozen`. What OpenVINO
    /// needs is kept in `folder`, by which the next load of the same graph is faster; the model keeps `folder`, too. A
    /// graph that OpenVINO cannot read, or whose inputs and outputs it has under other names or types, is an error.
    pub fn open_frozen(
        &self,
        frozen: &FrozenGraph,
        folder: impl AsRef<Path> + Send + Sync + 'static,
        precision: Precision,
    ) -> Result<Box<dyn Model>> {
        Ok(Box::new(loading::frozen(self.library, frozen, folder, precision)?))
    }

    /// Writes what [`Self::open_frozen`] reads to `graph.pb` in `folder`. Returns its path, and the names of its inputs.
    pub fn write_frozen(frozen: &FrozenGraph, folder: &Path) -> Result<(PathBuf, Vec<String>)> {
        let prepared = frozen::prepare(frozen)?;
        let path = frozen::write(&prepared.graph, folder)?;
        Ok((path, prepared.inputs))
    }

    /// Loads the model in the file `name` in `folder`, which was made of the file that [`Self::write_frozen`] writes of
    /// `frozen`; the model keeps `folder`.
    pub fn open_quantized(
        &self,
        frozen: &FrozenGraph,
        folder: impl AsRef<Path> + Send + Sync + 'static,
        name: &str,
    ) -> Result<Box<dyn Model>> {
        Ok(Box::new(loading::quantized(self.library, frozen, folder, name)?))
    }
}

impl Engine for OpenVino {
    fn shares_threads(&self, _: &LoadOptions) -> bool {
        // Whatever starts threads is done at the priority with which the library was opened.
        true
    }

    fn load(&self, path: &Path, _: &LoadOptions) -> Result<Box<dyn Model>> {
        let _mapped = memory::MappedWeights::begin();
        Ok(Box::new(loading::ir(self.library, path)?))
    }
}

#[cfg(test)]
mod tests;
