//! The pools of threads on which sessions schedule operations: one that all runs share, and pools of one thread each.
//!
//! On the shared pool, operations that do not depend on each other run at once; but where each depends on the last, as
//! in a loop, they wander from thread to thread. A pool of one thread keeps a run in one core's caches, and its run ends
//! with its deadline, unlike one in its caller's thread. Measured with an LSTM of 64 steps on 2 cores, one run
//! after another: 8.5 ms in the caller's thread, 8.3 ms on such a pool, 20 ms on the shared one.

use crate::pb::tensorflow::{ConfigProto, ThreadPoolOptionProto};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

/// Threads of the shared pool for each core; TensorFlow itself takes one. The scheduler lets at most three runs per core
/// go on at once, and a run without end keeps one: so those of other models go on. Measured with photos to MobileNetV2
/// on 2 cores, three rounds: 80, 70 and 80 requests/s by 4 clients with 2 threads, 88, 75 and 88 with 4; no more with 6
/// or 8.
const THREADS_PER_CORE: i32 = 4;

/// The index of the shared pool among those of a session.
pub(super) const SHARED: i32 = 0;

/// The indices of the pools of one thread that no run has.
static FREE: LazyLock<Mutex<Vec<i32>>> = LazyLock::new(|| Mutex::new((1..=single()).rev().collect()));

/// Cores, asked for once: TensorFlow makes a pool of each name once, and refuses another number of threads later.
static CORES: LazyLock<i32> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i32::try_from(cores).unwrap_or(i32::MAX)
});

/// Pools of one thread for each core, as many as the scheduler lets runs go on at once; and most of them.
const SINGLE_PER_CORE: i32 = 3;
const MOST_SINGLE: i32 = 64;

/// A pool of one thread, which no other run has meanwhile.
pub(super) struct Lease(i32);

impl Lease {
    /// Returns a pool that is free, the last one used first: its thread's memory is warm. `None` if all are taken.
    pub(super) fn take() -> Option<Lease> {
        free().pop().map(Lease)
    }

    /// Returns its index among the pools of a session.
    pub(super) fn index(&self) -> i32 {
        self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        free().push(self.0);
    }
}

fn free() -> MutexGuard<'static, Vec<i32>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the number of pools of one thread.
fn single() -> i32 {
    CORES.saturating_mul(SINGLE_PER_CORE).min(MOST_SINGLE)
}

/// Returns whether sessions with `config` have the pools of this module: not if it says how many threads there are.
pub(super) fn has_ours(config: &ConfigProto) -> bool {
    !config.use_per_session_threads
        && config.session_inter_op_thread_pool.is_empty()
        && config.inter_op_parallelism_threads == 0
}

/// Returns what `config` needs to be complete: the number of threads, if it does not say, and the pools.
pub(super) fn defaults(config: &ConfigProto) -> ConfigProto {
    let threads = CORES.saturating_mul(THREADS_PER_CORE);
    let pool = |index: i32, num_threads| ThreadPoolOptionProto {
        num_threads,
        global_name: format!("servable_{index}"),
    };
    let single = (1..=single()).map(|index| pool(index, 1));
    let pools = std::iter::once(pool(SHARED, threads)).chain(single);
    ConfigProto {
        inter_op_parallelism_threads: threads,
        session_inter_op_thread_pool: if has_ours(config) { pools.collect() } else { Vec::new() },
        ..ConfigProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_had_by_one_run_at_once() {
        let taken: Vec<Lease> = std::iter::from_fn(Lease::take).collect();
        let mut indices: Vec<i32> = taken.iter().map(Lease::index).collect();
        indices.sort_unstable();
        indices.dedup();
        // Tests that run at once may have some.
        assert!(indices.len() == taken.len() && !indices.contains(&SHARED));
        assert!(indices.iter().all(|index| *index <= single()));
        drop(taken);
        assert!(indices.iter().all(|index| is_free_soon(*index)));
    }

    /// Waits until no run has the pool of this index: tests that run at once may take it.
    fn is_free_soon(index: i32) -> bool {
        (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            free().contains(&index)
        })
    }

    #[test]
    fn what_the_operator_says_of_pools_stands() {
        let pools = |config: ConfigProto| {
            let made = defaults(&config).session_inter_op_thread_pool;
            made.first().map(|pool| (pool.num_threads, made.len()))
        };
        let all = 1 + usize::try_from(single()).unwrap();
        assert_eq!(pools(ConfigProto::default()), Some((*CORES * THREADS_PER_CORE, all)));
        let threads =
            |threads| ConfigProto { inter_op_parallelism_threads: threads, ..ConfigProto::default() };
        assert_eq!((pools(threads(3)), pools(threads(-1))), (None, None));
        assert_eq!(pools(ConfigProto { use_per_session_threads: true, ..ConfigProto::default() }), None);
        let own = vec![ThreadPoolOptionProto::default()];
        assert_eq!(pools(ConfigProto { session_inter_op_thread_pool: own, ..ConfigProto::default() }), None);
    }
}
