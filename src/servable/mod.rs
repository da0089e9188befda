//! One loaded version: its signatures, its model, and the placement of its runs.

mod aside;
pub mod placement;
mod used;
mod ways;

use crate::batch::{self, Batcher, Batching, Lane, Ran, Scheduler};
use crate::context::Context;
use crate::engine::content::Content;
use crate::engine::signature::{Signature, TensorSpec, named};
use crate::engine::{Endpoint, Model, Preparation, RunOptions, Termination, Threads};
use crate::error::{Error, Result};
use crate::host::clock::Usage;
use crate::memory;
use crate::metrics::{Api, Methods, Series, VersionCounts};
use crate::profile::{self, Phase};
use crate::scheduler::Work;
use crate::tensor::Tensor;
use crate::timeline::Timeline;
pub use aside::Aside;
use bytes::Bytes;
use placement::{Placement, Plan, Policy};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};
pub use used::Use;
use used::Used;

/// A version that requests can hold. Its last handle may drop on any thread: the model itself is freed only by
/// [`Drain::wait_and_free`].
pub struct Servable {
    name: String,
    version: i64,
    engine: &'static str,
    model: Arc<dyn Model>,
    // By signature: one may be short and another long.
    places: BTreeMap<String, Place>,
    unknown: Place,
    // For large bodies and answers of requests that are batched: decoded and encoded apart from the runs.
    bodies: Lane,
    // Batches its requests, if enabled.
    batcher: Option<Arc<Batcher>>,
    // When it was used, if somebody asks for that.
    used: Option<Used>,
    // What its load has taken of the memory, in bytes, if that was measured.
    taken: OnceLock<u64>,
    // What it has taken since then, or given back.
    grown: AtomicI64,
    // Runs that nobody waits for have one, too.
    aside: mpsc::Sender<Infallible>,
    // Dropped last, when nothing of this servable is in use; see `new`. The batcher has one too.
    _in_use: mpsc::Sender<Infallible>,
}

/// What the runs of a version use.
pub struct Resources<'a> {
    /// The name of the engine for the version's files.
    pub engine: &'static str,
    /// The operator's choice of threads.
    pub policy: Policy,
    /// The queues for runs that are too long for the thread that read the request.
    pub scheduler: &'a Scheduler,
    /// How requests are batched, if they are.
    pub batching: Option<Batching>,
    /// Counts requests and runs, if enabled.
    pub counts: Option<Arc<VersionCounts>>,
    /// True to know when it was used.
    pub tells_use: bool,
}

#[cfg(test)]
impl<'a> Resources<'a> {
    /// Resources without batches and counts.
    pub(crate) fn plain(policy: Policy, scheduler: &'a Scheduler) -> Resources<'a> {
        Resources { engine: "fake", policy, scheduler, batching: None, counts: None, tells_use: false }
    }
}

/// Where the runs of a signature happen, and what its requests are counted in.
struct Place {
    placement: Placement,
    lane: Lane,
    counts: Option<Arc<Methods>>,
}

/// One run of a version's graph.
#[derive(Clone, Debug)]
pub struct Run {
    /// The API on whose behalf it is counted.
    pub api: Api,
    /// The signature that decides where it happens.
    pub signature: Arc<str>,
    /// The inputs, in any order.
    pub feeds: Vec<(Endpoint, Tensor)>,
    /// The outputs to return, in this order.
    pub fetches: Vec<Endpoint>,
}

impl Run {
    /// Returns the first dimension of its first input; `None` if that has none.
    pub fn rows(&self) -> Option<usize> {
        let (_, first) = self.feeds.first()?;
        (!first.shape().is_empty()).then(|| first.row_count())
    }
}

/// Waits for a servable's last handle and frees its model.
pub struct Drain {
    model: Arc<dyn Model>,
    in_use: InUse,
    /// Closes with the last run that nobody waits for, once the servable is not in use.
    aside: Mutex<mpsc::Receiver<Infallible>>,
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
    /// Blocks until no request holds the servable, and runs that nobody waits for have been interrupted and have ended.
    pub fn wait(&self) {
        self.in_use.wait();
        let aside = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(mpsc::TryRecvError::Empty) = aside.try_recv() {
            self.model.interrupt();
            // Nothing is ever sent.
            let _closed = aside.recv();
        }
    }

    /// Returns a handle for waiting until no request holds the servable.
    pub fn in_use(&self) -> InUse {
        self.in_use.clone()
    }

    /// Waits as [`Self::wait`] does, then frees the model in this thread.
    pub fn wait_and_free(self) {
        self.wait();
        drop(self.model);
    }
}

impl Servable {
    /// Wraps a loaded model. The second value frees it once the first is unused.
    pub fn new(
        name: String,
        version: i64,
        model: Box<dyn Model>,
        resources: Resources<'_>,
    ) -> (Arc<Servable>, Drain) {
        let Resources { engine, policy, scheduler, batching, counts, tells_use } = resources;
        let model: Arc<dyn Model> = model.into();
        let (sender, receiver) = mpsc::channel();
        let in_use = InUse(Arc::new(Mutex::new(receiver)));
        let (aside, receiver) = mpsc::channel();
        let drain = Drain { model: model.clone(), in_use, aside: Mutex::new(receiver) };
        let work = match batching {
            None => Work::Runs,
            Some(Batching::Automatic(_)) => Work::Gathered,
            Some(Batching::Parameters(..)) => Work::Batches,
        };
        let place = |known, signature: &str| Place {
            placement: Placement::new(policy, known),
            lane: scheduler.lane(&name, work),
            counts: counts.as_ref().map(|counts| counts.signature(signature)),
        };
        let of = |signature: &String| (signature.clone(), place(model.termination(signature), signature));
        let places = model.signatures().keys().map(of).collect();
        let unknown = place(Termination::Unknown, "");
        let bodies = scheduler.lane(&name, Work::Bodies);
        let sizes = counts.as_ref().map(|counts| counts.batches());
        let batcher = batching.map(|batching| Batcher::new(batching, model.clone(), sizes, sender.clone()));
        let servable = Servable {
            name,
            version,
            engine,
            model,
            places,
            unknown,
            bodies,
            batcher,
            used: tells_use.then(Used::new),
            taken: OnceLock::new(),
            grown: AtomicI64::new(0),
            aside,
            _in_use: sender,
        };
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

    /// Returns the name of the engine for its files.
    pub fn engine(&self) -> &'static str {
        self.engine
    }

    /// Returns when and how often it was used; `None` if nobody wanted to know.
    pub fn usage(&self) -> Option<Use> {
        self.used.as_ref().map(Used::told)
    }

    /// Says how many bytes of memory its load has taken.
    pub fn takes(&self, bytes: u64) {
        // Measured once.
        let _first = self.taken.set(bytes);
    }

    /// Says how many bytes more it has taken since its load, or given back.
    pub fn grows(&self, bytes: i64) {
        self.grown.fetch_add(bytes, Relaxed);
    }

    /// Returns how many bytes it has taken since its load, as far as that was measured.
    pub fn grown(&self) -> i64 {
        self.grown.load(Relaxed)
    }

    /// Returns how many bytes of memory it has taken, with its load; `None` if that was not measured.
    pub fn taken(&self) -> Option<u64> {
        self.taken.get().map(|taken| taken.saturating_add_signed(self.grown()))
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
    /// Never true with batching by parameters, where every request may wait for others.
    pub fn in_caller(&self, signature: &str) -> bool {
        self.batcher.as_ref().is_none_or(|batcher| !batcher.takes_all())
            && self.placement(signature).in_caller()
    }

    /// Returns whether each run of `signature` ends, on its own or by its deadline.
    pub fn ends(&self, signature: &str) -> bool {
        self.placement(signature).ends()
    }

    /// Returns whether more runs of `signature` are needed to know where they are best done.
    pub fn is_tried(&self, signature: &str) -> bool {
        self.placement(signature).is_tried()
    }

    /// Returns what the strings of an input have to hold; see [`Model::content`].
    pub fn content(&self, signature: &str, input: &str) -> Option<&Content> {
        self.model.content(signature, input)
    }

    /// Returns the work that would make its runs faster; see [`Model::preparation`].
    pub fn preparation(&self) -> Option<Arc<dyn Preparation>> {
        self.model.preparation()
    }

    /// Runs the batch sizes used in serving, once the version is warm.
    pub fn warm_batches(&self) {
        if let Some(batcher) = &self.batcher {
            batcher.warm();
        }
    }

    /// Returns the queue for runs of `signature`; of the default one for an empty name.
    pub fn lane(&self, signature: &str) -> &Lane {
        &self.place(named(signature)).lane
    }

    /// Returns what requests by `api` to `signature` (the default one for an empty name) are counted in; to none that is
    /// known, without one.
    pub fn series(&self, signature: Option<&str>, api: Api) -> Option<&Series> {
        let place = signature.map_or(&self.unknown, |signature| self.place(named(signature)));
        place.counts.as_ref().map(|methods| &methods[api as usize])
    }

    fn placement(&self, signature: &str) -> &Placement {
        &self.place(signature).placement
    }

    fn place(&self, signature: &str) -> &Place {
        self.places.get(signature).unwrap_or(&self.unknown)
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

    /// Returns the queue for large bodies and answers of requests that are batched.
    pub fn bodies(&self) -> &Lane {
        &self.bodies
    }

    /// Returns whether any run is to be batched.
    pub fn may_batch(&self) -> bool {
        self.batcher.is_some()
    }

    /// Returns whether `run` is to be batched.
    pub fn batches(&self, run: &Run) -> bool {
        self.batcher.as_ref().is_some_and(|batcher| batcher.takes(&run.feeds, &run.fetches))
    }

    /// Does `run` at once, in this thread, and returns a tensor per fetch. The context's deadline bounds it if the
    /// engine can be interrupted.
    pub fn run(&self, run: Run, context: &Context) -> Result<Vec<Tensor>> {
        let Run { api, signature, feeds, fetches } = run;
        let begun = self.begin(api, signature, context);
        context.is_wanted(begun.at)?;
        let timeout = context.time_left(begun.at)?;
        let place = self.place(&begun.signature);
        let Plan { threads, timed } = place.placement.plan();
        if let Some(batcher) = self.batcher.as_ref().filter(|batcher| batcher.runs_alone()) {
            let repeatable = self.changes_nothing(&begun.signature);
            let context = context.clone();
            let ran = batcher.run(batch::Run { feeds, fetches, threads, context, repeatable });
            return self.ran_in_batch(&begun, place, ran);
        }
        let watch = Watch::begin(timed);
        let ran = self.model.run(&feeds, &fetches, RunOptions { threads, timeout });
        self.observed(&begun, threads, watch, ran)
    }

    /// Does [`Self::run`] in this thread, which serves others meanwhile. Gives `run` back if it would have to wait for
    /// another one.
    pub fn run_at_once(&self, run: Run, context: &Context) -> Result<ControlFlow<Vec<Tensor>, Run>> {
        if self.batcher.as_ref().is_some_and(|batcher| batcher.runs_alone()) {
            return self.run(run, context).map(ControlFlow::Break);
        }
        let Run { api, signature, feeds, fetches } = run;
        let begun = self.begin(api, signature, context);
        context.is_wanted(begun.at)?;
        let timeout = context.time_left(begun.at)?;
        let Plan { threads, timed } = self.placement(&begun.signature).plan();
        let watch = Watch::begin(timed);
        match self.model.run_at_once(&feeds, &fetches, RunOptions { threads, timeout }) {
            Some(ran) => self.observed(&begun, threads, watch, ran).map(ControlFlow::Break),
            None => Ok(ControlFlow::Continue(Run { api, signature: begun.signature, feeds, fetches })),
        }
    }

    /// Returns `run` as one that nobody waits for: it is neither counted nor measured, and does not keep the version in use.
    pub fn aside(&self, run: Run) -> Aside {
        let threads = self.placement(named(&run.signature)).threads_aside();
        Aside::new(self.model.clone(), run, threads, self.aside.clone())
    }

    /// Begins a run for the request with `context`.
    fn begin(&self, api: Api, signature: Arc<str>, context: &Context) -> Begun {
        let begun = Begun::now(api, signature, context);
        if let Some(used) = &self.used {
            used.at(begun.at);
        }
        begun
    }

    /// Accounts for a run in the engine's `threads` that has just ended.
    fn observed(
        &self,
        begun: &Begun,
        threads: Threads,
        watch: Watch,
        ran: Result<Vec<Tensor>>,
    ) -> Result<Vec<Tensor>> {
        drop(watch.phase);
        let took = begun.ended();
        // A run that failed says nothing of those that do not.
        let outputs = ran?;
        begun.enter(Phase::Encode, begun.at + took);
        let measured = watch.usage.and_then(|usage| usage.took(took));
        let place = self.place(&begun.signature);
        place.placement.observe(threads, took, measured);
        place.count(begun, took, true);
        Ok(outputs)
    }

    /// Hands `run`, which is to be batched, to the batcher, for its outputs to be awaited.
    pub fn submit(self: &Arc<Self>, run: Run, context: &Context) -> Result<Outputs> {
        let Some(batcher) = &self.batcher else { return Err(Error::internal("Batching is off")) };
        let Run { api, signature, feeds, fetches } = run;
        let begun = self.begin(api, signature, context);
        context.is_wanted(begun.at)?;
        let place = self.place(&begun.signature);
        begun.enter(Phase::Queue, begun.at);
        let (threads, context) = (place.placement.threads_of_batch(), context.clone());
        let repeatable = self.changes_nothing(&begun.signature);
        let run = batch::Run { feeds, fetches, threads, context, repeatable };
        let outputs = batcher.submit(run, &place.lane)?;
        Ok(Outputs { outputs, begun, servable: self.clone() })
    }

    /// Accounts for a run by the batcher, which has counted it.
    fn ran_in_batch(&self, begun: &Begun, place: &Place, ran: Result<Ran>) -> Result<Vec<Tensor>> {
        let took = begun.ended();
        let Ran { outputs, wall, measured, threads, alone } = ran?;
        let end = begun.at + took;
        begun.enter(Phase::Run, end.checked_sub(wall).unwrap_or(begun.at));
        begun.enter(Phase::Encode, end);
        if alone {
            place.placement.observe(threads, wall, Some(measured));
        } else {
            place.placement.observe_batch(threads, wall, measured);
        }
        place.count(begun, took, false);
        Ok(outputs)
    }
}

impl Place {
    /// Counts a run that succeeded, as TensorFlow Serving does. `alone`: it has not been counted in a batch.
    fn count(&self, begun: &Begun, took: Duration, alone: bool) {
        if let Some(methods) = &self.counts {
            methods[begun.api as usize].part().ran(took, alone);
        }
    }
}

/// A run that has begun.
struct Begun {
    api: Api,
    signature: Arc<str>,
    at: Instant,
    timeline: Option<Arc<Timeline>>,
}

impl Begun {
    /// Begins a run for the request with `context`.
    fn now(api: Api, signature: Arc<str>, context: &Context) -> Begun {
        let begun = Begun { api, signature, at: Instant::now(), timeline: context.timeline.clone() };
        begun.enter(Phase::Run, begun.at);
        begun
    }

    /// Says that `phase` of the request begins at `at`.
    fn enter(&self, phase: Phase, at: Instant) {
        if let Some(timeline) = &self.timeline {
            timeline.enter(phase, at);
        }
    }

    /// Returns how long a run took that has just ended.
    fn ended(&self) -> Duration {
        /// Runs from here on may have held much memory, on threads that do not tell.
        const LONG: Duration = Duration::from_millis(1);
        let took = self.at.elapsed();
        if took >= LONG {
            memory::leave_behind();
        }
        took
    }
}

/// What is measured while the model runs.
struct Watch {
    phase: Option<profile::Running>,
    usage: Option<Usage>,
}

impl Watch {
    /// Begins. `timed`: with the time of this thread.
    fn begin(timed: bool) -> Watch {
        let phase = profile::phase(Phase::Run);
        Watch { phase, usage: if timed { Usage::of_this_thread() } else { None } }
    }
}

/// The outputs of a batched run, yet to come. Dropping them withdraws what still waits for a batch.
pub struct Outputs {
    outputs: batch::Outputs,
    begun: Begun,
    // Dropped last.
    servable: Arc<Servable>,
}

impl Outputs {
    /// Waits for the run and returns a tensor per fetch, or an error once the deadline has passed.
    pub async fn wait(self) -> Result<Vec<Tensor>> {
        let Outputs { outputs, begun, servable } = self;
        let ran = outputs.wait().await;
        servable.ran_in_batch(&begun, servable.place(&begun.signature), ran)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Parameters, Pool};
    use crate::context::Cancelled;
    use crate::engine::fake;
    use crate::engine::signature::DEFAULT_SIGNATURE;
    use crate::error::Kind;
    use crate::tensor::DType;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;

    /// A version that waits, as for an accelerator, with the number of its runs, a run of it, and its scheduler.
    fn waiter(batching: Option<Batching>) -> (Arc<Servable>, Arc<AtomicUsize>, Run, Scheduler) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let model = fake::model(move || {
            counted.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(2));
        });
        let scheduler = Scheduler::with_slots(1);
        let resources = Resources { batching, ..Resources::plain(Policy::Auto, &scheduler) };
        let (servable, _drain) = Servable::new("m".to_owned(), 1, model, resources);
        let one = Tensor::numbers(DType::Float, vec![1], vec![0; 4].into());
        let run = Run {
            api: Api::Predict,
            signature: DEFAULT_SIGNATURE.into(),
            feeds: vec![(Endpoint(0), one.clone()), (Endpoint(1), one)],
            fetches: vec![Endpoint(2)],
        };
        (servable, runs, run, scheduler)
    }

    fn pooled() -> Option<Batching> {
        let parameters = Parameters {
            max_batch_size: 4,
            batch_timeout: Duration::ZERO,
            max_enqueued_batches: 10,
            allowed_batch_sizes: Vec::new(),
            pad_variable_length_inputs: false,
            split_at: None,
        };
        Some(Batching::Parameters(Arc::new(Pool::new(None).unwrap()), parameters))
    }

    #[test]
    fn who_has_left_is_not_run() {
        for batching in [None, pooled()] {
            let (servable, runs, run, _scheduler) = waiter(batching);
            let cancelled = Cancelled::by(Arc::new(true.into()));
            let why = servable.run(run, &Context { cancelled, ..Context::default() }).unwrap_err();
            assert_eq!(
                (why.kind, &*why.message),
                (Kind::Cancelled, "The client left before its request ran")
            );
            assert_eq!(runs.load(Relaxed), 0);
        }
    }

    #[test]
    fn a_run_that_waits_is_long_in_batches_and_without() {
        for (batching, needed) in [(None, 2), (pooled(), 1)] {
            let (servable, _, run, _scheduler) = waiter(batching);
            for _ in 0..needed {
                assert!(!servable.is_tried(DEFAULT_SIGNATURE));
                servable.run(run.clone(), &Context::default()).unwrap();
            }
            assert!(servable.is_tried(DEFAULT_SIGNATURE), "long runs try both ways");
        }
    }

    #[tokio::test]
    async fn a_batch_that_waits_is_long() {
        let (servable, _, run, _scheduler) = waiter(pooled());
        servable.submit(run, &Context::default()).unwrap().wait().await.unwrap();
        assert!(servable.is_tried(DEFAULT_SIGNATURE));
    }
}
