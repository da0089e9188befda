//! The phases of requests, and what is recorded of them while a profiler is attached.
//!
//! A phase lasts as long as the value of [`phase`] is held. Without a recording, that costs one relaxed load. Any number
//! of [`Recording`]s may run at once. The times of a single request are in its [`Timeline`](crate::timeline::Timeline).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The phases of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// From the message to tensors.
    Decode,
    /// In a queue of the scheduler, or of batching.
    Queue,
    /// In the engine.
    Run,
    /// From tensors to the answer.
    Encode,
}

impl Phase {
    /// Number of phases.
    pub const COUNT: usize = 4;
    /// Every phase, in the order of their numbers.
    pub const ALL: [Phase; Phase::COUNT] = [Phase::Decode, Phase::Queue, Phase::Run, Phase::Encode];

    /// Returns the name shown in viewers.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Decode => "decode",
            Phase::Queue => "queue",
            Phase::Run => "run",
            Phase::Encode => "encode",
        }
    }
}

/// One phase of one request.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The phase.
    pub phase: Phase,
    /// When it began.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// The thread it ended on; see [`Profile::threads`].
    pub thread: u64,
}

/// Number of spans (48 MB) beyond which nothing more is recorded.
const MAX_SPANS: usize = 1 << 20;

static WATCHERS: AtomicUsize = AtomicUsize::new(0);
static THREADS: AtomicU64 = AtomicU64::new(1);
static STORE: Mutex<Store> = Mutex::new(Store { spans: Vec::new(), threads: BTreeMap::new() });

struct Store {
    spans: Vec<Span>,
    threads: BTreeMap<u64, String>,
}

thread_local! {
    static THREAD: u64 = THREADS.fetch_add(1, Relaxed);
}

fn store() -> MutexGuard<'static, Store> {
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A phase that lasts until this is dropped.
#[derive(Debug)]
#[must_use = "the phase lasts as long as this is held"]
pub struct Running {
    phase: Phase,
    started: Instant,
}

/// Begins `phase` of a request, if a recording is under way.
pub fn phase(phase: Phase) -> Option<Running> {
    (WATCHERS.load(Relaxed) > 0).then(|| Running { phase, started: Instant::now() })
}

impl Drop for Running {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        if WATCHERS.load(Relaxed) == 0 {
            return;
        }
        let thread = THREAD.with(|thread| *thread);
        let mut store = store();
        if WATCHERS.load(Relaxed) > 0 && store.spans.len() < MAX_SPANS {
            store.spans.push(Span { phase: self.phase, started: self.started, took, thread });
            let name = || std::thread::current().name().unwrap_or("unnamed").to_owned();
            store.threads.entry(thread).or_insert_with(name);
        }
    }
}

/// The result of a recording.
#[derive(Debug)]
pub struct Profile {
    /// When the recording began, by both clocks.
    pub started: (Instant, SystemTime),
    /// How long it lasted.
    pub took: Duration,
    /// The spans, in the order they ended.
    pub spans: Vec<Span>,
    /// The names of the threads in `spans`.
    pub threads: BTreeMap<u64, String>,
}

/// Records until it is finished or dropped.
#[derive(Debug)]
pub struct Recording {
    started: (Instant, SystemTime),
    /// Number of spans that were already there, for others.
    before: usize,
}

impl Recording {
    /// Begins to record.
    pub fn start() -> Recording {
        let store = store();
        WATCHERS.fetch_add(1, Relaxed);
        Recording { started: (Instant::now(), SystemTime::now()), before: store.spans.len() }
    }

    /// Ends the recording.
    pub fn finish(self) -> Profile {
        let store = store();
        let spans = store.spans[self.before..].to_vec();
        let threads = store.threads.clone();
        drop(store);
        Profile { started: self.started, took: self.started.0.elapsed(), spans, threads }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut store = store();
        if WATCHERS.fetch_sub(1, Relaxed) == 1 {
            *store = Store { spans: Vec::new(), threads: BTreeMap::new() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_recorded_while_somebody_watches() {
        // Other tests of the process may record at the same time: only what this thread did counts.
        let mine = || THREAD.with(|thread| *thread);
        let of = |profile: &Profile| {
            profile
                .spans
                .iter()
                .filter(|span| span.thread == mine())
                .map(|span| span.phase)
                .collect::<Vec<_>>()
        };
        drop(phase(Phase::Decode));
        let outer = Recording::start();
        drop(phase(Phase::Decode));
        let inner = Recording::start();
        drop(phase(Phase::Run));
        let profile = inner.finish();
        assert_eq!(of(&profile), [Phase::Run]);
        assert!(
            profile.spans.iter().all(|span| span.started + span.took <= profile.started.0 + profile.took)
        );
        drop(phase(Phase::Encode));
        let profile = outer.finish();
        assert_eq!(of(&profile), [Phase::Decode, Phase::Run, Phase::Encode]);
        assert!(profile.threads.contains_key(&mine()));
    }
}
