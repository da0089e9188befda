//! What became of the requests.

use super::histogram::Histogram;
use super::outcome::{Answer, Failed, Failure};
use std::time::Duration;

/// What became of the requests of one group.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The times of good answers, in nanoseconds.
    pub times: Histogram,
    /// The first failure of each kind, and how many of that kind there were.
    pub failures: Vec<(Failed, u64)>,
    /// Bytes of all requests that were sent.
    pub sent: u64,
    /// Bytes of all good answers.
    pub received: u64,
}

/// What one thread has seen.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By group.
    pub groups: Vec<Seen>,
    /// How much later than intended requests were sent, in nanoseconds: of an open loop.
    pub lag: Histogram,
    /// Connections opened, those of the warm-up included.
    pub opened: u64,
    /// CPU time of the thread while it measured, and how long that was.
    pub cpu: Duration,
    /// How long the thread measured.
    pub measured: Duration,
}

impl Seen {
    /// Counts a request of `sent` bytes that took `took`.
    pub(super) fn count(&mut self, outcome: Result<Answer, Failed>, took: Duration, sent: usize) {
        let is_sent = !matches!(&outcome, Err(Failed { kind: Failure::Unsent | Failure::Connect, .. }));
        self.sent += if is_sent { sent as u64 } else { 0 };
        match outcome {
            Ok(answer) => {
                self.times.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                self.received += answer.received;
            }
            Err(failed) => self.fail(failed, 1),
        }
    }

    /// Counts failures of one kind.
    pub(super) fn fail(&mut self, failed: Failed, count: u64) {
        if count == 0 {
            return;
        }
        match self.failures.iter_mut().find(|(first, _)| first.kind == failed.kind) {
            Some((_, counted)) => *counted += count,
            None => self.failures.push((failed, count)),
        }
    }

    /// Adds what another has seen.
    pub(super) fn merge(&mut self, other: &Seen) {
        self.times.merge(&other.times);
        other.failures.iter().for_each(|(failed, count)| self.fail(failed.clone(), *count));
        self.sent += other.sent;
        self.received += other.received;
    }

    /// Returns the number of requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.iter().map(|(_, count)| count).sum()
    }
}

impl Tally {
    pub(super) fn of(groups: usize) -> Tally {
        Tally { groups: vec![Seen::default(); groups], ..Tally::default() }
    }

    /// Adds what another thread has seen.
    pub(super) fn merge(&mut self, other: &Tally) {
        self.groups.iter_mut().zip(&other.groups).for_each(|(sum, seen)| sum.merge(seen));
        self.lag.merge(&other.lag);
        self.opened += other.opened;
        self.cpu += other.cpu;
        self.measured = self.measured.max(other.measured);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_with_the_first_text() {
        let mut seen = Seen::default();
        let took = Duration::from_micros(7);
        seen.count(Ok(Answer { received: 5, body: Vec::new() }), took, 10);
        for (status, text) in [(500, "first"), (404, "none"), (500, "second")] {
            seen.count(Err(Failed::new(Failure::Status(status), text)), took, 10);
        }
        let mut all = seen.clone();
        all.merge(&seen);
        assert_eq!((all.times.count(), all.failed(), all.sent, all.received), (2, 6, 80, 10));
        assert_eq!(all.failures[0], (Failed::new(Failure::Status(500), "first"), 4));
        assert_eq!(all.failures[1].1, 2);
    }

    #[test]
    fn what_was_not_sent_has_no_bytes() {
        let mut seen = Seen::default();
        for kind in [Failure::Unsent, Failure::Connect, Failure::Timeout] {
            seen.count(Err(Failed::new(kind, "")), Duration::ZERO, 10);
        }
        assert_eq!((seen.failed(), seen.sent), (3, 10));
    }
}
