//! When requests arrive in an open loop. Pure.

use crate::chance::Sequence;
use std::time::Duration;

/// The gaps between arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// All alike.
    Fixed,
    /// Those of a Poisson process: clients that know nothing of each other.
    Poisson,
}

impl Spacing {
    /// Returns the spacing of that name.
    pub fn named(name: &str) -> Option<Spacing> {
        [("fixed", Spacing::Fixed), ("poisson", Spacing::Poisson)]
            .into_iter()
            .find_map(|(own, spacing)| (own == name).then_some(spacing))
    }
}

/// The arrivals of one thread, as times since the beginning. It never ends.
#[derive(Debug)]
pub(super) struct Arrivals {
    spacing: Spacing,
    /// Seconds between two arrivals of this thread, on average.
    gap: f64,
    at: f64,
    chance: Sequence,
}

impl Arrivals {
    /// Shares `rate` arrivals a second between `threads`, of which this is number `number`.
    #[allow(clippy::cast_precision_loss)] // A few threads.
    pub(super) fn new(spacing: Spacing, rate: f64, number: usize, threads: usize, seed: u64) -> Arrivals {
        let gap = threads as f64 / rate;
        let at = match spacing {
            // The threads take turns.
            Spacing::Fixed => number as f64 / rate - gap,
            Spacing::Poisson => 0.0,
        };
        // The threads' sequences begin far apart.
        let mut seeds = Sequence(seed);
        let begins = (0..=number).map(|_| seeds.next()).last().unwrap_or(seed);
        Arrivals { spacing, gap, at, chance: Sequence(begins) }
    }

    /// Returns how many are still to come from `from` on and before `until`; of a Poisson process, on average.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A plan's rate and time are limited.
    pub(super) fn number_in(&self, from: Duration, until: Duration) -> u64 {
        // The next one comes a gap after the last.
        let before =
            |end: Duration| (((end.as_secs_f64() - self.at) / self.gap).ceil() - 1.0).max(0.0) as u64;
        before(until).saturating_sub(before(from))
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.at += match self.spacing {
            Spacing::Fixed => self.gap,
            Spacing::Poisson => -self.chance.unit().ln() * self.gap,
        };
        Some(Duration::try_from_secs_f64(self.at.max(0.0)).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn threads_take_turns_at_a_fixed_rate() {
        let millis = |number| {
            let arrivals = Arrivals::new(Spacing::Fixed, 1000.0, number, 2, 7);
            arrivals.take(3).map(|at| at.as_secs_f64() * 1e3).map(f64::round).collect::<Vec<_>>()
        };
        assert_eq!((millis(0), millis(1)), (vec![0.0, 2.0, 4.0], vec![1.0, 3.0, 5.0]));
    }

    #[test]
    fn what_is_still_to_come_can_be_told() {
        let millis = Duration::from_millis;
        let mut arrivals = Arrivals::new(Spacing::Fixed, 128.0, 0, 1, 7);
        assert_eq!(arrivals.number_in(millis(0), millis(1000)), 128);
        assert_eq!(arrivals.number_in(millis(500), millis(1000)), 64);
        assert_eq!(arrivals.by_ref().take(100).count(), 100);
        assert_eq!(arrivals.number_in(millis(500), millis(1000)), 28);
        assert_eq!(arrivals.number_in(millis(0), millis(500)), 0);
    }

    #[test]
    fn a_poisson_process_has_its_rate_and_its_spread() {
        let at: Vec<f64> =
            Arrivals::new(Spacing::Poisson, 100.0, 0, 1, 3).take(20_001).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean - 0.01).abs() < 0.0005, "{mean}");
        // As long as their mean: what an exponential distribution has.
        assert!((variance.sqrt() - 0.01).abs() < 0.001, "{variance}");
    }

    proptest! {
        #[test]
        fn they_ascend_and_the_same_seed_is_the_same(
            rate in 0.01..1e7f64, number in 0usize..4, seed: u64, poisson: bool
        ) {
            let spacing = if poisson { Spacing::Poisson } else { Spacing::Fixed };
            let made = || Arrivals::new(spacing, rate, number, 4, seed).take(50).collect::<Vec<_>>();
            prop_assert!(made().is_sorted());
            prop_assert_eq!(made(), made());
        }
    }
}
