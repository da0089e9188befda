//! When a version was used: told by each of its runs, for whoever decides which versions stay in memory.
//!
//! Time goes by in steps. A run that is not the first one in its step only reads; so thousands of runs a second on many
//! threads do not take the memory from each other in which this is kept.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// In milliseconds.
const STEP: u128 = 100;

/// What the runs of a version have told.
#[derive(Debug)]
pub(super) struct Used {
    since: Instant,
    /// The step of the last run.
    last: AtomicU64,
    /// The steps that had a run.
    steps: AtomicU64,
}

/// When and how often a version was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The time since its last run, or since its load.
    pub idle: Duration,
    /// In how many tenths of a second it was used.
    pub steps: u64,
}

impl Used {
    pub(super) fn new() -> Used {
        Used { since: Instant::now(), last: AtomicU64::new(0), steps: AtomicU64::new(0) }
    }

    /// Says that a run begins at this time.
    pub(super) fn at(&self, now: Instant) {
        // The first step is 1: none is 0.
        let step =
            u64::try_from(now.saturating_duration_since(self.since).as_millis() / STEP).unwrap_or(0) + 1;
        // Runs that tell of the same step at once may both count it.
        if self.last.load(Relaxed) != step {
            self.last.store(step, Relaxed);
            self.steps.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn told(&self) -> Use {
        let (age, last) = (self.since.elapsed(), self.last.load(Relaxed));
        #[allow(clippy::cast_possible_truncation)] // A tenth of a second.
        let until = Duration::from_millis(last.saturating_sub(1).saturating_mul(STEP as u64));
        Use { idle: age.saturating_sub(until), steps: self.steps.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_once_in_each_step() {
        let used = Used::new();
        let at = |millis| used.since + Duration::from_millis(millis);
        assert_eq!(used.told().steps, 0);
        for millis in [0, 1, 99] {
            used.at(at(millis));
        }
        assert_eq!(used.told().steps, 1);
        for millis in [100, 101, 450] {
            used.at(at(millis));
        }
        assert_eq!(used.told().steps, 3);
        used.at(at(120));
        assert_eq!(used.told().steps, 4, "one that is late counts, too");
    }

    #[test]
    fn it_is_idle_from_its_last_step_on() {
        let used = Used::new();
        used.at(used.since + Duration::from_secs(3600));
        assert_eq!(used.told().idle, Duration::ZERO);
        let former = Instant::now().checked_sub(Duration::from_secs(10));
        let Some(since) = former else { return };
        let old = Used { since, last: AtomicU64::new(0), steps: AtomicU64::new(0) };
        assert!(old.told().idle >= Duration::from_secs(10), "never used since its load");
        old.at(since + Duration::from_secs(4));
        assert!(old.told().idle >= Duration::from_secs(6) && old.told().idle < Duration::from_secs(3600));
    }
}
