//! Counts of one model name, split into one part per few threads so that cores do not contend.

use super::histogram::{EXAMPLES, Histogram, LATENCY, Merged};
use super::{Api, Protocol};
use crate::error::Kind;
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Number of canonical codes: OK, and every [`Kind`].
pub(super) const CODES: usize = 17;
/// Maximum number of parts; further threads share them.
const MAX_PARTS: usize = 16;

/// The counts of one model name. Kept for the life of the process, as Prometheus expects of counters.
#[derive(Debug)]
pub struct ModelCounts {
    parts: Box<[OnceLock<Box<Part>>]>,
}

/// The counts of some threads, 3 KB; allocated when one of them first counts something.
#[derive(Debug, Default)]
struct Part {
    outcomes: [AtomicU64; CODES],
    latency: [Histogram<33>; Protocol::COUNT * Api::COUNT],
    runtime: [Histogram<33>; Api::COUNT],
    runs: AtomicU64,
    run_micros: AtomicU64,
    examples: Histogram<15>,
}

/// A snapshot of one model's counts, all parts together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) outcomes: [u64; CODES],
    pub(super) latency: [Merged; Protocol::COUNT * Api::COUNT],
    pub(super) runtime: [Merged; Api::COUNT],
    pub(super) runs: u64,
    pub(super) run_micros: u64,
    pub(super) examples: Merged,
}

impl ModelCounts {
    /// Starts with empty counts.
    pub(super) fn new() -> ModelCounts {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = cores.next_power_of_two().min(MAX_PARTS);
        ModelCounts { parts: (0..parts).map(|_| OnceLock::new()).collect() }
    }

    /// Counts a request through `protocol` that began at `started` and has just ended; `api` is set for calls that have
    /// one.
    pub fn answered(
        &self,
        protocol: Protocol,
        api: Option<Api>,
        started: Instant,
        outcome: Result<(), Kind>,
    ) {
        let part = self.part();
        part.outcomes[outcome.map_or_else(|kind| kind as usize, |()| 0)].fetch_add(1, Relaxed);
        if let (Some(api), Ok(())) = (api, outcome) {
            part.latency[latency_index(protocol, api)].add(&LATENCY, micros(started.elapsed()));
        }
    }

    /// Counts the latency of a run on behalf of `api`, and the run itself if it was for this request alone.
    pub fn ran(&self, api: Api, took: Duration, alone: bool) {
        let part = self.part();
        let took = micros(took);
        if alone {
            part.runs.fetch_add(1, Relaxed);
            part.run_micros.fetch_add(took, Relaxed);
        }
        part.runtime[api as usize].add(&LATENCY, took);
    }

    /// Counts the examples of one multi-inference request.
    pub fn inferred(&self, examples: usize) {
        self.part().examples.add(&EXAMPLES, examples as u64);
    }

    /// Returns the counts so far.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for part in self.parts.iter().filter_map(OnceLock::get) {
            for (total, count) in counts.outcomes.iter_mut().zip(&part.outcomes) {
                *total += count.load(Relaxed);
            }
            counts.latency.iter_mut().zip(&part.latency).for_each(|(merged, part)| merged.merge(part));
            counts.runtime.iter_mut().zip(&part.runtime).for_each(|(merged, part)| merged.merge(part));
            counts.runs += part.runs.load(Relaxed);
            counts.run_micros += part.run_micros.load(Relaxed);
            counts.examples.merge(&part.examples);
        }
        counts
    }

    fn part(&self) -> &Part {
        self.parts[thread_number() % self.parts.len()].get_or_init(Box::default)
    }
}

/// Returns the index of the latencies of `api` through `protocol`.
pub(super) fn latency_index(protocol: Protocol, api: Api) -> usize {
    protocol as usize * Api::COUNT + api as usize
}

pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Returns a small number that is fixed for each thread.
fn thread_number() -> usize {
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
