//! What a load has taken of the memory: the difference of what is allocated before and after it.
//!
//! That is only true of loads one after another. One during which another load began or ended, or a version was freed,
//! has no measure. Requests that run meanwhile are measured with it, by what they hold at that moment.
//!
//! Work that goes on beside loads is measured apart from them: what changed while any load was under way is theirs.

use crate::host::held;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Measures the loads of a server.
#[derive(Debug, Default)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Counts beginnings and ends of whatever changes much.
    changes: u64,
    under_way: usize,
    /// What was allocated when the first of those under way began.
    since: Option<u64>,
    /// By how many bytes what is allocated has changed while something was under way, so far.
    changed: i64,
}

/// A load that is being measured, or the freeing of a version.
pub(super) struct Measured<'a> {
    meter: &'a Meter,
    /// The count at its beginning, and what was allocated; `None` if another one was under way.
    before: Option<(u64, u64)>,
}

impl Meter {
    /// Begins a load.
    pub(super) fn begin(&self) -> Measured<'_> {
        Measured { meter: self, before: self.begun() }
    }

    /// Begins the freeing of a version.
    pub(super) fn frees(&self) -> Measured<'_> {
        self.begun();
        Measured { meter: self, before: None }
    }

    /// Begins work beside loads.
    pub(super) fn beside(&self) -> Beside<'_> {
        Beside { meter: self, before: self.apart() }
    }

    /// Returns the count of changes, and what is allocated, if nothing else is under way.
    fn begun(&self) -> Option<(u64, u64)> {
        let mut state = self.state();
        state.changes += 1;
        state.under_way += 1;
        if state.under_way > 1 {
            return None;
        }
        state.since = held::allocated();
        state.since.map(|bytes| (state.changes, bytes))
    }

    /// Returns what is allocated less what loads and the freeing of versions have changed: it says something of the
    /// difference between two moments.
    fn apart(&self) -> Option<i64> {
        let state = self.state();
        let now = held::allocated()?;
        let under_way = state.since.filter(|_| state.under_way > 0);
        Some(signed(now) - state.changed - under_way.map_or(0, |since| signed(now) - signed(since)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work beside loads that is being measured.
pub(super) struct Beside<'a> {
    meter: &'a Meter,
    before: Option<i64>,
}

impl Beside<'_> {
    /// Returns what it has taken so far, in bytes, or given back; `None` if that is not known.
    pub(super) fn grown(&self) -> Option<i64> {
        Some(self.meter.apart()? - self.before?)
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Measured<'_> {
    /// Returns what the load has taken so far, in bytes; `None` if that is not known.
    pub(super) fn taken(&self) -> Option<u64> {
        let (count, before) = self.before?;
        let now = held::allocated()?;
        (self.meter.state().changes == count).then(|| now.saturating_sub(before))
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        let mut state = self.meter.state();
        state.changes += 1;
        state.under_way -= 1;
        if state.under_way == 0
            && let (Some(now), Some(since)) = (held::allocated(), state.since)
        {
            state.changed += signed(now) - signed(since);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_load_by_itself_is_measured() {
        let meter = Meter::default();
        assert!(meter.begin().taken().is_some());
        assert!(meter.begin().taken().is_some(), "the former one has ended");
    }

    #[test]
    fn loads_at_once_are_not() {
        let meter = Meter::default();
        let (first, second) = (meter.begin(), meter.begin());
        assert_eq!((first.taken(), second.taken()), (None, None));
        drop(first);
        assert_eq!(second.taken(), None);
        drop(second);
        let load = meter.begin();
        drop(meter.frees());
        assert_eq!(load.taken(), None, "what was freed would be missing");
    }

    /// Other tests allocate meanwhile, though not as much.
    #[test]
    fn work_beside_loads_is_measured_apart_from_them() {
        const SIZE: usize = 256 << 20;
        let meter = Meter::default();
        let block = |size: usize| held::Block::of(size);
        let beside = meter.beside();
        let load = meter.begin();
        let loaded = block(2 * SIZE);
        let of_load_under_way = beside.grown().unwrap();
        drop(load);
        let taken = block(SIZE);
        let with_load = beside.grown().unwrap();
        let freeing = meter.frees();
        drop(loaded);
        drop(freeing);
        let after_freeing = beside.grown().unwrap();
        drop(taken);
        let in_the_end = beside.grown().unwrap();
        let near = |bytes: i64, size: usize| bytes.abs_diff(signed(size as u64)) < SIZE as u64 / 2;
        assert!(near(of_load_under_way, 0), "{of_load_under_way}");
        assert!(near(with_load, SIZE), "{with_load}");
        assert!(near(after_freeing, SIZE), "{after_freeing}");
        assert!(near(in_the_end, 0), "{in_the_end}");
    }
}
