//! What a load has taken of the memory: the difference of what is allocated before and after it.
//!
//! That is only true of loads one after another. One during which another load began or ended, or a version was freed,
//! has no measure. Requests that run meanwhile are measured with it, by what they hold at that moment.

use crate::host::held;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Measures the loads of a server.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// Counts beginnings and ends of whatever changes much.
    changes: AtomicU64,
    under_way: AtomicU64,
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
        let is_alone = self.under_way.fetch_add(1, SeqCst) == 0;
        let count = self.changes.fetch_add(1, SeqCst) + 1;
        let before = held::allocated().filter(|_| is_alone).map(|bytes| (count, bytes));
        Measured { meter: self, before }
    }

    /// Begins the freeing of a version.
    pub(super) fn frees(&self) -> Measured<'_> {
        self.under_way.fetch_add(1, SeqCst);
        self.changes.fetch_add(1, SeqCst);
        Measured { meter: self, before: None }
    }
}

impl Measured<'_> {
    /// Returns what the load has taken so far, in bytes; `None` if that is not known.
    pub(super) fn taken(&self) -> Option<u64> {
        let (count, before) = self.before?;
        let now = held::allocated()?;
        (self.meter.changes.load(SeqCst) == count).then(|| now.saturating_sub(before))
    }
}

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.meter.changes.fetch_add(1, SeqCst);
        self.meter.under_way.fetch_sub(1, SeqCst);
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
}
