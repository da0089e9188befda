//! Ends runs at their deadlines: one thread for all, which sleeps until the first one.

#![allow(unsafe_code)]

use super::failure::Failure;
use super::ffi::OrtRunOptions;
use super::runtime::Runtime;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `OrtRunOptions`, released when dropped.
pub(super) struct Options {
    runtime: &'static Runtime,
    raw: *mut OrtRunOptions,
    /// Whether the run was told to end.
    is_over: AtomicBool,
}

// SAFETY: the only change made to run options while a run has them is the mark to end it, which is what ONNX Runtime
// has them for: any thread may set it.
unsafe impl Send for Options {}
// SAFETY: as above.
unsafe impl Sync for Options {}

impl Options {
    /// Makes the options of a run.
    pub(super) fn new(runtime: &'static Runtime) -> std::result::Result<Options, Failure> {
        let mut raw = null_mut();
        // SAFETY: the result is ours.
        runtime.api.check(unsafe { (runtime.api.create_run_options)(&raw mut raw) })?;
        Ok(Options { runtime, raw, is_over: AtomicBool::new(false) })
    }

    /// Returns the pointer, for a call that `self` outlives.
    pub(super) fn as_ptr(&self) -> *const OrtRunOptions {
        self.raw
    }

    /// Returns whether the run was told to end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        // SAFETY: the options are live. Setting a mark cannot fail.
        drop(self.runtime.api.check(unsafe { (self.runtime.api.set_terminate)(self.raw) }));
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: made by `new`, released once.
        unsafe { (self.runtime.api.release_run_options)(self.raw) };
    }
}

/// A deadline; the number tells equal ones apart.
type Deadline = (Instant, u64);

/// The runs that have a deadline.
pub(super) struct Watch {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    earlier: Condvar,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<Deadline, Arc<Options>>,
    /// When the thread will wake by itself; `None` if it will not.
    wakes_at: Option<Instant>,
    next: u64,
}

/// A run that ends at its deadline, until this is dropped.
pub(super) struct Watched<'a> {
    watch: &'a Watch,
    deadline: Deadline,
}

impl Watch {
    /// Starts the thread.
    pub(super) fn start() -> Result<Watch> {
        let shared = Arc::new(Shared::default());
        let watched = shared.clone();
        let builder = std::thread::Builder::new().name("servable-watch".to_owned());
        builder.spawn(move || watched.end_runs()).map_err(|why| {
            Error::new(Kind::ResourceExhausted, format!("No thread could be started to end runs: {why}"))
        })?;
        Ok(Watch { shared })
    }

    /// Ends the run with `options` when `timeout` is over.
    pub(super) fn over(&self, options: Arc<Options>, timeout: Duration) -> Watched<'_> {
        /// Stands for a time that no clock reaches.
        const LONGEST: Duration = Duration::from_secs(365 * 86_400);
        let at = Instant::now() + timeout.min(LONGEST);
        let mut state = self.shared.lock();
        state.next += 1;
        let deadline = (at, state.next);
        state.runs.insert(deadline, options);
        // It does not wake for each of many short runs, whose deadlines are never reached.
        if state.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            state.wakes_at = Some(at);
            self.shared.earlier.notify_one();
        }
        Watched { watch: self, deadline }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        let ended = self.watch.shared.lock().runs.remove(&self.deadline);
        drop(ended);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does, for ever.
    fn end_runs(&self) {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            while let Some(run) = state.runs.first_entry().filter(|run| run.key().0 <= now) {
                run.remove().end();
            }
            state.wakes_at = state.runs.first_key_value().map(|(deadline, _)| deadline.0);
            let woken = match state.wakes_at {
                Some(at) => {
                    let waited = self.earlier.wait_timeout(state, at.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.earlier.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state = woken;
        }
    }
}
