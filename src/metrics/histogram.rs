//! Histograms: lock-free to add to, merged when read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Finite limits of latencies in microseconds: 10 × 1.8^k.
pub(super) const LATENCY: [f64; 33] = exponential(10.0, 1.8);
/// Finite limits of numbers of examples: 1 × 2^k.
pub(super) const EXAMPLES: [f64; 15] = exponential(1.0, 2.0);
/// Finite limits of waits in a batching queue in microseconds: 100 × 1.2^k.
pub(super) const QUEUING: [f64; 52] = exponential(100.0, 1.2);
/// Finite limits of rows of batches: 1 × 2^k.
pub(super) const BATCH_SIZES: [f64; 14] = exponential(1.0, 2.0);

const fn exponential<const N: usize>(first: f64, growth: f64) -> [f64; N] {
    let mut limits = [first; N];
    let mut index = 1;
    while index < N {
        limits[index] = limits[index - 1] * growth;
        index += 1;
    }
    limits
}

/// Counts between `N` finite limits; each limit is the first value of the next bucket, as in TensorFlow.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    below: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Histogram<N> {
        Histogram {
            below: std::array::from_fn(|_| AtomicU64::new(0)),
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts `value` between `limits`.
    pub(super) fn add(&self, limits: &[f64; N], value: u64) {
        #[allow(clippy::cast_precision_loss)] // Limits are far below where doubles skip integers.
        let index = limits.partition_point(|limit| *limit <= value as f64);
        self.count(index, value);
    }

    /// The same, but a limit is the last value of its own bucket, as in Prometheus.
    pub(super) fn add_up_to(&self, limits: &[f64; N], value: u64) {
        #[allow(clippy::cast_precision_loss)] // As above.
        let index = limits.partition_point(|limit| *limit < value as f64);
        self.count(index, value);
    }

    fn count(&self, index: usize, value: u64) {
        self.below.get(index).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }
}

/// The sum of histograms with the same limits, at the time of reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// Per bucket, the unlimited one last; empty if nothing was ever merged.
    pub(super) counts: Vec<u64>,
    /// The sum of all values.
    pub(super) sum: u64,
}

impl Merged {
    /// Returns a snapshot of one histogram.
    pub(super) fn of<const N: usize>(histogram: &Histogram<N>) -> Merged {
        let mut merged = Merged::default();
        merged.merge(histogram);
        merged
    }

    /// Adds a snapshot of `histogram`.
    pub(super) fn merge<const N: usize>(&mut self, histogram: &Histogram<N>) {
        self.counts.resize(N + 1, 0);
        for (total, count) in self.counts.iter_mut().zip(histogram.below.iter().chain([&histogram.beyond])) {
            *total += count.load(Relaxed);
        }
        self.sum += histogram.sum.load(Relaxed);
    }

    /// Adds `other`, which has the same limits.
    pub(super) fn add(&mut self, other: &Merged) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(total, count)| *total += count);
        self.sum += other.sum;
    }

    /// Returns the number of values.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_limit_is_the_first_value_of_the_next_bucket() {
        let histogram = Histogram::default();
        for value in [0, 9, 10, 17, 18, u64::MAX / 2] {
            histogram.add(&LATENCY, value);
        }
        let mut merged = Merged::default();
        merged.merge(&histogram);
        assert_eq!(merged.counts[..4], [2, 2, 1, 0]);
        assert_eq!((merged.counts.len(), merged.counts[33], merged.count()), (34, 1, 6));
    }

    #[test]
    fn or_the_last_of_its_own() {
        let histogram = Histogram::default();
        [1, 2, 3, 8192, 8193].into_iter().for_each(|value| histogram.add_up_to(&BATCH_SIZES, value));
        let merged = Merged::of(&histogram);
        assert_eq!(
            (merged.counts[..3].to_vec(), merged.counts[13], merged.counts[14]),
            (vec![1, 1, 1], 1, 1)
        );
    }

    #[test]
    fn the_limits_are_those_of_the_specification() {
        assert_eq!(LATENCY[..3], [10.0, 18.0, 32.4]);
        assert!((LATENCY[32] / (10.0 * 1.8f64.powi(32)) - 1.0).abs() < 1e-12);
        assert_eq!((EXAMPLES[0], EXAMPLES[14]), (1.0, 16384.0));
    }

    proptest! {
        #[test]
        fn every_value_is_counted_once(values in proptest::collection::vec(0u64..1 << 40, 0..50)) {
            let parts = [Histogram::default(), Histogram::default()];
            for (index, value) in values.iter().enumerate() {
                parts[index % 2].add(&EXAMPLES, *value);
            }
            let mut merged = Merged::default();
            parts.iter().for_each(|part| merged.merge(part));
            prop_assert_eq!(merged.count(), values.len() as u64);
            prop_assert_eq!(merged.sum, values.iter().sum::<u64>());
        }
    }
}
