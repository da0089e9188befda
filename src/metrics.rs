//! Metrics: requests, latencies, runs, loads and warm-ups, under TensorFlow Serving's names (docs/spec/server.md,
//! section 9) and in Prometheus's text format.
//!
//! Each call has one observer: the protocol fetches the model's counts ([`Metrics::asked`]) and reports the outcome
//! ([`ModelCounts::answered`]); the servable reports how long its runs took ([`ModelCounts::ran`]). These paths take no
//! lock. Nothing is counted unless metrics are enabled.

mod batches;
mod handshakes;
mod histogram;
mod loads;
mod model;
mod refusals;
mod text;

pub use batches::Batches;
pub use handshakes::{HandshakeFailure, Handshakes};
pub use model::ModelCounts;
pub use refusals::{Reason, Refusals};

use crate::error::Kind;
use crate::memory::Budget;
use arc_swap::ArcSwap;
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

    fn name(self) -> &'static str {
        match self {
            Protocol::Rest => "REST",
            Protocol::Grpc => "GRPC",
        }
    }
}

/// The kind of request made of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Tensors in, tensors out.
    Predict,
    /// Examples in, classes out.
    Classify,
    /// Examples in, numbers out.
    Regress,
    /// Anything else; its runs have no latency of their own.
    Other,
}

impl Api {
    const COUNT: usize = 4;
    const ALL: [Api; Api::COUNT] = [Api::Predict, Api::Classify, Api::Regress, Api::Other];

    /// Returns the value of the label `API`: REST's verbs are lower-case.
    fn label(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Api::Predict, Protocol::Rest) => "predict",
            (Api::Classify, Protocol::Rest) => "classify",
            (Api::Regress, Protocol::Rest) => "regress",
            (Api::Predict, Protocol::Grpc) => "Predict",
            (Api::Classify, Protocol::Grpc) => "Classify",
            (Api::Regress, Protocol::Grpc) => "Regress",
            (Api::Other, _) => "",
        }
    }
}

/// Maximum number of unknown model names that are counted individually: clients choose them.
const MAX_STRANGERS: usize = 1000;
/// Longest such name, in bytes.
const MAX_NAME: usize = 128;

type Models = HashMap<Box<str>, Arc<ModelCounts>>;

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
}

impl Metrics {
    /// Starts with empty counts; `memory` is the budget for requests.
    pub fn new(memory: Arc<Budget>) -> Metrics {
        Metrics { memory, ..Metrics::default() }
    }

    /// Returns the counts of model `name`, which is served here.
    pub fn served(&self, name: &str) -> Arc<ModelCounts> {
        let known = self.models.load().get(name).cloned();
        known.unwrap_or_else(|| self.add(name, &mut self.strangers()))
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
        drop(strangers);
        self.served("")
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

    /// Counts a load of the version in `path`.
    pub fn loaded(&self, path: &Path, took: Duration, succeeded: bool) {
        self.loads().loaded(&path.to_string_lossy(), model::micros(took), succeeded);
    }

    /// Counts a warm-up of the version in `path` that read `records` records.
    pub fn warmed(&self, path: &Path, took: Duration, records: u64, outcome: Result<(), Kind>) {
        self.loads().warmed(&path.to_string_lossy(), model::micros(took), records, outcome);
    }

    /// Returns the first series of each metric in `names` (with slashes, as TensorFlow Serving names them); 0 if there
    /// is none that is a whole number.
    pub fn values(&self, names: &[String]) -> Vec<i64> {
        let text = self.text();
        names.iter().map(|name| text::first(&text, name)).collect()
    }

    /// Returns everything counted so far in Prometheus's text format. Slow: some milliseconds for a thousand models.
    pub fn text(&self) -> String {
        let models = self.models.load();
        let counts: BTreeMap<&str, _> =
            models.iter().map(|(name, model)| (&**name, model.counts())).collect();
        text::of(&text::Counted {
            models: &counts,
            loads: &self.loads(),
            batches: &self.batches.counts(),
            memory: &self.memory,
            refusals: &self.refusals,
            handshakes: &self.handshakes,
        })
    }

    /// Adds a model; `_writer` proves that the caller holds the lock for additions.
    fn add(&self, name: &str, _writer: &mut usize) -> Arc<ModelCounts> {
        let models = self.models.load();
        if let Some(known) = models.get(name) {
            return known.clone();
        }
        let added = Arc::new(ModelCounts::new());
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

/// Returns the label of an outcome.
fn code_name(outcome: Result<(), Kind>) -> &'static str {
    outcome.map_or_else(Kind::name, |()| "OK")
}

#[cfg(test)]
mod tests;
