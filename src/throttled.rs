//! Log lines that would repeat themselves: one now and then, with a count of those that were held back.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Lets the same line through once in so many seconds.
pub(crate) struct Throttled {
    seconds: u64,
    last: Mutex<Option<Instant>>,
    held: AtomicU64,
}

impl Throttled {
    pub(crate) const fn new(seconds: u64) -> Throttled {
        Throttled { seconds, last: Mutex::new(None), held: AtomicU64::new(0) }
    }

    /// None if the line is held back; else how many were since the last one that was let through.
    pub(crate) fn pass(&self) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed().as_secs() < self.seconds) {
            self.held.fetch_add(1, Relaxed);
            return None;
        }
        *last = Some(Instant::now());
        Some(self.held.swap(0, Relaxed))
    }
}
