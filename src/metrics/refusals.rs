//! Counts of the requests that the scheduler refused, by model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

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

/// The refusals of one model's requests, by reason.
#[derive(Debug, Default)]
pub struct ByReason([AtomicU64; Reason::ALL.len()]);

impl ByReason {
    /// Counts a refusal.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of refusals by reason.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL.into_iter().map(|reason| (reason.name(), self.0[reason as usize].load(Relaxed)))
    }
}

/// The refusals of one server.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<Box<str>, Arc<ByReason>>>);

impl Refusals {
    /// Returns the counts of `model`, which is served here.
    pub fn of(&self, model: &str) -> Arc<ByReason> {
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = models.get(model) {
            return known.clone();
        }
        models.entry(model.into()).or_default().clone()
    }

    /// Returns the counts of every model, by name.
    pub(super) fn all(&self) -> Vec<(Box<str>, Arc<ByReason>)> {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(name, refusals)| (name.clone(), refusals.clone())).collect()
    }

    /// Returns the number of refusals of all models by reason.
    pub(super) fn total(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = self.all();
        let total = move |(index, reason): (usize, Reason)| {
            let one = |(_, refusals): &(_, Arc<ByReason>)| refusals.0[index].load(Relaxed);
            (reason.name(), all.iter().map(one).sum())
        };
        Reason::ALL.into_iter().enumerate().map(total)
    }
}
