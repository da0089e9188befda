//! Counts of the requests that were refused because of their tokens.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The reason of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The request shows no token.
    Missing,
    /// The token is not valid here.
    Invalid,
    /// It is not for this kind of request.
    Scope,
    /// It is not for this model.
    Model,
    /// Its requests come faster than it allows.
    Rate,
    /// As many of its requests are in flight as it allows.
    InFlight,
}

impl Denial {
    const ALL: [Denial; 6] =
        [Denial::Missing, Denial::Invalid, Denial::Scope, Denial::Model, Denial::Rate, Denial::InFlight];

    /// Returns the value of the label `reason`.
    fn name(self) -> &'static str {
        match self {
            Denial::Missing => "no_token",
            Denial::Invalid => "invalid_token",
            Denial::Scope => "scope",
            Denial::Model => "model",
            Denial::Rate => "rate",
            Denial::InFlight => "in_flight",
        }
    }
}

/// The refusals of one server, by reason.
#[derive(Debug, Default)]
pub struct Denials([AtomicU64; Denial::ALL.len()]);

impl Denials {
    /// Counts a refusal.
    pub fn count(&self, why: Denial) {
        self.0[why as usize].fetch_add(1, Relaxed);
    }

    /// Returns the number of refusals by reason.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Denial::ALL.into_iter().map(|why| (why.name(), self.0[why as usize].load(Relaxed)))
    }
}
