//! The placement of a servable's runs, decided by measurement.
//!
//! A run shorter than a hand-over to another thread (tens of µs) happens at once, in the thread that read the request;
//! a longer one goes to the scheduler, so that it blocks no other connection. Measured on a 2-core machine: a
//! hand-over and back costs 15–40 µs, a trivial graph 6–10 µs.
//!
//! A busy machine makes every run look long. So a run that took long by the clock only raises the question; the next is
//! measured by the CPU time of its thread, which answers it, unless the thread slept. (Reading that clock takes longer
//! than the other: a tiny model's runs are spared.)

use super::ways::Ways;
use crate::engine::{Termination, Threads};
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
/// Runs from here on quickly remove a signature from the caller's thread. Their operations may gain from the engine's
/// pool; see [`Ways`].
const LONG: Duration = Duration::from_micros(1000);

/// The measured state of a signature: the confirmations that its runs are short.
#[derive(Debug)]
pub struct Placement {
    policy: Policy,
    termination: Termination,
    short_runs: AtomicU32,
    long: AtomicBool,
    /// True if the last run took long by the clock.
    doubtful: AtomicBool,
    /// For long runs.
    ways: Ways,
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
    /// Starts without measurements: requests go to the scheduler, unless the policy says otherwise.
    pub fn new(policy: Policy, termination: Termination) -> Placement {
        // A run whose end depends on values may take longer than its deadline allows: it has to be stopped.
        let one_thread = if termination == Termination::ByShapes { Threads::Caller } else { Threads::One };
        Placement {
            policy,
            termination,
            short_runs: AtomicU32::new(0),
            long: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            ways: Ways::new(one_thread),
        }
    }

    /// Returns whether the next request should run in the thread that read it.
    pub fn in_caller(&self) -> bool {
        match self.policy {
            Policy::Auto => {
                self.termination == Termination::ByShapes && self.short_runs.load(Relaxed) >= CONFIRMATIONS
            }
            Policy::Caller => true,
            Policy::Pool => false,
        }
    }

    /// Returns how to do the next run. One that is not known to be long has one thread: that is how short ones are
    /// found. A long one goes where such runs are faster. In its caller's thread, it is timed, too: the machine alone may
    /// be what makes it long.
    pub fn plan(&self) -> Plan {
        let threads = match self.policy {
            Policy::Caller => Threads::Caller,
            Policy::Pool => Threads::Pool,
            Policy::Auto if !self.is_measured() => Threads::Pool,
            Policy::Auto if self.long.load(Relaxed) => self.ways.next(),
            Policy::Auto => self.ways.one_thread(),
        };
        let timed = self.is_measured() && threads == Threads::Caller && self.doubtful.load(Relaxed);
        Plan { threads, timed }
    }

    /// Returns the engine's threads for a run that may take its time: one, unless its operations may wait for each other.
    pub fn threads_aside(&self) -> Threads {
        if self.termination > Termination::Unknown { self.ways.one_thread() } else { Threads::Pool }
    }

    /// Returns the engine's threads for a run of several requests: those that are known to be better for single ones.
    pub fn threads_of_batch(&self) -> Threads {
        if self.is_measured() && self.long.load(Relaxed) { self.ways.chosen() } else { self.plan().threads }
    }

    /// Returns whether each run ends, by itself or by its deadline.
    pub fn ends(&self) -> bool {
        self.termination >= Termination::Finite || self.policy != Policy::Caller
    }

    /// Returns whether measurements decide: not if operations may wait for each other, which takes several threads.
    fn is_measured(&self) -> bool {
        self.policy == Policy::Auto && self.termination > Termination::Unknown
    }

    /// Returns whether more runs are needed to know where they are best done.
    pub fn is_tried(&self) -> bool {
        self.is_measured() && self.long.load(Relaxed) && self.ways.is_tried()
    }

    /// Accounts for a run of several requests in the engine's `threads`.
    pub fn observe_batch(&self, threads: Threads, wall: Duration, measured: Duration) {
        if self.is_measured() {
            self.ways.observe_batch(threads, wall);
            self.learn(wall.min(measured));
        }
    }

    /// Accounts for one run in the engine's `threads` that took `wall` by the clock; `measured` is how long it took
    /// whatever else the machine did, if that is known.
    pub fn observe(&self, threads: Threads, wall: Duration, measured: Option<Duration>) {
        if !self.is_measured() {
            return;
        }
        let is_long = self.long.load(Relaxed);
        if is_long {
            self.ways.observe(threads, wall);
        }
        let doubtful = wall > SHORT;
        if self.doubtful.load(Relaxed) != doubtful {
            self.doubtful.store(doubtful, Relaxed);
        }
        // Of another thread, only the clock tells.
        let is_known = measured.is_some() || threads != Threads::Caller;
        if !doubtful || is_known || is_long {
            self.learn(wall.min(measured.unwrap_or(wall)));
        }
    }

    /// Learns how long runs take.
    fn learn(&self, took: Duration) {
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
            let Plan { threads, timed } = placement.plan();
            let measured = timed.then(|| Duration::from_micros(*cpu));
            placement.observe(threads, Duration::from_micros(*wall), measured);
        }
        placement.in_caller()
    }

    #[test]
    fn short_runs_come_to_the_caller_after_some_confirmations() {
        let placement = Placement::new(Policy::Auto, Termination::ByShapes);
        assert!(!observed(&placement, &[(50_000, 50_000), (10, 10), (10, 10)]));
        assert!(observed(&placement, &[(10, 10); 8]));
        assert!(observed(&placement, &[(200, 200); 100]), "a slow moment says nothing");
        assert!(observed(&placement, &[(10, 10); 100]));
        assert!(observed(&placement, &[(5_000, 5_000); 2]), "one outlier may be the machine's");
        assert!(!observed(&placement, &[(5_000, 5_000)]), "two are the model's");
    }

    #[test]
    fn a_busy_machine_makes_no_signature_long() {
        let placement = Placement::new(Policy::Auto, Termination::ByShapes);
        assert!(observed(&placement, &[(10, 10); 8]));
        assert!(observed(&placement, &[(80_000, 10); 100]));
        assert_eq!(placement.plan().threads, Threads::Caller);
        let new = Placement::new(Policy::Auto, Termination::ByShapes);
        assert!(observed(&new, &[(80_000, 10); 9]), "nor one that is new");
    }

    #[test]
    fn what_does_not_end_by_its_shapes_never_comes_to_the_thread_of_a_connection() {
        for (termination, threads) in [
            (Termination::Unknown, Threads::Pool),
            (Termination::MayLoop, Threads::One),
            (Termination::Finite, Threads::One),
        ] {
            let placement = Placement::new(Policy::Auto, termination);
            assert!(!observed(&placement, &[(5, 5); 100]), "{termination:?}");
            assert_eq!(placement.plan(), Plan { threads, timed: false });
            assert!(placement.ends());
        }
        assert!(!Placement::new(Policy::Caller, Termination::MayLoop).ends());
        assert!(Placement::new(Policy::Caller, Termination::Finite).ends());
    }

    #[test]
    fn a_loop_never_runs_where_it_cannot_be_stopped_and_is_long_by_the_clock_alone() {
        let placement = Placement::new(Policy::Auto, Termination::MayLoop);
        observed(&placement, &[(20_000, 0); 1]);
        assert!(placement.is_tried());
        let ways: Vec<_> = (0..6).map(|_| placement.plan()).collect();
        assert!(ways.iter().all(|plan| plan.threads != Threads::Caller && !plan.timed));
        assert!([Threads::One, Threads::Pool].iter().all(|way| ways.iter().any(|plan| plan.threads == *way)));
    }

    #[test]
    fn long_runs_are_tried_on_the_pool_until_they_are_short_again() {
        let placement = Placement::new(Policy::Auto, Termination::ByShapes);
        assert!(!placement.is_tried());
        observed(&placement, &[(20_000, 20_000); 2]);
        assert!(placement.is_tried());
        let ways: Vec<_> = (0..6).map(|_| placement.plan().threads).collect();
        assert_eq!(ways, [[Threads::Caller, Threads::Pool]; 3].concat());
        observed(&placement, &[(150, 150)]);
        assert!(!placement.is_tried());
        assert_eq!(placement.plan().threads, Threads::Caller);
    }

    #[test]
    fn a_signature_that_only_the_machine_made_long_is_found_to_be_short() {
        let placement = Placement::new(Policy::Auto, Termination::ByShapes);
        observed(&placement, &[(20_000, 20_000); 2]);
        // Whichever way was chosen, runs in the caller are timed.
        observed(&placement, &[(20_000, 40); 70]);
        assert!(observed(&placement, &[(20_000, 40); 20]), "only the machine was busy");
    }

    #[test]
    fn the_operators_word_stands() {
        let (caller, pool) = (
            Placement::new(Policy::Caller, Termination::MayLoop),
            Placement::new(Policy::Pool, Termination::ByShapes),
        );
        assert!(observed(&caller, &[(50_000, 50_000); 20]));
        assert!(!observed(&pool, &[(5, 5); 20]));
    }
}
