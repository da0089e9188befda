//! Times by their size: steps of less than half a percent, from nanoseconds to centuries. Pure.
//!
//! As an HDR histogram, linear within each doubling. The server's own histograms (`metrics/latencies.rs`) have fixed,
//! coarse limits, from which no percentile can be told to a few percent.

/// Each doubling has 2 to the power of this steps: a time is told at most 1/256 too long.
const BITS: u32 = 8;

/// Counts of times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Histogram {
    /// Counts a time.
    pub fn add(&mut self, nanos: u64) {
        let step = step(nanos);
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(step) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Histogram) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// Returns the number of times.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the longest time, exactly; 0 without any.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Returns the mean; 0 without any time.
    #[allow(clippy::cast_precision_loss)] // A mean is shown with a few digits.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }

    /// Returns a time that the share `quantile` (0 to 1) of all do not exceed; 0 without any.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Below 2⁵³.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let rank = ((quantile * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut passed = 0;
        for (step, count) in self.counts.iter().enumerate() {
            passed += count;
            if passed >= rank {
                return longest(step).min(self.max);
            }
        }
        self.max
    }

    /// Returns each step that has times: its longest time, and how many.
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(step, count)| (longest(step).min(self.max), *count)).collect()
    }
}

/// Returns the step of a time: below 2⁹ each has its own.
fn step(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(BITS + 1);
    ((shift as usize) << BITS) + (nanos >> shift) as usize
}

/// Returns the longest time of a step.
fn longest(step: usize) -> u64 {
    let shift = (step >> BITS).saturating_sub(1);
    let within = (step - (shift << BITS)) as u64;
    // The last step ends with the largest number.
    ((u128::from(within) + 1) << shift).saturating_sub(1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn of(times: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        times.iter().for_each(|time| histogram.add(*time));
        histogram
    }

    fn times() -> impl Strategy<Value = Vec<u64>> {
        vec((0u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift), 1..60)
    }

    #[test]
    fn an_empty_one_tells_nothing() {
        let empty = Histogram::default();
        assert_eq!((empty.quantile(0.99), empty.max(), empty.count()), (0, 0, 0));
        assert!(empty.mean() < 0.1 && empty.steps().is_empty());
    }

    #[test]
    fn small_times_are_exact_and_steps_join() {
        for nanos in 0..5000 {
            let found = step(nanos);
            assert!(longest(found) >= nanos && (found == 0 || longest(found - 1) < nanos), "{nanos}");
        }
        assert_eq!(longest(step(u64::MAX)), u64::MAX);
        let hundred: Vec<u64> = (1..=100).collect();
        let counted = of(&hundred);
        assert_eq!([0.5, 0.9, 0.99, 1.0].map(|quantile| counted.quantile(quantile)), [50, 90, 99, 100]);
    }

    proptest! {
        #[test]
        fn a_step_is_at_most_half_a_percent_wide(nanos: u64) {
            let end = longest(step(nanos));
            prop_assert!(end >= nanos);
            prop_assert!(u128::from(end - nanos) * 256 <= u128::from(nanos), "{nanos} {end}");
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_times(times in times(), quantile in 0.0..=1.0f64) {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let rank = ((quantile * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len());
            let (told, exact) = (of(&times).quantile(quantile), sorted[rank - 1]);
            prop_assert!(told >= exact && u128::from(told - exact) * 256 <= u128::from(exact));
        }

        #[test]
        fn merging_is_counting_all(one in times(), other in times()) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert_eq!(merged, of(&[one, other].concat()));
        }
    }
}
