//! How work is given up: a flag says that nobody waits for it, and a panic ends where it belongs.

use crate::error::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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

/// Runs `work`; a panic becomes INTERNAL.
pub fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // The closure owns its request and shares only tables that are replaced whole, so no inconsistent state remains.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::internal(
            "The server failed on this request; its log has the reason. Other requests go on",
        ))
    })
}
