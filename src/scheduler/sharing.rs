//! How many runs shared the machine with one while it went on. Pure: the caller says what time it is.

use std::time::Instant;

/// The runs that go on, and the sum of the times for which runs have gone on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    running: u32,
    /// In seconds, up to the last change.
    total: f64,
    changed: Option<Instant>,
}

/// What is known at the begin of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    at: Instant,
    total: f64,
}

impl Sharing {
    /// Begins a run.
    pub(super) fn begin(&mut self, now: Instant) -> Begun {
        self.pass(now);
        self.running += 1;
        Begun { at: now, total: self.total }
    }

    /// Ends a run, and returns the mean number of runs that went on while it did, itself included.
    pub(super) fn end(&mut self, begun: Begun, now: Instant) -> f64 {
        self.pass(now);
        let running = f64::from(self.running);
        self.running = self.running.saturating_sub(1);
        let took = now.saturating_duration_since(begun.at).as_secs_f64();
        // Sums of times round.
        if took > 0.0 { ((self.total - begun.total) / took).max(1.0) } else { running.max(1.0) }
    }

    fn pass(&mut self, now: Instant) {
        let last = self.changed.replace(now).unwrap_or(now);
        self.total += now.saturating_duration_since(last).as_secs_f64() * f64::from(self.running);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_is_the_mean_over_the_whole_run() {
        let (mut sharing, start) = (Sharing::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        let one = sharing.begin(at(0));
        let other = sharing.begin(at(10));
        assert!((sharing.end(other, at(30)) - 2.0).abs() < 1e-9);
        assert!((sharing.end(one, at(40)) - 1.5).abs() < 1e-9, "for 20 of 40 ms there were two");
        let later = sharing.begin(at(1000));
        assert!((sharing.end(later, at(1010)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_of_no_time_shares_with_those_that_go_on() {
        let (mut sharing, now) = (Sharing::default(), Instant::now());
        let runs = [sharing.begin(now), sharing.begin(now)];
        assert_eq!(runs.map(|run| sharing.end(run, now)), [2.0, 1.0]);
    }
}
