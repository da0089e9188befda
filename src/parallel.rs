//! Work on one request cut into parts, which run on cores that are idle.
//!
//! Whoever has a large piece of work asks how many threads could help at this moment ([`Spare::spare`]), cuts it into as
//! many parts and one more, and lets them run ([`Spare::join`]). The calling thread runs parts itself, so that the work is
//! done in any case, and is never behind other requests: a thread only helps while its core is idle.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// A part of a piece of work.
pub type Part<'a> = Box<dyn FnOnce() + Send + 'a>;

/// Threads that may help.
pub trait Spare: Sync {
    /// Returns the number of threads that could help the calling one now.
    fn spare(&self) -> usize;

    /// Runs `parts` in any order, in the calling thread and others, and returns when all have ended. If a part panics, so
    /// does this.
    fn join(&self, parts: Vec<Part<'_>>);
}

/// No threads.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Spare for Alone {
    fn spare(&self) -> usize {
        0
    }

    fn join(&self, parts: Vec<Part<'_>>) {
        parts.into_iter().for_each(|part| part());
    }
}

/// Threads that are started for one piece of work, as many as there are cores without work that is known here.
#[derive(Debug)]
pub struct IdleCores {
    cores: usize,
    busy: AtomicUsize,
}

impl IdleCores {
    /// Makes helpers for a process on `cores` cores.
    pub const fn new(cores: usize) -> IdleCores {
        IdleCores { cores, busy: AtomicUsize::new(0) }
    }

    /// Makes helpers for this process.
    pub fn here() -> IdleCores {
        IdleCores::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Counts a core as busy until the result is dropped.
    pub fn occupy(&self) -> Occupied<'_> {
        self.busy.fetch_add(1, Relaxed);
        Occupied { cores: self, count: 1 }
    }

    /// Occupies up to `wanted` idle cores.
    fn take(&self, wanted: usize) -> Occupied<'_> {
        let mut count = 0;
        // Cannot fail: the update always has a result.
        let _ = self.busy.fetch_update(Relaxed, Relaxed, |busy| {
            count = self.cores.saturating_sub(busy.max(1)).min(wanted);
            Some(busy + count)
        });
        Occupied { cores: self, count }
    }
}

/// Cores that are counted as busy.
#[derive(Debug)]
pub struct Occupied<'a> {
    cores: &'a IdleCores,
    count: usize,
}

impl Drop for Occupied<'_> {
    fn drop(&mut self) {
        self.cores.busy.fetch_sub(self.count, Relaxed);
    }
}

impl Spare for IdleCores {
    fn spare(&self) -> usize {
        // The calling thread has a core, whether that is counted or not.
        self.cores.saturating_sub(self.busy.load(Relaxed).max(1))
    }

    fn join(&self, parts: Vec<Part<'_>>) {
        let helpers = self.take(parts.len().saturating_sub(1));
        // The last one is taken first.
        let parts = Mutex::new(parts);
        let next = || parts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || {
            while let Some(part) = next() {
                part();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..helpers.count {
                // Without another thread, this one does it all.
                let _started =
                    std::thread::Builder::new().name("servable-part".into()).spawn_scoped(scope, work);
            }
            work();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idle_cores_help() {
        let cores = IdleCores::new(4);
        assert_eq!(cores.spare(), 3);
        let one = cores.occupy();
        assert_eq!(cores.spare(), 3);
        let two = cores.occupy();
        assert_eq!(cores.spare(), 2);
        {
            let taken = cores.take(1);
            assert_eq!((taken.count, cores.spare()), (1, 1));
            let rest = cores.take(9);
            assert_eq!((rest.count, cores.spare()), (1, 0));
        }
        drop((one, two));
        assert_eq!(cores.spare(), 3);
        assert_eq!((IdleCores::new(1).spare(), Alone.spare()), (0, 0));
    }

    #[test]
    fn every_part_runs_once_and_the_cores_are_given_back() {
        let cores = IdleCores::new(4);
        for count in 0..20 {
            let mut done = vec![0; count];
            let parts = done.iter_mut().map(|done| -> Part<'_> { Box::new(move || *done += 1) });
            cores.join(parts.collect());
            assert_eq!((done, cores.spare()), (vec![1; count], 3));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let cores = IdleCores::new(2);
        let parts: Vec<Part<'_>> = (0..4).map(|_| -> Part<'_> { Box::new(|| panic!("in a part")) }).collect();
        let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cores.join(parts)));
        assert!(joined.is_err());
        assert_eq!(cores.spare(), 1);
    }
}
