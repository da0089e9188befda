//! The circumstances of one request, independent of its content and protocol.
//!
//! Anything else that should accompany every request (its sender, its trace) belongs here and thereby reaches every
//! layer.

use crate::access::Entry;
use crate::auth::Pass;
use crate::error::{Error, Kind, Result};
use crate::memory::Reservation;
use crate::profile::Phase;
use crate::timeline::Timeline;
use crate::traffic_split::{Decision, Keys};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The circumstances of a request.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The time when the client stops waiting; `None` if it waits indefinitely.
    pub deadline: Option<Instant>,
    /// Set once nobody waits for the answer any more.
    pub cancelled: Cancelled,
    /// True once the scheduler has accepted the request.
    pub admitted: bool,
    /// The memory held by the request.
    pub memory: Arc<Reservation>,
    /// What is to be told of the request; `None` if it is neither logged nor traced.
    pub entry: Option<Arc<Entry>>,
    /// What its token allows; `None` if it has shown none.
    pub pass: Option<Pass>,
    /// Its phases; `None` if nobody asks for them.
    pub timeline: Option<Arc<Timeline>>,
    /// Its headers that decide between versions; `None` if no model asks for any that it has.
    pub keys: Option<Arc<Keys>>,
    /// Which version it went to, if there was anything to decide.
    pub decision: Option<Decision>,
}

impl Context {
    /// Says that `phase` begins at `at`.
    pub fn enter(&self, phase: Phase, at: Instant) {
        if let Some(timeline) = &self.timeline {
            timeline.enter(phase, at);
        }
    }

    /// Says that the run of the version begins.
    pub fn runs(&self) {
        if let Some(decision) = &self.decision {
            decision.runs();
        }
    }

    /// Fails with the reason if nobody wants the answer at `now` any more.
    pub fn is_wanted(&self, now: Instant) -> Result<()> {
        if self.cancelled.is_set() {
            return Err(Error::new(Kind::Cancelled, "The client left before its request ran"));
        }
        self.time_left(now).map(|_| ())
    }

    /// Returns the time limit of a run that begins at `now`, if there is one; `DEADLINE_EXCEEDED` if no time is left.
    pub fn time_left(&self, now: Instant) -> Result<Option<Duration>> {
        let Some(deadline) = self.deadline else { return Ok(None) };
        let left = deadline.checked_duration_since(now).filter(|left| !left.is_zero());
        left.map(Some).ok_or_else(late)
    }
}

/// A flag that is set when nobody waits for a piece of work any more: its client has left, or its time is over. The
/// default is never set.
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Option<Arc<AtomicBool>>);

impl Cancelled {
    /// Makes one that is set when `flag` is.
    pub(crate) fn by(flag: Arc<AtomicBool>) -> Cancelled {
        Cancelled(Some(flag))
    }

    /// Returns whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.0.as_ref().is_some_and(|flag| flag.load(Relaxed))
    }
}

/// Returns the error of a request whose deadline passed before its run began.
pub fn late() -> Error {
    Error::new(
        Kind::DeadlineExceeded,
        "The request's deadline passed before its run began: allow it more time, or send less at once",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_ends_at_the_deadline() {
        let now = Instant::now();
        let at =
            |seconds| Context { deadline: Some(now + Duration::from_secs(seconds)), ..Context::default() };
        assert_eq!(at(3).time_left(now), Ok(Some(Duration::from_secs(3))));
        assert_eq!(at(0).time_left(now).unwrap_err().kind, Kind::DeadlineExceeded);
        assert_eq!(Context::default().time_left(now), Ok(None));
        assert_eq!(at(0).is_wanted(now).unwrap_err().kind, Kind::DeadlineExceeded);
        assert!(at(1).is_wanted(now).is_ok() && Context::default().is_wanted(now).is_ok());
        let left = Context { cancelled: Cancelled::by(Arc::new(true.into())), ..Context::default() };
        assert_eq!(left.is_wanted(now).unwrap_err().kind, Kind::Cancelled);
    }
}
