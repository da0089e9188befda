//! Where a servable's requests run, decided by measurement.
//!
//! A run that is shorter than a hand-over to another thread (tens of µs) is done at once, in the thread that read
//! the request; a longer one goes to the compute threads, so that it holds up no other connection. Measured on a
//! 2-core machine: a hand-over and back costs 15–40 µs, a trivial graph 6–10 µs.

use crate::engine::Threads;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
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

/// The longest run that is still done in the thread that read the request.
const SHORT: Duration = Duration::from_micros(60);
/// So many short runs in a row make a servable short.
const CONFIRMATIONS: u32 = 8;
/// A run this much longer than [`SHORT`] sends the servable back at once; lesser ones cost confirmations.
const LONG: Duration = Duration::from_micros(600);

/// The measured state: a count of confirmations that its runs are short.
#[derive(Debug)]
pub struct Placement {
    policy: Policy,
    short_runs: AtomicU32,
}

impl Placement {
    /// Nothing measured yet: requests go to the compute threads, unless the policy says otherwise.
    pub fn new(policy: Policy) -> Placement {
        Placement { policy, short_runs: AtomicU32::new(0) }
    }

    /// Whether the next request should run in the thread that read it.
    pub fn in_caller(&self) -> bool {
        match self.policy {
            Policy::Auto => self.short_runs.load(Relaxed) >= CONFIRMATIONS,
            Policy::Caller => true,
            Policy::Pool => false,
        }
    }

    /// How the engine should schedule the next run. A servable whose runs are not known to be long is run in its
    /// caller's thread: that is how short ones are found.
    pub fn threads(&self) -> Threads {
        match self.policy {
            Policy::Pool => Threads::Pool,
            Policy::Auto | Policy::Caller => Threads::Caller,
        }
    }

    /// Takes one measured run into account.
    pub fn observe(&self, took: Duration, in_caller: bool) {
        if self.policy != Policy::Auto || !in_caller {
            return;
        }
        let now = self.short_runs.load(Relaxed);
        let next = if took <= SHORT {
            (now + 1).min(4 * CONFIRMATIONS)
        } else if took >= LONG {
            now / 4
        } else {
            now.saturating_sub(1)
        };
        if next != now {
            // A lost update between threads only delays the decision.
            self.short_runs.store(next, Relaxed);
        }
    }
}
