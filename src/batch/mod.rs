//! Batching: the requests of several clients run as one. Each input's rows are concatenated, the model runs once, and
//! each request gets its own rows.
//!
//! This is what TensorFlow Serving calls a batching session, with the same parameters and error texts
//! (docs/spec/server.md, section 8). Unlike there, one request cannot spoil others: tensors that cannot share a batch
//! (another dtype, another shape without padding) are not put in one, and if a run of a signature without side effects
//! fails, each of its requests is run separately. While a request waits, it needs no thread: its [`Outputs`] are awaited.
//!
//! The scheduler runs all batches. With TensorFlow Serving's parameters, [`queue`] decides what goes together and when,
//! and [`pool`] has its queues. Without ([`automatic`]), the scheduler's own queues do. [`assemble`] moves the rows,
//! [`outputs`] collects the answers.

mod assemble;
mod automatic;
mod outputs;
mod pool;
mod queue;

pub use automatic::{Gathered, Lane, Scheduler};
pub use outputs::Outputs;
pub use pool::Pool;

use crate::access::Entry;
use crate::context::Context;
use crate::engine::{Endpoint, Model, RunOptions, Threads};
use crate::error::{Error, Kind, Result, guarded};
use crate::host::clock::Usage;
use crate::memory::Reservation;
use crate::metrics::{BatchSizes, Batches};
use crate::profile::{self, Phase};
use crate::tensor::Tensor;
use crate::timeline::{BatchRun, Execution};
use outputs::{Part, Waiting, overdue};
use pool::Refused;
use queue::{Item, QueueLimits};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Batching of a version's requests: `BatchingParameters`, checked by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Most rows of a request, and of a batch unless requests are split.
    pub max_batch_size: usize,
    /// Longest time a batch stays open for more requests.
    pub batch_timeout: Duration,
    /// Most batches that may wait.
    pub max_enqueued_batches: usize,
    /// Ascending sizes; a batch is filled up to the next one, and the last is the largest batch. May be empty.
    pub allowed_batch_sizes: Vec<usize>,
    /// True to pad inputs that differ after the first dimension to the largest of them.
    pub pad_variable_length_inputs: bool,
    /// Most rows of a batch if a request may be spread over several; `None` if it may not.
    pub split_at: Option<usize>,
}

impl Parameters {
    /// Returns the rows of the largest batch.
    fn max_rows(&self) -> usize {
        self.split_at.unwrap_or(self.max_batch_size)
    }

    /// Returns the number of rows that a batch of `rows` is run with.
    fn filled(&self, rows: usize) -> usize {
        self.allowed_batch_sizes.iter().copied().find(|size| *size >= rows).unwrap_or(rows)
    }
}

/// The endpoints of a graph to feed and to fetch, each in ascending order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ends {
    feeds: Vec<Endpoint>,
    fetches: Vec<Endpoint>,
}

/// A run requested by a servable.
#[derive(Clone, Debug)]
pub struct Run {
    /// The inputs, in any order.
    pub feeds: Vec<(Endpoint, Tensor)>,
    /// The outputs to return, in this order.
    pub fetches: Vec<Endpoint>,
    /// The threads for the operations.
    pub threads: Threads,
    /// The context of the request. Its flag is not looked at: who no longer wants the outputs drops them.
    pub context: Context,
    /// True if it may be repeated after it failed together with others: it changes nothing.
    pub repeatable: bool,
}

/// A request, or as many of its rows as go into one batch.
#[derive(Debug)]
struct Task {
    number: u64,
    inputs: Vec<Tensor>,
    /// The index of its first row in the request.
    first: usize,
    pads: bool,
    threads: Threads,
    deadline: Option<Instant>,
    repeatable: bool,
    queued: Instant,
    reply: UnboundedSender<Part>,
    /// Held as long as the inputs are, even if the client has left.
    memory: Arc<Reservation>,
    /// What is told of the request, if it is traced.
    entry: Option<Arc<Entry>>,
}

/// A batch that is ready to run; its requests fail if it is dropped instead.
#[must_use]
struct Batch {
    of: Arc<Batcher>,
    ends: Ends,
    tasks: Vec<Task>,
}

impl Item for Task {
    fn rows(&self) -> usize {
        self.inputs.first().map_or(0, Tensor::row_count)
    }

    fn joins(&self, other: &Task) -> bool {
        self.inputs.iter().zip(&other.inputs).all(|(one, two)| assemble::fit(one, two, self.pads))
    }

    fn split_off(&mut self, rows: usize) -> Task {
        let all = self.rows();
        let rest = self.inputs.iter().map(|input| input.rows(rows..all)).collect();
        self.inputs = self.inputs.iter().map(|input| input.rows(0..rows)).collect();
        let (memory, reply, entry) = (self.memory.clone(), self.reply.clone(), self.entry.clone());
        Task { inputs: rest, first: self.first + rows, memory, reply, entry, ..*self }
    }
}

/// How requests are batched.
#[derive(Clone)]
pub enum Batching {
    /// By TensorFlow Serving's parameters, in the queues of a pool.
    Parameters(Arc<Pool>, Parameters),
    /// Without any, by the scheduler. Batches are counted.
    Automatic(Option<Arc<Batches>>),
}

/// Batches the runs of one version.
pub struct Batcher {
    /// `None` if the scheduler batches.
    pool: Option<Arc<Pool>>,
    counts: Option<Arc<Batches>>,
    /// The same of this version.
    sizes: Option<Arc<BatchSizes>>,
    /// What may be batched without parameters, found at the end of warm-up.
    verified: OnceLock<Vec<Ends>>,
    model: Arc<dyn Model>,
    parameters: Parameters,
    limits: QueueLimits,
    /// During warm-up: one row of the inputs of each kind of run.
    samples: Mutex<BTreeMap<Ends, Vec<Tensor>>>,
    warming: AtomicBool,
    // Dropped last, when no run of this batcher needs the model any more: a client may be gone long before.
    _in_use: mpsc::Sender<Infallible>,
}

impl Batcher {
    /// Makes a batcher for `model`, which is being warmed until [`Self::warm`]. Its batches are counted in `sizes`.
    /// `in_use` closes once the model is no longer used here.
    pub fn new(
        batching: Batching,
        model: Arc<dyn Model>,
        sizes: Option<Arc<BatchSizes>>,
        in_use: mpsc::Sender<Infallible>,
    ) -> Arc<Batcher> {
        let (pool, parameters, counts) = match batching {
            Batching::Parameters(pool, parameters) => (Some(pool.clone()), parameters, pool.counts.clone()),
            Batching::Automatic(counts) => (None, automatic::parameters(), counts),
        };
        let verified = OnceLock::new();
        let limits = QueueLimits {
            max_rows: parameters.max_rows(),
            max_batches: parameters.max_enqueued_batches,
            timeout: parameters.batch_timeout,
            split: parameters.split_at.is_some(),
        };
        let (samples, warming) = (Mutex::default(), AtomicBool::new(true));
        Arc::new(Batcher {
            pool,
            counts,
            sizes,
            verified,
            model,
            parameters,
            limits,
            samples,
            warming,
            _in_use: in_use,
        })
    }

    /// Returns whether a run with `feeds` and `fetches` may be batched.
    pub fn takes(&self, feeds: &[(Endpoint, Tensor)], fetches: &[Endpoint]) -> bool {
        self.pool.is_some() || self.is_verified(feeds, fetches)
    }

    /// Returns whether runs that are not batched go through here all the same: by TensorFlow Serving's parameters, and
    /// to learn of their inputs during warm-up.
    pub fn runs_alone(&self) -> bool {
        self.pool.is_some() || self.warming.load(Relaxed)
    }

    /// Returns whether all runs are batched, whatever their inputs.
    pub fn takes_all(&self) -> bool {
        self.pool.is_some()
    }

    /// Returns the number of tasks that wait in the pool.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.pool.as_ref().map_or(0, |pool| pool.waiting())
    }

    /// Accepts `run`, which it takes, for a batch, which `lane` runs: with TensorFlow Serving's parameters at once and in
    /// this thread, if that is the scheduler's and nothing else waits.
    pub fn submit(self: &Arc<Self>, run: Run, lane: &Lane) -> Result<Outputs> {
        let Some(pool) = &self.pool else { return self.gather(run, lane) };
        let rows = self.rows(&run.feeds)?;
        let held = lane.hold(&run.context)?;
        let (reply, parts) = unbounded_channel();
        let (ends, places, task) = self.task(run, pool.number(), reply);
        let (number, deadline) = (task.number, task.deadline);
        if rows == 0 {
            // TensorFlow Serving lets a request without rows wait forever.
            let batch = Batch { of: self.clone(), ends, tasks: vec![task] };
            lane.go_on_alone(|| batch.run())?;
        } else {
            pool.submit(self, ends, task, lane).map_err(|why| self.refusal(why, rows))?;
        }
        let waiting = Waiting::Pool { of: self.clone(), pool: pool.clone(), number, _held: held };
        Ok(Outputs { waiting, rows, places, deadline, parts, ended: false })
    }

    /// Runs `run` at once and alone, in this thread: TensorFlow Serving's warm-up waits for each batch's timeout.
    pub fn run(&self, run: Run) -> Result<Ran> {
        let rows = if self.pool.is_some() { self.rows(&run.feeds)? } else { automatic::rows(&run.feeds) };
        let (reply, _parts) = unbounded_channel();
        let (ends, places, task) = self.task(run, 0, reply);
        let ran = self.execute(&ends, &[&task])?.swap_remove(0);
        if rows > 0 && task.repeatable && self.warming.load(Relaxed) {
            self.samples().insert(ends, task.inputs.iter().map(|input| input.rows(0..1)).collect());
        }
        Ok(Ran { outputs: placed(&ran.outputs, &places), ..ran })
    }

    /// Returns `run` as a task with its ends in order, and for each of its fetches the position in them.
    fn task(&self, run: Run, number: u64, reply: UnboundedSender<Part>) -> (Ends, Vec<usize>, Task) {
        let Run { mut feeds, fetches: wanted, threads, context, repeatable } = run;
        feeds.sort_unstable_by_key(|(endpoint, _)| *endpoint);
        let (feeds, inputs) = feeds.into_iter().unzip();
        let mut fetches = wanted.clone();
        fetches.sort_unstable();
        fetches.dedup();
        let places = wanted.iter().filter_map(|fetch| fetches.binary_search(fetch).ok()).collect();
        let task = Task {
            number,
            inputs,
            first: 0,
            pads: self.parameters.pad_variable_length_inputs,
            threads,
            deadline: context.deadline,
            repeatable,
            queued: Instant::now(),
            reply,
            memory: context.memory,
            entry: context.entry.filter(|entry| entry.is_traced()),
        };
        (Ends { feeds, fetches }, places, task)
    }

    /// Returns the first dimension, which all inputs must share.
    fn rows(&self, feeds: &[(Endpoint, Tensor)]) -> Result<usize> {
        let Some((_, first)) = feeds.first() else {
            return Err(Error::invalid("Batching Run() must have at least one input tensor"));
        };
        if feeds.iter().any(|(_, input)| input.shape().is_empty()) {
            return Err(Error::invalid("Batching Run() input tensors must have at least one dimension"));
        }
        let rows = first.row_count();
        if feeds.iter().any(|(_, input)| input.row_count() != rows) {
            return Err(Error::invalid("Batching Run() input tensors must have equal 0th-dimension size"));
        }
        let most = self.parameters.max_batch_size;
        if rows > most {
            return Err(Error::invalid(format!(
                "Task size {rows} is larger than maximum input batch size {most}"
            )));
        }
        Ok(rows)
    }

    fn refusal(&self, why: Refused, rows: usize) -> Error {
        const FULL: &str = "The batch scheduling queue to which this task was submitted is full;";
        let full = match why {
            Refused::Full(full) => full,
            Refused::Unscheduled(why) => return why,
        };
        let (batches, most) = (full.batches, self.limits.max_batches);
        let message = if self.limits.split {
            format!(
                "{FULL} task size is {rows} but scheduling capacity is only {} (num_enqueued_batches={batches}, \
                 max_enqueued_batches={most}, open_batch_size={}, max_execution_batch_size={})",
                full.capacity, full.open_rows, self.limits.max_rows
            )
        } else {
            format!("{FULL} currently {batches} batches enqueued and max_enqueued_batches is {most}")
        };
        Error::new(Kind::Unavailable, message)
    }

    /// Returns the answers to `tasks`, in order: from one run, or from separate runs if that one fails and may be
    /// repeated, or cannot begin for want of memory. Also returns whether they are from one run.
    fn answers(&self, ends: &Ends, tasks: &[&Task]) -> (Vec<Result<Ran>>, bool) {
        if tasks.is_empty() {
            return (Vec::new(), false);
        }
        let each = || {
            let alone = |task: &&Task| guarded(|| Ok(self.execute(ends, &[*task])?.swap_remove(0)));
            (tasks.iter().map(alone).collect(), false)
        };
        let all_fail = |why: Error| (tasks.iter().map(|_| Err(why.clone())).collect(), false);
        // Of one client's memory, which is no fault of the others. Nothing has run yet.
        let held = match guarded(|| self.hold_joined(ends, tasks)) {
            Ok(held) => held,
            Err(_) if tasks.len() > 1 => return each(),
            Err(why) => return all_fail(why),
        };
        let ran = guarded(|| self.execute_held(ends, tasks));
        drop(held);
        match ran {
            Ok(answers) => (answers.into_iter().map(Ok).collect(), true),
            Err(why) if tasks.len() > 1 && may_be_repeated(&why, tasks) => each(),
            Err(why) => all_fail(why),
        }
    }

    /// Returns the number of rows of `tasks`, and of their batch.
    fn rows_of(&self, tasks: &[&Task]) -> (usize, usize) {
        let rows: usize = tasks.iter().map(|task| task.rows()).sum();
        (rows, if rows == 0 { 0 } else { self.parameters.filled(rows) })
    }

    /// Counts the memory that a run of `tasks` takes beside their own.
    fn hold_joined(&self, ends: &Ends, tasks: &[&Task]) -> Result<Vec<Reservation>> {
        let (rows, size) = self.rows_of(tasks);
        if rows == 0 { Ok(Vec::new()) } else { joined(tasks, ends.feeds.len(), size - rows) }
    }

    /// Runs all `tasks` at once, and returns one answer for each.
    fn execute(&self, ends: &Ends, tasks: &[&Task]) -> Result<Vec<Ran>> {
        let _held = self.hold_joined(ends, tasks)?;
        self.execute_held(ends, tasks)
    }

    /// The same, once its memory is counted.
    fn execute_held(&self, ends: &Ends, tasks: &[&Task]) -> Result<Vec<Ran>> {
        let counts: Vec<usize> = tasks.iter().map(|task| task.rows()).collect();
        let (rows, size) = self.rows_of(tasks);
        let traced = traced(tasks, rows, size);
        let input = |index: usize| {
            let parts: Vec<&Tensor> = tasks.iter().map(|task| &task.inputs[index]).collect();
            if rows == 0 { parts[0].clone() } else { assemble::join(&parts, size - rows) }
        };
        let feeds: Vec<_> =
            ends.feeds.iter().enumerate().map(|(index, endpoint)| (*endpoint, input(index))).collect();
        let started = Instant::now();
        let options = RunOptions { threads: tasks[0].threads, timeout: timeout(tasks, started) };
        let running = profile::phase(Phase::Run);
        let usage = if options.threads == Threads::Caller { Usage::of_this_thread() } else { None };
        let outputs = self.model.run(&feeds, &ends.fetches, options);
        drop(running);
        if let Some(traced) = &traced {
            traced.ran(started);
        }
        let outputs = outputs?;
        let wall = started.elapsed();
        let measured = usage.and_then(|usage| usage.took(wall)).unwrap_or(wall);
        if let Some(counted) = &self.counts {
            count(counted, tasks, size, started, wall);
        }
        if let Some(sizes) = &self.sizes {
            sizes.ran(rows, tasks.len());
        }
        let (threads, alone) = (options.threads, tasks.len() == 1);
        let ran = || Ran { outputs: Vec::with_capacity(outputs.len()), wall, measured, threads, alone };
        let mut answers: Vec<Ran> = counts.iter().map(|_| ran()).collect();
        for output in &outputs {
            let parts = assemble::cut(output, &counts, size)?;
            answers.iter_mut().zip(parts).for_each(|(answer, part)| answer.outputs.push(part));
        }
        if let Some(traced) = &traced {
            traced.cut();
        }
        Ok(answers)
    }

    /// Runs every batch size once with the rows seen during warm-up, and ends the warm-up.
    ///
    /// Without allowed sizes: 1, 2, 4, … and the largest, as long as a run takes less than [`LONG`] (beyond that, a
    /// first run is hardly slower than later ones) and is fed at most [`MOST_BYTES`].
    pub fn warm(&self) {
        self.warming.store(false, Relaxed);
        if self.pool.is_none() {
            return self.verify();
        }
        for (ends, row) in std::mem::take(&mut *self.samples()) {
            let row_bytes: usize = row.iter().map(Tensor::memory).sum();
            for size in self.sizes() {
                if self.parameters.allowed_batch_sizes.is_empty()
                    && row_bytes.saturating_mul(size) > MOST_BYTES
                {
                    break;
                }
                let feeds: Vec<_> = ends
                    .feeds
                    .iter()
                    .zip(&row)
                    .map(|(endpoint, input)| (*endpoint, assemble::join(&[input], size - 1)))
                    .collect();
                let started = Instant::now();
                let options = RunOptions { threads: Threads::Pool, timeout: Some(LONGEST) };
                if let Err(why) = self.model.run(&feeds, &ends.fetches, options) {
                    tracing::debug!("warm-up with a batch of {size}: {why}");
                    break;
                }
                if self.parameters.allowed_batch_sizes.is_empty() && started.elapsed() > LONG {
                    break;
                }
            }
        }
    }

    /// Returns the batch sizes that serving will use, ascending.
    fn sizes(&self) -> Vec<usize> {
        if !self.parameters.allowed_batch_sizes.is_empty() {
            return self.parameters.allowed_batch_sizes.clone();
        }
        let most = self.limits.max_rows;
        std::iter::successors(Some(1), |size| Some(size * 2))
            .take_while(|size| *size < most)
            .chain([most])
            .collect()
    }

    fn samples(&self) -> MutexGuard<'_, BTreeMap<Ends, Vec<Tensor>>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run gave for a request, and how long it took.
#[derive(Debug)]
pub struct Ran {
    /// A tensor for each fetch.
    pub outputs: Vec<Tensor>,
    /// By the clock.
    pub wall: Duration,
    /// The same in its own thread without the time in which others had its core.
    pub measured: Duration,
    /// The engine's threads.
    pub threads: Threads,
    /// True if it ran for this request alone.
    pub alone: bool,
}

/// A warm-up run that takes longer ends the warm-up of larger sizes.
const LONG: Duration = Duration::from_millis(200);
/// Most input bytes of a warm-up run, unless its size is one of the allowed sizes.
const MOST_BYTES: usize = 64 << 20;
/// Timeout of a warm-up run.
const LONGEST: Duration = Duration::from_secs(60);

impl Batch {
    /// Runs the batch in this thread and answers each of its tasks. Returns whether it ran as one: then its time
    /// tells how long as many rows take.
    fn run(self) -> bool {
        let Batch { of, ends, tasks } = self;
        let now = Instant::now();
        let (late, tasks): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.is_over(now));
        let (answers, as_one) = of.answers(&ends, &tasks.iter().collect::<Vec<_>>());
        // A client that gets its answer may hold the last reference to the version, which its own thread then frees.
        drop(of);
        for task in late {
            task.answer(Err(overdue(true)));
        }
        for (task, answer) in tasks.into_iter().zip(answers) {
            task.answer(answer);
        }
        as_one
    }
}

impl Task {
    /// Returns whether nobody wants the answer at `now` any more.
    fn is_over(&self, now: Instant) -> bool {
        self.reply.is_closed() || self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn answer(self, outcome: Result<Ran>) {
        let part = Part { first: self.first, rows: self.rows(), outcome };
        // Nobody receives the answer if the request is over.
        let _gone = self.reply.send(part);
    }
}

/// Returns the outputs at `places`.
fn placed(outputs: &[Tensor], places: &[usize]) -> Vec<Tensor> {
    places.iter().filter_map(|place| outputs.get(*place).cloned()).collect()
}

/// Returns the time a run for `tasks` may take: until the last of them is no longer wanted.
fn timeout(tasks: &[&Task], now: Instant) -> Option<Duration> {
    let deadlines: Option<Vec<Instant>> = tasks.iter().map(|task| task.deadline).collect();
    deadlines?.into_iter().max().map(|last| last.saturating_duration_since(now).max(Duration::from_millis(1)))
}

/// Counts what the inputs of `tasks` take once they are joined: each task's part, and the filler with the last, as of the
/// connection that it came on.
fn joined(tasks: &[&Task], inputs: usize, filler: usize) -> Result<Vec<Reservation>> {
    if tasks.len() == 1 && filler == 0 {
        return Ok(Vec::new());
    }
    let mut needed = vec![0_usize; tasks.len()];
    for index in 0..inputs {
        let parts: Vec<&Tensor> = tasks.iter().map(|task| &task.inputs[index]).collect();
        let sizes = assemble::joined_sizes(&parts, filler).ok_or_else(|| {
            let message = "The inputs are too large to be filled up or padded for a batch: send less at once";
            Error::new(Kind::ResourceExhausted, message).with_status(413)
        })?;
        needed.iter_mut().zip(sizes).for_each(|(sum, size)| *sum = sum.saturating_add(size));
    }
    let held = |(task, bytes): (&&Task, usize)| {
        let held = task.memory.beside();
        held.grow(bytes)?;
        Ok(held)
    };
    tasks.iter().zip(needed).map(held).collect()
}

/// Returns whether `tasks`, which failed together, may be repeated separately.
fn may_be_repeated(why: &Error, tasks: &[&Task]) -> bool {
    !matches!(why.kind, Kind::DeadlineExceeded | Kind::Cancelled | Kind::Unavailable)
        && tasks.iter().all(|task| task.repeatable)
}

/// Begins the trace of a batch of `tasks`, if any of them is traced, and tells these.
fn traced(tasks: &[&Task], rows: usize, size: usize) -> Option<Execution> {
    let entries = || tasks.iter().filter_map(|task| task.entry.as_ref());
    let links: Vec<_> = entries().filter_map(|entry| Some(entry.traced()?.span)).collect();
    if links.is_empty() {
        return None;
    }
    let batch = Arc::new(BatchRun::begin(links, tasks.len(), rows, size));
    entries().for_each(|entry| entry.runs_in(&batch));
    Some(Execution(batch))
}

fn count(counts: &Batches, tasks: &[&Task], size: usize, started: Instant, took: Duration) {
    let rows: Vec<usize> = tasks.iter().map(|task| task.rows()).collect();
    let waits = tasks.iter().map(|task| started.saturating_duration_since(task.queued));
    counts.ran(&rows, size, took, waits);
}

#[cfg(test)]
mod tests;
