//! The seam between Servable and what computes: an [`Engine`] loads, a [`Model`] runs.
//!
//! An engine is a folder here; [`choice`] says which one loads a version. TensorFlow is the one there is.
//!
//! Contract, which `contract.rs` tests for every engine: `load` may take long and is called from loading threads only;
//! `run` is called from any number of threads at once; dropping a `Model` frees everything it holds, may take long, and
//! happens on an unloading thread.

pub mod choice;
#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
pub(crate) mod fake;
pub mod signature;
pub mod tensorflow;

use crate::error::Result;
use crate::tensor::Tensor;
use bytes::Bytes;
use choice::EngineKind;
use signature::Signature;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// How to load a version.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The engine; by default the one that the version's files are for.
    pub engine: Option<EngineKind>,
    /// What TensorFlow needs to know.
    pub tensorflow: tensorflow::Options,
}

/// Turns a version's folder into a [`Model`].
pub trait Engine: Send + Sync {
    /// Whether models loaded with `options` have no threads of their own, so that a load may run at low priority:
    /// threads inherit that. Starts the threads that all models share. Called before `load`, at normal priority.
    fn shares_threads(&self, options: &LoadOptions) -> bool;

    /// Loads the model in `path`. Blocks for as long as that takes.
    fn load(&self, path: &Path, options: &LoadOptions) -> Result<Box<dyn Model>>;
}

/// One tensor of a model's graph, resolved by name once, at load. The order of endpoints is the order of their
/// names: feeds and fetches sorted by endpoint are the one fixed order in which a session is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(pub u32);

/// Which threads a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// Operations are scheduled in the calling thread (a large one still spreads over the intra-op pool).
    Caller,
    /// Operations are scheduled on the session's own pool, as TensorFlow Serving does.
    Pool,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Which threads.
    pub threads: Threads,
    /// How long the engine may take; expiry is `DEADLINE_EXCEEDED`. Engines may ignore it for [`Threads::Caller`].
    pub timeout: Option<Duration>,
}

/// A loaded model: runs its graph.
pub trait Model: Send + Sync {
    /// Every signature, by name.
    fn signatures(&self) -> &BTreeMap<String, Signature>;

    /// The signatures as a serialized `tensorflow.serving.SignatureDefMap`, exactly as the model's files hold them. None
    /// where these are of another kind: then the map is made of [`Self::signatures`].
    fn signature_def_map(&self) -> Option<Bytes> {
        None
    }

    /// The endpoint of graph tensor `tensor` (such as `x:0`), if any signature names it.
    fn endpoint(&self, tensor: &str) -> Option<Endpoint>;

    /// Whether running `signature` is known to change nothing, in the model or outside it.
    fn changes_nothing(&self, signature: &str) -> bool;

    /// Whether the length of a run of `signature` depends on the shapes of its inputs alone. A run that is not
    /// bounded must be able to end by its timeout.
    fn is_bounded(&self, signature: &str) -> bool;

    /// Feeds `feeds`, fetches `fetches`, and returns a tensor per fetch, in the order of `fetches`.
    /// Callers may give both in any order, each fed endpoint once; an endpoint may be fetched several times.
    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>>;
}
