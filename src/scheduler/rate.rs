//! How many events happened lately. Pure: the caller says what time it is.

use std::time::{Duration, Instant};

/// Number of parts of the longest window,
const PARTS: usize = 6;
/// and of half a second.
const RECENT: usize = 5;
/// Duration of a part.
const PART: Duration = Duration::from_millis(100);

/// Counts the events of the last tenths of a second, the one that goes on included.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    begin: Instant,
    /// The number of parts from `begin` to the newest.
    newest: u64,
    counts: [u32; PARTS],
}

impl Rate {
    pub(super) fn new(begin: Instant) -> Rate {
        Rate { begin, newest: 0, counts: [0; PARTS] }
    }

    /// Counts an event at `now`.
    pub(super) fn count(&mut self, now: Instant) {
        let part = self.part(now);
        for passed in 1..=part.saturating_sub(self.newest).min(PARTS as u64) {
            self.counts[slot(self.newest + passed)] = 0;
        }
        if part.saturating_sub(self.newest) >= PARTS as u64 {
            self.counts = [0; PARTS];
        }
        self.newest = self.newest.max(part);
        let count = &mut self.counts[slot(self.newest)];
        *count = count.saturating_add(1);
    }

    /// Returns the number of events in the half second that ends at `now`.
    pub(super) fn recent(&self, now: Instant) -> u32 {
        self.in_last(RECENT, now)
    }

    /// Returns the number of events in the last `parts` tenths of a second, of which the last goes on at `now`; at most
    /// [`PARTS`].
    pub(super) fn in_last(&self, parts: usize, now: Instant) -> u32 {
        let part = self.part(now).max(self.newest);
        let oldest = part.saturating_sub(parts.clamp(1, PARTS) as u64 - 1);
        let first = self.newest.saturating_sub(PARTS as u64 - 1);
        (oldest.max(first)..=self.newest).map(|part| self.counts[slot(part)]).fold(0, u32::saturating_add)
    }

    fn part(&self, now: Instant) -> u64 {
        let parts = now.saturating_duration_since(self.begin).as_millis() / PART.as_millis();
        u64::try_from(parts).unwrap_or(u64::MAX)
    }
}

fn slot(part: u64) -> usize {
    usize::try_from(part % PARTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_leave_the_window_after_half_a_second() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let mut rate = Rate::new(begin);
        rate.count(at(10));
        rate.count(at(20));
        rate.count(at(450));
        assert_eq!(
            [at(450), at(499), at(500), at(899), at(900)].map(|now| rate.recent(now)),
            [3, 3, 1, 1, 0]
        );
        rate.count(at(100_000));
        assert_eq!(rate.recent(at(100_000)), 1);
    }

    proptest! {
        #[test]
        fn counts_what_a_list_of_all_events_would(steps in prop::collection::vec(0u64..400, 1..60)) {
            let begin = Instant::now();
            let (mut rate, mut all, mut now) = (Rate::new(begin), Vec::new(), 0);
            for step in steps {
                now += step;
                rate.count(begin + Duration::from_millis(now));
                all.push(now / 100);
                for parts in 1..=PARTS {
                    let expected = all.iter().filter(|part| *part + parts as u64 > now / 100).count();
                    let counted = rate.in_last(parts, begin + Duration::from_millis(now));
                    prop_assert_eq!(counted as usize, expected);
                }
            }
        }
    }
}
