//! One request on its way: the one record of its phases, which metrics count, and the access log and traces tell.
//!
//! It is in one phase at a time, in one thread at a time. [`Timeline::enter`] takes the place of whatever else would
//! time a part of a request.

mod batch;

pub use batch::{BatchRun, Execution};

use crate::error::Kind;
use crate::metrics::{Ending, Part, Protocol, Series};
use crate::profile::Phase;
use crate::trace_context::TraceContext;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most steps that are kept of a request; it has some five.
const MOST_STEPS: usize = 32;
/// The number of no phase: the body is still to come.
const NONE: u8 = Phase::COUNT as u8;

/// What is known of a request so far.
#[derive(Debug)]
pub struct Timeline {
    /// When its head was there.
    began: Instant,
    /// The bytes of its body or message, and when the last one was there, in nanoseconds after it began.
    received: AtomicUsize,
    received_at: AtomicU64,
    /// Its rows, once they are known.
    rows: AtomicUsize,
    /// The current phase, and since when.
    phase: AtomicU8,
    since: AtomicU64,
    spent: [AtomicU64; Phase::COUNT],
    counted: Mutex<Counted>,
    /// The trace by which metrics show it.
    exemplar: Option<TraceContext>,
    /// Its phases one by one, for a request that is traced.
    steps: Option<Mutex<Vec<Step>>>,
}

/// A phase that has ended, in nanoseconds after the request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub from: u64,
    /// When it ended.
    pub to: u64,
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
    /// Begins: the head of a request is there. `traced`: its phases are kept one by one.
    pub fn begin(exemplar: Option<TraceContext>, traced: bool) -> Timeline {
        Timeline {
            began: Instant::now(),
            received: AtomicUsize::new(0),
            received_at: AtomicU64::new(0),
            rows: AtomicUsize::new(0),
            phase: AtomicU8::new(NONE),
            since: AtomicU64::new(0),
            spent: Default::default(),
            counted: Mutex::new(Counted::Nowhere),
            exemplar,
            steps: traced.then(Mutex::default),
        }
    }

    /// Says that the body or message, of `bytes` bytes, is there and about to be decoded.
    pub fn received(&self, bytes: usize) {
        let now = self.after(Instant::now());
        self.received.store(bytes, Relaxed);
        self.received_at.store(now, Relaxed);
        self.since.store(now, Relaxed);
        self.phase.store(Phase::Decode as u8, Relaxed);
    }

    /// Says how many rows the request has.
    pub fn has_rows(&self, rows: usize) {
        self.rows.store(rows, Relaxed);
    }

    /// Ends the current phase at `at`, when `phase` begins. Returns the one that ended.
    pub fn enter(&self, phase: Phase, at: Instant) -> Phase {
        let ended = self.pass(self.after(at));
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

    /// Ends the work on the request, now. `outcome`: the bytes of its answer. `examples`: those of a multi-inference.
    pub fn end(&self, protocol: Protocol, outcome: Result<usize, Kind>, examples: Option<usize>) {
        let now = self.after(Instant::now());
        self.pass(now);
        self.phase.store(NONE, Relaxed);
        let Counted::In(part) = std::mem::replace(&mut *self.counted(), Counted::Ended) else { return };
        part.end(&Ending {
            protocol,
            outcome,
            received: self.bytes(),
            rows: self.rows.load(Relaxed),
            took: now.saturating_sub(self.received_at.load(Relaxed)),
            phases: self.spent.each_ref().map(|spent| spent.load(Relaxed)),
            exemplar: self.exemplar,
        });
        if let (Some(examples), Ok(_)) = (examples, outcome) {
            part.inferred(examples);
        }
    }

    /// Returns whether it is counted anywhere.
    pub fn is_assigned(&self) -> bool {
        matches!(*self.counted(), Counted::In(_))
    }

    /// Returns whether its phases are kept one by one.
    pub fn is_traced(&self) -> bool {
        self.steps.is_some()
    }

    /// Returns when its head was there.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Returns the bytes of its body or message.
    pub fn bytes(&self) -> usize {
        self.received.load(Relaxed)
    }

    /// Returns how long it was in `phase`; `None` if it was not.
    pub fn time(&self, phase: Phase) -> Option<Duration> {
        let nanos = self.spent[phase as usize].load(Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Returns its phases one by one, if these are kept.
    pub fn steps(&self) -> Vec<Step> {
        self.steps.as_ref().map(|steps| locked(steps).clone()).unwrap_or_default()
    }

    /// Returns nanoseconds from the beginning to `at`.
    pub fn after(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        locked(&self.counted)
    }

    /// Adds the time until `now` to the current phase, which it returns. What belongs to none is before the decoding.
    fn pass(&self, now: u64) -> Phase {
        let from = self.since.swap(now, Relaxed);
        let Some(phase) = Phase::ALL.get(usize::from(self.phase.load(Relaxed))).copied() else {
            return Phase::Decode;
        };
        let spent = &self.spent[phase as usize];
        spent.store(spent.load(Relaxed) + now.saturating_sub(from), Relaxed);
        if let Some(steps) = self.steps.as_ref().filter(|_| now > from) {
            let mut steps = locked(steps);
            if steps.len() < MOST_STEPS {
                steps.push(Step { phase, from, to: now });
            }
        }
        phase
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_has_its_time_and_its_steps() {
        let timeline = Timeline::begin(None, true);
        let at = |millis| timeline.began() + Duration::from_millis(millis);
        timeline.received(7);
        let received = timeline.received_at.load(Relaxed);
        assert_eq!(timeline.enter(Phase::Queue, at(1010)), Phase::Decode);
        assert_eq!(timeline.enter(Phase::Decode, at(1020)), Phase::Queue);
        timeline.enter(Phase::Run, at(1030));
        timeline.enter(Phase::Encode, at(1130));
        assert_eq!(timeline.time(Phase::Queue), Some(Duration::from_millis(10)));
        assert_eq!(timeline.time(Phase::Run), Some(Duration::from_millis(100)));
        assert_eq!(timeline.time(Phase::Encode), None);
        let step = |phase, from: u64, to: u64| Step { phase, from: from * 1_000_000, to: to * 1_000_000 };
        let first = Step { from: received, ..step(Phase::Decode, 0, 1010) };
        let others =
            [step(Phase::Queue, 1010, 1020), step(Phase::Decode, 1020, 1030), step(Phase::Run, 1030, 1130)];
        assert_eq!(timeline.steps(), [&[first], &others[..]].concat());
        assert_eq!(timeline.bytes(), 7);
    }

    #[test]
    fn what_nobody_traces_keeps_no_steps_and_steps_are_bounded() {
        for traced in [false, true] {
            let timeline = Timeline::begin(None, traced);
            timeline.received(0);
            for step in 1..1000 {
                timeline.enter(Phase::Run, timeline.began() + Duration::from_secs(step));
            }
            assert_eq!(timeline.steps().len(), if traced { MOST_STEPS } else { 0 });
            assert!(timeline.time(Phase::Run).is_some_and(|time| time > Duration::from_secs(900)));
        }
    }

    #[test]
    fn the_time_of_a_body_belongs_to_no_phase() {
        let timeline = Timeline::begin(None, true);
        timeline.end(Protocol::Rest, Ok(0), None);
        assert!(timeline.steps().is_empty());
        assert!(Phase::ALL.into_iter().all(|phase| timeline.time(phase).is_none()));
    }
}
