//! How many cores the runs of all models together may use, or how many runs a thing allows at once.

use crate::engine::waiting::wait_while;
use crate::error::{Error, Kind, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A number of permits; each run holds some.
pub(super) struct Permits {
    all: usize,
    free: Mutex<usize>,
    given_back: Condvar,
}

/// Permits that go back when dropped.
pub(super) struct Held<'a> {
    from: &'a Permits,
    count: usize,
}

impl Permits {
    /// Makes `all` permits, at least one.
    pub(super) fn new(all: usize) -> Permits {
        let all = all.max(1);
        Permits { all, free: Mutex::new(all), given_back: Condvar::new() }
    }

    /// Takes all permits if all are free and `whole`; otherwise one, as soon as there is one, until `deadline`.
    pub(super) fn take(&self, whole: bool, deadline: Option<Instant>) -> Result<Held<'_>> {
        let mut free = self.free();
        let count = if whole && *free == self.all { self.all } else { 1 };
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        free = wait_while(&self.given_back, free, timeout, |free| *free < count).ok_or_else(too_late)?;
        *free -= count;
        Ok(Held { from: self, count })
    }

    /// Takes as [`Self::take`] does, if no other run has to end first.
    pub(super) fn try_take(&self, whole: bool) -> Option<Held<'_>> {
        let mut free = self.free();
        let count = if whole && *free == self.all { self.all } else { 1 };
        *free = free.checked_sub(count)?;
        Some(Held { from: self, count })
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held<'_> {
    /// Returns the number of permits.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.from.free() += self.count;
        if self.count == 1 {
            self.from.given_back.notify_one();
        } else {
            self.from.given_back.notify_all();
        }
    }
}

/// The error of a run that its deadline ends.
pub(super) fn too_late() -> Error {
    Error::new(Kind::DeadlineExceeded, "Timed out waiting for the model to finish")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_run_alone_has_all_and_others_have_one_each() {
        let permits = Permits::new(3);
        let alone = permits.take(true, None).unwrap();
        assert_eq!(alone.count(), 3);
        let late = permits.take(true, Some(Instant::now() + Duration::from_millis(1))).err().unwrap();
        assert_eq!(late.kind, Kind::DeadlineExceeded);
        assert!(permits.try_take(false).is_none());
        drop(alone);
        assert_eq!(permits.try_take(true).map(|held| held.count()), Some(3));
        let small = permits.take(false, None).unwrap();
        assert_eq!((small.count(), permits.take(true, None).unwrap().count()), (1, 1));
    }

    #[test]
    fn one_that_waits_is_woken() {
        let permits = Permits::new(2);
        let held = permits.take(true, None).unwrap();
        std::thread::scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| permits.take(true, None).unwrap().count()));
            drop(held);
            for one in waiting {
                assert!((1..=2).contains(&one.join().unwrap()));
            }
        });
        assert_eq!(permits.take(true, None).unwrap().count(), 2);
    }
}
