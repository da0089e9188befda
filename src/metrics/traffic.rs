//! What the history of traffic tells of the counts: little, so that it can be read often.

use super::latencies::Times;
use super::model::ModelCounts;
use super::series::{Part, Tally};
use crate::profile::Phase;
use std::sync::atomic::Ordering::Relaxed;

/// The shares of requests whose times are told.
const HALF: f64 = 0.5;
const MOST: f64 = 0.9;
const NEARLY_ALL: f64 = 0.99;
const NANOS_PER_MILLI: f64 = 1e6;

/// What was counted of calls so far, or has come since.
#[derive(Clone, Debug, Default)]
pub struct TrafficCounts {
    begun: u64,
    ended: u64,
    failed: u64,
    /// The times of those that ended well.
    took: Times,
    /// Time of waiting of all that ended, in nanoseconds.
    waited: u64,
    batches: u64,
    rows: u64,
}

impl ModelCounts {
    /// Returns the number of calls that have begun. If it has not changed since no call was under way, nothing has.
    pub fn begun(&self) -> u64 {
        let (mut present, mut past) = (0, 0);
        self.visit(|part| present += part.begun.load(Relaxed), |tally| past += tally.begun);
        present + past
    }

    /// Returns what was counted of its calls so far.
    pub fn traffic(&self) -> TrafficCounts {
        let (mut present, mut past) = (TrafficCounts::default(), TrafficCounts::default());
        self.visit(|part| present.read(part), |tally| past.read_past(tally));
        present.add(&past);
        [present.batches, present.rows] = self.batches();
        present
    }
}

impl TrafficCounts {
    fn read(&mut self, part: &Part) {
        // The ends before the beginnings, as in `Tally::read`.
        for answered in &part.by_protocol {
            let [well, failed @ ..] = answered.outcomes.each_ref().map(|outcome| outcome.load(Relaxed));
            let failed: u64 = failed.iter().sum();
            self.failed += failed;
            self.ended += well + failed;
            self.took.read(&answered.took);
        }
        self.waited += part.phases[Phase::Queue as usize].nanos();
        self.begun += part.begun.load(Relaxed);
    }

    fn read_past(&mut self, tally: &Tally) {
        for answers in &tally.by_protocol {
            self.failed += answers.outcomes[1..].iter().sum::<u64>();
            self.ended += answers.count();
            self.took.merge(&answers.took);
        }
        self.waited += tally.phases[Phase::Queue as usize].nanos;
        self.begun += tally.begun;
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &TrafficCounts) {
        self.begun += other.begun;
        self.ended += other.ended;
        self.failed += other.failed;
        self.took.merge(&other.took);
        self.waited += other.waited;
        self.batches += other.batches;
        self.rows += other.rows;
    }

    /// Returns what has come since `before`.
    pub fn since(&self, before: &TrafficCounts) -> TrafficCounts {
        TrafficCounts {
            begun: self.begun.saturating_sub(before.begun),
            ended: self.ended.saturating_sub(before.ended),
            failed: self.failed.saturating_sub(before.failed),
            took: self.took.since(&before.took),
            waited: self.waited.saturating_sub(before.waited),
            batches: self.batches.saturating_sub(before.batches),
            rows: self.rows.saturating_sub(before.rows),
        }
    }

    /// Returns the number of calls that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended)
    }

    /// Returns the number of calls that ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// Returns the number of these that ended with an error.
    pub fn errors(&self) -> u64 {
        self.failed
    }

    /// Returns whether the times of all that ended well are there: they are counted a moment after the end itself.
    pub fn is_whole(&self) -> bool {
        self.took.count() + self.failed >= self.ended
    }

    /// Returns the times, in milliseconds, that 50, 90 and 99 % of those that ended well do not exceed; `None` without any.
    pub fn milliseconds(&self) -> Option<[f64; 3]> {
        let [half, most, nearly_all] = [HALF, MOST, NEARLY_ALL].map(|share| self.took.quantile(share));
        Some([half?, most?, nearly_all?].map(|nanos| nanos / NANOS_PER_MILLI))
    }

    /// Returns the mean rows of batches, without filler; `None` without batches.
    #[allow(clippy::cast_precision_loss)] // As below.
    pub fn rows_of_batches(&self) -> Option<f64> {
        (self.batches > 0).then(|| self.rows as f64 / self.batches as f64)
    }

    /// Returns how long calls waited for a thread or a batch, in milliseconds, on an average of all that ended; `None` without
    /// any.
    #[allow(clippy::cast_precision_loss)] // Of numbers far below 2⁵³.
    pub fn waited_milliseconds(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.waited as f64 / NANOS_PER_MILLI / self.ended as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Api, Ending, Metrics, Protocol};
    use super::*;
    use crate::error::Kind;

    fn ended(part: &Part, took: u64, outcome: Result<usize, Kind>) {
        let phases = [1, 2_000_000, 0, 0];
        part.end(&Ending {
            protocol: Protocol::Grpc,
            outcome,
            received: 1,
            rows: 1,
            took,
            phases,
            exemplar: None,
        });
    }

    #[test]
    fn calls_are_counted_whatever_becomes_of_their_version() {
        assert_eq!(Phase::Queue as usize, 1);
        let metrics = Metrics::default();
        let model = metrics.served("m");
        let version = model.version(1);
        let part = version.signature("a")[Api::Predict as usize].part().clone();
        (0..4).for_each(|_| part.begin());
        ended(&part, 10_000, Ok(1));
        ended(&part, 10_000, Err(Kind::InvalidArgument));
        version.batches().ran(6, 2);
        let before = model.traffic();
        assert_eq!((before.ended(), before.errors(), before.in_flight(), model.begun()), (2, 1, 2, 4));
        assert_eq!((before.rows_of_batches(), before.waited_milliseconds()), (Some(6.0), Some(2.0)));
        assert!((before.milliseconds().unwrap()[2] - 0.01792).abs() < 1e-9);

        // Its version goes; one request still holds what counts it, and a batch of another version runs.
        model.retire(1);
        ended(&part, 40_000_000, Ok(1));
        model.version(2).batches().ran(3, 1);
        model.unresolved(Api::Predict).part().begin();
        ended(model.unresolved(Api::Predict).part(), 1, Err(Kind::NotFound));
        let since = model.traffic().since(&before);
        assert_eq!((since.ended(), since.errors(), since.rows_of_batches()), (2, 1, Some(3.0)));
        assert!(since.milliseconds().unwrap()[0] > 25.0);
        drop((part, version));
        let after = model.traffic();
        assert_eq!((after.ended(), after.in_flight(), model.begun()), (4, 1, 5));

        let mut twice = TrafficCounts::default();
        twice.add(&after);
        twice.add(&after);
        assert_eq!((twice.ended(), twice.errors(), twice.rows_of_batches()), (8, 4, after.rows_of_batches()));
    }

    #[test]
    fn what_is_asked_about_a_model_is_no_call() {
        let metrics = Metrics::default();
        let model = metrics.asked("stranger");
        model.unresolved(Api::Other).part().begin();
        assert_eq!((model.begun(), model.traffic().in_flight(), model.is_served()), (0, 0, false));
        let nothing = TrafficCounts::default();
        assert_eq!((nothing.milliseconds(), nothing.rows_of_batches()), (None, None));
        assert_eq!(nothing.waited_milliseconds(), None);
        let mut names = Vec::new();
        metrics.each(|name, _| names.push(name.to_owned()));
        assert_eq!(names, ["stranger"]);
    }
}
