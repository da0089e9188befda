//! What is counted of the requests with the same model, version, signature and method, in parts for few threads each so
//! that cores do not contend.

use super::exemplars::{Exemplars, Kept};
use super::histogram::{EXAMPLES, Histogram, Merged};
use super::latencies::{Latencies, Times};
use super::native::{self, Native};
use super::{Api, CODES, Protocol};
use crate::error::Kind;
use crate::profile::Phase;
use crate::trace_context::TraceContext;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Maximum number of parts; further threads share them.
const MAX_PARTS: usize = 16;

/// The requests to one signature, by method.
pub type Methods = [Series; Api::COUNT];

/// The requests with the same labels.
#[derive(Debug)]
pub struct Series {
    parts: Box<[OnceLock<Arc<Part>>]>,
}

impl Default for Series {
    fn default() -> Series {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = cores.next_power_of_two().min(MAX_PARTS);
        Series { parts: (0..parts).map(|_| OnceLock::new()).collect() }
    }
}

impl Series {
    /// Returns the part of this thread. A request keeps it: then it is counted in one place, wherever it goes, and after
    /// its version is gone.
    pub fn part(&self) -> &Arc<Part> {
        self.parts[thread_number() % self.parts.len()].get_or_init(Arc::default)
    }

    /// Returns the parts that count anything.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Arc<Part>> {
        self.parts.iter().filter_map(OnceLock::get)
    }
}

/// The counts of some threads, 3 KB; allocated when one of them first counts something.
#[derive(Debug, Default)]
pub struct Part {
    pub(super) begun: AtomicU64,
    /// The rows of those that ended well.
    rows: AtomicU64,
    pub(super) by_protocol: [Answered; Protocol::COUNT],
    pub(super) phases: [Latencies; Phase::COUNT],
    /// Runs, as TensorFlow Serving counts them: warm-ups too, and with the wait for a batch.
    runs: Latencies,
    /// The runs among them that are counted as batches.
    batched: AtomicU64,
    batched_nanos: AtomicU64,
    examples: Histogram<15>,
}

/// What is counted when requests of one protocol end.
#[derive(Debug, Default)]
pub(super) struct Answered {
    pub(super) outcomes: [AtomicU64; CODES],
    /// Of those that ended well.
    pub(super) took: Latencies,
    native: Native,
    exemplars: Exemplars,
    received: AtomicU64,
    sent: AtomicU64,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// The protocol that it came by.
    pub protocol: Protocol,
    /// The bytes of its answer, or the kind of its error.
    pub outcome: Result<usize, Kind>,
    /// The bytes of its body or message.
    pub received: usize,
    /// The first dimension of its first input, as far as it is known.
    pub rows: usize,
    /// From its last byte to its answer, in nanoseconds.
    pub took: u64,
    /// The time spent in each phase, in nanoseconds; 0 if it did not come that far.
    pub phases: [u64; Phase::COUNT],
    /// Its span, if it is recorded.
    pub exemplar: Option<TraceContext>,
}

impl Part {
    /// Counts a request that is now in flight, until [`Self::end`] or [`Self::leave`].
    pub fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    /// Takes a request back, which is counted elsewhere.
    pub fn leave(&self) {
        self.begun.fetch_sub(1, Relaxed);
    }

    /// Counts the end of a request that has begun.
    pub fn end(&self, ending: &Ending) {
        let answered = &self.by_protocol[ending.protocol as usize];
        let code = ending.outcome.map_or_else(|kind| kind as usize, |_| 0);
        answered.outcomes[code].fetch_add(1, Relaxed);
        answered.received.fetch_add(ending.received as u64, Relaxed);
        if let Ok(sent) = ending.outcome {
            self.rows.fetch_add(ending.rows as u64, Relaxed);
            answered.took.add(ending.took);
            answered.native.add(ending.took);
            if let Some(span) = ending.exemplar {
                answered.exemplars.keep(span, ending.took);
            }
            answered.sent.fetch_add(sent as u64, Relaxed);
        }
        for (phase, spent) in self.phases.iter().zip(ending.phases) {
            if spent > 0 {
                phase.add(spent);
            }
        }
    }

    /// Counts a run; `alone`: it is not counted as a batch.
    pub fn ran(&self, took: Duration, alone: bool) {
        let nanos = nanos(took);
        self.runs.add(nanos);
        if !alone {
            self.batched.fetch_add(1, Relaxed);
            self.batched_nanos.fetch_add(nanos, Relaxed);
        }
    }

    /// Counts the examples of one multi-inference request.
    pub fn inferred(&self, examples: usize) {
        self.examples.add(&EXAMPLES, examples as u64);
    }
}

/// The sum of parts when they were read.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) begun: u64,
    pub(super) rows: u64,
    pub(super) by_protocol: [Answers; Protocol::COUNT],
    pub(super) phases: [Times; Phase::COUNT],
    pub(super) runs: Times,
    batched: u64,
    batched_nanos: u64,
    pub(super) examples: Merged,
}

/// The sum of what was counted of one protocol's requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) outcomes: [u64; CODES],
    pub(super) took: Times,
    pub(super) native: native::Times,
    pub(super) exemplars: Kept,
    pub(super) received: u64,
    pub(super) sent: u64,
}

impl Answers {
    /// Returns the number of requests that ended.
    pub(super) fn count(&self) -> u64 {
        self.outcomes.iter().sum()
    }
}

impl Tally {
    /// Returns the sum of a series.
    pub(super) fn of(series: &Series) -> Tally {
        let mut tally = Tally::default();
        series.parts().for_each(|part| tally.read(part));
        tally
    }

    /// Adds what is counted in `part`.
    pub(super) fn read(&mut self, part: &Part) {
        // The ends before the beginnings: there are never fewer of these.
        for (answers, part) in self.by_protocol.iter_mut().zip(&part.by_protocol) {
            answers.outcomes.iter_mut().zip(&part.outcomes).for_each(|(sum, one)| *sum += one.load(Relaxed));
            answers.took.read(&part.took);
            answers.native.read(&part.native);
            answers.exemplars.read(&part.exemplars);
            answers.received += part.received.load(Relaxed);
            answers.sent += part.sent.load(Relaxed);
        }
        self.begun += part.begun.load(Relaxed);
        self.rows += part.rows.load(Relaxed);
        self.phases.iter_mut().zip(&part.phases).for_each(|(times, part)| times.read(part));
        self.runs.read(&part.runs);
        self.batched += part.batched.load(Relaxed);
        self.batched_nanos += part.batched_nanos.load(Relaxed);
        self.examples.merge(&part.examples);
    }

    /// Adds `other`.
    pub(super) fn merge(&mut self, other: &Tally) {
        for (answers, other) in self.by_protocol.iter_mut().zip(&other.by_protocol) {
            answers.outcomes.iter_mut().zip(&other.outcomes).for_each(|(sum, one)| *sum += one);
            answers.took.merge(&other.took);
            answers.native.merge(&other.native);
            answers.exemplars.merge(&other.exemplars);
            answers.received += other.received;
            answers.sent += other.sent;
        }
        self.begun += other.begun;
        self.rows += other.rows;
        self.phases.iter_mut().zip(&other.phases).for_each(|(times, other)| times.merge(other));
        self.runs.merge(&other.runs);
        self.batched += other.batched;
        self.batched_nanos += other.batched_nanos;
        self.examples.add(&other.examples);
    }

    /// Returns whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.begun == 0 && self.runs.count() == 0
    }

    /// Returns the number of requests that ended well.
    pub(super) fn succeeded(&self) -> u64 {
        self.by_protocol.iter().map(|answers| answers.outcomes[0]).sum()
    }

    /// Returns the number of requests that have begun and not ended.
    pub(super) fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.by_protocol.iter().map(Answers::count).sum())
    }

    /// Returns the number of runs that are not counted as batches, and their nanoseconds.
    pub(super) fn alone(&self) -> (u64, u64) {
        let Tally { runs, batched, batched_nanos, .. } = self;
        (runs.count().saturating_sub(*batched), runs.nanos.saturating_sub(*batched_nanos))
    }
}

/// Returns `took` in nanoseconds.
pub(super) fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns a small number that is fixed for each thread.
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(THREADS.fetch_add(1, Relaxed));
        }
        number.get()
    })
}
