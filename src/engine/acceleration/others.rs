//! Whether others ran while a candidate was timed: then times by which it was refused say little.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Runs and loads of others that a trial may meet: the shortest of at least as many rounds counts.
const FEW: u64 = 3;

/// Counts what others do while something is timed.
pub(super) struct Others {
    watches: AtomicUsize,
    count: AtomicU64,
}

impl Others {
    pub(super) const fn new() -> Others {
        Others { watches: AtomicUsize::new(0), count: AtomicU64::new(0) }
    }

    /// Notes a run of a client, or a load. Where nothing is timed, nothing is written.
    pub(super) fn note(&self) {
        if self.watches.load(Relaxed) > 0 {
            self.count.fetch_add(1, Relaxed);
        }
    }

    /// Counts from now on, until the returned value is dropped.
    pub(super) fn watch(&self) -> Watch<'_> {
        self.watches.fetch_add(1, Relaxed);
        Watch { of: self, before: self.count.load(Relaxed) }
    }
}

/// A time in which others are counted.
pub(super) struct Watch<'a> {
    of: &'a Others,
    before: u64,
}

impl Watch<'_> {
    /// Returns whether more than a few came.
    pub(super) fn were_many(&self) -> bool {
        self.of.count.load(Relaxed) - self.before >= FEW
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.of.watches.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_while_something_is_timed_count() {
        let others = Others::new();
        let note = |times: u64| (0..times).for_each(|_| others.note());
        note(10);
        let watch = others.watch();
        assert!(!watch.were_many());
        note(FEW - 1);
        assert!(!watch.were_many());
        note(1);
        assert!(watch.were_many());
        drop(watch);
        note(10);
        assert!(!others.watch().were_many());
    }
}
