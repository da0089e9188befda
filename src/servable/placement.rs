//! The placement of a servable's runs, decided by measurement.
//!
//! A run shorter than a hand-over to another thread (tens of µs) happens at once, in the thread that read the request;
//! a longer one goes to the scheduler, so that it blocks no other connection. Measured on a 2-core machine: a
//! hand-over and back costs 15–40 µs, a trivial graph 6–10 µs.
//!
//! A busy machine makes every run look long. So a run that took long by the clock only raises the question; the next is
//! measured by the CPU time of its thread, which answers it, unless the thread slept. (Reading that clock takes longer
//! than the other: a tiny model's runs are spared.)

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
    /// Always on the scheduler's threads, operations on the session's pool.
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

/// One in this many runs of a long signature is measured in its caller's thread: on the engine's pool, a busy machine
/// may be all that makes it long.
const PROBE: u32 = 64;

/// The measured state of a signature: the confirmations that its runs are short.
#[derive(Debug)]
pub struct Placement {
    policy: Policy,
    bounded: bool,
    short_runs: AtomicU32,
    long: AtomicBool,
    /// True if the last run took long by the clock.
    doubtful: AtomicBool,
    runs_on_pool: AtomicU32,
}

/// How a run is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The engine's threads.
    pub threads: Threads,
    /// True if its time is to be measured without that of other threads.
    pub timed: bool,
}

impl Placement {
    /// Starts without measurements: requests go to the scheduler, unless the policy says otherwise. `bounded`: runs are
    /// known to end on their own, equally soon for any input of the same shape.
    pub fn new(policy: Policy, bounded: bool) -> Placement {
        Placement {
            policy,
            bounded,
            short_runs: AtomicU32::new(0),
            long: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            runs_on_pool: AtomicU32::new(0),
        }
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

    /// Returns how to do the next run.
    pub fn plan(&self) -> Plan {
        let threads = self.threads();
        if self.policy != Policy::Auto || !self.bounded {
            return Plan { threads, timed: false };
        }
        let probed = || self.runs_on_pool.fetch_add(1, Relaxed) % PROBE == PROBE - 1;
        match threads {
            Threads::Pool if probed() => Plan { threads: Threads::Caller, timed: true },
            Threads::Pool => Plan { threads, timed: false },
            Threads::Caller => Plan { threads, timed: self.doubtful.load(Relaxed) },
        }
    }

    /// Accounts for one run that took `wall` by the clock; `measured` is how long it took whatever else the machine did,
    /// if that is known.
    pub fn observe(&self, wall: Duration, measured: Option<Duration>) {
        if self.policy != Policy::Auto || !self.bounded {
            return;
        }
        let doubtful = wall > SHORT;
        if self.doubtful.load(Relaxed) != doubtful {
            self.doubtful.store(doubtful, Relaxed);
        }
        let took = wall.min(measured.unwrap_or(wall));
        if doubtful && measured.is_none() && !self.long.load(Relaxed) {
            return;
        }
        if self.long.load(Relaxed) != (took >= LONG) {
            // A shorter run on the pool brings the next one back to its caller.
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

    /// Runs once for each of `runs`: microseconds by the clock, and of CPU time.
    fn observed(placement: &Placement, runs: &[(u64, u64)]) -> bool {
        for (wall, cpu) in runs {
            let timed = placement.plan().timed;
            placement.observe(Duration::from_micros(*wall), timed.then(|| Duration::from_micros(*cpu)));
        }
        placement.in_caller()
    }

    #[test]
    fn short_runs_come_to_the_caller_after_some_confirmations() {
        let placement = Placement::new(Policy::Auto, true);
        assert!(!observed(&placement, &[(50_000, 50_000), (10, 10), (10, 10)]));
        assert!(observed(&placement, &[(10, 10); 8]));
        assert!(observed(&placement, &[(200, 200); 100]), "a slow moment says nothing");
        assert!(observed(&placement, &[(10, 10); 100]));
        assert!(observed(&placement, &[(5_000, 5_000); 2]), "one outlier may be the machine's");
        assert!(!observed(&placement, &[(5_000, 5_000)]), "two are the model's");
    }

    #[test]
    fn a_busy_machine_makes_no_signature_long() {
        let placement = Placement::new(Policy::Auto, true);
        assert!(observed(&placement, &[(10, 10); 8]));
        assert!(observed(&placement, &[(80_000, 10); 100]));
        assert_eq!(placement.threads(), Threads::Caller);
        let new = Placement::new(Policy::Auto, true);
        assert!(observed(&new, &[(80_000, 10); 9]), "nor one that is new");
    }

    #[test]
    fn what_can_go_on_for_ever_never_runs_where_it_cannot_be_stopped() {
        let placement = Placement::new(Policy::Auto, false);
        assert!(!observed(&placement, &[(5, 5); 100]));
        assert_eq!(placement.plan(), Plan { threads: Threads::Pool, timed: false });
    }

    #[test]
    fn long_runs_go_to_the_pool_until_they_are_short_again() {
        let placement = Placement::new(Policy::Auto, true);
        assert_eq!(placement.threads(), Threads::Caller);
        observed(&placement, &[(20_000, 20_000); 2]);
        assert_eq!(placement.threads(), Threads::Pool);
        observed(&placement, &[(150, 150)]);
        assert_eq!(placement.threads(), Threads::Caller);
    }

    #[test]
    fn a_signature_on_the_pool_is_measured_now_and_then() {
        let placement = Placement::new(Policy::Auto, true);
        observed(&placement, &[(20_000, 20_000); 2]);
        assert_eq!((0..PROBE).filter(|_| placement.plan().timed).count(), 1);
        assert_eq!(placement.threads(), Threads::Pool);
        observed(&placement, &[(20_000, 40); PROBE as usize]);
        assert_eq!(placement.threads(), Threads::Caller, "only the machine was busy");
    }

    #[test]
    fn the_operators_word_stands() {
        let (caller, pool) = (Placement::new(Policy::Caller, false), Placement::new(Policy::Pool, true));
        assert!(observed(&caller, &[(50_000, 50_000); 20]));
        assert!(!observed(&pool, &[(5, 5); 20]));
    }
}
