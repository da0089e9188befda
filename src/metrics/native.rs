//! Native histograms of times: Prometheus's exponential buckets, four for each power of two (its schema 2), of which a page
//! has those that are not empty. <https://prometheus.io/docs/specs/native_histograms/>

use std::array::from_fn;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets for each power of two, as a power of two itself.
pub(super) const SCHEMA: i32 = 2;
/// Times of 2^-20 seconds, about a microsecond, and shorter ones are counted as none.
pub(super) const ZERO_THRESHOLD: f64 = 1.0 / (1 << 20) as f64;
/// The index of the first bucket, from [`ZERO_THRESHOLD`] on. Bucket `i` ends at 2^(i/4) seconds, with that time.
const FIRST: i32 = -79;
/// The index of the last one, which ends at 1024 seconds; longer times are counted there.
const LAST: i32 = 40;
/// Their number.
const BUCKETS: usize = (LAST - FIRST + 1) as usize;
/// 2^(1/4), 2^(2/4), 2^(3/4): where buckets end between two powers of two.
const QUARTERS: [f64; 3] = [1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

/// Counts of times; without memory until the first.
#[derive(Debug, Default)]
pub(super) struct Native(OnceLock<Box<Counts>>);

#[derive(Debug)]
struct Counts {
    zero: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Native {
    /// Counts a time.
    pub(super) fn add(&self, nanos: u64) {
        let empty = || Box::new(Counts { zero: AtomicU64::new(0), buckets: from_fn(|_| AtomicU64::new(0)) });
        let counts = self.0.get_or_init(empty);
        place(nanos).map_or(&counts.zero, |place| &counts.buckets[place]).fetch_add(1, Relaxed);
    }
}

/// Returns the place of a time's bucket, from [`FIRST`] on; `None` if it counts as none.
fn place(nanos: u64) -> Option<usize> {
    /// Bits of a double: its mantissa, and what its exponent is stored with.
    const MANTISSA: u64 = (1 << 52) - 1;
    const BIAS: i32 = 1023;
    #[allow(clippy::cast_precision_loss)] // Far finer than the buckets.
    let seconds = nanos as f64 / 1e9;
    if seconds <= ZERO_THRESHOLD {
        return None;
    }
    let bits = seconds.to_bits();
    let exponent = i32::try_from(bits >> 52).unwrap_or(i32::MAX) - BIAS;
    let fraction = f64::from_bits(bits & MANTISSA | (BIAS as u64) << 52);
    let quarter = if fraction > 1.0 { 1 + QUARTERS.iter().filter(|end| fraction > **end).count() } else { 0 };
    let index = (exponent << SCHEMA) + i32::try_from(quarter).unwrap_or(0);
    usize::try_from(index.min(LAST) - FIRST).ok()
}

/// The sum of such counts when they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    /// Times that count as none.
    pub(super) zero: u64,
    /// Empty if nothing was counted.
    buckets: Vec<u64>,
}

/// Buckets that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// The index of the first one.
    pub(super) first: i32,
    pub(super) counts: Vec<u64>,
}

impl Times {
    /// Adds what is counted in `native`.
    pub(super) fn read(&mut self, native: &Native) {
        let Some(counts) = native.0.get() else { return };
        let buckets = counts.buckets.iter().map(|count| count.load(Relaxed)).collect();
        self.merge(&Times { zero: counts.zero.load(Relaxed), buckets });
    }

    /// Adds `other`.
    pub(super) fn merge(&mut self, other: &Times) {
        self.zero += other.zero;
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
    }

    /// Returns the number of times.
    pub(super) fn count(&self) -> u64 {
        self.zero + self.buckets.iter().sum::<u64>()
    }

    /// Returns the buckets that are not empty.
    pub(super) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (index, count) in (FIRST..).zip(&self.buckets).filter(|(_, count)| **count > 0) {
            match spans.last_mut().filter(|span| (span.first..).nth(span.counts.len()) == Some(index)) {
                Some(span) => span.counts.push(*count),
                None => spans.push(Span { first: index, counts: vec![*count] }),
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(nanos: &[u64]) -> Times {
        let native = Native::default();
        nanos.iter().for_each(|nanos| native.add(*nanos));
        let mut times = Times::default();
        times.read(&native);
        times
    }

    #[test]
    fn a_bucket_ends_with_its_limit() {
        let second = 1_000_000_000;
        let cases = [
            (second, 0),
            (second + 1, 1),
            (1_189_207_115, 1),
            (1_189_207_116, 2),
            (2 * second, 4),
            (2 * second + 1, 5),
            (second / 2, -4),
            (954, FIRST),
            (1024 * second, LAST),
            (u64::MAX, LAST),
        ];
        for (nanos, index) in cases {
            assert_eq!(times(&[nanos]).spans(), [Span { first: index, counts: vec![1] }], "{nanos}");
        }
        assert_eq!((times(&[0, 953]).zero, times(&[0, 953]).spans()), (2, vec![]));
    }

    #[test]
    fn spans_are_what_lies_together() {
        let millis = |millis: u64| millis * 1_000_000;
        let spans = times(&[millis(1000), millis(1001), millis(1001), millis(4000)]).spans();
        assert_eq!(spans, [Span { first: 0, counts: vec![1, 2] }, Span { first: 8, counts: vec![1] }]);
    }

    proptest! {
        #[test]
        fn every_time_is_counted_once_and_between_its_limits(
            nanos in proptest::collection::vec((0u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift), 0..40)
        ) {
            let both = times(&nanos);
            prop_assert_eq!(both.count(), nanos.len() as u64);
            let mut sum = times(&nanos[..nanos.len() / 2]);
            sum.merge(&times(&nanos[nanos.len() / 2..]));
            prop_assert_eq!(&sum.spans(), &both.spans());
            for nanos in nanos {
                let Some(place) = place(nanos) else { continue };
                let index = FIRST + i32::try_from(place).unwrap();
                let (seconds, end) = (nanos as f64 / 1e9, |index: i32| (f64::from(index) / 4.0).exp2());
                prop_assert!(seconds > end(index - 1) * (1.0 - 1e-12));
                prop_assert!(index == LAST || seconds <= end(index) * (1.0 + 1e-12));
            }
        }
    }
}
