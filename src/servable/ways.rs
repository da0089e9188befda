//! Where the operations of a long run happen: in one thread, or on the engine's pool.
//!
//! In one thread, data stays in one core's caches and in one heap. On the pool, operations that do not depend on each
//! other run at once. Which is faster depends on the model: both ways are tried, and their shortest runs compared. The
//! one thread is that of the run, if runs end by their shapes; only in others can the engine stop a run at its deadline.

use crate::engine::Threads;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Number of runs that try both ways by turns.
const TRIALS: u32 = 6;
/// After these, one run in this many goes the other way.
const PERIOD: u32 = 64;
/// Number of such runs, one after another, that have to be faster for the other way to be chosen.
const PROOFS: u32 = 2;
/// Runs in their callers' threads that take this long go to the pool from then on, where their deadlines end them.
const INTERRUPTIBLE: Duration = Duration::from_millis(250);

/// The shortest runs of each way, and the chosen one.
#[derive(Debug)]
pub(super) struct Ways {
    /// The way other than the pool.
    one_thread: Threads,
    runs: AtomicU32,
    on_pool: AtomicBool,
    /// In microseconds, since the last run of the other way.
    shortest_in_one: AtomicU32,
    shortest_on_pool: AtomicU32,
    proofs: AtomicU32,
}

impl Ways {
    /// `one_thread`: the way other than the pool.
    pub(super) fn new(one_thread: Threads) -> Ways {
        Ways {
            one_thread,
            runs: AtomicU32::new(0),
            on_pool: AtomicBool::new(false),
            shortest_in_one: AtomicU32::new(u32::MAX),
            shortest_on_pool: AtomicU32::new(u32::MAX),
            proofs: AtomicU32::new(0),
        }
    }

    /// Returns the way other than the pool.
    pub(super) fn one_thread(&self) -> Threads {
        self.one_thread
    }

    /// Returns the way that is faster by what is known so far.
    pub(super) fn chosen(&self) -> Threads {
        if self.on_pool.load(Relaxed) { Threads::Pool } else { self.one_thread }
    }

    /// Returns whether runs still try both ways by turns.
    pub(super) fn is_tried(&self) -> bool {
        self.runs.load(Relaxed) < TRIALS
    }

    /// Returns the way of the next run.
    pub(super) fn next(&self) -> Threads {
        let run = self.runs.fetch_add(1, Relaxed);
        let chosen = self.chosen();
        let other = if chosen == Threads::Pool { self.one_thread } else { Threads::Pool };
        match run {
            0..TRIALS if run.is_multiple_of(2) => self.one_thread,
            0..TRIALS => Threads::Pool,
            _ if (run + 1).is_multiple_of(PERIOD) => other,
            _ => chosen,
        }
    }

    /// Accounts for a run of several requests, whose time says nothing of a single one's, but which has to be stopped at
    /// its deadline all the same.
    pub(super) fn observe_batch(&self, way: Threads, wall: Duration) {
        self.leave_if_long(way, wall);
    }

    /// Leaves the callers' threads to shorter runs. Returns whether this one was too long.
    fn leave_if_long(&self, way: Threads, wall: Duration) -> bool {
        let too_long = wall >= INTERRUPTIBLE && way == Threads::Caller;
        if too_long {
            self.on_pool.store(true, Relaxed);
            self.proofs.store(0, Relaxed);
        }
        too_long
    }

    /// Accounts for a run that took `wall`. (Runs at once may lose each other's news: that only delays a choice.)
    pub(super) fn observe(&self, way: Threads, wall: Duration) {
        if self.leave_if_long(way, wall) {
            return;
        }
        let took = u32::try_from(wall.as_micros()).unwrap_or(u32::MAX);
        let shortest = |way| match way {
            Threads::Caller | Threads::One => &self.shortest_in_one,
            Threads::Pool => &self.shortest_on_pool,
        };
        let chosen = self.chosen();
        if self.runs.load(Relaxed) <= TRIALS {
            shortest(way).fetch_min(took, Relaxed);
            let [one, pool] = [self.one_thread, Threads::Pool].map(|way| shortest(way).load(Relaxed));
            self.on_pool.store(is_clearly_less(pool, one), Relaxed);
        } else if way == chosen {
            shortest(way).fetch_min(took, Relaxed);
        } else {
            let known = shortest(chosen).swap(u32::MAX, Relaxed);
            if known == u32::MAX {
                // Another run of this way has just been compared.
                return;
            }
            let proven = is_clearly_less(took, known);
            let proofs = if proven { self.proofs.load(Relaxed) + 1 } else { 0 };
            self.proofs.store(proofs % PROOFS, Relaxed);
            if proofs == PROOFS {
                self.on_pool.store(way == Threads::Pool, Relaxed);
                shortest(way).store(took, Relaxed);
            }
        }
    }
}

/// Returns whether `one` is less than `other` by more than chance: a sixteenth.
fn is_clearly_less(one: u32, other: u32) -> bool {
    one < other - other / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `count` times; the runs of a way take `caller` or `pool` microseconds.
    fn run(ways: &Ways, count: u32, caller: u64, pool: u64) -> Threads {
        for _ in 0..count {
            let way = ways.next();
            let took = if way == Threads::Pool { pool } else { caller };
            ways.observe(way, Duration::from_micros(took));
        }
        ways.chosen()
    }

    #[test]
    fn the_faster_way_is_chosen_by_trials() {
        for (caller, pool, chosen) in [
            (15_000, 15_000, Threads::Caller),
            (15_000, 14_500, Threads::Caller),
            (15_000, 12_000, Threads::Pool),
            (15_000, 20_000, Threads::Caller),
        ] {
            let ways = Ways::new(Threads::Caller);
            assert!(ways.is_tried());
            assert_eq!(
                run(&ways, TRIALS, caller, pool),
                chosen,
                "{caller} in the caller, {pool} on the pool"
            );
            assert!(!ways.is_tried());
            assert_eq!(run(&ways, 1000, caller, pool), chosen, "{caller} in the caller, {pool} on the pool");
        }
    }

    #[test]
    fn one_slow_moment_decides_nothing() {
        let ways = Ways::new(Threads::Caller);
        ways.observe(ways.next(), Duration::from_millis(90));
        assert_eq!(run(&ways, TRIALS - 1, 15_000, 15_500), Threads::Caller);
        let way = ways.next();
        ways.observe(way, Duration::from_millis(200));
        assert_eq!(run(&ways, 1000, 15_000, 15_500), Threads::Caller);
    }

    #[test]
    fn a_wrong_choice_is_corrected() {
        let ways = Ways::new(Threads::Caller);
        assert_eq!(run(&ways, TRIALS, 15_000, 10_000), Threads::Pool);
        assert_eq!(run(&ways, PERIOD, 10_000, 15_000), Threads::Pool);
        assert_eq!(run(&ways, PROOFS * PERIOD, 10_000, 15_000), Threads::Caller);
        assert_eq!(run(&ways, (PROOFS + 1) * PERIOD, 15_000, 10_000), Threads::Pool);
    }

    #[test]
    fn what_takes_very_long_runs_where_it_can_be_stopped() {
        let ways = Ways::new(Threads::Caller);
        assert_eq!(run(&ways, 1, 300_000, 300_000), Threads::Pool);
        assert_eq!(run(&ways, 1000, 300_000, 400_000), Threads::Pool);
    }

    #[test]
    fn batches_that_take_very_long_are_not_for_callers_either() {
        let ways = Ways::new(Threads::Caller);
        assert_eq!(run(&ways, TRIALS, 15_000, 20_000), Threads::Caller);
        ways.observe_batch(Threads::Caller, Duration::from_millis(200));
        assert_eq!(ways.chosen(), Threads::Caller);
        ways.observe_batch(Threads::Pool, Duration::from_millis(300));
        assert_eq!(ways.chosen(), Threads::Caller);
        ways.observe_batch(Threads::Caller, Duration::from_millis(300));
        assert_eq!(ways.chosen(), Threads::Pool);
    }

    #[test]
    fn what_can_be_stopped_in_one_thread_stays_there_however_long_it_takes() {
        let ways = Ways::new(Threads::One);
        assert_eq!(run(&ways, 1000, 300_000, 400_000), Threads::One);
        assert_eq!(run(&ways, 3 * PERIOD, 400_000, 300_000), Threads::Pool);
    }

    #[test]
    fn the_pool_is_left_however_long_it_takes() {
        let ways = Ways::new(Threads::Caller);
        assert_eq!(run(&ways, 1000, 100_000, 300_000), Threads::Caller);
    }

    #[test]
    fn runs_at_once_do_not_undo_a_choice() {
        let ways = Ways::new(Threads::Caller);
        run(&ways, TRIALS, 15_000, 20_000);
        // Two runs of the pool have been faster: it is chosen, while others are under way in the callers.
        assert_eq!(run(&ways, (PROOFS + 1) * PERIOD, 15_000, 10_000), Threads::Pool);
        for _ in 0..8 {
            ways.observe(Threads::Caller, Duration::from_micros(9_000));
        }
        assert_eq!(ways.chosen(), Threads::Pool, "one comparison, not eight");
    }

    #[test]
    fn the_other_way_is_taken_once_in_a_while() {
        let ways = Ways::new(Threads::Caller);
        run(&ways, TRIALS, 15_000, 20_000);
        let others = (0..10 * PERIOD).filter(|_| ways.next() == Threads::Pool).count();
        assert_eq!(others, 10);
    }
}
