//! Waiting for another thread, no longer than a request may.

use std::sync::{Condvar, MutexGuard, PoisonError};
use std::time::Duration;

/// Waits while `goes_on`, no longer than `timeout`; `None` for it: as long as it takes. Returns `None` if it still goes on.
pub(super) fn wait_while<'a, T>(
    changed: &Condvar,
    guard: MutexGuard<'a, T>,
    timeout: Option<Duration>,
    goes_on: impl FnMut(&mut T) -> bool,
) -> Option<MutexGuard<'a, T>> {
    let Some(timeout) = timeout else {
        return Some(changed.wait_while(guard, goes_on).unwrap_or_else(PoisonError::into_inner));
    };
    let waited = changed.wait_timeout_while(guard, timeout, goes_on);
    let (guard, end) = waited.unwrap_or_else(PoisonError::into_inner);
    (!end.timed_out()).then_some(guard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_change_or_the_time_ends_it() {
        let (state, changed) = (Mutex::new(0), Condvar::new());
        let lock = || state.lock().unwrap();
        assert!(wait_while(&changed, lock(), Some(Duration::ZERO), |state| *state == 0).is_none());
        assert!(wait_while(&changed, lock(), Some(Duration::ZERO), |state| *state == 1).is_some());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *lock() = 1;
                changed.notify_all();
            });
            for timeout in [None, Some(Duration::MAX), Some(Duration::from_secs(60))] {
                assert_eq!(
                    wait_while(&changed, lock(), timeout, |state| *state == 0).map(|state| *state),
                    Some(1)
                );
            }
        });
    }
}
