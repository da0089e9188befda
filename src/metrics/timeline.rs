//! One request on its way: the phases that it goes through, and the series that it is counted in.

use super::series::{Ending, Part, nanos};
use super::{Protocol, Series};
use crate::error::Kind;
use crate::profile::Phase;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What is known of a request so far. It is one phase at a time, in one thread at a time.
#[derive(Debug)]
pub struct Timeline {
    begun: Instant,
    received: usize,
    /// The current phase, and when it began, in nanoseconds after the request did.
    phase: AtomicU8,
    since: AtomicU64,
    spent: [AtomicU64; Phase::COUNT],
    counted: Mutex<Counted>,
}

/// Where a request is counted.
#[derive(Debug)]
enum Counted {
    Nowhere,
    In(Arc<Part>),
    /// It has ended. A thread that still works on it, for nobody, begins nothing.
    Ended,
}

impl Timeline {
    /// Begins: a request of `received` bytes is about to be decoded.
    pub fn begin(received: usize) -> Timeline {
        Timeline {
            begun: Instant::now(),
            received,
            phase: AtomicU8::new(Phase::Decode as u8),
            since: AtomicU64::new(0),
            spent: Default::default(),
            counted: Mutex::new(Counted::Nowhere),
        }
    }

    /// Ends the current phase at `at`, when `phase` begins. Returns the one that ended.
    pub fn enter(&self, phase: Phase, at: Instant) -> Phase {
        let ended = self.pass(nanos(at.saturating_duration_since(self.begun)));
        self.phase.store(phase as u8, Relaxed);
        ended
    }

    /// Counts the request in `series`, and no longer where it was counted before.
    pub fn assign(&self, series: &Series) {
        let mut counted = self.counted();
        if matches!(*counted, Counted::Ended) {
            return;
        }
        let part = series.part();
        part.begin();
        if let Counted::In(before) = std::mem::replace(&mut *counted, Counted::In(part.clone())) {
            before.leave();
        }
    }

    /// Ends the request, now. `outcome`: the bytes of its answer. `examples`: those of a multi-inference.
    pub fn end(&self, protocol: Protocol, outcome: Result<usize, Kind>, examples: Option<usize>) {
        let took = nanos(self.begun.elapsed());
        self.pass(took);
        let Counted::In(part) = std::mem::replace(&mut *self.counted(), Counted::Ended) else { return };
        let phases = self.spent.each_ref().map(|spent| spent.load(Relaxed));
        part.end(&Ending { protocol, outcome, received: self.received, took, phases });
        if let (Some(examples), Ok(_)) = (examples, outcome) {
            part.inferred(examples);
        }
    }

    /// Returns whether it is counted anywhere.
    pub fn is_assigned(&self) -> bool {
        matches!(*self.counted(), Counted::In(_))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the time until `now`, in nanoseconds after the beginning, to the current phase, which it returns.
    fn pass(&self, now: u64) -> Phase {
        let phase = Phase::ALL[self.phase.load(Relaxed) as usize];
        let spent = &self.spent[phase as usize];
        let since = self.since.swap(now, Relaxed);
        spent.store(spent.load(Relaxed) + now.saturating_sub(since), Relaxed);
        phase
    }
}
