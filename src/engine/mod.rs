//! The interface between Servable and inference engines: an [`Engine`] loads a version, a [`Model`] runs it.
//!
//! Each engine has a folder here; [`choice`] selects the one that loads a version.
//!
//! Contract, tested for every engine by `contract.rs`: `load` may take long and is called only from loading threads;
//! `run` is called from any number of threads at once; dropping a `Model` frees everything it holds, may take long, and
//! happens on an unloading thread.

pub mod acceleration;
mod checksums;
pub mod choice;
pub mod content;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod fake;
mod forms;
pub mod frozen;
pub mod litert;
pub mod onnx;
pub mod openvino;
mod shapes;
pub mod signature;
mod starter;
pub mod tensorflow;
mod waiting;

use crate::error::Result;
use crate::tensor::Tensor;
use acceleration::Acceleration;
use acceleration::report::Report;
use bytes::Bytes;
use content::Content;
use signature::Signature;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Options for loading a version.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// True if a TensorFlow Lite model is preferred to a SavedModel in the same folder.
    pub prefer_tflite: bool,
    /// How SavedModels are accelerated, if they are.
    pub acceleration: Option<Acceleration>,
    /// Options for TensorFlow.
    pub tensorflow: tensorflow::Options,
}

/// Turns a version's folder into a [`Model`].
pub trait Engine: Send + Sync {
    /// Starts the threads that all models share, and returns whether models loaded with `options` use only these. If
    /// so, a load may run at low priority, which any threads that it starts would inherit. Called before `load`, at
    /// normal priority.
    fn shares_threads(&self, options: &LoadOptions) -> bool;

    /// Loads the model in `path`, a version's folder or a file that is a model by itself; blocks until it is loaded.
    fn load(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Model>>;
}

/// A tensor of a model's graph, resolved by name when the model is loaded. Endpoints are ordered by name: a session is
/// always run with feeds and fetches sorted by endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub u32);

/// The threads that a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Schedules operations in the calling thread (large ones still spread over the intra-op pool).
    Caller,
    /// Schedules operations in a thread of the engine, which no other run has meanwhile; where none is free, on the pool.
    One,
    /// Schedules operations on a pool that all runs share, as TensorFlow Serving does.
    Pool,
}

/// What is known of the end of a signature's runs, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Termination {
    /// Nothing: operations may wait for each other, or for something outside.
    Unknown,
    /// It waits for nothing, but a loop may go on for ever.
    MayLoop,
    /// It ends; when depends on the values of the inputs.
    Finite,
    /// It ends, equally soon for any inputs of the same shapes.
    ByShapes,
}

/// Options of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// The threads it may use.
    pub threads: Threads,
    /// Longest time; a run that exceeds it fails with `DEADLINE_EXCEEDED`. Engines may ignore it for
    /// [`Threads::Caller`].
    pub timeout: Option<Duration>,
}

/// Work that makes a loaded model's runs faster while it serves.
pub trait Preparation: Send + Sync {
    /// Does the work, in this thread. Returns soon after the model is dropped; false if it has to be called again, for
    /// want of a request to try with.
    fn prepare(&self) -> bool;

    /// Returns how far each signature is.
    fn reports(&self) -> Vec<Report>;
}

/// A loaded model: runs its graph.
pub trait Model: Send + Sync {
    /// Returns every signature, by name.
    fn signatures(&self) -> &BTreeMap<String, Signature>;

    /// Returns the signatures as a serialized `tensorflow.serving.SignatureDefMap`, exactly as in the model's files.
    /// `None` if these have another format: then the map is built from [`Self::signatures`].
    fn signature_def_map(&self) -> Option<Bytes> {
        None
    }

    /// Returns the endpoint of graph tensor `tensor` (such as `x:0`), if a signature uses it.
    fn endpoint(&self, tensor: &str) -> Option<Endpoint>;

    /// Returns whether running `signature` is known to have no side effects, inside the model or outside it.
    fn changes_nothing(&self, signature: &str) -> bool;

    /// Returns what is known of the end of a run of `signature`. One that may not end by itself must end by its timeout,
    /// unless it runs in its caller's thread.
    fn termination(&self, signature: &str) -> Termination;

    /// Returns what the strings of input `input` (its alias) of `signature` have to hold, for a run to succeed; `None`
    /// if that is not known.
    fn content(&self, _signature: &str, _input: &str) -> Option<&Content> {
        None
    }

    /// Returns the work that would make its runs faster, if there is any. It is done while the model serves.
    fn preparation(&self) -> Option<Arc<dyn Preparation>> {
        None
    }

    /// With `true`, makes what the model has for many runs at once, and uses it for all; with `false`, drops it until
    /// such runs come. To try it out; models without that do nothing.
    fn share_cores(&self, _shared: bool) -> Result<()> {
        Ok(())
    }

    /// Runs the graph with `feeds` and returns one tensor per fetch, in the order of `fetches`. Both may come in any
    /// order; an endpoint may be fed once and fetched several times.
    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>>;

    /// Ends the runs that are under way, where the engine can do that before their timeouts; later ones may fail. For a model that
    /// is to be dropped once the last run has ended, for which nobody waits.
    fn interrupt(&self) {}

    /// Does [`Self::run`] if it begins at once; `None` if it would have to wait for another run, or to make first what
    /// runs need. For threads that serve others meanwhile.
    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        Some(self.run(feeds, fetches, options))
    }
}
