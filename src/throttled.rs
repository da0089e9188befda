//! Throttling of repeated log lines: one now and then, with the number of those suppressed.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets the same line through once per period.
pub(crate) struct Throttled {
    pause: Duration,
    state: Mutex<State>,
}

struct State {
    /// When a line was last let through, and how many were suppressed since.
    last: Option<Instant>,
    held: u64,
}

impl Throttled {
    pub(crate) const fn new(seconds: u64) -> Throttled {
        Throttled { pause: Duration::from_secs(seconds), state: Mutex::new(State { last: None, held: 0 }) }
    }

    /// Returns `None` to suppress the line, otherwise the number suppressed since the last one that passed.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now(), self.pause)
    }
}

impl State {
    fn pass(&mut self, now: Instant, pause: Duration) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < pause) {
            self.held += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_while_and_tells_how_many_did_not() {
        let (start, pause) = (Instant::now(), Duration::from_secs(30));
        let mut state = State { last: None, held: 0 };
        let mut at = |seconds| state.pass(start + Duration::from_secs(seconds), pause);
        assert_eq!(at(0), Some(0));
        assert_eq!(at(0), None);
        assert_eq!(at(29), None);
        assert_eq!(at(30), Some(2));
        assert_eq!(at(31), None);
        assert_eq!(at(100), Some(1));
        assert_eq!(at(200), Some(0));
    }

    #[test]
    fn a_static_holds_back_for_all_threads() {
        static LINE: Throttled = Throttled::new(3600);
        let passed = std::thread::scope(|threads| {
            let all: Vec<_> = (0..8).map(|_| threads.spawn(|| LINE.pass().is_some())).collect();
            all.into_iter().map(|one| usize::from(one.join().unwrap())).sum::<usize>()
        });
        assert_eq!(passed, 1);
    }
}
