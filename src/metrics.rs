//! Metrics: what is counted ([`list`]), and Prometheus's text of it ([`text`]), on two pages ([`page`]): TensorFlow
//! Serving's (docs/spec/server.md, section 9), and one of everything.
//!
//! Each request has a [`Timeline`](crate::timeline::Timeline), which is assigned to the [`Series`] of its signature once that is known: a handle that
//! was looked up at the load. At the end it counts everything there, once, without a lock that others use; TensorFlow
//! Serving's sums by model are made of that when they are read. Nothing is counted unless metrics are enabled.

mod batches;
pub mod content;
mod denials;
mod edge;
mod exemplars;
mod exports;
pub mod family;
mod handshakes;
mod histogram;
mod latencies;
mod list;
mod loads;
mod model;
mod native;
mod page;
mod points;
mod protobuf;
mod refusals;
mod samples;
mod series;
mod splits;
mod statistics;
mod text;
mod traffic;

pub use batches::Batches;
pub use content::Surroundings;
pub use denials::{Denial, Denials};
pub use edge::{EdgeCounts, EdgeLimit};
pub use exports::{Exports, SpanFate};
pub use handshakes::{HandshakeFailure, Handshakes};
pub use model::{BatchSizes, ModelCounts, VersionCounts};
pub use points::{Histogram as HistogramValue, Number, Point, Value};
pub use refusals::{ByReason, Reason, Refusals};
pub(crate) use series::thread_number;
pub use series::{Ending, Methods, Part, Series};
pub use splits::{ShadowCounts, ShadowFate, SplitCounts, SplitReason, TargetCounts};
pub use statistics::{Total, VersionStatistics};
pub use text::Format;
pub use traffic::TrafficCounts;

use crate::error::Kind;
use crate::memory::Budget;
use arc_swap::ArcSwap;
use family::Family;
use loads::Loads;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The protocol a request arrived by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// REST.
    Rest,
    /// gRPC.
    Grpc,
}

impl Protocol {
    const COUNT: usize = 2;
    const ALL: [Protocol; Protocol::COUNT] = [Protocol::Rest, Protocol::Grpc];

    /// Returns the value of TensorFlow Serving's label `entrypoint`.
    fn name(self) -> &'static str {
        match self {
            Protocol::Rest => "REST",
            Protocol::Grpc => "GRPC",
        }
    }

    /// Returns the value of the label `protocol`.
    fn label(self) -> &'static str {
        match self {
            Protocol::Rest => "rest",
            Protocol::Grpc => "grpc",
        }
    }
}

/// The kind of request made of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Tensors in, tensors out.
    Predict,
    /// The same by the Open Inference Protocol.
    Infer,
    /// Examples in, classes out.
    Classify,
    /// Examples in, numbers out.
    Regress,
    /// Examples in, an answer of each of several signatures out. TensorFlow Serving counts only the examples.
    MultiInference,
    /// Anything else: status, metadata, what no method is for.
    Other,
}

impl Api {
    const COUNT: usize = 6;
    const ALL: [Api; Api::COUNT] =
        [Api::Predict, Api::Infer, Api::Classify, Api::Regress, Api::MultiInference, Api::Other];

    /// Returns the value of the label `method`.
    fn method(self) -> &'static str {
        match self {
            Api::Predict => "predict",
            Api::Infer => "infer",
            Api::Classify => "classify",
            Api::Regress => "regress",
            Api::MultiInference => "multi_inference",
            Api::Other => "other",
        }
    }

    /// Returns the value of TensorFlow Serving's label `API`: REST's verbs are lower-case. It knows no other protocol.
    fn label(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Api::Predict | Api::Infer, Protocol::Rest) => "predict",
            (Api::Classify, Protocol::Rest) => "classify",
            (Api::Regress, Protocol::Rest) => "regress",
            (Api::Predict | Api::Infer, Protocol::Grpc) => "Predict",
            (Api::Classify, Protocol::Grpc) => "Classify",
            (Api::Regress, Protocol::Grpc) => "Regress",
            (Api::MultiInference | Api::Other, _) => "",
        }
    }
}

/// Number of canonical codes: OK, and every [`Kind`].
const CODES: usize = 17;
/// Maximum number of unknown model names that are counted individually: clients choose them, each costs up to 100 KB and
/// five series.
const MAX_STRANGERS: usize = 100;
/// Longest such name, in bytes.
const MAX_NAME: usize = 128;

type Models = HashMap<Box<str>, Arc<ModelCounts>>;

/// Returns the list of metrics.
pub fn families() -> impl Iterator<Item = &'static Family> {
    list::LIST.iter().map(|(family, _)| family)
}

/// All counts of one server.
#[derive(Debug, Default)]
pub struct Metrics {
    models: ArcSwap<Models>,
    /// Number of models that are only known from requests.
    strangers: Mutex<usize>,
    loads: Mutex<Loads>,
    batches: Arc<Batches>,
    memory: Arc<Budget>,
    refusals: Arc<Refusals>,
    handshakes: Arc<Handshakes>,
    /// `None` if requests need no tokens.
    denials: Option<Arc<Denials>>,
    edge: Arc<EdgeCounts>,
    exports: Arc<Exports>,
    splits: Arc<SplitCounts>,
}

impl Metrics {
    /// Starts with empty counts; `memory` is the budget for requests.
    pub fn new(memory: Arc<Budget>) -> Metrics {
        Metrics { memory, ..Metrics::default() }
    }

    /// Also tells of requests that were refused because of their tokens.
    pub fn with_denials(self, denials: Option<Arc<Denials>>) -> Metrics {
        Metrics { denials, ..self }
    }

    /// Returns the counts of model `name`, which is served here.
    pub fn served(&self, name: &str) -> Arc<ModelCounts> {
        let known = self.models.load().get(name).cloned();
        let model = known.unwrap_or_else(|| self.add(name, &mut self.strangers()));
        model.serve();
        model
    }

    /// Returns the counts of the model that a request names. Names of unknown models are counted individually as long
    /// as they are few and short, and then under the empty name, so that clients cannot make memory grow.
    pub fn asked(&self, name: &str) -> Arc<ModelCounts> {
        if let Some(known) = self.models.load().get(name) {
            return known.clone();
        }
        let mut strangers = self.strangers();
        if name.is_empty() || (*strangers < MAX_STRANGERS && name.len() <= MAX_NAME) {
            *strangers += 1;
            return self.add(name, &mut strangers);
        }
        self.add("", &mut strangers)
    }

    /// Returns the counts of batches.
    pub fn batches(&self) -> Arc<Batches> {
        self.batches.clone()
    }

    /// Returns the counts of refused requests.
    pub fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// Returns the counts of failed TLS handshakes.
    pub fn handshakes(&self) -> Arc<Handshakes> {
        self.handshakes.clone()
    }

    /// Returns the counts of connections.
    pub fn edge(&self) -> Arc<EdgeCounts> {
        self.edge.clone()
    }

    /// Returns the counts of spans.
    pub fn exports(&self) -> Arc<Exports> {
        self.exports.clone()
    }

    /// Returns the counts of traffic that is spread over versions.
    pub fn splits(&self) -> Arc<SplitCounts> {
        self.splits.clone()
    }

    /// Counts a load of the version in `path`.
    pub fn loaded(&self, path: &Path, took: Duration, succeeded: bool) {
        self.loads().loaded(&path.to_string_lossy(), micros(took), succeeded);
    }

    /// Counts a warm-up of the version in `path` that read `records` records.
    pub fn warmed(&self, path: &Path, took: Duration, records: u64, outcome: Result<(), Kind>) {
        self.loads().warmed(&path.to_string_lossy(), micros(took), records, outcome);
    }

    /// Returns the first series of each metric in `names` (with slashes, as TensorFlow Serving names them); 0 if there
    /// is none that is a whole number.
    pub fn values(&self, names: &[String]) -> Vec<i64> {
        let text = self.tensorflow_page();
        names.iter().map(|name| text::first(&text, name)).collect()
    }

    /// Calls `tell` with every known model, by name.
    fn each_model(&self, mut tell: impl FnMut(&str, &ModelCounts)) {
        let models = self.models.load();
        let sorted: BTreeMap<&str, _> = models.iter().map(|(name, model)| (&**name, model)).collect();
        sorted.into_iter().for_each(|(name, model)| tell(name, model));
    }

    /// Calls `tell` with every known model, in any order. Models stay known, and their counts where they are.
    pub fn each(&self, mut tell: impl FnMut(&str, &Arc<ModelCounts>)) {
        self.models.load().iter().for_each(|(name, model)| tell(name, model));
    }

    /// Adds a model; `_writer` proves that the caller holds the lock for additions.
    fn add(&self, name: &str, _writer: &mut usize) -> Arc<ModelCounts> {
        let models = self.models.load();
        if let Some(known) = models.get(name) {
            return known.clone();
        }
        let added = Arc::new(ModelCounts::default());
        let mut models = Models::clone(&models);
        models.insert(name.into(), added.clone());
        self.models.store(Arc::new(models));
        added
    }

    fn strangers(&self) -> MutexGuard<'_, usize> {
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the label of an outcome.
fn code_name(outcome: Result<(), Kind>) -> &'static str {
    outcome.map_or_else(Kind::name, |()| "OK")
}

#[cfg(test)]
mod tests;
