//! What is seen of a target's requests, for the rule that rolls it back: counted by many threads, read by one.

use super::rollback::Window;
use crate::metrics::thread_number;
use std::array::from_fn;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Parts of the counts, so that cores do not contend.
const STRIPES: usize = 4;
/// Buckets of times between a power of two microseconds and the next.
const STEPS: usize = 8;
/// Powers of two: up to some 20 minutes.
const OCTAVES: usize = 31;
const BUCKETS: usize = STEPS * OCTAVES;
/// Most looks that are kept of a window.
const MOST_LOOKS: u32 = 60;

/// The counts of one target.
#[derive(Debug, Default)]
pub(super) struct Observed([Stripe; STRIPES]);

#[derive(Debug)]
#[repr(align(64))]
struct Stripe {
    requests: AtomicU64,
    errors: AtomicU64,
    times: [AtomicU64; BUCKETS],
}

impl Default for Stripe {
    fn default() -> Stripe {
        Stripe {
            requests: AtomicU64::default(),
            errors: AtomicU64::default(),
            times: from_fn(|_| AtomicU64::new(0)),
        }
    }
}

/// What was counted up to some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    requests: u64,
    errors: u64,
    times: Box<[u64]>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen { requests: 0, errors: 0, times: vec![0; BUCKETS].into() }
    }
}

impl Observed {
    /// Counts a request, and its time if that says something.
    pub(super) fn count(&self, failed: bool, took: Option<Duration>) {
        let stripe = &self.0[thread_number() % STRIPES];
        // Before the error: there are never more of these.
        stripe.requests.fetch_add(1, Relaxed);
        if failed {
            stripe.errors.fetch_add(1, Relaxed);
        }
        if let Some(took) = took {
            stripe.times[bucket(took)].fetch_add(1, Relaxed);
        }
    }

    /// Returns what was counted so far.
    pub(super) fn read(&self) -> Seen {
        let mut seen = Seen::default();
        for stripe in &self.0 {
            seen.errors += stripe.errors.load(Relaxed);
            seen.requests += stripe.requests.load(Relaxed);
            seen.times.iter_mut().zip(&stripe.times).for_each(|(sum, count)| *sum += count.load(Relaxed));
        }
        seen
    }
}

impl Seen {
    /// Returns what has come since it was `before`.
    pub(super) fn since(&self, before: &Seen) -> Window {
        let times = || self.times.iter().zip(&before.times).map(|(now, before)| now.saturating_sub(*before));
        let timed: u64 = times().sum();
        // The rank of the one that 99 of 100 do not exceed.
        let mut left = timed - timed / 100;
        let at = times().position(|count| {
            left = left.saturating_sub(count);
            left == 0
        });
        Window {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            timed,
            p99: at.filter(|_| timed > 0).map(middle),
        }
    }
}

/// Returns the bucket of a time.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    let step = if octave >= 3 { micros >> (octave - 3) } else { micros << (3 - octave) } as usize % STEPS;
    (octave as usize * STEPS + step).min(BUCKETS - 1)
}

/// Returns the time in the middle of a bucket.
fn middle(bucket: usize) -> Duration {
    let (octave, step) = (bucket / STEPS, bucket % STEPS);
    #[allow(clippy::cast_precision_loss)] // Of small numbers.
    let micros = (1u64 << octave) as f64 * (1.0 + (step as f64 + 0.5) / STEPS as f64);
    Duration::from_secs_f64(micros / 1e6)
}

/// What was seen at the last looks, as far back as a window reaches.
#[derive(Debug)]
pub(super) struct History {
    looks: VecDeque<(Instant, Seen)>,
}

impl History {
    /// Begins at `now`, when `seen` was counted.
    pub(super) fn new(now: Instant, seen: Seen) -> History {
        History { looks: VecDeque::from([(now, seen)]) }
    }

    /// Returns the pause between two looks, so that few are kept.
    pub(super) fn pause(window: Duration) -> Duration {
        window / MOST_LOOKS
    }

    /// Takes down a look; returns what has come within the window.
    pub(super) fn look(&mut self, now: Instant, seen: Seen, window: Duration) -> Window {
        self.looks.push_back((now, seen));
        let reaches = |at: Instant| now.saturating_duration_since(at) >= window;
        while self.looks.len() > 2 && reaches(self.looks[1].0) {
            self.looks.pop_front();
        }
        match (self.looks.front(), self.looks.back()) {
            (Some((_, first)), Some((_, last))) => last.since(first),
            _ => Window::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_and_times_are_counted_since_a_look() {
        let observed = Observed::default();
        observed.count(true, None);
        let before = observed.read();
        (0..98).for_each(|_| observed.count(false, Some(Duration::from_millis(1))));
        (0..2).for_each(|_| observed.count(true, Some(Duration::from_millis(100))));
        let window = observed.read().since(&before);
        assert_eq!((window.requests, window.errors, window.timed), (100, 2, 100));
        assert!(window.p99.unwrap() > Duration::from_millis(90), "{window:?}");
        assert_eq!(before.since(&Seen::default()), Window { requests: 1, errors: 1, timed: 0, p99: None });
    }

    #[test]
    fn a_window_reaches_back_as_far_as_it_should_and_keeps_few_looks() {
        let (start, window) = (Instant::now(), Duration::from_secs(60));
        let (observed, mut history) = (Observed::default(), History::new(start, Seen::default()));
        let mut requests = 0;
        for second in 1..300 {
            observed.count(false, None);
            let now = start + Duration::from_secs(second);
            requests = history.look(now, observed.read(), window).requests;
            assert_eq!(requests, second.min(60));
            assert!(history.looks.len() <= MOST_LOOKS as usize + 2);
        }
        assert_eq!((requests, History::pause(window)), (60, Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn the_middle_of_a_bucket_is_near(micros in 1u64..1_000_000_000) {
            let took = Duration::from_micros(micros);
            let (found, exact) = (middle(bucket(took)).as_secs_f64(), took.as_secs_f64());
            // Buckets below 8 µs are of a single number, which is at the beginning.
            prop_assert!((found - exact).abs() <= exact / 8.0 + 1e-6, "{} {}", found, exact);
        }

        #[test]
        fn buckets_are_in_the_order_of_times(one: u64, other: u64) {
            let (short, long) = (one.min(other), one.max(other));
            prop_assert!(bucket(Duration::from_nanos(short)) <= bucket(Duration::from_nanos(long)));
        }
    }
}
