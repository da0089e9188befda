//! A model whose signatures may move to another engine, one by one, between two runs.

use super::chain::{Chain, Declined, Ends, NewShapes, time_left};
use super::decisions::{Decision, Decisions};
use super::new_shapes::Answered;
use super::others::Others;
use super::report::{Progress, Report};
use super::samples::Samples;
use crate::engine::content::Content;
use crate::engine::signature::Signature;
use crate::engine::{Endpoint, Model, Preparation, RunOptions, Termination, Threads};
use crate::error::{Kind, Result};
use crate::tensor::Tensor;
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use std::collections::BTreeMap;
#[cfg(test)]
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Runs that the other engine may refuse, and TensorFlow answer, before the signature goes back for good.
const MOST_REFUSED: u64 = 3;
/// Of at least so many runs that were not for the other engine, one in [`SHARE`] of all sends the signature back, too: they
/// are done twice.
const MANY_DECLINED: u64 = 64;
const SHARE: u64 = 4;
/// Longest time of a run while a candidate is compared.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Returns whether a signature is one of TensorFlow's own, with a node for its output, which no request can fetch.
fn is_tensorflows(signature: &str) -> bool {
    matches!(signature, "__saved_model_init_op" | "__saved_model_train_op")
}

/// The model as TensorFlow loaded it, and the ways of its signatures.
pub(super) struct Accelerated {
    shared: Arc<Shared>,
}

/// What the preparation of a model and its runs share.
pub(super) struct Shared {
    /// What the model is called in the log: its folder.
    pub(super) name: String,
    pub(super) reference: Arc<dyn Model>,
    pub(super) routes: Vec<Route>,
    /// True once the model is to be freed.
    pub(super) ends: AtomicBool,
    /// Counts the runs of clients while a candidate is timed.
    pub(super) others: &'static Others,
    /// Held while the model is prepared.
    pub(super) busy: Arc<Mutex<()>>,
    prepare: Box<dyn Fn(&Shared) -> bool + Send + Sync>,
}

/// Where the runs of a signature go.
pub(super) struct Route {
    pub(super) signature: String,
    pub(super) ends: Ends,
    pub(super) moved: ArcSwapOption<Moved>,
    pub(super) samples: Samples,
    /// Where it is kept that the signature goes back, if it moved and that can be kept.
    pub(super) kept: OnceLock<Decisions>,
    /// True while the other engine is tried with shapes that are new to it.
    pub(super) tries_shapes: AtomicBool,
    refused: AtomicU64,
    runs: AtomicU64,
    declined: AtomicU64,
    report: Mutex<Report>,
}

/// What a signature has moved to.
pub(super) struct Moved {
    pub(super) chain: Chain,
    /// By how much its numbers may differ from TensorFlow's, relative to a tensor's largest; `None` in lower precision,
    /// where they differ by more.
    pub(super) tolerance: Option<f64>,
}

impl Accelerated {
    /// Wraps `reference`. `prepare` returns whether everything is decided.
    pub(super) fn new(
        name: String,
        reference: Arc<dyn Model>,
        others: &'static Others,
        prepare: impl Fn(&Shared) -> bool + Send + Sync + 'static,
    ) -> Accelerated {
        let routes =
            reference.signatures().values().filter_map(|signature| Route::new(&*reference, signature));
        let routes = routes.collect();
        let (ends, busy) = (AtomicBool::new(false), Arc::default());
        Accelerated {
            shared: Arc::new(Shared {
                name,
                reference,
                routes,
                ends,
                others,
                busy,
                prepare: Box::new(prepare),
            }),
        }
    }
}

#[cfg(test)]
impl Accelerated {
    /// Says that the model is about to be dropped.
    pub(super) fn end(&self) {
        self.shared.ends.store(true, Relaxed);
    }

    /// Keeps everything that is done beside the requests waiting.
    pub(super) fn keeps_waiting(&self) -> MutexGuard<'_, ()> {
        self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no shapes are tried.
    pub(super) fn settle(&self) {
        let begun = Instant::now();
        while self.shared.routes.iter().any(|route| route.tries_shapes.load(Acquire)) {
            assert!(begun.elapsed() < Duration::from_secs(60), "new shapes are tried without an end");
            std::thread::yield_now();
        }
    }
}

impl Shared {
    /// Returns whether the model is still wanted.
    pub(super) fn goes_on(&self) -> bool {
        !self.ends.load(Relaxed)
    }

    /// Returns a signature whose runs may change the model: then no value of it is constant.
    pub(super) fn changing(&self) -> Option<&str> {
        let names = self.reference.signatures().keys().filter(|name| !is_tensorflows(name));
        names.map(String::as_str).find(|name| !self.reference.changes_nothing(name))
    }

    /// Returns whether every signature of clients has a route.
    pub(super) fn has_all_routes(&self) -> bool {
        let mut names = self.reference.signatures().keys().filter(|name| !is_tensorflows(name));
        names.all(|name| self.routes.iter().any(|route| route.signature == *name))
    }

    fn route(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> Option<&Route> {
        self.routes.iter().find(|route| route.takes(feeds, fetches))
    }

    /// Offers a request that TensorFlow has answered as a sample. Several signatures may have the same inputs.
    fn offer(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) {
        for route in self.routes.iter().filter(|route| route.takes(feeds, fetches)) {
            route.samples.offer(feeds);
        }
    }
}

impl Route {
    /// Returns the route of `signature`; `None` if a tensor of it is not in the graph.
    fn new(reference: &dyn Model, signature: &Signature) -> Option<Route> {
        let endpoints = |specs: &[crate::engine::signature::TensorSpec]| {
            specs.iter().map(|spec| reference.endpoint(&spec.tensor)).collect::<Option<Vec<_>>>()
        };
        let ends = Ends { inputs: endpoints(&signature.inputs)?, outputs: endpoints(&signature.outputs)? };
        Some(Route {
            signature: signature.name.to_string(),
            ends,
            moved: ArcSwapOption::empty(),
            samples: Samples::new(),
            kept: OnceLock::new(),
            tries_shapes: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            declined: AtomicU64::new(0),
            report: Mutex::new(Report {
                signature: signature.name.to_string(),
                progress: Progress::Waiting,
                engine: "tensorflow".to_owned(),
                reason: String::new(),
                candidates: Vec::new(),
                refused: 0,
            }),
        })
    }

    /// Returns whether a run with these feeds and fetches is one of this signature.
    fn takes(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> bool {
        feeds.len() == self.ends.inputs.len()
            && feeds.iter().all(|(endpoint, _)| self.ends.inputs.contains(endpoint))
            && fetches.iter().all(|endpoint| self.ends.outputs.contains(endpoint))
    }

    /// Returns a copy of what is known so far.
    pub(super) fn report(&self) -> Report {
        Report { refused: self.refused.load(Relaxed), ..self.reported().clone() }
    }

    /// Changes what is reported.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.reported());
    }

    fn reported(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the options of a run by which the reference and a candidate are compared: it ends by its timeout, unless
    /// it ends anyway.
    pub(super) fn trial_options(&self, reference: &dyn Model) -> RunOptions {
        let ends = reference.termination(&self.signature) == Termination::ByShapes;
        let threads = if ends { Threads::Caller } else { Threads::One };
        RunOptions { threads, timeout: Some(TIMEOUT) }
    }

    /// Runs by `moved`; what it refuses, by the reference, which says whether the request or the engine was at fault.
    fn run(
        &self,
        moved: &Moved,
        shared: &Arc<Shared>,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        let begun = Instant::now();
        self.runs.fetch_add(1, Relaxed);
        let declined = match moved.chain.run(feeds, fetches, options, NewShapes::Declined) {
            Ok(outputs) => return Ok(outputs),
            Err(Declined::Failed(why)) if matches!(why.kind, Kind::DeadlineExceeded | Kind::Cancelled) => {
                return Err(why);
            }
            Err(declined) => declined,
        };
        let timeout = options.timeout.map(|timeout| time_left(timeout, begun.elapsed())).transpose()?;
        let outputs = shared.reference.run(feeds, fetches, RunOptions { timeout, ..options })?;
        match declined {
            Declined::Shapes(shapes) if self.are_all(fetches) => {
                let answered = Answered { shapes, feeds, fetches, outputs: &outputs };
                if answered.is_small() {
                    self.try_shapes(moved, shared, answered);
                } else {
                    self.decline();
                }
            }
            // A run for some outputs says nothing of the others, which the other engine computes as well.
            Declined::Shapes(_) | Declined::Unlike | Declined::Numbers => self.decline(),
            // What failed for want of memory or threads may succeed at the next start.
            Declined::Failed(why) => {
                let is_lasting = !matches!(why.kind, Kind::ResourceExhausted | Kind::Unavailable);
                self.refuse(&why.message, is_lasting);
            }
        }
        Ok(outputs)
    }

    /// Returns whether `fetches` are all outputs of the signature.
    fn are_all(&self, fetches: &[Endpoint]) -> bool {
        self.ends.outputs.iter().all(|output| fetches.contains(output))
    }

    /// Counts a run that was not for the other engine, which it had begun.
    pub(super) fn decline(&self) {
        let (declined, runs) = (self.declined.fetch_add(1, Relaxed) + 1, self.runs.load(Relaxed));
        if declined >= MANY_DECLINED && declined >= runs / SHARE {
            self.go_back(&format!("{declined} of {runs} runs had shapes or numbers that are TensorFlow's"));
        }
    }

    /// Counts a run that only the reference could do. `is_lasting`: it will be the same at the next start.
    pub(super) fn refuse(&self, why: &str, is_lasting: bool) {
        let number = self.refused.fetch_add(1, Relaxed) + 1;
        tracing::warn!("signature {}: TensorFlow did a run: {why}", self.signature);
        if number == MOST_REFUSED {
            let reason = format!("{number} runs were refused, the last one: {why}");
            self.go_back(&reason);
            if is_lasting {
                self.keep(Decision::stays(&self.signature, &reason));
            }
        }
    }

    /// Keeps `decision` for the next start. No request waits for the disk.
    fn keep(&self, decision: Decision) {
        let Some(kept) = self.kept.get().cloned() else { return };
        let thread = std::thread::Builder::new().name("servable-keep".to_owned());
        if let Err(why) = thread.spawn(move || kept.write(decision)) {
            tracing::warn!("signature {}: what was decided is not kept: {why}", self.signature);
        }
    }

    /// Sends runs to TensorFlow for good.
    fn go_back(&self, why: &str) {
        if self.moved.swap(None).is_some() {
            self.tell(|report| {
                report.progress = Progress::Stays;
                why.clone_into(&mut report.reason);
                "tensorflow".clone_into(&mut report.engine);
            });
            tracing::warn!("signature {}: goes back to TensorFlow for good: {why}", self.signature);
        }
    }
}

impl Model for Accelerated {
    fn signatures(&self) -> &BTreeMap<String, Signature> {
        self.shared.reference.signatures()
    }

    fn signature_def_map(&self) -> Option<Bytes> {
        self.shared.reference.signature_def_map()
    }

    fn endpoint(&self, tensor: &str) -> Option<Endpoint> {
        self.shared.reference.endpoint(tensor)
    }

    fn changes_nothing(&self, signature: &str) -> bool {
        self.shared.reference.changes_nothing(signature)
    }

    fn termination(&self, signature: &str) -> Termination {
        self.shared.reference.termination(signature)
    }

    fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.shared.reference.content(signature, input)
    }

    fn preparation(&self) -> Option<Arc<dyn Preparation>> {
        Some(Arc::new(Handle::of(&self.shared)))
    }

    fn run(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Result<Vec<Tensor>> {
        self.shared.others.note();
        let reference = &*self.shared.reference;
        let Some(route) = self.shared.route(feeds, fetches) else {
            return reference.run(feeds, fetches, options);
        };
        if let Some(moved) = route.moved.load_full() {
            return route.run(&moved, &self.shared, feeds, fetches, options);
        }
        reference.run(feeds, fetches, options).inspect(|_| self.shared.offer(feeds, fetches))
    }

    /// What has moved ends by its timeout.
    fn interrupt(&self) {
        self.shared.reference.interrupt();
    }

    /// A signature that has moved might wait for another run of its engine, and any other run for TensorFlow's session.
    fn run_at_once(
        &self,
        feeds: &[(Endpoint, Tensor)],
        fetches: &[Endpoint],
        options: RunOptions,
    ) -> Option<Result<Vec<Tensor>>> {
        self.shared.others.note();
        if self.shared.route(feeds, fetches).is_some_and(|route| route.moved.load().is_some()) {
            return None;
        }
        let ran = self.shared.reference.run_at_once(feeds, fetches, options)?;
        Some(ran.inspect(|_| self.shared.offer(feeds, fetches)))
    }
}

impl Drop for Accelerated {
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
        // A preparation under way ends soon, and lets go of the model before it lets go of this.
        drop(self.shared.busy.lock());
    }
}

/// What works for a model beside its requests, as long as it is there.
pub(super) struct Handle {
    busy: Arc<Mutex<()>>,
    shared: Weak<Shared>,
}

impl Handle {
    pub(super) fn of(shared: &Arc<Shared>) -> Handle {
        Handle { busy: shared.busy.clone(), shared: Arc::downgrade(shared) }
    }

    /// Does `work` for the model while nothing else is done for it; `None` if the model is gone.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Shared) -> T) -> Option<T> {
        let _busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.shared.upgrade().filter(|shared| shared.goes_on());
        shared.map(|shared| work(&shared))
    }
}

impl Preparation for Handle {
    fn prepare(&self) -> bool {
        self.with(|shared| (shared.prepare)(shared)).unwrap_or(true)
    }

    fn reports(&self) -> Vec<Report> {
        self.shared
            .upgrade()
            .map_or_else(Vec::new, |shared| shared.routes.iter().map(Route::report).collect())
    }
}
