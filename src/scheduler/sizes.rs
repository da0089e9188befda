//! How many rows to run together, learned from measured runs. Pure.

use std::time::Duration;

/// Number of sizes: 1, 2 to 3, 4 to 7, … rows.
const SIZES: usize = 11;
/// Weight of a new measurement in a mean.
const NEW: f64 = 0.2;
/// A size is worth twice as many rows if that takes at most this part of the time for each.
const WORTH: f64 = 0.85;
/// Of this many runs one is a size smaller and one a size larger, so that what is known of both stays true.
const OTHER: u64 = 32;

/// The mean time for a row by the size of its run, in seconds of one of all runs at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    each: [Option<f64>; SIZES],
    runs: u64,
}

impl Sizes {
    /// Records a run of `rows` rows that took `took` while on average `sharing` runs went on, itself included.
    pub(super) fn ran(&mut self, rows: usize, took: Duration, sharing: f64) {
        if rows == 0 {
            return;
        }
        self.runs = self.runs.wrapping_add(1);
        #[allow(clippy::cast_precision_loss)] // Far below 2^52.
        let each = took.as_secs_f64() / (rows as f64) / sharing.max(1.0);
        let known = &mut self.each[index(rows)];
        *known = Some(known.map_or(each, |known| known + NEW * (each - known)));
    }

    /// Returns the most rows to run together now with a request of `rows` rows.
    pub(super) fn limit(&self, rows: usize) -> usize {
        let smallest = self.smallest().max(index(rows));
        let best = self.best(smallest);
        let tried = match self.runs % OTHER {
            turn if turn == OTHER - 1 && best > smallest => best - 1,
            turn if turn == OTHER / 2 => (best + 1).min(SIZES - 1),
            _ => best,
        };
        (2 << tried) - 1
    }

    /// Returns whether running more rows together is known to be worth it.
    pub(super) fn gains(&self) -> bool {
        (0..SIZES - 1).any(|index| self.step(index) == Some(true))
    }

    /// Returns the index of the smallest size that is known; 0 if none is.
    fn smallest(&self) -> usize {
        self.each.iter().position(Option::is_some).unwrap_or(0)
    }

    /// Returns the index of the largest size up to which every step from size `smallest` is worth it. The step beyond
    /// what is known is tried.
    fn best(&self, smallest: usize) -> usize {
        let mut best = smallest;
        while best + 1 < SIZES && self.each[best].is_some() && self.step(best) != Some(false) {
            best += 1;
        }
        best
    }

    /// Returns whether the step from size `index` to the next is worth it, if both are known.
    fn step(&self, index: usize) -> Option<bool> {
        let (smaller, larger) = (self.each[index]?, *self.each.get(index + 1)?);
        larger.map(|larger| larger <= WORTH * smaller)
    }
}

/// Returns the index of the largest size of at most `rows` rows.
fn index(rows: usize) -> usize {
    usize::try_from(rows.max(1).ilog2()).unwrap_or(0).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs as many rows as allowed, `time` for each size, and returns the limit that is reached.
    fn learned(time: impl Fn(usize) -> u64) -> usize {
        let mut sizes = Sizes::default();
        for _ in 0..200 {
            let rows = sizes.limit(1);
            sizes.ran(rows, Duration::from_micros(time(rows)), 1.0);
        }
        1 << sizes.best(0)
    }

    #[test]
    fn what_costs_the_same_for_many_rows_is_run_with_many() {
        assert_eq!(learned(|_| 5000), 1024);
        assert_eq!(learned(|rows| 5000 + 5 * rows as u64), 1024);
    }

    #[test]
    fn what_gains_nothing_is_run_alone() {
        assert_eq!(learned(|rows| 10_000 * rows as u64), 1);
        assert_eq!(learned(|rows| 9_600 * rows as u64 + 400), 1);
    }

    #[test]
    fn what_gains_up_to_a_size_is_run_with_that() {
        // Up to 15 rows; up to 31 would cost a row as much.
        assert_eq!(learned(|rows| 1000 * rows.div_ceil(15) as u64), 8);
    }

    #[test]
    fn requests_of_many_rows_are_joined_too() {
        let mut sizes = Sizes::default();
        sizes.ran(8, Duration::from_millis(5), 1.0);
        assert!(sizes.limit(8) == 31 && !sizes.gains());
        sizes.ran(16, Duration::from_millis(5), 1.0);
        assert!(sizes.limit(8) == 63 && sizes.gains());
        sizes.ran(1, Duration::from_millis(5), 1.0);
        assert_eq!(sizes.limit(8), 63, "a smaller one changes nothing");
    }

    #[test]
    fn a_gain_that_ends_is_noticed() {
        let mut sizes = Sizes::default();
        for _ in 0..100 {
            let rows = sizes.limit(1);
            sizes.ran(rows, Duration::from_millis(5), 1.0);
        }
        for _ in 0..2000 {
            let rows = sizes.limit(1);
            sizes.ran(rows, Duration::from_millis(5 * rows as u64), 1.0);
        }
        assert!(sizes.best(0) <= 1, "{sizes:?}");
    }

    proptest! {
        #[test]
        fn the_limit_is_a_size(runs in prop::collection::vec((0usize..5000, 0u64..1_000_000, 0.0f64..9.0), 0..100)) {
            let mut sizes = Sizes::default();
            for (rows, micros, sharing) in runs {
                sizes.ran(rows, Duration::from_micros(micros), sharing);
                let limit = sizes.limit(1);
                prop_assert!((limit + 1).is_power_of_two() && limit < 2048);
            }
        }
    }
}
