//! One loaded version: its signatures, its model, and the placement of its runs.

pub mod placement;

use crate::batch::{self, Batcher};
use crate::context::Context;
use crate::engine::content::Content;
use crate::engine::signature::{Signature, TensorSpec, named};
use crate::engine::{Endpoint, Model, RunOptions, Threads};
use crate::error::{Error, Kind, Result};
use crate::metrics::{self, Api};
use crate::profile::{self, Phase};
use crate::tensor::Tensor;
use bytes::Bytes;
use placement::{Placement, Policy};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

/// A version that requests can hold. Its last handle may drop on any thread: the model itself is freed only by
/// [`Drain::wait_and_free`].
pub struct Servable {
    name: String,
    version: i64,
    model: Arc<dyn Model>,
    // By signature: one may be short and another long.
    placements: BTreeMap<String, Placement>,
    unknown: Placement,
    // Batches its requests, if enabled.
    batcher: Option<Arc<Batcher>>,
    // Counts its runs, if enabled.
    counts: Option<Arc<metrics::ModelCounts>>,
    // Dropped last, when nothing of this servable is in use; see `new`.
    _in_use: mpsc::Sender<Infallible>,
}

/// Waits for a servable's last handle and frees its model.
pub struct Drain {
    model: Arc<dyn Model>,
    in_use: InUse,
}

/// Tells whether requests hold a servable.
#[derive(Clone)]
pub struct InUse(Arc<Mutex<mpsc::Receiver<Infallible>>>);

impl InUse {
    /// Blocks until no request holds the servable.
    pub fn wait(&self) {
        // Nothing is ever sent: the channel only closes.
        let _closed = self.0.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

impl Drain {
    /// Returns a handle for waiting until no request holds the servable.
    pub fn in_use(&self) -> InUse {
        self.in_use.clone()
    }

    /// Blocks until no request holds the servable, then frees the model in this thread.
    pub fn wait_and_free(self) {
        self.in_use.wait();
        drop(self.model);
    }
}

impl Servable {
    /// Wraps a loaded model; its runs are batched by `batching` and counted in `counts`. The second value frees it once
    /// the first is unused.
    pub fn new(
        name: String,
        version: i64,
        model: Box<dyn Model>,
        policy: Policy,
        batching: Option<(Arc<batch::Pool>, batch::Parameters)>,
        counts: Option<Arc<metrics::ModelCounts>>,
    ) -> (Arc<Servable>, Drain) {
        let model: Arc<dyn Model> = model.into();
        let (sender, receiver) = mpsc::channel();
        let drain = Drain { model: model.clone(), in_use: InUse(Arc::new(Mutex::new(receiver))) };
        let place = |name: &String| (name.clone(), Placement::new(policy, model.is_bounded(name)));
        let placements = model.signatures().keys().map(place).collect();
        let unknown = Placement::new(policy, false);
        let batcher = batching.map(|(pool, parameters)| Batcher::new(pool, model.clone(), parameters));
        let servable =
            Servable { name, version, model, placements, unknown, batcher, counts, _in_use: sender };
        (Arc::new(servable), drain)
    }

    /// Returns the model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the version number.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Returns every signature, by name.
    pub fn signatures(&self) -> &BTreeMap<String, Signature> {
        self.model.signatures()
    }

    /// Returns signature `name`; the default one for an empty name.
    pub fn signature(&self, name: &str) -> Option<&Signature> {
        self.signatures().get(named(name))
    }

    /// Returns the signatures in the form of the model's files; see [`Model::signature_def_map`].
    pub fn signature_def_map(&self) -> Option<Bytes> {
        self.model.signature_def_map()
    }

    /// Returns whether running `signature` is known to have no side effects.
    pub fn changes_nothing(&self, signature: &str) -> bool {
        self.model.changes_nothing(signature)
    }

    /// Returns whether, by measurements so far, the next request for `signature` should run in the thread that read it.
    /// Never true with batching, where a request may wait for others.
    pub fn in_caller(&self, signature: &str) -> bool {
        self.batcher.is_none() && self.placement(signature).in_caller()
    }

    /// Returns whether each run of `signature` ends, on its own or by its deadline.
    pub fn ends(&self, signature: &str) -> bool {
        self.model.is_bounded(signature) || self.placement(signature).threads() == Threads::Pool
    }

    /// Returns what the strings of an input have to hold; see [`Model::content`].
    pub fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.model.content(signature, input)
    }

    /// Runs the batch sizes used in serving, once the version is warm.
    pub fn warm_batches(&self) {
        if let Some(batcher) = &self.batcher {
            batcher.warm();
        }
    }

    fn placement(&self, signature: &str) -> &Placement {
        self.placements.get(signature).unwrap_or(&self.unknown)
    }

    /// Returns the endpoint of an input or output.
    pub fn endpoint(&self, spec: &TensorSpec) -> Result<Endpoint> {
        self.model.endpoint(&spec.tensor).ok_or_else(|| {
            Error::invalid(format!("Tensor {}, specified in signature, is not in the graph", spec.tensor))
        })
    }

    /// Returns the endpoint of graph tensor `name` (`x` or `x:0`), if a signature uses it.
    pub fn tensor(&self, name: &str) -> Option<Endpoint> {
        self.model.endpoint(name).or_else(|| self.model.endpoint(&format!("{name}:0")))
    }

    /// Runs `signature` on `inputs`, one tensor per input in the signature's order (sorted by alias), and returns one
    /// tensor per output of `outputs` (positions in the signature's outputs) with its alias, in that order.
    pub fn predict<'s>(
        &'s self,
        signature: &'s Signature,
        inputs: Vec<Tensor>,
        outputs: &[usize],
        context: &Context,
    ) -> Result<Vec<(&'s str, Tensor)>> {
        let feeds = signature
            .inputs
            .iter()
            .zip(inputs)
            .map(|(spec, tensor)| Ok((self.endpoint(spec)?, tensor)))
            .collect::<Result<Vec<_>>>()?;
        let wanted = || outputs.iter().map(|output| &signature.outputs[*output]);
        let fetches = wanted().map(|spec| self.endpoint(spec)).collect::<Result<Vec<_>>>()?;
        let results = self.run(Api::Predict, &signature.name, &feeds, &fetches, context)?;
        context.memory.grow(results.iter().map(Tensor::memory).sum())?;
        if results.len() == fetches.len() {
            Ok(wanted().map(|spec| spec.alias.as_str()).zip(results).collect())
        } else {
            Err(Error::new(Kind::Unknown, "Predict internal error"))
        }
    }

    /// Runs the graph for `signature` on behalf of `api`: feeds in any order, a tensor per fetch in the order of
    /// `fetches`. The context's deadline bounds the run if the engine can be interrupted.
    pub fn run(
        &self,
        api: Api,
        signature: &str,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        context: &Context,
    ) -> Result<Vec<Tensor>> {
        let started = Instant::now();
        let placement = self.placement(signature);
        let threads = placement.threads();
        let timeout = context.time_left(started)?;
        let ran = match &self.batcher {
            Some(batcher) => {
                let repeatable = self.changes_nothing(signature);
                batcher.run(&batch::Run { feeds, fetches, threads, context, repeatable })
            }
            None => {
                let _running = profile::phase(Phase::Run);
                let outputs = self.model.run(feeds, fetches, RunOptions { threads, timeout });
                outputs.map(|outputs| (outputs, started.elapsed()))
            }
        };
        let took = started.elapsed();
        placement.observe(ran.as_ref().map_or(took, |(_, took)| *took));
        // TensorFlow counts only successful runs; those of batches are counted in the batcher.
        if let (Some(counts), Ok(_)) = (&self.counts, &ran) {
            counts.ran(api, took, self.batcher.is_none());
        }
        ran.map(|(outputs, _)| outputs)
    }
}
