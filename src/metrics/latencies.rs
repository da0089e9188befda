//! Times, each counted once for two sets of limits: TensorFlow Serving's and Servable's own.

use super::histogram::{LATENCY, Merged};
use std::array::from_fn;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Finite limits of Servable's own histograms, in nanoseconds. A limit belongs to the bucket that it ends.
pub(super) const TIMES: [u64; 18] = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Number of limits of both sets together.
const STEPS: usize = LATENCY.len() + TIMES.len();
/// The first nanosecond of every bucket but the first.
const FIRSTS: [u64; STEPS] = firsts();
/// By the position of a time's highest bit: the number of limits that such a time is beyond in any case.
const PASSED: [usize; 64] = passed();

const fn firsts() -> [u64; STEPS] {
    let mut firsts = [0; STEPS];
    let (mut next, mut latency, mut time) = (0, 0, 0);
    while next < STEPS {
        let one = if latency < LATENCY.len() { first_beyond(LATENCY[latency]) } else { u64::MAX };
        let other = if time < TIMES.len() { TIMES[time] + 1 } else { u64::MAX };
        if one <= other {
            firsts[next] = one;
            latency += 1;
        } else {
            firsts[next] = other;
            time += 1;
        }
        next += 1;
    }
    firsts
}

/// Returns the first nanosecond whose whole microseconds are not below `limit`.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // Up to 2 × 10⁹.
const fn first_beyond(limit: f64) -> u64 {
    let whole = limit as u64;
    1000 * if (whole as f64) < limit { whole + 1 } else { whole }
}

const fn passed() -> [usize; 64] {
    let mut passed = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        while passed[bit] < STEPS && FIRSTS[passed[bit]] <= 1 << bit {
            passed[bit] += 1;
        }
        bit += 1;
    }
    passed
}

/// Returns the bucket of a time.
fn bucket(nanos: u64) -> usize {
    let mut bucket = PASSED[63 - (nanos | 1).leading_zeros() as usize];
    while bucket < STEPS && FIRSTS[bucket] <= nanos {
        bucket += 1;
    }
    bucket
}

/// Counts of times.
#[derive(Debug)]
pub(super) struct Latencies {
    counts: [AtomicU64; STEPS + 1],
    nanos: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies { counts: from_fn(|_| AtomicU64::new(0)), nanos: AtomicU64::new(0) }
    }
}

impl Latencies {
    /// Counts a time.
    pub(super) fn add(&self, nanos: u64) {
        self.counts[bucket(nanos)].fetch_add(1, Relaxed);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// Returns the sum of all times, in nanoseconds.
    pub(super) fn nanos(&self) -> u64 {
        self.nanos.load(Relaxed)
    }
}

/// The sum of such counts when they were read.
#[derive(Clone, Debug)]
pub(super) struct Times {
    counts: [u64; STEPS + 1],
    /// The sum of all times.
    pub(super) nanos: u64,
}

impl Default for Times {
    fn default() -> Times {
        Times { counts: [0; STEPS + 1], nanos: 0 }
    }
}

impl Times {
    /// Adds what is counted in `latencies`.
    pub(super) fn read(&mut self, latencies: &Latencies) {
        self.counts.iter_mut().zip(&latencies.counts).for_each(|(sum, count)| *sum += count.load(Relaxed));
        self.nanos += latencies.nanos.load(Relaxed);
    }

    /// Adds `other`.
    pub(super) fn merge(&mut self, other: &Times) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.nanos += other.nanos;
    }

    /// Returns what has come to these times since they were `before`.
    pub(super) fn since(&self, before: &Times) -> Times {
        let counts = from_fn(|bucket| self.counts[bucket].saturating_sub(before.counts[bucket]));
        Times { counts, nanos: self.nanos.saturating_sub(before.nanos) }
    }

    /// Returns the number of times.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns a time that about this share (0 to 1) of all do not exceed, in nanoseconds, as if the times in a bucket were
    /// spread evenly over it; `None` without times. Those beyond all limits count as the last limit.
    #[allow(clippy::cast_precision_loss)] // Of numbers far below 2⁵³.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = share * self.count() as f64;
        let mut below = 0.0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = *count as f64;
            if below + count >= wanted {
                let first = bucket.checked_sub(1).map_or(0, |before| FIRSTS[before]) as f64;
                let end = FIRSTS.get(bucket).map_or(first, |end| *end as f64);
                return Some(first + (end - first) * (wanted - below) / count);
            }
            below += count;
        }
        None
    }

    /// Returns the histogram between TensorFlow Serving's limits, in microseconds.
    pub(super) fn micros(&self) -> Merged {
        let ends = LATENCY.iter().map(|limit| first_beyond(*limit));
        Merged { counts: self.between(ends), sum: self.nanos / 1000 }
    }

    /// Returns the histogram between [`TIMES`], in nanoseconds.
    pub(super) fn own(&self) -> Merged {
        Merged { counts: self.between(TIMES.iter().map(|time| time + 1)), sum: self.nanos }
    }

    /// Returns the number of times before each of `ends`, some of [`FIRSTS`], and not before the one before; and of those
    /// after the last.
    fn between(&self, ends: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut buckets = FIRSTS.iter().chain([&u64::MAX]).zip(&self.counts).peekable();
        let mut up_to = |end| {
            let mut count = 0;
            while let Some((_, more)) = buckets.next_if(|(first_beyond, _)| **first_beyond <= end) {
                count += more;
            }
            count
        };
        ends.chain([u64::MAX]).map(&mut up_to).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Histogram;
    use super::*;
    use proptest::prelude::*;

    fn times(nanos: &[u64]) -> Times {
        let latencies = Latencies::default();
        nanos.iter().for_each(|nanos| latencies.add(*nanos));
        let mut times = Times::default();
        times.read(&latencies);
        times
    }

    #[test]
    fn limits_ascend() {
        assert!(FIRSTS.is_sorted_by(|one, next| one < next), "{FIRSTS:?}");
        assert_eq!(FIRSTS[..4], [10_000, 18_000, 25_001, 33_000]);
    }

    #[test]
    fn a_limit_of_its_own_belongs_to_the_bucket_it_ends() {
        let own = times(&[0, 25_000, 25_001, 10_000_000_000, 10_000_000_001]).own();
        assert_eq!((own.counts[0], own.counts[1], own.counts[17], own.counts[18]), (2, 1, 1, 1));
        assert_eq!((own.counts.len(), own.count(), own.sum), (19, 5, 20_000_050_002));
    }

    #[test]
    fn quantiles_are_found_between_limits() {
        assert_eq!(times(&[]).quantile(0.5), None);
        // 10 to 18 µs is one bucket, and nothing is beyond 18,000.
        let all = times(&[10_000; 10]);
        assert_eq!((all.quantile(0.5), all.quantile(1.0)), (Some(14_000.0), Some(18_000.0)));
        let mixed = times(&[&[10_000; 9][..], &[40_000_000]].concat());
        assert!(mixed.quantile(0.9).unwrap() <= 18_000.0 && mixed.quantile(0.95).unwrap() > 25_000_000.0);
        let longest = times(&[u64::MAX / 2]).quantile(0.99).unwrap();
        assert!(longest > 1e12 && longest.is_finite());
    }

    #[test]
    fn what_has_come_since_is_the_difference() {
        let (before, now) = (times(&[5, 20_000]), times(&[5, 20_000, 20_000, 7_000_000]));
        let since = now.since(&before);
        assert_eq!((since.count(), since.nanos), (2, 7_020_000));
        assert_eq!(before.since(&now).count(), 0, "counts do not go down");
    }

    proptest! {
        /// The one that sorting would find is in the same bucket.
        #[test]
        fn quantiles_are_as_exact_as_buckets_are_narrow(
            nanos in proptest::collection::vec(0u64..20_000_000_000, 1..60),
            share in 0.0f64..1.0,
        ) {
            let mut sorted = nanos.clone();
            sorted.sort_unstable();
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
            let rank = ((share * sorted.len() as f64).ceil() as usize).max(1) - 1;
            let (exact, found) = (sorted[rank], times(&nanos).quantile(share).unwrap());
            let (first, end) = match bucket(exact) {
                0 => (0, FIRSTS[0]),
                bucket => (FIRSTS[bucket - 1], FIRSTS[bucket]),
            };
            #[allow(clippy::cast_precision_loss)]
            let (first, end) = (first as f64, end as f64);
            prop_assert!((first..=end).contains(&found), "{first} {found} {end}");
        }

        #[test]
        fn both_histograms_count_as_if_each_had_counted(
            nanos in proptest::collection::vec((0u32..64, any::<u64>()).prop_map(|(shift, value)| (value >> 8) >> (shift % 50)), 0..40)
        ) {
            let times = times(&nanos);
            let (micros, own) = (Histogram::default(), |limit: u64| nanos.iter().filter(|time| **time <= limit).count());
            nanos.iter().for_each(|nanos| micros.add(&LATENCY, nanos / 1000));
            let mut expected = Merged::default();
            expected.merge(&micros);
            prop_assert_eq!(times.micros().counts, expected.counts);
            let mut total = 0;
            for (limit, count) in TIMES.iter().zip(times.own().counts) {
                total += count;
                prop_assert_eq!(total, own(*limit) as u64);
            }
            prop_assert_eq!(times.count(), nanos.len() as u64);
        }
    }
}
