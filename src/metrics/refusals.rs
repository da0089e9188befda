//! Counts of the requests that the scheduler refused.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its deadline would have passed.
    Deadline,
    /// It would have waited longer than allowed.
    QueueTime,
    /// Clients leave before they are answered.
    Overload,
    /// Too many requests are in flight.
    Requests,
    /// Too many requests to its model are in flight.
    ModelRequests,
    /// The requests to its model hold too much memory.
    ModelMemory,
    /// All runs of its model hang.
    Hanging,
}

impl Reason {
    const ALL: [Reason; 7] = [
        Reason::Deadline,
        Reason::QueueTime,
        Reason::Overload,
        Reason::Requests,
        Reason::ModelRequests,
        Reason::ModelMemory,
        Reason::Hanging,
    ];

    /// Returns the value of the label `reason`.
    fn name(self) -> &'static str {
        match self {
            Reason::Deadline => "deadline",
            Reason::QueueTime => "queue_time",
            Reason::Overload => "overload",
            Reason::Requests => "requests",
            Reason::ModelRequests => "model_requests",
            Reason::ModelMemory => "model_memory",
            Reason::Hanging => "hanging",
        }
    }
}

/// The refusals of one server, by reason.
#[derive(Debug, Default)]
pub struct Refusals([AtomicU64; Reason::ALL.len()]);

impl Refusals {
    /// Counts a refusal.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of refusals by reason.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.name(), self.0[reason as usize].load(Relaxed)))
    }
}
