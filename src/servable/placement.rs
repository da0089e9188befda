//! Where a servable's requests run, decided by measurement.
//!
//! A run that is shorter than a hand-over to another thread (tens of µs) is done at once, in the thread that read
//! the request; a longer one goes to the compute threads, so that it holds up no other connection. Measured on a
//! 2-core machine: a hand-over and back costs 15–40 µs, a trivial graph 6–10 µs.

use crate::engine::Threads;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Decide by measurement.
    Auto,
    /// Always in the caller's thread.
    Caller,
    /// Always on the compute threads, operations on the session's pool.
    Pool,
}

/// A run up to here confirms that the signature is short. Above the hand-over's own cost, because a run that was handed
/// over is slower than it would be in place (a cold thread, cold caches), more so on a busy machine.
const SHORT: Duration = Duration::from_micros(100);
/// Between this and [`SHORT`] a run says nothing; from here on it costs a confirmation.
const NOT_SHORT: Duration = Duration::from_micros(300);
/// So many confirmations make a signature short.
const CONFIRMATIONS: u32 = 8;
/// A run of this length quickly loses a signature its place. It also gains more by the engine's pool (operations side by
/// side, a timeout) than it loses by the hand-over.
const LONG: Duration = Duration::from_micros(1000);

/// The measured state: a count of confirmations that its runs are short.
#[derive(Debug)]
pub struct Placement {
    policy: Policy,
    bounded: bool,
    short_runs: AtomicU32,
    long: AtomicBool,
}

impl Placement {
    /// Nothing measured yet: requests go to the compute threads, unless the policy says otherwise. `bounded`: runs are
    /// known to end by themselves, as soon for one input as for another of its shape.
    pub fn new(policy: Policy, bounded: bool) -> Placement {
        Placement { policy, bounded, short_runs: AtomicU32::new(0), long: AtomicBool::new(false) }
    }

    /// Whether the next request should run in the thread that read it.
    pub fn in_caller(&self) -> bool {
        match self.policy {
            Policy::Auto => self.bounded && self.short_runs.load(Relaxed) >= CONFIRMATIONS,
            Policy::Caller => true,
            Policy::Pool => false,
        }
    }

    /// How the engine should schedule the next run. A bounded signature whose runs are not known to be long is run in
    /// its caller's thread: that is how short ones are found. All others go to the engine's pool, where they can be
    /// interrupted and their operations may run side by side.
    pub fn threads(&self) -> Threads {
        match self.policy {
            Policy::Auto if self.bounded && !self.long.load(Relaxed) => Threads::Caller,
            Policy::Caller => Threads::Caller,
            Policy::Auto | Policy::Pool => Threads::Pool,
        }
    }

    /// Takes one measured run into account.
    pub fn observe(&self, took: Duration) {
        if self.policy != Policy::Auto || !self.bounded {
            return;
        }
        if self.long.load(Relaxed) != (took >= LONG) {
            // One long run (the first, mostly) sends the next to the pool; a shorter one there brings it back.
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
            // A lost update between threads only delays the decision.
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
