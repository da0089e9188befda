//! How much a token may ask for: requests in a time, and requests in flight. Pure, but for the counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Most of each that can be set: far more than a server answers.
const MOST: u64 = 1_000_000;

/// The limits of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) rate: Option<Rate>,
    pub(super) in_flight: Option<usize>,
}

/// Requests in a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Nanoseconds for one request.
    interval: u64,
    /// Requests that may come at once after a pause.
    burst: u64,
}

impl Rate {
    /// Reads `100/s`, `10/m` or `1/h`. `burst`: requests that may come at once; without one, as many as in the time.
    pub(super) fn read(text: &str, burst: Option<u64>) -> Option<Rate> {
        let (count, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        let count = number(count)?;
        Some(Rate { interval: (seconds * 1_000_000_000) / count, burst: burst.unwrap_or(count) })
    }
}

/// Reads a whole number from 1 to a million.
pub(super) fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && (1..=MOST).contains(number))
}

/// What a token has used of its limits.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// When the requests that came so far would have come at the rate, in nanoseconds.
    paid_until: AtomicU64,
    in_flight: AtomicUsize,
}

impl Usage {
    /// Forgets how far the former rate was used: what would have taken it hours may be a moment of the new one.
    pub(super) fn forget_rate(&self) {
        self.paid_until.store(0, Relaxed);
    }

    /// Takes a request at `now`, in nanoseconds; otherwise returns the time until the next one may come.
    pub(super) fn take(&self, rate: &Rate, now: u64) -> Result<(), Duration> {
        let ahead = rate.interval * (rate.burst - 1);
        let later = |paid_until: u64| {
            let from = paid_until.max(now);
            (from - now <= ahead).then(|| from + rate.interval)
        };
        let taken = self.paid_until.fetch_update(Relaxed, Relaxed, later);
        taken.map(|_| ()).map_err(|paid_until| Duration::from_nanos(paid_until - now - ahead))
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Slot(Arc<Usage>);

impl Slot {
    /// Counts a request, unless there are `most`.
    pub(super) fn take(usage: &Arc<Usage>, most: usize) -> Option<Slot> {
        // Dropped at once if it is one too many.
        let slot = Slot(usage.clone());
        (usage.in_flight.fetch_add(1, Relaxed) < most).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn rates_are_read() {
        let rate = |text: &str| Rate::read(text, None).map(|rate| (rate.interval, rate.burst));
        for (text, expected) in [
            ("100/s", Some((SECOND / 100, 100))),
            ("60/m", Some((SECOND, 60))),
            ("1/h", Some((3600 * SECOND, 1))),
            ("1000000/s", Some((1000, 1_000_000))),
            ("1000001/s", None),
            ("0/s", None),
            ("+1/s", None),
            ("-1/s", None),
            ("1.5/s", None),
            ("1", None),
            ("1/d", None),
            ("/s", None),
            ("", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
        assert_eq!(Rate::read("2/s", Some(7)).unwrap().burst, 7);
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (usage, rate) = (Usage::default(), Rate::read("2/s", Some(3)).unwrap());
        let now = 100 * SECOND;
        assert!((0..3).all(|_| usage.take(&rate, now).is_ok()));
        assert_eq!(usage.take(&rate, now), Err(Duration::from_millis(500)));
        assert_eq!(usage.take(&rate, now + SECOND / 4), Err(Duration::from_millis(250)));
        assert_eq!(usage.take(&rate, now + SECOND / 2), Ok(()));
        assert!(usage.take(&rate, now + SECOND / 2).is_err());
        let later = now + 60 * SECOND;
        assert!((0..3).all(|_| usage.take(&rate, later).is_ok()) && usage.take(&rate, later).is_err());
    }

    #[test]
    fn a_new_rate_holds_for_what_was_used_under_the_old_one() {
        let usage = Usage::default();
        let (slow, fast) = (Rate::read("1/h", None).unwrap(), Rate::read("1000/s", None).unwrap());
        assert!(usage.take(&slow, SECOND).is_ok() && usage.take(&slow, SECOND).is_err());
        assert!(usage.take(&fast, SECOND).is_err(), "the hour is paid for first");
        usage.forget_rate();
        assert!(usage.take(&fast, SECOND).is_ok());
    }

    #[test]
    fn slots_come_back() {
        let usage = Arc::new(Usage::default());
        let first = Slot::take(&usage, 2);
        let second = Slot::take(&usage, 2);
        assert!(first.is_some() && second.is_some() && Slot::take(&usage, 2).is_none());
        drop(first);
        assert!(Slot::take(&usage, 2).is_some(), "and it is given back at once");
        assert!(Slot::take(&usage, 1).is_none());
        drop(second);
        assert_eq!(usage.in_flight.load(Relaxed), 0);
    }

    proptest! {
        /// In any span, no more come than the burst and the rate allow; who waits as told is let in.
        #[test]
        fn never_more_than_allowed(
            count in 1u64..50,
            burst in 1u64..10,
            pauses in prop::collection::vec(0u64..SECOND / 10, 1..200),
        ) {
            let (usage, rate) = (Usage::default(), Rate::read(&format!("{count}/s"), Some(burst)).unwrap());
            let (start, mut now, mut came) = (7 * SECOND, 7 * SECOND, 0);
            for pause in pauses {
                now += pause;
                match usage.take(&rate, now) {
                    Ok(()) => came += 1,
                    Err(wait) => {
                        let after = now + u64::try_from(wait.as_nanos()).unwrap();
                        prop_assert!(usage.take(&rate, after - 1).is_err());
                        prop_assert!(usage.take(&rate, after).is_ok());
                        (now, came) = (after, came + 1);
                    }
                }
                prop_assert!(came <= burst + (now - start) / rate.interval);
            }
        }
    }
}
