//! The counts of one version as the Open Inference Protocol tells them.

use super::latencies::Times;
use super::series::Tally;
use super::{Api, Metrics, Protocol};
use crate::profile::Phase;

/// What was counted of a version while it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionStatistics {
    /// Requests that succeeded, with their time.
    pub success: Total,
    /// Their rows; one each of those to a signature whose tensors are no rows.
    pub rows: u64,
    /// Requests that failed. Their time is not counted.
    pub fail: Total,
    /// Waiting: for a thread, or for other requests of a batch.
    pub queue: Total,
    /// From messages to tensors.
    pub decode: Total,
    /// In the engine.
    pub run: Total,
    /// From tensors to answers.
    pub encode: Total,
    /// Runs of the engine: fewer than requests where these are batched.
    pub executions: u64,
}

/// A number of times, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// The number.
    pub count: u64,
    /// The sum, in nanoseconds.
    pub nanos: u64,
}

impl Total {
    fn of(times: &Times) -> Total {
        Total { count: times.count(), nanos: times.nanos }
    }

    fn plus(self, other: Total) -> Total {
        Total { count: self.count + other.count, nanos: self.nanos + other.nanos }
    }
}

impl Metrics {
    /// Returns what was counted of `version` of `model`, of all its signatures together; zeros if it is not known. `in_rows`
    /// says of which signatures the tensors are rows.
    pub fn statistics(&self, model: &str, version: i64, in_rows: impl Fn(&str) -> bool) -> VersionStatistics {
        let model = self.models.load().get(model).cloned();
        let versions = model.map(|model| model.all()).unwrap_or_default();
        let Some((_, counts)) = versions.into_iter().find(|(number, _)| *number == version) else {
            return VersionStatistics::default();
        };
        let (mut sum, mut rows) = (Tally::default(), 0);
        for (signature, methods) in counts.named() {
            let asked = Api::ALL.into_iter().zip(&*methods).filter(|(api, _)| *api != Api::Other);
            let mut own = Tally::default();
            asked.for_each(|(_, series)| series.parts().for_each(|part| own.read(part)));
            rows += if in_rows(&signature) { own.rows } else { own.succeeded() };
            sum.merge(&own);
        }
        let [_, batches] = counts.batches().read();
        VersionStatistics { rows, ..statistics(&sum, batches.count(), batches.sum) }
    }
}

/// `batches` were run of `batched` requests.
fn statistics(sum: &Tally, batches: u64, batched: u64) -> VersionStatistics {
    let answers = || Protocol::ALL.into_iter().map(move |protocol| &sum.by_protocol[protocol as usize]);
    let ended: u64 = answers().map(super::series::Answers::count).sum();
    let success = answers().map(|answers| Total::of(&answers.took)).fold(Total::default(), Total::plus);
    let of = |phase: Phase| Total::of(&sum.phases[phase as usize]);
    // Most requests wait for nothing. Triton counts them all, and by that `perf_analyzer` sees which version was asked.
    let waited = of(Phase::Queue);
    let queue = Total { count: waited.count.max(success.count), ..waited };
    VersionStatistics {
        success,
        fail: Total { count: ended.saturating_sub(success.count), nanos: 0 },
        queue,
        decode: of(Phase::Decode),
        run: of(Phase::Run),
        encode: of(Phase::Encode),
        executions: success.count.saturating_sub(batched) + batches,
        rows: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::metrics::series::Ending;

    #[test]
    fn requests_to_all_signatures_of_a_version_are_added() {
        let metrics = Metrics::default();
        let version = metrics.served("m").version(1);
        for (signature, outcome) in [("a", Ok(1)), ("b", Ok(1)), ("b", Err(Kind::InvalidArgument))] {
            let part = version.signature(signature)[Api::Predict as usize].part().clone();
            part.begin();
            let phases = [1, 0, 7, 1];
            let (protocol, received, rows, exemplar) = (Protocol::Rest, 1, 4, None);
            part.end(&Ending { protocol, outcome, received, rows, took: 10, phases, exemplar });
        }
        let told = metrics.statistics("m", 1, |signature| signature == "b");
        assert_eq!(told.rows, 5, "one request to a, and four rows to b");
        assert_eq!((told.success, told.fail.count), (Total { count: 2, nanos: 20 }, 1));
        assert_eq!(told.run, Total { count: 3, nanos: 21 });
        assert_eq!(told.queue, Total { count: 2, nanos: 0 }, "they waited for nothing");
        assert_eq!(told.executions, 2);
        version.batches().ran(8, 2);
        assert_eq!(metrics.statistics("m", 1, |_| true).executions, 1);
        for (model, version) in [("m", 2), ("n", 1)] {
            assert_eq!(metrics.statistics(model, version, |_| true), VersionStatistics::default());
        }
    }
}
