//! The placement of a servable's runs, decided by measurement.
//!
//! A run shorter than a hand-over to another thread (tens of µs) happens at once, in the thread that read the request;
//! a longer one goes to the compute threads, so that it blocks no other connection. Measured on a 2-core machine: a
//! hand-over and back costs 15–40 µs, a trivial graph 6–10 µs.

use crate::engine::Threads;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The operator's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Decide by measurement.
    Auto,
    /// Always in the caller's thread.
    Caller,
    /// Always on the compute threads, operations on the session's pool.
    Pool,
}

/// Longest run that confirms a signature as short. Above the cost of a hand-over, because a run that was handed over is
/// slower than it would be in place (a cold thread, cold caches), more so on a busy machine.
const SHORT: Duration = Duration::from_micros(100);
/// Runs from here on cost a confirmation; those between this and [`SHORT`] do not count.
const NOT_SHORT: Duration = Duration::from_micros(300);
/// Number of confirmations that make a signature short.
const CONFIRMATIONS: u32 = 8;
/// Runs from here on quickly remove a signature from the caller's thread. They also gain more from the engine's pool
/// (parallel operations, a timeout) than they lose by the hand-over.
const LONG: Duration = Duration::from_micros(1000);

/// The measured state of a signature: the confirmations that its runs are short.
#[derive(Debug)]
pub struct Placement {
    policy: Policy,
    bounded: bool,
    short_runs: AtomicU32,
    long: AtomicBool,
}

impl Placement {
    /// Starts without measurements: requests go to the compute threads, unless the policy says otherwise. `bounded`:
    /// runs are known to end on their own, equally soon for any input of the same shape.
    pub fn new(policy: Policy, bounded: bool) -> Placement {
        Placement { policy, bounded, short_runs: AtomicU32::new(0), long: AtomicBool::new(false) }
    }

    /// Returns whether the next request should run in the thread that read it.
    pub fn in_caller(&self) -> bool {
        match self.policy {
            Policy::Auto => self.bounded && self.short_runs.load(Relaxed) >= CONFIRMATIONS,
            Policy::Caller => true,
            Policy::Pool => false,
        }
    }

    /// Returns the engine's threads for the next run. A bounded signature not known to be long runs in its caller's
    /// thread: that is how short ones are found. All others go to the engine's pool, where they can be interrupted and
    /// their operations may run in parallel.
    pub fn threads(&self) -> Threads {
        match self.policy {
            Policy::Auto if self.bounded && !self.long.load(Relaxed) => Threads::Caller,
            Policy::Caller => Threads::Caller,
            Policy::Auto | Policy::Pool => Threads::Pool,
        }
    }

    /// Accounts for one measured run.
    pub fn observe(&self, took: Duration) {
        if self.policy != Policy::Auto || !self.bounded {
            return;
        }
        if self.long.load(Relaxed) != (took >= LONG) {
            // One long run (usually the first) sends the next to the pool; a shorter one there brings it back.
            self.long.store(took >= LONG, Relaxed);
        }
        let now = self.short_runs.load(Relaxed);
        let next = if took <= SHORT {
            (now + 1).min(4 * CONFIRMATIONS)
        } else if took >= LONG {
            now / 4
        } else {
            now.saturating_sub(u32::from(took >= NOT_SHORT))
        };
        if next != now {
            // An update lost between threads only delays the decision.
            self.short_runs.store(next, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(placement: &Placement, micros: &[u64]) -> bool {
        for took in micros {
            placement.observe(Duration::from_micros(*took));
        }
        placement.in_caller()
    }

    #[test]
    fn short_runs_come_to_the_caller_after_some_confirmations() {
        let placement = Placement::new(Policy::Auto, true);
        assert!(!observed(&placement, &[50_000, 10, 10, 10, 10]));
        assert!(observed(&placement, &[10; 8]));
        assert!(observed(&placement, &[200; 100]), "a slow moment says nothing");
        assert!(observed(&placement, &[10; 100]));
        assert!(observed(&placement, &[5_000]), "one outlier may be the machine's");
        assert!(!observed(&placement, &[5_000]), "two are the model's");
    }

    #[test]
    fn what_can_go_on_for_ever_never_runs_where_it_cannot_be_stopped() {
        let placement = Placement::new(Policy::Auto, false);
        assert!(!observed(&placement, &[5; 100]));
        assert_eq!(placement.threads(), Threads::Pool);
    }

    #[test]
    fn long_runs_go_to_the_pool_until_they_are_short_again() {
        let placement = Placement::new(Policy::Auto, true);
        assert_eq!(placement.threads(), Threads::Caller);
        observed(&placement, &[20_000]);
        assert_eq!(placement.threads(), Threads::Pool);
        observed(&placement, &[150]);
        assert_eq!(placement.threads(), Threads::Caller);
    }

    #[test]
    fn the_operators_word_stands() {
        let (caller, pool) = (Placement::new(Policy::Caller, false), Placement::new(Policy::Pool, true));
        assert!(observed(&caller, &[50_000; 20]));
        assert!(!observed(&pool, &[5; 20]));
    }
}
