//! What a page of metrics tells: everything that was counted, read once, and what nobody counts.

use super::batches::BatchCounts;
use super::denials::Denials;
use super::edge::EdgeCounts;
use super::exports::Exports;
use super::handshakes::Handshakes;
use super::histogram::Merged;
use super::loads::Loads;
use super::model::{Facts, ModelCounts};
use super::refusals::Refusals;
use super::series::{Methods, Tally};
use super::splits::SplitCounts;
use super::{Api, CODES};
use crate::memory::Budget;
use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

/// What a page tells that nobody counts: the state of the server and of its process.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The versions that are loaded, are to be, or failed.
    pub versions: Vec<VersionState>,
    /// What runs the signatures of loaded versions.
    pub engines: Vec<SignatureEngine>,
    /// What became of lines and records of logs.
    pub logs: Logs,
    /// The process, as far as the system tells.
    pub process: Process,
    /// Models that are loaded on demand, if any may be.
    pub residence: Option<Residence>,
}

/// The models that are loaded on demand, and those that are in memory.
#[derive(Clone, Debug, Default)]
pub struct Residence {
    /// Versions by the name of their state, without those that are gone.
    pub versions: Vec<(&'static str, u64)>,
    /// What loaded versions have taken of the memory, as far as that was measured: model, number, bytes.
    pub taken: Vec<(String, i64, u64)>,
    /// Most that all may take, if there is a limit.
    pub budget: Option<u64>,
    /// Versions that made room for others.
    pub rests: u64,
    /// Requests that have waited for a load.
    pub waits: u64,
    /// Those that wait now.
    pub waiting: u64,
}

/// The state of a version.
#[derive(Clone, Debug)]
pub struct VersionState {
    /// The model.
    pub model: String,
    /// The version number.
    pub version: i64,
    /// The name of the state.
    pub state: &'static str,
}

/// What runs a signature.
#[derive(Clone, Debug)]
pub struct SignatureEngine {
    /// The model.
    pub model: String,
    /// The version number.
    pub version: i64,
    /// The signature.
    pub signature: String,
    /// The name of the engine; empty for the one that the version's files are for.
    pub engine: String,
}

/// The logs of requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logs {
    /// Lines that were not written; `None` without an access log.
    pub access_lines_lost: Option<u64>,
    /// Records of payload logs that were written.
    pub payload_records: u64,
    /// Those that were not.
    pub payload_records_lost: u64,
}

/// The process on its machine. `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// CPU time of all threads.
    pub cpu: Option<Duration>,
    /// Bytes of memory in RAM.
    pub resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_descriptors: Option<u64>,
    /// Most of these.
    pub most_descriptors: Option<u64>,
    /// When it began, in seconds of Unix time.
    pub started: Option<f64>,
    /// Its threads.
    pub threads: Option<u64>,
}

/// Everything that a page tells.
pub(super) struct Content<'a> {
    /// By name; those of unknown models under the empty name, where they are not told.
    pub(super) models: Vec<ModelContent>,
    pub(super) loads: MutexGuard<'a, Loads>,
    pub(super) batches: BatchCounts,
    pub(super) memory: &'a Budget,
    pub(super) refusals: &'a Refusals,
    pub(super) handshakes: &'a Handshakes,
    pub(super) denials: Option<&'a Denials>,
    pub(super) edge: &'a EdgeCounts,
    pub(super) exports: &'a Exports,
    pub(super) splits: &'a SplitCounts,
    pub(super) surroundings: &'a Surroundings,
}

/// What is counted of one model.
pub(super) struct ModelContent {
    pub(super) name: String,
    /// Sums by method, of TensorFlow Serving's metrics.
    pub(super) total: [Tally; Api::COUNT],
    pub(super) series: Vec<Labelled>,
    pub(super) versions: Vec<VersionContent>,
    pub(super) loads: [u64; CODES],
    pub(super) load_times: Merged,
}

/// What is counted of requests with the same labels.
pub(super) struct Labelled {
    pub(super) version: String,
    pub(super) signature: Box<str>,
    pub(super) api: Api,
    pub(super) tally: Tally,
}

/// What is counted of, and known of, a loaded version.
pub(super) struct VersionContent {
    pub(super) number: i64,
    pub(super) facts: Facts,
    pub(super) rows: Merged,
    pub(super) requests: Merged,
}

impl ModelContent {
    pub(super) fn summed(name: &str, total: [Tally; Api::COUNT]) -> ModelContent {
        ModelContent {
            name: name.to_owned(),
            total: as_tensorflow(total),
            series: Vec::new(),
            versions: Vec::new(),
            loads: [0; CODES],
            load_times: Default::default(),
        }
    }

    pub(super) fn of(name: &str, model: &ModelCounts) -> ModelContent {
        let mut content = ModelContent::summed(name, model.total());
        content.add("", "", model.all_unresolved());
        for (number, version) in model.all() {
            for (signature, methods) in version.named() {
                content.add(&number.to_string(), &signature, &methods);
            }
            let [rows, requests] = version.batches().read();
            content.versions.push(VersionContent { number, facts: version.facts(), rows, requests });
        }
        (content.loads, content.load_times) = model.loads();
        content
    }

    /// Adds a signature's requests.
    fn add(&mut self, version: &str, signature: &str, methods: &Methods) {
        for (api, series) in Api::ALL.into_iter().zip(methods) {
            if series.parts().next().is_some() {
                let (version, signature) = (version.to_owned(), signature.into());
                self.series.push(Labelled { version, signature, api, tally: Tally::of(series) });
            }
        }
    }

    /// Adds the requests for a model that is not served.
    pub(super) fn add_unknown(&mut self, model: &ModelCounts) {
        let total = model.total();
        let mut by_api: BTreeMap<usize, Tally> =
            self.series.drain(..).map(|one| (one.api as usize, one.tally)).collect();
        for (api, one) in total.iter().enumerate().filter(|(_, one)| !one.is_empty()) {
            by_api.entry(api).or_default().merge(one);
        }
        let series = |(api, tally)| Labelled {
            version: String::new(),
            signature: "".into(),
            api: Api::ALL[api],
            tally,
        };
        self.series = by_api.into_iter().map(series).collect();
        self.total.iter_mut().zip(&as_tensorflow(total)).for_each(|(sum, one)| sum.merge(one));
    }
}

/// Counts requests by the Open Inference Protocol as those of TensorFlow Serving's API that ask for the same.
fn as_tensorflow(mut total: [Tally; Api::COUNT]) -> [Tally; Api::COUNT] {
    let infer = std::mem::take(&mut total[Api::Infer as usize]);
    total[Api::Predict as usize].merge(&infer);
    total
}
